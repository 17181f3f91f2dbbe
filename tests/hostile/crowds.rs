//! Many peers at once, and what runs out when they come.

use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::stage::Stage;
use crate::support::bridge::{Elsewhere, Options};
use crate::support::hsm::skipped;
use crate::support::message::Item;
use crate::support::tags::{operation, reason};
use crate::support::{Bridge, Client};

#[test]
fn ten_thousand_connections_come_and_go() {
    if has_no_second_address() {
        return;
    }
    // The bridge may be slower in taking leave of those that have gone than others are in coming: too many of one address push each
    // other out, so that these have another one than who signs.
    let mut stage = Stage::with(Options { address: Some("[::]:0"), ..Options::default() });
    stage.withstands(|stage| {
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut held = Vec::new();
                    while next.fetch_add(1, Ordering::Relaxed) < 10_000 {
                        held.push(TcpStream::connect(stage.elsewhere).expect("a connection"));
                        if held.len() == 20 {
                            held.clear();
                        }
                    }
                });
            }
        });
    });
}

fn has_no_second_address() -> bool {
    let lacks = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err();
    skipped(lacks, "this machine has no second loopback address")
}

/// Guesses PINs from another address than the right ones come from, each of which is a login by a new connection or on one that is kept.
fn guess(rounds: usize, server: &str) {
    if has_no_second_address() {
        return;
    }
    let server = server.to_owned();
    let mut stage = Stage::with(Options { address: Some("[::]:0"), server, ..Options::default() });
    stage.withstands(|stage| {
        let elsewhere = Elsewhere(&stage.bridge, stage.elsewhere);
        let guess = |name: &str| {
            let mut client = Client::connect_as(&elsewhere, None);
            for number in 0..5 {
                client.login = Some((stage.token.label.clone(), format!("wrong-{name}-{number}")));
                client.call(Item::new(operation::LOCATE, vec![])).is_refused(reason::AUTHENTICATION_NOT_SUCCESSFUL);
            }
        };
        thread::scope(|scope| {
            for worker in 0..32 {
                scope.spawn(move || (0..rounds).for_each(|round| guess(&format!("{worker}-{round}"))));
            }
        });
    });
    let log = stage.bridge.log();
    let refused: Vec<&str> = log.lines().filter(|line| line.contains("login refused")).collect();
    assert!(!refused.is_empty() && refused.iter().all(|line| line.contains("[::1]:")), "{refused:?}");
}

#[test]
fn a_flood_of_wrong_pins_lets_the_right_one_through() {
    guess(20, "");
}

#[test]
fn a_flood_of_wrong_pins_that_are_all_judged_lets_the_right_one_through() {
    guess(2, "failed-login-pause = 0\nmax-failed-logins-per-minute = 0");
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
    // What is held is to stay, however long it takes to come.
    let server = "handshake-timeout = 600\nunauthenticated-timeout = 600".to_owned();
    let mut stage = Stage::with(Options { server, ..Options::default() });
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
