//! What clients see of a module that misbehaves: the program itself, on the module that does so on command.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::thread;
use std::time::{Duration, Instant};

use support::bridge::Options;
use support::key::{ecdsa_sha_256, sign_item};
use support::tags::{continuation, operation, reason};
use support::{Bridge, Client, Faulty, KeySpec, Request, Response, Token};

/// Waits for what takes a while, and for ever only if something is wrong.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < Duration::from_secs(60), "never: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A bridge that gives a call to the module a second.
fn impatient(faulty: &Faulty, token: &Token) -> Bridge {
    Bridge::start_with(token, Options { pkcs11: "call-timeout = 1".to_string(), ..faulty.options() })
}

#[test]
fn a_call_that_hangs_is_answered_with_an_error_at_the_deadline() {
    let (token, faulty) = (Token::create(), Faulty::new());
    let mut bridge = impatient(&faulty, &token);
    let mut good = Client::connect(&bridge, &token);
    let pair = good.create_key_pair(&KeySpec::ecdsa(256));
    let threads = bridge.threads();
    faulty.play("[[fault]]\nfunction = \"C_Sign\"\nquery = false\nhang = true\n");
    let mut stuck: Vec<Client> = (0..3).map(|_| Client::connect(&bridge, &token)).collect();
    for (minor, client) in [0, 2, 4].into_iter().zip(&mut stuck) {
        client.version = (1, minor);
        let item = sign_item(&pair.private, ecdsa_sha_256(), b"data").with_id(b"mine");
        // Signing came with 1.2: of a version that has none, something else has to hang.
        let item = if minor == 0 { KeySpec::ecdsa(256).item().with_id(b"mine") } else { item };
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
        good.sign(&pair.private, ecdsa_sha_256(), b"data");
    }
    drop(stuck);
    until("the threads end", || bridge.threads() == threads);
    assert!(bridge.is_alive());
    let (status, log) = bridge.stop();
    assert!(status.success() && !log.contains("panic"), "{log}");
}

#[test]
fn a_batch_that_hangs_tells_what_was_done_and_does_no_more() {
    let (token, faulty) = (Token::create(), Faulty::new());
    let bridge = impatient(&faulty, &token);
    let mut good = Client::connect(&bridge, &token);
    let pair = good.create_key_pair(&KeySpec::ecdsa(256));
    for option in [None, Some(continuation::CONTINUE)] {
        let destroyed = faulty.count("C_DestroyObject");
        faulty.play("[[fault]]\nfunction = \"C_GenerateKeyPair\"\nhang = true\nnext = 1\n");
        let mut client = Client::connect(&bridge, &token);
        let items = vec![
            sign_item(&pair.private, ecdsa_sha_256(), b"data").with_id(b"first"),
            KeySpec::ecdsa(256).named("second").item().with_id(b"second"),
            KeySpec::ecdsa(256).named("third").item().with_id(b"third"),
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
    assert!(audit.iter().any(|line| line.contains("has not answered in time")), "{audit:?}");
    assert!(audit.iter().any(|line| line.contains("removed again")), "{audit:?}");
    assert!(!audit.iter().any(|line| line.contains("third")), "{audit:?}");
}
