//! A message as one line of text for a log: structure, tags and lengths, and no value that could be secret.
#![forbid(unsafe_code)]

use std::fmt;

use super::{Item, Reader, Type};

/// Shows a message as `tag{tag=value tag=value}`.
///
/// Numbers, Booleans and dates are shown; of texts, bytes and big integers only the length, whatever their tag: a PIN that a
/// client puts into the wrong field, and key material in an unknown one, must not reach a log either. Of credentials nothing is shown:
/// a PIN can be written as a number too. What cannot be read is shown as where it went wrong.
pub struct Dump<'a>(pub &'a [u8]);

/// Items after which a dump stops: a message may hold a hundred thousand.
const MAX_ITEMS: usize = 200;

/// Items that hold credentials or belong into them: Authentication, Credential, Credential Value, Username, Password.
const SECRET: [u32; 5] = [0x42_000c, 0x42_0023, 0x42_0025, 0x42_0099, 0x42_00a1];

impl fmt::Display for Dump<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = MAX_ITEMS;
        items(Reader::new(self.0), &mut left, f)
    }
}

fn items(mut reader: Reader<'_>, left: &mut usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut gap = "";
    loop {
        let item = match reader.next_item() {
            Ok(None) => return Ok(()),
            Ok(Some(item)) => item,
            Err(error) => return write!(f, "{gap}<{error}>"),
        };
        let Some(fewer) = left.checked_sub(1) else {
            return write!(f, "{gap}...");
        };
        *left = fewer;
        write!(f, "{gap}{:06X}", item.tag)?;
        if !SECRET.contains(&item.tag) {
            value(&item, left, f)?;
        }
        gap = " ";
    }
}

fn value(item: &Item<'_>, left: &mut usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let number = match item.ty {
        Type::Structure => {
            f.write_str("{")?;
            match item.open() {
                Ok(inside) => items(inside, left, f)?,
                Err(error) => write!(f, "<{error}>")?,
            }
            return f.write_str("}");
        }
        Type::Integer => item.integer().map(i64::from),
        Type::LongInteger => item.long_integer(),
        Type::DateTime => item.date_time(),
        Type::Interval => item.interval().map(i64::from),
        Type::Boolean => item.boolean().map(i64::from),
        Type::Enumeration => return item.enumeration().map_or(Ok(()), |number| write!(f, "={number:X}h")),
        Type::BigInteger | Type::TextString | Type::ByteString => {
            return write!(f, "[{} bytes]", item.raw().len());
        }
    };
    number.map_or(Ok(()), |number| write!(f, "={number}"))
}

#[cfg(test)]
mod tests {
    use super::super::Writer;
    use super::*;

    #[test]
    fn shows_the_shape_and_no_text_or_bytes() {
        let mut out = Vec::new();
        Writer::new(&mut out).structure(0x42_0078, |w| {
            w.integer(0x42_000d, 1);
            w.text(0x42_0094, "s3cret");
            w.byte_string(0x42_0043, b"k3y");
            w.text(0x54_0001, "s3cret");
            w.enumeration(0x42_005c, 0x18);
        });
        let text = Dump(&out).to_string();
        assert_eq!(text, "420078{42000D=1 420094[6 bytes] 420043[3 bytes] 540001[6 bytes] 42005C=18h}");
    }

    #[test]
    fn shows_nothing_of_a_credential_in_whatever_type_it_is() {
        let mut out = Vec::new();
        Writer::new(&mut out).structure(0x42_0078, |w| {
            w.structure(0x42_000c, |w| {
                w.integer(0x42_00a1, 7_654_321);
            });
            w.long_integer(0x42_00a1, 7_654_321);
            w.structure(0x42_0025, |w| w.interval(0x42_0054, 7_654_321));
        });
        assert_eq!(Dump(&out).to_string(), "420078{42000C 4200A1 420025}");
    }

    #[test]
    fn shows_where_a_broken_message_breaks_and_nothing_of_the_rest() {
        let mut out = Vec::new();
        Writer::new(&mut out).structure(0x42_0078, |w| w.text(0x42_0094, "s3cret"));
        out[11] = 99;
        assert_eq!(Dump(&out).to_string(), "420078{<there is no such type at byte 8>}");
    }

    #[test]
    fn stops_after_its_limit_of_items() {
        let mut out = Vec::new();
        Writer::new(&mut out).structure(0x42_0078, |w| {
            for _ in 0..5_000 {
                w.integer(0x42_000d, 1);
            }
        });
        assert_eq!(Dump(&out).to_string().matches("42000D").count(), MAX_ITEMS - 1);
    }
}
