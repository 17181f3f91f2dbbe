//! Modify Attribute (KMIP 1.2, section 4.15): the Name, which is the CKA_LABEL.
#![forbid(unsafe_code)]

use super::super::object::Bare;
use super::Context;
use super::create_key_pair::{printable, read_name};
use crate::kmip::{Attribute, Failure, Outcome, ResultReason, definition, optional, read_fields, required, tag};
use crate::ttlv::{Item, Writer};

/// Attributes of objects here that no client may set (the rules tables of section 3).
const READ_ONLY: &[&str] = &[
    "Unique Identifier",
    "Object Type",
    "Cryptographic Algorithm",
    "Cryptographic Length",
    "Cryptographic Domain Parameters",
    "Digest",
    "Cryptographic Usage Mask",
    "State",
    "Activation Date",
    "Link",
    "Sensitive",
    "Always Sensitive",
    "Extractable",
    "Never Extractable",
];

pub(super) fn handle(context: &mut Context<'_>, payload: &Item<'_>, w: &mut Writer<'_>) -> Outcome<()> {
    let table = [optional(tag::UNIQUE_IDENTIFIER), required(tag::ATTRIBUTE)];
    let [identifier, Some(item)] = read_fields(payload, &table, context.stated)? else {
        return Err(Failure::invalid_message("Attribute is missing"));
    };
    let attribute = Attribute::decode(&item, context.stated)?;
    let token = context.token()?;
    let object = context.object(&token, identifier, Bare::Stored)?;
    match attribute.name {
        "Name" => {}
        name if READ_ONLY.contains(&name) => {
            return Err(Failure::new(ResultReason::PERMISSION_DENIED, format!("{name} cannot be changed")));
        }
        name if definition(name, context.stated).is_some() || name.starts_with("x-") => {
            return Err(Failure::invalid_field(format!("the object has no {}", printable(name))));
        }
        name => return Err(Failure::invalid_field(format!("there is no attribute '{}'", printable(name)))),
    }
    let name = read_name(&attribute.value, context.stated)?;
    if attribute.index != 0 {
        return Err(Failure::not_found(format!("the object has no Name with index {}", attribute.index)));
    }
    if !object.is_stored() {
        let message = "the token keeps no public key object that could have a name";
        return Err(Failure::new(ResultReason::ILLEGAL_OPERATION, message));
    }
    // What the token makes of it counts. Where that is nothing, the token says so.
    if let Some(kept) = token.fitted(name) {
        context.client()?.rights().demand_name(Some(&kept))?;
    }
    token.rename(object.class, &object.key.id, name)?;
    let identifier = object.identifier();
    context.audit(format_args!("renamed {identifier}"));
    w.text(tag::UNIQUE_IDENTIFIER, &identifier);
    w.copy(tag::ATTRIBUTE, item.ty, item.raw());
    Ok(())
}
