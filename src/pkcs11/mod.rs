//! Tokens behind a PKCS#11 module: loading it, logging in, sessions, objects, keys and signatures. Knows nothing of KMIP.
//!
//! [`Module::load`] makes the module ready, [`Tokens`] hands out a [`Token`] to whoever knows its PIN, and a token's
//! operations name objects by [`Class`] and CKA_ID. Sessions and object handles do not leave this layer.
#![forbid(unsafe_code)]

mod attempts;
mod cache;
mod change;
mod changing;
mod crypto;
mod curve;
mod data_object;
mod deals;
mod destroy;
mod door;
mod error;
mod fault;
mod gate;
mod generate;
mod health;
mod issued;
mod kept;
mod key;
mod label;
mod ladder;
mod learnt;
mod load;
mod login;
mod made;
mod mechanisms;
mod module;
mod names;
mod object;
mod policy;
mod pool;
mod prover;
mod repair;
mod rv;
mod search;
mod slot;
mod spread;
mod start;
mod survey;
mod template;
mod token;
mod tokens;
mod trouble;
mod turnstile;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

pub use curve::Curve;
pub use error::Error;
pub use fault::Fault;
pub use gate::{Pin, Refusal};
pub use key::{Class, Filter, Key, KeyKind, KeyPair, KeyPairSpec, Listed, PublicKey, Usage};
pub use ladder::Shape;
pub use learnt::{Labels, Learnt, Shapes, Trait};
pub use load::LoadError;
pub use mechanisms::{Mechanisms, Offer, Use};
pub use module::{Module, ModuleInfo};
pub use names::{attribute_named, mechanism_name, mechanism_named};
pub use policy::{
    Changed, Characters, EcParams, Halves, IdLength, KeyTemplate, LoginKind, Match, Pattern, Policy, Rungs,
};
pub use prover::{PROVE_PIN, prove_pin};
pub use rv::{OPERATION_NOT_VALIDATED, PARAMETER_SET_NOT_SUPPORTED, rv_name};
pub use slot::TokenInfo;
pub use spread::STACK_SIZE;
pub use start::within;
pub use survey::SlotInfo;
pub use template::{Family, Rung};
pub use token::Token;
pub use tokens::Tokens;
pub use watch::{Overdue, Rescue, on_overdue};

/// Which module, and how much of it may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The vendor's shared library.
    pub lib_path: PathBuf,
    /// Most sessions open at once with one token, 1 or more. One of them keeps the login and works only where there may be no
    /// other; the token's own limit holds too.
    pub max_sessions: u32,
    /// How long a request waits for a session when all are lent.
    pub session_timeout: Duration,
    /// How long a request may wait for the module before its client is told.
    pub call_timeout: Duration,
    /// The same for one that makes a key pair, where that is longer.
    pub generate_timeout: Duration,
    /// PINs that a token is asked to judge at once, and in a minute, before it has found the first one right; at least 1.
    pub max_pin_tries: u32,
    /// Wrong PINs tried, in all, in the hope that the token's was changed.
    pub max_changed_pin_tries: u32,
    /// Bytes of CKA_ID of a new key, 1 or more.
    pub id_length: usize,
    /// Whether the module is called by one thread at a time, whatever it says.
    pub serialize: bool,
    /// What is decided for single tokens; each setting comes from the first entry that fits and has it.
    pub policies: Vec<(Match, Policy)>,
}

impl Settings {
    /// Default of [`Self::max_sessions`].
    pub const DEFAULT_MAX_SESSIONS: u32 = 64;

    /// Default of [`Self::session_timeout`]: with that of [`Self::call_timeout`] the 30 s that the first client waits for an answer.
    pub const DEFAULT_SESSION_TIMEOUT: Duration = Duration::from_secs(10);

    /// Default of [`Self::call_timeout`]: below the 30 s that the first client waits for an answer.
    pub const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(20);

    /// Default of [`Self::generate_timeout`]: a card takes minutes for a long RSA key, and what it has made while its client is told
    /// that it failed has to be destroyed again.
    pub const DEFAULT_GENERATE_TIMEOUT: Duration = Duration::from_secs(300);

    /// Default of [`Self::max_pin_tries`]: several clients with a PIN each, one of which is right. Where a token locks itself after
    /// fewer, its flag of the final try keeps the last.
    pub const DEFAULT_MAX_PIN_TRIES: u32 = 10;

    /// Default of [`Self::max_changed_pin_tries`]: fewer than any retry counter allows, for tokens do not all say how many are left.
    pub const DEFAULT_MAX_CHANGED_PIN_TRIES: u32 = 2;

    /// Default of [`Self::id_length`]: 160 random bits. No two keys get the same, and every module seen takes them.
    pub const DEFAULT_ID_LENGTH: usize = 20;

    /// The defaults, for the module at `lib_path`.
    pub fn new(lib_path: PathBuf) -> Self {
        Self {
            lib_path,
            max_sessions: Self::DEFAULT_MAX_SESSIONS,
            session_timeout: Self::DEFAULT_SESSION_TIMEOUT,
            call_timeout: Self::DEFAULT_CALL_TIMEOUT,
            generate_timeout: Self::DEFAULT_GENERATE_TIMEOUT,
            max_pin_tries: Self::DEFAULT_MAX_PIN_TRIES,
            max_changed_pin_tries: Self::DEFAULT_MAX_CHANGED_PIN_TRIES,
            id_length: Self::DEFAULT_ID_LENGTH,
            serialize: false,
            policies: Vec::new(),
        }
    }

    /// How long the module may take to be loaded and initialised, for which it may have to find an HSM first.
    pub fn start_timeout(&self) -> Duration {
        self.call_timeout.saturating_mul(3)
    }
}
