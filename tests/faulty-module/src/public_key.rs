//! Public keys in the DER that attributes hold: points in strings, and a whole SubjectPublicKeyInfo.

use cryptoki_sys::*;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;

/// The object identifier rsaEncryption and its NULL, then id-ecPublicKey.
const RSA_ENCRYPTION: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
const EC_PUBLIC_KEY: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];

/// The SubjectPublicKeyInfo (RFC 5280, RFC 8410) of a key that has these attributes, itself or its other half.
pub fn info(attribute: impl Fn(CK_ATTRIBUTE_TYPE) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let kind = attribute(CKA_KEY_TYPE)?.try_into().ok().map(CK_ULONG::from_ne_bytes)?;
    let (algorithm, key) = match kind {
        CKK_RSA => {
            let numbers = [unsigned(&attribute(CKA_MODULUS)?), unsigned(&attribute(CKA_PUBLIC_EXPONENT)?)];
            (RSA_ENCRYPTION.to_vec(), wrap(SEQUENCE, &numbers.concat()))
        }
        CKK_EC => ([EC_PUBLIC_KEY, &attribute(CKA_EC_PARAMS)?].concat(), inside(&attribute(CKA_EC_POINT)?).to_vec()),
        CKK_EC_EDWARDS => (identifier(attribute(CKA_EC_PARAMS)?), inside(&attribute(CKA_EC_POINT)?).to_vec()),
        _ => return None,
    };
    Some(wrap(SEQUENCE, &[wrap(SEQUENCE, &algorithm), bits(&key)].concat()))
}

/// The object identifier of an Edwards curve (RFC 8410), which SoftHSM may call by its name.
fn identifier(params: Vec<u8>) -> Vec<u8> {
    match params.as_slice() {
        b"\x13\x0cedwards25519" => vec![0x06, 0x03, 0x2b, 0x65, 0x70],
        b"\x13\x0aedwards448" => vec![0x06, 0x03, 0x2b, 0x65, 0x71],
        _ => params,
    }
}

/// A BIT STRING of whole bytes.
pub fn bits(content: &[u8]) -> Vec<u8> {
    wrap(BIT_STRING, &[&[0], content].concat())
}

/// The content of an OCTET STRING, or the value itself if it is none. Only lengths up to 255 occur in points.
pub fn inside(value: &[u8]) -> &[u8] {
    match value {
        [OCTET_STRING, 0x81, len, rest @ ..] if rest.len() == usize::from(*len) => rest,
        [OCTET_STRING, len, rest @ ..] if rest.len() == usize::from(*len) => rest,
        _ => value,
    }
}

fn unsigned(number: &[u8]) -> Vec<u8> {
    let zero: &[u8] = if number.first().is_some_and(|first| *first >= 0x80) { &[0] } else { &[] };
    wrap(INTEGER, &[zero, number].concat())
}

fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = content.len();
    let header = match len {
        0..0x80 => vec![tag, len as u8],
        0x80..0x100 => vec![tag, 0x81, len as u8],
        _ => vec![tag, 0x82, (len >> 8) as u8, len as u8],
    };
    [header, content.to_vec()].concat()
}
