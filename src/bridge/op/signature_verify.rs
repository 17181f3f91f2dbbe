//! Signature Verify (KMIP 1.2, section 4.32). A wrong signature is no failure: its Validity Indicator is Invalid.
#![forbid(unsafe_code)]

use super::super::mechanism::Scheme;
use super::super::object::Bare;
use super::Context;
use super::sign::{input, one_part};
use crate::kmip::{
    CryptographicParameters, Failure, Field, Outcome, ResultReason, ValidityIndicator, Version, optional, read_fields,
    required, tag,
};
use crate::pkcs11::{Class, Key, PublicKey, Use};
use crate::ttlv::{Item, Writer};

const TABLE: [Field; 8] = [
    optional(tag::UNIQUE_IDENTIFIER),
    optional(tag::CRYPTOGRAPHIC_PARAMETERS),
    optional(tag::DATA),
    optional(tag::DIGESTED_DATA).since(Version::V1_4),
    required(tag::SIGNATURE_DATA),
    optional(tag::CORRELATION_VALUE).since(Version::V1_3),
    optional(tag::INIT_INDICATOR).since(Version::V1_3),
    optional(tag::FINAL_INDICATOR).since(Version::V1_3),
];

pub(super) fn handle(context: &mut Context<'_>, payload: &Item<'_>, w: &mut Writer<'_>) -> Outcome<()> {
    let [identifier, parameters, data, digest, signature, correlation, init, last] =
        read_fields(payload, &TABLE, context.stated)?;
    one_part([correlation, init, last])?;
    let input = input(data, digest)?;
    let signature = signature.map_or(Ok(&[][..]), |item| item.byte_string())?;
    let parameters = parameters.map(|item| CryptographicParameters::decode(&item, context.stated)).transpose()?;
    let token = context.token()?;
    let object = context.object(&token, identifier, Bare::Public)?;
    if object.class != Class::PublicKey {
        return Err(Failure::new(ResultReason::PERMISSION_DENIED, "a private key does not verify"));
    }
    if !object.is_stored() {
        let message = "the token keeps no public key object that could verify";
        return Err(Failure::new(ResultReason::ILLEGAL_OPERATION, message));
    }
    if !object.key.usage.verify {
        return Err(Failure::new(ResultReason::PERMISSION_DENIED, "the key is not for verifying"));
    }
    let scheme = Scheme::choose(object.key.kind, &parameters.unwrap_or_default())?;
    let call = scheme.call(token.mechanisms(), Use::Verify, input, &[])?;
    let valid = match scheme.to_pkcs11(signature) {
        Some(signature) if may_be_signature(&object.key, &signature) => {
            token.verify(&object.key, &call.mechanism, &call.data, &signature)?
        }
        _ => false,
    };
    let indicator = if valid { ValidityIndicator::VALID } else { ValidityIndicator::INVALID };
    w.text(tag::UNIQUE_IDENTIFIER, &object.identifier());
    w.enumeration(tag::VALIDITY_INDICATOR, indicator.0);
    Ok(())
}

/// Whether a signature can be one of this key. Of RSA, one that is no smaller than the modulus cannot (RFC 8017, section 5.2.2):
/// openCryptoki answers CKR_FUNCTION_FAILED to it, as if it had broken down.
fn may_be_signature(key: &Key, signature: &[u8]) -> bool {
    match &key.public {
        Some(PublicKey::Rsa { modulus, .. }) if signature.len() == modulus.len() => signature < modulus.as_slice(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pkcs11::KeyKind;

    #[test]
    fn an_rsa_signature_is_smaller_than_the_modulus() {
        let modulus = [&[0xc1][..], &[9; 255]].concat();
        let kind = KeyKind::Rsa { bits: 2048 };
        let public = PublicKey::rsa(&modulus, &[1, 0, 1]);
        let key = Key::new(Class::PublicKey, &[1], kind, public);
        let mut less = modulus.clone();
        less[255] -= 1;
        assert!(may_be_signature(&key, &less));
        assert!(!may_be_signature(&key, &modulus) && !may_be_signature(&key, &[0xff; 256]));
        // Others are for the token to judge.
        assert!(may_be_signature(&key, &[0xff; 255]) && may_be_signature(&key, &[]));
    }
}
