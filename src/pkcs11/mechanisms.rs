//! The mechanisms of a token, read once.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cryptoki::context::Pkcs11;
use cryptoki::mechanism::{MechanismInfo, MechanismType};
use cryptoki::slot::Slot;

use super::error::Error;
use super::key::KeyKind;

/// What a mechanism can be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// CKF_DECRYPT.
    Decrypt,
    /// CKF_DERIVE.
    Derive,
    /// CKF_DIGEST.
    Digest,
    /// CKF_ENCRYPT.
    Encrypt,
    /// CKF_GENERATE.
    GenerateKey,
    /// CKF_GENERATE_KEY_PAIR.
    GenerateKeyPair,
    /// CKF_SIGN.
    Sign,
    /// CKF_UNWRAP.
    Unwrap,
    /// CKF_VERIFY.
    Verify,
    /// CKF_WRAP.
    Wrap,
}

/// A mechanism as a token offers it.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The mechanism.
    pub mechanism: MechanismType,
    /// Smallest key, in the unit of the mechanism: bits for RSA and curves, bytes for most secret keys.
    pub min_key: u64,
    /// Largest key, in the same unit.
    pub max_key: u64,
    info: MechanismInfo,
    refused: Arc<AtomicBool>,
}

impl Offer {
    /// Whether the token has refused it, and taken another in its place.
    pub fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn refuse(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    /// The sizes of keys that are offered, if one of `kind` is not among them.
    pub fn rules_out(&self, kind: KeyKind) -> Option<(u64, u64)> {
        is_outside(kind, self.min_key, self.max_key).then_some((self.min_key, self.max_key))
    }

    /// Whether the mechanism serves for `wanted` on this token.
    pub fn is_for(&self, wanted: Use) -> bool {
        let info = &self.info;
        match wanted {
            Use::Decrypt => info.decrypt(),
            Use::Derive => info.derive(),
            Use::Digest => info.digest(),
            Use::Encrypt => info.encrypt(),
            Use::GenerateKey => info.generate(),
            Use::GenerateKeyPair => info.generate_key_pair(),
            Use::Sign => info.sign(),
            Use::Unwrap => info.unwrap(),
            Use::Verify => info.verify(),
            Use::Wrap => info.wrap(),
        }
    }
}

/// The mechanisms of one token.
#[derive(Clone, Debug, Default)]
pub struct Mechanisms(Vec<Offer>);

impl Mechanisms {
    /// Asks the token. A mechanism that it lists but cannot describe is left out, as are those of `omitted`.
    pub(super) fn read(pkcs11: &Pkcs11, slot: Slot, omitted: &[MechanismType]) -> Result<Self, Error> {
        let mut offers = Vec::new();
        for mechanism in pkcs11.get_mechanism_list(slot)?.into_iter().filter(|it| !omitted.contains(it)) {
            match pkcs11.get_mechanism_info(slot, mechanism) {
                Ok(info) => offers.push(Offer {
                    mechanism,
                    min_key: size(info.min_key_size()),
                    max_key: size(info.max_key_size()),
                    info,
                    refused: Arc::default(),
                }),
                Err(error) => log::debug!("mechanism {mechanism} is left out: {}", Error::from(error)),
            }
        }
        Ok(Self(offers))
    }

    /// The mechanism as the token offers it.
    pub fn info(&self, mechanism: MechanismType) -> Option<&Offer> {
        self.0.iter().find(|offer| offer.mechanism == mechanism)
    }

    /// Whether the token offers the mechanism for `wanted`.
    pub fn supports(&self, mechanism: MechanismType, wanted: Use) -> bool {
        self.info(mechanism).is_some_and(|offer| offer.is_for(wanted))
    }

    /// Whether the token is not known to refuse the mechanism that it offers.
    pub fn takes(&self, mechanism: MechanismType) -> bool {
        self.info(mechanism).is_none_or(|offer| !offer.is_refused())
    }

    /// Every mechanism, in the token's order.
    pub fn iter(&self) -> impl Iterator<Item = &Offer> {
        self.0.iter()
    }
}

fn size(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

/// Whether a key of `kind` is smaller or larger than those offered. Tokens that seem to count in bytes, or tell nothing, are not
/// believed, nor is any of Edwards curves, which one has at 255 and another at 256 bits.
fn is_outside(kind: KeyKind, least: u64, most: u64) -> bool {
    let (bits, believed) = match kind {
        KeyKind::Rsa { bits } => (bits, 2048),
        KeyKind::Ec(curve) if !curve.is_edwards() => (curve.bits(), 256),
        KeyKind::Ec(_) | KeyKind::Other(_) => return false,
    };
    most >= believed && !(least..=most).contains(&bits.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pkcs11::curve::Curve;

    #[test]
    fn keys_are_ruled_out_by_sizes_that_can_be_bits() {
        let rsa = |bits| KeyKind::Rsa { bits };
        assert!(is_outside(rsa(1024), 2048, 4096) && is_outside(rsa(8192), 2048, 4096));
        assert!(!is_outside(rsa(2048), 2048, 4096) && !is_outside(rsa(4096), 2048, 4096));
        assert!(is_outside(KeyKind::Ec(Curve::P521), 256, 384) && !is_outside(KeyKind::Ec(Curve::P256), 112, 521));
        // Bytes, nothing, and what every token tells otherwise.
        assert!(!is_outside(rsa(4096), 128, 1024) && !is_outside(rsa(2048), 0, 0));
        assert!(!is_outside(KeyKind::Ec(Curve::P256), 24, 66) && !is_outside(KeyKind::Ec(Curve::P256), 0, 0));
        assert!(!is_outside(KeyKind::Ec(Curve::Ed25519), 256, 448));
    }
}
