//! What is known of a key: facts read once from a token's object.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;

use cryptoki::object::{KeyType, ObjectClass};

use super::curve::Curve;
use crate::der;

/// The classes of objects served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// CKO_PUBLIC_KEY.
    PublicKey,
    /// CKO_PRIVATE_KEY.
    PrivateKey,
    /// CKO_SECRET_KEY.
    SecretKey,
}

impl Class {
    /// Every class served.
    pub const ALL: [Self; 3] = [Self::PublicKey, Self::PrivateKey, Self::SecretKey];

    pub(super) fn object_class(self) -> ObjectClass {
        match self {
            Self::PublicKey => ObjectClass::PUBLIC_KEY,
            Self::PrivateKey => ObjectClass::PRIVATE_KEY,
            Self::SecretKey => ObjectClass::SECRET_KEY,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PublicKey => "public key",
            Self::PrivateKey => "private key",
            Self::SecretKey => "secret key",
        })
    }
}

/// Algorithm and size of a key.
///
/// Judged by CKA_KEY_TYPE, CKA_EC_PARAMS and CKA_MODULUS: tokens leave out CKA_MODULUS_BITS and CKA_KEY_GEN_MECHANISM, or
/// give them wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA.
    Rsa {
        /// Bits of the modulus; 0 if the token does not show the modulus.
        bits: u32,
    },
    /// A key on one of the curves served.
    Ec(Curve),
    /// Any other key, one on another curve among them.
    Other(KeyType),
}

/// What a key may be used for. In a [`KeyPairSpec`]: `sign`, `decrypt`, `unwrap` and `derive` are for the private
/// half, `verify`, `encrypt` and `wrap` for the public one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CKA_SIGN.
    pub sign: bool,
    /// CKA_VERIFY.
    pub verify: bool,
    /// CKA_ENCRYPT.
    pub encrypt: bool,
    /// CKA_DECRYPT.
    pub decrypt: bool,
    /// CKA_WRAP.
    pub wrap: bool,
    /// CKA_UNWRAP.
    pub unwrap: bool,
    /// CKA_DERIVE.
    pub derive: bool,
}

/// A public key's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// RSA: both numbers big-endian, without leading zeros.
    Rsa {
        /// CKA_MODULUS.
        modulus: Vec<u8>,
        /// CKA_PUBLIC_EXPONENT.
        exponent: Vec<u8>,
    },
    /// A point on a curve.
    Ec {
        /// The curve.
        curve: Curve,
        /// `04 || X || Y`, or the bare point of an Edwards curve.
        point: Vec<u8>,
    },
}

/// The id-ecPublicKey and rsaEncryption object identifiers, without tag and length.
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

impl PublicKey {
    /// Algorithm and size.
    pub fn kind(&self) -> KeyKind {
        match self {
            Self::Rsa { modulus, .. } => KeyKind::Rsa { bits: bit_len(modulus) },
            Self::Ec { curve, .. } => KeyKind::Ec(*curve),
        }
    }

    /// An RSA key of these two numbers; `None` if either is zero.
    pub fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<Self> {
        let (modulus, exponent) = (unsigned(modulus), unsigned(exponent));
        let there = !modulus.is_empty() && !exponent.is_empty();
        there.then(|| Self::Rsa { modulus: modulus.to_vec(), exponent: exponent.to_vec() })
    }

    /// The key in a DER SubjectPublicKeyInfo (RFC 5280, section 4.1), as CKA_PUBLIC_KEY_INFO holds it.
    pub fn from_info(info: &[u8]) -> Option<Self> {
        let (algorithm, rest) = der::first(der::whole(info, der::SEQUENCE)?, der::SEQUENCE)?;
        let key = der::bits(der::whole(rest, der::BIT_STRING)?)?;
        let (oid, params) = der::first(algorithm, der::OBJECT_IDENTIFIER)?;
        if oid == RSA_ENCRYPTION {
            let (modulus, rest) = der::first(der::whole(key, der::SEQUENCE)?, der::INTEGER)?;
            return Self::rsa(modulus, der::whole(rest, der::INTEGER)?);
        }
        let curve = if oid == EC_PUBLIC_KEY {
            Curve::from_params(params)?
        } else {
            // RFC 8410: the algorithm is the curve, and has no parameters.
            Curve::from_params(algorithm)?
        };
        curve.point(key).map(|point| Self::Ec { curve, point })
    }
}

/// A big-endian number without its leading zeros.
pub(super) fn unsigned(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|&&byte| byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// Bits of a big-endian number.
pub(super) fn bit_len(number: &[u8]) -> u32 {
    let number = unsigned(number);
    let Some(first) = number.first() else { return 0 };
    let all = u32::try_from(number.len()).unwrap_or(u32::MAX).saturating_mul(8);
    all.saturating_sub(first.leading_zeros())
}

/// The facts of a key object that do not change while it exists. Its label is not among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// What it is.
    pub class: Class,
    /// CKA_ID as the token stores it.
    pub id: Vec<u8>,
    /// Algorithm and size.
    pub kind: KeyKind,
    /// The public key: of a public key object its value, of a private one what its attributes tell, if they do.
    pub public: Option<PublicKey>,
    /// What it may be used for; an attribute that the token does not show counts as false.
    pub usage: Usage,
    /// CKA_SENSITIVE, if the token shows it.
    pub sensitive: Option<bool>,
    /// CKA_EXTRACTABLE, if the token shows it.
    pub extractable: Option<bool>,
    /// CKA_ALWAYS_SENSITIVE, if the token shows it.
    pub always_sensitive: Option<bool>,
    /// CKA_NEVER_EXTRACTABLE, if the token shows it.
    pub never_extractable: Option<bool>,
    /// CKA_ALWAYS_AUTHENTICATE: each signature wants a login of its own.
    pub always_authenticate: bool,
}

impl Key {
    /// A key of which the token has shown no more than this yet.
    pub(crate) fn new(class: Class, id: &[u8], kind: KeyKind, public: Option<PublicKey>) -> Self {
        Self {
            class,
            id: id.to_vec(),
            kind,
            public,
            usage: Usage::default(),
            sensitive: None,
            extractable: None,
            always_sensitive: None,
            never_extractable: None,
            always_authenticate: false,
        }
    }
}

/// The key pair to be made.
#[derive(Clone, Debug)]
pub struct KeyPairSpec<'a> {
    /// Algorithm and size.
    pub kind: KeyKind,
    /// CKA_LABEL of the public key.
    pub public_label: Option<&'a str>,
    /// CKA_LABEL of the private key.
    pub private_label: Option<&'a str>,
    /// What the two may be used for.
    pub usage: Usage,
}

/// A key pair that was made, as the token stored it.
#[derive(Clone, Debug)]
pub struct KeyPair {
    /// The public key object.
    pub public: Arc<Key>,
    /// The private key object.
    pub private: Arc<Key>,
}

/// Which objects to list; what is `None` matches every object.
#[derive(Clone, Debug, Default)]
pub struct Filter<'a> {
    /// The class.
    pub class: Option<Class>,
    /// CKA_ID.
    pub id: Option<&'a [u8]>,
    /// CKA_LABEL, whole.
    pub label: Option<&'a str>,
    /// CKA_KEY_TYPE.
    pub key_type: Option<KeyType>,
}

/// An object found by listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// What it is.
    pub class: Class,
    /// CKA_ID; empty for an object that has none, and that therefore cannot be asked for again.
    pub id: Vec<u8>,
    /// CKA_LABEL, if there is one.
    pub label: Option<String>,
    /// CKA_KEY_TYPE, if the token shows one that is known.
    pub key_type: Option<KeyType>,
}

/// Bytes as upper-case hexadecimal digits, as identifiers show them.
pub(super) struct Hex<'a>(pub(super) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        match content.len() {
            len @ 0..=0x7f => out.push(len as u8),
            len => out.extend([0x82, (len >> 8) as u8, len as u8]),
        }
        out.extend_from_slice(content);
        out
    }

    fn info(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
        let bits = [&[0], key].concat();
        tlv(0x30, &[tlv(0x30, algorithm), tlv(0x03, &bits)].concat())
    }

    fn samples() -> Vec<(Vec<u8>, PublicKey)> {
        let modulus = [&[0x00, 0xc1][..], &[9; 255]].concat();
        let key = tlv(0x30, &[tlv(0x02, &modulus), tlv(0x02, &[1, 0, 1])].concat());
        let rsa = info(&[tlv(0x06, RSA_ENCRYPTION), vec![0x05, 0x00]].concat(), &key);
        let mut point = vec![4];
        point.extend([7; 64]);
        let p256 = info(&[&tlv(0x06, EC_PUBLIC_KEY), Curve::P256.oid_der()].concat(), &point);
        let ed25519 = info(Curve::Ed25519.oid_der(), &[8; 32]);
        vec![
            (rsa, PublicKey::Rsa { modulus: modulus[1..].to_vec(), exponent: vec![1, 0, 1] }),
            (p256, PublicKey::Ec { curve: Curve::P256, point }),
            (ed25519, PublicKey::Ec { curve: Curve::Ed25519, point: vec![8; 32] }),
        ]
    }

    #[test]
    fn reads_the_public_key_from_its_info() {
        for (info, key) in samples() {
            assert_eq!(PublicKey::from_info(&info), Some(key));
        }
    }

    #[test]
    fn refuses_every_truncation_of_a_public_key_info() {
        for (info, _) in samples() {
            for len in 0..info.len() {
                assert_eq!(PublicKey::from_info(&info[..len]), None, "accepted {len} bytes");
            }
        }
    }

    #[test]
    fn counts_the_bits_of_a_number_with_leading_zeros() {
        assert_eq!(bit_len(&[]), 0);
        assert_eq!(bit_len(&[0, 0]), 0);
        assert_eq!(bit_len(&[0, 0x80, 0]), 16);
        assert_eq!(bit_len(&[0x01, 0, 1]), 17);
    }
}
