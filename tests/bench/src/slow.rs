//! A token that takes its time, as one in a network does: how many requests the bridge keeps in it at once.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::latency::row;
use crate::report::Report;
use crate::requests::{Asks, Kind};
use crate::rounds::{Pace, Trio};
use crate::samples::Slices;
use crate::support::scratch::Scratch;
use crate::support::{Bridge, Options, Token, faulty_module, start};

/// How long each signature takes on the token.
const DELAY: Duration = Duration::from_millis(5);

/// A module whose calls take longer, once it is told so.
pub struct Slow {
    directory: Scratch,
}

impl Slow {
    pub fn new() -> Slow {
        Slow { directory: Scratch::new("slow") }
    }

    fn control(&self) -> PathBuf {
        self.directory.path().join("control")
    }

    /// What a bridge, or another program, that uses it is started with.
    pub fn options(&self) -> Options {
        Options {
            module: Some(faulty_module()),
            environment: vec![("FAULTY_MODULE", Token::module()), ("FAULTY_CONTROL", self.control())],
            ..Options::default()
        }
    }

    /// The bridge and its counterparts on it.
    pub fn trio(&self, token: Token, bridge: Bridge, pace: Pace) -> Trio {
        let (module, control) = (Token::module(), self.control());
        let environment: [(&str, &Path); 2] = [("FAULTY_MODULE", &module), ("FAULTY_CONTROL", &control)];
        let mut trio = Trio::start(&faulty_module(), token, bridge, &environment, pace);
        // It waits more than it computes.
        trio.threads = usize::MAX;
        trio
    }

    /// Has calls of these functions, other than those that ask for a length, take so much longer from now on.
    pub fn delay(&self, functions: &str, delay: Duration) {
        let new = self.directory.path().join("new");
        let query = if functions == "C_Sign" { "query = false\n" } else { "" };
        let delay = delay.as_secs_f64() * 1000.0;
        let rule = format!("[[fault]]\nfunctions = {functions:?}\n{query}delay-ms = {delay:.3}\n");
        fs::write(&new, rule).expect("a control file");
        fs::rename(&new, self.control()).expect("a control file");
    }
}

pub fn run(pace: Pace, report: &mut Report) {
    // Whatever this thread starts from now on sleeps for as long as it wants to, not up to 50 µs longer.
    fs::write("/proc/self/timerslack_ns", "1").expect("/proc");
    let (token, slow) = (Token::create(), Slow::new());
    let bridge = start(&token, slow.options());
    let asks = Asks::make(&bridge, &token, &[Kind::P256]);
    let mut trio = slow.trio(token, bridge, pace);
    slow.delay("C_Sign", DELAY);
    let mut one_by_one = f64::NAN;
    for connections in [1, 8, 32, 64] {
        let measured = trio.measure(&asks.sign(Kind::P256, 1), connections);
        row("5 ms each C_Sign", &measured, report);
        let rate = measured.bridge.rate();
        match connections {
            1 => one_by_one = rate,
            32 => {
                let limit = 32.0 / DELAY.as_secs_f64();
                let percent = |rate: f64| 100.0 * rate / limit;
                let alone = measured.direct.as_ref().map_or(f64::NAN, Slices::rate);
                report
                    .at_least("5 ms a C_Sign, 32 connections, of 32 x 200 a second", "%", percent(rate), 95.0)
                    .within_reach_of("direct", percent(alone));
            }
            _ => {}
        }
    }
    for batch in [16, 64] {
        let measured = trio.measure(&asks.sign(Kind::P256, batch), 1);
        row("5 ms each C_Sign", &measured, report);
        let times = measured.bridge.rate() * batch as f64 / one_by_one;
        if batch == 64 {
            report.at_least("5 ms a C_Sign, batch of 64, of one at a time", "times", times, 20.0);
        }
    }
    slow.delay("C_*", DELAY);
    for connections in [1, 8, 32, 64] {
        row("5 ms each call", &trio.measure(&asks.sign(Kind::P256, 1), connections), report);
    }
    row("5 ms each call", &trio.measure(&asks.sign(Kind::P256, 64), 1), report);
}
