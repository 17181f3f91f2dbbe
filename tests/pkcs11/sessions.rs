//! Sessions shared, discarded and closed, to the end of the module.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use cascade_hsm_bridge::pkcs11::{Class, Error, Filter, IdLength, KeyKind, Policy, Refusal};
use cryptoki::error::RvError;
use cryptoki::mechanism::Mechanism;

use crate::bench::{PIN, admit, make, on, on_faulty, on_spy, on_token, sha256};
use crate::support::{self, faulty};

#[test]
fn a_warm_signature_is_made_with_nothing_but_sign_calls() {
    on_spy("sessions::a_warm_signature_is_made_with_nothing_but_sign_calls", |bench| {
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, bench.kind()).unwrap();
        let hash = sha256(b"data");
        token.sign(&pair.private, &bench.mechanism(), &hash).unwrap();
        bench.calls();
        let key = token.key(Class::PrivateKey, &pair.private.id).unwrap();
        let signature = token.sign(&key, &bench.mechanism(), &hash).unwrap();
        assert_eq!(bench.calls(), ["C_SignInit", "C_Sign"]);
        assert!(token.verify(&pair.public, &bench.mechanism(), &hash, &signature).unwrap());
        assert_eq!(bench.calls(), ["C_VerifyInit", "C_Verify"]);
    });
}

#[test]
fn eight_threads_share_two_sessions() {
    on_spy("sessions::eight_threads_share_two_sessions", |bench| {
        let tokens = bench.tokens_with(2);
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, bench.kind()).unwrap();
        let hash = sha256(b"data");
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let signed = token.sign(&pair.private, &bench.mechanism(), &hash).unwrap();
                        assert!(token.verify(&pair.public, &bench.mechanism(), &hash, &signed).unwrap());
                    }
                });
            }
        });
        tokens.finalize();
        let calls = bench.calls();
        let count = |name: &str| calls.iter().filter(|call| *call == name).count();
        // One more is the anchor.
        assert!((2..=3).contains(&count("C_OpenSession")), "{} sessions", count("C_OpenSession"));
        assert_eq!(count("C_CloseSession"), count("C_OpenSession"));
        assert_eq!(count("C_SignInit"), 200);
        assert_eq!(calls.last().map(String::as_str), Some("C_Finalize"));
    });
}

#[test]
fn threads_that_make_and_destroy_keys_do_not_disturb_those_that_sign() {
    on_token("sessions::threads_that_make_and_destroy_keys_do_not_disturb_those_that_sign", |bench| {
        if bench.store().has_no_room_for(61) {
            return;
        }
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, bench.kind()).unwrap();
        let hash = sha256(b"data");
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..15 {
                        let made = make(&token, bench.kind()).unwrap();
                        token.sign(&made.private, &bench.mechanism(), &hash).unwrap();
                        token.rename(Class::PublicKey, &made.public.id, "new").unwrap();
                        token.destroy(Class::PrivateKey, &made.private.id).unwrap();
                        token.destroy(Class::PublicKey, &made.public.id).unwrap();
                    }
                });
                scope.spawn(|| {
                    for _ in 0..100 {
                        token.sign(&pair.private, &bench.mechanism(), &hash).unwrap();
                    }
                });
            }
        });
        assert_eq!(token.list(&Filter::default()).unwrap().len(), 2);
    });
}

#[test]
fn a_failed_operation_costs_its_session_and_nothing_else() {
    on_spy("sessions::a_failed_operation_costs_its_session_and_nothing_else", |bench| {
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, KeyKind::Rsa { bits: 2048 }).unwrap();
        token.sign(&pair.private, &Mechanism::RsaPkcs, b"data").unwrap();
        bench.calls();
        let error = token.sign(&pair.private, &Mechanism::RsaPkcs, &[1; 300]).unwrap_err();
        assert!(error.rv().is_some_and(|rv| rv != RvError::KeyHandleInvalid), "{error}");
        // SoftHSM's word for it may mean trouble as well, so it is asked once more, in another session.
        let calls = bench.calls();
        assert!((1..=2).contains(&calls.iter().filter(|name| *name == "C_CloseSession").count()), "{calls:?}");
        assert!(!calls.iter().any(|name| name == "C_Initialize"), "{calls:?}");
        assert!(token.sign(&pair.private, &Mechanism::RsaPkcs, b"data").is_ok());
        assert!(matches!(token.sign(&pair.public, &Mechanism::RsaPkcs, b"data"), Err(Error::Unsupported(_))));
        assert!(matches!(token.verify(&pair.private, &Mechanism::RsaPkcs, b"data", b""), Err(Error::Unsupported(_))));
    });
}

#[test]
fn gives_random_of_any_length() {
    on_token("sessions::gives_random_of_any_length", |bench| {
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        for len in [0, 1, 32, 1024, 1025, 5000] {
            assert_eq!(token.random(len).unwrap().len(), len);
        }
        assert_ne!(token.random(32).unwrap(), token.random(32).unwrap());
    });
}

#[test]
fn after_the_end_everything_is_refused() {
    on_token("sessions::after_the_end_everything_is_refused", |bench| {
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, bench.kind()).unwrap();
        tokens.finalize();
        tokens.finalize();
        let closed = || Some(Error::Closed);
        assert_eq!(admit(&tokens, "one", PIN).err(), Some(Refusal::Unavailable(Error::Closed)));
        assert_eq!(admit(&tokens, "two", "wrong").err(), Some(Refusal::Unavailable(Error::Closed)));
        assert_eq!(tokens.present().err(), closed());
        assert_eq!(token.key(Class::PrivateKey, &pair.private.id).err(), closed());
        assert_eq!(token.label(Class::PrivateKey, &pair.private.id).err(), closed());
        assert_eq!(token.rename(Class::PrivateKey, &pair.private.id, "x").err(), closed());
        assert_eq!(token.list(&Filter::default()).err(), closed());
        assert_eq!(make(&token, bench.kind()).err(), closed());
        assert_eq!(token.destroy(Class::PrivateKey, &pair.private.id).err(), closed());
        assert_eq!(token.sign(&pair.private, &bench.mechanism(), &[1; 32]).err(), closed());
        assert_eq!(token.verify(&pair.public, &bench.mechanism(), &[1; 32], &[1; 64]).err(), closed());
        assert_eq!(token.random(8).err(), closed());
        // It may begin again.
        drop((token, tokens));
        let tokens = bench.tokens();
        assert!(admit(&tokens, "one", PIN).unwrap().key(Class::PrivateKey, &pair.private.id).is_ok());
    });
}

#[test]
fn the_end_waits_for_those_who_are_signing() {
    on_token("sessions::the_end_waits_for_those_who_are_signing", |bench| {
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, bench.kind()).unwrap();
        let started = Barrier::new(5);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    started.wait();
                    let end = loop {
                        if let Err(error) = token.sign(&pair.private, &bench.mechanism(), &[1; 32]) {
                            break error;
                        }
                    };
                    assert_eq!(end, Error::Closed);
                });
            }
            started.wait();
            thread::sleep(Duration::from_millis(20));
            tokens.finalize();
        });
    });
}

#[test]
fn a_change_that_begins_anew_since_handles_were_dealt_anew_leaves_no_session_open() {
    on_faulty("sessions::a_change_that_begins_anew_since_handles_were_dealt_anew_leaves_no_session_open", |bench| {
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let (one, other) = (make(&token, bench.kind()).unwrap(), make(&token, bench.kind()).unwrap());
        let sign = || drop(token.sign(&other.private, &bench.mechanism(), &sha256(b"data")).unwrap());
        // That labels can be changed is known.
        token.rename(Class::PublicKey, &one.private.id, "before").unwrap();
        let disturbed = |function: &str, change: &(dyn Fn() + Sync)| {
            sign();
            bench.play(&format!(
                "[[fault]]\nfunction = \"{function}\"\nafter = true\nevents = \"logout\"\nhang = true\nnext = 1\n"
            ));
            thread::scope(|scope| {
                let waits = scope.spawn(change);
                let since = Instant::now();
                while bench.count("calls-hanging") == 0 {
                    assert!(since.elapsed() < Duration::from_secs(60), "nothing waits");
                    thread::sleep(Duration::from_millis(5));
                }
                // Logs in anew.
                sign();
                bench.play("");
                waits.join().unwrap();
            });
        };
        for label in ["1", "2", "3", "4", "5"] {
            disturbed("C_GetAttributeValue", &|| token.rename(Class::PublicKey, &one.private.id, label).unwrap());
        }
        for class in [Class::PrivateKey, Class::PublicKey] {
            disturbed("C_FindObjectsFinal", &|| token.destroy(class, &one.private.id).unwrap());
        }
        // One keeps the login; two were at work at one time.
        assert!(bench.count("sessions") <= 3, "{} sessions", bench.count("sessions"));
    });
}

/// What a test plays in which the handles of sessions are numbers, and those that were freed last are issued first.
const NUMBERED: &str = "[module]\nnumber-sessions = true\n";

#[test]
fn a_session_whose_handle_was_given_to_another_token_makes_no_key_there() {
    const TEST: &str = "sessions::a_session_whose_handle_was_given_to_another_token_makes_no_key_there";
    on(TEST, &faulty::module(), &["one", "two"], |bench| {
        bench.play(NUMBERED);
        let tokens = bench.tokens();
        let [two, one] = ["two", "one"].map(|name| admit(&tokens, name, PIN).unwrap());
        [&two, &one].iter().for_each(|token| drop(token.random(8).unwrap()));
        // Two is given the handles that one had, and logs in.
        bench.happen_with("close-sessions", NUMBERED);
        two.random(8).unwrap();
        let pair = make(&one, bench.kind()).unwrap();
        assert_eq!(two.list(&Filter::default()).unwrap(), []);
        assert_eq!(one.list(&Filter::default()).unwrap().len(), 2);
        one.sign(&pair.private, &bench.mechanism(), &sha256(b"data")).unwrap();
        assert!(bench.count("sessions") <= 4, "{} sessions", bench.count("sessions"));
    });
}

#[test]
fn a_session_whose_handle_is_given_to_another_token_meanwhile_makes_no_key_there() {
    const TEST: &str = "sessions::a_session_whose_handle_is_given_to_another_token_meanwhile_makes_no_key_there";
    on(TEST, &faulty::module(), &["one", "two"], |bench| {
        bench.play(NUMBERED);
        // Short ones are looked for first.
        let tokens = bench.tokens_by(Policy { id_length: Some(IdLength::Bytes(2)), ..Policy::default() });
        let [two, one] = ["two", "one"].map(|name| admit(&tokens, name, PIN).unwrap());
        [&two, &one].iter().for_each(|token| drop(token.random(8).unwrap()));
        bench.play(&format!(
            "{NUMBERED}[[fault]]\nfunction = \"C_FindObjectsFinal\"\nskip = 1\nnext = 1\nafter = true\n\
             events = \"close-sessions\"\nhang = true\n"
        ));
        thread::scope(|scope| {
            let makes = scope.spawn(|| make(&one, bench.kind()));
            support::until("the id was looked for", || bench.count("calls-hanging") == 1);
            two.random(8).unwrap();
            bench.play(NUMBERED);
            makes.join().unwrap().unwrap();
        });
        assert_eq!(two.list(&Filter::default()).unwrap(), []);
        assert_eq!(one.list(&Filter::default()).unwrap().len(), 2);
    });
}

#[test]
fn a_pin_is_not_tried_at_another_token_that_was_given_the_session_handle() {
    const TEST: &str = "sessions::a_pin_is_not_tried_at_another_token_that_was_given_the_session_handle";
    on(TEST, &faulty::module(), &["one", "two"], |bench| {
        bench.play(NUMBERED);
        let tokens = bench.tokens();
        let two = admit(&tokens, "two", PIN).unwrap();
        two.random(8).unwrap();
        // The session in which it was tried stays.
        assert_eq!(admit(&tokens, "one", "wrong").err(), Some(Refusal::WrongPin));
        bench.happen_with("close-sessions", NUMBERED);
        two.random(8).unwrap();
        bench.play(&format!(
            "{NUMBERED}[[fault]]\nfunction = \"C_Login\"\ntoken = \"two\"\nrv = \"CKR_PIN_INCORRECT\"\n"
        ));
        let one = admit(&tokens, "one", PIN).unwrap();
        one.random(8).unwrap();
    });
}
