//! Public keys that the operator has as files, for private keys whose token does not keep the other half.
//!
//! Which file is which key's is not taken on trust: the private key signs, and the file's key has to verify it.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use log::{info, warn};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;

use super::dnskey::{self, Dnskey};
use super::ident::{self, Identifier};
use super::mechanism::{Input, Scheme};
use super::signing::{self, Unsigned};
use crate::kmip::{CryptographicParameters, Outcome};
use crate::pkcs11::{Curve, Fault, Key, KeyKind, PublicKey, Token};

/// The largest file that is read: a zone's DNSKEY records are some kilobytes.
const LARGEST: u64 = 65_536;

/// The most files in the directory.
const MOST: usize = 65_536;

/// Private keys that are remembered to have no other half in a file; over more, each is tried again.
const MOST_WITHOUT: usize = 4096;

/// What a private key signs to prove that a file has its other half, before 32 random bytes. No signature of a client's data begins so.
const PROOF: &[u8] = b"cascade-hsm-bridge asks: is this the private key of that public key?\0";

/// The public keys of a directory.
#[derive(Debug, Default)]
pub struct PublicKeys {
    files: Vec<Known>,
    /// Private keys that were found to have no other half here, by slot and CKA_ID, so that they need not sign for every search.
    /// Such a key is forgotten with what else is known of it.
    without: Mutex<HashMap<Place, Weak<Key>>>,
}

/// Slot and CKA_ID.
type Place = (u64, Vec<u8>);

/// A public key in a file.
#[derive(Debug)]
struct Known {
    path: PathBuf,
    /// The CKA_ID that the file is named after, if it is one.
    id: Option<Vec<u8>>,
    key: PublicKey,
    /// What a DNSKEY record says beside the key.
    dnskey: Option<Dnskey>,
}

/// A directory or a file in it cannot be used.
#[derive(Debug)]
pub struct Error {
    path: PathBuf,
    why: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot read public keys from {}: {}", self.path.display(), self.why)
    }
}

impl std::error::Error for Error {}

impl PublicKeys {
    /// Reads the files of `directory` whose names end in `.key` (DNSKEY records) or `.pem`; also says which of them could not be.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn load(directory: &Path) -> Result<(Self, Vec<Error>), Error> {
        let failed = |why: io::Error| Error { path: directory.to_owned(), why: why.to_string() };
        let mut paths = Vec::new();
        for entry in fs::read_dir(directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "key" || extension == "pem") {
                paths.push(path);
            }
            if paths.len() > MOST {
                return Err(Error { path: directory.to_owned(), why: format!("more than {MOST} files") });
            }
        }
        // So that what is tried first does not depend on the file system.
        paths.sort();
        let (mut keys, mut errors) = (Self::default(), Vec::new());
        for path in paths {
            match read(&path) {
                Ok(known) => keys.files.extend(known),
                Err(why) => errors.push(Error { path, why }),
            }
        }
        Ok((keys, errors))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The DNSKEY records that hold this key.
    pub(super) fn records_of<'k>(&'k self, key: &'k PublicKey) -> impl Iterator<Item = &'k Dnskey> {
        self.files.iter().filter(move |known| known.key == *key).filter_map(|known| known.dnskey.as_ref())
    }

    /// Every DNSKEY record.
    pub(super) fn records(&self) -> impl Iterator<Item = &Dnskey> {
        self.files.iter().filter_map(|known| known.dnskey.as_ref())
    }

    /// The other half of a private key, if a file has it.
    ///
    /// # Errors
    /// The token does not sign, though it could.
    pub(super) fn public_half(&self, token: &Token, key: &Arc<Key>) -> Outcome<Option<PublicKey>> {
        if self.files.is_empty() || self.is_without(token, key) {
            return Ok(None);
        }
        let public = self.look_for(token, key)?;
        if public.is_none() {
            self.remember_without(token, key);
        }
        Ok(public)
    }

    fn is_without(&self, token: &Token, key: &Arc<Key>) -> bool {
        let without = self.without.lock().unwrap_or_else(PoisonError::into_inner);
        let known = without.get(&(token.info().slot_id, key.id.clone()));
        known.and_then(Weak::upgrade).is_some_and(|known| Arc::ptr_eq(&known, key))
    }

    fn remember_without(&self, token: &Token, key: &Arc<Key>) {
        let mut without = self.without.lock().unwrap_or_else(PoisonError::into_inner);
        if without.len() >= MOST_WITHOUT {
            without.clear();
        }
        without.insert((token.info().slot_id, key.id.clone()), Arc::downgrade(key));
    }

    fn look_for(&self, token: &Token, key: &Arc<Key>) -> Outcome<Option<PublicKey>> {
        let mut candidates: Vec<&Known> = self.files.iter().filter(|known| known.may_be_of(key)).collect();
        if candidates.is_empty() {
            return Ok(None);
        }
        let identifier = ident::format(key.class, &key.id);
        let Some(proof) = Proof::of(token, key)? else {
            // What cannot be proved here is believed if the operator has named the file after the key.
            let named = candidates.into_iter().find(|known| known.id.is_some());
            if let Some(Known { path, .. }) = named {
                warn!(
                    "{} is taken for the public key of {identifier} by its name, algorithm and size only: it signs nothing \
                     that could be verified here",
                    path.display()
                );
            }
            return Ok(named.map(|known| known.key.clone()));
        };
        candidates.sort_by_key(|known| known.id.is_none());
        for known in candidates {
            if proof.is_by(&known.key) {
                let record = known.dnskey.as_ref().map(|dnskey| format!(" ({dnskey})")).unwrap_or_default();
                info!("{}{record} is the public key of {identifier}, as a signature proves", known.path.display());
                return Ok(Some(known.key.clone()));
            }
            if known.id.is_some() {
                warn!(
                    "{} is named after {identifier}, but its key does not verify what that signs",
                    known.path.display()
                );
            }
        }
        Ok(None)
    }
}

impl Known {
    /// Whether nothing that is known without a signature says otherwise.
    fn may_be_of(&self, key: &Key) -> bool {
        let fits = match (self.key.kind(), key.kind) {
            (KeyKind::Rsa { .. }, KeyKind::Rsa { bits: 0 }) => true,
            (one, other) => one == other,
        };
        fits && self.id.as_ref().is_none_or(|id| *id == key.id)
    }
}

/// A signature by a private key.
struct Proof {
    message: Vec<u8>,
    signature: Vec<u8>,
}

impl Proof {
    /// None for a key that does not sign, or whose signatures cannot be verified here.
    fn of(token: &Token, key: &Key) -> Outcome<Option<Self>> {
        let can_verify = match key.kind {
            KeyKind::Rsa { .. } => true,
            KeyKind::Ec(curve) => on_curve(curve).is_some(),
            KeyKind::Other(_) => false,
        };
        if !can_verify || !key.usage.sign {
            return Ok(None);
        }
        let mut nonce = [0; 32];
        if SystemRandom::new().fill(&mut nonce).is_err() {
            return Ok(None);
        }
        let message = [PROOF, &nonce].concat();
        let scheme = Scheme::choose(key.kind, &CryptographicParameters::default())?;
        let signature = match signing::sign(token, key, scheme, Input::Data(&message)) {
            Err(Unsigned::Unfit(_)) => return Ok(None),
            // It does not sign in this way; that is no failure of the HSM.
            Err(Unsigned::Failed(error)) if error.rv().is_some() && error.fault() == Fault::Request => return Ok(None),
            signed => scheme.to_kmip(signed?)?,
        };
        Ok(Some(Self { message, signature }))
    }

    fn is_by(&self, key: &PublicKey) -> bool {
        match key {
            PublicKey::Rsa { modulus, exponent } => RsaPublicKeyComponents { n: modulus, e: exponent }
                // 1024 bits are what many zone signing keys of the last decade have; it is not for us to judge them.
                .verify(&signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, &self.message, &self.signature)
                .is_ok(),
            PublicKey::Ec { curve, point } => on_curve(*curve).is_some_and(|algorithm| {
                UnparsedPublicKey::new(algorithm, point).verify(&self.message, &self.signature).is_ok()
            }),
        }
    }
}

/// What verifies signatures in KMIP's form, with the hash that belongs to the curve.
fn on_curve(curve: Curve) -> Option<&'static dyn VerificationAlgorithm> {
    match curve {
        Curve::P256 => Some(&signature::ECDSA_P256_SHA256_ASN1),
        Curve::P384 => Some(&signature::ECDSA_P384_SHA384_ASN1),
        Curve::Ed25519 => Some(&signature::ED25519),
        Curve::P521 | Curve::Ed448 => None,
    }
}

/// The keys in a file.
fn read(path: &Path) -> Result<Vec<Known>, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|why| why.to_string())?;
    file.take(LARGEST.saturating_add(1)).read_to_end(&mut bytes).map_err(|why| why.to_string())?;
    if bytes.len() as u64 > LARGEST {
        return Err(format!("more than {LARGEST} bytes"));
    }
    let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let id = Identifier::parse(name).ok().map(|identifier| identifier.id);
    let known = |key, dnskey| Known { path: path.to_owned(), id: id.clone(), key, dnskey };
    if path.extension().is_some_and(|extension| extension == "pem") {
        return Ok(parse_pem(&bytes)?.into_iter().map(|key| known(key, None)).collect());
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| "not text".to_owned())?;
    Ok(dnskey::parse(text)?.into_iter().map(|(key, dnskey)| known(key, Some(dnskey))).collect())
}

fn parse_pem(bytes: &[u8]) -> Result<Vec<PublicKey>, String> {
    let infos = SubjectPublicKeyInfoDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>();
    let infos = infos.map_err(|why| why.to_string())?;
    if infos.is_empty() {
        return Err("there is no PUBLIC KEY in it".to_owned());
    }
    let keys = infos.iter().map(|info| PublicKey::from_info(info)).collect::<Option<Vec<_>>>();
    keys.ok_or_else(|| "it has a public key of a kind that is not served".to_owned())
}
