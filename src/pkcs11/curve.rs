//! The curves served, and the forms in which tokens give their parameters and points.
#![forbid(unsafe_code)]

use crate::der;

/// An elliptic curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Curve {
    /// NIST P-256, secp256r1.
    P256,
    /// NIST P-384, secp384r1.
    P384,
    /// NIST P-521, secp521r1.
    P521,
    /// Edwards25519 (RFC 8032).
    Ed25519,
    /// Edwards448, "Goldilocks" (RFC 8032).
    Ed448,
}

/// What GnuPG used for Ed25519 before RFC 8410; some cards still name the curve so.
const ED25519_OF_GNUPG: &[u8] = &[0x06, 0x09, 0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x0f, 0x01];

/// First byte of an uncompressed point (SEC 1, section 2.3.3).
const UNCOMPRESSED: u8 = 0x04;

impl Curve {
    /// Every curve served.
    pub const ALL: [Self; 5] = [Self::P256, Self::P384, Self::P521, Self::Ed25519, Self::Ed448];

    /// The DER of the curve's object identifier, tag and length included: the usual CKA_EC_PARAMS.
    pub fn oid_der(self) -> &'static [u8] {
        match self {
            Self::P256 => &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
            Self::P384 => &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22],
            Self::P521 => &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23],
            Self::Ed25519 => &[0x06, 0x03, 0x2b, 0x65, 0x70],
            Self::Ed448 => &[0x06, 0x03, 0x2b, 0x65, 0x71],
        }
    }

    /// The DER of the curve's name as a PrintableString, the other form of CKA_EC_PARAMS (PKCS#11 3.0, section 2.3.7),
    /// for the curves that tokens name so.
    pub fn name_der(self) -> Option<&'static [u8]> {
        match self {
            Self::P256 | Self::P384 | Self::P521 => None,
            Self::Ed25519 => Some(b"\x13\x0cedwards25519"),
            Self::Ed448 => Some(b"\x13\x0aedwards448"),
        }
    }

    /// The curve that a CKA_EC_PARAMS names, by object identifier or by name.
    pub fn from_params(params: &[u8]) -> Option<Self> {
        if let Some(curve) = Self::ALL.into_iter().find(|curve| curve.oid_der() == params) {
            return Some(curve);
        }
        if params == ED25519_OF_GNUPG {
            return Some(Self::Ed25519);
        }
        match der::whole(params, der::PRINTABLE_STRING)? {
            b"edwards25519" => Some(Self::Ed25519),
            b"edwards448" => Some(Self::Ed448),
            b"secp256r1" | b"prime256v1" => Some(Self::P256),
            b"secp384r1" => Some(Self::P384),
            b"secp521r1" => Some(Self::P521),
            _ => None,
        }
    }

    /// Whether it is an Edwards curve, signed with by EdDSA; the others are for ECDSA.
    pub fn is_edwards(self) -> bool {
        matches!(self, Self::Ed25519 | Self::Ed448)
    }

    /// Size of the curve's field in bits.
    pub fn bits(self) -> u32 {
        match self {
            Self::P256 => 256,
            Self::P384 => 384,
            Self::P521 => 521,
            Self::Ed25519 => 255,
            Self::Ed448 => 448,
        }
    }

    /// Bytes of one coordinate, and of each half of a signature: `r` and `s` of ECDSA, `R` and `S` of EdDSA.
    pub fn coordinate_len(self) -> usize {
        match self {
            Self::P256 | Self::Ed25519 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
            Self::Ed448 => 57,
        }
    }

    /// Bytes of a public point: `04 || X || Y`, or the bare point of an Edwards curve.
    pub fn point_len(self) -> usize {
        match self {
            Self::P256 => 65,
            Self::P384 => 97,
            Self::P521 => 133,
            Self::Ed25519 => 32,
            Self::Ed448 => 57,
        }
    }

    /// The point in a CKA_EC_POINT: `04 || X || Y`, or the bare point of an Edwards curve.
    ///
    /// Tokens give it raw, as a DER OCTET STRING or as a BIT STRING. A raw point may well begin like DER, so the length
    /// decides, not the first byte. `None` for anything else, compressed points among it.
    pub fn point(self, value: &[u8]) -> Option<Vec<u8>> {
        if self.is_point(value) {
            return Some(value.to_vec());
        }
        // tpm2-pkcs11 has one byte for the length, however long the point is.
        if let [der::OCTET_STRING, len, point @ ..] = value {
            if usize::from(*len) == point.len() && self.is_point(point) {
                return Some(point.to_vec());
            }
        }
        let inner = match der::element(value)? {
            (der::OCTET_STRING, content, []) => content,
            (der::BIT_STRING, content, []) => der::bits(content)?,
            _ => return None,
        };
        self.is_point(inner).then(|| inner.to_vec())
    }

    fn is_point(self, bytes: &[u8]) -> bool {
        bytes.len() == self.point_len() && (self.is_edwards() || bytes.first() == Some(&UNCOMPRESSED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(curve: Curve) -> Vec<u8> {
        let mut point: Vec<u8> = (0..curve.point_len()).map(|i| i as u8).collect();
        point[0] = UNCOMPRESSED;
        point
    }

    fn wrapped(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut der = vec![tag];
        if content.len() >= 0x80 {
            der.push(0x81);
        }
        der.push(content.len() as u8);
        der.extend_from_slice(content);
        der
    }

    #[test]
    fn reads_a_point_in_each_form_tokens_use() {
        for curve in Curve::ALL {
            let point = sample(curve);
            let mut bits = vec![0];
            bits.extend_from_slice(&point);
            assert_eq!(curve.point(&point), Some(point.clone()), "{curve:?} raw");
            assert_eq!(curve.point(&wrapped(0x04, &point)), Some(point.clone()), "{curve:?} OCTET STRING");
            assert_eq!(curve.point(&wrapped(0x03, &bits)), Some(point.clone()), "{curve:?} BIT STRING");
        }
    }

    #[test]
    fn takes_a_raw_edwards_point_that_looks_like_der() {
        let mut point = [0; 32];
        point[0] = 0x04;
        point[1] = 30;
        assert_eq!(Curve::Ed25519.point(&point), Some(point.to_vec()));
    }

    #[test]
    fn takes_the_length_of_a_long_point_in_one_byte() {
        let point = sample(Curve::P521);
        let given = [&[0x04, 133][..], &point].concat();
        assert_eq!(Curve::P521.point(&given), Some(point));
        assert_eq!(Curve::P521.point(&given[..134]), None);
    }

    #[test]
    fn refuses_compressed_points_and_points_of_other_curves() {
        let mut compressed = vec![0x02];
        compressed.extend([7; 32]);
        assert_eq!(Curve::P256.point(&compressed), None);
        assert_eq!(Curve::P256.point(&wrapped(0x04, &compressed)), None);
        assert_eq!(Curve::P256.point(&sample(Curve::P384)), None);
        let mut hybrid = sample(Curve::P256);
        hybrid[0] = 0x06;
        assert_eq!(Curve::P256.point(&hybrid), None);
    }

    #[test]
    fn refuses_truncated_lengthened_and_random_points_without_panic() {
        for curve in Curve::ALL {
            let whole = wrapped(0x04, &sample(curve));
            for len in 0..whole.len() {
                // Cut to the length of a raw point, it is taken for one.
                if len != curve.point_len() {
                    assert_eq!(curve.point(&whole[..len]), None, "{curve:?} cut to {len}");
                }
            }
            let mut longer = whole.clone();
            longer.push(0);
            assert_eq!(curve.point(&longer), None);
            let mut noise = 0x2545_f491_u32;
            for len in 0..200 {
                let bytes: Vec<u8> = (0..len)
                    .map(|_| {
                        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        (noise >> 24) as u8
                    })
                    .collect();
                let _ = curve.point(&bytes);
                let _ = Curve::from_params(&bytes);
            }
        }
    }

    #[test]
    fn knows_a_curve_by_identifier_and_by_name() {
        for curve in Curve::ALL {
            assert_eq!(Curve::from_params(curve.oid_der()), Some(curve));
            assert_eq!(curve.name_der().is_some(), curve.is_edwards());
            if let Some(name) = curve.name_der() {
                assert_eq!(Curve::from_params(name), Some(curve));
            }
        }
        assert_eq!(Curve::from_params(ED25519_OF_GNUPG), Some(Curve::Ed25519));
        assert_eq!(Curve::from_params(b"\x13\x09secp384r1"), Some(Curve::P384));
        // secp256k1
        assert_eq!(Curve::from_params(&[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a]), None);
        assert_eq!(Curve::from_params(&[]), None);
    }
}
