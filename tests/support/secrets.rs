//! What must not be in a log or in what a command prints: every bridge of the tests logs all it can, and all of that is searched when it
//! ends, for each secret in every way in which programs print bytes.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::{fs, str};

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

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

    /// Holds that none is in `text`, but for what is no secret as the token is called so: clients send that as a password too, by
    /// mistake.
    pub fn are_not_in(&self, text: &str, label: &str) {
        let secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lower = text.to_lowercase();
        for secret in secrets.iter().filter(|secret| !label.contains(secret.as_str())) {
            search(text, &lower, secret.as_bytes(), secret);
        }
    }
}

/// Holds that nothing of the private key in a PEM file is in `text`; there may be no such file.
pub fn no_key_of(path: &Path, text: &str) {
    let Ok(key) = PrivateKeyDer::from_pem_file(path) else { return };
    let what = format!("the key in {}", path.display());
    does_not_hold(text, private_number(key.secret_der()), &what);
    // As the file has it: its lines, but for what ends them all.
    let pem = fs::read_to_string(path).expect("the key");
    for line in pem.lines().filter(|line| line.len() >= 40 && !line.starts_with("-----")) {
        assert!(!text.contains(line), "{what} is there as PEM");
    }
}

/// The private number of an EC key: ECPrivateKey (RFC 5915) begins with its version, 1, and an OCTET STRING with the number. Of a key of
/// another kind, what stands behind its head.
fn private_number(der: &[u8]) -> &[u8] {
    const HEAD: &[u8] = &[0x02, 0x01, 0x01, 0x04, 0x20];
    let at = der.windows(HEAD.len()).position(|window| window == HEAD).map_or(der.len() / 2, |at| at + HEAD.len());
    &der[at..der.len().min(at + 32)]
}

/// Holds that `text` has the secret in none of the ways in which programs print bytes.
pub fn does_not_hold(text: &str, secret: &[u8], what: &str) {
    search(text, &text.to_lowercase(), secret, what);
}

fn search(text: &str, lower: &str, secret: &[u8], what: &str) {
    let found = |text: &str, spelling: &str| {
        if let Some(at) = text.find(spelling) {
            let line = text[at..].lines().next().unwrap_or_default();
            panic!("{what} is there as {spelling}: {line}");
        }
    };
    let hex = |between: &str| secret.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(between);
    let decimal = secret.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    for spelling in [hex(""), hex(" "), hex(":"), hex(", "), hex(", 0x"), decimal] {
        found(lower, &spelling);
    }
    // Shorter ones are in any log by chance.
    for spelling in (0..3).map(|shift| base64_inside(secret, shift)).filter(|spelling| spelling.len() >= 8) {
        found(text, &spelling);
        found(text, &spelling.replace('+', "-").replace('/', "_"));
    }
    if let Ok(plain) = str::from_utf8(secret) {
        found(text, plain);
    }
}

/// What base64 makes of the secret where it begins so many bytes after a group of three, without the digits that depend on its neighbours.
fn base64_inside(secret: &[u8], shift: usize) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    // To the beginning of the next group.
    let whole = secret.get((3 - shift) % 3..).unwrap_or_default();
    let digits = whole.chunks_exact(3).flat_map(|group| {
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        [18, 12, 6, 0].map(|down| char::from(DIGITS[(bits >> down) as usize & 63]))
    });
    digits.collect()
}
