//! Who gets in, and who does not: the program itself, told apart friend and stranger.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::bridge::Options;
use support::hsm::skipped;
use support::message::Item;
use support::scratch::Scratch;
use support::spy::Spy;
use support::tags::{operation, reason};
use support::ttlv::Node;
use support::{Bridge, Client, Faulty, KeySpec, Response, Token, until};

fn random() -> Item {
    Item::new(operation::LOCATE, vec![])
}

/// Tries so many different wrong PINs, and holds that all get the one answer.
fn guess(client: &mut Client, label: &str, guesses: usize) {
    for number in 0..guesses {
        client.login = Some((label.to_string(), format!("guess-{number}")));
        let answer = client.call(random());
        answer.is_refused(reason::AUTHENTICATION_NOT_SUCCESSFUL);
        assert_eq!(answer.message.as_deref(), Some("username or password is not right"));
    }
}

#[test]
fn a_flood_of_wrong_pins_disturbs_nobody_else_and_is_told_once() {
    let token = Token::create();
    if Spy::is_blind(&token) {
        return;
    }
    let spy = Spy::new();
    let bridge = Bridge::start_with(&token, spy.options());
    let mut good = Client::connect(&bridge, &token);
    good.call(random()).payload();
    let before = spy.calls("C_Login");
    let mut stranger = Client::connect(&bridge, &token);
    for _ in 0..20 {
        guess(&mut stranger, &token.label, 100);
        // On the connection that has proved itself, from the same address.
        good.call(random()).payload();
    }
    // One, which might have been a new PIN.
    assert!(spy.calls("C_Login") - before <= 1, "wrong PINs reached the token");
    let (_, log) = bridge.stop();
    assert_eq!(log.matches("login refused").count(), 1, "{log}");
}

#[test]
fn a_stranger_who_guesses_is_not_judged_while_others_are() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return println!("skipped: this machine has no second loopback address");
    }
    let token = Token::create();
    let mut bridge = Bridge::start_with(&token, Options { address: Some("[::]:0"), ..Options::default() });
    let port = bridge.address.port();
    bridge.address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stranger = Client::connect(&bridge, &token);
    guess(&mut stranger, &token.label, 12);
    if skipped(token.is_at_its_last_try(), "so many wrong PINs would lock the token: the bridge tries none") {
        return;
    }
    // Now not even the right one is.
    stranger.login = Some((token.label.clone(), token.pin.clone()));
    stranger.call(random()).is_refused(reason::AUTHENTICATION_NOT_SUCCESSFUL);
    bridge.address = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    Client::connect(&bridge, &token).call(random()).payload();
}

#[test]
fn who_has_many_addresses_has_not_many_guesses_and_clients_are_judged_all_the_same() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return println!("skipped: this machine has no second loopback address");
    }
    let token = Token::create();
    // Of each address all are judged: it is as if each came from another one.
    let server = "max-failed-logins = 1000\nmax-failed-logins-per-minute = 2".to_owned();
    let options = Options { address: Some("[::]:0"), server, ..Options::default() };
    let mut bridge = Bridge::start_with(&token, options);
    let port = bridge.address.port();
    bridge.address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Client::connect(&bridge, &token).call(random()).payload();
    guess(&mut Client::connect(&bridge, &token), &token.label, 5);
    bridge.address = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let mut stranger = Client::connect(&bridge, &token);
    // What a client mistypes takes nothing from others: they are judged.
    guess(&mut stranger, &token.label, 3);
    stranger.login = Some((token.label.clone(), token.pin.clone()));
    stranger.call(random()).is_refused(reason::AUTHENTICATION_NOT_SUCCESSFUL);
    bridge.address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Client::connect(&bridge, &token).call(random()).payload();
    let (_, log) = bridge.stop();
    assert_eq!(log.matches("addresses that nobody has logged in from").count(), 1, "{log}");
}

#[test]
fn who_guessed_keeps_others_of_its_address_out_for_the_pause_and_no_longer() {
    let token = Token::create();
    let options = Options { server: "failed-login-pause = 1".to_owned(), ..Options::default() };
    let bridge = Bridge::start_with(&token, options);
    let mut proven = Client::connect(&bridge, &token);
    proven.call(random()).payload();
    guess(&mut Client::connect(&bridge, &token), &token.label, 12);
    let newcomers = thread::spawn({
        let connect = || Client::connect(&bridge, &token);
        let clients: Vec<_> = (0..10).map(|_| connect()).collect();
        move || {
            let mut refused = 0;
            for mut client in clients {
                while client.call(random()).status != 0 {
                    refused += 1;
                    assert!(refused < 1000, "not let in any more");
                    thread::sleep(Duration::from_millis(20));
                }
            }
        }
    });
    // A connection that goes on working takes none of their turns.
    while !newcomers.is_finished() {
        proven.call(random()).payload();
    }
    newcomers.join().unwrap();
}

/// The same mistake again and again is no guess, and each answer takes half a second.
#[test]
fn who_repeats_a_wrong_pin_is_cut_off_and_keeps_no_other_of_its_address_out() {
    const PLACES: usize = 4;
    let token = Token::create();
    let server = format!("unauthenticated-timeout = 4\nmax-unauthenticated = {PLACES}");
    let bridge = Bridge::start_with(&token, Options { server, ..Options::default() });
    let wrong = (token.label.as_str(), "wrong-5523");
    let answered = AtomicUsize::new(0);
    thread::scope(|scope| {
        let repeating = || {
            let mut client = Client::connect_as(&bridge, Some(wrong));
            let request = client.request(vec![random()]).encode();
            let mut ask = || client.try_send(&request) && client.try_receive().is_ok();
            let mut answers = 0;
            while answers < 40 && ask() {
                answers += 1;
                answered.fetch_add(1, Ordering::Relaxed);
            }
            assert!(answers < 40, "not cut off");
        };
        let repeaters: Vec<_> = (0..PLACES).map(|_| scope.spawn(repeating)).collect();
        until("all places are taken", || answered.load(Ordering::Relaxed) >= PLACES);
        // Those that are being answered give way to nobody of their own address, but they are not always.
        let right = Some((token.label.as_str(), token.pin.as_str()));
        until("who has the right PIN gets in", || {
            Client::connect_showing(&bridge, right, None).is_ok_and(|mut client| {
                let request = client.request(vec![random()]).encode();
                let answer = client.try_send(&request).then(|| client.try_receive().ok()).flatten();
                answer.is_some_and(|it| Response::read(&Node::decode(&it).unwrap()).answers[0].status == 0)
            })
        });
        assert!(!repeaters.iter().all(|repeater| repeater.is_finished()), "only after all of them were cut off");
        repeaters.into_iter().for_each(|repeater| repeater.join().unwrap());
    });
}

#[test]
fn wrong_pins_reach_the_token_a_few_times_only_before_the_first_right_one() {
    let token = Token::create();
    if Spy::is_blind(&token) {
        return;
    }
    let spy = Spy::new();
    let bridge = Bridge::start_with(&token, spy.options());
    let mut stranger = Client::connect(&bridge, &token);
    guess(&mut stranger, &token.label, 200);
    assert!((1..=10).contains(&spy.calls("C_Login")), "{}", spy.calls("C_Login"));
}

#[test]
fn unknown_names_cost_the_module_next_to_nothing() {
    let token = Token::create();
    if Spy::is_blind(&token) {
        return;
    }
    let spy = Spy::new();
    let bridge = Bridge::start_with(&token, spy.options());
    Client::connect(&bridge, &token).call(random()).payload();
    let before = spy.calls("C_GetSlotList");
    let since = Instant::now();
    let mut stranger = Client::connect(&bridge, &token);
    for number in 0..300 {
        guess(&mut stranger, &format!("token {number}"), 1);
    }
    let calls = spy.calls("C_GetSlotList") - before;
    let seconds = usize::try_from(since.elapsed().as_secs()).unwrap();
    assert!(calls <= 8 * (seconds + 1), "{calls} calls in {seconds} seconds");
}

const NEW_PIN: &str = "pin-4479";

#[test]
fn a_pin_changed_on_the_token_gets_in_and_the_old_one_does_not() {
    let token = Token::create();
    if Spy::is_blind(&token) {
        return;
    }
    let spy = Spy::new();
    let bridge = Bridge::start_with(&token, spy.options());
    let mut client = Client::connect(&bridge, &token);
    let key = client.create_key_pair(&KeySpec::any(&token));
    token.pkcs11_tool(&["--change-pin", "--new-pin", NEW_PIN]);
    let mut renewed = Client::connect_as(&bridge, Some((&token.label, NEW_PIN)));
    renewed.sign(&key.private, token.sign_parameters(), b"data");
    client.call(random()).is_refused(reason::AUTHENTICATION_NOT_SUCCESSFUL);
    // The session that was logged in stayed so: nobody noticed.
    client.login = renewed.login.clone();
    client.sign(&key.private, token.sign_parameters(), b"data");
    let (_, log) = bridge.stop();
    assert!(log.contains("its PIN was changed"), "{log}");
    assert!(!log.contains(NEW_PIN));
}

/// What a module's configuration says may be relative to where the bridge was started.
#[test]
fn a_changed_pin_is_proved_where_the_bridge_was_started() {
    let (token, faulty, directory) = (Token::create(), Faulty::new(), Scratch::new("started"));
    symlink(Token::module(), directory.path().join("module.so")).unwrap();
    let mut options = Options { directory: Some(directory.path().to_path_buf()), ..faulty.options() };
    options.environment.retain(|(name, _)| *name != "FAULTY_MODULE");
    options.environment.push(("FAULTY_MODULE", "./module.so".into()));
    let bridge = Bridge::start_with(&token, options);
    Client::connect(&bridge, &token).call(random()).payload();
    token.pkcs11_tool(&["--change-pin", "--new-pin", NEW_PIN]);
    Client::connect_as(&bridge, Some((&token.label, NEW_PIN))).call(random()).payload();
    assert!(bridge.stop().1.contains("its PIN was changed"));
}

#[test]
fn pins_other_than_the_one_in_force_are_tried_once_a_minute() {
    let token = Token::create();
    if Spy::is_blind(&token) {
        return;
    }
    let spy = Spy::new();
    let bridge = Bridge::start_with(&token, spy.options());
    let mut client = Client::connect(&bridge, &token);
    client.call(random()).payload();
    let login = client.login.clone();
    let logins = spy.calls("C_Login");
    guess(&mut client, &token.label, 50);
    assert!(spy.calls("C_Login") - logins <= 1);
    client.login = login;
    client.call(random()).payload();
    // The one that was tried is said by the token to be wrong, so no other is.
    bridge.signal("HUP");
    let since = Instant::now();
    while !bridge.log().contains("HUP") {
        assert!(since.elapsed().as_secs() < 30);
        thread::sleep(Duration::from_millis(10));
    }
    let mut stranger = Client::connect_as(&bridge, Some((&token.label, "guess-again")));
    stranger.call(random()).is_refused(reason::AUTHENTICATION_NOT_SUCCESSFUL);
    assert!(spy.calls("C_Login") - logins <= 1);
}

/// C libraries copy PINs into buffers.
#[test]
fn a_pin_that_is_far_too_long_reaches_no_module() {
    let token = Token::create();
    if Spy::is_blind(&token) {
        return;
    }
    let spy = Spy::new();
    let bridge = Bridge::start_with(&token, spy.options());
    let mut client = Client::connect_as(&bridge, Some((&token.label, &"1".repeat(1025))));
    client.call(random()).is_refused(reason::AUTHENTICATION_NOT_SUCCESSFUL);
    client.login = Some(("1".repeat(1025), token.pin.clone()));
    client.call(random()).is_refused(reason::AUTHENTICATION_NOT_SUCCESSFUL);
    assert_eq!(spy.calls("C_Login"), 0);
    client.login = Some((token.label.clone(), "1".repeat(1024)));
    client.call(random()).is_refused(reason::AUTHENTICATION_NOT_SUCCESSFUL);
    assert_eq!(spy.calls("C_Login"), 1);
}

const AWAY: &str = "[[fault]]\nfunction = \"C_Initialize\"\nrv = \"CKR_DEVICE_ERROR\"\n";

#[test]
fn who_asks_while_the_hsm_is_away_does_not_fill_the_log() {
    let token = Token::create();
    let faulty = Faulty::new();
    faulty.play(AWAY);
    let bridge = Bridge::start_with(&token, Options { log_level: Some("info"), ..faulty.options() });
    let since = Instant::now();
    let mut stranger = Client::connect_as(&bridge, None);
    for number in 0..200 {
        stranger.login = Some((token.label.clone(), format!("guess-{number}")));
        stranger.call(random()).is_refused(reason::GENERAL_FAILURE);
    }
    let (_, log) = bridge.stop();
    // Once a minute.
    let most = 1 + usize::try_from(since.elapsed().as_secs() / 60).unwrap();
    assert!((1..=most).contains(&log.matches("login not possible").count()), "{log}");
    assert!(log.lines().count() < 20 * most, "{log}");
}

#[test]
fn a_pin_changed_on_the_token_gets_in_also_where_the_hsm_was_away_at_the_start() {
    let token = Token::create();
    let faulty = Faulty::new();
    faulty.play(AWAY);
    let bridge = Bridge::start_with(&token, faulty.options());
    let answer = || Client::connect(&bridge, &token).call(random());
    answer().is_refused(reason::GENERAL_FAILURE);
    faulty.play("");
    // The module is not tried again at once.
    let since = Instant::now();
    while answer().status != 0 {
        assert!(since.elapsed().as_secs() < 90);
        thread::sleep(Duration::from_millis(200));
    }
    token.pkcs11_tool(&["--change-pin", "--new-pin", NEW_PIN]);
    Client::connect_as(&bridge, Some((&token.label, NEW_PIN))).call(random()).payload();
}

const PASSWORD: &str = "password-1093-of-the-signer";

/// Offers a wrong PIN for `name`, and tells how long it took to be refused.
fn refused(client: &mut Client, name: &str, pin: &str) -> Duration {
    client.login = Some((name.to_string(), pin.to_string()));
    let since = Instant::now();
    let answer = client.call(random());
    answer.is_refused(reason::AUTHENTICATION_NOT_SUCCESSFUL);
    assert_eq!(answer.message.as_deref(), Some("username or password is not right"));
    since.elapsed()
}

#[test]
fn what_a_token_takes_to_refuse_a_pin_does_not_show() {
    let (token, faulty) = (Token::create(), Faulty::new());
    faulty.play("[[fault]]\nfunction = \"C_Login\"\ndelay-ms = 200.0\n");
    let bridge = Bridge::start_with(&token, faulty.options());
    let mut stranger = Client::connect_as(&bridge, None);
    // Before the first right PIN the token is asked; no answer comes sooner than the time that this takes.
    for (name, pin) in [(token.label.as_str(), "guess-1"), ("nobody", "guess-1"), (token.label.as_str(), "guess-2")] {
        assert!(refused(&mut stranger, name, pin) >= Duration::from_millis(500), "{name}");
    }
    assert_eq!(faulty.count("C_Login"), 2);
}

#[test]
fn a_token_that_is_down_is_told_to_those_only_who_have_its_pin() {
    let (token, faulty) = (Token::create(), Faulty::new());
    faulty.play("[[fault]]\nfunctions = [\"C_Login\", \"C_OpenSession\"]\nrv = \"CKR_DEVICE_ERROR\"\n");
    let bridge = Bridge::start_with(&token, faulty.options());
    let mut client = Client::connect(&bridge, &token);
    for name in [token.label.as_str(), "nobody"] {
        refused(&mut client, name, &token.pin);
    }
    faulty.play("");
    client.login = Some((token.label.clone(), token.pin.clone()));
    client.call(random()).payload();
    faulty.play("[token]\naway = true\n");
    let answer = client.call(random());
    answer.is_refused(reason::GENERAL_FAILURE);
    assert!(answer.message.as_deref().unwrap().starts_with("the HSM is away: "), "{answer:?}");
    let mut stranger = Client::connect_as(&bridge, None);
    for name in [token.label.as_str(), "nobody"] {
        refused(&mut stranger, name, "guess");
    }
    let (_, log) = bridge.stop();
    assert!(log.contains("login refused: the token cannot judge a PIN: C_OpenSession: CKR_DEVICE_ERROR"), "{log}");
}

/// A bridge that keeps the PIN of the token, for a client called "signer" with this password.
fn keeping_the_pin(token: &Token, faulty: &Faulty, directory: &Scratch, password: &str) -> Bridge {
    let private = |name: &str, content: &str| {
        let file = directory.file(name, content);
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        file
    };
    let tables = format!(
        "[[token]]\nname = {label:?}\npin-file = {:?}\n\
         [[client]]\nusername = \"signer\"\npassword-file = {:?}\ntoken = {label:?}\n",
        private("pin", &token.pin),
        private("password", password),
        label = token.label,
    );
    Bridge::start_with(token, Options { tables, ..faulty.options() })
}

#[test]
fn a_pin_that_the_bridge_keeps_comes_before_those_of_strangers() {
    let (token, faulty, directory) = (Token::create(), Faulty::new(), Scratch::new("secrets"));
    let bridge = keeping_the_pin(&token, &faulty, &directory, PASSWORD);
    let mut client = Client::connect_as(&bridge, None);
    for name in [token.serial(), token.slot().to_string(), token.label.clone()] {
        refused(&mut client, &name, "guess");
    }
    client.login = Some(("signer".to_string(), PASSWORD.to_string()));
    client.call(random()).payload();
    assert_eq!(faulty.count("C_Login"), 1);
}

#[test]
fn after_the_first_login_neither_a_wrong_pin_nor_an_unknown_name_gets_to_a_token() {
    let (token, faulty, directory) = (Token::create(), Faulty::new(), Scratch::new("secrets"));
    // Nobody has sent the PIN from here, so that none is taken for a new one.
    let bridge = keeping_the_pin(&token, &faulty, &directory, PASSWORD);
    let mut client = Client::connect_as(&bridge, Some(("signer", PASSWORD)));
    client.call(random()).payload();
    let asked = || ["C_Login", "C_OpenSession"].map(|function| faulty.count(function));
    let before = asked();
    for name in [&token.label, "nobody", "signer"] {
        assert!(refused(&mut client, name, "guess") >= Duration::from_millis(500), "{name}");
    }
    assert_eq!(asked(), before);
}

#[test]
fn no_pin_is_tried_where_the_token_says_that_it_would_be_the_last_or_is_locked() {
    let (token, faulty) = (Token::create(), Faulty::new());
    let bridge = Bridge::start_with(&token, faulty.options());
    let mut client = Client::connect(&bridge, &token);
    for flag in ["CKF_USER_PIN_FINAL_TRY", "CKF_USER_PIN_LOCKED"] {
        faulty.play(&format!("[token]\nset-flags = [{flag:?}]\n"));
        refused(&mut client, &token.label, &token.pin);
    }
    assert_eq!(faulty.count("C_Login"), 0);
    faulty.play("");
    client.call(random()).payload();
    // Once a PIN is in force the token is not asked.
    faulty.play("[token]\nset-flags = [\"CKF_USER_PIN_FINAL_TRY\"]\n");
    client.call(random()).payload();
    assert_eq!(faulty.count("C_Login"), 1);
}

#[test]
fn an_hsm_that_breaks_down_tells_no_stranger_which_tokens_it_had() {
    let (token, faulty) = (Token::create(), Faulty::new());
    let bridge = Bridge::start_with(&token, faulty.options());
    Client::connect(&bridge, &token).call(random()).payload();
    faulty.play(&format!("[events]\nnumber = 1\ndo = \"break\"\n{AWAY}"));
    let mut stranger = Client::connect_as(&bridge, None);
    for name in [token.label.as_str(), "nobody"] {
        stranger.login = Some((name.to_string(), "guess".to_string()));
        let answer = stranger.call(random());
        answer.is_refused(reason::GENERAL_FAILURE);
        assert_eq!(answer.message.as_deref(), Some("the HSM is not available"));
    }
    // Who has the PIN is told what it is.
    let answer = Client::connect(&bridge, &token).call(random());
    answer.is_refused(reason::GENERAL_FAILURE);
    assert!(answer.message.as_deref().unwrap().starts_with("the HSM is away: "), "{answer:?}");
}
