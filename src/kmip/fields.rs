//! The fields of a structure, read by a table: which there may be, how often, in which order and since which version.
#![forbid(unsafe_code)]

use super::{Failure, Outcome, Version, tag};
use crate::ttlv::{Item, Reader};

/// A field that a structure may have. The fields of a table stand in the order in which they are encoded.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its tag.
    pub tag: u32,
    /// How often it comes.
    pub count: Count,
    /// The first version that has it.
    pub since: Version,
}

/// How often a field comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Once.
    Required,
    /// Once or not at all.
    Optional,
    /// Any number of times, one after another.
    Repeated,
}

/// A field that has to be there.
pub const fn required(tag: u32) -> Field {
    Field { tag, count: Count::Required, since: Version::V1_0 }
}

/// A field that may be there.
pub const fn optional(tag: u32) -> Field {
    Field { tag, count: Count::Optional, since: Version::V1_0 }
}

/// A field that may be there any number of times.
pub const fn repeated(tag: u32) -> Field {
    Field { tag, count: Count::Repeated, since: Version::V1_0 }
}

impl Field {
    /// The same field, of a later version.
    pub const fn since(mut self, version: Version) -> Self {
        self.since = version;
        self
    }
}

/// Reads the structure `item` by `table`: for each of its fields the item, the first one of a repeated field, or `None`.
///
/// `version` is the one that the request states: fields of later versions are unknown to it, and a minor version that
/// this program does not know may have fields that it does not know either; those are passed over.
///
/// # Errors
/// Invalid Message: malformed, a field missing, twice or out of order. Invalid Field: a field that does not belong here
/// (KMIP 1.2, section 11.1).
pub fn read_fields<'a, const N: usize>(
    item: &Item<'a>,
    table: &[Field; N],
    version: Version,
) -> Outcome<[Option<Item<'a>>; N]> {
    let mut found = [None; N];
    let mut last = 0;
    let mut inside = item.open()?;
    while let Some(field) = inside.next_item()? {
        let known = table.iter().position(|entry| entry.tag == field.tag && entry.since <= version);
        let Some(place) = known else {
            if version > Version::V1_4 {
                continue;
            }
            return Err(Failure::invalid_field(format!(
                "{} at byte {} does not belong into {}",
                tag::name(field.tag),
                field.offset,
                tag::name(item.tag)
            )));
        };
        if place < last {
            return Err(misplaced(&field, "is out of order"));
        }
        last = place;
        let repeated = table.get(place).is_some_and(|entry| entry.count == Count::Repeated);
        match found.get_mut(place) {
            Some(slot @ None) => *slot = Some(field),
            Some(Some(_)) if !repeated => return Err(misplaced(&field, "is there twice")),
            _ => {}
        }
    }
    for (slot, entry) in found.iter().zip(table) {
        if slot.is_none() && entry.count == Count::Required {
            return Err(Failure::invalid_message(format!(
                "{} is missing from {}",
                tag::name(entry.tag),
                tag::name(item.tag)
            )));
        }
    }
    Ok(found)
}

/// Every item of the structure `item` that has `tag`. What [`read_fields`] has accepted cannot fail here.
pub fn same_tag<'a>(item: &Item<'a>, tag: u32) -> impl Iterator<Item = Item<'a>> + use<'a> {
    let mut inside = item.open().unwrap_or(Reader::new(&[]));
    std::iter::from_fn(move || inside.next_item().ok().flatten()).filter(move |field| field.tag == tag)
}

fn misplaced(field: &Item<'_>, how: &str) -> Failure {
    Failure::invalid_message(format!("{} {how} at byte {}", tag::name(field.tag), field.offset))
}

#[cfg(test)]
mod tests {
    use super::super::ResultReason;
    use super::*;
    use crate::ttlv::Writer;

    const TABLE: [Field; 3] =
        [required(tag::UNIQUE_IDENTIFIER), repeated(tag::ATTRIBUTE_NAME), optional(tag::DATA).since(Version::V1_2)];

    fn read(version: Version, tags: &[u32]) -> Outcome<usize> {
        let mut out = Vec::new();
        Writer::new(&mut out).structure(tag::REQUEST_PAYLOAD, |w| {
            for &tag in tags {
                w.text(tag, "x");
            }
        });
        let item = Reader::message(&out).unwrap();
        let fields = read_fields(&item, &TABLE, version)?;
        assert!(fields[0].is_some());
        Ok(same_tag(&item, tag::ATTRIBUTE_NAME).count())
    }

    #[test]
    fn accepts_fields_in_their_order() {
        assert_eq!(read(Version::V1_2, &[tag::UNIQUE_IDENTIFIER]), Ok(0));
        let all = [tag::UNIQUE_IDENTIFIER, tag::ATTRIBUTE_NAME, tag::ATTRIBUTE_NAME, tag::DATA];
        assert_eq!(read(Version::V1_2, &all), Ok(2));
    }

    #[test]
    fn refuses_fields_that_are_missing_twice_or_out_of_order() {
        for tags in [
            &[tag::DATA][..],
            &[],
            &[tag::UNIQUE_IDENTIFIER, tag::UNIQUE_IDENTIFIER],
            &[tag::UNIQUE_IDENTIFIER, tag::DATA, tag::DATA],
            &[tag::ATTRIBUTE_NAME, tag::UNIQUE_IDENTIFIER],
            &[tag::UNIQUE_IDENTIFIER, tag::DATA, tag::ATTRIBUTE_NAME],
        ] {
            assert_eq!(read(Version::V1_2, tags).unwrap_err().reason, ResultReason::INVALID_MESSAGE, "{tags:X?}");
        }
    }

    #[test]
    fn refuses_unknown_fields_and_those_of_later_versions() {
        for unknown in [tag::MAXIMUM_ITEMS, 0x54_0001, 0x42_ffff] {
            let failure = read(Version::V1_2, &[tag::UNIQUE_IDENTIFIER, unknown]).unwrap_err();
            assert_eq!(failure.reason, ResultReason::INVALID_FIELD);
        }
        let early = read(Version::V1_1, &[tag::UNIQUE_IDENTIFIER, tag::DATA]).unwrap_err();
        assert_eq!(early.reason, ResultReason::INVALID_FIELD);
    }

    #[test]
    fn passes_over_unknown_fields_of_a_later_minor_version() {
        let later = Version { major: 1, minor: 5 };
        assert_eq!(read(later, &[0x42_0200, tag::UNIQUE_IDENTIFIER, 0x42_0201, tag::ATTRIBUTE_NAME]), Ok(1));
    }
}
