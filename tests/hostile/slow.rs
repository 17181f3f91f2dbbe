//! Peers that say nothing, or next to nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::stage::{PATIENCE, Stage, eventually, is_closed, query};
use crate::support::Client;
use crate::support::client::client_hello;
use crate::support::message::Item;
use crate::support::tags::{self, operation};
use crate::support::ttlv::integer;

#[test]
fn silent_peers_at_every_stage_end_and_disturb_nobody() {
    let mut stage = Stage::set("");
    stage.withstands(|stage| {
        let hello = client_hello();
        let request = query().encode();
        let mut sockets: Vec<TcpStream> = Vec::new();
        let mut clients: Vec<Client> = Vec::new();
        for _ in 0..10 {
            for part in [0, 3, 5, hello.len() / 2, hello.len()] {
                let mut socket = stage.tcp();
                socket.write_all(&hello[..part]).unwrap();
                sockets.push(socket);
            }
            for part in [0, 4, 8, request.len() / 2] {
                let mut client = stage.stranger();
                client.send(&request[..part]);
                clients.push(client);
            }
        }
        sockets.iter_mut().for_each(is_closed);
        clients.iter_mut().for_each(|client| is_closed(&mut client.socket()));
    });
}

/// A peer that sends a byte, waits for longer than any network takes, and sends the next.
const STEP: Duration = Duration::from_millis(300);

/// How many peers there are of each kind.
const PEERS: usize = 3;

/// The header of a request of 16 KiB.
const HEADER: [u8; 8] = [0x42, 0, 0x78, 1, 0, 0, 0x40, 0];

/// The header of a TLS record of as much. Only the last of its bytes lets the bridge see what it holds.
const RECORD: [u8; 5] = [23, 3, 3, 0x40, 0];

/// Sends what is right so far and could go on, a byte at a time, until that fails because the bridge has closed.
fn trickle(bytes: &[u8], mut send: impl FnMut(&[u8]) -> bool) {
    let since = Instant::now();
    for &byte in bytes {
        if !send(&[byte]) {
            return;
        }
        // The other deadlines are ten times as long.
        assert!(since.elapsed() < PATIENCE, "the bridge goes on waiting");
        thread::sleep(STEP);
    }
    panic!("the bridge has waited for all of it");
}

fn raw(mut socket: &TcpStream) -> impl FnMut(&[u8]) -> bool {
    move |bytes| socket.write_all(bytes).is_ok()
}

/// The stages of a connection whose handshake is done at which a peer can become slow.
#[derive(Clone, Copy)]
enum Within {
    /// A TLS record, and no request has begun.
    Record,
    /// The header of a request.
    Header,
    /// Its body.
    Body,
    /// A TLS record in the middle of a request.
    RecordOfRequest,
}

/// Goes on from there a byte at a time.
fn dawdle(mut client: Client, within: Within) {
    let request = [&HEADER[..], &[0; 0x4000]].concat();
    match within {
        Within::Record => trickle(&[&RECORD[..], &[0; 1000]].concat(), raw(client.socket())),
        Within::Header => trickle(&request, |bytes| client.try_send(bytes)),
        Within::Body => {
            client.send(&HEADER);
            trickle(&request[8..], |bytes| client.try_send(bytes));
        }
        Within::RecordOfRequest => {
            client.send(&HEADER[..3]);
            trickle(&[&RECORD[..], &[0; 1000]].concat(), raw(client.socket()));
        }
    }
}

/// Lets peers loose that dawdle at each of the stages, proven ones and strangers. Each ends for `why` and no other reason.
fn dawdlers_end(kind: &str, are_proven: &[bool], stages: &[Within], why: &str) {
    let mut stage = Stage::with_one_deadline(kind);
    stage.withstands(|stage| {
        thread::scope(|scope| {
            for _ in 0..PEERS {
                for &is_proven in are_proven {
                    for &within in stages {
                        scope.spawn(move || {
                            dawdle(if is_proven { stage.proven() } else { stage.stranger() }, within);
                        });
                    }
                }
            }
        });
    });
    assert_eq!(stage.ended(why), PEERS * are_proven.len() * stages.len());
}

#[test]
fn a_byte_at_a_time_does_not_stretch_the_handshake() {
    let mut stage = Stage::with_one_deadline("handshake");
    let hello = client_hello();
    // All of it, a part of the record's header, the header, half of the hello; and the answer to the server's half of the handshake.
    let starts = [0, 3, 5, hello.len() / 2].map(|sent| (&hello[..sent], hello[sent..].to_vec()));
    let last = (&hello[..], [&[20, 3, 3, 0, 1, 1], &RECORD[..], &[0; 1000]].concat());
    let starts = [&starts[..], &[last]].concat();
    stage.withstands(|stage| {
        thread::scope(|scope| {
            for (begin, rest) in &starts {
                for _ in 0..PEERS {
                    scope.spawn(move || {
                        let socket = stage.tcp();
                        assert!(raw(&socket)(begin));
                        trickle(rest, raw(&socket));
                    });
                }
            }
        });
    });
    assert_eq!(stage.ended("handshake: not done within handshake-timeout"), PEERS * starts.len());
}

#[test]
fn a_byte_at_a_time_does_not_stretch_a_request() {
    let stages = [Within::Header, Within::Body, Within::RecordOfRequest];
    dawdlers_end("request", &[true, false], &stages, "closed: request not complete within request-timeout");
}

#[test]
fn a_byte_at_a_time_is_no_request_that_ends_the_time_of_silence() {
    dawdlers_end("idle", &[true, false], &[Within::Record], "closed: no request within idle-timeout");
}

#[test]
fn a_byte_at_a_time_does_not_stretch_the_time_to_authenticate() {
    let stages = [Within::Record, Within::Header, Within::Body, Within::RecordOfRequest];
    let why = "closed: not authenticated within unauthenticated-timeout";
    dawdlers_end("unauthenticated", &[false], &stages, why);
}

#[test]
fn a_response_taken_little_by_little_does_not_stretch_its_deadline() {
    let mut stage = Stage::with_one_deadline("write");
    if stage.token.is_slow_at_random() {
        return;
    }
    let why = "closed: response not taken within write-timeout";
    stage.withstands(|stage| {
        thread::scope(|scope| {
            for _ in 0..PEERS {
                scope.spawn(|| {
                    let mut client = stage.proven();
                    let item = |number: u32| {
                        let len = vec![integer(tags::DATA_LENGTH, 65_536)];
                        Item::new(operation::RNG_RETRIEVE, len).with_id(&number.to_be_bytes())
                    };
                    let request = client.request((0..15).map(item).collect()).encode();
                    // What the system takes on the way are some megabytes.
                    client.send(&request.repeat(20));
                    let since = Instant::now();
                    while stage.ended(why) < PEERS && since.elapsed() < PATIENCE {
                        // A thirtieth of a response: less than that makes no room that the system would tell the bridge of. What has
                        // arrived before the end can still be read after it, or not.
                        let _ = client.socket().read(&mut [0; 32_768]);
                        thread::sleep(STEP);
                    }
                });
            }
            eventually("the bridge closes", || stage.ended(why) == PEERS);
        });
    });
}
