//! Attributes and template-attributes (KMIP 1.2, sections 2.1.1, 2.1.8 and 3).
#![forbid(unsafe_code)]

use super::fields::{Field, optional, read_fields, repeated, required, same_tag};
use super::{Failure, Outcome, ResultReason, Version, tag};
use crate::ttlv::{Item, Type, Writer};

const ATTRIBUTE: [Field; 3] =
    [required(tag::ATTRIBUTE_NAME), optional(tag::ATTRIBUTE_INDEX), required(tag::ATTRIBUTE_VALUE)];
const TEMPLATE_ATTRIBUTE: [Field; 2] = [repeated(tag::NAME), repeated(tag::ATTRIBUTE)];

/// An attribute as a request has it.
#[derive(Clone, Copy)]
pub struct Attribute<'a> {
    /// Its name as written.
    pub name: &'a str,
    /// Which instance; 0 if not told.
    pub index: i32,
    /// Its value, of the type that the name asks for.
    pub value: Item<'a>,
}

/// What the specification says of an attribute.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// The name that stands for it on the wire.
    pub name: &'static str,
    /// The type of its value.
    pub ty: Type,
    /// The first version that has it.
    pub since: Version,
    /// Whether an object can have several.
    pub multi: bool,
}

impl<'a> Attribute<'a> {
    /// Reads an Attribute structure.
    ///
    /// # Errors
    /// Invalid Field: a value of the wrong type, a negative index. Else what [`read_fields`] refuses. Whether there is such an
    /// instance is for the operation to say.
    pub fn decode(item: &Item<'a>, version: Version) -> Outcome<Self> {
        let [Some(name), index, Some(value)] = read_fields(item, &ATTRIBUTE, version)? else {
            return Err(Failure::invalid_message("Attribute without name or value"));
        };
        let name = name.text()?;
        let index = index.map_or(Ok(0), |index| index.integer())?;
        if index < 0 {
            return Err(Failure::invalid_field(format!("Attribute Index {index}")));
        }
        if let Some(definition) = definition(name, version) {
            if value.ty != definition.ty {
                let wanted = definition.ty;
                return Err(Failure::invalid_field(format!("{} is a {wanted}, not a {}", definition.name, value.ty)));
            }
        }
        Ok(Self { name, index, value })
    }
}

/// The attributes that a Template-Attribute structure holds. Templates that it names are refused: there are none.
pub struct TemplateAttribute<'a> {
    /// In the order in which they stand.
    pub attributes: Vec<Attribute<'a>>,
}

impl<'a> TemplateAttribute<'a> {
    /// Reads a Template-Attribute, Common, Private or Public Key Template-Attribute.
    ///
    /// # Errors
    /// Item Not Found for a named template, else what [`Attribute::decode`] refuses.
    pub fn decode(item: &Item<'a>, version: Version) -> Outcome<Self> {
        let [name, _] = read_fields(item, &TEMPLATE_ATTRIBUTE, version)?;
        if name.is_some() {
            return Err(Failure::new(ResultReason::ITEM_NOT_FOUND, "there are no templates here"));
        }
        let attributes = same_tag(item, tag::ATTRIBUTE).map(|item| Attribute::decode(&item, version));
        Ok(Self { attributes: attributes.collect::<Outcome<_>>()? })
    }
}

/// The attribute called `name` in `version`.
pub fn definition(name: &str, version: Version) -> Option<&'static Definition> {
    DEFINITIONS.iter().find(|definition| definition.name == name && definition.since <= version)
}

/// Writes an Attribute; `value` writes its value, under the tag that it is given. The index is left out where it is 0: 1.0 wants it
/// no more than later versions do.
pub fn write_attribute(w: &mut Writer<'_>, name: &str, value: impl FnOnce(&mut Writer<'_>, u32)) {
    w.structure(tag::ATTRIBUTE, |w| {
        w.text(tag::ATTRIBUTE_NAME, name);
        value(w, tag::ATTRIBUTE_VALUE);
    });
}

const fn single(name: &'static str, ty: Type, since: Version) -> Definition {
    Definition { name, ty, since, multi: false }
}

const fn multi(name: &'static str, ty: Type, since: Version) -> Definition {
    Definition { name, ty, since, multi: true }
}

/// Section 3 of 1.4, in the order in which the sections stand; custom attributes are named by their users.
pub(super) const DEFINITIONS: &[Definition] = &[
    single("Unique Identifier", Type::TextString, Version::V1_0),
    multi("Name", Type::Structure, Version::V1_0),
    single("Object Type", Type::Enumeration, Version::V1_0),
    single("Cryptographic Algorithm", Type::Enumeration, Version::V1_0),
    single("Cryptographic Length", Type::Integer, Version::V1_0),
    multi("Cryptographic Parameters", Type::Structure, Version::V1_0),
    single("Cryptographic Domain Parameters", Type::Structure, Version::V1_0),
    single("Certificate Type", Type::Enumeration, Version::V1_0),
    single("Certificate Length", Type::Integer, Version::V1_1),
    single("X.509 Certificate Identifier", Type::Structure, Version::V1_1),
    single("X.509 Certificate Subject", Type::Structure, Version::V1_1),
    single("X.509 Certificate Issuer", Type::Structure, Version::V1_1),
    single("Certificate Identifier", Type::Structure, Version::V1_0),
    single("Certificate Subject", Type::Structure, Version::V1_0),
    single("Certificate Issuer", Type::Structure, Version::V1_0),
    single("Digital Signature Algorithm", Type::Enumeration, Version::V1_1),
    multi("Digest", Type::Structure, Version::V1_0),
    single("Operation Policy Name", Type::TextString, Version::V1_0),
    single("Cryptographic Usage Mask", Type::Integer, Version::V1_0),
    single("Lease Time", Type::Interval, Version::V1_0),
    single("Usage Limits", Type::Structure, Version::V1_0),
    single("State", Type::Enumeration, Version::V1_0),
    single("Initial Date", Type::DateTime, Version::V1_0),
    single("Activation Date", Type::DateTime, Version::V1_0),
    single("Process Start Date", Type::DateTime, Version::V1_0),
    single("Protect Stop Date", Type::DateTime, Version::V1_0),
    single("Deactivation Date", Type::DateTime, Version::V1_0),
    single("Destroy Date", Type::DateTime, Version::V1_0),
    single("Compromise Occurrence Date", Type::DateTime, Version::V1_0),
    single("Compromise Date", Type::DateTime, Version::V1_0),
    single("Revocation Reason", Type::Structure, Version::V1_0),
    single("Archive Date", Type::DateTime, Version::V1_0),
    multi("Object Group", Type::TextString, Version::V1_0),
    single("Fresh", Type::Boolean, Version::V1_1),
    multi("Link", Type::Structure, Version::V1_0),
    multi("Application Specific Information", Type::Structure, Version::V1_0),
    single("Contact Information", Type::TextString, Version::V1_0),
    single("Last Change Date", Type::DateTime, Version::V1_0),
    multi("Alternative Name", Type::Structure, Version::V1_2),
    single("Key Value Present", Type::Boolean, Version::V1_2),
    multi("Key Value Location", Type::Structure, Version::V1_2),
    single("Original Creation Date", Type::DateTime, Version::V1_2),
    single("Random Number Generator", Type::Structure, Version::V1_3),
    single("PKCS#12 Friendly Name", Type::TextString, Version::V1_4),
    single("Description", Type::TextString, Version::V1_4),
    single("Comment", Type::TextString, Version::V1_4),
    single("Sensitive", Type::Boolean, Version::V1_4),
    single("Always Sensitive", Type::Boolean, Version::V1_4),
    single("Extractable", Type::Boolean, Version::V1_4),
    single("Never Extractable", Type::Boolean, Version::V1_4),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ttlv::Reader;

    fn decode(name: &str, index: Option<i32>, value: impl FnOnce(&mut Writer<'_>)) -> Outcome<i32> {
        let mut out = Vec::new();
        Writer::new(&mut out).structure(tag::ATTRIBUTE, |w| {
            w.text(tag::ATTRIBUTE_NAME, name);
            if let Some(index) = index {
                w.integer(tag::ATTRIBUTE_INDEX, index);
            }
            value(w);
        });
        Attribute::decode(&Reader::message(&out).unwrap(), Version::V1_2).map(|attribute| attribute.index)
    }

    #[test]
    fn reads_an_attribute_with_and_without_index() {
        let length = |w: &mut Writer<'_>| {
            w.integer(tag::ATTRIBUTE_VALUE, 256);
        };
        assert_eq!(decode("Cryptographic Length", None, length), Ok(0));
        assert_eq!(decode("Cryptographic Length", Some(3), length), Ok(3));
        assert_eq!(decode("x-mine", None, |w| w.text(tag::ATTRIBUTE_VALUE, "any")), Ok(0));
    }

    #[test]
    fn refuses_a_negative_index_and_a_value_of_the_wrong_type() {
        let negative = decode("Object Group", Some(-1), |w| w.text(tag::ATTRIBUTE_VALUE, "g"));
        assert_eq!(negative.unwrap_err().reason, ResultReason::INVALID_FIELD);
        let wrong = decode("Cryptographic Length", None, |w| w.text(tag::ATTRIBUTE_VALUE, "256"));
        assert_eq!(wrong.unwrap_err().reason, ResultReason::INVALID_FIELD);
    }

    #[test]
    fn definitions_agree_with_the_specification_tables() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/kmip/attributes.tsv");
        let Ok(table) = std::fs::read_to_string(path) else {
            eprintln!("skipped: no specification tables beside the project");
            return;
        };
        let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|line| line.split('\t').collect()).collect();
        assert_eq!(DEFINITIONS.len(), rows.iter().filter(|row| row[0] != "Custom Attribute").count());
        for definition in DEFINITIONS {
            let row = rows.iter().find(|row| row[0] == definition.name).unwrap();
            let (name, ty, since) =
                (definition.name, definition.ty.to_string().replace([' ', '-'], ""), definition.since);
            assert_eq!((row[1], row[3] == "yes", row[8]), (&*ty, definition.multi, &*since.to_string()), "{name}");
        }
    }
}
