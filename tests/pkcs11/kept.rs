//! Logins with the PIN that is kept, and first logins beside them: whoever waits for one keeps nobody else, and none is tried twice.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use cascade_hsm_bridge::pkcs11::{Class, Refusal, Settings};

use crate::bench::{PIN, admit, make, on_faulty};
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
