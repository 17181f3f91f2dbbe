//! Every key of the configuration file, with its default and its range: the one table that the reader of the file,
//! the template, the manual and the tests go by.
#![forbid(unsafe_code)]

use log::LevelFilter;

use crate::server::tls::{ClientAuth, TlsVersion};

/// A whole number.
#[derive(Debug)]
pub struct Number {
    /// Where it stands, as `table.key`.
    pub path: &'static str,
    /// What it is where the file does not say.
    pub default: u32,
    /// The least it may be.
    pub least: u32,
    /// The most it may be.
    pub most: u32,
    /// What it counts.
    pub unit: Unit,
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Things that need no unit.
    Plain,
    /// Seconds.
    Seconds,
}

/// Yes or no.
#[derive(Debug)]
pub struct Flag {
    /// Where it stands, as `table.key`.
    pub path: &'static str,
    /// What it is where the file does not say.
    pub default: bool,
}

/// One of a few words.
#[derive(Debug)]
pub struct Word<T: 'static> {
    /// Where it stands, as `table.key`.
    pub path: &'static str,
    /// What it is where the file does not say; none where the file has to say.
    pub default: Option<&'static str>,
    /// The words and what each means.
    pub words: &'static [(&'static str, T)],
}

/// Text with a meaning of its own: a path, an address, an identity.
#[derive(Debug)]
pub struct Text {
    /// Where it stands, as `table.key`.
    pub path: &'static str,
    /// What it is where the file does not say, if there is such a thing.
    pub default: Option<&'static str>,
}

/// A list of names, empty where the file does not say.
#[derive(Debug)]
pub struct Names {
    /// Where it stands, as `table.key`.
    pub path: &'static str,
}

/// Names, each with text of its own; none where the file does not say.
#[derive(Debug)]
pub struct Variables {
    /// Where the table stands.
    pub path: &'static str,
}

/// The version of the file's format.
pub const VERSION: Word<()> = Word { path: "version", default: None, words: &[("v1", ())] };

/// The PKCS#11 module.
pub const LIB_PATH: Text = Text { path: "pkcs11.lib-path", default: None };
/// The most sessions with one token.
pub const MAX_SESSIONS: Number = plain("pkcs11.max-sessions", 64, 1, 65_535);
/// How long a request waits for a free session.
pub const SESSION_TIMEOUT: Number = seconds("pkcs11.session-timeout", 10, 1, 3600);
/// How long a request may wait for the module.
pub const CALL_TIMEOUT: Number = seconds("pkcs11.call-timeout", 20, 1, 3600);
/// How long one that makes a key pair may, where that is longer.
pub const GENERATE_TIMEOUT: Number = seconds("pkcs11.generate-timeout", 300, 1, 3600);
/// The most PINs that a token judges at once before one was right.
pub const MAX_PIN_TRIES: Number = plain("pkcs11.max-pin-tries", 10, 1, 1000);
/// The most wrong PINs tried in the hope that the token's was changed.
pub const MAX_CHANGED_PIN_TRIES: Number = plain("pkcs11.max-changed-pin-tries", 2, 0, 10);
/// The length of a new key's CKA_ID.
pub const ID_LENGTH: Number = Number { unit: Unit::Bytes, ..plain("pkcs11.id-length", 20, 1, 64) };
/// Where public keys are that tokens do not tell.
pub const PUBLIC_KEYS: Text = Text { path: "pkcs11.public-keys", default: None };

/// Variables of the environment that the module wants.
pub const MODULE_ENV: Variables = Variables { path: "module.env" };

/// Where to listen.
pub const ADDR: Text = Text { path: "server.addr", default: Some("127.0.0.1:5696") };
/// The most connections at a time.
pub const MAX_CONNECTIONS: Number = plain("server.max-connections", 1024, 1, 65_535);
/// The most connections at a time from one address.
pub const MAX_CONNECTIONS_PER_PEER: Number = plain("server.max-connections-per-peer", 256, 1, 65_535);
/// The most connections at a time that have not authenticated.
pub const MAX_UNAUTHENTICATED: Number = plain("server.max-unauthenticated", 128, 1, 65_535);
/// The largest request.
pub const MAX_REQUEST_SIZE: Number =
    Number { unit: Unit::Bytes, ..plain("server.max-request-size", 1_048_576, 1024, 16_777_216) };
/// The largest request on a connection that has not authenticated.
pub const MAX_UNAUTHENTICATED_REQUEST_SIZE: Number =
    Number { unit: Unit::Bytes, ..plain("server.max-unauthenticated-request-size", 65_536, 1024, 16_777_216) };
/// The largest response.
pub const MAX_RESPONSE_SIZE: Number =
    Number { unit: Unit::Bytes, ..plain("server.max-response-size", 1_048_576, 8192, 16_777_216) };
/// How deep the structures of a request may nest.
pub const MAX_NESTING_DEPTH: Number = plain("server.max-nesting-depth", 16, 9, 64);
/// The time for a TLS handshake.
pub const HANDSHAKE_TIMEOUT: Number = seconds("server.handshake-timeout", 10, 1, 3600);
/// The time from the first byte of a request to its last.
pub const REQUEST_TIMEOUT: Number = seconds("server.request-timeout", 30, 1, 3600);
/// The time for a client to take a response.
pub const WRITE_TIMEOUT: Number = seconds("server.write-timeout", 30, 1, 3600);
/// How long a connection may be silent between requests.
pub const IDLE_TIMEOUT: Number = seconds("server.idle-timeout", 600, 1, 86_400);
/// The time for a connection to authenticate.
pub const UNAUTHENTICATED_TIMEOUT: Number = seconds("server.unauthenticated-timeout", 30, 1, 3600);
/// Failed logins of one address that cost nothing.
pub const MAX_FAILED_LOGINS: Number = plain("server.max-failed-logins", 5, 1, 10_000);
/// Failed logins of all addresses together, a minute, after which none is judged from where nobody has logged in.
pub const MAX_FAILED_LOGINS_PER_MINUTE: Number = plain("server.max-failed-logins-per-minute", 60, 0, 1_000_000);
/// The longest time for which an address is not judged after more of them.
pub const FAILED_LOGIN_PAUSE: Number = seconds("server.failed-login-pause", 60, 0, 3600);
/// How long requests in hand may take once the program stops.
pub const DRAIN_TIMEOUT: Number = seconds("server.drain-timeout", 10, 0, 3600);
/// The certificate.
pub const CERT_PATH: Text = Text { path: "server.identity.cert-path", default: None };
/// The certificate's private key.
pub const KEY_PATH: Text = Text { path: "server.identity.key-path", default: None };
/// The oldest version of TLS.
pub const MIN_VERSION: Word<TlsVersion> = Word {
    path: "server.tls.min-version",
    default: Some("1.3"),
    words: &[("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)],
};
/// Whether clients show certificates.
pub const CLIENT_AUTH: Word<ClientAuth> = Word {
    path: "server.tls.client-auth",
    default: Some("off"),
    words: &[("off", ClientAuth::Off), ("optional", ClientAuth::Optional), ("required", ClientAuth::Required)],
};
/// Who issues the certificates of clients.
pub const CLIENT_CA: Text = Text { path: "server.tls.client-ca", default: None };
/// The certificates of clients that were revoked.
pub const CRL: Text = Text { path: "server.tls.crl", default: None };
/// Further names of a generated certificate.
pub const NAMES: Names = Names { path: "server.tls.names" };

/// The least important messages that are logged.
pub const LOG_LEVEL: Word<LevelFilter> = Word { path: "daemon.log-level", default: Some("info"), words: LEVELS };
/// What kind of place messages are logged to.
pub const LOG_TARGET_TYPE: Word<LogTarget> = Word {
    path: "daemon.log-target.type",
    default: Some("stderr"),
    words: &[("file", LogTarget::File), ("stderr", LogTarget::Stderr), ("syslog", LogTarget::Syslog)],
};
/// The file that messages are logged to.
pub const LOG_TARGET_PATH: Text = Text { path: "daemon.log-target.path", default: None };
/// Whether to go on in the background.
pub const DAEMONIZE: Flag = Flag { path: "daemon.daemonize", default: false };
/// Where the number of the process is written.
pub const PID_FILE: Text = Text { path: "daemon.pid-file", default: None };
/// The user and group to become.
pub const IDENTITY: Text = Text { path: "daemon.identity", default: None };
/// Where the program keeps what it makes; the service manager's directory comes before this default.
pub const STATE_DIR: Text = Text { path: "daemon.state-dir", default: Some("/var/lib/cascade-hsm-bridge") };

/// Where the states of KMIP objects live.
pub const LIFECYCLE: Word<()> = Word { path: "kmip.lifecycle", default: Some("none"), words: &[("none", ())] };

/// The most items in a request message.
pub const MAX_BATCH_ITEMS: Number = plain("kmip.max-batch-items", 1000, 1, 100_000);

/// The lists of tables, `[[token]]` and `[[client]]`; what stands in them is read by the parts of this layer for tokens and for
/// clients.
pub static LISTS: &[&str] = &["client", "token"];

/// The keys that stand in them.
pub static LISTED: &[&str] = &[
    "token.name",
    "token.match",
    "token.login",
    "token.pin",
    "token.pin-file",
    "token.credential",
    "token.max-sessions",
    "token.serialize",
    "token.id-length",
    "token.label-max",
    "token.label-characters",
    "token.rename",
    "token.store-public-key",
    "token.data-objects",
    "token.template",
    "token.ec-params",
    "token.omit-mechanisms",
    "token.key-template",
    "client.username",
    "client.password-file",
    "client.credential",
    "client.subject",
    "client.san",
    "client.fingerprint",
    "client.token",
    "client.operations",
    "client.key-prefix",
];

/// The words for levels of log messages, in the file and on the command line.
pub const LEVELS: &[(&str, LevelFilter)] = &[
    ("trace", LevelFilter::Trace),
    ("debug", LevelFilter::Debug),
    ("info", LevelFilter::Info),
    ("warning", LevelFilter::Warn),
    ("warn", LevelFilter::Warn),
    ("error", LevelFilter::Error),
];

/// The kinds of places that messages are logged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// A file.
    File,
    /// Standard error.
    Stderr,
    /// The system's log.
    Syslog,
}

/// A key of the file as the template and the manual describe it.
#[derive(Debug)]
pub struct Key {
    /// Where it stands, as `table.key`; a key at the top has no table.
    pub path: &'static str,
    /// Its default as TOML; none where there is no default.
    pub default: Option<String>,
    /// The least and the most it may be, for a number.
    pub range: Option<(u32, u32)>,
    /// What it may be, for one of a few words.
    pub words: Vec<&'static str>,
}

/// Every key, in the order of the template.
pub fn all() -> Vec<Key> {
    vec![
        VERSION.key(),
        LIB_PATH.key(),
        MAX_SESSIONS.key(),
        SESSION_TIMEOUT.key(),
        CALL_TIMEOUT.key(),
        GENERATE_TIMEOUT.key(),
        MAX_PIN_TRIES.key(),
        MAX_CHANGED_PIN_TRIES.key(),
        ID_LENGTH.key(),
        PUBLIC_KEYS.key(),
        MODULE_ENV.key(),
        ADDR.key(),
        MAX_CONNECTIONS.key(),
        MAX_CONNECTIONS_PER_PEER.key(),
        MAX_UNAUTHENTICATED.key(),
        MAX_REQUEST_SIZE.key(),
        MAX_UNAUTHENTICATED_REQUEST_SIZE.key(),
        MAX_RESPONSE_SIZE.key(),
        MAX_NESTING_DEPTH.key(),
        HANDSHAKE_TIMEOUT.key(),
        REQUEST_TIMEOUT.key(),
        WRITE_TIMEOUT.key(),
        IDLE_TIMEOUT.key(),
        UNAUTHENTICATED_TIMEOUT.key(),
        MAX_FAILED_LOGINS.key(),
        MAX_FAILED_LOGINS_PER_MINUTE.key(),
        FAILED_LOGIN_PAUSE.key(),
        DRAIN_TIMEOUT.key(),
        CERT_PATH.key(),
        KEY_PATH.key(),
        MIN_VERSION.key(),
        CLIENT_AUTH.key(),
        CLIENT_CA.key(),
        CRL.key(),
        NAMES.key(),
        LOG_LEVEL.key(),
        LOG_TARGET_TYPE.key(),
        LOG_TARGET_PATH.key(),
        DAEMONIZE.key(),
        PID_FILE.key(),
        IDENTITY.key(),
        STATE_DIR.key(),
        LIFECYCLE.key(),
        MAX_BATCH_ITEMS.key(),
    ]
}

impl Number {
    fn key(&self) -> Key {
        let range = Some((self.least, self.most));
        Key { range, ..Key::new(self.path, Some(self.default.to_string())) }
    }
}

impl Flag {
    fn key(&self) -> Key {
        Key::new(self.path, Some(self.default.to_string()))
    }
}

impl<T> Word<T> {
    fn key(&self) -> Key {
        let words = self.words.iter().map(|(word, _)| *word).collect();
        Key { words, ..Key::new(self.path, self.default.map(|word| format!("\"{word}\""))) }
    }
}

impl Text {
    fn key(&self) -> Key {
        Key::new(self.path, self.default.map(|text| format!("\"{text}\"")))
    }
}

impl Names {
    fn key(&self) -> Key {
        Key::new(self.path, Some("[]".to_owned()))
    }
}

impl Variables {
    fn key(&self) -> Key {
        Key::new(self.path, Some("{}".to_owned()))
    }
}

impl Key {
    fn new(path: &'static str, default: Option<String>) -> Self {
        Key { path, default, range: None, words: Vec::new() }
    }
}

const fn plain(path: &'static str, default: u32, least: u32, most: u32) -> Number {
    Number { path, default, least, most, unit: Unit::Plain }
}

const fn seconds(path: &'static str, default: u32, least: u32, most: u32) -> Number {
    Number { path, default, least, most, unit: Unit::Seconds }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_every_key_once() {
        let keys = all();
        let paths: BTreeSet<_> = keys.iter().map(|key| key.path).collect();
        assert_eq!(paths.len(), keys.len());
        let declared = include_str!("keys.rs").matches("\npub const ").count() - "LEVELS".split(' ').count();
        assert_eq!(keys.len(), declared);
    }

    #[test]
    fn keeps_every_default_in_its_range() {
        for number in [
            MAX_SESSIONS,
            SESSION_TIMEOUT,
            CALL_TIMEOUT,
            GENERATE_TIMEOUT,
            MAX_PIN_TRIES,
            MAX_CHANGED_PIN_TRIES,
            ID_LENGTH,
            MAX_CONNECTIONS,
            MAX_CONNECTIONS_PER_PEER,
            MAX_UNAUTHENTICATED,
            MAX_REQUEST_SIZE,
            MAX_UNAUTHENTICATED_REQUEST_SIZE,
            MAX_RESPONSE_SIZE,
            MAX_NESTING_DEPTH,
            HANDSHAKE_TIMEOUT,
            REQUEST_TIMEOUT,
            WRITE_TIMEOUT,
            IDLE_TIMEOUT,
            UNAUTHENTICATED_TIMEOUT,
            MAX_FAILED_LOGINS,
            MAX_FAILED_LOGINS_PER_MINUTE,
            FAILED_LOGIN_PAUSE,
            DRAIN_TIMEOUT,
            MAX_BATCH_ITEMS,
        ] {
            assert!((number.least..=number.most).contains(&number.default), "{}", number.path);
        }
    }
}
