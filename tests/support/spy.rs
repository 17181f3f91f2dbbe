//! pkcs11-spy between the bridge and the module: it writes down every call, so that calls can be counted.

use std::path::{Path, PathBuf};
use std::{env, fs};

use super::bridge::Options;
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
            module: Some(library()),
            environment: vec![("PKCS11SPY", Token::module()), ("PKCS11SPY_OUTPUT", self.record())],
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

/// OpenSC puts the library into the directory of the machine's architecture.
fn library() -> PathBuf {
    let architecture = format!("/usr/lib/{}-linux-gnu", env::consts::ARCH);
    let places = [architecture.as_str(), "/usr/lib64", "/usr/lib", "/usr/local/lib"];
    let mut found = places
        .iter()
        .flat_map(|place| ["pkcs11-spy.so", "pkcs11/pkcs11-spy.so"].map(|name| Path::new(place).join(name)));
    found.find(|path| path.exists()).expect("pkcs11-spy.so is installed (make deps)")
}
