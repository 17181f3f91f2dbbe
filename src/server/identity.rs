//! A certificate and its private key: read from PEM, proved to belong together, and looked over for what clients stumble on.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, InconsistentKeys, RootCertStore, SignatureScheme};
use zeroize::Zeroizing;

use super::tls::Error;
use crate::bridge::access;

/// How long before a certificate's end there is a warning.
pub(super) const EXPIRY_NOTICE: Duration = Duration::from_secs(30 * DAY);

pub(super) const DAY: u64 = 24 * 60 * 60;

/// A certificate, its issuers' if it has any, and its private key.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub key: CertifiedKey,
}

impl Pair {
    /// Puts a certificate chain, own certificate first, and a key together; the paths are for the errors.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        cert_path: &Path,
        key_path: &Path,
    ) -> Result<Self, Error> {
        let key = ring::sign::any_supported_type(&key).map_err(|error| Error::BadKey(key_path.into(), error))?;
        let key = CertifiedKey::new(chain, key);
        match key.keys_match() {
            Ok(()) => Ok(Self { key }),
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                Err(Error::Mismatch(cert_path.into(), key_path.into()))
            }
            Err(error) => Err(Error::BadCertificate(cert_path.into(), error)),
        }
    }

    /// SHA-256 of the certificate in upper-case hex with colons.
    pub fn fingerprint(&self) -> String {
        let der = self.key.cert.first().map(AsRef::as_ref).unwrap_or_default();
        let digest = ::ring::digest::digest(&::ring::digest::SHA256, der);
        let hex: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        hex.join(":")
    }

    fn parsed(&self) -> Result<ParsedCertificate<'_>, rustls::Error> {
        self.key.end_entity_cert().and_then(ParsedCertificate::try_from)
    }
}

/// Reads a certificate chain and its key.
pub(super) fn read(cert_path: &Path, key_path: &Path) -> Result<Pair, Error> {
    Pair::new(chain(cert_path)?, key(key_path)?, cert_path, key_path)
}

/// The same for the files that the configuration names: all that is wrong is told at once, each with its key.
pub(super) fn read_configured(cert_path: &Path, key_path: &Path) -> Result<Pair, Error> {
    match (chain(cert_path), key(key_path)) {
        (Ok(chain), Ok(key)) => {
            Pair::new(chain, key, cert_path, key_path).map_err(|error| Error::Configured(vec![(TABLE, error)]))
        }
        (chain, key) => {
            let errors = [(CERT_PATH, chain.err()), (KEY_PATH, key.err())];
            Err(Error::Configured(errors.into_iter().filter_map(|(key, error)| Some((key, error?))).collect()))
        }
    }
}

const TABLE: &str = "server.identity";
const CERT_PATH: &str = "server.identity.cert-path";
const KEY_PATH: &str = "server.identity.key-path";

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = fs::read(path).map_err(|error| Error::Read(path.into(), error))?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| Error::BadPem(path.into(), error))?;
    if chain.is_empty() {
        return Err(Error::NoCertificate(path.into(), PrivateKeyDer::from_pem_slice(&pem).is_ok()));
    }
    Ok(chain)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let pem = Zeroizing::new(fs::read(path).map_err(|error| Error::Read(path.into(), error))?);
    private_key(&pem, path)
}

fn private_key(pem: &[u8], path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        pem::Error::NoItemsFound if is_encrypted(pem) => Error::EncryptedKey(path.into()),
        pem::Error::NoItemsFound => Error::NoKey(path.into(), CertificateDer::from_pem_slice(pem).is_ok()),
        // The older form says so inside the armour, where it is not sound PEM by today's rules.
        _ if is_encrypted(pem) => Error::EncryptedKey(path.into()),
        error => Error::BadPem(path.into(), error),
    })
}

fn is_encrypted(pem: &[u8]) -> bool {
    String::from_utf8_lossy(pem).contains("ENCRYPTED")
}

/// Whether the certificate is for `name`.
pub(super) fn covers(pair: &Pair, name: &ServerName<'_>) -> bool {
    pair.parsed().is_ok_and(|certificate| verify_server_name(&certificate, name).is_ok())
}

/// What clients or operators may stumble on, one line each.
pub(super) fn remarks(pair: &Pair, key_path: &Path) -> Vec<String> {
    let mut remarks: Vec<String> = expiry(pair).into_iter().collect();
    match verdict(pair, UnixTime::now()) {
        Ok(()) | Err(CertificateError::ExpiredContext { .. }) => {}
        Err(CertificateError::NotValidYetContext { .. }) => {
            remarks.push("it is not valid yet, clients that verify it will refuse it; is the clock right?".to_owned());
        }
        Err(error) if format!("{error:?}").contains("CaUsedAsEndEntity") => remarks.push(
            "it is a CA's own certificate, which strict clients refuse from a server (CA:TRUE; make it with \
             `openssl req -x509 -addext basicConstraints=critical,CA:FALSE`)"
                .to_owned(),
        ),
        Err(error) => remarks.push(format!("clients may refuse it: {error}")),
    }
    if pair.key.key.choose_scheme(&[SignatureScheme::ECDSA_NISTP384_SHA384]).is_some() {
        remarks.push("its key is ECDSA P-384, which Cascade cannot verify; P-256, Ed25519 and RSA serve".to_owned());
    }
    if fs::metadata(key_path).is_ok_and(|file| file.mode() & 0o004 != 0) {
        remarks.push(format!("its key {} can be read by everyone on this machine", key_path.display()));
    }
    remarks
}

/// That the certificate is at its end, or near it.
pub(super) fn expiry(pair: &Pair) -> Option<String> {
    let (now, end) = (UnixTime::now().as_secs(), not_after(pair)?);
    match end.checked_sub(now) {
        Some(left) if left < EXPIRY_NOTICE.as_secs() => Some(format!("it expires in {} days", left / DAY)),
        Some(_) => None,
        None => {
            let days = now.saturating_sub(end) / DAY;
            Some(format!("it expired {days} days ago, clients that verify it will refuse it"))
        }
    }
}

/// The certificate's end, in seconds since 1970.
pub(super) fn not_after(pair: &Pair) -> Option<u64> {
    access::not_after(pair.key.cert.first()?)
}

/// What kind of key it has.
pub(super) fn key_name(pair: &Pair) -> &'static str {
    let signs = |scheme| pair.key.key.choose_scheme(&[scheme]).is_some();
    if signs(SignatureScheme::ECDSA_NISTP256_SHA256) {
        "ECDSA P-256"
    } else if signs(SignatureScheme::ECDSA_NISTP384_SHA384) {
        "ECDSA P-384"
    } else if signs(SignatureScheme::ED25519) {
        "Ed25519"
    } else {
        "RSA"
    }
}

/// What a client would say of the certificate at a time, whoever issued it.
fn verdict(pair: &Pair, at: UnixTime) -> Result<(), CertificateError> {
    let algorithms = ring::default_provider().signature_verification_algorithms;
    // Without any trust anchor, a certificate that has no fault of its own comes out as one of an unknown issuer.
    let verified = pair.parsed().and_then(|certificate| {
        verify_server_cert_signed_by_trust_anchor(&certificate, &RootCertStore::empty(), &[], at, algorithms.all)
    });
    match verified {
        Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) | Ok(()) => Ok(()),
        Err(rustls::Error::InvalidCertificate(error)) => Err(error),
        Err(_) => Err(CertificateError::BadEncoding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};

    fn pair(algorithm: &'static rcgen::SignatureAlgorithm, adjust: impl FnOnce(&mut CertificateParams)) -> Pair {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        adjust(&mut params);
        let certificate = params.self_signed(&key).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Pair::new(vec![certificate.der().clone()], key, Path::new("c"), Path::new("k")).unwrap()
    }

    fn only_remark(pair: &Pair) -> String {
        let mut remarks = remarks(pair, Path::new("/nowhere"));
        assert_eq!(remarks.len(), 1, "{remarks:?}");
        remarks.remove(0)
    }

    fn days_from_now(days: u64) -> Duration {
        Duration::from_secs(UnixTime::now().as_secs() + days * DAY)
    }

    #[test]
    fn says_nothing_of_an_ordinary_certificate() {
        assert_eq!(remarks(&pair(&PKCS_ECDSA_P256_SHA256, |_| {}), Path::new("/nowhere")), [""; 0]);
    }

    #[test]
    fn tells_a_ca_certificate() {
        let pair = pair(&PKCS_ECDSA_P256_SHA256, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
        assert!(only_remark(&pair).starts_with("it is a CA's own certificate"));
    }

    #[test]
    fn tells_a_p384_key() {
        assert!(only_remark(&pair(&PKCS_ECDSA_P384_SHA384, |_| {})).contains("P-384"));
    }

    #[test]
    fn tells_what_is_expired_or_will_be_soon_or_is_not_valid_yet() {
        let until = |end: Duration| {
            pair(&PKCS_ECDSA_P256_SHA256, |params| params.not_after = rcgen::date_time_ymd(1970, 1, 1) + end)
        };
        assert_eq!(only_remark(&until(days_from_now(10) + Duration::from_secs(600))), "it expires in 10 days");
        assert!(remarks(&until(days_from_now(31)), Path::new("/nowhere")).is_empty());
        let expired = until(Duration::from_secs(UnixTime::now().as_secs() - 3 * DAY));
        assert!(only_remark(&expired).starts_with("it expired 3 days ago"));
        let early = pair(&PKCS_ECDSA_P256_SHA256, |params| {
            params.not_before = rcgen::date_time_ymd(1970, 1, 1) + days_from_now(1);
        });
        assert!(only_remark(&early).starts_with("it is not valid yet"));
    }

    #[test]
    fn knows_what_names_a_certificate_is_for() {
        let pair = pair(&PKCS_ECDSA_P256_SHA256, |_| {});
        assert!(covers(&pair, &ServerName::try_from("localhost").unwrap()));
        assert!(!covers(&pair, &ServerName::try_from("elsewhere").unwrap()));
    }
}
