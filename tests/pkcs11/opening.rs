//! Logging in on every kind of token: what it says of wrong PINs and of its state, PIN pads, no login at all, and keys that want a
//! login for each signature.

use std::sync::Arc;

use cascade_hsm_bridge::pkcs11::{
    Class, Curve, Error, Filter, Key, KeyKind, LoginKind, Match, Policy, Refusal, Settings, Token, Tokens,
};
use cryptoki::context::Pkcs11;
use cryptoki::error::RvError;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectClass};

use crate::bench::{Bench, PIN, admit, make, on_faulty_with_all, on_token, sha256};
use crate::support::hsm::{Hsm, skipped};

const P256: KeyKind = KeyKind::Ec(Curve::P256);

fn tokens(bench: &Bench, control: &str, login: LoginKind) -> Tokens {
    bench.play(control);
    let policies = vec![(Match::default(), Policy { login: Some(login), ..Policy::default() })];
    bench.tokens_as(&Settings { policies, ..Settings::new(bench.module.clone()) })
}

fn works(token: &Token) {
    let pair = make(token, P256).unwrap();
    token.sign(&pair.private, &Mechanism::Ecdsa, &sha256(b"data")).unwrap();
}

#[test]
fn a_wrong_pin_is_one_whatever_the_token_calls_it() {
    on_faulty_with_all("opening::a_wrong_pin_is_one_whatever_the_token_calls_it", |bench| {
        for (control, refusal) in [
            ("wrong-pin = \"CKR_USER_TYPE_INVALID\"", Refusal::DoubtfulPin),
            ("wrong-pin = \"CKR_PIN_LEN_RANGE\"", Refusal::WrongPin),
            ("pin-prefix = \"0001\"\nmalformed-pin = \"CKR_ARGUMENTS_BAD\"", Refusal::DoubtfulPin),
        ] {
            let tokens = tokens(bench, &format!("[token]\n{control}\n"), LoginKind::User);
            let before = bench.count("C_Login");
            (0..3).for_each(|_| assert_eq!(admit(&tokens, "one", "wrong").err(), Some(refusal.clone()), "{control}"));
            assert_eq!(bench.count("C_Login"), before + 1, "{control}");
        }
    });
}

#[test]
fn a_pin_may_hold_the_name_of_a_user() {
    on_faulty_with_all("opening::a_pin_may_hold_the_name_of_a_user", |bench| {
        let tokens = tokens(bench, "[token]\npin-prefix = \"crypto-user:\"\n", LoginKind::User);
        assert_eq!(admit(&tokens, "one", PIN).err(), Some(Refusal::WrongPin));
        works(&admit(&tokens, "one", &format!("crypto-user:{PIN}")).unwrap());
    });
}

#[test]
fn logs_in_when_told_to_whatever_the_state_of_the_session_says() {
    on_faulty_with_all("opening::logs_in_when_told_to_whatever_the_state_of_the_session_says", |bench| {
        let says = "[token]\nsession-state = \"rw-user\"\nlogin-again = \"CKR_OK\"\nlogin-again-wrong-pin = \"CKR_USER_TYPE_INVALID\"\n";
        let tokens = tokens(bench, says, LoginKind::User);
        let token = admit(&tokens, "one", PIN).unwrap();
        assert_eq!(token.learnt().tells_login, Some(false));
        works(&token);
        let pair = make(&token, P256).unwrap();
        // By itself, or by another program.
        bench.play(&format!("{says}[events]\nnumber = 1\ndo = \"logout\"\n"));
        token.sign(&pair.private, &Mechanism::Ecdsa, &sha256(b"data")).unwrap();
        assert_eq!(token.list(&Filter::default()).unwrap().len(), 4);
    });
}

#[test]
fn logs_in_each_session_where_that_of_another_is_not_enough() {
    on_faulty_with_all("opening::logs_in_each_session_where_that_of_another_is_not_enough", |bench| {
        let tokens = tokens(
            bench,
            "[token]\nlogin-per-session = true\nsession-state = \"rw-user\"\nlogin-again = \"CKR_OK\"\n",
            LoginKind::User,
        );
        let token = admit(&tokens, "one", PIN).unwrap();
        works(&token);
        assert_eq!(token.learnt().logs_in_each, Some(true));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| works(&token));
            }
        });
    });
}

#[test]
fn a_token_whose_module_keeps_the_pin_needs_none() {
    on_faulty_with_all("opening::a_token_whose_module_keeps_the_pin_needs_none", |bench| {
        let own = format!("[token]\nown-pin = {PIN:?}\nmax-sessions = 1\n");
        let tokens = tokens(bench, &own, LoginKind::None);
        assert_eq!(admit(&tokens, "one", PIN).err(), Some(Refusal::NoJudge));
        let token = tokens.find("one").unwrap();
        tokens.open(&token).unwrap();
        // Also where there may be no session but one.
        works(&token);
        assert_eq!(token.learnt().login, Some(LoginKind::None));
        // What the module no longer keeps cannot be made good here.
        drop((token, tokens));
        let tokens = self::tokens(bench, "", LoginKind::None);
        let token = tokens.find("one").unwrap();
        tokens.open(&token).unwrap();
        let refused = make(&token, P256).unwrap_err();
        assert_eq!(refused.rv().or(why(&refused)), Some(RvError::UserNotLoggedIn), "{refused}");
    });
}

fn why(error: &Error) -> Option<RvError> {
    match error {
        Error::Unsettled { why, .. } | Error::Away(why) => why.rv(),
        _ => None,
    }
}

#[test]
fn a_pin_that_is_typed_at_the_token_is_waited_for_once() {
    on_faulty_with_all("opening::a_pin_that_is_typed_at_the_token_is_waited_for_once", |bench| {
        let pad = format!("[token]\nown-pin = {PIN:?}\nset-flags = [\"CKF_PROTECTED_AUTHENTICATION_PATH\"]\n");
        let tokens = tokens(bench, &pad, LoginKind::ProtectedPath);
        assert_eq!(admit(&tokens, "one", PIN).err(), Some(Refusal::NoJudge));
        let token = tokens.find("one").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| tokens.open(&token).unwrap());
            }
        });
        works(&token);
        assert_eq!(bench.count("C_Login"), 1);
        // It is asked for again when the login is lost.
        bench.play(&format!("{pad}[events]\nnumber = 1\ndo = \"logout\"\n"));
        works(&token);
    });
}

#[test]
fn never_uses_up_the_last_try_of_a_token_that_tells_its_time_oddly() {
    on_faulty_with_all("opening::never_uses_up_the_last_try_of_a_token_that_tells_its_time_oddly", |bench| {
        // What openCryptoki says: the binding reads nothing of such a token.
        let odd = "[token]\nutc-time = \"18:12:20\"\nset-flags = [\"CKF_CLOCK_ON_TOKEN\"]\npin-tries = 3\n";
        let tokens = tokens(bench, odd, LoginKind::User);
        for pin in ["wrong-1", "wrong-2"] {
            assert_eq!(admit(&tokens, "one", pin).err(), Some(Refusal::WrongPin));
        }
        assert_eq!(admit(&tokens, "one", "wrong-3").err(), Some(Refusal::FinalTry));
        bench.play(&format!("{odd}[events]\nnumber = 1\ndo = \"unlock-pin\"\n"));
        let token = admit(&tokens, "one", PIN).unwrap();
        works(&token);
        // One token, whichever of its names is used.
        assert_eq!(token.info().label, "one");
        for name in [token.info().serial.clone(), token.info().slot_id.to_string()] {
            assert!(Arc::ptr_eq(&token, &admit(&tokens, &name, PIN).unwrap()), "{name}");
        }
    });
}

#[test]
fn a_key_that_wants_a_login_for_each_signature_gets_it() {
    on_token("opening::a_key_that_wants_a_login_for_each_signature_gets_it", |bench| {
        let store = bench.store();
        let loaded = bench.tokens();
        // The binding can end only what is signed in several parts with a login in between.
        let (kind, mechanism, name) = match bench.is_apart() {
            true => ("rsa:2048", Mechanism::Sha256RsaPkcs, "SHA256-RSA-PKCS"),
            false if store.any_kind().starts_with("rsa") => (store.any_kind(), bench.mechanism(), "RSA-PKCS"),
            false => (store.any_kind(), bench.mechanism(), "ECDSA"),
        };
        drop(loaded);
        let asked = ["--keypairgen", "--key-type", kind, "--id", "0a0b", "--usage-sign", "--always-auth"];
        let is_made = store.try_pkcs11_tool(&asked).is_some();
        let wants_it = |object: &String| object.contains("always authenticate");
        let data = bench.file("data");
        std::fs::write(&data, sha256(b"data")).unwrap();
        let signed = ["--sign", "-m", name, "--id", "0a0b", "--input-file", data.to_str().unwrap()];
        let is_used = || store.try_pkcs11_tool(&signed).is_some();
        if skipped(
            !is_made || !store.objects().iter().any(wants_it) || !is_used(),
            "the token makes no such keys, or does not let pkcs11-tool sign with them",
        ) {
            return;
        }
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let key = token.key(Class::PrivateKey, &[0x0a, 0x0b]).unwrap();
        assert!(key.always_authenticate);
        let public = token.key(Class::PublicKey, &[0x0a, 0x0b]).unwrap();
        for _ in 0..3 {
            let signature = token.sign(&key, &mechanism, &sha256(b"data")).unwrap();
            assert!(token.verify(&public, &mechanism, &sha256(b"data"), &signature).unwrap());
        }
        // Others are signed with as ever meanwhile.
        let pair = make(&token, bench.kind()).unwrap();
        token.sign(&pair.private, &bench.mechanism(), &sha256(b"data")).unwrap();
    });
}

#[test]
fn such_a_key_has_its_pin_typed_for_each_signature_where_the_token_has_keys_for_it() {
    const TEST: &str = "opening::such_a_key_has_its_pin_typed_for_each_signature_where_the_token_has_keys_for_it";
    on_faulty_with_all(TEST, |bench| {
        let store = bench.store();
        let asked = ["--keypairgen", "--key-type", "EC:prime256v1", "--id", "0a0b", "--usage-sign", "--always-auth"];
        let is_made = store.try_pkcs11_tool(&asked).is_some();
        let wants_it = |object: &String| object.contains("always authenticate");
        if skipped(!is_made || !store.objects().iter().any(wants_it), "the token makes no such keys") {
            return;
        }
        let pad =
            |pin: &str| format!("[token]\nown-pin = {pin:?}\nset-flags = [\"CKF_PROTECTED_AUTHENTICATION_PATH\"]\n");
        let tokens = tokens(bench, &pad(PIN), LoginKind::ProtectedPath);
        let token = tokens.find("one").unwrap();
        tokens.open(&token).unwrap();
        let [private, public] =
            [Class::PrivateKey, Class::PublicKey].map(|class| token.key(class, &[0x0a, 0x0b]).unwrap());
        let sign = || token.sign(&private, &Mechanism::Ecdsa, &sha256(b"data"));
        let before = bench.count("C_Login");
        for turn in 1..=3 {
            let signature = sign().unwrap();
            assert!(token.verify(&public, &Mechanism::Ecdsa, &sha256(b"data"), &signature).unwrap());
            assert_eq!(bench.count("C_Login"), before + turn);
        }
        // Who mistypes it is asked again for the next signature.
        bench.play(&pad("other-pin"));
        assert_eq!(sign().unwrap_err().rv(), Some(RvError::PinIncorrect));
        bench.play(&pad(PIN));
        sign().unwrap();
    });
}

#[test]
fn the_pin_of_such_a_key_is_not_tried_again_once_it_is_wrong() {
    on_faulty_with_all("opening::the_pin_of_such_a_key_is_not_tried_again_once_it_is_wrong", |bench| {
        let always = "[[attribute]]\nattribute = \"CKA_ALWAYS_AUTHENTICATE\"\nvalue = true\n";
        let tokens = tokens(bench, always, LoginKind::User);
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, P256).unwrap();
        let wrong = "[[fault]]\nfunctions = \"C_Login\"\nrv = \"CKR_PIN_INCORRECT\"\n";
        bench.play(&format!("{always}{wrong}"));
        let sign = || token.sign(&pair.private, &Mechanism::Ecdsa, &sha256(b"data"));
        let before = bench.count("C_Login");
        for _ in 0..3 {
            assert_eq!(sign().unwrap_err().rv(), Some(RvError::PinIncorrect));
        }
        assert_eq!(bench.count("C_Login") - before, 1);
    });
}

#[test]
fn such_a_key_on_a_token_without_login_is_refused_for_want_of_a_pin() {
    on_faulty_with_all("opening::such_a_key_on_a_token_without_login_is_refused_for_want_of_a_pin", |bench| {
        let own = format!("[token]\nown-pin = {PIN:?}\n");
        let tokens = tokens(bench, &own, LoginKind::None);
        let token = tokens.find("one").unwrap();
        tokens.open(&token).unwrap();
        let (other, pair) = (make(&token, P256).unwrap(), make(&token, P256).unwrap());
        let key = Key { always_authenticate: true, ..Key::clone(&pair.private) };
        let before = bench.count("C_Login");
        for _ in 0..3 {
            assert_eq!(token.sign(&key, &Mechanism::Ecdsa, &sha256(b"data")), Err(Error::NoPin));
            // Nothing was begun in the session.
            token.sign(&other.private, &Mechanism::Ecdsa, &sha256(b"data")).unwrap();
        }
        assert_eq!((bench.count("C_Login"), bench.count("sessions")), (before, 2));
    });
}

/// Whether what the module itself, which is loaded and logged in to, signs in several parts is wrong by its own judgement.
fn signs_wrong_in_parts(bench: &Bench, id: &[u8]) -> bool {
    let pkcs11 = Pkcs11::new(Hsm::chosen().library()).unwrap();
    // Some are another one, not initialised, for each that loads them: they cannot be asked beside the one that the tokens have.
    let Ok(session) = pkcs11.open_rw_session(bench.store().slot().try_into().unwrap()) else { return false };
    let key = |class| session.find_objects(&[Attribute::Class(class), Attribute::Id(id.to_vec())]).unwrap()[0];
    session.sign_init(&Mechanism::Sha256RsaPkcs, key(ObjectClass::PRIVATE_KEY)).unwrap();
    session.sign_update(b"data").unwrap();
    let signature = session.sign_final().unwrap();
    session.verify(&Mechanism::Sha256RsaPkcs, key(ObjectClass::PUBLIC_KEY), b"data", &signature).is_err()
}

#[test]
fn such_a_key_signs_in_several_parts_where_the_binding_alone_can_be_used() {
    on_faulty_with_all("opening::such_a_key_signs_in_several_parts_where_the_binding_alone_can_be_used", |bench| {
        let tokens = tokens(
            bench,
            "[module]\nlist-per-call = true\n[[attribute]]\nattribute = \"CKA_ALWAYS_AUTHENTICATE\"\nvalue = true\n",
            LoginKind::User,
        );
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, KeyKind::Rsa { bits: 2048 }).unwrap();
        if skipped(signs_wrong_in_parts(bench, &pair.private.id), "the module signs wrong in several parts") {
            return;
        }
        // SoftHSM knows nothing of such a login for a key that is like others.
        bench.play(
            "[[attribute]]\nattribute = \"CKA_ALWAYS_AUTHENTICATE\"\nvalue = true\n[[fault]]\nfunctions = \"C_Login\"\nrv = \"CKR_OK\"\n",
        );
        let signature = token.sign(&pair.private, &Mechanism::Sha256RsaPkcs, b"data").unwrap();
        assert!(token.verify(&pair.public, &Mechanism::Sha256RsaPkcs, b"data", &signature).unwrap());
    });
}
