//! What strangers hold of places, time and memory until they show that they may use a token.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use cascade_hsm_bridge::bridge::{After, Service};

use crate::harness::*;

const SHORT: Duration = Duration::from_millis(150);

/// Takes "PIN" for proof.
fn proving() -> Arc<dyn Service> {
    Arc::new(Answering(|request: &[u8]| {
        let proves = request.starts_with(&message(b"PIN")[..11]);
        (request.to_vec(), if proves { After::KeepOpenProven } else { After::KeepOpen })
    }))
}

#[test]
fn a_thousand_silent_peers_keep_no_client_out() {
    let bench = Bench::start(proving(), |settings| settings.max_unauthenticated = 16);
    let mut proven = bench.client();
    assert_eq!(ask(&mut proven, "PIN"), "PIN");
    let mut silent: Vec<TcpStream> = Vec::new();
    for round in 0..1000 {
        silent.push(bench.tcp());
        if round % 100 == 0 {
            assert_eq!(ask(&mut bench.client(), "PIN"), "PIN");
            assert_eq!(ask(&mut proven, "still here"), "still here");
        }
    }
    eventually(|| bench.running.connections() == 17);
    assert!(silent.iter_mut().take(900).all(is_closed));
    assert_eq!(ask(&mut proven, "still here"), "still here");
}

#[test]
fn one_address_has_no_more_than_its_share_of_connections() {
    let bench = Bench::start(proving(), |settings| settings.max_connections_per_peer = 3);
    let mut clients: Vec<Client> = (0..3).map(|_| bench.client()).collect();
    for _ in 0..10 {
        assert!(is_closed(&mut bench.tcp()));
    }
    for client in &mut clients {
        assert_eq!(ask(client, "PIN"), "PIN");
    }
    clients.pop();
    eventually(|| bench.running.connections() == 2);
    assert_eq!(ask(&mut bench.client(), "PIN"), "PIN");
}

#[test]
fn a_client_has_to_authenticate_in_time_however_much_it_says() {
    let bench = Bench::start(proving(), |settings| settings.unauthenticated_timeout = SHORT);
    let mut silent = bench.tcp();
    let mut half = bench.client();
    half.write_all(&message(&[b'x'; 1000])[..500]).unwrap();
    let mut proven = bench.client();
    assert_eq!(ask(&mut proven, "PIN"), "PIN");
    let mut talker = bench.client();
    let request = message(b"who are you");
    while talker.write_all(&request).and_then(|()| talker.read_exact(&mut vec![0; request.len()])).is_ok() {}
    assert!(is_closed(&mut silent));
    assert!(is_closed(&mut half));
    assert_eq!(ask(&mut proven, "no hurry"), "no hurry");
}

#[test]
fn the_time_that_an_answer_takes_is_not_the_clients() {
    let service = Answering(|request: &[u8]| {
        std::thread::sleep(2 * SHORT);
        (request.to_vec(), After::KeepOpen)
    });
    let bench = Bench::start(Arc::new(service), |settings| settings.unauthenticated_timeout = 2 * SHORT);
    let mut client = bench.client();
    assert_eq!(ask(&mut client, "one"), "one");
    assert_eq!(ask(&mut client, "two"), "two");
}

#[test]
fn large_requests_are_for_those_who_have_authenticated() {
    let bench = Bench::start(proving(), |_| {});
    let large = format!("PIN{}", "x".repeat(70_000));
    let mut stranger = bench.client();
    assert_eq!(ask(&mut stranger, "hello"), "hello");
    assert!(ask(&mut stranger, &large).starts_with("message of 70"), "it was served");
    assert!(is_closed(&mut stranger));
    let mut client = bench.client();
    assert_eq!(ask(&mut client, "PIN"), "PIN");
    assert!(ask(&mut client, &large) == large);
}

#[test]
fn a_peer_that_sends_new_keys_and_nothing_else_is_cut_off() {
    let bench = Bench::start(proving(), |_| {});
    let mut client = bench.client();
    assert_eq!(ask(&mut client, "PIN"), "PIN");
    // Requests with new keys between them are well.
    for _ in 0..50 {
        client.conn.refresh_traffic_keys().unwrap();
        assert_eq!(ask(&mut client, "x"), "x");
    }
    while client.conn.refresh_traffic_keys().map(|()| client.flush()).is_ok_and(|sent| sent.is_ok()) {}
    eventually(|| bench.running.connections() == 0);
}
