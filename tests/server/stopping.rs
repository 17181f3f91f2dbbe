//! How the server stops.

use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use cascade_hsm_bridge::bridge::{After, Service};

use crate::harness::*;

/// A service that tells of each request, and answers it when released.
fn held() -> (Arc<dyn Service>, Receiver<()>, Sender<()>) {
    let (asked, wait_for_asked) = channel();
    let (release, wait_for_release) = channel();
    let hands = Mutex::new((asked, wait_for_release));
    let service = Answering(move |request: &[u8]| {
        let (asked, released) = &*hands.lock().unwrap();
        asked.send(()).unwrap();
        let _ = released.recv();
        (request.to_vec(), After::KeepOpen)
    });
    (Arc::new(service), wait_for_asked, release)
}

#[test]
fn lets_the_request_in_hand_finish_and_ends_the_idle() {
    let (service, asked, release) = held();
    let bench = Bench::start(service, |_| {});
    let mut idle = bench.client();
    let mut shaking_hands = bench.tcp();
    let mut busy = bench.client();
    busy.write_all(&message(b"in hand")).unwrap();
    busy.flush().unwrap();
    asked.recv().unwrap();
    let address = bench.address;
    let stopping = thread::spawn(move || bench.running.stop());
    assert_eq!(idle.read(&mut [0]).unwrap(), 0);
    assert!(is_closed(&mut shaking_hands));
    eventually(|| std::net::TcpStream::connect(address).is_err());
    assert!(!stopping.is_finished());
    release.send(()).unwrap();
    assert_eq!(read_message(&mut busy), "in hand");
    assert_eq!(busy.read(&mut [0]).unwrap(), 0);
    assert_eq!(stopping.join().unwrap(), 0);
}

#[test]
fn cuts_off_what_does_not_finish_in_time() {
    let (service, asked, release) = held();
    let bench = Bench::start(service, |settings| settings.drain_timeout = Duration::from_millis(50));
    let mut busy = bench.client();
    busy.write_all(&message(b"for ever")).unwrap();
    busy.flush().unwrap();
    asked.recv().unwrap();
    assert_eq!(bench.running.stop(), 1);
    assert!(is_closed(&mut busy));
    drop(release);
}

#[test]
fn a_request_begun_before_the_stop_is_answered() {
    let bench = Bench::start(echo(), |_| {});
    let mut client = bench.client();
    let request = message(b"begun");
    // One whole request first, so that it is known where the connection is.
    assert_eq!(ask(&mut client, "x"), "x");
    client.write_all(&[&message(b"first")[..], &request[..9]].concat()).unwrap();
    assert_eq!(read_message(&mut client), "first");
    thread::scope(|scope| {
        let running = bench.running;
        let address = bench.address;
        let stopping = scope.spawn(move || running.stop());
        eventually(|| std::net::TcpStream::connect(address).is_err());
        client.write_all(&request[9..]).unwrap();
        assert_eq!(read_message(&mut client), "begun");
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        assert_eq!(stopping.join().unwrap(), 0);
    });
}

#[test]
fn lets_go_of_the_service_and_the_address() {
    let service = echo();
    let bench = Bench::start(Arc::clone(&service), |_| {});
    let clients: Vec<Client> = (0..10).map(|_| bench.client()).collect();
    assert_eq!(bench.running.stop(), 0);
    assert_eq!(Arc::strong_count(&service), 1);
    std::net::TcpListener::bind(bench.address).unwrap();
    drop(clients);
}

#[test]
fn stops_when_nothing_ever_connected() {
    let bench = Bench::start(echo(), |_| {});
    assert_eq!(bench.running.stop(), 0);
}
