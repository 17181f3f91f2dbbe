//! The templates of a new key pair, from the fullest to the least, and which refusal leads from one to the next.
#![forbid(unsafe_code)]

use cryptoki::error::RvError;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use cryptoki::types::Ulong;

use super::error::Error;
use super::key::{KeyKind, KeyPairSpec};

/// How much a template says. No two tokens refuse the same attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rung {
    /// Everything, the usages not wished for included as false.
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

/// How a pair of this kind is generated: its family, its mechanism, and the forms of CKA_EC_PARAMS to try.
pub(super) fn plan(kind: KeyKind) -> Result<(Family, Mechanism<'static>, Vec<&'static [u8]>), Error> {
    match kind {
        KeyKind::Rsa { .. } => Ok((Family::Rsa, Mechanism::RsaPkcsKeyPairGen, vec![&[]])),
        KeyKind::Ec(curve) => {
            let mut forms = vec![curve.oid_der()];
            forms.extend(curve.name_der());
            if curve.is_edwards() {
                Ok((Family::Edwards, Mechanism::EccEdwardsKeyPairGen, forms))
            } else {
                Ok((Family::Ec, Mechanism::EccKeyPairGen, forms))
            }
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

/// What a refused C_GenerateKeyPair means for the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The curve was not understood; its other name may be.
    Curve,
    /// Something was said that the token does not want to hear.
    Template,
    /// It may be the template: some tokens have no better word for it. It may also be a token in trouble.
    Perhaps,
    /// Saying less does not help.
    ForGood,
}

pub(super) fn judge(error: &Error) -> Refused {
    match error.rv() {
        Some(RvError::CurveNotSupported | RvError::DomainParamsInvalid) => Refused::Curve,
        Some(
            RvError::ArgumentsBad
            | RvError::AttributeReadOnly
            | RvError::AttributeTypeInvalid
            | RvError::AttributeValueInvalid
            | RvError::TemplateIncomplete
            | RvError::TemplateInconsistent,
        ) => Refused::Template,
        Some(RvError::DeviceError | RvError::FunctionFailed | RvError::GeneralError) => Refused::Perhaps,
        _ => Refused::ForGood,
    }
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
    fn only_what_may_be_the_template_leads_to_another() {
        let refused = |rv| judge(&Error::Call { function: "C_GenerateKeyPair", rv });
        assert_eq!(refused(RvError::TemplateInconsistent), Refused::Template);
        assert_eq!(refused(RvError::GeneralError), Refused::Perhaps);
        assert_eq!(refused(RvError::CurveNotSupported), Refused::Curve);
        for rv in [RvError::MechanismInvalid, RvError::KeySizeRange, RvError::DeviceMemory, RvError::UserNotLoggedIn] {
            assert_eq!(refused(rv), Refused::ForGood);
        }
        assert_eq!(judge(&Error::NoSession), Refused::ForGood);
    }

    #[test]
    fn an_edwards_curve_goes_by_two_names() {
        assert_eq!(plan(KeyKind::Ec(Curve::Ed448)).unwrap().2.len(), 2);
        assert_eq!(plan(KeyKind::Ec(Curve::P384)).unwrap().2.len(), 1);
        assert!(plan(KeyKind::Other(cryptoki::object::KeyType::DSA)).is_err());
    }
}
