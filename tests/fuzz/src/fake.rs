//! The bridge on the fake module, in this process.
#![forbid(unsafe_code)]

use std::fmt::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use cascade_hsm_bridge::bridge::access::FailedLogins;
use cascade_hsm_bridge::bridge::{self, Bridge, Peer, Service};
use cascade_hsm_bridge::pkcs11::{self, Module, Tokens};
use cascade_hsm_bridge::ttlv::FrameError;

/// A bridge on the module at `path`.
pub fn bridge(path: &Path) -> Bridge {
    let module =
        Module::load(path).unwrap_or_else(|error| panic!("{error}\nhint: cargo build --release in fake-module"));
    // A request that needs another session than those that are there has waited long enough.
    let settings = pkcs11::Settings { session_timeout: Duration::from_millis(1), ..pkcs11::Settings::new(path.into()) };
    // Nobody measures how long a refusal takes.
    let failed_logins = FailedLogins { answered_every: Duration::ZERO, ..FailedLogins::default() };
    Bridge::new(Tokens::new(module, &settings), bridge::Settings { failed_logins, ..bridge::Settings::default() })
}

/// The answer to a message from a peer that nobody has heard of before, as long as `number` is a new one: what strangers do wrong is
/// no hindrance to others.
pub fn answer(bridge: &Bridge, number: u32, request: &[u8], response: &mut Vec<u8>) {
    bridge.answer(&stranger(number), request, response);
}

/// The answer to a message while a call to the module does not return.
pub fn give_up(bridge: &Bridge, number: u32, request: &[u8], response: &mut Vec<u8>) {
    bridge.give_up(&stranger(number), request, response);
}

/// The answer to a message, and then that of who speaks for the connection before it has that answer.
#[allow(dead_code)] // for tests/mutation.rs
pub fn answer_twice(bridge: &Bridge, request: &[u8], response: &mut Vec<u8>, again: &mut Vec<u8>) {
    let peer = stranger(0);
    bridge.answer(&peer, request, response);
    bridge.give_up(&peer, request, again);
}

/// The answer to a message whose frame cannot be trusted.
pub fn refuse(bridge: &Bridge, number: u32, error: FrameError, response: &mut Vec<u8>) {
    bridge.refuse(&stranger(number), error, response);
}

fn stranger(number: u32) -> Peer {
    let [_, a, b, c] = number.to_be_bytes();
    Peer::new(SocketAddr::from((Ipv4Addr::new(10, a, b, c), 1)))
}

/// A log that formats every message, as one at trace level would be, and keeps nothing.
pub fn log_to_nowhere() {
    static NOWHERE: Nowhere = Nowhere;
    if log::set_logger(&NOWHERE).is_ok() {
        log::set_max_level(log::LevelFilter::Trace);
    }
}

struct Nowhere;

impl log::Log for Nowhere {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        struct Sink;
        impl Write for Sink {
            fn write_str(&mut self, _: &str) -> fmt::Result {
                Ok(())
            }
        }
        let _ = Sink.write_fmt(*record.args());
    }

    fn flush(&self) {}
}
