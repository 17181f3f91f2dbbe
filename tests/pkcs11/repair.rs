//! What is lost behind the bridge's back, and made anew without anybody noticing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cascade_hsm_bridge::pkcs11::{
    Class, Error, Filter, KeyPair, Module, Policy, Refusal, Settings, Tokens, on_overdue,
};
use cryptoki::error::RvError;

use crate::bench::{Bench, PIN, admit, make, on, on_faulty, sha256};
use crate::support::faulty;

/// Every operation, each after `damage`; those that make and destroy too if `changes`.
fn all_go_on_after(bench: &Bench, changes: bool, damage: impl Fn()) {
    let tokens: Tokens = bench.tokens();
    let token = admit(&tokens, "one", PIN).unwrap();
    let pair = make(&token, bench.kind()).unwrap();
    let (private, id) = (&pair.private, &pair.private.id);
    let hash = sha256(b"data");
    let signature = token.sign(private, &bench.mechanism(), &hash).unwrap();
    let damaged = || {
        damage();
        &token
    };
    damaged().sign(private, &bench.mechanism(), &hash).unwrap();
    assert!(damaged().verify(&pair.public, &bench.mechanism(), &hash, &signature).unwrap());
    assert_eq!(damaged().random(16).unwrap().len(), 16);
    assert_eq!(damaged().list(&Filter::default()).unwrap().len(), 2);
    assert_eq!(damaged().label(Class::PrivateKey, id).unwrap().as_deref(), Some("label-priv"));
    damaged().rename(Class::PrivateKey, id, "new").unwrap();
    assert_eq!(token.label(Class::PrivateKey, id).unwrap().as_deref(), Some("new"));
    assert!(matches!(damaged().key(Class::PrivateKey, b"nobody"), Err(Error::NotFound { .. })));
    if !changes {
        return;
    }
    let other = make(damaged(), bench.kind()).unwrap();
    assert_eq!(token.list(&Filter::default()).unwrap().len(), 4, "one pair, not two");
    damaged().destroy(Class::PrivateKey, &other.private.id).unwrap();
    damaged().destroy(Class::PublicKey, &other.private.id).unwrap();
    assert!(matches!(damaged().destroy(Class::PrivateKey, &other.private.id), Err(Error::NotFound { .. })));
    assert_eq!(damaged().list(&Filter::default()).unwrap().len(), 2);
    assert!(damaged().key(Class::PrivateKey, id).is_ok());
    tokens.finalize();
}

#[test]
fn closed_sessions_are_not_noticed() {
    on_faulty("repair::closed_sessions_are_not_noticed", |bench| {
        all_go_on_after(bench, true, || bench.happen("close-sessions"));
    });
}

#[test]
fn a_logout_is_not_noticed() {
    on_faulty("repair::a_logout_is_not_noticed", |bench| {
        all_go_on_after(bench, true, || bench.happen("logout"));
    });
}

#[test]
fn a_device_that_was_out_and_in_again_is_not_noticed() {
    on_faulty("repair::a_device_that_was_out_and_in_again_is_not_noticed", |bench| {
        all_go_on_after(bench, false, || bench.happen("reconnect"));
    });
}

#[test]
fn a_broken_module_is_initialised_once_and_then_not_for_a_while() {
    on_faulty("repair::a_broken_module_is_initialised_once_and_then_not_for_a_while", |bench| {
        // SafeNet's says the last after a pause, tpm2-pkcs11 and p11-kit the others for as long as they are broken.
        for error in ["CKR_DEVICE_ERROR", "CKR_GENERAL_ERROR", "CKR_CRYPTOKI_NOT_INITIALIZED"] {
            let tokens = bench.tokens();
            let token = admit(&tokens, "one", PIN).unwrap();
            let pair = make(&token, bench.kind()).unwrap();
            let sign = || token.sign(&pair.private, &bench.mechanism(), &sha256(b"data"));
            let away = format!("[token]\naway-error = {error:?}\n");
            let before = bench.count("C_Initialize");
            bench.happen_with("break", &away);
            sign().unwrap();
            assert_eq!(bench.count("C_Initialize"), before + 1, "{error}");
            bench.happen_with("break", &away);
            // The first finds it out, the next is told at once.
            for _ in 0..2 {
                assert!(matches!(sign(), Err(Error::Away(_))), "{error}");
            }
            assert_eq!(bench.count("C_Initialize"), before + 1, "{error} again");
            bench.play("");
            tokens.finalize();
        }
    });
}

#[test]
fn two_threads_sign_while_all_sessions_are_closed_fifty_times() {
    on_faulty("repair::two_threads_sign_while_all_sessions_are_closed_fifty_times", |bench| {
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, bench.kind()).unwrap();
        let hash = sha256(b"data");
        // Under the very calls: at the beginning of a signature, in the middle of one, and during a repair.
        for (function, every) in [("C_SignInit", 24), ("C_Sign", 24), ("C_Login", 3)] {
            bench.play(&format!(
                "[[fault]]\nfunction = {function:?}\nevery = {every}\nnext = 50\nevents = \"close-sessions\"\n\
                 [[fault]]\nfunction = \"C_SignInit\"\nevery = 20\nevents = \"close-sessions\"\n"
            ));
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        for _ in 0..600 {
                            let signature = token.sign(&pair.private, &bench.mechanism(), &hash).unwrap();
                            assert!(!signature.is_empty());
                        }
                    });
                }
            });
        }
    });
}

#[test]
fn a_session_that_is_lost_again_while_it_is_logged_in_is_made_anew() {
    on_faulty("repair::a_session_that_is_lost_again_while_it_is_logged_in_is_made_anew", |bench| {
        let close_at_logins = |more: &str| {
            bench.play(&format!(
                "[events]\nnumber = {}\ndo = \"close-sessions\"\n\
                 [[fault]]\nfunction = \"C_Login\"\nnext = 6\nevents = \"close-sessions\"\n{more}",
                bench.next_event()
            ));
        };
        close_at_logins("");
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        bench.play("");
        let pair = make(&token, bench.kind()).unwrap();
        let sign = || token.sign(&pair.private, &bench.mechanism(), &sha256(b"data"));
        for more in ["", "after = true\n"] {
            close_at_logins(more);
            sign().unwrap();
        }
        // One that loses its sessions for ever is not asked for ever.
        bench.play("[[fault]]\nfunction = \"C_SignInit\"\nevents = \"close-sessions\"\n");
        assert_eq!(sign().unwrap_err().rv(), Some(RvError::SessionHandleInvalid));
        bench.play("");
        sign().unwrap();
    });
}

/// A control file in which each of these calls waits, and what else it says.
pub fn waiting(common: &str, rules: &[&str]) -> String {
    let rules = rules.iter().map(|rule| format!("[[fault]]\n{rule}\nhang = true\nnext = 1\n"));
    rules.fold(common.to_owned(), |control, rule| control + &rule)
}

#[test]
fn a_request_does_not_get_the_answer_of_another_on_a_session_of_the_same_handle() {
    on_faulty("repair::a_request_does_not_get_the_answer_of_another_on_a_session_of_the_same_handle", |bench| {
        const NUMBERED: &str = "[module]\nnumber-sessions = true\n";
        bench.play(NUMBERED);
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let [id, other] = [(); 2].map(|()| make(&token, bench.kind()).unwrap().public.id.clone());
        token.rename(Class::PublicKey, &other, "other").unwrap();
        let label = |id: &[u8]| token.label(Class::PublicKey, id).unwrap();
        // So that what is known of the objects is forgotten.
        bench.happen_with("close-sessions", NUMBERED);
        token.random(1).unwrap();
        // The first has begun to search when its session is lost, and asks what was found once the second, whose session was given
        // the handle, has begun to search as well.
        let first = "function = \"C_FindObjects\"\nevents = \"close-sessions\"";
        let second = "function = \"C_FindObjectsInit\"\nafter = true\nskip = 1";
        bench.play(&waiting(NUMBERED, &[first, second]));
        thread::scope(|scope| {
            let one = scope.spawn(|| label(&id));
            until("the first waits", || bench.count("calls-hanging") == 1);
            let two = scope.spawn(|| label(&other));
            until("the second waits", || bench.count("calls-hanging") == 2);
            bench.play(&waiting(NUMBERED, &[second]));
            let one = one.join();
            bench.play(NUMBERED);
            assert_eq!(one.unwrap().as_deref(), Some("label-pub"));
            assert_eq!(two.join().unwrap().as_deref(), Some("other"));
        });
        // Nothing is left open that nobody uses.
        label(&id);
        assert!(bench.count("sessions") <= 3, "{} sessions", bench.count("sessions"));
        tokens.finalize();
    });
}

#[test]
fn a_handle_that_has_become_another_keys_meanwhile_signs_nothing() {
    on_faulty("repair::a_handle_that_has_become_another_keys_meanwhile_signs_nothing", |bench| {
        const NUMBERED: &str = "[objects]\nnumber-handles = true\n";
        bench.play(NUMBERED);
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let (one, other) = (make(&token, bench.kind()).unwrap(), make(&token, bench.kind()).unwrap());
        let hash = sha256(b"data");
        let sign = |pair: &KeyPair| token.sign(&pair.private, &bench.mechanism(), &hash).unwrap();
        let is_by = |pair: &KeyPair, signature: &[u8]| {
            token.verify(&pair.public, &bench.mechanism(), &hash, signature).unwrap()
        };
        bench.happen_with("logout", NUMBERED);
        // The first object that is seen after a login has the handle 1.
        sign(&one);
        // The first has its handle when the login is lost and made anew for the second, whose key is the first to be seen then.
        let first = "function = \"C_SignInit\"\nevents = \"logout\"";
        bench.play(&waiting(NUMBERED, &[first]));
        thread::scope(|scope| {
            let waits = scope.spawn(|| sign(&one));
            until("the first waits", || bench.count("calls-hanging") == 1);
            let signature = sign(&other);
            bench.play(NUMBERED);
            let late = waits.join().unwrap();
            assert!(is_by(&other, &signature));
            assert!(is_by(&one, &late), "signed with another key");
        });
    });
}

#[test]
fn a_handle_that_has_become_another_keys_meanwhile_renames_nothing() {
    on_faulty("repair::a_handle_that_has_become_another_keys_meanwhile_renames_nothing", |bench| {
        const NUMBERED: &str = "[objects]\nnumber-handles = true\n";
        bench.play(NUMBERED);
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let (one, other) = (make(&token, bench.kind()).unwrap(), make(&token, bench.kind()).unwrap());
        let sign = |pair: &KeyPair| drop(token.sign(&pair.private, &bench.mechanism(), &sha256(b"data")).unwrap());
        let rename = |label: &str| token.rename(Class::PrivateKey, &one.private.id, label);
        // That labels can be changed is known.
        rename("before").unwrap();
        bench.happen_with("logout", NUMBERED);
        sign(&one);
        let reads = "function = \"C_GetAttributeValue\"\nevents = \"logout\"";
        bench.play(&waiting(NUMBERED, &[reads]));
        thread::scope(|scope| {
            let waits = scope.spawn(|| rename("after"));
            until("the first waits", || bench.count("calls-hanging") == 1);
            sign(&other);
            let changes = bench.count("C_SetAttributeValue");
            bench.play(NUMBERED);
            waits.join().unwrap().unwrap();
            assert_eq!(bench.count("C_SetAttributeValue"), changes + 1, "another key was renamed first");
        });
        let label = |pair: &KeyPair| token.label(Class::PrivateKey, &pair.private.id).unwrap();
        assert_eq!([label(&one).as_deref(), label(&other).as_deref()], [Some("after"), Some("label-priv")]);
    });
}

#[test]
fn handles_that_are_dealt_anew_are_found_out_where_sessions_do_not_tell_of_the_login() {
    on_faulty("repair::handles_that_are_dealt_anew_are_found_out_where_sessions_do_not_tell_of_the_login", |bench| {
        const LYING: &str = "[objects]\nnumber-handles = true\n[token]\nsession-state = \"rw-user\"\n";
        bench.play(LYING);
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        assert_eq!(token.learnt().tells_login, Some(false));
        let (one, other) = (make(&token, bench.kind()).unwrap(), make(&token, bench.kind()).unwrap());
        let hash = sha256(b"data");
        let sign = |pair: &KeyPair| token.sign(&pair.private, &bench.mechanism(), &hash).unwrap();
        for _ in 0..3 {
            bench.happen_with("logout", LYING);
            // The first object that is seen after a login has the handle 1.
            sign(&one);
            bench.happen_with("logout", LYING);
            // Not there without a login, as it seems; when it is looked for again, the handle of the other is its own.
            token.label(Class::PrivateKey, &other.private.id).unwrap();
            let signature = sign(&one);
            assert!(
                token.verify(&one.public, &bench.mechanism(), &hash, &signature).unwrap(),
                "signed with another key"
            );
        }
    });
}

#[test]
fn a_kept_pin_that_the_token_refuses_is_not_tried_again() {
    on_faulty("repair::a_kept_pin_that_the_token_refuses_is_not_tried_again", |bench| {
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, bench.kind()).unwrap();
        let sign = || token.sign(&pair.private, &bench.mechanism(), &sha256(b"data"));
        // Were it tried again, it would be right.
        bench.play(
            "[events]\nnumber = 1\ndo = \"close-sessions\"\n\
             [[fault]]\nfunction = \"C_Login\"\nrv = \"CKR_PIN_INCORRECT\"\nnext = 1\n",
        );
        for _ in 0..3 {
            assert_eq!(sign().unwrap_err().rv(), Some(RvError::PinIncorrect));
        }
        assert_eq!(admit(&tokens, "one", PIN).err(), Some(Refusal::WrongPin));
    });
}

#[test]
fn a_module_whose_hsm_is_away_at_start_is_initialised_later() {
    on_faulty("repair::a_module_whose_hsm_is_away_at_start_is_initialised_later", |bench| {
        bench.play("[[fault]]\nfunction = \"C_Initialize\"\nrv = \"CKR_DEVICE_ERROR\"\n");
        assert!(Module::load(&bench.module).is_err());
        let settings = Settings::new(bench.module.clone());
        let (module, away) = Module::load_early(&settings.lib_path).unwrap();
        assert_eq!(away.and_then(|error| error.rv()), Some(RvError::DeviceError));
        let tokens = Tokens::new(module, &settings);
        for _ in 0..2 {
            assert!(matches!(admit(&tokens, "one", PIN), Err(Refusal::Unavailable(Error::Away(_)))));
        }
        bench.play("");
        until("the module is initialised", || admit(&tokens, "one", PIN).is_ok());
        tokens.finalize();
    });
}

#[test]
fn a_token_that_is_away_at_start_is_served_when_it_appears() {
    on_faulty("repair::a_token_that_is_away_at_start_is_served_when_it_appears", |bench| {
        bench.play("[token]\naway = true\n");
        let tokens = bench.tokens();
        assert_eq!(admit(&tokens, "one", PIN).err(), Some(Refusal::UnknownToken));
        bench.play("");
        let token = admit(&tokens, "one", PIN).unwrap();
        make(&token, bench.kind()).unwrap();
    });
}

#[test]
fn a_token_that_goes_is_refused_at_once_and_served_when_it_is_back() {
    on_faulty("repair::a_token_that_goes_is_refused_at_once_and_served_when_it_is_back", |bench| {
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, bench.kind()).unwrap();
        let sign = || token.sign(&pair.private, &bench.mechanism(), &sha256(b"data"));
        for shows in ["absent", "error"] {
            let away = format!("[token]\naway = true\naway-shows = {shows:?}\n");
            bench.play(&away);
            assert!(matches!(sign(), Err(Error::Away(_))));
            // Whoever asks from now on waits for ever, as who looks for the token does.
            bench.play(&format!("{away}[[fault]]\nfunctions = \"C_*\"\nhang = true\n"));
            for _ in 0..1000 {
                assert!(matches!(sign(), Err(Error::Away(_))));
            }
            assert!(matches!(token.random(8), Err(Error::Away(_))));
            assert!(matches!(make(&token, bench.kind()), Err(Error::Away(_))));
            assert!(bench.count("calls-hanging") <= 1, "{} wait", bench.count("calls-hanging"));
            bench.play("");
            until("the token is served again", || sign().is_ok());
            assert_eq!(token.list(&Filter::default()).unwrap().len(), 2);
        }
    });
}

#[test]
fn a_failed_generation_or_destruction_says_what_is_known() {
    on_faulty("repair::a_failed_generation_or_destruction_says_what_is_known", |bench| {
        let tokens = bench.tokens_by(Policy { template: bench.template(), ..Policy::default() });
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, bench.kind()).unwrap();
        let outcome = |error| match error {
            Error::Unsettled { outcome, .. } => outcome,
            other => panic!("{other}"),
        };
        let fault = |function: &str, more: &str| {
            bench.play(&format!("[[fault]]\nfunction = {function:?}\nrv = \"CKR_DEVICE_REMOVED\"\n{more}\n"));
        };
        fault("C_GenerateKeyPair", "");
        let error = make(&token, bench.kind()).unwrap_err();
        assert_eq!(outcome(error), "the key pair was not made");
        fault("C_GenerateKeyPair", "after = true");
        let error = make(&token, bench.kind()).unwrap_err();
        assert_eq!(outcome(error), "the key pair was removed again");
        assert_eq!(token.list(&Filter::default()).unwrap().len(), 2);
        fault("C_DestroyObject", "");
        let error = token.destroy(Class::PublicKey, &pair.public.id).unwrap_err();
        assert_eq!(outcome(error), "the object was not destroyed");
        fault("C_DestroyObject", "after = true");
        token.destroy(Class::PublicKey, &pair.public.id).unwrap();
        assert_eq!(token.list(&Filter::default()).unwrap().len(), 1);
        bench.play("[[fault]]\nfunction = \"C_DestroyObject\"\nevents = \"break\"\n[[fault]]\nfunction = \"C_Initialize\"\nrv = \"CKR_DEVICE_ERROR\"\n");
        let error = token.destroy(Class::PrivateKey, &pair.private.id).unwrap_err();
        assert!(outcome(error).contains("is not known"));
    });
}

/// Waits for what takes a while, and for ever only if something is wrong.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < Duration::from_secs(60), "never: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_token_with_one_session_is_repaired_too() {
    on_faulty("repair::a_token_with_one_session_is_repaired_too", |bench| {
        let tokens = bench.tokens_with(1);
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, bench.kind()).unwrap();
        for _ in 0..3 {
            bench.happen("close-sessions");
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| token.sign(&pair.private, &bench.mechanism(), &sha256(b"data")).unwrap());
                }
            });
        }
        bench.happen("logout");
        token.sign(&pair.private, &bench.mechanism(), &sha256(b"data")).unwrap();
    });
}

#[test]
fn a_call_that_hangs_costs_its_client_and_its_session_and_nobody_else() {
    on_faulty("repair::a_call_that_hangs_costs_its_client_and_its_session_and_nobody_else", |bench| {
        let settings = Settings { call_timeout: Duration::from_secs(1), ..Settings::new(bench.module.clone()) };
        let tokens = Tokens::new(Module::load(&settings.lib_path).unwrap(), &settings);
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, bench.kind()).unwrap();
        let sign = || token.sign(&pair.private, &bench.mechanism(), &sha256(b"data"));
        bench.play("[[fault]]\nfunction = \"C_SignInit\"\nhang = true\nnext = 1\n");
        let rescued = Arc::new(AtomicUsize::new(0));
        thread::scope(|scope| {
            let stuck = scope.spawn(|| {
                let rescued = Arc::clone(&rescued);
                let _rescue = on_overdue(move |_| {
                    rescued.fetch_add(1, Ordering::SeqCst);
                });
                sign().map(drop)
            });
            until("the client is told", || rescued.load(Ordering::SeqCst) == 1);
            assert!(!stuck.is_finished());
            for _ in 0..10 {
                sign().unwrap();
            }
            // Nobody signs, but the module is asked now and then, and answers: the time begins again.
            let silence = || tokens.stuck_for().unwrap_or_default();
            until("nobody else asks it", || silence() > Duration::from_secs(1));
            until("it is asked", || silence() < Duration::from_secs(1));
            bench.play("");
            stuck.join().unwrap().unwrap();
        });
        assert_eq!(rescued.load(Ordering::SeqCst), 1);
        until("nothing is stuck", || tokens.stuck_for().is_none());
        bench.happen("jam");
        thread::scope(|scope| {
            let stuck = scope.spawn(|| sign().map(drop));
            until("all is stuck", || tokens.stuck_for().is_some_and(|stuck| stuck > Duration::from_secs(4)));
            bench.play("[events]\nnumber = 99\ndo = \"unjam\"\n");
            stuck.join().unwrap().unwrap();
        });
    });
}

#[test]
fn a_token_that_allows_one_session_serves_many() {
    on_faulty("repair::a_token_that_allows_one_session_serves_many", |bench| {
        for says in ["max-sessions = 1", "max-sessions = 1\nsays-max-sessions = 0"] {
            bench.play(&format!("[token]\n{says}\n"));
            let tokens = bench.tokens();
            let token = admit(&tokens, "one", PIN).unwrap();
            let pair = make(&token, bench.kind()).unwrap();
            thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        for _ in 0..20 {
                            token.sign(&pair.private, &bench.mechanism(), &sha256(b"data")).unwrap();
                        }
                    });
                }
            });
            tokens.finalize();
        }
    });
}

#[test]
fn who_waits_behind_a_call_that_hangs_gives_up_in_his_time() {
    on_faulty("repair::who_waits_behind_a_call_that_hangs_gives_up_in_his_time", |bench| {
        let settings = Settings {
            call_timeout: Duration::from_secs(1),
            generate_timeout: Duration::from_secs(1),
            ..Settings::new(bench.module.clone())
        };
        let hang = |function: &str| bench.play(&format!("[[fault]]\nfunction = {function:?}\nhang = true\nnext = 1\n"));
        let hangs = || until("a call hangs", || bench.count("calls-hanging") == 1);
        let tokens = Arc::new(bench.tokens_as(&settings));
        hang("C_Login");
        let admits = || {
            let tokens = Arc::clone(&tokens);
            thread::spawn(move || admit(&tokens, "one", PIN).map(drop))
        };
        let first = admits();
        hangs();
        let second = admits();
        until("the second gives up", || second.is_finished());
        assert_eq!(second.join().unwrap(), Err(Refusal::Unjudged(Error::Late)));
        assert!(!first.is_finished());
        bench.play("");
        first.join().unwrap().unwrap();
        let token = admit(&tokens, "one", PIN).unwrap();
        let id = make(&token, bench.kind()).unwrap().private.id.clone();
        hang("C_DestroyObject");
        let destroys = |class| {
            let (token, id) = (Arc::clone(&token), id.clone());
            thread::spawn(move || token.destroy(class, &id))
        };
        let first = destroys(Class::PrivateKey);
        hangs();
        let second = destroys(Class::PublicKey);
        until("the second gives up", || second.is_finished());
        assert_eq!(second.join().unwrap(), Err(Error::Late));
        assert!(!first.is_finished());
        // Others are served meanwhile.
        token.random(8).unwrap();
        bench.play("");
        first.join().unwrap().unwrap();
        token.destroy(Class::PublicKey, &id).unwrap();
    });
}

#[test]
fn a_token_that_goes_while_another_has_its_name_is_not_taken_for_replaced() {
    const TEST: &str = "repair::a_token_that_goes_while_another_has_its_name_is_not_taken_for_replaced";
    on(TEST, &faulty::module(), &["one", "two"], |bench| {
        const TWINS: &str = "[tokens.two]\nlabel = \"one\"\n";
        let tokens = bench.tokens();
        let slot = tokens.present().unwrap().into_iter().find(|token| token.label == "one").unwrap().slot_id;
        bench.play(TWINS);
        let admits = || admit(&tokens, &slot.to_string(), PIN);
        let token = admits().unwrap();
        let pair = make(&token, bench.kind()).unwrap();
        let sign = || token.sign(&pair.private, &bench.mechanism(), &sha256(b"data"));
        bench.play(&format!("{TWINS}[tokens.one]\naway = true\n"));
        assert!(matches!(sign(), Err(Error::Away(_))));
        let before = bench.count("C_GetSlotList");
        until("it is looked for", || bench.count("C_GetSlotList") >= before + 6 || admits().is_err());
        assert!(Arc::ptr_eq(&token, &admits().unwrap()));
        assert!(matches!(sign(), Err(Error::Away(_))));
        bench.play(TWINS);
        until("it is back", || sign().is_ok());
        assert!(Arc::ptr_eq(&token, &admits().unwrap()));
    });
}

#[test]
fn a_panic_while_a_token_is_looked_for_or_opened_does_not_lose_it() {
    on_faulty("repair::a_panic_while_a_token_is_looked_for_or_opened_does_not_lose_it", |bench| {
        // More than there is memory for, at which the binding panics.
        let endless =
            |function: &str| format!("[[fault]]\nfunction = {function:?}\nquery = true\nendless = true\nnext = 1\n");
        let settings = Settings { session_timeout: Duration::from_secs(1), ..Settings::new(bench.module.clone()) };
        let tokens = bench.tokens_as(&settings);
        bench.play(&endless("C_GetMechanismList"));
        thread::scope(|scope| scope.spawn(|| admit(&tokens, "one", PIN).map(drop)).join().unwrap_err());
        let token = admit(&tokens, "one", PIN).unwrap();
        let before = bench.count("C_GetSlotList");
        bench.play(&format!("[token]\naway = true\n{}", endless("C_GetSlotList")));
        assert!(matches!(token.random(8), Err(Error::Away(_))));
        until("it is looked for", || bench.count("C_GetSlotList") > before + 1);
        bench.play("");
        until("it is back", || token.random(8).is_ok());
    });
}
