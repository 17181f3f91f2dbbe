//! KMIP attribute <-> CKA_*: one table that Get Attributes, Get Attribute List and Locate read.
#![forbid(unsafe_code)]

use super::der;
use super::ident::{self, Identifier};
use super::object::{Object, algorithm, partner, recommended_curve};
use super::public_keys::PublicKeys;
use crate::kmip::{
    HashingAlgorithm, KeyFormatType, LinkType, NameType, Outcome, State, UsageMask, Version, definition, same_tag, tag,
    write_attribute,
};
use crate::pkcs11::{Class, Error, KeyKind, Token, Usage};
use crate::ttlv::{Item, Reader, Type, Writer};

/// What the values of an attribute are read from.
pub(super) struct Subject<'a> {
    pub(super) token: &'a Token,
    pub(super) files: &'a PublicKeys,
    pub(super) object: &'a Object,
    pub(super) version: Version,
}

/// Takes a value of an attribute: a function that writes it under a tag.
type Take<'t> = &'t mut dyn FnMut(&dyn Fn(&mut Writer<'_>, u32));

/// Hands the values that an object has of an attribute, if any, to the closure that it is given.
type Values = fn(&Subject<'_>, Take<'_>) -> Outcome<()>;

/// Every attribute that objects here can have, in the order in which they are answered.
const TABLE: &[(&str, Values)] = &[
    ("Unique Identifier", |subject, put| {
        let identifier = subject.object.identifier();
        put(&|w, tag| w.text(tag, &identifier));
        Ok(())
    }),
    ("Name", |subject, put| {
        if let Some(name) = name(subject.token, subject.object)? {
            put(&|w, tag| write_name(w, tag, &name));
        }
        Ok(())
    }),
    ("Object Type", |subject, put| {
        put(&|w, tag| w.enumeration(tag, subject.object.object_type().0));
        Ok(())
    }),
    ("Cryptographic Algorithm", |subject, put| {
        if let Some((algorithm, _)) = algorithm(subject.object.key.kind) {
            put(&|w, tag| w.enumeration(tag, algorithm.0));
        }
        Ok(())
    }),
    ("Cryptographic Length", |subject, put| {
        if let Some((_, length)) = algorithm(subject.object.key.kind).filter(|(_, length)| *length > 0) {
            put(&|w, tag| {
                w.integer(tag, length);
            });
        }
        Ok(())
    }),
    ("Cryptographic Domain Parameters", |subject, put| {
        // The Edwards curves have no number in KMIP 1.x; their algorithm says it all.
        if let KeyKind::Ec(curve) = subject.object.key.kind {
            if !curve.is_edwards() {
                let number = recommended_curve(curve).0;
                put(&|w, tag| w.structure(tag, |w| w.enumeration(tag::RECOMMENDED_CURVE, number)));
            }
        }
        Ok(())
    }),
    ("Digest", |subject, put| {
        if let (Class::PublicKey, Some(public)) = (subject.object.class, subject.object.key.public.as_ref()) {
            let info = der::subject_public_key_info(public);
            let digest = ring::digest::digest(&ring::digest::SHA256, &info);
            put(&|w, tag| {
                w.structure(tag, |w| {
                    w.enumeration(tag::HASHING_ALGORITHM, HashingAlgorithm::SHA_256.0);
                    w.byte_string(tag::DIGEST_VALUE, digest.as_ref());
                    if subject.version >= Version::V1_1 {
                        w.enumeration(tag::KEY_FORMAT_TYPE, KeyFormatType::X_509.0);
                    }
                });
            });
        }
        Ok(())
    }),
    ("Cryptographic Usage Mask", |subject, put| {
        let mask = usage_mask(subject.object);
        put(&|w, tag| {
            w.integer(tag, mask);
        });
        Ok(())
    }),
    ("State", |subject, put| {
        put(&|w, tag| w.enumeration(tag, state(subject.object).0));
        Ok(())
    }),
    ("Link", |subject, put| {
        if let Some((link, linked)) = link(subject)? {
            put(&|w, tag| {
                w.structure(tag, |w| {
                    w.enumeration(tag::LINK_TYPE, link.0);
                    w.text(tag::LINKED_OBJECT_IDENTIFIER, &linked);
                });
            });
        }
        Ok(())
    }),
    ("Sensitive", |subject, put| boolean(subject.object.key.sensitive, subject, put)),
    ("Always Sensitive", |subject, put| boolean(subject.object.key.always_sensitive, subject, put)),
    ("Extractable", |subject, put| boolean(subject.object.key.extractable, subject, put)),
    ("Never Extractable", |subject, put| boolean(subject.object.key.never_extractable, subject, put)),
];

/// Writes the Attribute structures called `name` that the object has in this version: none if it has none.
pub(super) fn write_named(w: &mut Writer<'_>, subject: &Subject<'_>, name: &str) -> Outcome<()> {
    let row = TABLE.iter().find(|(known, _)| *known == name);
    let Some((name, values)) = row.filter(|_| definition(name, subject.version).is_some()) else {
        return Ok(());
    };
    values(subject, &mut |value| write_attribute(w, name, |w, tag| value(w, tag)))
}

/// Writes every Attribute structure that the object has in this version.
pub(super) fn write_all(w: &mut Writer<'_>, subject: &Subject<'_>) -> Outcome<()> {
    TABLE.iter().try_for_each(|(name, _)| write_named(w, subject, name))
}

/// The names of the attributes that the object has in this version.
pub(super) fn names(subject: &Subject<'_>) -> Outcome<Vec<&'static str>> {
    let mut names = Vec::new();
    for (name, values) in TABLE.iter().filter(|(name, _)| definition(name, subject.version).is_some()) {
        let mut there = false;
        values(subject, &mut |_| there = true)?;
        if there {
            names.push(*name);
        }
    }
    Ok(names)
}

/// Whether the object has an attribute `name` with the value that Locate asks for: the same, or a structure of which the
/// fields that are asked for are the same, or a usage mask that has every bit that is asked for, or an identifier in another spelling,
/// or a name that the token has to keep in another way.
pub(super) fn matches(subject: &Subject<'_>, name: &str, wanted: &Item<'_>) -> Outcome<bool> {
    let Some((name, values)) = TABLE.iter().find(|(known, _)| *known == name) else {
        return Ok(false);
    };
    if *name == "Cryptographic Usage Mask" {
        let bits = wanted.integer()?;
        return Ok(usage_mask(subject.object) & bits == bits);
    }
    if *name == "Unique Identifier" {
        let asked = Identifier::parse(wanted.text()?);
        let Object { class, key } = subject.object;
        return Ok(asked.is_ok_and(|asked| asked.id == key.id && asked.class.is_none_or(|asked| asked == *class)));
    }
    if *name == "Name" {
        return is_named(subject, wanted);
    }
    let mut found = false;
    values(subject, &mut |value| {
        let mut encoded = Vec::new();
        value(&mut Writer::new(&mut encoded), tag::ATTRIBUTE_VALUE);
        found |= Reader::message(&encoded).is_ok_and(|has| equals(&has, wanted));
    })?;
    Ok(found)
}

/// Whether the object's name is the one asked for, as far as it is asked for: as it is, or as the token keeps it.
fn is_named(subject: &Subject<'_>, wanted: &Item<'_>) -> Outcome<bool> {
    let Some(has) = name(subject.token, subject.object)? else { return Ok(false) };
    for value in same_tag(wanted, tag::NAME_VALUE) {
        let asked = value.text()?;
        if asked != has && subject.token.fitted(asked).as_ref() != Some(&has) {
            return Ok(false);
        }
    }
    for kind in same_tag(wanted, tag::NAME_TYPE) {
        if kind.enumeration()? != NameType::UNINTERPRETED_TEXT_STRING.0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The name of an object: its CKA_LABEL. A public half without an object of its own has none.
pub(super) fn name(token: &Token, object: &Object) -> Outcome<Option<String>> {
    if !object.is_stored() {
        return Ok(None);
    }
    Ok(token.label(object.class, &object.key.id)?.filter(|label| !label.is_empty()))
}

/// Writes a Name structure.
pub(super) fn write_name(w: &mut Writer<'_>, tag: u32, name: &str) {
    w.structure(tag, |w| {
        w.text(tag::NAME_VALUE, name);
        w.enumeration(tag::NAME_TYPE, NameType::UNINTERPRETED_TEXT_STRING.0);
    });
}

/// One flag of a usage.
pub(super) type UsageFlag = fn(&mut Usage) -> &mut bool;

/// The bits of a usage that each half of a pair, or a secret key, can have.
pub(super) const USAGE_BITS: [(UsageMask, Class, UsageFlag); 7] = [
    (UsageMask::SIGN, Class::PrivateKey, |usage| &mut usage.sign),
    (UsageMask::VERIFY, Class::PublicKey, |usage| &mut usage.verify),
    (UsageMask::ENCRYPT, Class::PublicKey, |usage| &mut usage.encrypt),
    (UsageMask::DECRYPT, Class::PrivateKey, |usage| &mut usage.decrypt),
    (UsageMask::WRAP_KEY, Class::PublicKey, |usage| &mut usage.wrap),
    (UsageMask::UNWRAP_KEY, Class::PrivateKey, |usage| &mut usage.unwrap),
    (UsageMask::DERIVE_KEY, Class::PrivateKey, |usage| &mut usage.derive),
];

/// The object's state. Without a stored life cycle every object is Active from birth.
pub(super) fn state(_: &Object) -> State {
    State::ACTIVE
}

/// What the object may be used for: a public half without an object of its own, for what belongs to the uses of its private key.
pub(super) fn usage(object: &Object) -> Usage {
    let usage = object.key.usage;
    if object.is_stored() {
        return usage;
    }
    Usage { verify: usage.sign, encrypt: usage.decrypt, wrap: usage.unwrap, ..Usage::default() }
}

fn usage_mask(object: &Object) -> i32 {
    let mut usage = usage(object);
    let bits = USAGE_BITS.iter().filter(|(_, _, flag)| *flag(&mut usage)).map(|(bit, _, _)| bit.0);
    i32::try_from(bits.fold(0, |mask, bit| mask | bit)).unwrap_or(0)
}

fn link(subject: &Subject<'_>) -> Outcome<Option<(LinkType, String)>> {
    let Subject { token, files, object, .. } = subject;
    let Some(other) = partner(object.class) else { return Ok(None) };
    let (link, known) = match other {
        Class::PublicKey => (LinkType::PUBLIC_KEY_LINK, object.key.public.is_some()),
        _ => (LinkType::PRIVATE_KEY_LINK, !object.is_stored()),
    };
    let id = &object.key.id;
    let there = known
        || match token.key(other, id) {
            Ok(_) | Err(Error::Ambiguous { .. }) => true,
            Err(Error::NotFound { .. }) => other == Class::PublicKey && Object::derived(token, files, id)?.is_some(),
            Err(error) => return Err(error.into()),
        };
    Ok(there.then(|| (link, ident::format(other, id))))
}

fn boolean(value: Option<bool>, subject: &Subject<'_>, put: Take<'_>) -> Outcome<()> {
    if let (Some(value), true) = (value, subject.object.is_stored()) {
        put(&|w, tag| w.boolean(tag, value));
    }
    Ok(())
}

fn equals(has: &Item<'_>, wanted: &Item<'_>) -> bool {
    if has.ty != wanted.ty {
        return false;
    }
    if has.ty != Type::Structure {
        return has.raw() == wanted.raw();
    }
    let (Ok(_), Ok(mut asked)) = (has.open(), wanted.open()) else { return false };
    while let Ok(Some(field)) = asked.next_item() {
        let same = same_tag(has, field.tag).any(|own| equals(&own, &field));
        if !same {
            return false;
        }
    }
    true
}
