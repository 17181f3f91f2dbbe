//! Locate (KMIP 1.2, section 4.9): the token is searched by what CKA_* can tell, the rest is compared here.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::fmt::Display;

use log::{Level, log, warn};

use super::super::Bridge;
use super::super::attribute::{self, Subject};
use super::super::ident::Identifier;
use super::super::object::Object;
use super::super::public_keys::PublicKeys;
use super::Context;
use super::create_key_pair::printable;
use crate::kmip::{
    Attribute, Failure, Field, ObjectType, Outcome, StorageStatusMask, Version, definition, optional, read_fields,
    repeated, same_tag, tag,
};
use crate::pkcs11::{Class, Error, Filter, Listed, Token};
use crate::ttlv::{Item, Writer};

const TABLE: [Field; 5] = [
    optional(tag::MAXIMUM_ITEMS),
    optional(tag::OFFSET_ITEMS).since(Version::V1_3),
    optional(tag::STORAGE_STATUS_MASK),
    optional(tag::OBJECT_GROUP_MEMBER).since(Version::V1_1),
    repeated(tag::ATTRIBUTE),
];

/// The largest response that the first client takes, which never says so and loses its place in the connection over a larger one.
/// An answer to a client that states neither its size nor a number of items is kept within it.
const UNSTATED_RESPONSE_SIZE: usize = 8192;

/// The most attributes to search by. An object here has a dozen, and each may cost a call to the token for each object.
const MOST_WANTED: usize = 32;

/// Bytes that an answer takes around its identifiers: message, header, item with the longest batch item id seen, Located Items.
const AROUND: usize = 512;

pub(super) fn handle(context: &mut Context<'_>, payload: &Item<'_>, w: &mut Writer<'_>) -> Outcome<()> {
    // Also where this fails: what an earlier item left is not what the client means any more.
    context.placeholder = None;
    let [most, offset, storage, member, _] = read_fields(payload, &TABLE, context.stated)?;
    let number = |item: Option<Item<'_>>, name: &str| {
        item.map(|item| {
            let value = item.integer()?;
            usize::try_from(value).map_err(|_| Failure::invalid_field(format!("{name} is {value}")))
        })
        .transpose()
    };
    let most = number(most, "Maximum Items")?;
    let offset = number(offset, "Offset Items")?.unwrap_or(0);
    let storage = storage.map(|item| item.integer()).transpose()?;
    member.map(|item| item.enumeration()).transpose()?;
    let wanted = same_tag(payload, tag::ATTRIBUTE)
        .map(|item| Attribute::decode(&item, context.stated))
        .collect::<Outcome<Vec<_>>>()?;
    if wanted.len() > MOST_WANTED {
        return Err(Failure::invalid_field(format!(
            "{} attributes to search by, of at most {MOST_WANTED}",
            wanted.len()
        )));
    }
    for wanted in &wanted {
        judge(wanted, context.stated)?;
    }
    let token = context.token()?;
    let online =
        storage.is_none_or(|mask| mask & i32::try_from(StorageStatusMask::ON_LINE_STORAGE.0).unwrap_or(1) != 0);
    let found = if online { search(context, &token, &wanted)? } else { Vec::new() };
    let located = found.len();
    let identifiers: Vec<String> = found.into_iter().skip(offset).take(most.unwrap_or(usize::MAX)).collect();
    let shown = shorten(context, &identifiers, most);
    // One object found is what the rest of the batch means without naming it; several are none (section 4).
    context.placeholder = match identifiers.as_slice() {
        [only] => Some(only.clone()),
        _ => None,
    };
    if context.version >= Version::V1_3 {
        w.integer(tag::LOCATED_ITEMS, i32::try_from(located).unwrap_or(i32::MAX));
    }
    for identifier in identifiers.iter().take(shown) {
        w.text(tag::UNIQUE_IDENTIFIER, identifier);
    }
    Ok(())
}

/// How many of the identifiers are answered.
fn shorten(context: &Context<'_>, identifiers: &[String], most: Option<usize>) -> usize {
    if context.max_response_size.is_some() || most.is_some() {
        return identifiers.len();
    }
    let mut room = UNSTATED_RESPONSE_SIZE.saturating_sub(AROUND);
    let mut shown = 0_usize;
    for identifier in identifiers {
        let Some(left) = room.checked_sub(identifier.len().saturating_add(16)) else {
            // Once: clients look for keys often, and a batch can hold a thousand.
            let level = if context.peer.is_first_shortened() { Level::Warn } else { Level::Debug };
            log!(
                level,
                "{}: Locate answers {shown} of {} identifiers: the client states neither Maximum Items nor Maximum Response Size",
                context.peer.address,
                identifiers.len()
            );
            return shown;
        };
        room = left;
        shown = shown.saturating_add(1);
    }
    shown
}

fn search(context: &mut Context<'_>, token: &Token, wanted: &[Attribute<'_>]) -> Outcome<Vec<String>> {
    let mut found = Vec::new();
    let id = match by_identifier(wanted)? {
        Some(Err(())) => return Ok(found),
        Some(Ok(identifier)) => Some(identifier),
        None => None,
    };
    let files = context.bridge.public_keys();
    let label = by_name(wanted)?;
    let may_be = |class| may_be(class, wanted, id.as_ref());
    let mut objects = Vec::new();
    let list = |class| {
        let filter = Filter { class: Some(class), id: id.as_ref().map(|id| &*id.id), label, ..Filter::default() };
        keys(context.bridge, token, class, &filter)
    };
    // A public half without an object of its own has no name either.
    let with_derived = may_be(Class::PublicKey) && label.is_none();
    if may_be(Class::PublicKey) {
        objects.extend(list(Class::PublicKey)?);
    }
    if may_be(Class::PrivateKey) || with_derived {
        let private = list(Class::PrivateKey)?;
        if with_derived {
            let stored: HashSet<Vec<u8>> = objects.iter().map(|object| object.key.id.clone()).collect();
            for Object { key, .. } in private.iter().filter(|object| !stored.contains(&object.key.id)) {
                // Several public keys have its CKA_ID, or it is gone: neither is one more to be found.
                objects.extend(of_private(token, &files, &key.id)?);
            }
        }
        if may_be(Class::PrivateKey) {
            objects.extend(private);
        }
    }
    for object in objects {
        let subject = Subject { token, files: &files, object: &object, version: context.version };
        let mut all = true;
        for wanted in wanted {
            all = all && attribute::matches(&subject, wanted.name, &wanted.value)?;
        }
        if all && context.is_theirs(token, &object)? {
            found.push(object.identifier());
        }
    }
    Ok(found)
}

/// The public half of a private key, if the token has no object of it.
fn of_private(token: &Token, files: &PublicKeys, id: &[u8]) -> Outcome<Option<Object>> {
    match token.key(Class::PublicKey, id) {
        Err(Error::NotFound { .. }) => Object::derived(token, files, id),
        _ => Ok(None),
    }
}

/// The objects of a class. One that cannot be named or understood hides no other, and is told of once.
fn keys(bridge: &Bridge, token: &Token, class: Class, filter: &Filter<'_>) -> Outcome<Vec<Object>> {
    let mut objects = Vec::new();
    let left_out = |listed: &Listed, why: &dyn Display| {
        let name = listed.label.as_deref().unwrap_or_default().escape_debug();
        let line = format!("a {class} '{name}' on token {} is left out: {why}", token.info().name());
        if bridge.left_out.is_new(&line) {
            warn!("{line}");
        }
    };
    for listed in token.list(filter)? {
        if listed.id.is_empty() {
            left_out(&listed, &"it has no CKA_ID");
            continue;
        }
        match token.key(class, &listed.id) {
            Ok(key) => objects.push(Object { class, key }),
            // Gone since, one of several that cannot be told apart, or odd.
            Err(error @ (Error::NotFound { .. } | Error::Ambiguous { .. } | Error::Unsupported(_))) => {
                left_out(&listed, &error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(objects)
}

/// The identifier that is asked for, `Err` if it can be no object's.
fn by_identifier(wanted: &[Attribute<'_>]) -> Outcome<Option<Result<Identifier, ()>>> {
    let Some(wanted) = wanted.iter().find(|wanted| wanted.name == "Unique Identifier") else { return Ok(None) };
    Ok(Some(Identifier::parse(wanted.value.text()?).map_err(|_| ())))
}

/// The label that the name asked for is.
fn by_name<'a>(wanted: &[Attribute<'a>]) -> Outcome<Option<&'a str>> {
    let Some(wanted) = wanted.iter().find(|wanted| wanted.name == "Name") else { return Ok(None) };
    Ok(same_tag(&wanted.value, tag::NAME_VALUE).next().map(|value| value.text()).transpose()?)
}

fn may_be(class: Class, wanted: &[Attribute<'_>], id: Option<&Identifier>) -> bool {
    let object_type = match class {
        Class::PublicKey => ObjectType::PUBLIC_KEY,
        _ => ObjectType::PRIVATE_KEY,
    };
    let mut types = wanted.iter().filter(|wanted| wanted.name == "Object Type");
    types.all(|wanted| wanted.value.enumeration() == Ok(object_type.0))
        && id.and_then(|id| id.class).is_none_or(|asked| asked == class)
}

/// Refuses what no object could have: an attribute that does not exist (custom ones may), or a structure with a field of another
/// type than it has. Fields may be left out: parts of a structure suffice here.
fn judge(wanted: &Attribute<'_>, version: Version) -> Outcome<()> {
    let name = wanted.name;
    if definition(name, version).is_none() && !name.starts_with("x-") && !name.starts_with("y-") {
        return Err(Failure::invalid_field(format!("there is no attribute '{}'", printable(name))));
    }
    let table: [Field; 2] = match name {
        "Name" => [optional(tag::NAME_VALUE), optional(tag::NAME_TYPE)],
        "Link" => [optional(tag::LINK_TYPE), optional(tag::LINKED_OBJECT_IDENTIFIER)],
        _ => return Ok(()),
    };
    for field in read_fields(&wanted.value, &table, version)?.into_iter().flatten() {
        match field.tag {
            tag::NAME_TYPE | tag::LINK_TYPE => field.enumeration().map(drop)?,
            _ => field.text().map(drop)?,
        }
    }
    Ok(())
}
