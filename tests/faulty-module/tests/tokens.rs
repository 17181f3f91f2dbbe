//! Tokens that go away, sessions that are lost, and what module and token say of themselves.

mod support;

use cryptoki::error::RvError;
use cryptoki::object::{Attribute, ObjectClass};
use cryptoki::session::{SessionState, UserType};
use cryptoki::slot::Limit;
use support::{LABEL, PIN, Stage, generate, initialize, pin, play, rv, sign};

#[test]
fn closes_all_sessions_behind_the_callers_back() {
    play(|stage: &Stage| {
        let (module, slot, session) = stage.session();
        let (_, private) = generate(&session, b"1").unwrap();
        stage.control("[events]\nnumber = 1\ndo = \"close-sessions\"");
        assert_eq!(rv(sign(&session, private)), RvError::SessionHandleInvalid);
        let session = module.open_rw_session(slot).unwrap();
        assert_eq!(session.get_session_info().unwrap().session_state(), SessionState::RwPublic, "logged out too");
    });
}

#[test]
fn logs_out_behind_the_callers_back() {
    play(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        let (_, private) = generate(&session, b"1").unwrap();
        stage.control("[events]\nnumber = 1\ndo = \"logout\"");
        assert_eq!(rv(sign(&session, private)), RvError::ObjectHandleInvalid, "as SoftHSM has it");
        assert_eq!(rv(generate(&session, b"2")), RvError::UserNotLoggedIn);
        session.login(UserType::User, Some(&pin(PIN))).unwrap();
        generate(&session, b"2").unwrap();
        stage.control("# the number is the same, so nothing happens\n[events]\nnumber = 1\ndo = \"logout\"");
        generate(&session, b"3").unwrap();
    });
}

#[test]
fn lets_events_follow_from_a_fault() {
    play(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        let (_, private) = generate(&session, b"1").unwrap();
        stage.control(
            "[[fault]]\nfunctions = \"C_Sign\"\nquery = false\nnext = 1\nafter = true\n\
             events = [\"close-sessions\"]\nrv = \"CKR_DEVICE_ERROR\"",
        );
        assert_eq!(rv(sign(&session, private)), RvError::DeviceError);
        assert_eq!(rv(session.get_session_info()), RvError::SessionHandleInvalid);
    });
}

#[test]
fn is_broken_until_initialised_again() {
    play(|stage: &Stage| {
        let (module, slot, session) = stage.session();
        stage.control("[events]\nnumber = 1\ndo = \"break\"");
        assert_eq!(rv(session.get_session_info()), RvError::DeviceError);
        assert_eq!(rv(module.open_ro_session(slot)), RvError::DeviceError);
        assert_eq!(rv(module.get_slots_with_token()), RvError::DeviceError);
        stage.control("");
        assert_eq!(rv(module.open_ro_session(slot)), RvError::DeviceError);
        drop(session);
        module.finalize().unwrap();
        let (_module, _, session) = stage.session();
        generate(&session, b"1").unwrap();
    });
}

#[test]
fn hangs_in_every_call_while_jammed() {
    play(|stage: &Stage| {
        let (_module, _, session) = stage.session();
        stage.control("[events]\nnumber = 1\ndo = \"jam\"");
        let stuck = std::thread::spawn(move || session.get_session_info().is_ok());
        support::wait_until("the call", || stage.count("calls-hanging") == 1);
        assert!(!stuck.is_finished());
        stage.control("[events]\nnumber = 2\ndo = \"unjam\"");
        assert!(stuck.join().unwrap());
    });
}

#[test]
fn takes_the_token_away_and_brings_it_back() {
    play(|stage: &Stage| {
        let (module, slot, session) = stage.session();
        stage.control("[token]\naway = true");
        assert!(!module.get_slots_with_token().unwrap().contains(&slot));
        assert!(module.get_all_slots().unwrap().contains(&slot));
        assert!(!module.get_slot_info(slot).unwrap().token_present());
        assert_eq!(rv(session.get_session_info()), RvError::DeviceRemoved, "once");
        assert_eq!(rv(session.get_session_info()), RvError::SessionHandleInvalid);
        assert_eq!(rv(module.get_token_info(slot)), RvError::TokenNotPresent);
        assert_eq!(rv(module.open_rw_session(slot)), RvError::TokenNotPresent);
        stage.control("");
        assert_eq!(rv(session.get_session_info()), RvError::SessionHandleInvalid, "the session stays lost");
        assert_eq!(stage.slot(&module), slot);
        let session = module.open_rw_session(slot).unwrap();
        session.login(UserType::User, Some(&pin(PIN))).unwrap();
        generate(&session, b"1").unwrap();
    });
}

#[test]
fn is_not_there_at_the_start() {
    play(|stage: &Stage| {
        stage.control("[token]\naway = true\nheals = \"initialize\"");
        let module = stage.module();
        assert!(module.get_slots_with_token().unwrap().is_empty());
        stage.control("");
        assert!(module.get_slots_with_token().unwrap().is_empty(), "not found without a new C_Initialize");
        module.finalize().unwrap();
        stage.session();
    });
}

#[test]
fn fails_calls_while_away_and_heals_by_itself() {
    play(|stage: &Stage| {
        let (module, slot, session) = stage.session();
        let (_, private) = generate(&session, b"1").unwrap();
        stage.control("[token]\naway = true\naway-shows = \"error\"\naway-error = \"CKR_DEVICE_REMOVED\"");
        assert_eq!(rv(sign(&session, private)), RvError::DeviceRemoved);
        assert_eq!(rv(sign(&session, private)), RvError::DeviceRemoved);
        assert_eq!(session.get_session_info().unwrap().session_state(), SessionState::RwUser);
        assert!(module.get_slots_with_token().unwrap().contains(&slot));
        stage.control("");
        sign(&session, private).unwrap();
    });
}

#[test]
fn stays_broken_after_an_absence_until_initialised_again() {
    play(|stage: &Stage| {
        let (module, slot, session) = stage.session();
        stage.control("[token]\naway = true\naway-shows = \"error\"\naway-still-works = []\nheals = \"initialize\"");
        assert_eq!(rv(session.get_session_info()), RvError::DeviceError);
        stage.control("[token]\naway-shows = \"error\"\naway-still-works = []");
        assert_eq!(rv(session.get_session_info()), RvError::DeviceError);
        assert_eq!(rv(module.get_token_info(slot)), RvError::DeviceError);
        drop(session);
        module.finalize().unwrap();
        let (_module, _, session) = stage.session();
        generate(&session, b"1").unwrap();
    });
}

#[test]
fn takes_one_of_two_tokens_away() {
    play(|stage: &Stage| {
        stage.add_token("other");
        let (module, slot, session) = stage.session();
        let other = stage.slot_of(&module, "other");
        let there = module.open_rw_session(other).unwrap();
        stage.control("[token]\nmodel = \"both\"\n[tokens.other]\naway = true");
        assert_eq!(rv(there.get_session_info()), RvError::DeviceRemoved);
        generate(&session, b"1").unwrap();
        assert_eq!(module.get_slots_with_token().unwrap().iter().filter(|found| **found == other).count(), 0);
        assert_eq!(module.get_token_info(slot).unwrap().model(), "both");
        stage.control("[tokens.other]\nmodel = \"one\"\n[[fault]]\nfunctions = \"C_Login\"\ntoken = \"other\"\nrv = 5");
        assert_eq!(module.get_token_info(other).unwrap().model(), "one");
        assert_ne!(module.get_token_info(slot).unwrap().model(), "one");
        let there = module.open_rw_session(other).unwrap();
        assert_eq!(rv(there.login(UserType::User, Some(&pin(PIN)))), RvError::GeneralError);
    });
}

#[test]
fn limits_sessions_and_says_so() {
    play(|stage: &Stage| {
        let (module, slot, session) = stage.session();
        stage.control("[token]\nmax-sessions = 3\nmax-rw-sessions = 2");
        let token = module.get_token_info(slot).unwrap();
        assert!(matches!(token.max_session_count(), Limit::Max(3)));
        assert!(matches!(token.max_rw_session_count(), Limit::Max(2)));
        let second = module.open_rw_session(slot).unwrap();
        assert_eq!(rv(module.open_rw_session(slot)), RvError::SessionCount);
        let _third = module.open_ro_session(slot).unwrap();
        assert_eq!(rv(module.open_ro_session(slot)), RvError::SessionCount);
        drop(second);
        module.open_rw_session(slot).unwrap();
        drop(session);
        stage.control("[token]\nmax-sessions = 1\nsays-max-sessions = 0\nsays-max-rw-sessions = -1");
        let token = module.get_token_info(slot).unwrap();
        assert!(matches!(token.max_session_count(), Limit::Infinite));
        assert!(matches!(token.max_rw_session_count(), Limit::Unavailable));
    });
}

#[test]
fn refuses_sessions_of_one_kind() {
    play(|stage: &Stage| {
        let module = stage.module();
        let slot = stage.slot(&module);
        stage.control("[token]\nrefuse-read-only = \"CKR_SESSION_READ_WRITE_SO_EXISTS\"");
        assert_eq!(rv(module.open_ro_session(slot)), RvError::SessionReadWriteSoExists);
        module.open_rw_session(slot).unwrap();
        stage.control("[token]\nrefuse-read-write = \"CKR_TOKEN_WRITE_PROTECTED\"");
        assert_eq!(rv(module.open_rw_session(slot)), RvError::TokenWriteProtected);
    });
}

#[test]
fn says_other_things_of_token_and_module() {
    play(|stage: &Stage| {
        stage.control(
            "[module]\nlist-version = \"2.20\"\nlibrary-version = \"7.3\"\nmanufacturer = \"Somebody\"\n\
             description = \"Something\"\nabsent = [\"C_SeedRandom\"]\n\
             [token]\nlabel = \"\"\nserial = \"0042\"\nmanufacturer = \"IBM\"\nmodel = \"SW\\u0000\"\n\
             says-sessions = 5\nfree-public-memory = 7\nfree-private-memory = -1\nclear-flags = [\"CKF_LOGIN_REQUIRED\"]\n\
             set-flags = [\"CKF_PROTECTED_AUTHENTICATION_PATH\", \"CKF_USER_PIN_COUNT_LOW\", \"CKF_USER_PIN_LOCKED\"]",
        );
        let module = stage.module();
        let info = module.get_library_info().unwrap();
        assert_eq!((info.cryptoki_version().major(), info.cryptoki_version().minor()), (2, 20));
        assert_eq!((info.library_version().major(), info.library_version().minor()), (7, 3));
        assert_eq!((info.manufacturer_id(), info.library_description()), ("Somebody", "Something"));
        assert!(!module.is_fn_supported(cryptoki::context::Function::SeedRandom));
        assert!(module.is_fn_supported(cryptoki::context::Function::GenerateRandom));

        let slots = module.get_slots_with_token().unwrap();
        let token = module.get_token_info(slots[0]).unwrap();
        assert_eq!((token.label(), token.serial_number(), token.manufacturer_id()), ("", "0042", "IBM"));
        assert_eq!(token.model(), "SW\0");
        assert_eq!(token.session_count(), Some(5));
        assert_eq!((token.free_public_memory(), token.free_private_memory()), (Some(7), None));
        assert!(!token.login_required() && token.protected_authentication_path());
        assert!(token.user_pin_count_low() && token.user_pin_locked() && !token.user_pin_final_try());
        stage.control("[token]\nutc-time = \"18:12:20\"\nset-flags = [\"CKF_CLOCK_ON_TOKEN\"]");
        assert!(module.get_token_info(slots[0]).is_err(), "as openCryptoki's");
    });
}

#[test]
fn says_that_the_user_is_logged_in_before_any_login() {
    play(|stage: &Stage| {
        let module = stage.module();
        let slot = stage.slot(&module);
        stage.control("[token]\nsession-state = \"rw-user\"");
        let session = module.open_ro_session(slot).unwrap();
        assert_eq!(session.get_session_info().unwrap().session_state(), SessionState::RwUser);
        assert_eq!(session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)]).unwrap().len(), 0);
        assert_eq!(module.get_token_info(slot).unwrap().label(), LABEL);
    });
}

#[test]
fn answers_to_a_second_initialize_as_told() {
    play(|stage: &Stage| {
        let module = stage.module();
        let twice = || {
            let again = stage.load();
            initialize(&again)
        };
        assert_eq!(rv(twice()), RvError::CryptokiAlreadyInitialized);
        stage.control("[module]\ninitialize-again = \"CKR_OK\"");
        twice().unwrap();
        drop(module);
    });
}
