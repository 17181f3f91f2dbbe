//! Finding a token by its name, and proving its PIN.

use std::collections::HashSet;
use std::fmt::Write;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use cascade_hsm_bridge::pkcs11::{Refusal, Tokens, Use};
use cryptoki::mechanism::MechanismType;

use crate::bench::{PIN, admit, make, on, on_faulty, on_spy, on_token};
use crate::support::Hsm;
use crate::support::hsm::skipped;

#[test]
fn describes_the_module_and_its_tokens() {
    on_token("login::describes_the_module_and_its_tokens", |bench| {
        let tokens = bench.tokens();
        let said = bench.store().module_info().unwrap();
        let says = |what: &str| said.lines().find_map(|line| line.strip_prefix(what)).unwrap().trim();
        assert_eq!(tokens.module().manufacturer, says("Manufacturer"));
        assert_eq!(tokens.module().path, bench.module);
        assert_eq!(tokens.module().cryptoki_version, says("Cryptoki version"));
        let labels: HashSet<_> = tokens.present().unwrap().into_iter().map(|token| token.label).collect();
        assert!(labels.contains("one") && labels.contains("two"));
        let one = admit(&tokens, "one", PIN).unwrap();
        assert!(one.info().login_required && one.info().initialized);
        for (mechanism, name) in [
            (MechanismType::RSA_PKCS, "RSA-PKCS"),
            (MechanismType::SHA256_RSA_PKCS, "SHA256-RSA-PKCS"),
            (MechanismType::ECDSA, "ECDSA"),
            (MechanismType::ECDSA_SHA256, "ECDSA-SHA256"),
        ] {
            let sizes = one.mechanisms().info(mechanism).map(|info| [info.min_key, info.max_key]);
            assert_eq!(sizes, bench.store().sizes(name).map(|(least, most)| [least, most]), "{name}");
            for (purpose, name_of_it) in [(Use::Sign, "sign"), (Use::GenerateKeyPair, "generate_key_pair")] {
                let is_listed = bench.store().offers(name, name_of_it);
                assert_eq!(one.mechanisms().supports(mechanism, purpose), is_listed, "{name} to {name_of_it}");
            }
        }
    });
}

#[test]
fn finds_a_token_by_label_serial_number_and_slot_id() {
    on_token("login::finds_a_token_by_label_serial_number_and_slot_id", |bench| {
        let tokens = bench.tokens();
        let by_label = admit(&tokens, "one", PIN).unwrap();
        let info = by_label.info();
        let mut names = vec![info.slot_id.to_string(), format!("{:#x}", info.slot_id)];
        if is_alone(&tokens, &info.serial) {
            names.push(info.serial.clone());
        }
        for name in names {
            let found = admit(&tokens, &name, PIN).unwrap();
            assert!(Arc::ptr_eq(&by_label, &found), "{name} is another token");
        }
        assert!(!Arc::ptr_eq(&by_label, &admit(&tokens, "two", PIN).unwrap()));
        for name in ["three", "", "0xffffffffffffffffffff"] {
            assert_eq!(admit(&tokens, name, PIN).err(), Some(Refusal::UnknownToken), "{name}");
        }
    });
}

/// Whether no other token has that serial number. There are modules that give all of theirs the same.
fn is_alone(tokens: &Tokens, serial: &str) -> bool {
    let present = tokens.present().unwrap();
    present.iter().filter(|token| token.initialized && token.serial == serial).count() == 1
}

#[test]
fn refuses_to_choose_between_tokens_of_one_label() {
    on("login::refuses_to_choose_between_tokens_of_one_label", &Hsm::chosen().library(), &["twin", "twin"], |bench| {
        let tokens = bench.tokens();
        assert_eq!(admit(&tokens, "twin", PIN).err(), Some(Refusal::AmbiguousToken));
        let serial = tokens.present().unwrap().into_iter().find(|token| token.label == "twin").unwrap().serial;
        if is_alone(&tokens, &serial) {
            assert_eq!(admit(&tokens, &serial, PIN).unwrap().info().serial, serial);
        } else {
            assert_eq!(admit(&tokens, &serial, PIN).err(), Some(Refusal::AmbiguousToken));
        }
    });
}

#[test]
fn refuses_a_wrong_pin_before_and_after_the_right_one() {
    on_token("login::refuses_a_wrong_pin_before_and_after_the_right_one", |bench| {
        let tokens = bench.tokens();
        for wrong in ["wrong", "", "S3cretP", "S3cretPNN"] {
            let refusal = admit(&tokens, "one", wrong).err();
            if skipped(
                matches!(refusal, Some(Refusal::FinalTry | Refusal::PinLocked)),
                "so many wrong PINs lock the token",
            ) {
                return;
            }
            assert_eq!(refusal, Some(Refusal::WrongPin), "{wrong}");
        }
        assert!(admit(&tokens, "one", PIN).is_ok());
        for wrong in ["wrong", "", "S3cretP", "S3cretPNN"] {
            assert_eq!(admit(&tokens, "one", wrong).err(), Some(Refusal::WrongPin), "{wrong}");
        }
        assert!(admit(&tokens, "one", PIN).is_ok());
        // The other token is another matter.
        assert_eq!(admit(&tokens, "two", "wrong").err(), Some(Refusal::WrongPin));
    });
}

#[test]
fn a_login_by_somebody_else_proves_no_pin() {
    on_token("login::a_login_by_somebody_else_proves_no_pin", |bench| {
        // The same module in the same process, logged in behind the bridge's back.
        let tokens = bench.tokens();
        let slot = cryptoki::slot::Slot::try_from(bench.store().slot()).unwrap();
        let other = cryptoki::context::Pkcs11::new(&bench.module).unwrap();
        if skipped(bench.is_apart(), "the module is another one for each that loads it") {
            return;
        }
        let session = other.open_rw_session(slot).unwrap();
        let secret = cryptoki::types::AuthPin::new(PIN.into());
        session.login(cryptoki::session::UserType::User, Some(&secret)).unwrap();
        assert_eq!(admit(&tokens, "one", "wrong").err(), Some(Refusal::WrongPin));
        session.login(cryptoki::session::UserType::User, Some(&secret)).unwrap();
        let token = admit(&tokens, "one", PIN).unwrap();
        assert!(make(&token, bench.kind()).is_ok());
    });
}

#[test]
fn no_pin_reaches_the_module_once_one_is_known() {
    on_spy("login::no_pin_reaches_the_module_once_one_is_known", |bench| {
        let tokens = bench.tokens();
        bench.calls();
        assert_eq!(admit(&tokens, "one", "wrong").err(), Some(Refusal::WrongPin));
        assert_eq!(bench.calls().iter().filter(|name| *name == "C_Login").count(), 1);
        assert_eq!(admit(&tokens, "one", "wrong").err(), Some(Refusal::WrongPin));
        assert_eq!(bench.calls().iter().filter(|name| *name == "C_Login").count(), 0);
        assert!(admit(&tokens, "one", PIN).is_ok());
        assert_eq!(bench.calls().iter().filter(|name| *name == "C_Login").count(), 1);
        assert!(admit(&tokens, "one", PIN).is_ok());
        assert_eq!(admit(&tokens, "one", "another").err(), Some(Refusal::WrongPin));
        // The slots may be looked at, as for a name that no token has.
        assert_eq!(bench.calls().iter().filter(|name| *name == "C_Login").count(), 0);
    });
}

/// Whatever limits there are on addresses: strangers may have many.
#[test]
fn few_of_many_wrong_pins_reach_the_token() {
    on_spy("login::few_of_many_wrong_pins_reach_the_token", |bench| {
        let tokens = bench.tokens();
        bench.calls();
        let refusals: Vec<_> = (0..200).map(|number| admit(&tokens, "one", &format!("guess-{number}")).err()).collect();
        // A token that counts may say first that there is one try left.
        assert!(matches!(refusals.last(), Some(Some(Refusal::TooManyAttempts | Refusal::FinalTry))));
        let tried = bench.calls().iter().filter(|name| *name == "C_Login").count();
        assert!((1..=12).contains(&tried), "{tried}");
    });
}

#[test]
fn names_that_mean_nothing_cost_a_few_looks_a_second() {
    on_spy("login::names_that_mean_nothing_cost_a_few_looks_a_second", |bench| {
        let tokens = bench.tokens();
        admit(&tokens, "one", PIN).unwrap();
        bench.calls();
        let since = Instant::now();
        for number in 0..300 {
            assert_eq!(admit(&tokens, &format!("token {number}"), PIN).err(), Some(Refusal::UnknownToken));
        }
        let looks = bench.calls().iter().filter(|name| *name == "C_GetSlotList").count();
        let seconds = usize::try_from(since.elapsed().as_secs()).unwrap();
        assert!(looks <= 8 * (seconds + 1), "{looks} looks in {seconds} seconds");
    });
}

#[test]
fn many_who_name_nothing_at_once_share_a_look_and_looks_that_fail_count_too() {
    on_faulty("login::many_who_name_nothing_at_once_share_a_look_and_looks_that_fail_count_too", |bench| {
        const CROWD: usize = 32;
        let tokens = bench.tokens();
        admit(&tokens, "one", PIN).unwrap();
        let look = {
            let before = bench.count("C_GetSlotList");
            thread::sleep(Duration::from_secs(1));
            assert!(admit(&tokens, "another", PIN).is_err());
            bench.count("C_GetSlotList") - before
        };
        bench.play("[[fault]]\nfunctions = \"C_GetSlotList\"\ndelay-ms = 400\n");
        thread::sleep(Duration::from_secs(1));
        let before = bench.count("C_GetSlotList");
        let barrier = Barrier::new(CROWD);
        thread::scope(|scope| {
            for number in 0..CROWD {
                let (tokens, barrier) = (&tokens, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    assert_eq!(admit(tokens, &format!("token {number}"), PIN).err(), Some(Refusal::UnknownToken));
                });
            }
        });
        // One is under way when the last of them come.
        let looks = (bench.count("C_GetSlotList") - before) / look;
        assert!((1..=3).contains(&looks), "{looks} looks for {CROWD} who came at once");

        bench.play("[[fault]]\nfunctions = \"C_GetSlotList\"\nrv = \"CKR_DEVICE_ERROR\"\n");
        let (since, before) = (Instant::now(), bench.count("C_GetSlotList"));
        for number in 0..300 {
            let refusal = admit(&tokens, &format!("token {number}"), PIN).err();
            assert!(matches!(refusal, Some(Refusal::Unavailable(_) | Refusal::UnknownToken)), "{refusal:?}");
        }
        let looks = bench.count("C_GetSlotList") - before;
        let seconds = usize::try_from(since.elapsed().as_secs()).unwrap();
        assert!(looks <= 4 * look * (seconds + 2), "{looks} looks in {seconds} seconds");
    });
}

#[test]
fn finds_a_token_that_appears_later() {
    on_token("login::finds_a_token_that_appears_later", |bench| {
        let tokens = bench.tokens();
        assert_eq!(admit(&tokens, "late", PIN).err(), Some(Refusal::UnknownToken));
        bench.add_token("late");
        match admit(&tokens, "late", PIN) {
            Ok(token) => assert_eq!(token.info().label, "late"),
            // Some modules look for tokens in C_Initialize only.
            Err(refusal) => assert_eq!(refusal, Refusal::UnknownToken),
        }
    });
}

/// Keeps every line that is logged, at any level and by any crate.
struct Lines(Mutex<String>);

static LINES: Lines = Lines(Mutex::new(String::new()));

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        writeln!(self.0.lock().unwrap(), "{} {}: {}", record.level(), record.target(), record.args()).unwrap();
    }

    fn flush(&self) {}
}

#[test]
fn no_pin_is_logged_or_said_at_any_level() {
    on_token("login::no_pin_is_logged_or_said_at_any_level", |bench| {
        log::set_logger(&LINES).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
        let tokens = bench.tokens();
        let wrong = "W8ongOne";
        let mut said = String::new();
        for pin in [wrong, PIN, wrong] {
            if let Err(refusal) = admit(&tokens, "one", pin) {
                write!(said, "{refusal} {refusal:?}").unwrap();
            }
        }
        let token = admit(&tokens, "one", PIN).unwrap();
        make(&token, bench.kind()).unwrap();
        tokens.finalize();
        let lines = LINES.0.lock().unwrap();
        assert!(lines.contains("logged in") && lines.contains("finalized"), "{lines}");
        for pin in [wrong, PIN] {
            assert!(!lines.contains(pin) && !said.contains(pin), "{lines}{said}");
            assert!(!lines.contains(&format!("{:?}", pin.as_bytes())), "{lines}");
        }
    });
}
