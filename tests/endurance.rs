//! Long use leaves nothing behind: descriptors, threads, sessions and memory are counted before and after.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::thread;
use std::time::{Duration, Instant};

use support::key::rsa_sha_256;
use support::spy::Spy;
use support::tags::operation;
use support::{Bridge, Client, KeySpec, Token};

/// What memory may grow by, in KiB, once everything has been used once: allocators keep some slack.
const SLACK: u64 = 2 * 1024;

/// Descriptors and threads.
fn held(bridge: &Bridge) -> (usize, usize) {
    (bridge.descriptors(), bridge.threads())
}

/// Waits until connections that were closed here are gone there, too.
fn settles_at(bridge: &Bridge, expected: (usize, usize)) {
    let since = Instant::now();
    while held(bridge) != expected {
        assert!(since.elapsed() < Duration::from_secs(60), "{:?} instead of {expected:?}", held(bridge));
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn two_thousand_signatures_over_one_connection_leave_nothing_behind() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let pair = client.create_key_pair(&KeySpec::any(&token));
    let mut sign = |number: usize| client.sign(&pair.private, token.sign_parameters(), &number.to_be_bytes());
    (0..500).for_each(|number| drop(sign(number)));
    let (before, memory) = (held(&bridge), bridge.resident());
    (0..2000).for_each(|number| drop(sign(number)));
    settles_at(&bridge, before);
    let grown = bridge.resident().saturating_sub(memory);
    assert!(grown < SLACK, "{grown} KiB more after 2,000 signatures");
}

#[test]
fn two_hundred_connections_leave_nothing_behind() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut first = Client::connect(&bridge, &token);
    let pair = first.create_key_pair(&KeySpec::any(&token));
    // With one connection open, so that the token's sessions and caches are there already.
    let idle = held(&bridge);
    let visit = |number: usize| {
        let mut client = Client::connect(&bridge, &token);
        client.sign(&pair.private, token.sign_parameters(), &number.to_be_bytes());
        if number % 2 == 0 {
            // In the middle of a message.
            client.send(&[0x42, 0x00, 0x78, 0x01, 0x00]);
        }
    };
    (0..20).for_each(visit);
    settles_at(&bridge, idle);
    let memory = bridge.resident();
    (0..200).for_each(visit);
    settles_at(&bridge, idle);
    let grown = bridge.resident().saturating_sub(memory);
    assert!(grown < SLACK, "{grown} KiB more after 200 connections");
}

#[test]
fn keys_come_and_go_beside_others_that_sign() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let pair = Client::connect(&bridge, &token).create_key_pair(&KeySpec::any(&token));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::connect(&bridge, &token);
                for number in 0..100_usize {
                    client.sign(&pair.private, token.sign_parameters(), &number.to_be_bytes());
                }
            });
        }
        for name in ["one", "two", "three", "four"] {
            let (bridge, token) = (&bridge, &token);
            scope.spawn(move || {
                let mut client = Client::connect(bridge, token);
                for _ in 0..10 {
                    let own = client.create_key_pair(&KeySpec::any(token).named(name));
                    client.call(Client::rename_item(&own.private, &format!("{name}-renamed"))).payload();
                    client.sign(&own.private, token.sign_parameters(), b"data");
                    client.on_object(operation::DESTROY, &own.private);
                    client.on_object(operation::DESTROY, &own.public);
                }
            });
        }
    });
    assert_eq!(token.objects().len(), 2);
}

#[test]
fn sessions_are_given_back() {
    let token = Token::create();
    if Spy::is_blind(&token) {
        return;
    }
    let spy = Spy::new();
    let bridge = Bridge::start_with(&token, spy.options());
    let mut client = Client::connect(&bridge, &token);
    let pair = client.create_key_pair(&KeySpec::rsa(2048));
    client.sign(&pair.private, rsa_sha_256(), b"data");
    let (open, opened) = (spy.open_sessions(), spy.calls("C_OpenSession"));
    assert!(open >= 1, "the spy is not asked");
    for number in 0..2000_usize {
        client.sign(&pair.private, rsa_sha_256(), &number.to_be_bytes());
    }
    for number in 0..200_usize {
        Client::connect(&bridge, &token).sign(&pair.private, rsa_sha_256(), &number.to_be_bytes());
    }
    assert_eq!(spy.open_sessions(), open);
    assert_eq!(spy.calls("C_OpenSession"), opened, "sessions are not used again");
    assert_eq!(spy.calls("C_Login"), 1);
    let (status, log) = bridge.stop();
    assert!(status.success(), "{status}: {log}");
    assert_eq!(spy.calls("C_Finalize"), 1);
}
