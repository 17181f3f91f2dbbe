//! pkcs11-spy between the bridge and the module: it writes down every call, so that calls can be counted.

use std::fs;
use std::path::PathBuf;

use super::bridge::Options;
use super::hsm::{Hsm, run, skipped};
use super::scratch::Scratch;
use super::token::Token;

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

    /// Whether it would not see a thing, which then is why a test is left out: of a module of Cryptoki 3.x it hands out the list of
    /// functions as it is.
    pub fn is_blind(token: &Token) -> bool {
        let spy = Spy::new();
        let mut tool = token.command("pkcs11-tool");
        tool.arg("--module").arg(Hsm::Spy.library()).arg("--list-slots").envs(spy.options().environment);
        run(&mut tool);
        let hsm = Hsm::chosen();
        skipped(
            spy.calls("C_Initialize") == 0 && hsm != Hsm::SoftHsm2,
            format!("pkcs11-spy does not see the calls to {hsm}"),
        )
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
