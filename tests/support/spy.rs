//! pkcs11-spy between the bridge and the module: it writes down every call, so that calls can be counted.

use std::fs;
use std::path::PathBuf;

use super::bridge::Options;
use super::hsm::Hsm;
use super::scratch::Scratch;

/// The record of the calls that went to the module.
pub struct Spy {
    directory: Scratch,
}

impl Spy {
    pub fn new() -> Spy {
        Spy { directory: Scratch::new("spy") }
    }

    /// Options that start a bridge with the spy as its module.
    pub fn options(&self) -> Options {
        Options {
            module: Some(Hsm::Spy.library()),
            environment: vec![("PKCS11SPY", Hsm::chosen().behind_spy()), ("PKCS11SPY_OUTPUT", self.record())],
            ..Options::default()
        }
    }

    /// How often a function was called so far.
    pub fn calls(&self, function: &str) -> usize {
        let bytes = fs::read(self.record()).unwrap_or_default();
        let ending = format!(": {function}");
        String::from_utf8_lossy(&bytes).lines().filter(|line| line.trim_end().ends_with(&ending)).count()
    }

    /// Sessions opened and not closed again.
    pub fn open_sessions(&self) -> usize {
        self.calls("C_OpenSession") - self.calls("C_CloseSession")
    }

    fn record(&self) -> PathBuf {
        self.directory.path().join("calls")
    }
}
