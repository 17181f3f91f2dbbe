//! Create Key Pair (KMIP 1.2, section 4.2).
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::time::Instant;

use super::super::attribute::USAGE_BITS;
use super::super::mechanism::generator;
use super::super::object::recommended_curve;
use super::super::{ident, service};
use super::Context;
use crate::kmip::{
    Attribute, CryptographicAlgorithm, Failure, NameType, Outcome, RecommendedCurve, ResultReason, TemplateAttribute,
    Version, definition, optional, read_fields, required, tag,
};
use crate::pkcs11::{Class, Curve, Error, KeyKind, KeyPair, KeyPairSpec, Token, Usage, Use};
use crate::ttlv::{Item, Writer};

/// Whether the token can make any key pair that is served here.
pub(super) fn backed(token: &Token) -> bool {
    [KeyKind::Rsa { bits: 2048 }, KeyKind::Ec(Curve::P256), KeyKind::Ec(Curve::Ed25519)]
        .into_iter()
        .any(|kind| token.mechanisms().supports(generator(kind), Use::GenerateKeyPair))
}

pub(super) fn handle(context: &mut Context<'_>, payload: &Item<'_>, w: &mut Writer<'_>) -> Outcome<()> {
    // Also where this fails: what an earlier item left is not what the client means any more.
    context.placeholder = None;
    let [common, private, public] = read_fields(
        payload,
        &[
            optional(tag::COMMON_TEMPLATE_ATTRIBUTE),
            optional(tag::PRIVATE_KEY_TEMPLATE_ATTRIBUTE),
            optional(tag::PUBLIC_KEY_TEMPLATE_ATTRIBUTE),
        ],
        context.stated,
    )?;
    let token = context.token()?;
    let version = context.stated;
    let mut wish = Wish::default();
    // What is told for one half outweighs what is told for both (section 4.2).
    wish.read(common, &[Class::PrivateKey, Class::PublicKey], version)?;
    wish.read(private, &[Class::PrivateKey], version)?;
    wish.read(public, &[Class::PublicKey], version)?;
    let kind = wish.kind()?;
    let offer = token.mechanisms().info(generator(kind)).filter(|offer| offer.is_for(Use::GenerateKeyPair));
    let offer = offer.ok_or_else(|| Failure::invalid_field("the token makes no keys of this kind"))?;
    if let Some((least, most)) = offer.rules_out(kind) {
        return Err(Failure::invalid_field(format!(
            "the token makes keys of this kind of {least} to {most} bits only"
        )));
    }
    let usage = wish.usage(kind)?;
    for name in [wish.private.name, wish.public.name] {
        let kept = name.and_then(|name| token.fitted(name));
        context.client()?.rights().demand_name(kept.as_deref())?;
    }
    let spec = KeyPairSpec { kind, public_label: wish.public.name, private_label: wish.private.name, usage };
    let asked = Instant::now();
    let pair = token.generate_key_pair(&spec)?;
    let (private, public) =
        (ident::format(Class::PrivateKey, &pair.private.id), ident::format(Class::PublicKey, &pair.public.id));
    context.audit(format_args!("made key pair {private}, {public}"));
    if context.peer.has_left(asked) || context.peer.progress.is_given_up() {
        return Err(withdraw(
            &token,
            &pair,
            ResultReason::GENERAL_FAILURE,
            "made too late for its client to hear of it",
        ));
    }
    if !is_in_reach(context, &token, &pair)? {
        let why = "made, but the token keeps other names than this client's keys have to have";
        return Err(withdraw(&token, &pair, ResultReason::PERMISSION_DENIED, why));
    }
    w.text(tag::PRIVATE_KEY_UNIQUE_IDENTIFIER, &private);
    w.text(tag::PUBLIC_KEY_UNIQUE_IDENTIFIER, &public);
    context.placeholder = Some(private);
    Ok(())
}

/// Whether both halves have names by which the client finds them again: what a token makes of a label, if it keeps one at all, may be
/// known only now. What cannot be read is taken for out of reach, as the client will not reach it either.
fn is_in_reach(context: &mut Context<'_>, token: &Token, pair: &KeyPair) -> Outcome<bool> {
    let rights = context.client()?.rights();
    if rights.key_prefix.is_none() {
        return Ok(true);
    }
    Ok([&pair.private, &pair.public].into_iter().all(|key| match token.label(key.class, &key.id) {
        Ok(label) => rights.cover(label.as_deref()),
        // The token keeps none: the private one's name counts for it.
        Err(Error::NotFound { .. }) => key.class == Class::PublicKey,
        Err(_) => false,
    }))
}

/// Removes a pair that its client will never hear of, or never find.
fn withdraw(token: &Token, pair: &KeyPair, reason: ResultReason, why: &str) -> Failure {
    let what = match token.withdraw(pair) {
        Ok(()) => format!("{why}, and removed again"),
        Err(error) => format!("{why}, and not removed: {error}"),
    };
    Failure::new(reason, what)
}

/// The attributes asked for.
#[derive(Default)]
struct Wish<'a> {
    private: Half<'a>,
    public: Half<'a>,
}

/// The attributes asked for of one half.
#[derive(Default)]
struct Half<'a> {
    algorithm: Option<CryptographicAlgorithm>,
    length: Option<i32>,
    curve: Option<RecommendedCurve>,
    name: Option<&'a str>,
    usage: Option<i32>,
}

impl<'a> Wish<'a> {
    fn read(&mut self, template: Option<Item<'a>>, halves: &[Class], version: Version) -> Outcome<()> {
        let Some(template) = template else { return Ok(()) };
        let template = TemplateAttribute::decode(&template, version)?;
        let mut seen = HashSet::new();
        for attribute in &template.attributes {
            if !seen.insert(attribute.name) {
                return Err(Failure::invalid_field(format!(
                    "a key here has one {}, not several",
                    printable(attribute.name)
                )));
            }
            for half in halves {
                match half {
                    Class::PublicKey => self.public.set(attribute, version)?,
                    _ => self.private.set(attribute, version)?,
                }
            }
        }
        Ok(())
    }

    /// Algorithm and size: of the pair, so the halves may not differ.
    fn kind(&self) -> Outcome<KeyKind> {
        let (private, public) = (&self.private, &self.public);
        let algorithm = same("Cryptographic Algorithm", private.algorithm, public.algorithm)?
            .ok_or_else(|| Failure::invalid_message("Cryptographic Algorithm is missing"))?;
        let length = same("Cryptographic Length", private.length, public.length)?;
        let curve = same("Recommended Curve", private.curve, public.curve)?;
        match algorithm {
            CryptographicAlgorithm::RSA => {
                let length = length.ok_or_else(|| Failure::invalid_message("Cryptographic Length is missing"))?;
                let bits = u32::try_from(length).ok().filter(|bits| (1024..=8192).contains(bits) && bits % 8 == 0);
                let bits = bits.ok_or_else(|| {
                    Failure::invalid_field(format!("Cryptographic Length {length}: RSA keys have 1024 to 8192 bits"))
                })?;
                if curve.is_some() {
                    return Err(Failure::invalid_field("RSA has no Recommended Curve"));
                }
                Ok(KeyKind::Rsa { bits })
            }
            CryptographicAlgorithm::ECDSA | CryptographicAlgorithm::EC => match elliptic(curve, length)? {
                KeyKind::Ec(curve) if curve.is_edwards() && algorithm == CryptographicAlgorithm::ECDSA => {
                    Err(Failure::invalid_field("there is no ECDSA on an Edwards curve"))
                }
                kind => Ok(kind),
            },
            CryptographicAlgorithm::ED25519 => edwards(Curve::Ed25519, curve, length),
            CryptographicAlgorithm::ED448 => edwards(Curve::Ed448, curve, length),
            other => Err(Failure::invalid_field(format!("no key pairs of Cryptographic Algorithm {other}"))),
        }
    }

    /// The bits of both masks; without a mask a private key signs and a public one verifies.
    fn usage(&self, kind: KeyKind) -> Outcome<Usage> {
        let mut usage = Usage::default();
        for (class, asked, default) in
            [(Class::PrivateKey, self.private.usage, 0x01), (Class::PublicKey, self.public.usage, 0x02)]
        {
            let mask = asked.unwrap_or(default);
            let mut left = mask;
            for (bit, owner, flag) in USAGE_BITS {
                let bit = i32::try_from(bit.0).unwrap_or(0);
                if owner == class && mask & bit != 0 {
                    *flag(&mut usage) = true;
                    left &= !bit;
                }
            }
            if left != 0 {
                return Err(Failure::invalid_field(format!(
                    "Cryptographic Usage Mask {mask:08X} is not for a {class}"
                )));
            }
        }
        let beyond_signing = usage.encrypt || usage.decrypt || usage.wrap || usage.unwrap;
        let fits = match kind {
            KeyKind::Rsa { .. } => !usage.derive,
            KeyKind::Ec(curve) => !(beyond_signing || usage.derive && curve.is_edwards()),
            KeyKind::Other(_) => false,
        };
        if fits {
            Ok(usage)
        } else {
            Err(Failure::invalid_field("Cryptographic Usage Mask does not fit the algorithm"))
        }
    }
}

impl<'a> Half<'a> {
    fn set(&mut self, attribute: &Attribute<'a>, version: Version) -> Outcome<()> {
        let value = &attribute.value;
        let unfit = |why: &str| Err(Failure::invalid_field(format!("{}: {why}", printable(attribute.name))));
        match attribute.name {
            "Cryptographic Algorithm" => self.algorithm = Some(CryptographicAlgorithm(value.enumeration()?)),
            "Cryptographic Length" => self.length = Some(value.integer()?),
            "Cryptographic Usage Mask" => self.usage = Some(value.integer()?),
            "Cryptographic Domain Parameters" => {
                let [_, curve] =
                    read_fields(value, &[optional(tag::QLENGTH), optional(tag::RECOMMENDED_CURVE)], version)?;
                self.curve = curve.map(|curve| curve.enumeration()).transpose()?.map(RecommendedCurve).or(self.curve);
            }
            "Name" => self.name = Some(read_name(value, version)?),
            // Objects are Active from birth: an activation that has passed is what they have anyway.
            "Activation Date" if value.date_time()? > service::now() => {
                return unfit("keys are active at once; a later date cannot be kept");
            }
            "Activation Date" => {}
            "Sensitive" if version >= Version::V1_4 => {
                if !value.boolean()? {
                    return unfit("private keys are sensitive");
                }
            }
            "Extractable" if version >= Version::V1_4 => {
                if value.boolean()? {
                    return unfit("private keys are not extractable");
                }
            }
            name if definition(name, version).is_some() || name.starts_with("x-") => {
                return unfit("the token has no place to keep it");
            }
            name => return Err(Failure::invalid_field(format!("there is no attribute '{}'", printable(name)))),
        }
        Ok(())
    }
}

/// The longest name, in bytes. Tokens take 32 to some hundred; what is beyond them all need not reach a C library.
const LONGEST_NAME: usize = 1024;

/// The text of a Name structure.
///
/// # Errors
/// Invalid Field: empty, too long, or a URI, which a CKA_LABEL cannot be told from a text.
pub(super) fn read_name<'a>(value: &Item<'a>, version: Version) -> Outcome<&'a str> {
    let [Some(text), Some(kind)] = read_fields(value, &[required(tag::NAME_VALUE), required(tag::NAME_TYPE)], version)?
    else {
        return Err(Failure::invalid_message("Name without value or type"));
    };
    let kind = NameType(kind.enumeration()?);
    if kind != NameType::UNINTERPRETED_TEXT_STRING {
        return Err(Failure::invalid_field(format!("Name Type {kind}: names are Uninterpreted Text Strings here")));
    }
    match text.text()? {
        "" => Err(Failure::invalid_field("Name is empty")),
        text if text.len() > LONGEST_NAME => Err(Failure::invalid_field(format!("Name is over {LONGEST_NAME} bytes"))),
        text => Ok(text),
    }
}

/// A name from the wire, short enough for a message.
pub(super) fn printable(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_default).collect()
}

fn elliptic(curve: Option<RecommendedCurve>, length: Option<i32>) -> Outcome<KeyKind> {
    if let Some(asked) = curve {
        let curve = Curve::ALL.into_iter().find(|curve| recommended_curve(*curve) == asked);
        let curve = curve.ok_or_else(|| Failure::invalid_field(format!("Recommended Curve {asked} is not served")))?;
        return match length.filter(|length| !lengths(curve).contains(length)) {
            Some(other) => Err(Failure::invalid_field(format!(
                "Cryptographic Length {other}: keys on the Recommended Curve have {} bits",
                curve.bits()
            ))),
            None => Ok(KeyKind::Ec(curve)),
        };
    }
    match length {
        Some(256) => Ok(KeyKind::Ec(Curve::P256)),
        Some(384) => Ok(KeyKind::Ec(Curve::P384)),
        Some(521) => Ok(KeyKind::Ec(Curve::P521)),
        Some(other) => {
            Err(Failure::invalid_field(format!("Cryptographic Length {other}: curves have 256, 384 or 521")))
        }
        None => Err(Failure::invalid_message("Cryptographic Length is missing, and no Recommended Curve is there")),
    }
}

/// What clients call the length of a key on the curve: that of its field, or of an encoded Edwards point.
fn lengths(curve: Curve) -> &'static [i32] {
    match curve {
        Curve::P256 => &[256],
        Curve::P384 => &[384],
        Curve::P521 => &[521],
        Curve::Ed25519 => &[255, 256],
        Curve::Ed448 => &[448, 456],
    }
}

fn edwards(curve: Curve, asked: Option<RecommendedCurve>, length: Option<i32>) -> Outcome<KeyKind> {
    let fits = asked.is_none_or(|asked| asked == recommended_curve(curve))
        && length.is_none_or(|length| lengths(curve).contains(&length));
    if fits {
        Ok(KeyKind::Ec(curve))
    } else {
        Err(Failure::invalid_field("curve or length does not fit the algorithm"))
    }
}

fn same<T: PartialEq + Copy>(field: &str, private: Option<T>, public: Option<T>) -> Outcome<Option<T>> {
    match (private, public) {
        (Some(private), Some(public)) if private != public => {
            Err(Failure::invalid_field(format!("{field} differs between private and public key")))
        }
        (private, public) => Ok(private.or(public)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_that_is_named_takes_its_own_lengths_in_either_spelling_and_no_other() {
        for curve in Curve::ALL {
            let named = recommended_curve(curve);
            for length in [None].into_iter().chain(lengths(curve).iter().map(|length| Some(*length))) {
                assert_eq!(elliptic(Some(named), length).unwrap(), KeyKind::Ec(curve), "{length:?}");
            }
            for other in [0, -1, 128, 257, 512, 520, 528] {
                let refused = elliptic(Some(named), Some(other)).unwrap_err();
                assert_eq!(refused.reason, ResultReason::INVALID_FIELD, "{curve:?} {other}");
            }
        }
        assert!(lengths(Curve::Ed25519) == [255, 256] && lengths(Curve::Ed448) == [448, 456]);
    }
}
