//! Key blocks (KMIP 1.2, section 2.1.3), as Get answers them.
#![forbid(unsafe_code)]

use super::{CryptographicAlgorithm, KeyFormatType, RecommendedCurve, tag};
use crate::ttlv::Writer;

/// A key that is not wrapped, in one of its encodings.
#[derive(Clone, Copy, Debug)]
pub struct KeyBlock<'a> {
    /// Which encoding.
    pub format: KeyFormatType,
    /// The key itself. Only public keys are ever here.
    pub material: KeyMaterial<'a>,
    /// The key's algorithm.
    pub algorithm: CryptographicAlgorithm,
    /// The key's length in bits.
    pub length: i32,
}

/// Key Material (section 2.1.4 and following). Numbers are big-endian, without leading zeros.
#[derive(Clone, Copy, Debug)]
pub enum KeyMaterial<'a> {
    /// Raw, PKCS#1, X.509.
    Bytes(&'a [u8]),
    /// Transparent RSA Public Key (2.1.7.5).
    RsaPublicKey {
        /// The modulus.
        modulus: &'a [u8],
        /// The public exponent.
        exponent: &'a [u8],
    },
    /// Transparent ECDSA or EC Public Key (2.1.7.9).
    EcPublicKey {
        /// The curve.
        curve: RecommendedCurve,
        /// The point, as X9.62 writes it.
        q: &'a [u8],
    },
}

impl KeyBlock<'_> {
    /// Writes the structure.
    pub fn write(&self, w: &mut Writer<'_>) {
        w.structure(tag::KEY_BLOCK, |w| {
            w.enumeration(tag::KEY_FORMAT_TYPE, self.format.0);
            w.structure(tag::KEY_VALUE, |w| self.material.write(w));
            w.enumeration(tag::CRYPTOGRAPHIC_ALGORITHM, self.algorithm.0);
            w.integer(tag::CRYPTOGRAPHIC_LENGTH, self.length);
        });
    }
}

impl KeyMaterial<'_> {
    fn write(&self, w: &mut Writer<'_>) {
        match self {
            Self::Bytes(bytes) => w.byte_string(tag::KEY_MATERIAL, bytes),
            Self::RsaPublicKey { modulus, exponent } => w.structure(tag::KEY_MATERIAL, |w| {
                w.big_integer(tag::MODULUS, modulus);
                w.big_integer(tag::PUBLIC_EXPONENT, exponent);
            }),
            Self::EcPublicKey { curve, q } => w.structure(tag::KEY_MATERIAL, |w| {
                w.enumeration(tag::RECOMMENDED_CURVE, curve.0);
                w.byte_string(tag::Q_STRING, q);
            }),
        }
    }
}
