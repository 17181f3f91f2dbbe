//! What a request takes, and how many there can be, beside the token alone and the transport alone.

use crate::report::Report;
use crate::requests::{Asks, Kind};
use crate::rounds::{Measured, Pace, Trio};
use crate::samples::{Slices, median};
use crate::support::{Options, Token, start};

/// Rows of this section.
const SECTION: &str = "requests";

const CONNECTIONS: [usize; 4] = [1, 2, 8, 32];

pub fn run(pace: Pace, report: &mut Report) {
    let token = Token::create();
    let bridge = start(&token, Options::default());
    let asks = Asks::make(&bridge, &token, &Kind::ALL);
    let mut trio = Trio::start(&Token::module(), token, bridge, &[], pace).with_bare(&Token::module());
    for kind in Kind::ALL {
        for connections in CONNECTIONS {
            let measured = trio.measure(&asks.sign(kind, 1), connections);
            row(SECTION, &measured, report);
            judge(kind, &measured, report);
        }
    }
    // It answers one item at a time.
    trio.bare = None;
    for batch in [16, 64] {
        for connections in [1, 8] {
            row(SECTION, &trio.measure(&asks.sign(Kind::P256, batch), connections), report);
        }
    }
    for connections in CONNECTIONS {
        row(SECTION, &trio.measure(&asks.get(Kind::P256), connections), report);
    }
    for connections in CONNECTIONS {
        query(&mut trio, &asks, connections, report);
    }
    // Last, as the token grows by it.
    row(SECTION, &trio.measure(&asks.create_key_pair(), 1), report);
}

/// Only what there are targets for.
pub fn brief(pace: Pace, report: &mut Report) {
    let token = Token::create();
    let bridge = start(&token, Options::default());
    let asks = Asks::make(&bridge, &token, &[Kind::P256, Kind::Rsa2048]);
    let mut trio = Trio::start(&Token::module(), token, bridge, &[], pace).with_bare(&Token::module());
    for kind in [Kind::P256, Kind::Rsa2048] {
        for connections in [1, 2, 8] {
            let measured = trio.measure(&asks.sign(kind, 1), connections);
            row(SECTION, &measured, report);
            judge(kind, &measured, report);
        }
    }
    trio.bare = None;
    query(&mut trio, &asks, 1, report);
}

fn query(trio: &mut Trio, asks: &Asks, connections: usize, report: &mut Report) {
    let measured = trio.measure(&asks.query(), connections);
    row(SECTION, &measured, report);
    if connections == 1 {
        report.at_most("Query, one connection, p50 beyond echo", "µs", beyond(&measured), 6.0);
    }
}

fn judge(kind: Kind, measured: &Measured, report: &mut Report) {
    let bare = measured.bare.as_ref().map_or(f64::NAN, |bare| of_direct_percent(measured, bare));
    let mut of_direct = |what: &str, limit: f64| {
        report.at_least(what, "%", share(measured), limit).within_reach_of("bare", bare);
    };
    match (kind, measured.connections) {
        (Kind::P256, 1) => {
            report.at_most("P-256 Sign, one connection, p50 beyond echo + direct", "µs", beyond(measured), 8.0);
        }
        (Kind::P256, 8) => {
            of_direct("P-256 Sign, eight connections, of direct", 65.0);
            let all = measured.bridge.together();
            let ratio = all.percentile(99.0) / all.percentile(50.0);
            report.at_most("P-256 Sign, eight connections, p99 / p50", "", ratio, 4.0);
        }
        (Kind::Rsa2048, 1) => of_direct("RSA-2048 Sign, one connection, of direct", 93.0),
        (Kind::Rsa2048, 8) => of_direct("RSA-2048 Sign, eight connections, of direct", 93.0),
        _ => {}
    }
}

/// Adds what was measured to the table.
pub fn row(section: &'static str, measured: &Measured, report: &mut Report) {
    let Measured { ask, connections, direct, echo, bare, bridge, cpu } = measured;
    let all = bridge.together();
    let of_direct = |value: fn(&Slices) -> f64| direct.as_ref().map_or(f64::NAN, value);
    let plural = if *connections == 1 { "" } else { "s" };
    let values = [
        ("direct p50", of_direct(Slices::p50)),
        ("echo p50", echo.p50()),
        ("p50 µs", bridge.p50()),
        ("beyond", beyond(measured)),
        ("p99 µs", all.percentile(99.0)),
        ("p99.9 µs", all.percentile(99.9)),
        ("direct /s", of_direct(Slices::rate)),
        ("per second", bridge.rate() * ask.items as f64),
        ("of direct %", share(measured)),
        ("bare, of it %", bare.as_ref().map_or(f64::NAN, |bare| of_direct_percent(measured, bare))),
        ("cpu µs", *cpu),
        ("errors", all.errors as f64),
    ];
    report.row(section, format!("{}, {connections} connection{plural}", ask.name), &values);
}

/// What the median request took longer than the transport and its operations in the token, in microseconds.
fn beyond(measured: &Measured) -> f64 {
    let p50 = |slices: &Slices, round: usize| slices.0[round].percentile(50.0);
    median((0..measured.bridge.0.len()).map(|round| {
        let token = measured.direct.as_ref().map_or(0.0, |direct| p50(direct, round) * measured.ask.items as f64);
        p50(&measured.bridge, round) - p50(&measured.echo, round) - token
    }))
}

/// How many operations there were of those that the token alone did, in percent.
fn share(measured: &Measured) -> f64 {
    of_direct_percent(measured, &measured.bridge)
}

fn of_direct_percent(measured: &Measured, slices: &Slices) -> f64 {
    let items = measured.ask.items as f64;
    measured
        .direct
        .as_ref()
        .map_or(f64::NAN, |direct| slices.against(direct, |ours, theirs| 100.0 * ours.rate() * items / theirs.rate()))
}
