//! Get (KMIP 1.2, section 4.11): public keys. Private keys never leave the token.
#![forbid(unsafe_code)]

use super::super::keyblock;
use super::super::object::Bare;
use super::Context;
use crate::kmip::{Failure, KeyFormatType, Outcome, ResultReason, Version, optional, read_fields, tag};
use crate::pkcs11::Class;
use crate::ttlv::{Item, Writer};

/// Key Compression Type "EC Public Key Type Uncompressed" (9.1.3.2.2): what is answered anyway.
const UNCOMPRESSED: u32 = 0x01;

pub(super) fn handle(context: &mut Context<'_>, payload: &Item<'_>, w: &mut Writer<'_>) -> Outcome<()> {
    let [identifier, format, wrap_type, compression, wrapping] = read_fields(
        payload,
        &[
            optional(tag::UNIQUE_IDENTIFIER),
            optional(tag::KEY_FORMAT_TYPE),
            optional(tag::KEY_WRAP_TYPE).since(Version::V1_4),
            optional(tag::KEY_COMPRESSION_TYPE),
            optional(tag::KEY_WRAPPING_SPECIFICATION),
        ],
        context.stated,
    )?;
    let format = format.map(|item| item.enumeration()).transpose()?.map(KeyFormatType);
    wrap_type.map(|item| item.enumeration()).transpose()?;
    let token = context.token()?;
    let object = context.object(&token, identifier, Bare::Public)?;
    if object.class != Class::PublicKey {
        return Err(Failure::new(ResultReason::PERMISSION_DENIED, "private keys do not leave the token"));
    }
    if wrapping.is_some() {
        return Err(Failure::new(ResultReason::FEATURE_NOT_SUPPORTED, "keys are not wrapped here"));
    }
    if let Some(compression) = compression.map(|item| item.enumeration()).transpose()? {
        if compression != UNCOMPRESSED {
            let message = "points are answered uncompressed";
            return Err(Failure::new(ResultReason::KEY_COMPRESSION_TYPE_NOT_SUPPORTED, message));
        }
    }
    w.enumeration(tag::OBJECT_TYPE, object.object_type().0);
    w.text(tag::UNIQUE_IDENTIFIER, &object.identifier());
    keyblock::write(w, &object.key, format, context.version)
}
