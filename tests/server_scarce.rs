//! What the server says and does when places or descriptors run out. In a process of its own, which it starves.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, dead_code, missing_docs)]

#[path = "server/harness.rs"]
mod harness;

use std::fs::File;
use std::io::Write;
use std::process::Command;
use std::sync::{Arc, Mutex};

use cascade_hsm_bridge::bridge::After;
use harness::*;
use log::{LevelFilter, Log, Metadata, Record};

/// All lines at INFO and above.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Keeping;

impl Log for Keeping {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if record.target().starts_with("cascade_hsm_bridge") {
            LINES.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

fn lines_with(part: &str) -> usize {
    LINES.lock().unwrap().iter().filter(|line| line.contains(part)).count()
}

#[test]
fn tells_once_of_each_scarcity_and_goes_on_after_it() {
    log::set_logger(&Keeping).unwrap();
    log::set_max_level(LevelFilter::Info);
    let service = Answering(|request: &[u8]| {
        assert!(!request.starts_with(&message(b"panic with the PIN")), "PIN 1234");
        (request.to_vec(), After::KeepOpen)
    });
    let bench = Bench::start(Arc::new(service), |settings| settings.max_connections = 4);

    // Places.
    let mut clients: Vec<Client> = (0..4).map(|_| bench.client()).collect();
    for _ in 0..20 {
        assert!(is_closed(&mut bench.tcp()));
    }
    assert_eq!(lines_with("all 4 connections are taken"), 1);
    clients.clear();
    eventually(|| bench.running.connections() == 0);
    assert_eq!(lines_with("there is room for connections again; 20 were closed unserved"), 1);

    // Descriptors.
    let limit = Command::new("prlimit").args(["--nofile=64:", "--pid", &std::process::id().to_string()]).status();
    assert!(limit.unwrap().success());
    let mut hoard: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    hoard.pop();
    let mut waiting = bench.tcp();
    eventually(|| lines_with("cannot accept connections, will go on trying: Too many open files") == 1);
    hoard.clear();
    waiting.write_all(b"not TLS at all").unwrap();
    assert!(!is_closed(&mut waiting), "there was to be an alert");
    assert_eq!(ask(&mut bench.client(), "x"), "x");
    assert_eq!(lines_with("accepting connections again"), 1);
    assert_eq!(lines_with("cannot accept"), 1);

    // A bug.
    let mut client = bench.client();
    client.write_all(&message(b"panic with the PIN")).unwrap();
    assert!(is_closed(&mut client));
    eventually(|| lines_with("a panic") == 1);
    assert_eq!(lines_with("PIN"), 0);

    // Nothing else was worth a line at INFO.
    assert_eq!(LINES.lock().unwrap().len(), 5, "{:?}", LINES.lock().unwrap());
}
