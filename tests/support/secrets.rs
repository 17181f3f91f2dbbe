//! What must not be in a log: every bridge of the tests logs all it can, and the log is searched when it ends.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::{fs, str};

/// Shorter ones are words of any log.
const SHORTEST: usize = 6;

/// Floods try PINs by the thousand: if one is kept out, so are the others.
const MOST: usize = 32;

/// The PINs and passwords that a bridge was given, by its files or by clients.
#[derive(Default)]
pub struct Secrets(Mutex<Vec<String>>);

impl Secrets {
    pub fn add(&self, secret: &str) {
        let mut secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if secret.len() >= SHORTEST && secrets.len() < MOST && !secrets.iter().any(|known| known == secret) {
            secrets.push(secret.to_string());
        }
    }

    /// The first line of a file that holds a secret.
    pub fn add_file(&self, path: &Path) {
        let text = fs::read_to_string(path).unwrap_or_default();
        self.add(text.lines().next().unwrap_or_default());
    }

    /// Holds that none is in `log`, but for what is no secret as it is `known` otherwise.
    pub fn are_not_in(&self, log: &str, known: &str) {
        let secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for secret in secrets.iter().filter(|secret| !known.contains(secret.as_str())) {
            if let Some(line) = log.lines().find(|line| line.contains(secret.as_str())) {
                panic!("{secret:?} is in the log: {line}");
            }
        }
    }
}

/// Holds that `text` has the secret in none of the ways in which programs print bytes.
pub fn does_not_hold(text: &str, secret: &[u8], what: &str) {
    let hex = |between: &str| secret.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(between);
    let lower = text.to_lowercase();
    let decimal = secret.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    for spelling in [hex(""), hex(" "), hex(":"), hex(", "), decimal] {
        assert!(!lower.contains(&spelling), "{what} is there as {spelling}");
    }
    if let Ok(plain) = str::from_utf8(secret) {
        assert!(!text.contains(plain), "{what} is there");
    }
}
