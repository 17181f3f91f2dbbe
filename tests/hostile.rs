//! Hostile and careless peers do what they do while a well-behaved client signs: it never sees an error, and nothing of theirs
//! is left behind.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use support::client::handshake;
use support::key::unique_identifier;
use support::message::{Item, Request};
use support::tags::{self, continuation, operation, reason};
use support::ttlv::{integer, structure};
use support::{Bridge, Client, KeySpec, Token};

/// Limits that tests reach in seconds, not minutes.
const IMPATIENT: &str =
    "handshake-timeout = 2\nrequest-timeout = 2\nwrite-timeout = 2\nunauthenticated-timeout = 3\nidle-timeout = 120\n";

/// Anything that is to happen has happened by then.
const PATIENCE: Duration = Duration::from_secs(60);

struct Stage {
    token: Token,
    bridge: Bridge,
    key: String,
}

impl Stage {
    fn set(server: &str) -> Stage {
        let token = Token::create();
        let server = format!("{IMPATIENT}{server}");
        let bridge = Bridge::start_with(&token, support::bridge::Options { server, ..Default::default() });
        let key = Client::connect(&bridge, &token).create_key_pair(&KeySpec::any(&token)).private;
        Stage { token, bridge, key }
    }

    /// Runs `attack` while one client signs on a connection that it keeps, and another on a new one each time. Any answer that
    /// is not a signature fails the test. Afterwards nothing of the attack is left.
    fn withstands(&mut self, attack: impl FnOnce(&Stage)) {
        self.is_quiet();
        let over = AtomicBool::new(false);
        let signed = [AtomicUsize::new(0), AtomicUsize::new(0)];
        thread::scope(|scope| {
            let (stage, over, signed) = (&*self, &over, &signed);
            let good = [true, false].map(|keeps| {
                scope.spawn(move || {
                    let mut client = Client::connect(&stage.bridge, &stage.token);
                    let count = &signed[usize::from(keeps)];
                    while !over.load(Ordering::Relaxed) {
                        if !keeps {
                            client = Client::connect(&stage.bridge, &stage.token);
                        }
                        let number = count.fetch_add(1, Ordering::Relaxed);
                        client.sign(&stage.key, stage.token.sign_parameters(), &number.to_be_bytes());
                    }
                })
            });
            // The good clients end whatever becomes of the attack.
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                attack(stage);
                let before = signed.each_ref().map(|count| count.load(Ordering::Relaxed));
                let served = || (0..2).all(|client| signed[client].load(Ordering::Relaxed) > before[client] + 2);
                eventually("the good clients go on", || served() || good.iter().any(|client| client.is_finished()));
            }));
            over.store(true, Ordering::Relaxed);
            for client in good {
                client.join().expect("a good client saw nothing but signatures");
            }
            outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
        assert!(self.bridge.is_alive());
        self.is_quiet();
        assert!(!self.bridge.log().contains("panic"), "a panic");
    }

    /// Waits until every connection has ended. A module may have sockets of its own, for a service of its: they are none of TCP.
    fn is_quiet(&self) {
        let proc = PathBuf::from(format!("/proc/{}", self.bridge.pid()));
        let sockets = || {
            let tcp = std::fs::read_to_string(proc.join("net/tcp")).unwrap();
            // Field 10 of a line is the number that the descriptor's link has.
            let tcp: Vec<String> = tcp
                .lines()
                .skip(1)
                .filter_map(|line| Some(format!("socket:[{}]", line.split_whitespace().nth(9)?)))
                .collect();
            let links = std::fs::read_dir(proc.join("fd")).unwrap().flatten();
            let target = |link: std::fs::DirEntry| std::fs::read_link(link.path()).ok()?.to_str().map(str::to_owned);
            links.filter_map(target).filter(|target| tcp.contains(target)).count()
        };
        eventually("all connections end", || sockets() <= 1);
    }

    fn tcp(&self) -> TcpStream {
        let socket = TcpStream::connect(self.bridge.address).expect("a connection");
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    fn stranger(&self) -> Client {
        Client::connect_as(&self.bridge, None)
    }
}

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for the bridge to close, whatever it says before.
fn is_closed(socket: &mut impl Read) {
    let mut scratch = [0; 4096];
    let since = Instant::now();
    while let Ok(1..) = socket.read(&mut scratch) {
        assert!(since.elapsed() < PATIENCE, "the bridge does not close");
    }
    assert!(since.elapsed() < PATIENCE, "the bridge does not close");
}

/// A ClientHello as rustls writes it.
fn client_hello() -> Vec<u8> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config =
        rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
    let config = config.unwrap().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut connection = rustls::ClientConnection::new(std::sync::Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    hello
}

/// A byte now and then until the bridge closes.
fn trickle(to: &mut impl Write) {
    let since = Instant::now();
    while to.write_all(&[0x42]).and_then(|()| to.flush()).is_ok() {
        assert!(since.elapsed() < PATIENCE, "the bridge waits for ever");
        thread::sleep(Duration::from_millis(100));
    }
}

fn query() -> Request {
    Request::new(vec![Item::new(operation::QUERY, vec![])])
}

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

#[test]
fn a_byte_at_a_time_stretches_no_deadline() {
    let mut stage = Stage::set("");
    stage.withstands(|stage| {
        thread::scope(|scope| {
            for _ in 0..4 {
                for begin in [vec![], vec![22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xf0]] {
                    scope.spawn(move || {
                        let mut socket = stage.tcp();
                        socket.write_all(&begin).unwrap();
                        trickle(&mut socket);
                    });
                }
                for begin in [&[][..], &[0x42, 0, 0x78, 1, 0, 0, 0x40, 0]] {
                    scope.spawn(move || {
                        let mut stream = handshake(&stage.bridge, rustls::ALL_VERSIONS).unwrap();
                        stream.write_all(begin).unwrap();
                        trickle(&mut stream);
                    });
                }
                // Half a TLS record of application data, and then its bytes one by one.
                scope.spawn(move || {
                    let client = stage.stranger();
                    let mut socket = client.socket();
                    socket.write_all(&[23, 3, 3, 0x40, 0]).unwrap();
                    trickle(&mut socket);
                });
            }
        });
    });
}

#[test]
fn resets_and_garbage_at_every_stage_cost_their_own_connection() {
    let mut stage = Stage::set("");
    stage.withstands(|stage| {
        let hello = client_hello();
        let request = query().encode();
        for round in 0..200 {
            let mut socket = stage.tcp();
            match round % 5 {
                0 => socket.write_all(&hello[..round % hello.len()]).unwrap(),
                1 => socket.write_all(&request).unwrap(),
                2 => socket.write_all(b"GET / HTTP/1.1\r\nHost: hsm\r\n\r\n").unwrap(),
                3 => drop(socket.write_all(&[&hello[..], &[0xff; 3000]].concat())),
                _ => drop(socket.shutdown(Shutdown::Write)),
            }
            if round % 2 == 0 {
                drop(socket);
            } else {
                // The bridge may have closed it already, and reset it: then there is nothing left to shut down.
                drop(socket.shutdown(Shutdown::Write));
                is_closed(&mut socket);
            }
        }
        for round in 0..100 {
            let mut client = stage.stranger();
            match round % 5 {
                // The handshake again, inside the connection: a ClientHello where KMIP is spoken, and in the clear.
                0 => client.send(&hello),
                1 => drop((&mut client.socket()).write_all(&hello)),
                2 => drop((&mut client.socket()).write_all(&[0x17; 100])),
                // The answer is on its way when the socket closes with unread data: a reset.
                3 => client.send(&request.repeat(20)),
                _ => client.send(&request[..round % request.len()]),
            }
        }
    });
}

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
fn declared_lengths_nesting_and_tiny_items_cost_little() {
    let mut stage = Stage::set("");
    stage.withstands(|stage| {
        let memory = stage.bridge.resident();
        for length in [0xffff_fff8_u32, 0x7fff_fff8, 0x0100_0000, 0x0001_0000] {
            let mut client = stage.stranger();
            client.send(&[&[0x42, 0, 0x78, 1], &length.to_be_bytes()[..]].concat());
            support::Response::read(&client.receive().unwrap()).single().is_refused_as_a_whole(reason::INVALID_MESSAGE);
            assert!(client.is_closed());
        }
        let mut client = Client::connect(&stage.bridge, &stage.token);
        client.random(1);
        let header = client.request(vec![]).header();
        let nested = (0..500).fold(integer(tags::BATCH_COUNT, 1), |inner, _| structure(tags::ATTRIBUTE, vec![inner]));
        let deep = structure(tags::REQUEST_MESSAGE, vec![header, nested]);
        client.ask_node(&deep).single().is_refused_as_a_whole(reason::INVALID_MESSAGE);
        // 100,000 items of eight bytes, counted right, too high and too low.
        let tiny = vec![structure(tags::BATCH_ITEM, vec![]); 100_000];
        for count in [100_000, i32::MAX, 1000, 1] {
            let mut request = client.request(vec![]);
            request.count = Some(count);
            let message = structure(tags::REQUEST_MESSAGE, [vec![request.header()], tiny.clone()].concat());
            let since = Instant::now();
            client.ask_node(&message).single().is_refused_as_a_whole(reason::INVALID_MESSAGE);
            assert!(since.elapsed() < PATIENCE / 6, "{:?}", since.elapsed());
        }
        let grown = stage.bridge.resident().saturating_sub(memory);
        assert!(grown < 32 * 1024, "{grown} KiB more");
    });
}

#[test]
fn a_batch_whose_answers_would_fill_the_memory_is_cut_short() {
    let mut stage = Stage::set("");
    stage.withstands(|stage| {
        let mut client = Client::connect(&stage.bridge, &stage.token);
        let item = |number: u32| {
            Item::new(operation::RNG_RETRIEVE, vec![integer(tags::DATA_LENGTH, 65_536)]).with_id(&number.to_be_bytes())
        };
        let mut request = client.request((0..200).map(item).collect());
        request.continuation = Some(continuation::CONTINUE);
        let response = client.ask(&request);
        assert!(response.size <= 1 << 20, "{} bytes", response.size);
        let good = response.answers.iter().take_while(|answer| answer.status == 0).count();
        assert_eq!(good, 15);
        assert!(response.answers[good..].iter().all(|answer| answer.reason == Some(reason::RESPONSE_TOO_LARGE)));
        // More items than a message may have: refused before the first of them is done.
        let mut items = vec![KeySpec::any(&stage.token).named("never-made").item().with_id(b"first")];
        items.extend((0..1000).map(|number: u32| {
            Item::new(operation::GET, vec![unique_identifier("00_pub")]).with_id(&number.to_be_bytes())
        }));
        let request = client.request(items);
        client.ask(&request).single().is_refused_as_a_whole(reason::INVALID_MESSAGE);
        assert_eq!(stage.token.objects().len(), 2);
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
                            assert_eq!(support::Response::read(&answer).single().status, 1);
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
