//! How throughput, latency and memory grow: with connections, with the size of batches, with the keys on the token and with the time
//! that the token takes.

use std::time::{Duration, Instant};

use crate::direct::numbered_id;
use crate::link::{self, Link};
use crate::process;
use crate::report::Report;
use crate::requests::{Asks, Kind, is_success};
use crate::rounds::{Pace, Trio, drive};
use crate::samples::Slice;
use crate::slow::Slow;
use crate::support::{Options, Token, start};

pub fn run(pace: Pace, report: &mut Report) {
    connections_and_batches(pace, report);
    latency_of_the_token(pace, report);
    keys(report);
}

fn connections_and_batches(pace: Pace, report: &mut Report) {
    let token = Token::create();
    // The client is one peer, whatever it opens.
    let bridge = start(
        &token,
        Options {
            server: "max-connections-per-peer = 1024\nmax-unauthenticated = 1024".to_owned(),
            ..Options::default()
        },
    );
    let asks = Asks::make(&bridge, &token, &[Kind::P256]);
    let tls = link::tls(&bridge.certificate(), true);
    let mut measure = |section, what: String, connections: usize, batch: usize| {
        let ask = asks.sign(Kind::P256, batch);
        let mut links: Vec<Link> =
            (0..connections).map(|_| Link::open(bridge.address, &tls).expect("a connection")).collect();
        drive(&mut links, &ask.message, ask.items, pace.slice / 10);
        let slice = drive(&mut links, &ask.message, ask.items, pace.slice * u32::try_from(pace.rounds).unwrap_or(1));
        report.row(section, what, &values(&slice, batch, process::resident(bridge.pid())));
    };
    for connections in [1, 2, 4, 8, 16, 32, 64, 128, 256] {
        measure("connections", format!("{connections}"), connections, 1);
    }
    for batch in [1, 4, 16, 64, 256] {
        measure("items in a batch", format!("{batch}"), 1, batch);
    }
}

fn latency_of_the_token(pace: Pace, report: &mut Report) {
    let (token, slow) = (Token::create(), Slow::new());
    let bridge = start(&token, slow.options());
    let asks = Asks::make(&bridge, &token, &[Kind::P256]);
    let mut trio: Trio = slow.trio(token, bridge, pace);
    for millis in [1, 5, 20] {
        slow.delay("C_Sign", Duration::from_millis(millis));
        for (connections, batch) in [(1, 1), (8, 1), (32, 1), (63, 1), (1, 64)] {
            let measured = trio.measure(&asks.sign(Kind::P256, batch), connections);
            let resident = process::resident(trio.bridge.pid());
            let plural = if connections == 1 { "" } else { "s" };
            let what = format!("{millis} ms, {connections} connection{plural}, batch of {batch}");
            report.row("time of the token", what, &values(&measured.bridge.together(), batch, resident));
        }
    }
}

fn values(slice: &Slice, batch: usize, resident: f64) -> [(&'static str, f64); 5] {
    [
        ("per second", slice.rate() * batch as f64),
        ("p50 µs", slice.percentile(50.0)),
        ("p99 µs", slice.percentile(99.0)),
        ("MiB", resident / 1024.0),
        ("errors", slice.errors as f64),
    ]
}

/// Each key signs in turn: first when nothing is known of it, then again.
fn keys(report: &mut Report) {
    for count in [10, 100, 1000, 10_000] {
        let token = Token::create();
        {
            let bridge = start(&token, Options::default());
            let mut trio = Trio::start(&Token::module(), token, bridge, &[], Pace { rounds: 1, slice: Duration::ZERO });
            trio.direct.fill(count);
            signatures(count, &trio.token, report);
        }
    }
}

fn signatures(count: u64, token: &Token, report: &mut Report) {
    let since = Instant::now();
    let bridge = start(token, Options::default());
    let asks = Asks::without_keys(token);
    let messages: Vec<_> = (0..count).map(|number| asks.sign_with(&numbered_id(number)).message).collect();
    let mut link = Link::open(bridge.address, &link::tls(&bridge.certificate(), true)).expect("a connection");
    let mut sign = |message: &Vec<u8>| link.exchange(message).is_ok_and(|answer| is_success(answer, 1));
    assert!(sign(&messages[0]));
    let first = since.elapsed();
    let mut pass = || {
        let begun = Instant::now();
        let mut slice = Slice::default();
        for message in &messages {
            let since = Instant::now();
            slice.errors += usize::from(!sign(message));
            slice.times.push(u32::try_from(since.elapsed().as_nanos()).unwrap_or(u32::MAX));
        }
        slice.elapsed = begun.elapsed();
        slice
    };
    let (cold, warm) = (pass(), pass());
    let values = [
        ("first answer", first.as_secs_f64() * 1000.0),
        ("cold p50 µs", cold.percentile(50.0)),
        ("p50 µs", warm.percentile(50.0)),
        ("p99 µs", warm.percentile(99.0)),
        ("MiB", process::resident(bridge.pid()) / 1024.0),
        ("errors", (cold.errors + warm.errors) as f64),
    ];
    report.row("key pairs on the token", format!("{count}"), &values);
}
