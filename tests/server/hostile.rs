//! What the others see when one client misbehaves: nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use cascade_hsm_bridge::bridge::After;
use cascade_hsm_bridge::server::Settings;

use crate::harness::*;

const SHORT: Duration = Duration::from_millis(150);

/// The server still serves, and what went wrong left no connection behind.
fn is_unharmed(bench: &Bench) {
    eventually(|| bench.running.connections() == 0);
    assert_eq!(ask(&mut bench.client(), "still there"), "still there");
}

#[test]
fn fault_4_a_client_that_says_nothing_blocks_no_other() {
    let bench = Bench::start(echo(), |_| {});
    let silent: Vec<TcpStream> = (0..20).map(|_| bench.tcp()).collect();
    eventually(|| bench.running.connections() == silent.len());
    assert_eq!(ask(&mut bench.client(), "x"), "x");
    assert!(bench.running.connections() >= silent.len());
}

#[test]
fn fault_2_a_client_that_resets_before_its_response_harms_no_one() {
    let (asked, wait_for_asked) = channel();
    let (release, wait_for_release) = channel::<()>();
    let hands = Mutex::new((asked, wait_for_release));
    let service = Answering(move |request: &[u8]| {
        if request.starts_with(&message(b"reset")) {
            let (asked, released) = &*hands.lock().unwrap();
            asked.send(()).unwrap();
            released.recv().unwrap();
        }
        (request.to_vec(), After::KeepOpen)
    });
    let bench = Bench::start(Arc::new(service), |_| {});
    for _ in 0..5 {
        let mut client = bench.client();
        client.write_all(&message(b"reset")).unwrap();
        client.flush().unwrap();
        wait_for_asked.recv().unwrap();
        reset(client);
        release.send(()).unwrap();
        is_unharmed(&bench);
    }
}

#[test]
fn fault_7_a_request_that_is_too_large_is_answered() {
    // Nobody is authenticated here.
    let largest = Settings::DEFAULT_MAX_REQUEST_SIZE;
    let bench = Bench::start(echo(), |settings| settings.max_unauthenticated_request_size = largest);
    for size in [largest + 8, 2 * largest, 8 * largest] {
        let mut client = bench.client();
        // All of it is sent before the answer is looked for, as a blocking client does.
        client.write_all(&message(&vec![b'x'; size - 8])).unwrap();
        client.flush().unwrap();
        assert_eq!(
            read_message(&mut client),
            format!("message of {size} bytes is larger than the limit of {largest} bytes")
        );
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }
    is_unharmed(&bench);
}

#[test]
fn refuses_a_frame_as_soon_as_its_header_is_there() {
    let bench = Bench::start(echo(), |_| {});
    for header in [[0x42, 0, 0x78, 1, 0xff, 0xff, 0xff, 0xf8], [0x42, 0, 0x78, 1, 0, 0, 0, 7], *b"GET / HT"] {
        let mut client = bench.client();
        client.write_all(&header).unwrap();
        assert!(read_message(&mut client).starts_with("message "));
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }
    is_unharmed(&bench);
}

#[test]
fn answers_what_came_before_a_bad_frame() {
    let bench = Bench::start(echo(), |_| {});
    let mut client = bench.client();
    let mut both = message(b"good");
    both.extend([0; 16]);
    client.write_all(&both).unwrap();
    assert_eq!(read_message(&mut client), "good");
    assert!(read_message(&mut client).starts_with("message does not begin with a Request Message"));
    assert!(is_closed(&mut client));
}

#[test]
fn a_peer_that_is_refused_and_sends_for_ever_is_cut_off() {
    let bench = Bench::start(echo(), |settings| settings.request_timeout = SHORT);
    let mut client = bench.client();
    let sender = thread::spawn(move || while client.write_all(&[0xff; 16384]).is_ok() {});
    sender.join().unwrap();
    is_unharmed(&bench);
}

#[test]
fn tells_plain_text_and_garbage_by_an_alert_and_closes() {
    let bench = Bench::start(echo(), |_| {});
    let plain_kmip = message(&[b'x'; 400]);
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 5000], &[0xff; 9], &plain_kmip] {
        let mut socket = bench.tcp();
        socket.write_all(garbage).unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap();
        // TLS record type 21: alert.
        assert_eq!(answer.first(), Some(&21), "{garbage:?}");
    }
    is_unharmed(&bench);
}

#[test]
fn ends_a_handshake_that_takes_too_long() {
    let bench = Bench::start(echo(), |settings| settings.handshake_timeout = SHORT);
    let mut silent = bench.tcp();
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    // A TLS record of 16 KiB announced, and coming a byte at a time.
    let mut socket = bench.tcp();
    socket.write_all(&[22, 3, 1, 0x40, 0]).unwrap();
    socket.write_all(&[1, 0, 0x3f, 0xf0]).unwrap();
    let trickling = trickle(socket.try_clone().unwrap());
    assert!(is_closed(&mut socket));
    trickling.join().unwrap();
    is_unharmed(&bench);
}

#[test]
fn ends_a_connection_without_requests() {
    let bench = Bench::start(echo(), |settings| settings.idle_timeout = SHORT);
    let mut client = bench.client();
    assert_eq!(ask(&mut client, "x"), "x");
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    is_unharmed(&bench);
}

#[test]
fn ends_a_request_that_trickles_in() {
    let bench = Bench::start(echo(), |settings| settings.request_timeout = SHORT);
    let mut client = bench.client();
    client.write_all(&message(&[b'x'; 100_000])[..8]).unwrap();
    trickle(client).join().unwrap();
    is_unharmed(&bench);
}

#[test]
fn ends_a_connection_that_does_not_take_its_response() {
    let service = Answering(|request: &[u8]| match request.len() {
        16 => (message(&vec![b'x'; 32 << 20]), After::KeepOpen),
        _ => (request.to_vec(), After::KeepOpen),
    });
    let bench = Bench::start(Arc::new(service), |settings| settings.write_timeout = SHORT);
    let mut client = bench.client();
    client.write_all(&message(b"flood me")).unwrap();
    client.flush().unwrap();
    is_unharmed(&bench);
}

#[test]
fn a_panic_costs_one_connection() {
    let service = Answering(|request: &[u8]| {
        assert!(!request.starts_with(&message(b"panic")), "as the test wants it");
        (request.to_vec(), After::KeepOpen)
    });
    let bench = Bench::start(Arc::new(service), |settings| settings.max_connections = 2);
    let mut bystander = bench.client();
    for _ in 0..5 {
        let mut client = bench.client();
        client.write_all(&message(b"panic")).unwrap();
        assert!(is_closed(&mut client));
        eventually(|| bench.running.connections() == 1);
        assert_eq!(ask(&mut bystander, "x"), "x");
    }
}

#[test]
fn closes_connections_over_the_limit_and_serves_again_below_it() {
    let bench = Bench::start(echo(), |settings| settings.max_connections = 3);
    let mut clients: Vec<Client> = (0..3).map(|_| bench.client()).collect();
    for _ in 0..10 {
        assert!(is_closed(&mut bench.tcp()));
    }
    for client in &mut clients {
        assert_eq!(ask(client, "x"), "x");
    }
    clients.pop();
    eventually(|| bench.running.connections() == 2);
    assert_eq!(ask(&mut bench.client(), "x"), "x");
}

#[test]
fn a_client_that_goes_away_in_the_middle_of_anything_leaves_nothing() {
    let bench = Bench::start(echo(), |_| {});
    let request = message(b"whole");
    for len in 0..request.len() {
        let mut client = bench.client();
        client.write_all(&request[..len]).unwrap();
        client.flush().unwrap();
        match len % 3 {
            0 => reset(client),
            1 => half_close(&client.sock),
            _ => drop(client),
        }
    }
    for len in 0..6 {
        bench.tcp().write_all(&[22, 3, 1, 0, 200, 1][..len]).unwrap();
    }
    is_unharmed(&bench);
}
