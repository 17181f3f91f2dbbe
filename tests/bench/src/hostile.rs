//! How long a signature takes a well-behaved client, alone and among hostile peers.
//!
//! The peers run on the same machine and take their share of its processors, so the ratio is that of a machine under attack from
//! within.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::report::Report;
use crate::support::key::ecdsa_sha_256;
use crate::support::tags::operation;
use crate::support::{Bridge, Client, Item, KeySpec, Options, Token, start};

/// Times of the signatures made in `duration`, sorted.
fn signatures(client: &mut Client, key: &str, duration: Duration) -> Vec<Duration> {
    let until = Instant::now() + duration;
    let mut times = Vec::new();
    while Instant::now() < until {
        let since = Instant::now();
        client.sign(key, ecdsa_sha_256(), &times.len().to_be_bytes());
        times.push(since.elapsed());
    }
    times.sort();
    times
}

fn percentile(times: &[Duration], percent: usize) -> f64 {
    times[(times.len() - 1) * percent / 100].as_secs_f64() * 1000.0
}

/// What one peer does, over and over: says nothing, says garbage, asks for too much, tries a PIN.
fn attack(bridge: &Bridge, token: &Token, over: &AtomicBool, attacks: &AtomicUsize, number: usize) {
    let mut held = Vec::new();
    for round in number.. {
        if over.load(Ordering::Relaxed) {
            return;
        }
        attacks.fetch_add(1, Ordering::Relaxed);
        match round % 4 {
            0 => {
                held.extend(TcpStream::connect(bridge.address).ok());
                if held.len() > 100 {
                    held.clear();
                }
            }
            1 => drop(TcpStream::connect(bridge.address).and_then(|mut socket| socket.write_all(&[0xff; 500]))),
            2 => {
                let mut client = Client::connect_as(bridge, None);
                client.try_send(&[0x42, 0, 0x78, 1, 0xff, 0xff, 0xff, 0xf8]);
            }
            _ => {
                let mut client = Client::connect_as(bridge, Some((&token.label, "not the PIN")));
                let request = client.request(vec![Item::new(operation::QUERY, vec![])]).encode();
                if client.try_send(&request) {
                    let _ = client.receive();
                }
            }
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Each half takes so long.
pub fn run(duration: Duration, report: &mut Report) {
    let token = Token::create();
    // As it is run, not as it is tested.
    let bridge = start(&token, Options { log_level: Some("info"), ..Options::default() });
    let mut client = Client::connect(&bridge, &token);
    let key = client.create_key_pair(&KeySpec::ecdsa(256)).private;
    signatures(&mut client, &key, duration / 10);
    let alone = signatures(&mut client, &key, duration);
    let (over, attacks) = (AtomicBool::new(false), AtomicUsize::new(0));
    let among = thread::scope(|scope| {
        for number in 0..4 {
            let (bridge, token, over, attacks) = (&bridge, &token, &over, &attacks);
            scope.spawn(move || attack(bridge, token, over, attacks, number));
        }
        let among = signatures(&mut client, &key, duration);
        over.store(true, Ordering::Relaxed);
        among
    });
    for (what, times, attacks) in [("undisturbed", &alone, 0), ("disturbed", &among, attacks.into_inner())] {
        let values = [
            ("signatures", times.len() as f64),
            ("p50 ms", percentile(times, 50)),
            ("p99 ms", percentile(times, 99)),
            ("attacks", attacks as f64),
        ];
        report.row("hostile peers", what, &values);
    }
    report.row("hostile peers", "ratio", &[("p99", percentile(&among, 99) / percentile(&alone, 99))]);
}
