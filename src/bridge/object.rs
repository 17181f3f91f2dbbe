//! The objects of a token as KMIP sees them: found by identifier, with the public half that some tokens do not keep.
#![forbid(unsafe_code)]

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use super::access::Rights;
use super::ident::{self, Identifier};
use super::public_keys::PublicKeys;
use crate::kmip::{CryptographicAlgorithm, ObjectType, Outcome, RecommendedCurve};
use crate::pkcs11::{Class, Curve, Error, Key, KeyKind, Token};

/// An object that a request names.
pub(super) struct Object {
    /// What the client asked for, even where the token has no such object of its own.
    pub(super) class: Class,
    /// The facts: of the object itself, or of the private key that stands for its missing public half.
    pub(super) key: Arc<Key>,
}

/// Which object a bare CKA_ID means: it names a pair, and each operation means what of the pair it can do something with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bare {
    /// The public key, stored or derived: Get and Signature Verify.
    Public,
    /// The private key: Sign.
    Private,
    /// The public key object, else the private key: what has attributes to be read and a name to be changed.
    Stored,
    /// The private key, else the public one: what Activate and Revoke are about, since that signs.
    Live,
}

impl Object {
    /// Finds the object that `text` names.
    ///
    /// # Errors
    /// Item Not Found, or what the token answers.
    pub(super) fn find(token: &Token, files: &PublicKeys, text: &str, bare: Bare) -> Outcome<Self> {
        let Identifier { id, class } = Identifier::parse(text)?;
        let first = |classes: [Class; 2]| {
            let [wanted, other] = classes;
            match stored(token, wanted, &id)? {
                Some(object) => Ok(object),
                None => stored(token, other, &id)?.ok_or_else(ident::no_such_object),
            }
        };
        match (class, bare) {
            (Some(class), _) => Self::of_class(token, files, class, &id),
            (None, Bare::Public) => Self::of_class(token, files, Class::PublicKey, &id),
            (None, Bare::Private) => Self::of_class(token, files, Class::PrivateKey, &id),
            (None, Bare::Stored) => first([Class::PublicKey, Class::PrivateKey]),
            (None, Bare::Live) => first([Class::PrivateKey, Class::PublicKey]),
        }
    }

    /// The object of `class` with the CKA_ID `id`.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub(super) fn of_class(token: &Token, files: &PublicKeys, class: Class, id: &[u8]) -> Outcome<Self> {
        let found = match (stored(token, class, id)?, class) {
            (None, Class::PublicKey) => Self::derived(token, files, id)?,
            (found, _) => found,
        };
        found.ok_or_else(ident::no_such_object)
    }

    /// The public half of a private key whose token keeps no object of it: OpenDNSSEC deletes that, some tokens never make it. It
    /// is what the private key tells, else what a file does.
    ///
    /// # Errors
    /// What the token answers.
    pub(super) fn derived(token: &Token, files: &PublicKeys, id: &[u8]) -> Outcome<Option<Self>> {
        let Some(Self { key, .. }) = stored(token, Class::PrivateKey, id)? else { return Ok(None) };
        if key.public.is_some() {
            return Ok(Some(Self { class: Class::PublicKey, key }));
        }
        let public = files.public_half(token, &key)?;
        Ok(public.map(|public| Self { class: Class::PublicKey, key: token.learn_public(&key, public) }))
    }

    /// The identifier in its one spelling.
    pub(super) fn identifier(&self) -> String {
        ident::format(self.class, &self.key.id)
    }

    /// Whether the token has an object of this class, rather than a private key that tells its public half.
    pub(super) fn is_stored(&self) -> bool {
        self.class == self.key.class
    }

    /// KMIP's word for the class.
    pub(super) fn object_type(&self) -> ObjectType {
        object_type(self.class)
    }
}

/// The object that the token itself has.
pub(super) fn stored(token: &Token, class: Class, id: &[u8]) -> Outcome<Option<Object>> {
    match token.key(class, id) {
        Ok(key) => Ok(Some(Object { class, key })),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// KMIP's word for a class.
pub(super) fn object_type(class: Class) -> ObjectType {
    match class {
        Class::PublicKey => ObjectType::PUBLIC_KEY,
        Class::PrivateKey => ObjectType::PRIVATE_KEY,
        Class::SecretKey => ObjectType::SYMMETRIC_KEY,
    }
}

/// The other half's class.
pub(super) fn partner(class: Class) -> Option<Class> {
    match class {
        Class::PublicKey => Some(Class::PrivateKey),
        Class::PrivateKey => Some(Class::PublicKey),
        Class::SecretKey => None,
    }
}

/// KMIP's algorithm and length in bits of a key; `None` for a kind that is not translated.
pub(super) fn algorithm(kind: KeyKind) -> Option<(CryptographicAlgorithm, i32)> {
    Some(match kind {
        KeyKind::Rsa { bits } => (CryptographicAlgorithm::RSA, i32::try_from(bits).ok()?),
        KeyKind::Ec(Curve::P256) => (CryptographicAlgorithm::ECDSA, 256),
        KeyKind::Ec(Curve::P384) => (CryptographicAlgorithm::ECDSA, 384),
        KeyKind::Ec(Curve::P521) => (CryptographicAlgorithm::ECDSA, 521),
        KeyKind::Ec(Curve::Ed25519) => (CryptographicAlgorithm::ED25519, 256),
        KeyKind::Ec(Curve::Ed448) => (CryptographicAlgorithm::ED448, 448),
        KeyKind::Other(_) => return None,
    })
}

/// KMIP's number of a curve.
pub(super) fn recommended_curve(curve: Curve) -> RecommendedCurve {
    match curve {
        Curve::P256 => RecommendedCurve::P_256,
        Curve::P384 => RecommendedCurve::P_384,
        Curve::P521 => RecommendedCurve::P_521,
        Curve::Ed25519 => RecommendedCurve::CURVE25519,
        Curve::Ed448 => RecommendedCurve::CURVE448,
    }
}

/// Public keys that went when their private halves were destroyed, since the token kept both as one object. Clients destroy
/// both halves; the second Destroy then succeeds, once.
#[derive(Default)]
pub(super) struct Departed(Mutex<VecDeque<Gone>>);

struct Gone {
    slot_id: u64,
    id: Vec<u8>,
    /// What its name began with, as far as the rights of who destroyed it tell.
    key_prefix: Option<String>,
}

impl Departed {
    /// More than clients leave open between their two requests, on one token and with the same names of keys: the oldest of these is
    /// forgotten, so that who destroys a great many takes nothing from others.
    const MOST: usize = 1024;

    /// The public half of `id` in the slot went, destroyed by a client with these rights.
    pub(super) fn note(&self, slot_id: u64, id: &[u8], rights: &Rights) {
        let mut departed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let alike = |gone: &&Gone| gone.slot_id == slot_id && gone.key_prefix == rights.key_prefix;
        if departed.iter().filter(alike).count() >= Self::MOST {
            let oldest = departed.iter().position(|gone| alike(&gone));
            oldest.and_then(|oldest| departed.remove(oldest));
        }
        departed.push_back(Gone { slot_id, id: id.to_vec(), key_prefix: rights.key_prefix.clone() });
    }

    /// Whether the public half of `id` in the slot went, and was a client's with these rights; it is forgotten then.
    pub(super) fn take(&self, slot_id: u64, id: &[u8], rights: &Rights) -> bool {
        let mut departed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let was_theirs = |gone: &Gone| rights.key_prefix.is_none() || rights.cover(gone.key_prefix.as_deref());
        let place = departed.iter().position(|gone| gone.slot_id == slot_id && gone.id == id && was_theirs(gone));
        place.and_then(|place| departed.remove(place)).is_some()
    }
}

/// What was said of objects that are left out of answers, so that it is said once and not to every client that searches.
#[derive(Default)]
pub(super) struct LeftOut(Mutex<HashSet<String>>);

impl LeftOut {
    /// Lines that are remembered; over more, each is said again.
    const MOST: usize = 1024;

    /// Whether that was not said before.
    pub(super) fn is_new(&self, line: &str) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.contains(line) {
            return false;
        }
        if said.len() >= Self::MOST {
            said.clear();
        }
        said.insert(line.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_departed_is_told_to_its_own_clients_and_once() {
        let with = |prefix: Option<&str>| Rights { key_prefix: prefix.map(str::to_owned), ..Rights::default() };
        let (ours, theirs, all) = (with(Some("a-")), with(Some("b-")), with(None));
        let departed = Departed::default();
        departed.note(7, b"1", &ours);
        assert!(!departed.take(7, b"1", &theirs) && !departed.take(8, b"1", &ours));
        assert!(departed.take(7, b"1", &ours) && !departed.take(7, b"1", &ours));
        departed.note(7, b"2", &ours);
        assert!(departed.take(7, b"2", &all));
        // What its name was, nobody knows.
        departed.note(7, b"3", &all);
        // However many others destroy.
        for number in 0..2 * Departed::MOST {
            departed.note(7, &number.to_be_bytes(), &theirs);
        }
        assert!(!departed.take(7, &0_usize.to_be_bytes(), &theirs));
        assert!(departed.take(7, &(2 * Departed::MOST - 1).to_be_bytes(), &theirs));
        assert!(!departed.take(7, b"3", &ours) && departed.take(7, b"3", &all));
    }
}
