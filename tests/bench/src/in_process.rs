//! The bridge without its network, on the fake module: what is left is its own work.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use cascade_hsm_bridge::bridge::{self, Bridge, Peer, Service};
use cascade_hsm_bridge::pkcs11::{self, Module, Tokens};

use crate::requests::{Ask, Asks, Kind, is_success};

/// A connection as the bridge sees it.
pub struct InProcess {
    bridge: Bridge,
    peer: Peer,
    /// Kept from one request to the next, as a connection keeps it.
    answer: Vec<u8>,
}

impl InProcess {
    pub fn start(module: &Path) -> InProcess {
        let settings = pkcs11::Settings::new(module.to_owned());
        let module = Module::load(module).unwrap_or_else(|error| panic!("{error}"));
        let bridge = Bridge::new(Tokens::new(module, &settings), bridge::Settings::default());
        let peer = Peer::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
        InProcess { bridge, peer, answer: Vec::new() }
    }

    /// Has the request answered often enough for everything that is remembered to be remembered.
    pub fn warm_up(&mut self, ask: &Ask) {
        for _ in 0..8 {
            let answer = self.answer(&ask.message);
            assert!(is_success(answer, ask.items), "{} is refused: {answer:02x?}", ask.name);
        }
    }

    pub fn answer(&mut self, request: &[u8]) -> &[u8] {
        self.answer.clear();
        self.bridge.answer(&self.peer, request, &mut self.answer);
        &self.answer
    }
}

/// The requests whose cost is watched.
pub fn watched() -> Vec<Ask> {
    let asks = Asks::of_fake_module();
    vec![
        asks.sign(Kind::P256, 1),
        asks.sign(Kind::Rsa2048, 1),
        asks.sign(Kind::Ed25519, 1),
        asks.sign(Kind::P256, 16),
        asks.get(Kind::P256),
        asks.query(),
    ]
}
