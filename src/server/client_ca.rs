//! Who may issue certificates of clients, and which of them were revoked.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use super::identity::{DAY, EXPIRY_NOTICE};
use super::tls::{Clients, Error};
use crate::bridge::access::{next_update, not_after, owner};

/// What judges certificates of clients.
pub(super) struct Judge {
    pub verifier: Arc<dyn ClientCertVerifier>,
    ends: Ends,
}

impl Judge {
    /// One before which clients show none.
    pub fn none() -> Self {
        Self { verifier: WebPkiClientVerifier::no_client_auth(), ends: Ends::default() }
    }

    /// What operators may stumble on, one line each.
    pub fn remarks(&self) -> Vec<String> {
        self.ends.remarks(UnixTime::now().as_secs())
    }

    pub fn into_parts(self) -> (Arc<dyn ClientCertVerifier>, Ends) {
        (self.verifier, self.ends)
    }
}

/// Until when the files are meant to be used, in seconds since 1970. They count after that too, so that only a warning tells.
#[derive(Clone, Debug, Default)]
pub(super) struct Ends {
    /// With the name of each issuer.
    issuers: Vec<(String, u64)>,
    lists: Vec<(String, u64)>,
}

impl Ends {
    /// What there is to be warned of at a time.
    pub fn remarks(&self, now: u64) -> Vec<String> {
        let days = |from: u64, to: u64| to.saturating_sub(from) / DAY;
        let of_issuer = |(name, end): &(String, u64)| {
            if *end < now {
                Some(format!(
                    "{name}: it expired {} days ago, and what it has issued counts all the same",
                    days(*end, now)
                ))
            } else if *end < now.saturating_add(EXPIRY_NOTICE.as_secs()) {
                Some(format!("{name}: it expires in {} days", days(now, *end)))
            } else {
                None
            }
        };
        let of_list = |(name, end): &(String, u64)| {
            let is_late = *end < now;
            is_late.then(|| {
                format!("{name}: it should have been replaced {} days ago, and counts all the same", days(*end, now))
            })
        };
        self.issuers.iter().filter_map(of_issuer).chain(self.lists.iter().filter_map(of_list)).collect()
    }
}

/// What judges certificates of clients. A list of revoked certificates counts for its own issuer; where there is none of an
/// issuer, nothing is revoked. Lists that are out of date count: better the last word than none.
pub(super) fn load(clients: &Clients) -> Result<Judge, Error> {
    let bad = |path: &Path, error: String| Error::BadClientCa(path.into(), error);
    let mut ends = Ends::default();
    let mut roots = RootCertStore::empty();
    for certificate in read::<CertificateDer<'static>>(&clients.ca_path)? {
        let subject = owner(&certificate).0.map(|subject| format!(", {subject}")).unwrap_or_default();
        let name = format!("client CA {}{subject}", clients.ca_path.display());
        ends.issuers.extend(not_after(&certificate).map(|end| (name, end)));
        roots.add(certificate).map_err(|error| bad(&clients.ca_path, error.to_string()))?;
    }
    let provider = Arc::new(ring::default_provider());
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if let Some(path) = &clients.crl_path {
        let lists = read::<CertificateRevocationListDer<'static>>(path)?;
        let name = || format!("list of revoked certificates {}", path.display());
        ends.lists.extend(lists.iter().filter_map(|list| next_update(list)).min().map(|end| (name(), end)));
        // A list of another issuer than that of a certificate says nothing of it.
        builder = builder.with_crls(lists).only_check_end_entity_revocation().allow_unknown_revocation_status();
    }
    if !clients.is_required {
        builder = builder.allow_unauthenticated();
    }
    let verifier = builder.build();
    let verifier =
        verifier.map_err(|error| bad(clients.crl_path.as_deref().unwrap_or(&clients.ca_path), error.to_string()))?;
    Ok(Judge { verifier, ends })
}

/// What a PEM file holds of a kind, at least one.
fn read<T: PemObject>(path: &Path) -> Result<Vec<T>, Error> {
    let pem = fs::read(path).map_err(|error| Error::Read(path.into(), error))?;
    let items: Vec<T> =
        T::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|error| Error::BadPem(path.into(), error))?;
    if items.is_empty() {
        return Err(Error::BadClientCa(path.into(), "there is none of what it should hold in it".to_owned()));
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_of_issuers_before_their_end_and_of_lists_after_it() {
        let now = 1_800_000_000;
        let at =
            |end: u64| Ends { issuers: vec![("a".to_owned(), end)], lists: vec![("b".to_owned(), end)] }.remarks(now);
        assert_eq!(at(now + 31 * DAY), [""; 0]);
        assert_eq!(at(now + 10 * DAY), ["a: it expires in 10 days"]);
        let after = at(now - 3 * DAY);
        assert!(after[0].starts_with("a: it expired 3 days ago"), "{after:?}");
        assert!(after[1].starts_with("b: it should have been replaced 3 days ago"), "{after:?}");
    }
}
