//! The templates of a new key pair, from the fullest to the least.
#![forbid(unsafe_code)]

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType};
use cryptoki::types::Ulong;

use super::error::Error;
use super::key::{KeyKind, KeyPairSpec};
use super::names::attribute_number;
use super::policy::{Changed, EcParams, KeyTemplate};

/// How much a template says. No two tokens refuse the same attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// Everything, the usages not wished for included as false.
    #[default]
    Full,
    /// No usage that is false: tpm2-pkcs11 answers GENERAL_ERROR to CKA_DECRYPT=false, YubiHSM 2 DEVICE_ERROR to
    /// CKA_UNWRAP=false.
    Granted,
    /// Labels that fit everywhere: YubiHSM 2 refuses those over 40 bytes to clients without further rights.
    Shortened,
    /// No label either.
    Unlabelled,
    /// What and where, and the id; the token decides the rest, so the result has to be judged.
    Least,
}

impl Rung {
    /// The words by which the configuration names them.
    pub const WORDS: &[(&str, Self)] = &[
        ("full", Self::Full),
        ("granted", Self::Granted),
        ("shortened", Self::Shortened),
        ("unlabelled", Self::Unlabelled),
        ("least", Self::Least),
    ];

    /// The word for this one.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, rung)| *rung == self).map(|(word, _)| *word).unwrap_or_default()
    }
}

/// The rungs in the order they are tried.
pub(super) const LADDER: [Rung; 5] = [Rung::Full, Rung::Granted, Rung::Shortened, Rung::Unlabelled, Rung::Least];

/// 65537, the exponent everybody uses.
const PUBLIC_EXPONENT: [u8; 3] = [0x01, 0x00, 0x01];

/// The kinds of key pairs whose templates a token may judge differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// RSA.
    Rsa,
    /// The NIST curves.
    Ec,
    /// Edwards curves.
    Edwards,
}

/// How a pair of some kind is generated.
pub(super) struct Plan {
    pub(super) family: Family,
    pub(super) mechanism: Mechanism<'static>,
    /// CKA_EC_PARAMS in each form tokens understand; for RSA one, that is not used.
    forms: Vec<(EcParams, &'static [u8])>,
}

impl Plan {
    /// The forms there are; of several, only the one that is `wanted`, if one is.
    pub(super) fn forms(&self, wanted: Option<EcParams>) -> Vec<EcParams> {
        let wanted = wanted.filter(|_| self.forms.len() > 1);
        self.forms.iter().map(|(form, _)| *form).filter(|form| wanted.is_none_or(|wanted| wanted == *form)).collect()
    }

    pub(super) fn params(&self, form: EcParams) -> &'static [u8] {
        self.forms.iter().find(|(known, _)| *known == form).map(|(_, params)| *params).unwrap_or_default()
    }
}

/// The plan for a kind of key pair.
pub(super) fn plan(kind: KeyKind) -> Result<Plan, Error> {
    match kind {
        KeyKind::Rsa { .. } => {
            Ok(Plan { family: Family::Rsa, mechanism: Mechanism::RsaPkcsKeyPairGen, forms: vec![(EcParams::Oid, &[])] })
        }
        KeyKind::Ec(curve) => {
            let mechanism = if curve.is_edwards() { Mechanism::EccEdwardsKeyPairGen } else { Mechanism::EccKeyPairGen };
            let mut forms = vec![(EcParams::Oid, curve.oid_der())];
            forms.extend(curve.name_der().map(|name| (EcParams::Name, name)));
            Ok(Plan { family: family(kind), mechanism, forms })
        }
        KeyKind::Other(_) => Err(Error::Unsupported("generating a key pair of this type")),
    }
}

/// What a pair of templates says of the pair in hand.
pub(super) struct Said<'a> {
    pub(super) spec: &'a KeyPairSpec<'a>,
    /// CKA_ID, unless the token chooses it.
    pub(super) id: Option<&'a [u8]>,
    /// CKA_LABEL of the public key, then that of the private one.
    pub(super) labels: [Option<String>; 2],
    /// A form of CKA_EC_PARAMS, not used for RSA.
    pub(super) params: &'a [u8],
}

/// The public and the private template, changed as the operator says.
///
/// CKA_PRIVATE is never said of the public key (nShield wants it false, AWS CloudHSM true, YubiHSM 2 refuses true), and
/// CKA_EC_PARAMS never of the private one (SoftHSM: ATTRIBUTE_READ_ONLY).
pub(super) fn templates(said: Said<'_>, rung: Rung, changes: &KeyTemplate) -> (Vec<Attribute>, Vec<Attribute>) {
    let family = family(said.spec.kind);
    let (mut public, mut private) = usual(said, rung);
    for halves in changes.of(family) {
        change(&mut public, &halves.public);
        change(&mut private, &halves.private);
    }
    (public, private)
}

fn usual(said: Said<'_>, rung: Rung) -> (Vec<Attribute>, Vec<Attribute>) {
    let Said { spec, id, labels, params } = said;
    let mut public = vec![Attribute::Token(true)];
    let mut private = vec![Attribute::Token(true)];
    for template in [&mut public, &mut private] {
        template.extend(id.map(|id| Attribute::Id(id.to_vec())));
    }
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
        let label = |label: String| Attribute::Label(label.into_bytes());
        let [of_public, of_private] = labels;
        public.extend(of_public.map(label));
        private.extend(of_private.map(label));
    }
    (public, private)
}

// CK_ULONG has the width of the platform's unsigned long.
#[allow(clippy::useless_conversion)]
fn change(template: &mut Vec<Attribute>, changes: &Changed) {
    let number = |attribute: &Attribute| attribute_number(attribute.attribute_type());
    template.retain(|attribute| {
        let number = number(attribute);
        !changes.omit.contains(&number) && changes.add.iter().all(|(added, _)| *added != number)
    });
    template.extend(changes.add.iter().filter_map(|(number, value)| {
        // A number that this platform's CK_ULONG cannot hold was refused with the configuration.
        let kind = AttributeType::VendorDefined((*number).try_into().ok()?);
        Some(Attribute::VendorDefined((kind, value.clone())))
    }));
}

fn family(kind: KeyKind) -> Family {
    match kind {
        KeyKind::Ec(curve) if curve.is_edwards() => Family::Edwards,
        KeyKind::Ec(_) => Family::Ec,
        KeyKind::Rsa { .. } | KeyKind::Other(_) => Family::Rsa,
    }
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

/// Whether a public key read back is of the kind asked for: where the module decides the size, as Google's does, it may be another. A
/// modulus may begin with a few zero bits, and a token that shows none is taken at its word.
pub(super) fn is_as_asked(asked: KeyKind, made: KeyKind) -> bool {
    match (asked, made) {
        (KeyKind::Rsa { .. }, KeyKind::Rsa { bits: 0 }) => true,
        (KeyKind::Rsa { bits: asked }, KeyKind::Rsa { bits: made }) => asked.div_ceil(8) == made.div_ceil(8),
        (asked, made) => asked == made,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pkcs11::curve::Curve;
    use crate::pkcs11::key::Usage;
    use crate::pkcs11::policy::Halves;

    fn said(kind: KeyKind, rung: Rung, changes: &KeyTemplate) -> (Vec<Attribute>, Vec<Attribute>) {
        let spec = KeyPairSpec {
            kind,
            public_label: Some("pub"),
            private_label: Some("priv"),
            usage: Usage { sign: true, verify: true, ..Usage::default() },
        };
        let labels = ["pub", "priv"].map(|label| Some(label.to_owned()));
        let params = Curve::P256.oid_der();
        templates(Said { spec: &spec, id: Some(&[1, 2]), labels, params }, rung, changes)
    }

    #[test]
    fn the_private_key_is_sensitive_and_stays_on_the_token_on_every_rung_but_the_last() {
        for kind in [KeyKind::Rsa { bits: 2048 }, KeyKind::Ec(Curve::P256), KeyKind::Ec(Curve::Ed25519)] {
            for rung in LADDER {
                let (public, private) = said(kind, rung, &KeyTemplate::default());
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
            let (public, private) = said(KeyKind::Ec(Curve::P256), rung, &KeyTemplate::default());
            [public, private].concat()
        };
        for pair in LADDER.windows(2).filter(|pair| pair[1] != Rung::Shortened) {
            let (more, less) = (said(pair[0]), said(pair[1]));
            assert!(less.len() < more.len() && less.iter().all(|attribute| more.contains(attribute)), "{pair:?}");
        }
        assert!(said(Rung::Full).contains(&Attribute::Decrypt(false)));
        assert!(!said(Rung::Granted).iter().any(is_denied_usage));
        // The labels are the caller's.
        assert_eq!(said(Rung::Shortened), said(Rung::Granted));
    }

    #[test]
    fn the_operator_adds_replaces_and_leaves_out_attributes_of_either_half() {
        let private = Changed { add: vec![(0x162, vec![1]), (0x8000_0001, vec![9])], omit: vec![0x170] };
        let changes = KeyTemplate {
            all: Halves { private, ..Halves::default() },
            ec: Halves { public: Changed { omit: vec![3], ..Changed::default() }, ..Halves::default() },
            ..KeyTemplate::default()
        };
        let (public, private) = said(KeyKind::Ec(Curve::P256), Rung::Full, &changes);
        let numbers = |template: &[Attribute]| -> Vec<u64> {
            template.iter().map(|attribute| attribute_number(attribute.attribute_type())).collect()
        };
        assert!(!numbers(&public).contains(&3) && numbers(&private).contains(&3));
        assert_eq!(numbers(&private).iter().filter(|number| **number == 0x162).count(), 1);
        assert!(!private.contains(&Attribute::Extractable(false)) && numbers(&private).contains(&0x8000_0001));
        // The change of one kind of key is not another's.
        assert!(numbers(&said(KeyKind::Rsa { bits: 2048 }, Rung::Full, &changes).0).contains(&3));
    }

    #[test]
    fn an_edwards_curve_goes_by_two_names() {
        for (kind, forms) in [(Curve::Ed25519, 2), (Curve::Ed448, 2), (Curve::P384, 1)] {
            let plan = plan(KeyKind::Ec(kind)).unwrap();
            assert_eq!((plan.forms(None).len(), plan.params(EcParams::Oid)), (forms, kind.oid_der()));
            assert!(plan.forms(None).iter().all(|form| Curve::from_params(plan.params(*form)) == Some(kind)));
            // Where there is no choice, none is made.
            assert_eq!(plan.forms(Some(EcParams::Name)).len(), 1);
        }
        assert_eq!(plan(KeyKind::Rsa { bits: 2048 }).unwrap().forms(None).len(), 1);
        assert!(plan(KeyKind::Other(cryptoki::object::KeyType::DSA)).is_err());
    }

    #[test]
    fn an_rsa_key_of_another_size_is_not_what_was_asked_for() {
        let asked = KeyKind::Rsa { bits: 3072 };
        for (bits, is_so) in [(3072, true), (3070, true), (0, true), (2048, false), (4096, false)] {
            assert_eq!(is_as_asked(asked, KeyKind::Rsa { bits }), is_so, "{bits}");
        }
        assert!(!is_as_asked(KeyKind::Ec(Curve::P384), KeyKind::Ec(Curve::P256)));
    }
}
