//! The objects of a token as KMIP sees them: found by identifier, with the public half that some tokens do not keep.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::ident::{self, Identifier};
use crate::kmip::{CryptographicAlgorithm, ObjectType, Outcome, RecommendedCurve};
use crate::pkcs11::{Class, Curve, Error, Key, KeyKind, Token};

/// An object that a request names.
pub(super) struct Object {
    /// What the client asked for, even where the token has no such object of its own.
    pub(super) class: Class,
    /// The facts: of the object itself, or of the private key that stands for its missing public half.
    pub(super) key: Arc<Key>,
}

/// Which object a bare CKA_ID means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bare {
    /// The public key, stored or derived: what every operation but Sign takes.
    Public,
    /// The private key: Sign has no use for another.
    Private,
}

impl Object {
    /// Finds the object that `text` names.
    ///
    /// # Errors
    /// Item Not Found, or what the token answers.
    pub(super) fn find(token: &Token, text: &str, bare: Bare) -> Outcome<Self> {
        let Identifier { id, class } = Identifier::parse(text)?;
        let class = class.unwrap_or(match bare {
            Bare::Public => Class::PublicKey,
            Bare::Private => Class::PrivateKey,
        });
        match token.key(class, &id) {
            Ok(key) => Ok(Self { class, key }),
            // OpenDNSSEC deletes the public object; some tokens never keep one.
            Err(Error::NotFound { .. }) if class == Class::PublicKey => {
                let key = token.key(Class::PrivateKey, &id)?;
                if key.public.is_some() { Ok(Self { class, key }) } else { Err(ident::no_such_object()) }
            }
            Err(error) => Err(error.into()),
        }
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
pub(super) struct Departed(Mutex<VecDeque<(u64, Vec<u8>)>>);

impl Departed {
    /// More than any client leaves open between its two requests; the oldest is forgotten.
    const MOST: usize = 1024;

    /// The public half of `id` on `token` went.
    pub(super) fn note(&self, token: &Token, id: &[u8]) {
        let mut departed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if departed.len() >= Self::MOST {
            departed.pop_front();
        }
        departed.push_back((token.info().slot_id, id.to_vec()));
    }

    /// Whether the public half of `id` on `token` went; it is forgotten then.
    pub(super) fn take(&self, token: &Token, id: &[u8]) -> bool {
        let mut departed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = token.info().slot_id;
        let place = departed.iter().position(|(other, known)| *other == slot && known == id);
        place.and_then(|place| departed.remove(place)).is_some()
    }
}
