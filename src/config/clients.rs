//! The tables `[[client]]`: who gets in beside those who know a PIN.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use serde::Deserialize;

use super::tokens::source;
use super::written::{Entry, Written, quoted};
use crate::bridge::access::{ClientSettings, Login, Proof, Rights, Settings, TokenSettings};
use crate::pkcs11::Match;

/// `[[client]]` as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Client {
    username: Option<String>,
    password_file: Option<PathBuf>,
    credential: Option<String>,
    subject: Option<String>,
    san: Option<String>,
    fingerprint: Option<String>,
    token: String,
    operations: Option<Vec<String>>,
    key_prefix: Option<String>,
}

/// Reads them; `tokens` is what is known of the tokens, and `has_certificates` says whether clients show any.
pub(super) fn read(w: &mut Written<'_>, tokens: Vec<TokenSettings>, has_certificates: bool) -> Settings {
    let mut settings = Settings { tokens, clients: Vec::new() };
    for Entry { subject, line, value } in w.tables::<Client>("client") {
        match client(value, has_certificates, &settings) {
            Ok(client) => settings.clients.push(client),
            Err(what) => w.problem_at(&subject, line, what),
        }
    }
    settings
}

fn client(written: Client, has_certificates: bool, others: &Settings) -> Result<ClientSettings, String> {
    let Client { username, password_file, credential, subject, san, fingerprint, token, operations, key_prefix } =
        written;
    let source = source(password_file, credential, "password-file")?;
    let proof = match (username, source, subject, san, fingerprint) {
        (Some(username), Some(source), None, None, None) if !username.is_empty() => Proof::Password(username, source),
        // Certificates with nothing but alternative names have an empty one, all of them.
        (None, None, Some(subject), None, None) if subject.is_empty() => return Err("subject is empty".to_owned()),
        (None, None, Some(subject), None, None) => Proof::Subject(subject),
        (None, None, None, Some(san), None) => {
            let name = ["DNS:", "URI:", "email:"].iter().find_map(|kind| san.strip_prefix(kind));
            if name.is_none_or(str::is_empty) {
                return Err(format!("san: {} is not a name behind DNS:, URI: or email:", quoted(&san)));
            }
            Proof::San(san)
        }
        (None, None, None, None, Some(text)) => Proof::Fingerprint(
            fingerprint_bytes(&text).ok_or("fingerprint is not a SHA-256 one: 64 hexadecimal digits")?,
        ),
        _ => {
            return Err(
                "has to have one of username (with password-file or credential), subject, san, fingerprint".to_owned()
            );
        }
    };
    if !has_certificates && !matches!(proof, Proof::Password(..)) {
        return Err("clients show no certificates while server.tls.client-auth is \"off\"".to_owned());
    }
    if others.clients.iter().any(|other| is_same(&other.proof, &proof)) {
        return Err(format!("there is another client that is {proof}"));
    }
    if let Proof::Password(username, _) = &proof {
        if others.tokens.iter().any(|token| token.meant.name.as_ref() == Some(username)) {
            return Err(format!("username {} is the name of a token too", quoted(username)));
        }
    }
    // What a token says of itself is not known here, only how it is called.
    let may_be = |meant: &Match| meant.name.as_ref().is_none_or(|name| *name == token);
    if !others.tokens.iter().any(|other| may_be(&other.meant) && other.login != Login::Sent) {
        return Err(format!(
            "token: no [[token]] for {} has a pin, a pin-file, a credential or login = \"none\" or \"protected-path\"",
            quoted(&token)
        ));
    }
    let operations = operations.map(|words| words.iter().map(|word| operation(word)).collect::<Result<_, _>>());
    Ok(ClientSettings { proof, token, rights: Rights { operations: operations.transpose()?, key_prefix } })
}

fn is_same(one: &Proof, other: &Proof) -> bool {
    match (one, other) {
        (Proof::Password(one, _), Proof::Password(other, _)) => one == other,
        (one, other) => one == other,
    }
}

fn operation(word: &str) -> Result<crate::bridge::access::Operation, String> {
    Rights::operation(word).ok_or_else(|| format!("operations: there is no operation {}", quoted(word)))
}

/// With or without colons, in either case.
fn fingerprint_bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let is_hex = digits.len() == 64 && digits.iter().all(u8::is_ascii_hexdigit);
    is_hex.then(|| digits.chunks(2).map(byte).collect()).flatten()
}
