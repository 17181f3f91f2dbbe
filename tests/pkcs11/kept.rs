//! Logins with the PIN that is kept, and first logins beside them: whoever waits for one keeps nobody else, none is tried twice, and
//! nobody uses a handle that has become another key's at one.

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use cascade_hsm_bridge::pkcs11::{Class, Error, KeyPair, LoginKind, Policy, Refusal, Settings, Token};
use cryptoki::error::RvError;

use crate::bench::{Bench, PIN, admit, make, on_faulty, sha256};
use crate::repair::{until, waiting};

#[test]
fn a_first_login_and_a_repair_wait_for_each_other_where_calls_come_one_at_a_time() {
    on_faulty("kept::a_first_login_and_a_repair_wait_for_each_other_where_calls_come_one_at_a_time", |bench| {
        let settings = Settings { serialize: true, ..Settings::new(bench.module.clone()) };
        let tokens = Arc::new(bench.tokens_as(&settings));
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, bench.kind()).unwrap();
        let label = move || token.label(Class::PrivateKey, &pair.private.id);
        bench
            .happen_with("close-sessions", "[[fault]]\nfunction = \"C_Login\"\nrv = \"CKR_PIN_INCORRECT\"\nnext = 1\n");
        label().unwrap_err();
        // The repair opens a session of its own.
        bench.play(&waiting("", &["function = \"C_OpenSession\"\nskip = 1"]));
        let repairs = thread::spawn(label);
        until("the repair waits", || bench.count("calls-hanging") == 1);
        let theirs = Arc::clone(&tokens);
        let logs_in = thread::spawn(move || admit(&theirs, "one", "9999").err());
        thread::sleep(Duration::from_millis(300));
        bench.play("");
        until("both come back", || repairs.is_finished() && logs_in.is_finished());
        assert!(repairs.join().unwrap().is_err());
        assert_eq!(logs_in.join().unwrap(), Some(Refusal::WrongPin));
        assert!(admit(&tokens, "one", PIN).is_err(), "it is known to be wrong");
    });
}

#[test]
fn a_first_login_that_hangs_keeps_no_operator_waiting() {
    on_faulty("kept::a_first_login_that_hangs_keeps_no_operator_waiting", |bench| {
        let tokens = Arc::new(bench.tokens());
        bench.play(&waiting("", &["function = \"C_Login\""]));
        let theirs = Arc::clone(&tokens);
        let logs_in = thread::spawn(move || admit(&theirs, "one", PIN).map(drop));
        until("the login hangs", || bench.count("calls-hanging") == 1);
        let ours = Arc::clone(&tokens);
        let operator = thread::spawn(move || {
            ours.reconsider_pins();
            ours.finalize();
        });
        until("the operator is heard", || operator.is_finished());
        assert!(!logs_in.is_finished());
        bench.play("");
        logs_in.join().unwrap().unwrap();
    });
}

const NUMBERED: &str = "[objects]\nnumber-handles = true\n";
const LYING: &str = "[objects]\nnumber-handles = true\n[token]\nsession-state = \"rw-user\"\n";

fn sign(bench: &Bench, token: &Token, pair: &KeyPair) -> Vec<u8> {
    token.sign(&pair.private, &bench.mechanism(), &sha256(b"data")).unwrap()
}

fn is_by(bench: &Bench, token: &Token, pair: &KeyPair, signature: &[u8]) -> bool {
    token.verify(&pair.public, &bench.mechanism(), &sha256(b"data"), signature).unwrap()
}

#[test]
fn a_handle_that_has_become_another_keys_at_the_login_of_a_new_session_signs_nothing() {
    on_faulty("kept::a_handle_that_has_become_another_keys_at_the_login_of_a_new_session_signs_nothing", |bench| {
        bench.play(NUMBERED);
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let (one, other) = (make(&token, bench.kind()).unwrap(), make(&token, bench.kind()).unwrap());
        // It seems that each session has to be logged in.
        let twice = "[[fault]]\nfunction = \"C_SignInit\"\nrv = \"CKR_USER_NOT_LOGGED_IN\"\nnext = 2\n";
        bench.play(&format!("{NUMBERED}{twice}"));
        sign(bench, &token, &one);
        bench.happen_with("logout", NUMBERED);
        // The first object that is seen after a login has the handle 1.
        sign(bench, &token, &one);
        bench.play(&waiting(NUMBERED, &["function = \"C_SignInit\"\nevents = \"logout\""]));
        thread::scope(|scope| {
            let waits = scope.spawn(|| sign(bench, &token, &one));
            until("the first waits", || bench.count("calls-hanging") == 1);
            let signature = sign(bench, &token, &other);
            bench.play(NUMBERED);
            let late = waits.join().unwrap();
            assert!(is_by(bench, &token, &other, &signature));
            assert!(is_by(bench, &token, &one, &late), "signed with another key");
        });
        assert_ne!(token.learnt().logs_in_each, Some(true), "the login of one is enough");
    });
}

#[test]
fn a_handle_that_becomes_another_keys_while_a_login_is_checked_signs_nothing() {
    on_faulty("kept::a_handle_that_becomes_another_keys_while_a_login_is_checked_signs_nothing", |bench| {
        bench.play(LYING);
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let (one, other) = (make(&token, bench.kind()).unwrap(), make(&token, bench.kind()).unwrap());
        let (one, other, token) = (&one, &other, &token);
        bench.happen_with("logout", LYING);
        sign(bench, token, one);
        // Three sessions know its handle, 1.
        bench.play(&format!("{LYING}[[fault]]\nfunction = \"C_Sign\"\ndelay-ms = 500\n"));
        thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(|| sign(bench, token, one)))));
        let login = "function = \"C_Login\"\nafter = true";
        bench.happen_with("logout", &waiting(LYING, &[login]));
        let signed = bench.count("C_Sign");
        thread::scope(|scope| {
            // Not there without a login, as it seems. It is logged in to when it looks again, which nobody else knows yet.
            let looks = scope.spawn(|| token.label(Class::PrivateKey, &other.private.id).unwrap());
            until("it is logged in to", || bench.count("calls-hanging") == 1);
            let first = scope.spawn(|| sign(bench, token, other));
            until("the other has signed", || bench.count("C_Sign") == signed + 1);
            let second = scope.spawn(|| sign(bench, token, one));
            until("both have signed", || bench.count("C_Sign") == signed + 2);
            thread::sleep(Duration::from_millis(100));
            bench.play(LYING);
            assert_eq!(looks.join().unwrap().as_deref(), Some("label-priv"));
            let (first, second) = (first.join().unwrap(), second.join().unwrap());
            assert!(is_by(bench, token, other, &first));
            assert!(is_by(bench, token, one, &second), "signed with another key");
        });
    });
}

#[test]
fn many_who_look_for_what_is_not_there_disturb_nobody_where_only_a_login_tells_of_the_login() {
    on_faulty(
        "kept::many_who_look_for_what_is_not_there_disturb_nobody_where_only_a_login_tells_of_the_login",
        |bench| {
            bench.play(LYING);
            let tokens = bench.tokens();
            let token = admit(&tokens, "one", PIN).unwrap();
            let pair = make(&token, bench.kind()).unwrap();
            sign(bench, &token, &pair);
            bench.play(&format!("{LYING}[[fault]]\nfunction = \"C_Login\"\ndelay-ms = 10\n"));
            let (signed, searched) = (bench.count("C_Sign"), bench.count("C_Login"));
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| (0..50).for_each(|_| drop(sign(bench, &token, &pair))));
                    scope.spawn(|| {
                        for _ in 0..20 {
                            let missed = token.label(Class::PrivateKey, b"nobody");
                            assert!(matches!(missed, Err(Error::NotFound { .. })), "{missed:?}");
                        }
                    });
                }
            });
            assert!(bench.count("C_Login") > searched);
            assert_eq!(bench.count("C_Sign") - signed, 200, "signed again though nothing was lost");
        },
    );
}

#[test]
fn a_login_that_hangs_while_it_is_checked_costs_others_a_moment() {
    on_faulty("kept::a_login_that_hangs_while_it_is_checked_costs_others_a_moment", |bench| {
        bench.play(LYING);
        let settings = Settings { session_timeout: Duration::from_secs(1), ..Settings::new(bench.module.clone()) };
        let tokens = bench.tokens_as(&settings);
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, bench.kind()).unwrap();
        sign(bench, &token, &pair);
        bench.play(&waiting(LYING, &["function = \"C_Login\""]));
        thread::scope(|scope| {
            let looks = scope.spawn(|| token.label(Class::PrivateKey, b"nobody"));
            until("the login hangs", || bench.count("calls-hanging") == 1);
            (0..10).for_each(|_| drop(sign(bench, &token, &pair)));
            assert!(!looks.is_finished());
            bench.play(LYING);
            assert!(matches!(looks.join().unwrap(), Err(Error::NotFound { .. })));
        });
    });
}

/// What eight threads are answered at once, each in a session of its own.
fn eight<T: Send>(work: impl Fn() -> Result<T, Error> + Sync) -> Vec<Option<Error>> {
    let together = Barrier::new(8);
    thread::scope(|scope| {
        let one = || {
            together.wait();
            work().err()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

const REFUSES: &str = "[[fault]]\nfunction = \"C_Login\"\nrv = \"CKR_PIN_INCORRECT\"\ndelay-ms = 300\n";

#[test]
fn a_kept_pin_that_is_wrong_by_now_is_tried_once_by_many_who_use_a_key_that_wants_it_each_time() {
    on_faulty(
        "kept::a_kept_pin_that_is_wrong_by_now_is_tried_once_by_many_who_use_a_key_that_wants_it_each_time",
        |bench| {
            let always = "[[attribute]]\nattribute = \"CKA_ALWAYS_AUTHENTICATE\"\nvalue = true\n";
            bench.play(always);
            let tokens = bench.tokens();
            let token = admit(&tokens, "one", PIN).unwrap();
            let pair = make(&token, bench.kind()).unwrap();
            bench.play(&format!("{always}{REFUSES}"));
            let before = bench.count("C_Login");
            let errors = eight(|| token.sign(&pair.private, &bench.mechanism(), &sha256(b"data")));
            assert!(
                errors.iter().all(|error| error.as_ref().and_then(Error::rv) == Some(RvError::PinIncorrect)),
                "{errors:?}"
            );
            assert_eq!(bench.count("C_Login") - before, 1);
        },
    );
}

#[test]
fn a_kept_pin_that_is_wrong_by_now_is_tried_once_by_many_whose_sessions_are_logged_in_each() {
    on_faulty(
        "kept::a_kept_pin_that_is_wrong_by_now_is_tried_once_by_many_whose_sessions_are_logged_in_each",
        |bench| {
            let each = "[token]\nlogin-per-session = true\nsession-state = \"rw-user\"\nlogin-again = \"CKR_OK\"\n";
            bench.play(each);
            let tokens = bench.tokens();
            let token = admit(&tokens, "one", PIN).unwrap();
            let pair = make(&token, bench.kind()).unwrap();
            sign(bench, &token, &pair);
            assert_eq!(token.learnt().logs_in_each, Some(true));
            // That needs no login, so that it is that of their sessions which they are refused for.
            bench.play(&format!("{each}{REFUSES}[[fault]]\nfunction = \"C_GenerateRandom\"\ndelay-ms = 1000\n"));
            let before = bench.count("C_Login");
            let errors = eight(|| token.random(8));
            assert!(errors.iter().filter(|error| error.is_some()).count() >= 6, "{errors:?}");
            assert_eq!(bench.count("C_Login") - before, 1);
        },
    );
}

#[test]
fn the_kept_pin_is_not_tried_where_the_token_says_that_it_would_be_for_the_last_time() {
    on_faulty("kept::the_kept_pin_is_not_tried_where_the_token_says_that_it_would_be_for_the_last_time", |bench| {
        let last = "set-flags = [\"CKF_USER_PIN_FINAL_TRY\"]\n";
        for each in ["", "login-per-session = true\nlogin-again = \"CKR_OK\"\n"] {
            bench.play(&format!("{LYING}{each}"));
            let tokens = bench.tokens();
            let token = admit(&tokens, "one", PIN).unwrap();
            let pair = make(&token, bench.kind()).unwrap();
            sign(bench, &token, &pair);
            // Sessions that wait to be lent need no login.
            bench.play(&format!("{LYING}{each}{last}[[fault]]\nfunction = \"C_GenerateRandom\"\ndelay-ms = 300\n"));
            let before = bench.count("C_Login");
            sign(bench, &token, &pair);
            let missed = token.label(Class::PrivateKey, b"nobody");
            assert_eq!(missed.unwrap_err().rv(), Some(RvError::PinLocked));
            let errors = eight(|| token.random(8));
            assert_eq!(errors.iter().any(Option::is_some), !each.is_empty(), "{errors:?}");
            assert_eq!(bench.count("C_Login"), before);
            tokens.finalize();
        }
    });
}

#[test]
fn the_kept_pin_is_not_tried_for_the_last_time_for_a_key_that_wants_it_each_time() {
    on_faulty("kept::the_kept_pin_is_not_tried_for_the_last_time_for_a_key_that_wants_it_each_time", |bench| {
        let always = "[[attribute]]\nattribute = \"CKA_ALWAYS_AUTHENTICATE\"\nvalue = true\n";
        for max_sessions in [1, 8] {
            bench.play(always);
            let tokens = bench.tokens_with(max_sessions);
            let token = admit(&tokens, "one", PIN).unwrap();
            let pair = make(&token, bench.kind()).unwrap();
            bench.play(&format!("{always}[token]\nset-flags = [\"CKF_USER_PIN_FINAL_TRY\"]\n"));
            let before = ["C_Login", "C_SignInit"].map(|function| bench.count(function));
            for _ in 0..3 {
                let refused = token.sign(&pair.private, &bench.mechanism(), &sha256(b"data"));
                assert_eq!(refused.unwrap_err().rv(), Some(RvError::PinLocked));
                // The login that stands is used.
                token.label(Class::PrivateKey, &pair.private.id).unwrap();
            }
            assert_eq!(["C_Login", "C_SignInit"].map(|function| bench.count(function)), before);
            tokens.finalize();
        }
    });
}

#[test]
fn a_login_that_stands_is_not_given_up_where_it_could_not_be_made_anew() {
    on_faulty("kept::a_login_that_stands_is_not_given_up_where_it_could_not_be_made_anew", |bench| {
        let lying = "[token]\nsession-state = \"rw-user\"\n";
        bench.play(lying);
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, bench.kind()).unwrap();
        // Somebody else has tried wrong PINs, and a session is lost.
        let lost = "[[fault]]\nfunction = \"C_SignInit\"\nrv = \"CKR_SESSION_HANDLE_INVALID\"\nnext = 1\n";
        bench.play(&format!("{lying}set-flags = [\"CKF_USER_PIN_FINAL_TRY\"]\n{lost}"));
        let before = bench.count("C_Login");
        (0..3).for_each(|_| drop(sign(bench, &token, &pair)));
        assert_eq!(bench.count("C_Login"), before);
    });
}

/// What NetHSM's module answers to C_Login while the device is locked, or does not answer.
const DOWN: &str =
    "[[fault]]\nfunction = \"C_Login\"\nrv = \"CKR_USER_TYPE_INVALID\"\n[token]\nslot-says-empty = true\n";

#[test]
fn a_pin_that_is_refused_by_a_token_that_does_not_work_is_as_right_as_before() {
    on_faulty("kept::a_pin_that_is_refused_by_a_token_that_does_not_work_is_as_right_as_before", |bench| {
        bench.play(DOWN);
        let tokens = bench.tokens();
        let absent = Error::Call { function: "C_GetSlotInfo", rv: RvError::TokenNotPresent };
        for _ in 0..3 {
            assert_eq!(admit(&tokens, "one", PIN).err(), Some(Refusal::Unjudged(absent.clone())));
        }
        bench.play("");
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, bench.kind()).unwrap();
        let try_to_sign = || token.sign(&pair.private, &bench.mechanism(), &sha256(b"data"));
        bench.happen_with("close-sessions", DOWN);
        assert_eq!(try_to_sign().unwrap_err(), Error::Away(Box::new(absent)));
        admit(&tokens, "one", PIN).unwrap();
        bench.play("");
        until("it is back", || try_to_sign().is_ok());
    });
}

#[test]
fn a_kept_pin_that_is_refused_in_doubt_is_not_wrong_for_good() {
    on_faulty("kept::a_kept_pin_that_is_refused_in_doubt_is_not_wrong_for_good", |bench| {
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, bench.kind()).unwrap();
        let try_to_sign = || token.sign(&pair.private, &bench.mechanism(), &sha256(b"data"));
        let doubtful = "[[fault]]\nfunction = \"C_Login\"\nrv = \"CKR_ARGUMENTS_BAD\"\nnext = 1\n";
        bench.happen_with("close-sessions", doubtful);
        let before = bench.count("C_Login");
        for _ in 0..3 {
            assert_eq!(try_to_sign().unwrap_err().rv(), Some(RvError::PinIncorrect));
            assert_eq!(admit(&tokens, "one", PIN).err(), Some(Refusal::DoubtfulPin));
        }
        assert_eq!(bench.count("C_Login"), before + 1);
    });
}

#[test]
fn a_handle_that_becomes_another_keys_when_a_pin_is_proved_checks_no_signature() {
    on_faulty("kept::a_handle_that_becomes_another_keys_when_a_pin_is_proved_checks_no_signature", |bench| {
        bench.play(NUMBERED);
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let (one, other) = (make(&token, bench.kind()).unwrap(), make(&token, bench.kind()).unwrap());
        let [signature, others] = [&one, &other].map(|pair| sign(bench, &token, pair));
        tokens.finalize();
        for login in [LoginKind::User, LoginKind::ProtectedPath] {
            let tokens = bench.tokens_by(Policy { login: Some(login), ..Policy::default() });
            let token = tokens.find("one").unwrap();
            // What is public is seen without a login.
            assert!(is_by(bench, &token, &one, &signature));
            let pad = "[token]\nown-pin = \"S3cretPN\"\nset-flags = [\"CKF_PROTECTED_AUTHENTICATION_PATH\"]\n";
            let deals = "[[fault]]\nfunction = \"C_Login\"\nevents = \"logout\"\n";
            if login == LoginKind::User {
                bench.play(&format!("{NUMBERED}{deals}"));
                admit(&tokens, "one", PIN).unwrap();
            } else {
                bench.play(&format!("{NUMBERED}{pad}{deals}"));
                tokens.open(&token).unwrap();
            }
            // The first object that is seen after a login has the handle 1.
            assert!(is_by(bench, &token, &other, &others));
            assert!(is_by(bench, &token, &one, &signature), "checked with another key");
            tokens.finalize();
        }
    });
}

#[test]
fn a_pin_is_not_tried_on_another_token_in_the_slot() {
    on_faulty("kept::a_pin_is_not_tried_on_another_token_in_the_slot", |bench| {
        let other = "serial = \"other\"\n";
        let unknown = Error::Call { function: "C_GetTokenInfo", rv: RvError::TokenNotRecognized };
        let tokens = bench.tokens();
        let before = tokens.find("one").unwrap();
        let asked = bench.count("C_Login");
        bench.play(&format!("{LYING}{other}"));
        assert_eq!(admit(&tokens, "one", PIN).err(), Some(Refusal::Unjudged(unknown.clone())));
        assert_eq!(bench.count("C_Login"), asked);
        // It has the same label, and a client that has its PIN.
        let token = admit(&tokens, "one", PIN).unwrap();
        assert!(!Arc::ptr_eq(&before, &token));
        assert_eq!(token.learnt().tells_login, Some(false));
        bench.play(LYING);
        let asked = bench.count("C_Login");
        assert_eq!(token.label(Class::PrivateKey, b"nobody").unwrap_err(), Error::Away(Box::new(unknown)));
        assert_eq!(bench.count("C_Login"), asked);
    });
}
