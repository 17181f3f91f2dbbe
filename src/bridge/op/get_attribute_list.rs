//! Get Attribute List (KMIP 1.2, section 4.13).
#![forbid(unsafe_code)]

use super::super::attribute::{self, Subject};
use super::super::object::Bare;
use super::Context;
use crate::kmip::{Outcome, optional, read_fields, tag};
use crate::ttlv::{Item, Writer};

pub(super) fn handle(context: &mut Context<'_>, payload: &Item<'_>, w: &mut Writer<'_>) -> Outcome<()> {
    let [identifier] = read_fields(payload, &[optional(tag::UNIQUE_IDENTIFIER)], context.stated)?;
    let token = context.token()?;
    let object = context.object(&token, identifier, Bare::Stored)?;
    let files = context.bridge.public_keys();
    let subject = Subject { token: &token, files: &files, object: &object, version: context.version };
    w.text(tag::UNIQUE_IDENTIFIER, &object.identifier());
    for name in attribute::names(&subject)? {
        w.text(tag::ATTRIBUTE_NAME, name);
    }
    Ok(())
}
