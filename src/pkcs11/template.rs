//! The templates of a new key pair, from the fullest to the least.
#![forbid(unsafe_code)]

use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use cryptoki::types::Ulong;

use super::error::Error;
use super::key::{KeyKind, KeyPairSpec};

/// How much a template says. No two tokens refuse the same attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rung {
    /// Everything, the usages not wished for included as false.
    #[default]
    Full,
    /// No usage that is false: tpm2-pkcs11 answers GENERAL_ERROR to CKA_DECRYPT=false, YubiHSM 2 DEVICE_ERROR to
    /// CKA_UNWRAP=false.
    Granted,
    /// No label either.
    Unlabelled,
    /// What and where, and the id; the token decides the rest, so the result has to be judged.
    Least,
}

/// The rungs in the order they are tried.
pub(super) const LADDER: [Rung; 4] = [Rung::Full, Rung::Granted, Rung::Unlabelled, Rung::Least];

/// 65537, the exponent everybody uses.
const PUBLIC_EXPONENT: [u8; 3] = [0x01, 0x00, 0x01];

/// The kinds of key pairs whose templates a token may judge differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Family {
    Rsa,
    Ec,
    Edwards,
}

/// How a pair of some kind is generated.
pub(super) struct Plan {
    pub(super) family: Family,
    pub(super) mechanism: Mechanism<'static>,
    /// CKA_EC_PARAMS in each form tokens understand; for RSA one, that is not used.
    forms: Vec<&'static [u8]>,
}

impl Plan {
    /// How many forms there are.
    pub(super) fn forms(&self) -> usize {
        self.forms.len()
    }

    pub(super) fn params(&self, form: usize) -> &'static [u8] {
        self.forms.get(form).copied().unwrap_or_default()
    }
}

/// The plan for a kind of key pair.
pub(super) fn plan(kind: KeyKind) -> Result<Plan, Error> {
    match kind {
        KeyKind::Rsa { .. } => {
            Ok(Plan { family: Family::Rsa, mechanism: Mechanism::RsaPkcsKeyPairGen, forms: vec![&[]] })
        }
        KeyKind::Ec(curve) => {
            let (family, mechanism) = if curve.is_edwards() {
                (Family::Edwards, Mechanism::EccEdwardsKeyPairGen)
            } else {
                (Family::Ec, Mechanism::EccKeyPairGen)
            };
            let mut forms = vec![curve.oid_der()];
            forms.extend(curve.name_der());
            Ok(Plan { family, mechanism, forms })
        }
        KeyKind::Other(_) => Err(Error::Unsupported("generating a key pair of this type")),
    }
}

/// The public and the private template. `params` is a form of CKA_EC_PARAMS, not used for RSA.
///
/// CKA_PRIVATE is never said of the public key (nShield wants it false, AWS CloudHSM true, YubiHSM 2 refuses true), and
/// CKA_EC_PARAMS never of the private one (SoftHSM: ATTRIBUTE_READ_ONLY).
pub(super) fn templates(spec: &KeyPairSpec<'_>, rung: Rung, params: &[u8]) -> (Vec<Attribute>, Vec<Attribute>) {
    let mut public = vec![Attribute::Token(true), Attribute::Id(spec.id.clone())];
    let mut private = vec![Attribute::Token(true), Attribute::Id(spec.id.clone())];
    match spec.kind {
        KeyKind::Rsa { bits } => {
            public.push(Attribute::ModulusBits(Ulong::new(bits.into())));
            public.push(Attribute::PublicExponent(PUBLIC_EXPONENT.to_vec()));
        }
        KeyKind::Ec(_) | KeyKind::Other(_) => public.push(Attribute::EcParams(params.to_vec())),
    }
    if rung == Rung::Least {
        return (public, private);
    }
    private.extend([Attribute::Private(true), Attribute::Sensitive(true), Attribute::Extractable(false)]);
    let usage = &spec.usage;
    public.extend([Attribute::Verify(usage.verify), Attribute::Encrypt(usage.encrypt), Attribute::Wrap(usage.wrap)]);
    private.extend([
        Attribute::Sign(usage.sign),
        Attribute::Decrypt(usage.decrypt),
        Attribute::Unwrap(usage.unwrap),
        Attribute::Derive(usage.derive),
    ]);
    if rung > Rung::Full {
        for template in [&mut public, &mut private] {
            template.retain(|attribute| !is_denied_usage(attribute));
        }
    }
    if rung < Rung::Unlabelled {
        let label = |label: &str| Attribute::Label(label.as_bytes().to_vec());
        public.extend(spec.public_label.map(label));
        private.extend(spec.private_label.map(label));
    }
    (public, private)
}

fn is_denied_usage(attribute: &Attribute) -> bool {
    matches!(
        attribute,
        Attribute::Verify(false)
            | Attribute::Encrypt(false)
            | Attribute::Wrap(false)
            | Attribute::Sign(false)
            | Attribute::Decrypt(false)
            | Attribute::Unwrap(false)
            | Attribute::Derive(false)
    )
}

/// Whether a public key read back is of the kind asked for. The size of an RSA key is the token's word.
pub(super) fn is_as_asked(asked: KeyKind, made: KeyKind) -> bool {
    match (asked, made) {
        (KeyKind::Rsa { .. }, KeyKind::Rsa { .. }) => true,
        (asked, made) => asked == made,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pkcs11::curve::Curve;
    use crate::pkcs11::key::Usage;

    fn spec(kind: KeyKind) -> KeyPairSpec<'static> {
        KeyPairSpec {
            kind,
            id: vec![1, 2],
            public_label: Some("pub"),
            private_label: Some("priv"),
            usage: Usage { sign: true, verify: true, ..Usage::default() },
        }
    }

    #[test]
    fn the_private_key_is_sensitive_and_stays_on_the_token_on_every_rung_but_the_last() {
        for kind in [KeyKind::Rsa { bits: 2048 }, KeyKind::Ec(Curve::P256), KeyKind::Ec(Curve::Ed25519)] {
            for rung in LADDER {
                let (public, private) = templates(&spec(kind), rung, Curve::P256.oid_der());
                let strict = rung != Rung::Least;
                assert_eq!(private.contains(&Attribute::Sensitive(true)), strict);
                assert_eq!(private.contains(&Attribute::Extractable(false)), strict);
                assert_eq!(private.contains(&Attribute::Sign(true)), strict);
                for template in [&public, &private] {
                    assert!(
                        template.contains(&Attribute::Token(true)) && template.contains(&Attribute::Id(vec![1, 2]))
                    );
                }
                assert!(!public.iter().any(|attribute| matches!(attribute, Attribute::Private(_))));
                assert!(!private.iter().any(|attribute| matches!(attribute, Attribute::EcParams(_))));
            }
        }
    }

    #[test]
    fn each_rung_says_less_than_the_one_before() {
        let said = |rung| {
            let (public, private) = templates(&spec(KeyKind::Ec(Curve::P256)), rung, Curve::P256.oid_der());
            [public, private].concat()
        };
        for pair in LADDER.windows(2) {
            let (more, less) = (said(pair[0]), said(pair[1]));
            assert!(less.len() < more.len() && less.iter().all(|attribute| more.contains(attribute)), "{pair:?}");
        }
        assert!(said(Rung::Full).contains(&Attribute::Decrypt(false)));
        assert!(!said(Rung::Granted).iter().any(is_denied_usage));
    }

    #[test]
    fn an_edwards_curve_goes_by_two_names() {
        for (kind, forms) in [(Curve::Ed25519, 2), (Curve::Ed448, 2), (Curve::P384, 1)] {
            let plan = plan(KeyKind::Ec(kind)).unwrap();
            assert_eq!((plan.forms(), plan.params(0)), (forms, kind.oid_der()));
            assert!((0..forms).all(|form| Curve::from_params(plan.params(form)) == Some(kind)));
        }
        assert_eq!(plan(KeyKind::Rsa { bits: 2048 }).unwrap().forms(), 1);
        assert!(plan(KeyKind::Other(cryptoki::object::KeyType::DSA)).is_err());
    }
}
