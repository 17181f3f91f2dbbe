//! Connections that ended leave no thread and no descriptor behind. In a process of its own, as both are counted by process.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, dead_code, missing_docs)]

#[path = "server/harness.rs"]
mod harness;

use std::fs;
use std::io::Write;

use harness::*;

fn count(what: &str) -> usize {
    fs::read_dir(format!("/proc/self/{what}")).unwrap().count()
}

#[test]
fn two_hundred_connections_leave_nothing_behind() {
    let threads = count("task");
    let bench = Bench::start(echo(), |_| {});
    assert_eq!(ask(&mut bench.client(), "x"), "x");
    eventually(|| bench.running.connections() == 0 && count("task") == threads + 1);
    let before = (count("task"), count("fd"));
    for round in 0..50 {
        let mut together: Vec<Client> = (0..4).map(|_| bench.client()).collect();
        for client in &mut together {
            assert_eq!(ask(client, "x"), "x");
        }
        assert!(count("fd") > before.1 && count("task") > before.0);
        for (number, mut client) in together.into_iter().enumerate() {
            match (round + number) % 4 {
                0 => {
                    client.conn.send_close_notify();
                    client.flush().unwrap();
                }
                1 => client.write_all(b"garbage, not KMIP").unwrap(),
                2 => drop(client.sock.write_all(b"garbage, not TLS")),
                _ => {}
            }
        }
    }
    eventually(|| bench.running.connections() == 0);
    // A thread's entry goes shortly after the thread has.
    eventually(|| (count("task"), count("fd")) == before);
    let harness::Bench { running, .. } = bench;
    running.stop();
    eventually(|| count("task") == threads);
    assert_eq!(count("fd"), before.1 - 1);
}
