//! The standard's names of attributes and mechanisms, as the configuration writes them.
#![forbid(unsafe_code)]

use cryptoki::mechanism::MechanismType;
use cryptoki::object::AttributeType;

/// The number of the attribute of that name, or of that number in decimal or as `0x` and hexadecimal digits: vendors have
/// attributes of their own.
pub fn attribute_named(name: &str) -> Option<u64> {
    let named = ATTRIBUTES.iter().find(|(known, _)| *known == name);
    named.map_or_else(|| number(name), |(_, attribute)| Some(attribute_number(*attribute)))
}

/// The number of an attribute.
// CK_ULONG has the width of the platform's unsigned long.
#[allow(clippy::useless_conversion)]
pub(super) fn attribute_number(attribute: AttributeType) -> u64 {
    let number: std::ffi::c_ulong = attribute.into();
    number.into()
}

/// The mechanism of that name, among those by which keys are made and signatures are.
pub fn mechanism_named(name: &str) -> Option<MechanismType> {
    MECHANISMS.iter().find(|(known, _)| *known == name).map(|(_, mechanism)| *mechanism)
}

/// The name of a mechanism, or its number.
pub fn mechanism_name(mechanism: MechanismType) -> String {
    let known = MECHANISMS.iter().find(|(_, known)| *known == mechanism);
    known.map_or_else(|| mechanism.to_string(), |(name, _)| (*name).to_owned())
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => Some(hex).filter(|hex| !hex.starts_with('+')).and_then(|hex| u64::from_str_radix(hex, 16).ok()),
        None => Some(text).filter(|text| !text.starts_with('+')).and_then(|text| text.parse().ok()),
    }
}

/// Attributes that templates of keys may hold (PKCS#11 3.1, sections 4.4 to 4.9).
const ATTRIBUTES: &[(&str, AttributeType)] = &[
    ("CKA_ALLOWED_MECHANISMS", AttributeType::AllowedMechanisms),
    ("CKA_ALWAYS_AUTHENTICATE", AttributeType::AlwaysAuthenticate),
    ("CKA_CLASS", AttributeType::Class),
    ("CKA_COPYABLE", AttributeType::Copyable),
    ("CKA_DECRYPT", AttributeType::Decrypt),
    ("CKA_DERIVE", AttributeType::Derive),
    ("CKA_DESTROYABLE", AttributeType::Destroyable),
    ("CKA_EC_PARAMS", AttributeType::EcParams),
    ("CKA_ENCRYPT", AttributeType::Encrypt),
    ("CKA_END_DATE", AttributeType::EndDate),
    ("CKA_EXTRACTABLE", AttributeType::Extractable),
    ("CKA_ID", AttributeType::Id),
    ("CKA_KEY_TYPE", AttributeType::KeyType),
    ("CKA_LABEL", AttributeType::Label),
    ("CKA_MODIFIABLE", AttributeType::Modifiable),
    ("CKA_MODULUS_BITS", AttributeType::ModulusBits),
    ("CKA_PRIVATE", AttributeType::Private),
    ("CKA_PUBLIC_EXPONENT", AttributeType::PublicExponent),
    ("CKA_SENSITIVE", AttributeType::Sensitive),
    ("CKA_SIGN", AttributeType::Sign),
    ("CKA_SIGN_RECOVER", AttributeType::SignRecover),
    ("CKA_START_DATE", AttributeType::StartDate),
    ("CKA_SUBJECT", AttributeType::Subject),
    ("CKA_TOKEN", AttributeType::Token),
    ("CKA_TRUSTED", AttributeType::Trusted),
    ("CKA_UNWRAP", AttributeType::Unwrap),
    ("CKA_VERIFY", AttributeType::Verify),
    ("CKA_VERIFY_RECOVER", AttributeType::VerifyRecover),
    ("CKA_WRAP", AttributeType::Wrap),
    ("CKA_WRAP_WITH_TRUSTED", AttributeType::WrapWithTrusted),
];

const MECHANISMS: &[(&str, MechanismType)] = &[
    ("CKM_ECDSA", MechanismType::ECDSA),
    ("CKM_ECDSA_SHA1", MechanismType::ECDSA_SHA1),
    ("CKM_ECDSA_SHA256", MechanismType::ECDSA_SHA256),
    ("CKM_ECDSA_SHA384", MechanismType::ECDSA_SHA384),
    ("CKM_ECDSA_SHA512", MechanismType::ECDSA_SHA512),
    ("CKM_EC_EDWARDS_KEY_PAIR_GEN", MechanismType::ECC_EDWARDS_KEY_PAIR_GEN),
    ("CKM_EC_KEY_PAIR_GEN", MechanismType::ECC_KEY_PAIR_GEN),
    ("CKM_EDDSA", MechanismType::EDDSA),
    ("CKM_RSA_PKCS", MechanismType::RSA_PKCS),
    ("CKM_RSA_PKCS_KEY_PAIR_GEN", MechanismType::RSA_PKCS_KEY_PAIR_GEN),
    ("CKM_RSA_PKCS_PSS", MechanismType::RSA_PKCS_PSS),
    ("CKM_SHA1_RSA_PKCS", MechanismType::SHA1_RSA_PKCS),
    ("CKM_SHA1_RSA_PKCS_PSS", MechanismType::SHA1_RSA_PKCS_PSS),
    ("CKM_SHA256_RSA_PKCS", MechanismType::SHA256_RSA_PKCS),
    ("CKM_SHA256_RSA_PKCS_PSS", MechanismType::SHA256_RSA_PKCS_PSS),
    ("CKM_SHA384_RSA_PKCS", MechanismType::SHA384_RSA_PKCS),
    ("CKM_SHA384_RSA_PKCS_PSS", MechanismType::SHA384_RSA_PKCS_PSS),
    ("CKM_SHA512_RSA_PKCS", MechanismType::SHA512_RSA_PKCS),
    ("CKM_SHA512_RSA_PKCS_PSS", MechanismType::SHA512_RSA_PKCS_PSS),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_attributes_by_name_and_by_number() {
        assert_eq!(attribute_named("CKA_EXTRACTABLE"), Some(0x162));
        assert_eq!(attribute_named("CKA_LABEL"), Some(3));
        assert_eq!(attribute_named("0x80000001"), Some(0x8000_0001));
        assert_eq!(attribute_named("258"), Some(0x102));
        for name in ["CKA_NONE", "", "0x", "+1", "0x+1", "cka_label"] {
            assert_eq!(attribute_named(name), None, "{name}");
        }
    }

    #[test]
    fn knows_mechanisms_by_name() {
        assert_eq!(mechanism_named("CKM_ECDSA_SHA256"), Some(MechanismType::ECDSA_SHA256));
        assert_eq!(mechanism_named("CKM_MD5"), None);
        assert_eq!(mechanism_name(MechanismType::EDDSA), "CKM_EDDSA");
    }
}
