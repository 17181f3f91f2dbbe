//! Activate (KMIP 1.2, section 4.19). Without a stored life cycle every object is Active from birth: there is nothing to do but to see
//! that it exists.
#![forbid(unsafe_code)]

use super::super::object::Bare;
use super::Context;
use crate::kmip::{Outcome, optional, read_fields, tag};
use crate::ttlv::{Item, Writer};

pub(super) fn handle(context: &mut Context<'_>, payload: &Item<'_>, w: &mut Writer<'_>) -> Outcome<()> {
    let [identifier] = read_fields(payload, &[optional(tag::UNIQUE_IDENTIFIER)], context.stated)?;
    let token = context.token()?;
    let object = context.object(&token, identifier, Bare::Live)?;
    w.text(tag::UNIQUE_IDENTIFIER, &object.identifier());
    Ok(())
}
