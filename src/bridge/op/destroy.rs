//! Destroy (KMIP 1.2, section 4.21). Clients destroy Active keys without revoking them first, the private half and then the public
//! one: both have to succeed, also on a token that keeps the two as one object.
//!
//! A bare CKA_ID names the pair, so the pair is destroyed: to answer Success and leave the private key where it was would be the one
//! wrong thing to do.
#![forbid(unsafe_code)]

use super::super::ident::{self, Identifier};
use super::super::object::{Bare, Object, stored};
use super::Context;
use crate::kmip::{Outcome, ResultReason, optional, read_fields, tag};
use crate::pkcs11::{Class, Error, Token};
use crate::ttlv::{Item, Writer};

pub(super) fn handle(context: &mut Context<'_>, payload: &Item<'_>, w: &mut Writer<'_>) -> Outcome<()> {
    let [named] = read_fields(payload, &[optional(tag::UNIQUE_IDENTIFIER)], context.stated)?;
    let token = context.token()?;
    let parsed = named.and_then(|named| Identifier::parse(named.text().ok()?).ok());
    let identifier = match parsed {
        Some(Identifier { id, class: None }) => pair(context, &token, &id)?,
        parsed => half(context, &token, named, parsed)?,
    };
    w.text(tag::UNIQUE_IDENTIFIER, &identifier);
    Ok(())
}

fn half(
    context: &mut Context<'_>,
    token: &Token,
    named: Option<Item<'_>>,
    parsed: Option<Identifier>,
) -> Outcome<String> {
    match context.object(token, named, Bare::Public) {
        Ok(object) => {
            let identifier = object.identifier();
            if destroy(context, token, &object)? {
                context.audit(format_args!("destroyed {identifier}"));
            }
            Ok(identifier)
        }
        Err(failure) => {
            let gone = parsed
                .filter(|gone| failure.reason == ResultReason::ITEM_NOT_FOUND && gone.class == Some(Class::PublicKey));
            let id = gone.ok_or_else(|| failure.clone())?.id;
            if !has_departed(context, token, &id)? {
                return Err(failure);
            }
            Ok(ident::format(Class::PublicKey, &id))
        }
    }
}

/// Destroys both halves, the private one first: what is left if that goes wrong can sign nothing.
fn pair(context: &mut Context<'_>, token: &Token, id: &[u8]) -> Outcome<String> {
    let mut halves = Vec::new();
    // All of them are looked at before any is destroyed.
    for class in [Class::PrivateKey, Class::PublicKey] {
        if let Some(object) = stored(token, class, id)? {
            if !context.is_theirs(token, &object)? {
                return Err(ident::no_such_object());
            }
            halves.push(object);
        }
    }
    let identifier = ident::bare(id);
    if halves.is_empty() {
        // Who knows only the bare identifier asks once for each half.
        let is_gone = has_departed(context, token, id)?;
        return if is_gone { Ok(identifier) } else { Err(ident::no_such_object()) };
    }
    let was_pair = halves.iter().any(|object| object.class == Class::PrivateKey);
    for object in halves {
        match token.destroy(object.class, id) {
            // With the private half.
            Err(Error::NotFound { .. }) if was_pair && object.class == Class::PublicKey => {}
            destroyed => destroyed?,
        }
        context.audit(format_args!("destroyed {}", object.identifier()));
    }
    if was_pair {
        note_departed(context, token, id)?;
    }
    Ok(identifier)
}

fn note_departed(context: &mut Context<'_>, token: &Token, id: &[u8]) -> Outcome<()> {
    let bridge = context.bridge;
    bridge.departed.note(token.info().slot_id, id, context.client()?.rights());
    Ok(())
}

fn has_departed(context: &mut Context<'_>, token: &Token, id: &[u8]) -> Outcome<bool> {
    let bridge = context.bridge;
    Ok(bridge.departed.take(token.info().slot_id, id, context.client()?.rights()))
}

/// Whether there was something to destroy: a public half that only the private key tells has nothing of its own, and goes when that goes.
fn destroy(context: &mut Context<'_>, token: &Token, object: &Object) -> Outcome<bool> {
    let id = &object.key.id;
    if !object.is_stored() {
        return Ok(false);
    }
    let had_public = object.class == Class::PrivateKey && (object.key.public.is_some() || is_there(token, id)?);
    token.destroy(object.class, id)?;
    // Where the HSM does not say any more it may have gone: it is destroyed all the same, and nothing else may be answered.
    if had_public && !is_there(token, id).unwrap_or(false) {
        note_departed(context, token, id)?;
    }
    Ok(true)
}

/// Whether the token has a public key object with this CKA_ID.
fn is_there(token: &Token, id: &[u8]) -> Outcome<bool> {
    match token.key(Class::PublicKey, id) {
        Ok(_) | Err(Error::Ambiguous { .. }) => Ok(true),
        Err(Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
