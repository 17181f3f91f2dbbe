//! The mechanisms of a token, read once.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cryptoki::context::Pkcs11;
use cryptoki::mechanism::{MechanismInfo, MechanismType};
use cryptoki::slot::Slot;

use super::error::Error;

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
