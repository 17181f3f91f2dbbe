//! Revoke (KMIP 1.2, section 4.20). Without a stored life cycle the reason is judged and logged, not kept.
#![forbid(unsafe_code)]

use super::super::object::Bare;
use super::Context;
use crate::kmip::{Failure, Outcome, RevocationReasonCode, optional, read_fields, required, tag};
use crate::ttlv::{Item, Writer};

pub(super) fn handle(context: &mut Context<'_>, payload: &Item<'_>, w: &mut Writer<'_>) -> Outcome<()> {
    let [identifier, reason, occurrence] = read_fields(
        payload,
        &[
            optional(tag::UNIQUE_IDENTIFIER),
            required(tag::REVOCATION_REASON),
            optional(tag::COMPROMISE_OCCURRENCE_DATE),
        ],
        context.stated,
    )?;
    occurrence.map(|date| date.date_time()).transpose()?;
    let code =
        reason.map(|reason| reason_code(&reason, context)).transpose()?.unwrap_or(RevocationReasonCode::UNSPECIFIED);
    let token = context.token()?;
    let object = context.object(&token, identifier, Bare::Live)?;
    let identifier = object.identifier();
    context.audit(format_args!("revoked {identifier} ({code})"));
    w.text(tag::UNIQUE_IDENTIFIER, &identifier);
    Ok(())
}

fn reason_code(reason: &Item<'_>, context: &Context<'_>) -> Outcome<RevocationReasonCode> {
    let table = [required(tag::REVOCATION_REASON_CODE), optional(tag::REVOCATION_MESSAGE)];
    let [code, message] = read_fields(reason, &table, context.stated)?;
    message.map(|message| message.text()).transpose()?;
    let code = RevocationReasonCode(code.map_or(Ok(0), |code| code.enumeration())?);
    if RevocationReasonCode::NAMED.iter().any(|(known, _)| *known == code) {
        Ok(code)
    } else {
        Err(Failure::invalid_field(format!("Revocation Reason Code {code}")))
    }
}
