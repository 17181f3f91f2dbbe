//! The translation: what a KMIP request asks, done on a PKCS#11 token.
#![forbid(unsafe_code)]

pub mod access;
mod attribute;
mod audit;
mod auth;
mod batch;
mod der;
mod dnskey;
mod hash;
mod ident;
pub mod inventory;
mod keyblock;
mod mechanism;
mod object;
mod op;
mod progress;
mod public_keys;
mod reason;
mod role;
mod service;
mod signing;
mod trial;

pub use crate::kmip::Limits;
pub use crate::pkcs11::{Overdue, Rescue, STACK_SIZE, on_overdue};
// For the fuzzer: what reads and writes bytes that others make and read.
#[doc(hidden)]
pub use der::{ecdsa_halves, ecdsa_signature, subject_public_key_info};
#[doc(hidden)]
pub use dnskey::read_dnskeys;
pub use op::{OPERATIONS, Offered};
pub use public_keys::{Error as PublicKeysError, PublicKeys};
pub use role::{Role, Source as RoleSource};
pub use service::{After, Bridge, Peer, Service, Settings};
pub use trial::{How, Signature, Standing, Trial};
