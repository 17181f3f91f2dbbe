//! A token's public key -> Key Block, in the format asked for or in the one that clients expect.
#![forbid(unsafe_code)]

use super::der;
use super::object::{algorithm, recommended_curve};
use crate::kmip::{Failure, KeyBlock, KeyFormatType, KeyMaterial, Outcome, ResultReason, Version, tag};
use crate::pkcs11::{Key, PublicKey};
use crate::ttlv::Writer;

/// Writes the Key Block of `key`'s public half.
///
/// Without a format asked for, RSA is PKCS#1, which every client seen understands, and an elliptic curve is Raw holding the
/// DER SubjectPublicKeyInfo: the first client understands nothing else of a curve.
///
/// # Errors
/// Key Format Type Not Supported: the format does not exist for this kind of key or in `version`, or the token does not tell
/// the public key.
pub(super) fn write(w: &mut Writer<'_>, key: &Key, asked: Option<KeyFormatType>, version: Version) -> Outcome<()> {
    let unsupported = |what: String| Failure::new(ResultReason::KEY_FORMAT_TYPE_NOT_SUPPORTED, what);
    let (algorithm, length) =
        algorithm(key.kind).ok_or_else(|| unsupported("keys of this kind are not served".to_owned()))?;
    let public = key.public.as_ref().ok_or_else(|| unsupported("the token does not tell the public key".to_owned()))?;
    let format = asked.unwrap_or(match public {
        PublicKey::Rsa { .. } => KeyFormatType::PKCS_1,
        PublicKey::Ec { .. } => KeyFormatType::RAW,
    });
    let encoded;
    let material = match (format, public) {
        (KeyFormatType::TRANSPARENT_RSA_PUBLIC_KEY, PublicKey::Rsa { modulus, exponent }) => {
            KeyMaterial::RsaPublicKey { modulus, exponent }
        }
        (KeyFormatType::PKCS_1, PublicKey::Rsa { modulus, exponent }) => {
            encoded = der::rsa_public_key(modulus, exponent);
            KeyMaterial::Bytes(&encoded)
        }
        // What Raw is of an asymmetric key the specification leaves open; clients read a SubjectPublicKeyInfo.
        (KeyFormatType::X_509 | KeyFormatType::RAW, _) => {
            encoded = der::subject_public_key_info(public);
            KeyMaterial::Bytes(&encoded)
        }
        (KeyFormatType::TRANSPARENT_ECDSA_PUBLIC_KEY, PublicKey::Ec { curve, point }) if !curve.is_edwards() => {
            KeyMaterial::EcPublicKey { curve: recommended_curve(*curve), q: point }
        }
        (KeyFormatType::TRANSPARENT_EC_PUBLIC_KEY, PublicKey::Ec { curve, point }) if version >= Version::V1_3 => {
            KeyMaterial::EcPublicKey { curve: recommended_curve(*curve), q: point }
        }
        _ => return Err(unsupported(format!("no Key Format Type {format} of this key"))),
    };
    let block = KeyBlock { format, material, algorithm, length };
    w.structure(tag::PUBLIC_KEY, |w| block.write(w));
    Ok(())
}
