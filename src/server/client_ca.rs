//! Who may issue certificates of clients, and which of them were revoked.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use super::tls::{Clients, Error};

/// What judges certificates of clients. A list of revoked certificates counts for its own issuer; where there is none of an
/// issuer, nothing is revoked. Lists that are out of date count: better the last word than none.
pub(super) fn verifier(clients: &Clients) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let bad = |path: &Path, error: String| Error::BadClientCa(path.into(), error);
    let mut roots = RootCertStore::empty();
    for certificate in read::<CertificateDer<'static>>(&clients.ca_path)? {
        roots.add(certificate).map_err(|error| bad(&clients.ca_path, error.to_string()))?;
    }
    let provider = Arc::new(ring::default_provider());
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if let Some(path) = &clients.crl_path {
        let lists = read::<CertificateRevocationListDer<'static>>(path)?;
        // A list of another issuer than that of a certificate says nothing of it.
        builder = builder.with_crls(lists).only_check_end_entity_revocation().allow_unknown_revocation_status();
    }
    if !clients.is_required {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| bad(clients.crl_path.as_deref().unwrap_or(&clients.ca_path), error.to_string()))
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
