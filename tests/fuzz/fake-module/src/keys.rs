//! The objects: attributes of keys that look right, though no arithmetic holds them together.

use std::collections::BTreeMap;

use cryptoki_sys::*;

/// The attributes of an object.
pub type Attributes = BTreeMap<CK_ATTRIBUTE_TYPE, Vec<u8>>;

const YES: &[u8] = &[CK_TRUE];
const NO: &[u8] = &[CK_FALSE];
const EXPONENT: &[u8] = &[1, 0, 1];

/// CKA_EC_PARAMS, bytes of a coordinate, and whether it is an Edwards curve.
const CURVES: [(&[u8], usize, bool); 7] = [
    (&[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07], 32, false),
    (&[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22], 48, false),
    (&[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23], 66, false),
    (&[0x06, 0x03, 0x2b, 0x65, 0x70], 32, true),
    (&[0x06, 0x03, 0x2b, 0x65, 0x71], 57, true),
    (b"\x13\x0cedwards25519", 32, true),
    (b"\x13\x0aedwards448", 57, true),
];

/// The keys that are always there: id, what kind, and whether the token keeps the public half.
const CANNED: [(u8, Kind, bool); 7] = [
    (1, Kind::Rsa(2048), true),
    (2, Kind::Curve(0), true),
    (3, Kind::Curve(1), true),
    (4, Kind::Curve(3), true),
    // Its public key can be told from the private one only.
    (5, Kind::Curve(0), false),
    (6, Kind::Rsa(1024), false),
    (7, Kind::Curve(4), true),
];

#[derive(Clone, Copy)]
enum Kind {
    Rsa(usize),
    Curve(usize),
}

/// The objects of a token that is as new.
pub fn canned() -> Vec<Attributes> {
    let mut objects = Vec::new();
    for (id, kind, keeps_public) in CANNED {
        let (mut public, mut private) = pair(kind, u64::from(id));
        let label = format!("canned {id}").into_bytes();
        for half in [&mut public, &mut private] {
            half.insert(CKA_ID, vec![id]);
            half.insert(CKA_LABEL, label.clone());
        }
        public.insert(CKA_VERIFY, YES.to_vec());
        private.insert(CKA_SIGN, YES.to_vec());
        if keeps_public {
            objects.push(public);
        }
        objects.push(private);
    }
    objects
}

/// A new pair, its halves as the templates want them; `number` tells it from others.
pub fn generate(
    mechanism: CK_MECHANISM_TYPE,
    public: Vec<(CK_ATTRIBUTE_TYPE, Vec<u8>)>,
    private: Vec<(CK_ATTRIBUTE_TYPE, Vec<u8>)>,
    number: u64,
) -> Result<(Attributes, Attributes), CK_RV> {
    let asked = |wanted| public.iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| value.as_slice());
    let kind = match mechanism {
        CKM_RSA_PKCS_KEY_PAIR_GEN => {
            let bits = asked(CKA_MODULUS_BITS).and_then(|bits| bits.try_into().ok()).map(CK_ULONG::from_ne_bytes);
            let bits = bits.ok_or(CKR_TEMPLATE_INCOMPLETE)?;
            if !(1024..=8192).contains(&bits) {
                return Err(CKR_KEY_SIZE_RANGE);
            }
            Kind::Rsa(bits as usize)
        }
        CKM_EC_KEY_PAIR_GEN | CKM_EC_EDWARDS_KEY_PAIR_GEN => {
            let params = asked(CKA_EC_PARAMS).ok_or(CKR_TEMPLATE_INCOMPLETE)?;
            let edwards = mechanism == CKM_EC_EDWARDS_KEY_PAIR_GEN;
            let curve = CURVES.iter().position(|(known, _, is_edwards)| *known == params && *is_edwards == edwards);
            Kind::Curve(curve.ok_or(CKR_CURVE_NOT_SUPPORTED)?)
        }
        _ => return Err(CKR_MECHANISM_INVALID),
    };
    let (mut first, mut second) = pair(kind, number);
    first.extend(public.into_iter().filter(|(kind, _)| *kind != CKA_MODULUS_BITS));
    second.extend(private);
    Ok((first, second))
}

/// Bytes of a signature by a key.
pub fn signature_len(key: &Attributes) -> Option<usize> {
    if let Some(modulus) = key.get(&CKA_MODULUS) {
        return Some(modulus.len());
    }
    let params = key.get(&CKA_EC_PARAMS)?;
    CURVES.iter().find(|(known, ..)| known == params).map(|(_, coordinate, _)| coordinate * 2)
}

fn pair(kind: Kind, number: u64) -> (Attributes, Attributes) {
    let mut shared = Attributes::new();
    shared.insert(CKA_TOKEN, YES.to_vec());
    shared.insert(CKA_DERIVE, NO.to_vec());
    shared.insert(CKA_LABEL, Vec::new());
    let mut point = None;
    match kind {
        Kind::Rsa(bits) => {
            let mut modulus = pattern(bits / 8, number);
            modulus[0] = 0xc1;
            shared.insert(CKA_KEY_TYPE, CKK_RSA.to_ne_bytes().to_vec());
            shared.insert(CKA_MODULUS, modulus);
            shared.insert(CKA_PUBLIC_EXPONENT, EXPONENT.to_vec());
        }
        Kind::Curve(index) => {
            let (params, coordinate, edwards) = CURVES[index];
            let key_type = if edwards { CKK_EC_EDWARDS } else { CKK_EC };
            shared.insert(CKA_KEY_TYPE, key_type.to_ne_bytes().to_vec());
            shared.insert(CKA_EC_PARAMS, params.to_vec());
            let raw =
                if edwards { pattern(coordinate, number) } else { [vec![4], pattern(coordinate * 2, number)].concat() };
            let len = u8::try_from(raw.len()).unwrap_or(u8::MAX);
            let header = if len < 0x80 { vec![4, len] } else { vec![4, 0x81, len] };
            point = Some([header, raw].concat());
        }
    }
    let (mut public, mut private) = (shared.clone(), shared);
    public.insert(CKA_CLASS, CKO_PUBLIC_KEY.to_ne_bytes().to_vec());
    private.insert(CKA_CLASS, CKO_PRIVATE_KEY.to_ne_bytes().to_vec());
    for flag in [CKA_PRIVATE, CKA_VERIFY, CKA_ENCRYPT, CKA_WRAP] {
        public.insert(flag, NO.to_vec());
    }
    for flag in [CKA_EXTRACTABLE, CKA_SIGN, CKA_DECRYPT, CKA_UNWRAP] {
        private.insert(flag, NO.to_vec());
    }
    for flag in [CKA_PRIVATE, CKA_SENSITIVE, CKA_ALWAYS_SENSITIVE, CKA_NEVER_EXTRACTABLE] {
        private.insert(flag, YES.to_vec());
    }
    if let Some(point) = point {
        public.insert(CKA_EC_POINT, point.clone());
        private.insert(CKA_EC_POINT, point);
    }
    (public, private)
}

/// Bytes that look like any others.
pub fn pattern(len: usize, number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_be_bytes()[0]
        })
        .collect()
}
