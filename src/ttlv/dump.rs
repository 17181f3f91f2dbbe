//! A message as text for a log: structure, tags and lengths, and no value that could be secret.
#![forbid(unsafe_code)]

use std::fmt;

use super::{Item, Reader, Type};

/// Shows the items of a message, one a line, indented by depth.
///
/// Numbers, Booleans and dates are shown; of texts, bytes and big integers only the length, whatever their tag: a PIN that a
/// client puts into the wrong field, and key material in an unknown one, must not reach a log either. What cannot be read
/// is shown as where it went wrong.
pub struct Dump<'a>(pub &'a [u8]);

/// Lines after which a dump stops: a message may hold a hundred thousand items.
const MAX_LINES: usize = 200;

impl fmt::Display for Dump<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = 0;
        items(Reader::new(self.0), 0, &mut lines, f)
    }
}

fn items(mut reader: Reader<'_>, depth: usize, lines: &mut usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    loop {
        match reader.next_item() {
            Ok(None) => return Ok(()),
            Ok(Some(_)) | Err(_) if *lines == MAX_LINES => {
                *lines = lines.saturating_add(1);
                return write!(f, "\n...");
            }
            Ok(Some(_)) if *lines > MAX_LINES => return Ok(()),
            Ok(Some(item)) => {
                if *lines > 0 {
                    writeln!(f)?;
                }
                *lines = lines.saturating_add(1);
                write!(f, "{:indent$}{:06X} {}", "", item.tag, item.ty, indent = depth.saturating_mul(2))?;
                value(&item, depth, lines, f)?;
            }
            Err(error) => return write!(f, "\n{:indent$}{error}", "", indent = depth.saturating_mul(2)),
        }
    }
}

fn value(item: &Item<'_>, depth: usize, lines: &mut usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let shown = match item.ty {
        Type::Structure => {
            return match item.open() {
                Ok(inside) => items(inside, depth.saturating_add(1), lines, f),
                Err(error) => write!(f, " {error}"),
            };
        }
        Type::Integer => item.integer().map(i64::from),
        Type::LongInteger => item.long_integer(),
        Type::DateTime => item.date_time(),
        Type::Interval => item.interval().map(i64::from),
        Type::Boolean => item.boolean().map(i64::from),
        Type::Enumeration => return item.enumeration().map_or(Ok(()), |number| write!(f, " {number:08X}")),
        Type::BigInteger | Type::TextString | Type::ByteString => {
            return write!(f, " ({} bytes)", item.raw().len());
        }
    };
    shown.map_or(Ok(()), |number| write!(f, " {number}"))
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
            w.text(0x42_00a1, "s3cret");
            w.byte_string(0x42_0043, b"k3y");
            w.text(0x54_0001, "s3cret");
        });
        let text = Dump(&out).to_string();
        assert_eq!(
            text,
            "420078 Structure\n  42000D Integer 1\n  4200A1 Text String (6 bytes)\n  420043 Byte String (3 bytes)\n  540001 Text String (6 bytes)"
        );
    }

    #[test]
    fn shows_where_a_broken_message_breaks_and_nothing_of_the_rest() {
        let mut out = Vec::new();
        Writer::new(&mut out).structure(0x42_0078, |w| w.text(0x42_00a1, "s3cret"));
        out[11] = 99;
        let text = Dump(&out).to_string();
        assert!(text.contains("there is no type 63 at byte 8") && !text.contains("s3cret"), "{text}");
    }

    #[test]
    fn stops_after_its_limit_of_lines() {
        let mut out = Vec::new();
        Writer::new(&mut out).structure(0x42_0078, |w| {
            for _ in 0..5_000 {
                w.integer(0x42_000d, 1);
            }
        });
        assert!(Dump(&out).to_string().lines().count() <= MAX_LINES + 2);
    }
}
