//! What is said of new keys on some tokens: attributes by name, with values.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::Deserialize;

use super::written::quoted;
use crate::pkcs11::{Changed, Halves, KeyTemplate, attribute_named};

/// `key-template` as written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Template {
    public: Half,
    private: Half,
    rsa: Pair,
    ec: Pair,
    edwards: Pair,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Pair {
    public: Half,
    private: Half,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Half {
    add: BTreeMap<String, toml::Value>,
    omit: Vec<String>,
}

/// What it means.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(written: Template) -> Result<KeyTemplate, String> {
    let halves =
        |public: Half, private: Half| Ok::<_, String>(Halves { public: half(public)?, private: half(private)? });
    Ok(KeyTemplate {
        all: halves(written.public, written.private)?,
        rsa: halves(written.rsa.public, written.rsa.private)?,
        ec: halves(written.ec.public, written.ec.private)?,
        edwards: halves(written.edwards.public, written.edwards.private)?,
    })
}

/// Attributes that make the key what the client asked for, and are not the operator's to change.
const NEEDED: &[&str] = &["CKA_CLASS", "CKA_EC_PARAMS", "CKA_ID", "CKA_KEY_TYPE", "CKA_LABEL", "CKA_MODULUS_BITS"];

fn half(written: Half) -> Result<Changed, String> {
    let attribute = |name: &str| {
        let number = attribute_named(name).filter(|number| std::ffi::c_ulong::try_from(*number).is_ok());
        number.ok_or_else(|| format!("key-template: there is no attribute {} here", quoted(name)))
    };
    let mut changed = Changed::default();
    for (name, value) in written.add {
        let number = attribute(&name)?;
        if NEEDED.iter().any(|needed| attribute_named(needed) == Some(number)) {
            return Err(format!("key-template: {} comes from the client or from other keys", quoted(&name)));
        }
        let Some(value) = bytes(&value) else {
            return Err(format!("key-template: the value of {} is no true or false, number or text", quoted(&name)));
        };
        changed.add.push((number, value));
    }
    changed.omit = written.omit.iter().map(|name| attribute(name)).collect::<Result<_, _>>()?;
    Ok(changed)
}

/// A value as the module takes it: CK_BBOOL, CK_ULONG, or bytes, written as text or as `0x` and hexadecimal digits.
fn bytes(value: &toml::Value) -> Option<Vec<u8>> {
    match value {
        toml::Value::Boolean(value) => Some(vec![u8::from(*value)]),
        toml::Value::Integer(number) => {
            std::ffi::c_ulong::try_from(*number).ok().map(|number| number.to_ne_bytes().to_vec())
        }
        toml::Value::String(text) => match text.strip_prefix("0x") {
            None => Some(text.as_bytes().to_vec()),
            Some(hex) => hex
                .as_bytes()
                .chunks(2)
                .map(|pair| match pair {
                    [high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                        u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()
                    }
                    _ => None,
                })
                .collect(),
        },
        _ => None,
    }
}
