//! The little DER that keys, signatures and certificates need, read one element at a time: definite lengths, tags of one byte.
//!
//! A length need not be in its shortest form, for tokens write longer ones; who wants DER to the letter writes what was read again and
//! compares.
#![forbid(unsafe_code)]

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const PRINTABLE_STRING: u8 = 0x13;
pub(crate) const IA5_STRING: u8 = 0x16;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// The element that begins `bytes`: its tag, its content, and what follows it. `None` if it is cut short.
pub(crate) fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    // The first of several bytes; nothing that is read here has such a tag.
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        // Four length bytes are more than anything read here needs; 0x80 (indefinite) is not DER.
        let count = usize::from(first & 0x7f);
        if !(1..=4).contains(&count) {
            return None;
        }
        let (digits, rest) = rest.split_at_checked(count)?;
        let len = digits.iter().fold(0_u64, |len, &digit| (len << 8) | u64::from(digit));
        (usize::try_from(len).ok()?, rest)
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

/// The content of the element `bytes` consists of, if it has this tag and nothing follows it.
pub(crate) fn whole(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    match element(bytes)? {
        (found, content, []) if found == tag => Some(content),
        _ => None,
    }
}

/// The content of the first element of `bytes`, if it has this tag, and what follows.
pub(crate) fn first(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    match element(bytes)? {
        (found, content, rest) if found == tag => Some((content, rest)),
        _ => None,
    }
}

/// What follows the first element of `bytes`, if it has this tag; all of them if it has not, for it may be left out.
pub(crate) fn after(bytes: &[u8], tag: u8) -> &[u8] {
    first(bytes, tag).map_or(bytes, |(_, rest)| rest)
}

/// The bytes of a BIT STRING's content, if it is made of whole bytes.
pub(crate) fn bits(content: &[u8]) -> Option<&[u8]> {
    match content.split_first()? {
        (0, bytes) => Some(bytes),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_short_and_long_lengths() {
        assert_eq!(element(&[0x04, 2, 1, 2, 9]), Some((4, &[1, 2][..], &[9][..])));
        let mut long = vec![0x30, 0x81, 0x80];
        long.extend([7; 128]);
        assert_eq!(whole(&long, SEQUENCE), Some(&[7; 128][..]));
        assert_eq!(whole(&long, OCTET_STRING), None);
    }

    #[test]
    fn refuses_every_truncation_and_the_indefinite_length() {
        let mut sample = vec![0x30, 0x82, 0x01, 0x00];
        sample.extend([5; 256]);
        for len in 0..sample.len() {
            assert_eq!(element(&sample[..len]), None, "accepted {len} bytes");
        }
        assert_eq!(element(&[0x30, 0x80, 0, 0]), None);
        assert_eq!(element(&[0x30, 0x85, 0, 0, 0, 0, 0]), None);
        assert_eq!(element(&[0x3f, 0x21, 1, 0]), None, "a tag of two bytes");
        assert_eq!(element(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 1]), None);
    }

    #[test]
    fn refuses_a_bit_string_of_odd_bits() {
        assert_eq!(bits(&[0, 1, 2]), Some(&[1, 2][..]));
        assert_eq!(bits(&[3, 1, 2]), None);
        assert_eq!(bits(&[]), None);
    }
}
