//! Many peers at once, and what runs out when they come.

use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::stage::Stage;
use crate::support::message::Item;
use crate::support::tags::operation;
use crate::support::{Bridge, Client, Response};

#[test]
fn ten_thousand_connections_come_and_go() {
    let mut stage = Stage::set("");
    stage.withstands(|stage| {
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut held = Vec::new();
                    while next.fetch_add(1, Ordering::Relaxed) < 10_000 {
                        held.push(stage.tcp());
                        if held.len() == 20 {
                            held.clear();
                        }
                    }
                });
            }
        });
    });
}

#[test]
fn a_flood_of_wrong_pins_lets_the_right_one_through() {
    let mut stage = Stage::set("");
    stage.withstands(|stage| {
        let until = Instant::now() + Duration::from_secs(3);
        thread::scope(|scope| {
            for worker in 0..4 {
                scope.spawn(move || {
                    let mut number = 0_u32;
                    while Instant::now() < until {
                        let pin = format!("wrong-{worker}-{number}");
                        number += 1;
                        let mut client = Client::connect_as(&stage.bridge, Some((&stage.token.label, &pin)));
                        let request = client.request(vec![Item::new(operation::QUERY, vec![])]).encode();
                        for _ in 0..5 {
                            if !client.try_send(&request) {
                                break;
                            }
                            let Some(answer) = client.receive() else { break };
                            assert_eq!(Response::read(&answer).single().status, 1);
                        }
                    }
                });
            }
        });
    });
}

#[test]
fn a_thousand_silent_peers_keep_no_new_client_out() {
    let mut stage = Stage::set("max-unauthenticated = 64\n");
    stage.withstands(|stage| {
        // They stay, all at once. They come slowly enough that no newcomer is the oldest of 64 before its handshake is done: from one
        // address, faster ones would push out anybody.
        let come = |_| {
            thread::sleep(Duration::from_millis(5));
            stage.tcp()
        };
        let peers: Vec<TcpStream> = (0..1000).map(come).collect();
        for _ in 0..10 {
            Client::connect(&stage.bridge, &stage.token).random(1);
        }
        drop(peers);
    });
}

/// Sets limits of the running bridge, soft ones, so that they can be lifted again.
fn limit(bridge: &Bridge, what: &str) {
    let status = Command::new("prlimit").arg(what).arg("--pid").arg(bridge.pid().to_string()).status();
    assert!(status.expect("prlimit runs").success());
}

fn status_kib(bridge: &Bridge, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", bridge.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.trim_matches([':', '\t', ' ']).trim_end_matches(" kB").parse().unwrap()
}

/// The good client's own connection lives on; new ones are refused, and taken again when the scarcity is over.
fn refuses_only_new_connections(stage: &mut Stage, limits: &str, lifted: &str) {
    let mut old = Client::connect(&stage.bridge, &stage.token);
    old.sign(&stage.key, stage.token.sign_parameters(), b"before");
    limit(&stage.bridge, limits);
    let mut held = Vec::new();
    for number in 0..100_usize {
        held.push(stage.tcp());
        old.sign(&stage.key, stage.token.sign_parameters(), &number.to_be_bytes());
    }
    assert!(stage.bridge.is_alive());
    drop(held);
    limit(&stage.bridge, lifted);
    old.sign(&stage.key, stage.token.sign_parameters(), b"after");
    Client::connect(&stage.bridge, &stage.token).sign(&stage.key, stage.token.sign_parameters(), b"a new one");
}

#[test]
fn running_out_of_descriptors_or_memory_refuses_new_connections_only() {
    let mut stage = Stage::set("");
    let descriptors = stage.bridge.descriptors() + 40;
    refuses_only_new_connections(&mut stage, &format!("--nofile={descriptors}:"), "--nofile=4096:");
    assert!(stage.bridge.log().contains("open files are for the module"), "descriptors did not run out");
    let address_space = (status_kib(&stage.bridge, "VmSize") + 24 * 1024) * 1024;
    refuses_only_new_connections(&mut stage, &format!("--as={address_space}:"), "--as=unlimited:");
    assert!(
        stage.bridge.log().contains("which are closed: Resource temporarily unavailable"),
        "memory did not run out"
    );
}
