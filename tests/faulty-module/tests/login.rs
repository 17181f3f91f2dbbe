//! PINs: wrong ones, counted ones, and ones that the application never sees.

mod support;

use cryptoki::error::{Error, RvError};
use cryptoki::session::{Session, SessionState, UserType};
use support::{PIN, SO_PIN, Stage, generate, pin, play, rv};

fn log_in(session: &Session, text: &str) -> Result<(), Error> {
    session.login(UserType::User, Some(&pin(text)))
}

#[test]
fn answers_to_a_wrong_pin_as_told() {
    play(|stage: &Stage| {
        let module = stage.module();
        let session = module.open_rw_session(stage.slot(&module)).unwrap();
        assert_eq!(rv(log_in(&session, "9999")), RvError::PinIncorrect);
        stage.control(
            "[token]\nwrong-pin = \"CKR_USER_TYPE_INVALID\"\nlogin-again = \"CKR_OK\"\n\
             login-again-wrong-pin = \"CKR_PIN_INCORRECT\"",
        );
        assert_eq!(rv(log_in(&session, "9999")), RvError::UserTypeInvalid);
        log_in(&session, PIN).unwrap();
        log_in(&session, PIN).unwrap();
        assert_eq!(rv(log_in(&session, "9999")), RvError::PinIncorrect);
        stage.control("");
        assert_eq!(rv(log_in(&session, "9999")), RvError::UserAlreadyLoggedIn);
    });
}

#[test]
fn counts_wrong_pins_down_to_the_lock() {
    play(|stage: &Stage| {
        let module = stage.module();
        let slot = stage.slot(&module);
        let session = module.open_rw_session(slot).unwrap();
        stage.control("[token]\npin-tries = 3");
        let flags = || {
            let token = module.get_token_info(slot).unwrap();
            (token.user_pin_count_low(), token.user_pin_final_try(), token.user_pin_locked())
        };
        assert_eq!(flags(), (false, false, false));
        assert_eq!(rv(log_in(&session, "9999")), RvError::PinIncorrect);
        assert_eq!(flags(), (true, false, false));
        assert_eq!(rv(log_in(&session, "9999")), RvError::PinIncorrect);
        assert_eq!(flags(), (true, true, false));
        assert_eq!(rv(log_in(&session, "9999")), RvError::PinIncorrect);
        assert_eq!(flags(), (false, false, true));
        assert_eq!(rv(log_in(&session, PIN)), RvError::PinLocked);
        stage.control("[token]\npin-tries = 3\n[events]\nnumber = 1\ndo = [\"unlock-pin\"]");
        assert_eq!(rv(log_in(&session, "9999")), RvError::PinIncorrect);
        log_in(&session, PIN).unwrap();
        assert_eq!(flags(), (false, false, false));
    });
}

#[test]
fn wants_a_user_name_before_the_pin() {
    play(|stage: &Stage| {
        let module = stage.module();
        let session = module.open_rw_session(stage.slot(&module)).unwrap();
        stage.control("[token]\npin-prefix = \"alice:\"\nmalformed-pin = \"CKR_ARGUMENTS_BAD\"");
        assert_eq!(rv(log_in(&session, PIN)), RvError::ArgumentsBad);
        assert_eq!(rv(log_in(&session, "alice:9999")), RvError::PinIncorrect);
        log_in(&session, &format!("alice:{PIN}")).unwrap();
    });
}

#[test]
fn logs_in_by_itself_with_a_pin_of_its_own() {
    play(|stage: &Stage| {
        let module = stage.module();
        stage.control(&format!("[token]\nown-pin = \"{PIN}\"\nclear-flags = [\"CKF_LOGIN_REQUIRED\"]"));
        let session = module.open_rw_session(stage.slot(&module)).unwrap();
        generate(&session, b"1").unwrap();
        session.logout().unwrap();
        generate(&session, b"2").unwrap();
    });
}

#[test]
fn takes_any_pin_for_its_own() {
    play(|stage: &Stage| {
        let module = stage.module();
        let session = module.open_rw_session(stage.slot(&module)).unwrap();
        stage.control(&format!("[token]\nown-pin = \"{PIN}\"\nany-pin = true"));
        log_in(&session, "9999").unwrap();
        generate(&session, b"1").unwrap();
    });
}

#[test]
fn wants_a_login_of_each_session() {
    play(|stage: &Stage| {
        let module = stage.module();
        let slot = stage.slot(&module);
        stage.control("[token]\nlogin-per-session = true\nsession-state = \"rw-user\"");
        let first = module.open_rw_session(slot).unwrap();
        let second = module.open_rw_session(slot).unwrap();
        log_in(&first, PIN).unwrap();
        generate(&first, b"1").unwrap();
        assert_eq!(second.get_session_info().unwrap().session_state(), SessionState::RwUser);
        assert_eq!(rv(generate(&second, b"2")), RvError::UserNotLoggedIn);
        assert_eq!(rv(second.find_objects(&[])), RvError::UserNotLoggedIn);
        second.generate_random_vec(8).unwrap();
        assert_eq!(rv(log_in(&second, "9999")), RvError::UserAlreadyLoggedIn);
        log_in(&second, PIN).unwrap();
        generate(&second, b"2").unwrap();
        first.logout().unwrap();
        assert_eq!(rv(generate(&first, b"3")), RvError::UserNotLoggedIn);
        generate(&second, b"3").unwrap();
    });
}

#[test]
fn takes_the_pin_from_its_pad() {
    play(|stage: &Stage| {
        let module = stage.module();
        stage.control(&format!("[token]\nown-pin = \"{PIN}\"\nset-flags = [\"CKF_PROTECTED_AUTHENTICATION_PATH\"]"));
        let session = module.open_rw_session(stage.slot(&module)).unwrap();
        assert_eq!(rv(generate(&session, b"1")), RvError::UserNotLoggedIn);
        session.login(UserType::User, None).unwrap();
        generate(&session, b"1").unwrap();
    });
}

#[test]
fn leaves_the_security_officer_alone() {
    play(|stage: &Stage| {
        let module = stage.module();
        stage.control("[token]\npin-prefix = \"alice:\"\npin-tries = 1");
        let session = module.open_rw_session(stage.slot(&module)).unwrap();
        session.login(UserType::So, Some(&pin(SO_PIN))).unwrap();
        session.init_pin(&pin("8642")).unwrap();
        session.logout().unwrap();
        log_in(&session, "alice:8642").unwrap();
    });
}
