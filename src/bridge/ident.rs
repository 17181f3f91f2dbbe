//! Unique Identifier <-> CKA_ID and class: upper-case hexadecimal of the CKA_ID, then `_pub` or `_priv`; without it, the pair.
#![forbid(unsafe_code)]

use crate::kmip::{Failure, Outcome};
use crate::pkcs11::Class;

/// Digits of the longest CKA_ID that is looked for, twice its bytes. Tokens take up to 255; what is beyond them all need not reach
/// a C library.
const LONGEST: usize = 2048;

/// What a Unique Identifier says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identifier {
    /// The CKA_ID; at least one byte.
    pub(super) id: Vec<u8>,
    /// Which object of that CKA_ID; `None` for bare hexadecimal, as keys made by other signers are called.
    pub(super) class: Option<Class>,
}

impl Identifier {
    /// Reads an identifier. Hexadecimal is taken in either case.
    ///
    /// # Errors
    /// Item Not Found: what does not look like an identifier of ours names no object.
    pub(super) fn parse(text: &str) -> Outcome<Self> {
        let (hex, class) = match text.rsplit_once('_') {
            Some((hex, suffix)) => (hex, Some(class_of(suffix).ok_or_else(no_such_object)?)),
            None => (text, None),
        };
        if hex.is_empty() || hex.len() > LONGEST {
            return Err(no_such_object());
        }
        let id = decode_hex(hex).ok_or_else(no_such_object)?;
        Ok(Self { id, class })
    }
}

/// The identifier of the object of `class` with the CKA_ID `id`.
pub(super) fn format(class: Class, id: &[u8]) -> String {
    let mut text = bare(id);
    text.push('_');
    text.push_str(suffix(class));
    text
}

/// The identifier of the pair with the CKA_ID `id`.
pub(super) fn bare(id: &[u8]) -> String {
    let mut text = String::with_capacity(id.len().saturating_mul(2).saturating_add(5));
    for byte in id {
        text.extend([byte >> 4, byte & 0xf].map(digit));
    }
    text
}

fn digit(nibble: u8) -> char {
    char::from(if nibble < 10 { b'0'.wrapping_add(nibble) } else { b'A'.wrapping_sub(10).wrapping_add(nibble) })
}

/// The one answer for every object that is not there.
pub(super) fn no_such_object() -> Failure {
    Failure::not_found("there is no such object")
}

fn suffix(class: Class) -> &'static str {
    match class {
        Class::PublicKey => "pub",
        Class::PrivateKey => "priv",
        Class::SecretKey => "sec",
    }
}

fn class_of(text: &str) -> Option<Class> {
    [Class::PublicKey, Class::PrivateKey, Class::SecretKey].into_iter().find(|&class| suffix(class) == text)
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(nibble(*high)? << 4 | nibble(*low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_in_either_case() {
        for (class, suffix) in [(Class::PublicKey, "pub"), (Class::PrivateKey, "priv"), (Class::SecretKey, "sec")] {
            let text = format(class, &[0x00, 0xa9, 0xff]);
            assert_eq!(text, format!("00A9FF_{suffix}"));
            let identifier = Identifier { id: vec![0x00, 0xa9, 0xff], class: Some(class) };
            assert_eq!(Identifier::parse(&text), Ok(identifier.clone()));
            assert_eq!(Identifier::parse(&format!("00a9fF_{suffix}")), Ok(identifier));
        }
    }

    #[test]
    fn reads_a_bare_cka_id() {
        assert_eq!(Identifier::parse("0a"), Ok(Identifier { id: vec![10], class: None }));
    }

    #[test]
    fn finds_no_object_for_anything_else() {
        for text in [
            "",
            "_pub",
            "zz_pub",
            "a",
            "abc_priv",
            "é_pub",
            "éé",
            "_",
            "__pub",
            "00_PUB",
            "00_pub_",
            "00_x",
            "00 _pub",
            "+1",
            "0x00",
            "00_\u{0}pub",
        ] {
            assert_eq!(Identifier::parse(text), Err(no_such_object()), "{text:?}");
        }
    }
}
