//! Twelve faults seen in a running bridge of this kind, one test each to show that this program has none of them.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::thread;

use support::bridge::Options;
use support::key::{public_key, rsa_sha_256, sign_item, unique_identifier};
use support::message::{Item, Response, protocol_version};
use support::scratch::Scratch;
use support::spy::Spy;
use support::tags::{self, continuation, operation, query, reason};
use support::ttlv::{enumeration, malformed};
use support::{Bridge, Client, KeySpec, Request, Token};

#[test]
fn fault_01_a_second_pin_does_not_work_after_one_good_login() {
    let token = Token::create();
    if Spy::is_blind(&token) {
        return;
    }
    let spy = Spy::new();
    let bridge = Bridge::start_with(&token, spy.options());
    let mut good = Client::connect(&bridge, &token);
    let pair = good.create_key_pair(&KeySpec::any(&token));
    let logins = spy.calls("C_Login");
    let wrong = format!("{}x", token.pin);
    for pin in [wrong.as_str(), "", "0000", &token.pin[1..]] {
        let mut other = Client::connect_as(&bridge, Some((&token.label, pin)));
        for item in [
            sign_item(&pair.private, token.sign_parameters(), b"data"),
            Item::new(operation::DESTROY, vec![unique_identifier(&pair.private)]),
            Item::new(operation::LOCATE, vec![]),
        ] {
            other.call(item).is_refused(reason::AUTHENTICATION_NOT_SUCCESSFUL);
        }
    }
    // On the connection that has just shown the right one, too.
    let login = good.login.replace((token.label.clone(), wrong));
    good.call(Item::new(operation::LOCATE, vec![])).is_refused(reason::AUTHENTICATION_NOT_SUCCESSFUL);
    good.login = None;
    good.call(Item::new(operation::LOCATE, vec![])).is_refused(reason::AUTHENTICATION_NOT_SUCCESSFUL);
    good.login = login;
    good.sign(&pair.private, token.sign_parameters(), b"data");
    // One, in a process of its own: the token's PIN might have been changed.
    assert!(spy.calls("C_Login") - logins <= 1, "wrong PINs were tried on the token");
}

#[test]
fn fault_02_a_reset_before_the_answer_does_no_harm() {
    let token = Token::create();
    let mut bridge = Bridge::start(&token);
    let pair = Client::connect(&bridge, &token).create_key_pair(&KeySpec::rsa(2048));
    for _ in 0..20 {
        let mut client = Client::connect(&bridge, &token);
        let request = client.request(vec![sign_item(&pair.private, rsa_sha_256(), b"data")]).encode();
        // The first answers find the socket closed, which resets the connection under the later ones.
        client.send(&request.repeat(20));
    }
    Client::connect(&bridge, &token).sign(&pair.private, rsa_sha_256(), b"data");
    assert!(bridge.is_alive());
}

#[test]
fn fault_03_a_malformed_unique_identifier_is_just_not_found() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let long = "A".repeat(5000);
    for id in ["zz_pub", "a", "é_pub", "xx_priv", "", "_pub", "_priv", "_", "A_pub", "é", "00_secx", "../00_pub", &long]
    {
        for operation in [operation::GET, operation::ACTIVATE, operation::DESTROY, operation::GET_ATTRIBUTES] {
            client.call(Item::new(operation, vec![unique_identifier(id)])).is_refused(reason::ITEM_NOT_FOUND);
        }
        client.call(sign_item(id, rsa_sha_256(), b"data")).is_refused(reason::ITEM_NOT_FOUND);
        client.call(Client::rename_item(id, "name")).is_refused(reason::ITEM_NOT_FOUND);
    }
    client.create_key_pair(&KeySpec::any(&token));
}

#[test]
fn fault_04_a_silent_client_holds_nobody_up() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut silent: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(bridge.address).unwrap()).collect();
    // Some have begun a handshake and gone quiet.
    for socket in silent.iter_mut().step_by(2) {
        socket.write_all(&[0x16, 0x03, 0x01, 0x02]).unwrap();
    }
    Client::connect(&bridge, &token).create_key_pair(&KeySpec::any(&token));
    drop(silent);
}

#[test]
fn fault_05_a_request_that_does_not_parse_keeps_its_pin_out_of_the_log() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let good = client.request(vec![Item::new(operation::LOCATE, vec![])]);
    client.ask(&good).single().payload();
    // Broken at every fourth byte from the credential on; what is still well-formed may succeed.
    let bytes = good.encode();
    for at in (16..bytes.len()).step_by(4) {
        let mut spoilt = bytes.clone();
        spoilt[at] ^= 0xFF;
        let mut other = Client::connect(&bridge, &token);
        if other.try_send(&spoilt) {
            drop(other.socket().shutdown(std::net::Shutdown::Write));
            other.receive_bytes();
        }
    }
    let (status, log) = bridge.stop();
    assert!(status.success(), "{status}");
    assert!(!log.contains(&token.pin), "the PIN is in the log");
    assert!(log.len() > 1000, "the log is not at the level asked for: {log}");
}

#[test]
fn fault_06_checking_the_configuration_looks_at_the_files_it_names() {
    let directory = Scratch::new("config");
    let check = |config: &std::path::Path| {
        let mut command = Command::new(support::program());
        let output = command.arg("--config").arg(config).arg("--check-config").output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!text.contains("panicked"), "{text}");
        (output.status.code(), text)
    };
    let (code, text) = check(&directory.path().join("missing.toml"));
    assert!(code.is_some_and(|code| code != 0) && text.contains("missing.toml"), "{code:?} {text}");

    let config = "version = \"v1\"\n[pkcs11]\nlib-path = \"/nonexistent/module.so\"\n[server]\naddr = \"127.0.0.1:0\"\n\
                  [server.identity]\ncert-path = \"/nonexistent/cert.pem\"\nkey-path = \"/nonexistent/key.pem\"\n";
    let (code, text) = check(&directory.file("config.toml", config));
    assert!(code.is_some_and(|code| code != 0), "{code:?} {text}");
    for name in ["/nonexistent/module.so", "/nonexistent/cert.pem"] {
        assert!(text.contains(name), "{name} is not in {text}");
    }
}

#[test]
fn fault_07_a_request_beyond_8_kib_is_answered() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let pair = client.create_key_pair(&KeySpec::rsa(2048));
    let sign = |number: u8| sign_item(&pair.private, rsa_sha_256(), &[number; 300]).with_id(&[number; 16]);
    let request = client.request((0..60).map(sign).collect());
    assert!(request.encode().len() > 8192);
    let response = client.ask(&request);
    assert_eq!(response.answers.len(), 60);
    for answer in &response.answers {
        assert_eq!(answer.payload().child(tags::SIGNATURE_DATA).as_bytes().len(), 256);
    }
    // A large RRset.
    client.sign(&pair.private, rsa_sha_256(), &[7; 60_000]);
    // Beyond the largest request it is an error, said before the connection closes.
    let login = client.login.clone();
    let too_large = sign_item(&pair.private, rsa_sha_256(), &vec![0; 1 << 20]);
    client.try_send(&Request { login, ..Request::new(vec![too_large]) }.encode());
    let answer = Response::read(&client.receive().expect("an answer"));
    answer.single().is_refused_as_a_whole(reason::INVALID_MESSAGE);
    assert!(client.is_closed());
}

#[test]
fn fault_08_failed_items_keep_their_ids_and_versions_are_echoed() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let items = vec![
        Item::new(operation::GET, vec![unique_identifier("nobody")]).with_id(b"first"),
        Item::new(operation::CREATE, vec![]).with_id(&[0, 255, 128]),
        Item::new(operation::SIGN, vec![malformed(tags::UNIQUE_IDENTIFIER, 2, 3, &[1; 8])]).with_id(b"third"),
    ];
    let request = Request { continuation: Some(continuation::CONTINUE), ..client.request(items) };
    let response = client.ask(&request);
    let echoed: Vec<_> = response.answers.iter().map(|answer| (answer.operation, answer.id.clone().unwrap())).collect();
    let expected = [
        (Some(operation::GET), b"first".to_vec()),
        (Some(operation::CREATE), vec![0, 255, 128]),
        (Some(operation::SIGN), b"third".to_vec()),
    ];
    assert_eq!(echoed, expected);

    let mut stranger = Client::connect_as(&bridge, None);
    for minor in 0..=4 {
        stranger.version = (1, minor);
        // `call` holds that the response has the version of the request.
        let answer =
            stranger.call(Item::new(operation::QUERY, vec![enumeration(tags::QUERY_FUNCTION, query::OPERATIONS)]));
        let operations = answer.payload().all(tags::OPERATION);
        assert!(operations.iter().any(|node| node.as_enumeration() == operation::MODIFY_ATTRIBUTE));
        if minor > 0 {
            stranger.ok(operation::DISCOVER_VERSIONS, vec![protocol_version((1, minor))]);
        }
    }
}

#[test]
fn fault_09_an_ecdsa_length_picks_its_curve_or_is_refused() {
    let token = Token::create();
    if token.cannot_make(&KeySpec::ecdsa(521)) {
        return;
    }
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    for (bits, curve) in [(256, "P-256"), (384, "P-384"), (521, "P-521")] {
        let pair = client.create_key_pair(&KeySpec::ecdsa(bits).named(curve));
        let description = public_key(&client.get_public(&pair.public, None)).description();
        assert!(description.contains(&format!("NIST CURVE: {curve}")), "{description}");
    }
    for bits in [0, 1, 160, 255, 383, 385, 512, 520, 522] {
        client.call(KeySpec::ecdsa(bits).item()).is_refused(reason::INVALID_FIELD);
    }
    assert_eq!(token.objects().len(), 6);
}

#[test]
fn fault_10_a_wrong_pin_learns_nothing_of_the_token() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let functions = [query::OPERATIONS, query::OBJECTS, query::SERVER_INFORMATION];
    let item = || {
        let functions = functions.iter().map(|&function| enumeration(tags::QUERY_FUNCTION, function));
        Item::new(operation::QUERY, functions.collect())
    };
    let serial = token.serial();
    // Before and after somebody else's login; a token that is there and one that is not.
    for round in 0..2 {
        let mut answers = Vec::new();
        for (label, pin) in [(token.label.as_str(), "wrong"), ("no-such-token", "wrong"), (&serial, "wrong")] {
            let mut stranger = Client::connect_as(&bridge, Some((label, pin)));
            let request = stranger.request(vec![item()]);
            stranger.send(&request.encode());
            let bytes = stranger.receive_bytes().unwrap();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            for secret in [token.label.as_str(), &serial, "SoftHSM", "softhsm", "slot"] {
                assert!(!text.contains(secret) || secret == label, "{secret:?} in the answer to {label:?}: {text:?}");
            }
            let answer = Response::read(&support::ttlv::Node::decode(&bytes).unwrap()).single().clone();
            answers.push((answer.status, answer.reason, answer.message));
        }
        assert_eq!(answers[0], answers[1], "round {round}: a stranger can tell which tokens exist");
        Client::connect(&bridge, &token).random(1);
    }
}

#[test]
fn fault_11_revoke_and_destroy_clean_up_after_a_key_roll() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    for spec in KeySpec::each(&token) {
        let (old, new) = (client.create_key_pair(&spec), client.create_key_pair(&spec));
        client.revoke(&old.private);
        client.on_object(operation::DESTROY, &old.private);
        client.on_object(operation::DESTROY, &old.public);
        assert_eq!(token.objects().len(), 2);
        client.sign(&new.private, spec.parameters(), b"data");
        client.on_object(operation::DESTROY, &new.private);
        client.on_object(operation::DESTROY, &new.public);
        assert_eq!(token.objects().len(), 0);
    }
}

#[test]
fn fault_12_more_clients_than_sessions_wait_their_turn() {
    let token = Token::create();
    if Spy::is_blind(&token) {
        return;
    }
    let spy = Spy::new();
    let options = Options { pkcs11: "max-sessions = 2".to_string(), ..spy.options() };
    let mut bridge = Bridge::start_with(&token, options);
    let pair = Client::connect(&bridge, &token).create_key_pair(&KeySpec::rsa(2048));
    thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| {
                let mut client = Client::connect(&bridge, &token);
                for _ in 0..10 {
                    client.sign(&pair.private, rsa_sha_256(), b"data");
                }
            });
        }
    });
    // Two to lend, and the one whose end would log the token out.
    assert!(spy.open_sessions() <= 3, "{} sessions", spy.open_sessions());
    assert!(bridge.is_alive());
}
