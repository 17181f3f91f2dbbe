//! Query (KMIP 1.2, section 4.25): what this server and the token behind it can do. Without a credential it answers for the server
//! alone and says nothing of tokens.
#![forbid(unsafe_code)]

use super::super::auth::Admitted;
use super::{Context, OPERATIONS};
use crate::kmip::{
    Failure, ObjectType, Outcome, QueryFunction, RngAlgorithm, Version, read_fields, repeated, same_tag, tag,
};
use crate::pkcs11::Token;
use crate::ttlv::{Item, Writer};

pub(super) fn handle(context: &mut Context<'_>, payload: &Item<'_>, w: &mut Writer<'_>) -> Outcome<()> {
    let [first] = read_fields(payload, &[repeated(tag::QUERY_FUNCTION)], context.stated)?;
    if first.is_none() {
        return Err(Failure::invalid_message("Query Function is missing from Request Payload"));
    }
    let mut asked = Vec::new();
    for item in same_tag(payload, tag::QUERY_FUNCTION) {
        let function = QueryFunction(item.enumeration()?);
        if since(function).is_none_or(|since| since > context.version) {
            return Err(Failure::invalid_field(format!("Query Function {function}")));
        }
        asked.push(function);
    }
    let client = context.client_if_claimed()?.cloned();
    let token = client.as_ref().map(|client| &*client.token);
    // The groups of the answer stand in the order of the payload's table, whatever order they were asked in.
    if asked.contains(&QueryFunction::OPERATIONS) {
        for offered in OPERATIONS.iter().filter(|offered| offered.since <= context.version) {
            let may = |client: &Admitted| client.rights().allow(offered.operation);
            if token.is_none_or(|token| offered.is_backed_by(token)) && client.as_ref().is_none_or(may) {
                w.enumeration(tag::OPERATION, offered.operation.0);
            }
        }
    }
    if asked.contains(&QueryFunction::OBJECTS) {
        w.enumeration(tag::OBJECT_TYPE, ObjectType::PUBLIC_KEY.0);
        w.enumeration(tag::OBJECT_TYPE, ObjectType::PRIVATE_KEY.0);
    }
    if asked.contains(&QueryFunction::SERVER_INFORMATION) {
        w.text(tag::VENDOR_IDENTIFICATION, &vendor(context, token));
        w.structure(tag::SERVER_INFORMATION, |_| {});
    }
    if asked.contains(&QueryFunction::RNGS) {
        w.structure(tag::RNG_PARAMETERS, |w| w.enumeration(tag::RNG_ALGORITHM, RngAlgorithm::UNSPECIFIED.0));
    }
    if asked.contains(&QueryFunction::CAPABILITIES) {
        w.structure(tag::CAPABILITY_INFORMATION, |w| {
            w.boolean(tag::STREAMING_CAPABILITY, false);
            w.boolean(tag::ASYNCHRONOUS_CAPABILITY, false);
            w.boolean(tag::ATTESTATION_CAPABILITY, false);
            if context.version >= Version::V1_4 {
                w.boolean(tag::BATCH_UNDO_CAPABILITY, false);
                w.boolean(tag::BATCH_CONTINUE_CAPABILITY, true);
            }
        });
    }
    Ok(())
}

/// The first version that has the function; `None` for numbers that stand for none.
fn since(function: QueryFunction) -> Option<Version> {
    Some(match function.0 {
        0x01..=0x04 => Version::V1_0,
        0x05 | 0x06 => Version::V1_1,
        0x07 => Version::V1_2,
        0x08..=0x0c => Version::V1_3,
        _ => return None,
    })
}

/// What Cascade shows its operator when the server is added.
fn vendor(context: &Context<'_>, token: Option<&Token>) -> String {
    const PROGRAM: &str = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));
    let Some(token) = token.map(Token::info) else { return PROGRAM.to_owned() };
    let module = context.bridge.tokens.module();
    // The file's name tells the module; where it lies is the server's own business.
    let file = module.path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    format!(
        "{PROGRAM}: token '{}' in slot {}, {} {} ({file})",
        token.label, token.slot_id, token.manufacturer, token.model
    )
}
