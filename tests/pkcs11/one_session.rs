//! Tokens with room for one session: the one that keeps the login serves, and nothing else can find out that it is gone.

use cascade_hsm_bridge::pkcs11::KeyPair;
use cryptoki::error::RvError;

use crate::bench::{PIN, admit, make, on, on_faulty, sha256};
use crate::support::faulty;

#[test]
fn a_token_whose_session_went_with_the_repair_of_another_opens_its_own_again() {
    const TEST: &str = "one_session::a_token_whose_session_went_with_the_repair_of_another_opens_its_own_again";
    on(TEST, &faulty::module(), &["one", "two"], |bench| {
        let tokens = bench.tokens_with(1);
        let [one, two] = ["one", "two"].map(|name| admit(&tokens, name, PIN).unwrap());
        bench.happen("break");
        // The module is initialised anew for the first, which ends the session of the second.
        one.random(8).unwrap();
        two.random(8).unwrap();
    });
}

#[test]
fn a_pin_that_was_about_to_be_locked_is_used_again_once_it_is_not() {
    on_faulty("one_session::a_pin_that_was_about_to_be_locked_is_used_again_once_it_is_not", |bench| {
        let tokens = bench.tokens_with(1);
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair: KeyPair = make(&token, bench.kind()).unwrap();
        let sign = || token.sign(&pair.private, &bench.mechanism(), &sha256(b"data"));
        bench.happen_with("logout", "[token]\nset-flags = [\"CKF_USER_PIN_FINAL_TRY\"]\n");
        for _ in 0..3 {
            assert_eq!(sign().unwrap_err().rv(), Some(RvError::PinLocked));
        }
        bench.play("");
        sign().unwrap();
    });
}

#[test]
fn a_token_whose_session_handle_was_given_to_another_token_opens_its_own_again() {
    const TEST: &str = "one_session::a_token_whose_session_handle_was_given_to_another_token_opens_its_own_again";
    on(TEST, &faulty::module(), &["one", "two"], |bench| {
        const NUMBERED: &str = "[module]\nnumber-sessions = true\n";
        bench.play(NUMBERED);
        let tokens = bench.tokens_with(1);
        let [one, two] = ["one", "two"].map(|name| admit(&tokens, name, PIN).unwrap());
        for _ in 0..3 {
            bench.happen_with("close-sessions", NUMBERED);
            two.random(8).unwrap();
            one.random(8).unwrap();
        }
        assert_eq!(bench.count("sessions"), 2);
    });
}
