//! Get Attributes (KMIP 1.2, section 4.12).
#![forbid(unsafe_code)]

use std::collections::HashSet;

use super::super::attribute::{self, Subject};
use super::super::object::Bare;
use super::Context;
use super::create_key_pair::printable;
use crate::kmip::{Failure, Outcome, optional, read_fields, repeated, same_tag, tag};
use crate::ttlv::{Item, Writer};

pub(super) fn handle(context: &mut Context<'_>, payload: &Item<'_>, w: &mut Writer<'_>) -> Outcome<()> {
    let table = [optional(tag::UNIQUE_IDENTIFIER), repeated(tag::ATTRIBUTE_NAME)];
    let [identifier, _] = read_fields(payload, &table, context.stated)?;
    let names = same_tag(payload, tag::ATTRIBUTE_NAME).map(|item| item.text()).collect::<Result<Vec<_>, _>>()?;
    let mut seen = HashSet::new();
    if let Some(twice) = names.iter().find(|name| !seen.insert(**name)) {
        return Err(Failure::invalid_message(format!("Attribute Name '{}' is there twice", printable(twice))));
    }
    let token = context.token()?;
    let object = context.object(&token, identifier, Bare::Stored)?;
    let files = context.bridge.public_keys();
    let subject = Subject { token: &token, files: &files, object: &object, version: context.version };
    w.text(tag::UNIQUE_IDENTIFIER, &object.identifier());
    if names.is_empty() {
        return attribute::write_all(w, &subject);
    }
    // Names that are unknown, or that the object has no value for, are left out (section 4.12).
    names.iter().try_for_each(|name| attribute::write_named(w, &subject, name))
}
