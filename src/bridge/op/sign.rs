//! Sign (KMIP 1.2, section 4.31).
#![forbid(unsafe_code)]

use log::debug;

use super::super::mechanism::{Input, Scheme};
use super::super::object::Bare;
use super::super::signing;
use super::Context;
use crate::kmip::{
    CryptographicParameters, Failure, Field, Outcome, ResultReason, Version, optional, read_fields, tag,
};
use crate::pkcs11::Class;
use crate::ttlv::{Item, Writer};

const TABLE: [Field; 7] = [
    optional(tag::UNIQUE_IDENTIFIER),
    optional(tag::CRYPTOGRAPHIC_PARAMETERS),
    optional(tag::DATA),
    optional(tag::DIGESTED_DATA).since(Version::V1_4),
    optional(tag::CORRELATION_VALUE).since(Version::V1_3),
    optional(tag::INIT_INDICATOR).since(Version::V1_3),
    optional(tag::FINAL_INDICATOR).since(Version::V1_3),
];

pub(super) fn handle(context: &mut Context<'_>, payload: &Item<'_>, w: &mut Writer<'_>) -> Outcome<()> {
    let [identifier, parameters, data, digest, correlation, init, last] = read_fields(payload, &TABLE, context.stated)?;
    one_part([correlation, init, last])?;
    let input = input(data, digest)?;
    let parameters = parameters.map(|item| CryptographicParameters::decode(&item, context.stated)).transpose()?;
    let token = context.token()?;
    let object = context.object(&token, identifier, Bare::Private)?;
    if object.class != Class::PrivateKey {
        return Err(Failure::new(ResultReason::PERMISSION_DENIED, "a public key does not sign"));
    }
    if !object.key.usage.sign {
        return Err(Failure::new(ResultReason::PERMISSION_DENIED, "the key is not for signing"));
    }
    let scheme = Scheme::choose(object.key.kind, &parameters.unwrap_or_default())?.may_sign()?;
    let signature = scheme.to_kmip(signing::sign(&token, &object.key, scheme, input)?)?;
    let identifier = object.identifier();
    debug!("{}: signed with {identifier} on token '{}'", context.peer.address, token.info().label);
    w.text(tag::UNIQUE_IDENTIFIER, &identifier);
    w.byte_string(tag::SIGNATURE_DATA, &signature);
    Ok(())
}

/// What is signed: the data or, since 1.4, its digest.
pub(super) fn input<'a>(data: Option<Item<'a>>, digest: Option<Item<'a>>) -> Outcome<Input<'a>> {
    match (data, digest) {
        (Some(data), None) => Ok(Input::Data(data.byte_string()?)),
        (None, Some(digest)) => Ok(Input::Digest(digest.byte_string()?)),
        (Some(_), Some(_)) => Err(Failure::invalid_field("both Data and Digested Data are there")),
        (None, None) => Err(Failure::invalid_message("Data is missing from Request Payload")),
    }
}

/// Refuses signatures in several requests (1.3): they would hold a session for a client that may never come back.
pub(super) fn one_part(fields: [Option<Item<'_>>; 3]) -> Outcome<()> {
    let [correlation, init, last] = fields;
    let flag = |item: Option<Item<'_>>| item.map_or(Ok(None), |item| item.boolean().map(Some));
    let (init, last) = (flag(init)?, flag(last)?);
    let whole = correlation.is_none() && matches!((init, last), (None, None) | (Some(true), Some(true)));
    if whole {
        Ok(())
    } else {
        Err(Failure::new(ResultReason::FEATURE_NOT_SUPPORTED, "operations in several parts are not supported"))
    }
}
