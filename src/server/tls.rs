//! The server's TLS: versions, tickets, and whose certificate it shows.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use log::warn;
use rustls::crypto::ring;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::{ServerConfig, SupportedProtocolVersion};

use super::client_ca::{self, Ends, Judge};
use super::identity::{self, Pair};
use super::self_signed;

/// The TLS part of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The certificate to show; without one, a self-signed one is made once and kept in `state_dir`.
    pub identity: Option<Identity>,
    /// The oldest version spoken.
    pub min_version: TlsVersion,
    /// Whose certificates clients show; none if they show none.
    pub clients: Option<Clients>,
    /// Names and addresses for a self-signed certificate, beyond the host's own.
    pub names: Vec<String>,
    /// Where a self-signed certificate is kept.
    pub state_dir: PathBuf,
}

/// PEM files with the server's certificate, followed by those of its issuers, and with its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificates.
    pub cert_path: PathBuf,
    /// The private key; PKCS#8, PKCS#1 or SEC 1, not encrypted.
    pub key_path: PathBuf,
}

/// Whether clients show certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    Off,
    /// They may.
    Optional,
    /// Who has none is not spoken to.
    Required,
}

/// The certificates of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    /// Whether who has none is not spoken to.
    pub is_required: bool,
    /// A PEM file with the certificates of their issuers.
    pub ca_path: PathBuf,
    /// A PEM file with lists of revoked certificates.
    pub crl_path: Option<PathBuf>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2, for old clients.
    V1_2,
    /// TLS 1.3.
    #[default]
    V1_3,
}

impl TlsVersion {
    /// This version and those after it.
    fn and_later(self) -> &'static [&'static SupportedProtocolVersion] {
        static FROM_V1_2: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
        static FROM_V1_3: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
        match self {
            Self::V1_2 => FROM_V1_2,
            Self::V1_3 => FROM_V1_3,
        }
    }
}

/// What [`super::Server::run`] needs, and what clients are told to trust.
#[derive(Debug)]
pub struct Tls {
    /// For the connections.
    pub config: Arc<ServerConfig>,
    /// The certificate that they show.
    pub certificate: Certificate,
    pair: Pair,
    clients: Ends,
}

impl Tls {
    /// Warns in the log if the certificate is at its end, or near it, or what those of clients are judged by.
    pub fn warn_of_expiry(&self) {
        if let Some(remark) = identity::expiry(&self.pair) {
            let name = self.certificate.path.as_ref().map(|path| format!(" {}", path.display())).unwrap_or_default();
            warn!("certificate{name}: {remark}");
        }
        self.clients.remarks(UnixTime::now().as_secs()).iter().for_each(|remark| warn!("{remark}"));
    }
}

/// The certificate that the server shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The file with it; `None` if it exists in memory only.
    pub path: Option<PathBuf>,
    /// SHA-256 of its DER form, upper-case hex with colons, as `openssl x509 -fingerprint -sha256` prints it.
    pub fingerprint: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the files that the configuration names.
    Configured,
    /// Self-signed, from the state directory.
    Kept,
    /// Self-signed, made just now and kept in the state directory.
    Made,
    /// Self-signed, made just now; the next start makes another, as it could not be kept.
    Unkept,
}

/// Reads the certificate and key, or makes them; `listening` are the addresses that a self-signed certificate is to name.
/// What is odd about them but no reason not to start is logged as warnings.
///
/// # Errors
/// The files are not readable, are not what they should be, or do not belong together.
pub fn load(settings: &Settings, listening: &[SocketAddr]) -> Result<Tls, Error> {
    let names = self_signed::names(&settings.names, listening)?;
    let (pair, certificate) = match existing(settings, &names)? {
        Some(existing) => existing,
        None => {
            warn_of_lacking_names(settings, listening);
            make(&settings.state_dir, &names)?
        }
    };
    let judge = judge(settings)?;
    judge.remarks().iter().for_each(|remark| warn!("{remark}"));
    let (verifier, clients) = judge.into_parts();
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(settings.min_version.and_later())
        .map_err(Error::Tls)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair.key.clone())));
    if settings.clients.is_some() {
        // A session that is taken up again brings the certificate along unjudged, for ever if it is taken up often enough: its end would
        // count for nothing, and whoever has the session needs no key.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
    } else {
        // Tickets carry the session, sealed with a key that is in memory only and changes: nothing is kept per client.
        config.ticketer = ring::Ticketer::new().map_err(Error::Tls)?;
    }
    Ok(Tls { config: Arc::new(config), certificate, pair, clients })
}

/// Does what [`load`] does short of making and writing anything: `None` if it would make a certificate.
///
/// # Errors
/// As [`load`].
pub fn check(settings: &Settings, listening: &[SocketAddr]) -> Result<Option<Certificate>, Error> {
    judge(settings)?.remarks().iter().for_each(|remark| warn!("{remark}"));
    let names = self_signed::names(&settings.names, listening)?;
    let existing = existing(settings, &names)?;
    if existing.is_none() {
        warn_of_lacking_names(settings, listening);
    }
    Ok(existing.map(|(_, certificate)| certificate))
}

fn warn_of_lacking_names(settings: &Settings, listening: &[SocketAddr]) {
    if self_signed::lacks_names(&settings.names, listening) {
        warn!(
            "the self-signed certificate is for this host's own name and the loopback addresses only, while every address is \
             listened on\nhint: server.tls.names holds the names and addresses that clients use"
        );
    }
}

/// What judges the certificates of clients.
pub(super) fn judge(settings: &Settings) -> Result<Judge, Error> {
    settings.clients.as_ref().map_or_else(|| Ok(Judge::none()), client_ca::load)
}

/// The configured pair, or the kept one if there is one.
fn existing(settings: &Settings, names: &[ServerName<'_>]) -> Result<Option<(Pair, Certificate)>, Error> {
    if let Some(Identity { cert_path, key_path }) = &settings.identity {
        let pair = identity::read_configured(cert_path, key_path)?;
        for remark in identity::remarks(&pair, key_path) {
            warn!("certificate {}: {remark}", cert_path.display());
        }
        let certificate = describe(&pair, Some(cert_path), Origin::Configured);
        return Ok(Some((pair, certificate)));
    }
    let Some(pair) = self_signed::kept(&settings.state_dir)? else {
        return Ok(None);
    };
    let (cert_path, key_path) = self_signed::paths(&settings.state_dir);
    let mut remarks = identity::remarks(&pair, &key_path);
    remarks.extend(
        names
            .iter()
            .filter(|name| !identity::covers(&pair, name))
            .map(|name| format!("it is not for {}, which clients that verify names may use", name.to_str())),
    );
    for remark in &remarks {
        warn!("certificate {}: {remark}", cert_path.display());
    }
    if !remarks.is_empty() {
        warn!(
            "hint: to have a new one made, which clients then have to trust anew, delete {} and {} and restart",
            cert_path.display(),
            key_path.display()
        );
    }
    let certificate = describe(&pair, Some(&cert_path), Origin::Kept);
    Ok(Some((pair, certificate)))
}

fn make(dir: &Path, names: &[ServerName<'_>]) -> Result<(Pair, Certificate), Error> {
    match self_signed::make_and_keep(dir, names)? {
        Ok(pair) => {
            let (cert_path, _) = self_signed::paths(dir);
            let certificate = describe(&pair, Some(&cert_path), Origin::Made);
            Ok((pair, certificate))
        }
        Err(error) => {
            warn!("{}", unkept(dir, &error));
            let pair = self_signed::make(names)?;
            let certificate = describe(&pair, None, Origin::Unkept);
            Ok((pair, certificate))
        }
    }
}

/// What to say of a state directory that cannot hold a certificate.
pub fn unkept(dir: &Path, why: &io::Error) -> String {
    format!(
        "cannot keep a certificate in {}: {why}\nhint: it will be another one at each start, which clients cannot pin; make the \
         directory writable, or configure a certificate",
        dir.display()
    )
}

pub(super) fn describe(pair: &Pair, path: Option<&Path>, origin: Origin) -> Certificate {
    Certificate { path: path.map(Path::to_path_buf), fingerprint: pair.fingerprint(), origin }
}

/// Why there is no TLS.
#[derive(Debug)]
pub enum Error {
    /// The certificate cannot be used by TLS.
    BadCertificate(PathBuf, rustls::Error),
    /// The key is of a kind that TLS here does not know.
    BadKey(PathBuf, rustls::Error),
    /// The file's PEM armour is broken.
    BadPem(PathBuf, rustls::pki_types::pem::Error),
    /// The configured files are not right: keys of the configuration, at least one, and what is wrong with each.
    Configured(Vec<(&'static str, Error)>),
    /// The private key is encrypted.
    EncryptedKey(PathBuf),
    /// What is kept in the state directory is not right.
    Kept(PathBuf, Box<Error>),
    /// There is a kept certificate (the first) without its key (the second).
    KeyLost(PathBuf, PathBuf),
    /// The certificates of the issuers of clients' certificates, or the list of revoked ones, cannot be used.
    BadClientCa(PathBuf, String),
    /// A certificate could not be made.
    Make(String),
    /// The certificate (the first) is not that of the key (the second).
    Mismatch(PathBuf, PathBuf),
    /// Not a host name or an address.
    Name(String),
    /// The file holds no certificate; the flag says whether a private key is there instead.
    NoCertificate(PathBuf, bool),
    /// The file holds no private key; the flag says whether a certificate is there instead.
    NoKey(PathBuf, bool),
    /// The file cannot be read.
    Read(PathBuf, io::Error),
    /// TLS itself fails.
    Tls(rustls::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const EXCHANGED: &str = "\nhint: are cert-path and key-path exchanged?";
        let exchanged = |other: &bool| if *other { EXCHANGED } else { "" };
        match self {
            Self::BadCertificate(path, error) => write!(f, "cannot use the certificate in {}: {error}", path.display()),
            Self::BadKey(path, error) => write!(
                f,
                "cannot use the private key in {}: {error}\nhint: ECDSA P-256, Ed25519 and RSA keys serve",
                path.display()
            ),
            Self::BadPem(path, error) => write!(f, "{} is not sound PEM: {error}", path.display()),
            Self::Configured(errors) => {
                let lines: Vec<_> = errors.iter().map(|(key, error)| format!("{key}: {error}")).collect();
                write!(f, "{}", lines.join("\n"))
            }
            Self::EncryptedKey(path) => write!(
                f,
                "the private key in {} is encrypted\nhint: the bridge starts unattended; keep the key in a file that only \
                 its user can read, `openssl pkey` decrypts it",
                path.display()
            ),
            Self::KeyLost(cert_path, key_path) => write!(
                f,
                "there is {}, but not its key {}\nhint: put the key back, or delete the certificate to have a new pair made",
                cert_path.display(),
                key_path.display()
            ),
            Self::Kept(dir, error) => {
                let (cert_path, key_path) = self_signed::paths(dir);
                let text = error.to_string();
                let or = match **error {
                    Self::Read(..) => "let the bridge's user read it; or, ",
                    _ => "",
                };
                write!(
                    f,
                    "{}\nhint: {or}to have a new pair made, which clients then have to trust anew, delete {} and {}",
                    text.lines().next().unwrap_or_default(),
                    cert_path.display(),
                    key_path.display()
                )
            }
            Self::BadClientCa(path, error) => {
                write!(f, "cannot judge certificates of clients by {}: {error}", path.display())
            }
            Self::Make(error) => write!(f, "cannot make a self-signed certificate: {error}"),
            Self::Mismatch(cert_path, key_path) => {
                write!(f, "the certificate in {} is not that of the key in {}", cert_path.display(), key_path.display())
            }
            Self::Name(name) => write!(f, "{name:?} is neither a host name nor an IP address"),
            Self::NoCertificate(path, other) => {
                write!(f, "there is no certificate in {}{}", path.display(), exchanged(other))
            }
            Self::NoKey(path, other) => {
                write!(f, "there is no private key in {}{}", path.display(), exchanged(other))
            }
            Self::Read(path, error) => write!(f, "cannot read {}: {error}", path.display()),
            Self::Tls(error) => write!(f, "cannot set up TLS: {error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::BadCertificate(_, error) | Self::BadKey(_, error) | Self::Tls(error) => Some(error),
            Self::BadPem(_, error) => Some(error),
            Self::Read(_, error) => Some(error),
            Self::Kept(_, error) => Some(error.as_ref()),
            _ => None,
        }
    }
}
