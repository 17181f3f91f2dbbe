//! Cryptographic Parameters (KMIP 1.2, section 3.6): how a key is used.
#![forbid(unsafe_code)]

use super::fields::{Field, optional, read_fields};
use super::{
    CryptographicAlgorithm, DigitalSignatureAlgorithm, HashingAlgorithm, MaskGenerator, Outcome, PaddingMethod,
    Version, tag,
};
use crate::ttlv::Item;

const TABLE: [Field; 18] = [
    optional(tag::BLOCK_CIPHER_MODE),
    optional(tag::PADDING_METHOD),
    optional(tag::HASHING_ALGORITHM),
    optional(tag::KEY_ROLE_TYPE),
    optional(tag::DIGITAL_SIGNATURE_ALGORITHM).since(Version::V1_2),
    optional(tag::CRYPTOGRAPHIC_ALGORITHM).since(Version::V1_2),
    optional(tag::RANDOM_IV).since(Version::V1_2),
    optional(tag::IV_LENGTH).since(Version::V1_2),
    optional(tag::TAG_LENGTH).since(Version::V1_2),
    optional(tag::FIXED_FIELD_LENGTH).since(Version::V1_2),
    optional(tag::INVOCATION_FIELD_LENGTH).since(Version::V1_2),
    optional(tag::COUNTER_LENGTH).since(Version::V1_2),
    optional(tag::INITIAL_COUNTER_VALUE).since(Version::V1_2),
    optional(tag::SALT_LENGTH).since(Version::V1_4),
    optional(tag::MASK_GENERATOR).since(Version::V1_4),
    optional(tag::MASK_GENERATOR_HASHING_ALGORITHM).since(Version::V1_4),
    optional(tag::P_SOURCE).since(Version::V1_4),
    optional(tag::TRAILER_FIELD).since(Version::V1_4),
];

/// The fields that matter for signatures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CryptographicParameters {
    /// How an RSA signature is padded.
    pub padding_method: Option<PaddingMethod>,
    /// What the data is hashed with.
    pub hashing_algorithm: Option<HashingAlgorithm>,
    /// Hash and padding in one.
    pub digital_signature_algorithm: Option<DigitalSignatureAlgorithm>,
    /// What kind of key it has to be.
    pub cryptographic_algorithm: Option<CryptographicAlgorithm>,
    /// Bytes of salt in a PSS signature.
    pub salt_length: Option<i32>,
    /// The mask generator of PSS.
    pub mask_generator: Option<MaskGenerator>,
    /// The hash inside it.
    pub mask_generator_hashing_algorithm: Option<HashingAlgorithm>,
    /// The trailer field of PSS; 1 is the only one that exists.
    pub trailer_field: Option<i32>,
}

impl CryptographicParameters {
    /// Reads the structure.
    ///
    /// # Errors
    /// A field that does not belong there, or has the wrong type.
    pub fn decode(item: &Item<'_>, version: Version) -> Outcome<Self> {
        let [_, padding, hash, _, signature, algorithm, _, _, _, _, _, _, _, salt, mask, mask_hash, _, trailer] =
            read_fields(item, &TABLE, version)?;
        let number = |item: Option<Item<'_>>| item.map(|item| item.enumeration()).transpose();
        Ok(Self {
            padding_method: number(padding)?.map(PaddingMethod),
            hashing_algorithm: number(hash)?.map(HashingAlgorithm),
            digital_signature_algorithm: number(signature)?.map(DigitalSignatureAlgorithm),
            cryptographic_algorithm: number(algorithm)?.map(CryptographicAlgorithm),
            salt_length: salt.map(|item| item.integer()).transpose()?,
            mask_generator: number(mask)?.map(MaskGenerator),
            mask_generator_hashing_algorithm: number(mask_hash)?.map(HashingAlgorithm),
            trailer_field: trailer.map(|item| item.integer()).transpose()?,
        })
    }
}
