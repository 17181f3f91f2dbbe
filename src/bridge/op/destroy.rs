//! Destroy (KMIP 1.2, section 4.21). Clients destroy Active keys without revoking them first, the private half and then the public
//! one: both have to succeed, also on a token that keeps the two as one object.
#![forbid(unsafe_code)]

use super::super::ident::Identifier;
use super::super::object::{Bare, Object};
use super::super::{Bridge, ident};
use super::Context;
use crate::kmip::{Outcome, ResultReason, optional, read_fields, tag};
use crate::pkcs11::{Class, Error, Token};
use crate::ttlv::{Item, Writer};

pub(super) fn handle(context: &mut Context<'_>, payload: &Item<'_>, w: &mut Writer<'_>) -> Outcome<()> {
    let [named] = read_fields(payload, &[optional(tag::UNIQUE_IDENTIFIER)], context.stated)?;
    let token = context.token()?;
    let bridge = context.bridge;
    let identifier = match context.object(&token, named, Bare::Public) {
        Ok(object) => {
            destroy(bridge, &token, &object)?;
            let identifier = object.identifier();
            context.audit(format_args!("destroyed {identifier}"));
            identifier
        }
        Err(failure) => {
            let gone = named
                .filter(|_| failure.reason == ResultReason::ITEM_NOT_FOUND)
                .and_then(|named| Identifier::parse(named.text().ok()?).ok())
                .filter(|gone| gone.class != Some(Class::PrivateKey) && bridge.departed.take(&token, &gone.id));
            let id = gone.ok_or(failure)?.id;
            ident::format(Class::PublicKey, &id)
        }
    };
    w.text(tag::UNIQUE_IDENTIFIER, &identifier);
    Ok(())
}

fn destroy(bridge: &Bridge, token: &Token, object: &Object) -> Outcome<()> {
    let id = &object.key.id;
    // A public half that only the private key tells has nothing of its own to destroy, and goes when that goes.
    if !object.is_stored() {
        return Ok(());
    }
    let had_public = object.class == Class::PrivateKey && (object.key.public.is_some() || is_there(token, id)?);
    token.destroy(object.class, id)?;
    if had_public && !is_there(token, id)? {
        bridge.departed.note(token, id);
    }
    Ok(())
}

/// Whether the token has a public key object with this CKA_ID.
fn is_there(token: &Token, id: &[u8]) -> Outcome<bool> {
    match token.key(Class::PublicKey, id) {
        Ok(_) | Err(Error::Ambiguous { .. }) => Ok(true),
        Err(Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
