//! What the integration tests share: a token of their own, the bridge started on it, a KMIP client written from
//! the standard and not from the product's code, and the tools that judge what comes back.
#![forbid(unsafe_code)]
#![allow(dead_code, unused_imports)] // every test file is a program of its own and uses its own part of this
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

pub mod bridge;
pub mod ca;
pub mod client;
pub mod faulty;
pub mod hsm;
pub mod key;
pub mod message;
pub mod openssl;
pub mod others;
pub mod place;
pub mod profile;
pub mod scratch;
pub mod secrets;
pub mod services;
pub mod spy;
pub mod tags;
pub mod token;
pub mod ttlv;
pub mod wait;

use std::env;
use std::path::PathBuf;

pub use bridge::Bridge;
pub use client::Client;
pub use faulty::Faulty;
pub use hsm::Hsm;
pub use key::KeySpec;
pub use message::{Answer, Item, Request, Response};
pub use profile::Profile;
pub use token::Token;
pub use wait::until;

/// The program under test: what `CASCADE_HSM_BRIDGE` names (an installed one, say), else the one just built.
pub fn program() -> PathBuf {
    env::var_os("CASCADE_HSM_BRIDGE").map_or_else(|| env!("CARGO_BIN_EXE_cascade-hsm-bridge").into(), PathBuf::from)
}
