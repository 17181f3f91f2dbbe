//! What happens in the middle of a request: the login or the sessions are lost between two calls, or a call does its work and says that
//! it did not.

use std::thread;

use cascade_hsm_bridge::pkcs11::{Class, Error, Filter, Policy};
use cryptoki::error::RvError;

use crate::bench::{Bench, PIN, admit, make, on_faulty, sha256};
use crate::support::until;

/// Has `event` happen at the `nth` call of `function` from now on, before its work or after it.
fn happen_at(bench: &Bench, event: &str, function: &str, nth: usize, after: bool) {
    bench.play(&format!(
        "[[fault]]\nfunction = {function:?}\nskip = {nth}\nnext = 1\nafter = {after}\nevents = {event:?}\narm = {}\n",
        bench.next_event()
    ));
}

#[test]
fn a_login_that_is_lost_in_the_middle_of_a_request_is_not_noticed() {
    on_faulty("midway::a_login_that_is_lost_in_the_middle_of_a_request_is_not_noticed", |bench| {
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, bench.kind()).unwrap();
        let id = &pair.private.id;
        for event in ["logout", "close-sessions"] {
            for function in
                ["C_FindObjectsInit", "C_FindObjects", "C_GetAttributeValue", "C_SetAttributeValue", "C_Sign"]
            {
                for (nth, after) in [(0, false), (0, true), (1, false), (1, true)] {
                    let at = format!("{event} at {function} {nth} {after}");
                    happen_at(bench, event, function, nth, after);
                    token.rename(Class::PrivateKey, id, &at).unwrap_or_else(|error| panic!("{at}: {error}"));
                    let signed = token.sign(&pair.private, &bench.mechanism(), &sha256(b"data"));
                    signed.unwrap_or_else(|error| panic!("{at}: {error}"));
                    bench.play("");
                    assert_eq!(token.label(Class::PrivateKey, id).unwrap(), Some(at));
                }
            }
        }
        for (function, after) in [("C_FindObjects", true), ("C_DestroyObject", false), ("C_DestroyObject", true)] {
            for event in ["logout", "close-sessions"] {
                let other = make(&token, bench.kind()).unwrap();
                happen_at(bench, event, function, 0, after);
                let destroyed = token.destroy(Class::PrivateKey, &other.private.id);
                destroyed.unwrap_or_else(|error| panic!("{event} at {function} {after}: {error}"));
                token.destroy(Class::PublicKey, &other.private.id).unwrap();
                bench.play("");
                assert_eq!(token.list(&Filter::default()).unwrap().len(), 2);
            }
        }
        // Also when a pair that failed is removed again.
        for (event, nth) in [("logout", 0), ("logout", 1), ("close-sessions", 0), ("close-sessions", 1)] {
            bench.play(&format!(
                "[[fault]]\nfunction = \"C_GenerateKeyPair\"\nafter = true\nrv = \"CKR_DEVICE_ERROR\"\n\
                 [[fault]]\nfunction = \"C_DestroyObject\"\nskip = {nth}\nnext = 1\nevents = {event:?}\narm = {}\n",
                bench.next_event()
            ));
            assert!(matches!(
                make(&token, bench.kind()),
                Err(Error::Unsettled { outcome: "the key pair was removed again", .. })
            ));
            bench.play("");
            assert_eq!(token.list(&Filter::default()).unwrap().len(), 2, "{event} at the destruction of half {nth}");
        }
    });
}

/// "No room" says nothing of what was done before there was none.
#[test]
fn what_an_hsm_without_room_has_done_all_the_same_is_known() {
    on_faulty("midway::what_an_hsm_without_room_has_done_all_the_same_is_known", |bench| {
        let tokens = bench.tokens_by(Policy { template: bench.template(), ..Policy::default() });
        let token = admit(&tokens, "one", PIN).unwrap();
        let count = || token.list(&Filter::default()).unwrap().len();
        for (rv, number) in [
            ("CKR_HOST_MEMORY", RvError::HostMemory),
            ("CKR_TOKEN_RESOURCE_EXCEEDED", RvError::UnknownErrorCode(0x201)),
        ] {
            let pair = make(&token, bench.kind()).unwrap();
            let fault = |function: &str, after: bool| {
                bench.play(&format!("[[fault]]\nfunction = {function:?}\nafter = {after}\nrv = {rv:?}\n"));
            };
            fault("C_GenerateKeyPair", false);
            assert_eq!(make(&token, bench.kind()).unwrap_err().rv(), Some(number));
            fault("C_GenerateKeyPair", true);
            match make(&token, bench.kind()).unwrap_err() {
                Error::Unsettled { outcome, .. } => assert_eq!(outcome, "the key pair was removed again"),
                other => panic!("{other}"),
            }
            assert_eq!(count(), 2);
            fault("C_DestroyObject", false);
            assert_eq!(token.destroy(Class::PrivateKey, &pair.private.id).unwrap_err().rv(), Some(number));
            fault("C_DestroyObject", true);
            token.destroy(Class::PrivateKey, &pair.private.id).unwrap();
            token.destroy(Class::PublicKey, &pair.private.id).unwrap();
            bench.play("");
            assert_eq!(count(), 0);
        }
    });
}

/// C_Finalize under a call that is inside is undefined: the module would crash, as like as not.
#[test]
fn a_broken_module_is_not_initialised_while_a_call_is_inside() {
    on_faulty("midway::a_broken_module_is_not_initialised_while_a_call_is_inside", |bench| {
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, bench.kind()).unwrap();
        let sign = || token.sign(&pair.private, &bench.mechanism(), &sha256(b"data"));
        let hang = "[[fault]]\nfunction = \"C_SignInit\"\nhang = true\nnext = 1\n";
        bench.play(hang);
        thread::scope(|scope| {
            let inside = scope.spawn(sign);
            until("it is inside", || bench.count("calls-hanging") == 1);
            bench.happen_with("break", hang);
            for _ in 0..2 {
                assert!(matches!(sign(), Err(Error::Away(_))));
            }
            assert_eq!((bench.count("C_Finalize"), bench.count("C_Initialize")), (0, 1));
            assert!(!inside.is_finished());
            bench.play("");
            assert!(matches!(inside.join().unwrap(), Err(Error::Away(_))));
        });
    });
}
