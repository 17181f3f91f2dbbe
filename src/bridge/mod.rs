//! The translation: what a KMIP request asks, done on a PKCS#11 token.
#![forbid(unsafe_code)]

pub mod access;
mod attribute;
mod audit;
mod auth;
mod der;
mod hash;
mod ident;
mod keyblock;
mod mechanism;
mod object;
mod op;
mod reason;
mod service;

pub use op::OPERATIONS;
pub use service::{After, Bridge, Peer, Service, Settings};
