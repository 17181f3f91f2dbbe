//! The certificate as an operator wants to see it: whose, until when, with what key, and what clients stumble on.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use rustls::pki_types::UnixTime;

use super::tls::{Certificate, Error, Identity, Origin, Settings, describe, judge};
use super::{identity, self_signed};
use crate::bridge::access::alternative_names_of;

/// A certificate that is there.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Where it is, and its fingerprint.
    pub certificate: Certificate,
    /// What kind of key it has.
    pub key: &'static str,
    /// The names that it is for, as `DNS:localhost`.
    pub names: Vec<String>,
    /// Days until its end, if that can be read; none where it has passed.
    pub days_left: Option<u64>,
    /// Whether its end has passed.
    pub is_expired: bool,
    /// What clients may stumble on, one text each.
    pub remarks: Vec<String>,
}

/// Looks at the certificate of `settings`; `None` if one is to be made. `listening` are the addresses that clients use.
///
/// # Errors
/// As [`super::tls::load`].
pub fn at(settings: &Settings, listening: &[SocketAddr]) -> Result<Option<Seen>, Error> {
    judge(settings)?;
    let wanted = self_signed::names(&settings.names, listening)?;
    let (pair, key_path, certificate) = match &settings.identity {
        Some(Identity { cert_path, key_path }) => {
            let pair = identity::read_configured(cert_path, key_path)?;
            let certificate = describe(&pair, Some(cert_path), Origin::Configured);
            (pair, key_path.clone(), certificate)
        }
        None => {
            let Some(pair) = self_signed::kept(&settings.state_dir)? else { return Ok(None) };
            let (cert_path, key_path) = self_signed::paths(&settings.state_dir);
            let certificate = describe(&pair, Some(&cert_path), Origin::Kept);
            (pair, key_path, certificate)
        }
    };
    let mut remarks = identity::remarks(&pair, &key_path);
    // A configured one is for the names that its makers know clients to use.
    if certificate.origin == Origin::Kept {
        let lacking = wanted.iter().filter(|name| !identity::covers(&pair, name));
        remarks.extend(lacking.map(|name| format!("it is not for {}", name.to_str())));
    }
    let left = identity::not_after(&pair).map(|end| end.checked_sub(UnixTime::now().as_secs()));
    Ok(Some(Seen {
        certificate,
        key: identity::key_name(&pair),
        names: alternative_names_of(pair.key.cert.first().map(AsRef::as_ref).unwrap_or_default()),
        days_left: left.flatten().map(|seconds| seconds / identity::DAY),
        is_expired: left == Some(None),
        remarks,
    }))
}

/// What there is to be warned of in the files by which certificates of clients are judged.
///
/// # Errors
/// As [`super::tls::load`].
pub fn at_clients(settings: &Settings) -> Result<Vec<String>, Error> {
    judge(settings).map(|judge| judge.remarks())
}

/// Whether a certificate that is made would lack names by which clients reach the addresses of `listening`.
pub fn lacks_names(settings: &Settings, listening: &[SocketAddr]) -> bool {
    self_signed::lacks_names(&settings.names, listening)
}
