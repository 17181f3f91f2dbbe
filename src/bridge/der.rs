//! The little DER that keys and signatures need: SubjectPublicKeyInfo, RSAPublicKey, DigestInfo, ECDSA-Sig-Value.
#![forbid(unsafe_code)]

use crate::der::{self, BIT_STRING, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE};
use crate::pkcs11::PublicKey;

/// AlgorithmIdentifier of rsaEncryption (RFC 8017, appendix A.1) with its NULL.
const RSA_ENCRYPTION: &[u8] =
    &[SEQUENCE, 13, OBJECT_IDENTIFIER, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
/// The OID id-ecPublicKey (RFC 5480, section 2.1.1).
const EC_PUBLIC_KEY: &[u8] = &[OBJECT_IDENTIFIER, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];

/// SubjectPublicKeyInfo (RFC 5280, 4.1; for the Edwards curves RFC 8410, 4).
pub fn subject_public_key_info(key: &PublicKey) -> Vec<u8> {
    let (algorithm, bits) = match key {
        PublicKey::Rsa { modulus, exponent } => (RSA_ENCRYPTION.to_vec(), rsa_public_key(modulus, exponent)),
        PublicKey::Ec { curve, point } => {
            let oid = curve.oid_der();
            let parts: &[&[u8]] = if curve.is_edwards() { &[oid] } else { &[EC_PUBLIC_KEY, oid] };
            (item(SEQUENCE, parts), point.clone())
        }
    };
    item(SEQUENCE, &[&algorithm, &item(BIT_STRING, &[&[0], &bits])])
}

/// RSAPublicKey, which KMIP calls PKCS#1 (RFC 8017, appendix A.1.1).
pub(super) fn rsa_public_key(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    item(SEQUENCE, &[&integer(modulus), &integer(exponent)])
}

/// DigestInfo (RFC 8017, section 9.2): what a token pads that signs PKCS#1 v1.5 without hashing. `oid` is the hash's, with
/// tag and length.
pub(super) fn digest_info(oid: &[u8], digest: &[u8]) -> Vec<u8> {
    item(SEQUENCE, &[&item(SEQUENCE, &[oid, &[0x05, 0x00]]), &item(OCTET_STRING, &[digest])])
}

/// ECDSA-Sig-Value (RFC 3279, section 2.2.3) from the two halves, equally long, that PKCS#11 answers.
pub fn ecdsa_signature(halves: &[u8]) -> Option<Vec<u8>> {
    if halves.is_empty() || halves.len() % 2 != 0 {
        return None;
    }
    let (r, s) = halves.split_at_checked(halves.len() / 2)?;
    let mut numbers = Vec::with_capacity(halves.len().saturating_add(16));
    put_integer(&mut numbers, r);
    put_integer(&mut numbers, s);
    let (header, len) = header(SEQUENCE, numbers.len());
    numbers.splice(..0, header.into_iter().take(len));
    Some(numbers)
}

/// The two halves, each `len` bytes, of an ECDSA-Sig-Value. `None` for what is none, or has numbers that do not fit, and for what is
/// written otherwise than DER has it: one signature has one form.
pub fn ecdsa_halves(signature: &[u8], len: usize) -> Option<Vec<u8>> {
    let (r, rest) = der::first(der::whole(signature, SEQUENCE)?, INTEGER)?;
    let s = der::whole(rest, INTEGER)?;
    let mut halves = Vec::with_capacity(len.saturating_mul(2));
    for number in [r, s] {
        let digits = number.strip_prefix(&[0]).unwrap_or(number);
        halves.resize(halves.len().saturating_add(len.checked_sub(digits.len())?), 0);
        halves.extend_from_slice(digits);
    }
    (ecdsa_signature(&halves)? == signature).then_some(halves)
}

fn integer(magnitude: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_integer(&mut out, magnitude);
    out
}

/// A number that is not negative: no leading zero but the one that keeps the sign bit clear.
fn put_integer(out: &mut Vec<u8>, magnitude: &[u8]) {
    let first = magnitude.iter().position(|&byte| byte != 0).unwrap_or(magnitude.len());
    let digits = magnitude.get(first..).unwrap_or_default();
    let sign = digits.first().is_none_or(|byte| byte & 0x80 != 0);
    put(out, INTEGER, &[if sign { &[0] } else { &[] }, digits]);
}

fn item(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, tag, parts);
    out
}

fn put(out: &mut Vec<u8>, tag: u8, parts: &[&[u8]]) {
    let value: usize = parts.iter().map(|part| part.len()).sum();
    let (header, len) = header(tag, value);
    out.reserve(value.saturating_add(len));
    out.extend(header.into_iter().take(len));
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// Tag and length of a value of `len` bytes: so many of these bytes.
fn header(tag: u8, len: usize) -> ([u8; 6], usize) {
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    let [a, b, c, d] = len.to_be_bytes();
    match len {
        0..=0x7f => ([tag, d, 0, 0, 0, 0], 2),
        0x80..=0xff => ([tag, 0x81, d, 0, 0, 0], 3),
        0x100..=0xffff => ([tag, 0x82, c, d, 0, 0], 4),
        0x1_0000..=0xff_ffff => ([tag, 0x83, b, c, d, 0], 5),
        _ => ([tag, 0x84, a, b, c, d], 6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pkcs11::Curve;

    #[test]
    fn signatures_are_minimal_and_come_back_the_same() {
        let mut halves = [0_u8; 64];
        halves[0] = 0x80;
        halves[63] = 1;
        let der = ecdsa_signature(&halves).unwrap();
        assert_eq!(der[..5], [SEQUENCE, 38, INTEGER, 33, 0]);
        assert_eq!(der[37..], [INTEGER, 1, 1]);
        assert_eq!(ecdsa_halves(&der, 32).unwrap(), halves);
    }

    #[test]
    fn signatures_of_p_521_have_a_long_length() {
        let der = ecdsa_signature(&[0x01; 132]).unwrap();
        assert_eq!(der[..3], [SEQUENCE, 0x81, 136]);
        assert_eq!(ecdsa_halves(&der, 66).unwrap(), [0x01; 132]);
    }

    #[test]
    fn refuses_what_is_no_signature() {
        let good = ecdsa_signature(&[0x7f; 64]).unwrap();
        for len in 0..good.len() {
            assert_eq!(ecdsa_halves(&good[..len], 32), None);
        }
        assert_eq!(ecdsa_halves(&[&good[..], &[0]].concat(), 32), None, "trailing byte");
        assert_eq!(ecdsa_halves(&good, 31), None, "number too large");
        assert_eq!(ecdsa_halves(&[SEQUENCE, 6, INTEGER, 1, 0x80, INTEGER, 1, 1], 32), None, "negative");
        assert_eq!(ecdsa_halves(&[SEQUENCE, 5, INTEGER, 0, INTEGER, 1, 1], 32), None, "empty");
        assert_eq!(ecdsa_halves(&[SEQUENCE, 0x81, 6, INTEGER, 1, 1, INTEGER, 1, 1], 32), None, "a long length");
        assert_eq!(ecdsa_halves(&[SEQUENCE, 7, INTEGER, 2, 0, 1, INTEGER, 1, 1], 32), None, "a zero too many");
        assert_eq!(ecdsa_signature(&[1; 63]), None);
        assert_eq!(ecdsa_signature(&[]), None);
    }

    #[test]
    fn writes_a_known_digest_info() {
        let oid = [0x06, 9, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
        let info = digest_info(&oid, &[0xaa; 32]);
        assert_eq!(info.len(), 51);
        assert_eq!(info[..4], [0x30, 0x31, 0x30, 0x0d]);
    }

    #[test]
    fn writes_known_public_keys() {
        let point = [vec![4], vec![7; 64]].concat();
        let info = subject_public_key_info(&PublicKey::Ec { curve: Curve::P256, point });
        assert_eq!((info.len(), &info[..4]), (91, &[0x30, 0x59, 0x30, 0x13][..]));
        let info = subject_public_key_info(&PublicKey::Ec { curve: Curve::Ed25519, point: vec![7; 32] });
        assert_eq!(info[..12], [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00]);
        let key = PublicKey::Rsa { modulus: vec![0xc0; 256], exponent: vec![1, 0, 1] };
        assert_eq!(subject_public_key_info(&key).len(), 294);
    }
}
