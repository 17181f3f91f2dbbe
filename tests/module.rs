//! What clients see of a module that misbehaves: the program itself, on the module that does so on command.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::Duration;

use support::bridge::Options;
use support::hsm::skipped;
use support::key::{KeyPair, sign_item};
use support::scratch::Scratch;
use support::tags::{continuation, operation, reason};
use support::{Bridge, Client, Faulty, Item, KeySpec, Request, Response, Token, until};

const NEW_PIN: &str = "pin-6027";

/// A bridge that gives a call to the module a second, but for one that makes keys: on a slow machine that takes longer.
fn impatient(faulty: &Faulty, token: &Token) -> Bridge {
    Bridge::start_with(token, impatiently(faulty))
}

fn impatiently(faulty: &Faulty) -> Options {
    Options { pkcs11: "call-timeout = 1\ngenerate-timeout = 60".to_string(), ..faulty.options() }
}

#[test]
fn a_call_that_hangs_is_answered_with_an_error_at_the_deadline() {
    let (token, faulty) = (Token::create(), Faulty::new());
    let mut bridge = impatient(&faulty, &token);
    let mut good = Client::connect(&bridge, &token);
    let pair = good.create_key_pair(&KeySpec::any(&token));
    let threads = bridge.threads();
    faulty.play("[[fault]]\nfunction = \"C_Sign\"\nquery = false\nhang = true\n");
    let mut stuck: Vec<Client> = (0..3).map(|_| Client::connect(&bridge, &token)).collect();
    for (minor, client) in [0, 2, 4].into_iter().zip(&mut stuck) {
        client.version = (1, minor);
        let item = sign_item(&pair.private, token.sign_parameters(), b"data").with_id(b"mine");
        // Signing came with 1.2: of a version that has none, something else has to hang.
        let item = if minor == 0 { KeySpec::any(&token).item().with_id(b"mine") } else { item };
        let request = client.request(vec![item]);
        client.send(&request.encode());
    }
    until("calls hang", || faulty.count("calls-hanging") == 2);
    for (minor, client) in [0, 2, 4].into_iter().zip(&mut stuck) {
        let response = Response::read(&client.receive().expect("an answer"));
        let answer = response.single();
        assert_eq!((response.version, answer.id.as_deref()), ((1, minor), Some(&b"mine"[..])));
        if minor == 0 {
            answer.payload();
            continue;
        }
        answer.is_refused(reason::GENERAL_FAILURE);
        assert_eq!(answer.operation, Some(operation::SIGN));
        assert!(client.is_closed());
    }
    // They still hang, and nobody else has noticed.
    assert_eq!(faulty.count("calls-hanging"), 2);
    faulty.play("");
    for _ in 0..10 {
        good.sign(&pair.private, token.sign_parameters(), b"data");
    }
    drop(stuck);
    until("the threads end", || bridge.threads() == threads);
    assert!(bridge.is_alive());
    let (status, log) = bridge.stop();
    assert!(status.success() && !log.contains("panic"), "{log}");
}

#[test]
fn a_key_may_take_longer_to_make_than_other_calls() {
    let (token, faulty) = (Token::create(), Faulty::new());
    let pkcs11 = "call-timeout = 2\ngenerate-timeout = 600".to_string();
    let mut bridge = Bridge::start_with(&token, Options { pkcs11, ..faulty.options() });
    let mut others = Client::connect(&bridge, &token);
    let pair = others.create_key_pair(&KeySpec::any(&token));
    others.sign(&pair.private, token.sign_parameters(), b"data");
    faulty.play("[[fault]]\nfunction = \"C_GenerateKeyPair\"\nhang = true\nnext = 1\n");
    thread::scope(|scope| {
        let make = |count: u64| {
            let mut client = Client::connect(&bridge, &token);
            let spec = KeySpec::any(&token);
            let making = scope.spawn(move || client.create_key_pair(&spec));
            until("it is asked for", || faulty.count("calls-hanging") == count);
            making
        };
        let first = make(1);
        // This one waits for the first.
        let second = make(1);
        // Others are served meanwhile, on sessions that have found nothing yet.
        let mut busy = Client::connect(&bridge, &token);
        busy.sign(&pair.private, token.sign_parameters(), b"data");
        // A call that hangs is overdue, and was made later.
        let hang =
            |function: &str, next: u32| format!("[[fault]]\nfunction = {function:?}\nhang = true\nnext = {next}\n");
        faulty.play(&(hang("C_GenerateKeyPair", 1) + &hang("C_SignInit", 1)));
        busy.call(sign_item(&pair.private, token.sign_parameters(), b"data")).is_refused(reason::GENERAL_FAILURE);
        assert!(!first.is_finished() && !second.is_finished());
        faulty.play("");
        let made = [first.join().unwrap(), second.join().unwrap()];
        made.iter().for_each(|pair| drop(others.sign(&pair.private, token.sign_parameters(), b"data")));
    });
    assert!(bridge.is_alive());
}

#[test]
fn a_key_that_its_client_no_longer_waits_for_is_removed_again() {
    let (token, faulty) = (Token::create(), Faulty::new());
    let bridge = Bridge::start_with(&token, faulty.options());
    let mut others = Client::connect(&bridge, &token);
    others.create_key_pair(&KeySpec::any(&token));
    let destroyed = faulty.count("C_DestroyObject");
    faulty.play("[[fault]]\nfunction = \"C_GenerateKeyPair\"\ndelay-ms = 1500\n");
    let mut client = Client::connect(&bridge, &token);
    let request = client.request(vec![KeySpec::any(&token).item()]);
    client.send(&request.encode());
    drop(client);
    until("it is removed", || faulty.count("C_DestroyObject") >= destroyed + 2);
    assert_eq!(others.locate(vec![]).len(), 2, "the pair from before");
    assert!(bridge.stop().1.contains("removed again"));
}

#[test]
fn a_batch_that_hangs_tells_what_was_done_and_does_no_more() {
    let (token, faulty, directory) = (Token::create(), Faulty::new(), Scratch::new("passwords"));
    let private = |name: &str, content: &str| {
        let file = directory.file(name, content);
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        file
    };
    let (pin, password) = (private("pin", &token.pin), "password-5528-of-the-signer");
    let tables = format!(
        "[[token]]\nname = {label:?}\npin-file = {pin:?}\n\
         [[client]]\nusername = \"signer\"\npassword-file = {file:?}\ntoken = {label:?}\n",
        label = token.label,
        file = private("password", password)
    );
    let pkcs11 = "call-timeout = 1\ngenerate-timeout = 5".to_owned();
    let bridge = Bridge::start_with(&token, Options { pkcs11, tables, ..faulty.options() });
    let mut good = Client::connect(&bridge, &token);
    let pair = good.create_key_pair(&KeySpec::any(&token));
    let mut addresses = Vec::new();
    for option in [None, Some(continuation::CONTINUE)] {
        let destroyed = faulty.count("C_DestroyObject");
        faulty.play("[[fault]]\nfunction = \"C_GenerateKeyPair\"\nhang = true\nnext = 1\n");
        let mut client = Client::connect_as(&bridge, Some(("signer", password)));
        addresses.push(client.socket().local_addr().unwrap());
        let items = vec![
            sign_item(&pair.private, token.sign_parameters(), b"data").with_id(b"first"),
            KeySpec::any(&token).named("second").item().with_id(b"second"),
            KeySpec::any(&token).named("third").item().with_id(b"third"),
        ];
        let request = Request { continuation: option, ..client.request(items) };
        let response = client.ask(&request);
        assert!(client.is_closed());
        let ids: Vec<_> = response.answers.iter().map(|answer| answer.id.as_deref().unwrap()).collect();
        match option {
            None => assert_eq!(ids, [&b"first"[..], b"second"]),
            Some(_) => assert_eq!(ids, [&b"first"[..], b"second", b"third"]),
        }
        response.answers[0].payload();
        response.answers[1].is_refused(reason::GENERAL_FAILURE);
        assert!(response.answers[1].message.as_deref().unwrap().ends_with("whether this was done is not known"));
        for answer in &response.answers[2..] {
            answer.is_refused(reason::GENERAL_FAILURE);
            assert!(answer.message.as_deref().unwrap().starts_with("not done"));
        }
        faulty.play("");
        // The pair comes into being after all, and nobody knows it.
        until("it is removed", || faulty.count("C_DestroyObject") >= destroyed + 2);
        assert_eq!(good.locate(vec![]).len(), 2, "the pair from before");
    }
    let (_, log) = bridge.stop();
    let audit: Vec<_> = log.lines().filter(|line| line.contains("audit:")).collect();
    for address in addresses {
        // Who, what and where, when it is given up and when it is known.
        let deed = format!("audit: {address} (user 'signer'): Create Key Pair named 'second-pri'");
        let on = format!(" on token '{}'", token.label);
        for end in [": the HSM has not answered in time, whether it was done is not known", "removed again"] {
            let told = |line: &&&str| line.contains(&deed) && line.ends_with(&format!("{end}{on}"));
            assert_eq!(audit.iter().filter(told).count(), 1, "{deed}{end}: {audit:?}");
        }
    }
    assert!(!audit.iter().any(|line| line.contains("third")), "{audit:?}");
}

#[test]
fn a_signature_that_hangs_among_others_holds_only_itself_up_and_ends_the_batch() {
    let (token, faulty) = (Token::create(), Faulty::new());
    let bridge = impatient(&faulty, &token);
    let mut good = Client::connect(&bridge, &token);
    let pair = good.create_key_pair(&KeySpec::any(&token));
    let items = |count: u8| {
        (0..count).map(|id| sign_item(&pair.private, token.sign_parameters(), b"data").with_id(&[id])).collect()
    };
    let slow = "[[fault]]\nfunction = \"C_Sign\"\nquery = false\ndelay-ms = 5\n";
    faulty.play(slow);
    good.ask(&good.request(items(2)));
    for (round, option) in [None, Some(continuation::CONTINUE)].into_iter().enumerate() {
        let hang = format!("[[fault]]\nfunction = \"C_Sign\"\nquery = false\nhang = true\nnext = 1\narm = {round}\n");
        faulty.play(&(hang + slow));
        let mut client = Client::connect(&bridge, &token);
        let request = Request { continuation: option, ..client.request(items(8)) };
        let response = client.ask(&request);
        assert!(client.is_closed());
        let stuck = response.answers.iter().position(|answer| answer.status != 0).expect("one hangs");
        response.answers[stuck].is_refused(reason::GENERAL_FAILURE);
        assert_eq!(response.answers[stuck].message.as_deref(), Some("the HSM has not answered in time"));
        assert_eq!(response.answers.len(), if option.is_none() { stuck + 1 } else { 8 });
        for answer in &response.answers[stuck + 1..] {
            assert!(answer.message.as_deref().unwrap().starts_with("not done"));
        }
        assert_eq!(faulty.count("calls-hanging"), 1);
        good.sign(&pair.private, token.sign_parameters(), b"data");
        faulty.play(slow);
    }
    faulty.play("");
    until("the threads end", || !bridge.thread_names().iter().any(|name| name.starts_with("batch-")));
}

fn locate() -> Item {
    Item::new(operation::LOCATE, vec![])
}

fn lines(log: &str, with: &[&str]) -> usize {
    log.lines().filter(|line| with.iter().all(|part| line.contains(part))).count()
}

#[test]
fn a_bridge_whose_hsm_is_away_starts_and_serves_when_it_appears() {
    let (token, faulty) = (Token::create(), Faulty::new());
    faulty.play("[[fault]]\nfunction = \"C_Initialize\"\nrv = \"CKR_DEVICE_ERROR\"\n");
    let bridge = Bridge::start_with(&token, faulty.options());
    let mut client = Client::connect(&bridge, &token);
    for _ in 0..100 {
        client.call(locate()).is_refused(reason::GENERAL_FAILURE);
    }
    // Once, when it was started: it is not asked again at once.
    assert_eq!(faulty.count("C_Initialize"), 1);
    faulty.play("");
    until("the token is served", || client.call(locate()).status == 0);
    let (status, log) = bridge.stop();
    assert!(status.success());
    assert_eq!(lines(&log, &["WARN", "PKCS#11 module", "C_Initialize: CKR_DEVICE_ERROR (0x30)"]), 1, "{log}");
    assert_eq!(lines(&log, &["INFO", "is initialised anew"]), 1, "{log}");
}

#[test]
fn a_token_that_goes_is_told_of_once_and_refused_without_asking_and_so_is_its_return() {
    let (token, faulty) = (Token::create(), Faulty::new());
    let bridge = Bridge::start_with(&token, faulty.options());
    let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(&bridge, &token)).collect();
    let pair = clients[0].create_key_pair(&KeySpec::any(&token));
    let sign = |client: &mut Client| client.call(sign_item(&pair.private, token.sign_parameters(), b"data"));
    for shows in ["absent", "error"] {
        let away = format!("[token]\naway = true\naway-shows = {shows:?}\n");
        faulty.play(&away);
        let before = faulty.calls();
        sign(&mut clients[0]).is_refused(reason::GENERAL_FAILURE);
        // It is found out by asking, which has an end.
        let calls = faulty.calls() - before;
        assert!((1..=30).contains(&calls), "{calls} calls");
        // Whoever asks from now on waits for ever, as who looks for the token does.
        faulty.play(&format!("{away}[[fault]]\nfunctions = \"C_*\"\nhang = true\n"));
        let before = faulty.calls();
        for client in &mut clients {
            for _ in 0..50 {
                let answer = sign(client);
                answer.is_refused(reason::GENERAL_FAILURE);
                assert!(answer.message.as_deref().unwrap().starts_with("the HSM is away: "), "{answer:?}");
            }
        }
        let calls = faulty.calls() - before;
        assert!(calls <= 1, "{calls} calls");
        faulty.play("");
        until("it is served again", || sign(&mut clients[0]).status == 0);
        for client in &mut clients {
            sign(client).payload();
        }
    }
    let (_, log) = bridge.stop();
    assert_eq!(lines(&log, &["WARN", "token 'signer 5117' is away"]), 2, "{log}");
    assert_eq!(lines(&log, &["INFO", "token 'signer 5117' is back"]), 2, "{log}");
}

#[test]
fn a_module_that_aborts_ends_the_process_and_no_answer_is_half_there() {
    let (token, faulty) = (Token::create(), Faulty::new());
    let bridge = Bridge::start_with(&token, faulty.options());
    let mut client = Client::connect(&bridge, &token);
    let pair = client.create_key_pair(&KeySpec::any(&token));
    faulty.play("[[fault]]\nfunction = \"C_Sign\"\nabort = true\n");
    let items = [b"first", b"other"].map(|id| sign_item(&pair.private, token.sign_parameters(), b"data").with_id(id));
    let request = client.request(items.to_vec());
    client.send(&request.encode());
    assert!(client.is_cut_off());
    let (status, _) = bridge.wait();
    assert_eq!(status.signal(), Some(6), "{status}");
    // The next one finds everything as it was.
    faulty.play("");
    let bridge = Bridge::start_with(&token, faulty.options());
    Client::connect(&bridge, &token).sign(&pair.private, token.sign_parameters(), b"data");
}

/// A bridge that gives a call to the module a second, and a client that has sent what will not be answered.
fn jammed(faulty: &Faulty, token: &Token, bridge: &Bridge) -> (KeyPair, Client) {
    let mut client = Client::connect(bridge, token);
    let pair = client.create_key_pair(&KeySpec::any(token));
    faulty.happen("jam");
    client.call(sign_item(&pair.private, token.sign_parameters(), b"data")).is_refused(reason::GENERAL_FAILURE);
    (pair, client)
}

#[test]
fn the_watchdog_is_told_that_all_is_well_until_the_module_answers_nobody() {
    let (token, faulty, directory) = (Token::create(), Faulty::new(), Scratch::new("notify"));
    let place = directory.path().join("socket");
    let socket = UnixDatagram::bind(&place).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut options = Options { pkcs11: "call-timeout = 1".to_string(), ..faulty.options() };
    // Four times a second.
    options.environment.extend([("NOTIFY_SOCKET", place), ("WATCHDOG_USEC", "1000000".into())]);
    let mut bridge = Bridge::start_with(&token, options);
    let heard = || {
        let mut buffer = [0; 64];
        let len = socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..len]).into_owned())
    };
    assert_eq!(heard().as_deref(), Some("READY=1"));
    (0..3).for_each(|_| assert_eq!(heard().as_deref(), Some("WATCHDOG=1")));
    // One call that hangs is not all of them.
    let mut client = Client::connect(&bridge, &token);
    let pair = client.create_key_pair(&KeySpec::any(&token));
    let sign = sign_item(&pair.private, token.sign_parameters(), b"data");
    faulty.play("[[fault]]\nfunction = \"C_Sign\"\nhang = true\nnext = 1\n");
    client.call(sign).is_refused(reason::GENERAL_FAILURE);
    // For longer than what all of them may take.
    (0..50).for_each(|_| assert_eq!(heard().as_deref(), Some("WATCHDOG=1")));
    assert_eq!(faulty.count("calls-hanging"), 1);
    faulty.play("");
    let (pair, _client) = jammed(&faulty, &token, &bridge);
    socket.set_read_timeout(Some(Duration::from_secs(4))).unwrap();
    until("nothing is said for a while", || heard().is_none());
    // It is for the service manager to decide what comes of that.
    assert!(bridge.is_alive());
    faulty.happen("unjam");
    until("all is well again", || heard().as_deref() == Some("WATCHDOG=1"));
    Client::connect(&bridge, &token).sign(&pair.private, token.sign_parameters(), b"data");
    assert!(bridge.stop().0.success());
}

#[test]
fn without_a_service_manager_that_watches_the_bridge_ends_when_the_module_answers_nobody() {
    let (token, faulty) = (Token::create(), Faulty::new());
    let bridge = impatient(&faulty, &token);
    let _jammed = jammed(&faulty, &token, &bridge);
    let (status, log) = bridge.wait();
    assert_eq!(status.code(), Some(1), "{status}");
    assert_eq!(lines(&log, &["ERROR", "the PKCS#11 module answers no call any more", "hint: "]), 1, "{log}");
}

/// While the token is away requests ask the module nothing, so that only who looks for it can find out.
#[test]
fn a_module_that_hangs_while_its_token_is_away_is_found_out_too() {
    let (token, faulty) = (Token::create(), Faulty::new());
    let bridge = impatient(&faulty, &token);
    let mut client = Client::connect(&bridge, &token);
    let pair = client.create_key_pair(&KeySpec::any(&token));
    let away = "[token]\naway = true\naway-shows = \"error\"\naway-still-works = []\n";
    faulty.play(away);
    let sign = sign_item(&pair.private, token.sign_parameters(), b"data");
    client.call(sign).is_refused(reason::GENERAL_FAILURE);
    faulty.play(&format!("{away}[[fault]]\nfunctions = \"C_*\"\nhang = true\n"));
    let (status, log) = bridge.wait();
    assert_eq!(status.code(), Some(1), "{status}");
    assert_eq!(lines(&log, &["WARN", "token 'signer 5117' is away"]), 1, "{log}");
    assert_eq!(lines(&log, &["ERROR", "the PKCS#11 module answers no call any more", "hint: "]), 1, "{log}");
}

#[test]
fn a_token_that_needs_no_login_serves_who_proves_itself_to_the_bridge_and_nobody_by_pin() {
    let (token, faulty, directory) = (Token::create(), Faulty::new(), Scratch::new("passwords"));
    faulty.play(&format!("[token]\nclear-flags = [\"CKF_LOGIN_REQUIRED\"]\nown-pin = {:?}\n", token.pin));
    let password = "password-3316-of-the-signer";
    let file = directory.file("password", password);
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let tables = format!(
        "[[token]]\nname = {label:?}\nlogin = \"none\"\n\
         [[client]]\nusername = \"signer\"\npassword-file = {file:?}\ntoken = {label:?}\n",
        label = token.label
    );
    let bridge = Bridge::start_with(&token, Options { tables, ..faulty.options() });
    let mut client = Client::connect_as(&bridge, Some(("signer", password)));
    let pair = client.create_key_pair(&KeySpec::any(&token));
    client.sign(&pair.private, token.sign_parameters(), b"data");
    for (username, password) in
        [("signer", "wrong"), (&token.label, &token.pin), (&token.label, password), (&token.label, "")]
    {
        client.login = Some((username.to_string(), password.to_string()));
        client.call(locate()).is_refused(reason::AUTHENTICATION_NOT_SUCCESSFUL);
    }
    assert_eq!(faulty.count("C_Login"), 0);
    let (status, log) = bridge.stop();
    assert!(status.success());
    assert!(lines(&log, &["audit: ", "(user 'signer'): made key pair "]) == 1 && !log.contains(password), "{log}");
}

#[test]
fn the_pin_comes_from_the_service_managers_credentials() {
    let (token, faulty, directory) = (Token::create(), Faulty::new(), Scratch::new("credentials"));
    // As systemd makes them: the service's own, and read-only.
    for (name, secret) in [("token-pin", token.pin.as_str()), ("signer", "password-8142-of-the-signer")] {
        let file = directory.file(name, format!("{secret}\n"));
        fs::set_permissions(&file, Permissions::from_mode(0o400)).unwrap();
    }
    let tables = format!(
        "[[token]]\nname = {label:?}\ncredential = \"token-pin\"\n\
         [[client]]\nusername = \"signer\"\ncredential = \"signer\"\ntoken = {label:?}\n",
        label = token.label
    );
    let mut options = Options { tables, ..faulty.options() };
    options.environment.push(("CREDENTIALS_DIRECTORY", directory.path().to_owned()));
    let bridge = Bridge::start_with(&token, options);
    let mut client = Client::connect_as(&bridge, Some(("signer", "password-8142-of-the-signer")));
    let pair = client.create_key_pair(&KeySpec::any(&token));
    // Also when the login is lost.
    faulty.happen("logout");
    client.sign(&pair.private, token.sign_parameters(), b"data");
    assert_eq!(faulty.count("C_Login"), 2);
}

#[test]
fn who_gets_no_session_in_time_is_told_so_and_the_others_are_served() {
    let (token, faulty) = (Token::create(), Faulty::new());
    // One to lend, beside the one that keeps the login.
    let pkcs11 = "max-sessions = 2\nsession-timeout = 1".to_string();
    let bridge = Bridge::start_with(&token, Options { pkcs11, ..faulty.options() });
    let mut client = Client::connect(&bridge, &token);
    let pair = client.create_key_pair(&KeySpec::any(&token));
    faulty.play("[[fault]]\nfunction = \"C_Sign\"\nhang = true\nnext = 1\n");
    let sign = sign_item(&pair.private, token.sign_parameters(), b"data");
    let mut holder = Client::connect(&bridge, &token);
    let request = holder.request(vec![sign.clone()]);
    holder.send(&request.encode());
    until("a session is held", || faulty.count("calls-hanging") == 1);
    let answer = client.call(sign.clone());
    answer.is_refused(reason::GENERAL_FAILURE);
    assert_eq!(answer.message.as_deref(), Some("no session of the token became free in time"));
    faulty.play("");
    Response::read(&holder.receive().expect("an answer")).single().payload();
    client.call(sign).payload();
}

#[test]
fn a_token_that_is_initialised_anew_is_served_with_its_new_pin() {
    let (token, faulty) = (Token::create(), Faulty::new());
    let bridge = Bridge::start_with(&token, faulty.options());
    let old = Client::connect(&bridge, &token).create_key_pair(&KeySpec::any(&token));
    let serial = token.serial();
    if let Err(why) = token.initialise_anew(NEW_PIN) {
        let why = why.lines().find(|line| line.contains("CKR_")).unwrap_or(&why);
        return println!("skipped: the module does not initialise a token anew: {why}");
    }
    if skipped(token.serial() != serial, "a token that is initialised anew is another one by its serial number") {
        return;
    }
    let mut client = Client::connect_as(&bridge, Some((&token.label, NEW_PIN)));
    client.call(sign_item(&old.private, token.sign_parameters(), b"data")).is_refused(reason::ITEM_NOT_FOUND);
    let new = client.create_key_pair(&KeySpec::any(&token));
    client.sign(&new.private, token.sign_parameters(), b"data");
    drop(bridge);
    // Nothing that was made was made with what is no more.
    let bridge = Bridge::start_with(&token, faulty.options());
    let mut client = Client::connect_as(&bridge, Some((&token.label, NEW_PIN)));
    client.sign(&new.private, token.sign_parameters(), b"data");
}
