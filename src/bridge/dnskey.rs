//! DNSKEY records (RFC 4034, section 2) in the presentation format, as BIND, Knot, OpenDNSSEC and dnst write them.
#![forbid(unsafe_code)]

use std::fmt;

use crate::pkcs11::{Curve, KeyKind, PublicKey};

/// What a DNSKEY record says beside the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dnskey {
    /// The zone, as written.
    pub(super) owner: String,
    /// 256 for a zone signing key, 257 with the bit for secure entry points.
    pub(super) flags: u16,
    /// The algorithm's number.
    pub(super) algorithm: u8,
    /// Of the whole record.
    pub(super) key_tag: u16,
}

impl Dnskey {
    /// The algorithms that the record of such a key may state.
    pub(super) fn algorithms_of(kind: KeyKind) -> Vec<u8> {
        let fits = |curve: Option<Curve>| match kind {
            KeyKind::Rsa { .. } => curve.is_none(),
            KeyKind::Ec(own) => curve == Some(own),
            KeyKind::Other(_) => false,
        };
        ALGORITHMS.iter().filter(|(_, curve)| fits(*curve)).map(|(number, _)| *number).collect()
    }

    /// Whether the bit for secure entry points is set (RFC 4034, section 2.1.1).
    pub(super) fn is_entry_point(&self) -> bool {
        self.flags & 1 != 0
    }
}

impl fmt::Display for Dnskey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owner, flags, algorithm, key_tag } = self;
        write!(f, "{}, flags {flags}, algorithm {algorithm}, key tag {key_tag}", owner.escape_debug())
    }
}

/// The algorithms of signing today; RFC 8624 has no use for the older ones.
const ALGORITHMS: &[(u8, Option<Curve>)] = &[
    (8, None),
    (10, None),
    (13, Some(Curve::P256)),
    (14, Some(Curve::P384)),
    (15, Some(Curve::Ed25519)),
    (16, Some(Curve::Ed448)),
];

/// The records of a file. Owner, TTL and class may stand before the type, in any number.
///
/// # Errors
/// There is none, or one of them is not understood.
pub(super) fn parse(text: &str) -> Result<Vec<(PublicKey, Dnskey)>, String> {
    let mut keys = Vec::new();
    for (line, record) in records(text) {
        let mut fields = record.iter().map(String::as_str);
        let owner = fields.clone().next().unwrap_or_default();
        if !fields.by_ref().any(|field| field.eq_ignore_ascii_case("DNSKEY")) {
            // Whatever else is in a zone.
            continue;
        }
        let fields: Vec<&str> = fields.collect();
        keys.push(read(owner, &fields).map_err(|why| format!("line {line}: {why}"))?);
    }
    if keys.is_empty() { Err("there is no DNSKEY record in it".to_owned()) } else { Ok(keys) }
}

/// The keys in the DNSKEY records of a text, each with what a record holds of it.
///
/// # Errors
/// As for files of the operator.
pub fn read_dnskeys(text: &str) -> Result<Vec<(PublicKey, Vec<u8>)>, String> {
    let keys = parse(text)?;
    Ok(keys.into_iter().map(|(key, _)| key).map(|key| (key.clone(), encoded(&key))).collect())
}

/// The number of a record's first line, and the record in its fields: without comments, and with all that parentheses hold together.
fn records(text: &str) -> Vec<(usize, Vec<String>)> {
    let mut records: Vec<(usize, Vec<String>)> = Vec::new();
    let mut is_open = false;
    for (number, line) in (1_usize..).zip(text.lines()) {
        let line = line.split(';').next().unwrap_or_default();
        if !is_open {
            records.push((number, Vec::new()));
        }
        let fields = line.split(|c: char| c.is_ascii_whitespace() || c == '(' || c == ')');
        if let Some((_, record)) = records.last_mut() {
            record.extend(fields.filter(|field| !field.is_empty()).map(str::to_owned));
        }
        for c in line.chars() {
            match c {
                '(' => is_open = true,
                ')' => is_open = false,
                _ => {}
            }
        }
    }
    records
}

/// Reads what follows the type.
fn read(owner: &str, fields: &[&str]) -> Result<(PublicKey, Dnskey), String> {
    let [flags, protocol, algorithm, key @ ..] = fields else {
        return Err("the record is cut short".to_owned());
    };
    let flags: u16 = flags.parse().map_err(|_| format!("flags {flags:?} are no number"))?;
    if *protocol != "3" {
        return Err(format!("protocol {protocol:?} is not 3"));
    }
    let number = algorithm.parse::<u8>().ok().or_else(|| by_mnemonic(algorithm));
    let known = ALGORITHMS.iter().find(|(known, _)| Some(*known) == number);
    let (algorithm, curve) = known.ok_or_else(|| format!("algorithm {algorithm:?} is not served"))?;
    let bytes = base64(&key.concat()).ok_or("the key is not base64")?;
    let key = match curve {
        None => rsa(&bytes),
        Some(curve) => {
            // The uncompressed point, without the byte that says so (RFC 6605, section 4); RFC 8080 has bare points anyway.
            let point = if curve.is_edwards() { bytes.clone() } else { [&[0x04], bytes.as_slice()].concat() };
            curve.point(&point).filter(|same| *same == point).map(|point| PublicKey::Ec { curve: *curve, point })
        }
    };
    let key = key.ok_or_else(|| format!("the key is none of algorithm {algorithm}"))?;
    let key_tag = key_tag(flags, *algorithm, &bytes);
    Ok((key, Dnskey { owner: owner.to_owned(), flags, algorithm: *algorithm, key_tag }))
}

/// The names of the algorithms, which the presentation format has beside their numbers (RFC 4034, appendix A.1).
fn by_mnemonic(name: &str) -> Option<u8> {
    const NAMES: [(&str, u8); 6] = [
        ("RSASHA256", 8),
        ("RSASHA512", 10),
        ("ECDSAP256SHA256", 13),
        ("ECDSAP384SHA384", 14),
        ("ED25519", 15),
        ("ED448", 16),
    ];
    NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, number)| *number)
}

/// RFC 3110, section 2: the exponent's length in one or in three bytes, the exponent, the modulus.
fn rsa(bytes: &[u8]) -> Option<PublicKey> {
    let (len, rest) = match bytes {
        [0, high, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        [len, rest @ ..] => (usize::from(*len), rest),
        [] => return None,
    };
    let (exponent, modulus) = rest.split_at_checked(len)?;
    PublicKey::rsa(modulus, exponent)
}

/// The form in which a record holds a key: what [`read`] takes apart.
pub(super) fn encoded(key: &PublicKey) -> Vec<u8> {
    match key {
        PublicKey::Rsa { modulus, exponent } => {
            let len = match (u8::try_from(exponent.len()), u16::try_from(exponent.len())) {
                (Ok(len), _) => vec![len],
                (_, len) => [&[0], &len.unwrap_or(u16::MAX).to_be_bytes()[..]].concat(),
            };
            [&len, exponent.as_slice(), modulus].concat()
        }
        PublicKey::Ec { curve, point } if curve.is_edwards() => point.clone(),
        PublicKey::Ec { point, .. } => point.get(1..).unwrap_or_default().to_vec(),
    }
}

/// RFC 4034, appendix B, of the record that holds these.
pub(super) fn key_tag(flags: u16, algorithm: u8, key: &[u8]) -> u16 {
    let [high, low] = flags.to_be_bytes();
    let bytes = [high, low, 3, algorithm].into_iter().chain(key.iter().copied());
    let sum = bytes.enumerate().fold(0_u32, |sum, (index, byte)| {
        sum.wrapping_add(if index % 2 == 0 { u32::from(byte) << 8 } else { u32::from(byte) })
    });
    let folded = sum.wrapping_add(sum >> 16) & 0xffff;
    u16::try_from(folded).unwrap_or(u16::MAX)
}

/// Base64 (RFC 4648, section 4) with its padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if text.len() % 4 != 0 || text.len().saturating_sub(digits.len()) > 2 {
        return None;
    }
    let mut out = Vec::with_capacity(text.len());
    let (mut held, mut bits) = (0_u32, 0_u32);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit.wrapping_sub(b'A'),
            b'a'..=b'z' => digit.wrapping_sub(b'a').wrapping_add(26),
            b'0'..=b'9' => digit.wrapping_sub(b'0').wrapping_add(52),
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = (held << 6 | u32::from(value)) & 0xffff;
        bits = bits.saturating_add(6);
        if bits >= 8 {
            bits = bits.saturating_sub(8);
            out.push(u8::try_from(held >> bits & 0xff).unwrap_or(0));
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 6605, section 6.1; RFC 8080, section 6.1; RFC 5702, section 6.1.
    const P256: &str = "example.net. 3600 IN DNSKEY 257 3 13 (
        GojIhhXUN/u4v54ZQqGSnyhWJwaubCvTmeexv7bR6edb
        krSqQpF64cYbcB7wNcP+e+MAnLr+Wi9xMWyQLc8NAA== ) ; key id = 55648";
    const ED25519: &str = "example.com. 3600 IN DNSKEY 257 3 15 (
        l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4= )";
    const RSA: &str = "example.net.     3600  IN  DNSKEY  (256 3 8 AwEAAcFcGsaxxdgiuuGmCkVI
        my4h99CqT7jwY3pexPGcnUFtR2Fh36BponcwtkZ4cAgtvd4Qs8P
        kxUdp6p/DlUmObdk= );{id = 9033 (zsk), size = 512b}";

    #[test]
    fn reads_the_examples_of_the_standards_with_their_key_tags() {
        for (text, tag, flags, algorithm) in [(P256, 55648, 257, 13), (ED25519, 3613, 257, 15), (RSA, 9033, 256, 8)] {
            let [(key, dnskey)] = &parse(text).unwrap()[..] else { panic!("{text}") };
            assert_eq!((dnskey.key_tag, dnskey.flags, dnskey.algorithm), (tag, flags, algorithm));
            assert_eq!(super::key_tag(flags, algorithm, &encoded(key)), tag);
        }
        assert_eq!(parse(P256).unwrap()[0].1.owner, "example.net.");
    }

    #[test]
    fn reads_what_signers_write() {
        let key = "l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=";
        for text in [
            format!(
                "; This is a key-signing key, keyid 3613, for example.com.\n; Created: 20260101\nexample.com. IN DNSKEY 257 3 15 {key}\n"
            ),
            format!("example.com. DNSKEY 257 3 15 {key}"),
            format!("example.com.\t3600\tin\tdnskey\t257 3 ED25519 {} {}", &key[..20], &key[20..]),
            format!(
                "\n\nexample.com. 1 IN SOA a. b. (1 2\n3 4 5)\nexample.com. IN DNSKEY 257 3 15 {key} ;{{id = 3613}}\n"
            ),
        ] {
            let found = parse(&text).unwrap();
            assert_eq!((found.len(), found[0].1.key_tag), (1, 3613), "{text}");
        }
        assert_eq!(parse(&format!("{P256}\n{RSA}\n{ED25519}")).unwrap().len(), 3);
    }

    #[test]
    fn refuses_records_that_hold_no_key() {
        for (text, why) in [
            ("", "no DNSKEY record"),
            ("example.com. IN A 192.0.2.1", "no DNSKEY record"),
            ("a. DNSKEY 257 3", "cut short"),
            ("a. DNSKEY x 3 13 AAAA", "no number"),
            ("a. DNSKEY 257 2 13 AAAA", "protocol"),
            ("a. DNSKEY 257 3 5 AAAA", "algorithm \"5\" is not served"),
            ("\na. DNSKEY 257 3 13 AAAA", "line 2: the key is none of algorithm 13"),
            ("a. DNSKEY 257 3 8 A", "not base64"),
            ("a. DNSKEY 257 3 8 ====", "not base64"),
            ("a. DNSKEY 257 3 8 AAAA", "none of algorithm 8"),
            ("a. DNSKEY 257 3 8 BAEA", "none of algorithm 8"),
        ] {
            let found = parse(text).unwrap_err();
            assert!(found.contains(why), "{text:?}: {found}");
        }
    }

    #[test]
    fn survives_every_truncation() {
        for text in [P256, RSA, ED25519] {
            for (end, _) in text.char_indices() {
                let _ = parse(&text[..end]);
            }
        }
    }

    #[test]
    fn writes_long_exponents_as_it_reads_them() {
        for len in [1, 3, 255, 256, 300] {
            let key = PublicKey::Rsa { modulus: vec![0xc1; 256], exponent: vec![3; len] };
            assert_eq!(rsa(&encoded(&key)), Some(key));
        }
    }
}
