//! The clients and tokens of the configuration: what is kept here to judge the ones and to log in to the others.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::{hmac, rand};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::certificate::Certificate;
use super::rights::Rights;
use crate::pkcs11::{Match, TokenInfo};

/// Clients and tokens beyond "whoever knows a token's PIN".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Tokens that are not like the others.
    pub tokens: Vec<TokenSettings>,
    /// Clients that do not know a PIN.
    pub clients: Vec<ClientSettings>,
}

/// Tokens whose login is the bridge's matter. The first that is about a token holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSettings {
    /// Which ones.
    pub meant: Match,
    /// How to log in to them.
    pub login: Login,
}

/// How to log in to a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// Not at all.
    None,
    /// With the PIN that is kept here.
    Kept(Source),
    /// With a PIN that is typed at the token itself.
    ProtectedPath,
    /// With the PIN that a client sends.
    Sent,
}

/// Where one secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In this file.
    File(PathBuf),
    /// In the configuration itself.
    Here(Secret),
    /// In one of those that the service manager hands over, in the directory `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

/// A secret of the configuration, wiped when nobody needs it any more; what is shown of it is that it is there.
#[derive(Clone, Debug)]
pub struct Secret(SecretString);

impl Secret {
    /// Keeps `text`.
    pub fn new(text: String) -> Self {
        Self(text.into())
    }

    /// What is kept.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Secret {}

/// A client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    /// How it proves itself.
    pub proof: Proof,
    /// The name of the token that it uses.
    pub token: String,
    /// What it may do there.
    pub rights: Rights,
}

/// How a client proves itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A certificate with this SHA-256 fingerprint.
    Fingerprint(Vec<u8>),
    /// This user name, and the password in the file.
    Password(String, Source),
    /// A certificate with this alternative name, as `DNS:signer.example`.
    San(String),
    /// A certificate with this subject, as `CN=signer,O=Example`.
    Subject(String),
}

/// A secret cannot be had.
#[derive(Debug)]
pub struct Error {
    path: PathBuf,
    why: io::Error,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot read the secret in {}: {}", self.path.display(), self.why)
    }
}

impl std::error::Error for Error {}

/// A PIN, wiped when nobody needs it any more.
pub(crate) type KeptPin = Arc<Zeroizing<Vec<u8>>>;

/// The settings with the secrets that they name. There is no Debug: it holds PINs.
pub struct Clients {
    tokens: Vec<(TokenSettings, Option<KeptPin>)>,
    clients: Vec<(Arc<Known>, Option<hmac::Tag>)>,
    key: hmac::Key,
}

/// A client that has proved itself.
pub(crate) struct Known {
    /// For the log.
    pub(crate) name: String,
    pub(crate) settings: ClientSettings,
}

impl Clients {
    /// Nobody but who knows a PIN.
    pub(crate) fn none() -> Self {
        Self { tokens: Vec::new(), clients: Vec::new(), key: hmac::Key::new(hmac::HMAC_SHA256, &[]) }
    }

    /// Reads the secrets that `settings` name; `credentials` is the service manager's directory.
    ///
    /// # Errors
    /// One cannot be read, is empty, or can be read by everyone.
    pub fn load(settings: &Settings, credentials: Option<&Path>) -> Result<Self, Error> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new())
            .map_err(|_| Error { path: "/dev/random".into(), why: io::Error::other("no random numbers") })?;
        let tokens = settings.tokens.iter().map(|token| {
            let pin = match &token.login {
                Login::Kept(source) => Some(Arc::new(secret(source, credentials)?)),
                Login::None | Login::ProtectedPath | Login::Sent => None,
            };
            Ok((token.clone(), pin))
        });
        let tokens = tokens.collect::<Result<_, Error>>()?;
        let clients = settings.clients.iter().map(|client| {
            let tag = match &client.proof {
                Proof::Password(_, source) => Some(hmac::sign(&key, &secret(source, credentials)?)),
                _ => None,
            };
            Ok((Arc::new(Known { name: client.proof.to_string(), settings: client.clone() }), tag))
        });
        let clients = clients.collect::<Result<_, Error>>()?;
        Ok(Self { tokens, clients, key })
    }

    /// The client with this user name, if the password is its own; none if there is no such client.
    pub(crate) fn by_password(&self, username: &str, password: &str) -> Option<Result<Arc<Known>, ()>> {
        let (known, tag) = self
            .clients
            .iter()
            .find(|(known, _)| matches!(&known.settings.proof, Proof::Password(name, _) if name == username))?;
        let is_right =
            tag.as_ref().is_some_and(|tag| hmac::verify(&self.key, password.as_bytes(), tag.as_ref()).is_ok());
        Some(is_right.then(|| Arc::clone(known)).ok_or(()))
    }

    /// The client that has this certificate.
    pub(crate) fn by_certificate(&self, certificate: &Certificate) -> Option<Arc<Known>> {
        let has = |proof: &Proof| match proof {
            Proof::Fingerprint(fingerprint) => *fingerprint == certificate.fingerprint,
            Proof::Subject(subject) => certificate.subject.as_ref() == Some(subject),
            Proof::San(name) => certificate.names.iter().any(|has| same_name(has, name)),
            Proof::Password(..) => false,
        };
        self.clients.iter().map(|(known, _)| known).find(|known| has(&known.settings.proof)).cloned()
    }

    /// Whether the bridge keeps the PIN of any token.
    pub(crate) fn keep_a_pin(&self) -> bool {
        self.tokens.iter().any(|(_, pin)| pin.is_some())
    }

    /// How to log in to a token, and the PIN if the bridge keeps it.
    pub(crate) fn login(&self, token: &TokenInfo) -> (&Login, Option<&KeptPin>) {
        let entry = self.tokens.iter().find(|(settings, _)| settings.meant.fits(token));
        entry.map_or((&Login::Sent, None), |(settings, pin)| (&settings.login, pin.as_ref()))
    }
}

/// The secret on the first line of a file that others cannot read.
///
/// # Errors
/// It cannot be read, is empty, or can be read by everyone.
pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    secret(&Source::File(path.to_owned()), None)
}

/// DNS names are the same in either case (RFC 4343); of an address only the part after the at sign, which is let be.
fn same_name(one: &str, other: &str) -> bool {
    one == other || (one.starts_with("DNS:") && one.eq_ignore_ascii_case(other))
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fingerprint(fingerprint) => {
                write!(f, "certificate ")?;
                fingerprint.iter().take(8).try_for_each(|byte| write!(f, "{byte:02X}"))
            }
            Self::Password(username, _) => write!(f, "user '{}'", username.escape_debug()),
            Self::San(name) => write!(f, "certificate of {}", name.escape_debug()),
            Self::Subject(subject) => write!(f, "certificate of {}", subject.escape_debug()),
        }
    }
}

/// The first line of a file, which has to hold something.
fn secret(source: &Source, credentials: Option<&Path>) -> Result<Zeroizing<Vec<u8>>, Error> {
    const LONGEST: usize = 4096;
    let path = match (source, credentials) {
        (Source::Here(secret), _) => return Ok(Zeroizing::new(secret.expose().as_bytes().to_vec())),
        (Source::File(path), _) => path.clone(),
        (Source::Credential(name), Some(directory)) => directory.join(name),
        (Source::Credential(name), None) => {
            let why =
                io::Error::other("$CREDENTIALS_DIRECTORY is not set: the service manager hands no credentials over");
            return Err(Error { path: name.into(), why });
        }
    };
    let read = || {
        use std::os::unix::fs::MetadataExt;
        let file = File::open(&path)?;
        if file.metadata()?.mode() & 0o007 != 0 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "everyone on this machine may use it"));
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST));
        file.take(LONGEST as u64).read_to_end(&mut bytes)?;
        let line = bytes.split(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
        if line.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its first line is empty"));
        }
        Ok(Zeroizing::new(line.to_vec()))
    };
    read().map_err(|why| Error { path: path.clone(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn file(name: &str, content: &str, mode: u32) -> Source {
        let path = std::env::temp_dir().join(format!("chb-secret-{name}-{}", std::process::id()));
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        Source::File(path)
    }

    #[test]
    fn takes_the_first_line_of_a_file_that_others_cannot_read() {
        let read = |name, content, mode| secret(&file(name, content, mode), None);
        assert_eq!(read("a", "word with blanks \nmore\n", 0o600).unwrap().as_slice(), b"word with blanks ");
        assert_eq!(read("b", "word\r\n", 0o640).unwrap().as_slice(), b"word");
        assert!(read("c", "word", 0o644).unwrap_err().to_string().contains("everyone on this machine"));
        assert!(read("d", "\nword", 0o600).unwrap_err().to_string().contains("its first line is empty"));
        for name in ["a", "b", "c", "d"] {
            let Source::File(path) = file(name, "", 0o600) else { panic!("as a test") };
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn finds_credentials_only_where_the_service_manager_puts_them() {
        let error = secret(&Source::Credential("pin".to_owned()), None).unwrap_err();
        assert!(error.to_string().contains("$CREDENTIALS_DIRECTORY is not set"), "{error}");
    }

    #[test]
    fn compares_dns_names_in_either_case_and_nothing_else() {
        assert!(same_name("DNS:A.example", "DNS:a.example"));
        assert!(!same_name("URI:urn:A", "URI:urn:a") && !same_name("DNS:a", "URI:a"));
    }
}
