//! The tables `[[token]]` and `[[client]]`: who gets in beside those who know a PIN, and how the bridge logs in for them.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use serde::Deserialize;

use super::written::{Entry, Written, quoted};
use crate::bridge::access::{ClientSettings, Login, Proof, Rights, Settings, Source, TokenSettings};

/// `[[token]]` as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Token {
    name: String,
    login: Option<String>,
    pin_file: Option<PathBuf>,
    credential: Option<String>,
}

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

/// Reads both; `has_certificates` says whether clients show any.
pub(super) fn read(w: &mut Written<'_>, has_certificates: bool) -> Settings {
    let mut settings = Settings::default();
    for Entry { subject, line, value } in w.tables::<Token>("token") {
        match token(value) {
            Ok(token) if settings.tokens.iter().any(|other| other.name == token.name) => {
                w.problem_at(&subject, line, format!("there is another token {}", quoted(&token.name)));
            }
            Ok(token) => settings.tokens.push(token),
            Err(what) => w.problem_at(&subject, line, what),
        }
    }
    for Entry { subject, line, value } in w.tables::<Client>("client") {
        match client(value, has_certificates, &settings) {
            Ok(client) => settings.clients.push(client),
            Err(what) => w.problem_at(&subject, line, what),
        }
    }
    settings
}

fn token(written: Token) -> Result<TokenSettings, String> {
    let Token { name, login, pin_file, credential } = written;
    if name.trim().is_empty() {
        return Err("name is empty".to_owned());
    }
    let source = source(pin_file, credential, "pin-file")?;
    let login = match (login.as_deref(), source) {
        (None | Some("user"), Some(source)) => Login::Kept(source),
        (None | Some("user"), None) => Login::Sent,
        (Some("none"), None) => Login::None,
        (Some("none"), Some(_)) => return Err("login = \"none\" needs no PIN".to_owned()),
        (Some(other), _) => return Err(format!("login: {} is not one of \"user\", \"none\"", quoted(other))),
    };
    Ok(TokenSettings { name, login })
}

fn client(written: Client, has_certificates: bool, others: &Settings) -> Result<ClientSettings, String> {
    let Client { username, password_file, credential, subject, san, fingerprint, token, operations, key_prefix } =
        written;
    let source = source(password_file, credential, "password-file")?;
    let proof = match (username, source, subject, san, fingerprint) {
        (Some(username), Some(source), None, None, None) if !username.is_empty() => Proof::Password(username, source),
        (None, None, Some(subject), None, None) => Proof::Subject(subject),
        (None, None, None, Some(san), None) => {
            if !["DNS:", "URI:", "email:"].iter().any(|kind| san.starts_with(kind)) {
                return Err(format!("san: {} does not begin with DNS:, URI: or email:", quoted(&san)));
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
        if others.tokens.iter().any(|token| token.name == *username) {
            return Err(format!("username {} is the name of a token too", quoted(username)));
        }
    }
    if !others.tokens.iter().any(|other| other.name == token && other.login != Login::Sent) {
        return Err(format!(
            "token: no [[token]] of the name {} has a pin-file, a credential or login = \"none\"",
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

fn source(file: Option<PathBuf>, credential: Option<String>, name: &str) -> Result<Option<Source>, String> {
    match (file, credential) {
        (Some(_), Some(_)) => Err(format!("{name} and credential are both there")),
        (Some(path), None) if path.is_absolute() => Ok(Some(Source::File(path))),
        (Some(path), None) => Err(format!("{name}: {} is not an absolute path", quoted(&path.to_string_lossy()))),
        (None, Some(name)) if name.is_empty() || name.contains('/') || name.starts_with('.') => {
            Err(format!("credential: {} is not a name", quoted(&name)))
        }
        (None, Some(name)) => Ok(Some(Source::Credential(name))),
        (None, None) => Ok(None),
    }
}

/// With or without colons, in either case.
fn fingerprint_bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let is_hex = digits.len() == 64 && digits.iter().all(u8::is_ascii_hexdigit);
    is_hex.then(|| digits.chunks(2).map(byte).collect()).flatten()
}
