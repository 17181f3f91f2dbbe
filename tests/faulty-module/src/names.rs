//! Words of a control file: standard names or numbers, sets of functions, and attribute values.

use std::fmt;

use cryptoki_sys::{
    CK_ATTRIBUTE_TYPE, CK_FLAGS, CK_KEY_TYPE, CK_MECHANISM_TYPE, CK_OBJECT_CLASS, CK_RV, CK_ULONG, CK_VERSION,
};
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use crate::abi::Function;
use crate::tables;

/// A number that a control file may write by its name in the standard.
macro_rules! named {
    ($(#[$doc:meta])* $type:ident($number:ty) in $table:ident, $example:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
        pub struct $type(pub $number);

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Word;
                impl Visitor<'_> for Word {
                    type Value = $number;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!("a name such as ", $example, " or a number"))
                    }

                    fn visit_str<E: Error>(self, word: &str) -> Result<$number, E> {
                        number(tables::$table, word).ok_or_else(|| E::custom(format!("{word} is not known by name")))
                    }

                    fn visit_i64<E: Error>(self, number: i64) -> Result<$number, E> {
                        Ok(number as $number)
                    }
                }
                deserializer.deserialize_any(Word).map($type)
            }
        }
    };
}

named!(/// A return value.
    Rv(CK_RV) in RVS, "CKR_DEVICE_ERROR");
named!(/// An attribute type.
    Attribute(CK_ATTRIBUTE_TYPE) in ATTRIBUTES, "CKA_EC_POINT");
named!(/// A mechanism type.
    Mechanism(CK_MECHANISM_TYPE) in MECHANISMS, "CKM_ECDSA");
named!(/// An object class.
    Class(CK_OBJECT_CLASS) in CLASSES, "CKO_DATA");
named!(/// A key type.
    KeyType(CK_KEY_TYPE) in KEY_TYPES, "CKK_EC");
named!(/// A flag of a token or of a mechanism.
    Flag(CK_FLAGS) in FLAGS, "CKF_LOGIN_REQUIRED");

/// The number behind a name, or behind digits (a table's key is always text).
fn number(table: &[(&str, CK_ULONG)], word: &str) -> Option<CK_ULONG> {
    let named = table.iter().find(|(name, _)| *name == word).map(|(_, number)| *number);
    named.or_else(|| match word.strip_prefix("0x") {
        Some(digits) => CK_ULONG::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    })
}

/// All the flags as one.
pub fn flags(flags: &[Flag]) -> CK_FLAGS {
    flags.iter().fold(0, |all, flag| all | flag.0)
}

/// One of something, or a list of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

/// A list that a control file may write as a single value.
pub fn one_or_many<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}

/// Functions by name; a name may end in `*`.
#[derive(Clone, Copy, Debug, Default)]
pub struct FunctionSet(u128);

impl FunctionSet {
    pub fn of(functions: &[Function]) -> FunctionSet {
        FunctionSet(functions.iter().fold(0, |set, function| set | 1 << *function as u32))
    }

    pub fn contains(self, function: Function) -> bool {
        self.0 & 1 << function as u32 != 0
    }

    /// The functions that a pattern names; `None` if there are none.
    fn matching(pattern: &str) -> Option<FunctionSet> {
        let fits = |name: &str| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == pattern,
        };
        let found: Vec<Function> = Function::ALL.iter().copied().filter(|function| fits(function.name())).collect();
        (!found.is_empty()).then(|| FunctionSet::of(&found))
    }
}

impl<'de> Deserialize<'de> for FunctionSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Clone, Copy)]
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = FunctionSet;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a function, such as \"C_Sign\" or \"C_Sign*\", or a list of them")
            }

            fn visit_str<E: Error>(self, pattern: &str) -> Result<FunctionSet, E> {
                FunctionSet::matching(pattern).ok_or_else(|| E::custom(format!("there is no function {pattern}")))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<FunctionSet, A::Error> {
                let mut set = FunctionSet::default();
                while let Some(pattern) = names.next_element::<String>()? {
                    set.0 |= self.visit_str::<A::Error>(&pattern)?.0;
                }
                Ok(set)
            }
        }
        deserializer.deserialize_any(Names)
    }
}

/// The value of an attribute: a CK_BBOOL, a CK_ULONG, or bytes.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Value {
    Bool(bool),
    Number(i64),
    Text(String),
}

impl Value {
    /// As the module holds it. Text is a CK_ULONG if it is the name of one (`CKO_DATA`), the bytes themselves if it is
    /// hexadecimal with `0x` in front, else its own characters.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Value::Bool(value) => vec![u8::from(*value)],
            Value::Number(number) => (*number as CK_ULONG).to_ne_bytes().to_vec(),
            Value::Text(text) => ulong(text).map_or_else(|| bytes(text), |number| number.to_ne_bytes().to_vec()),
        }
    }
}

fn ulong(text: &str) -> Option<CK_ULONG> {
    let table = match text.get(..4)? {
        "CKO_" => tables::CLASSES,
        "CKK_" => tables::KEY_TYPES,
        "CKM_" => tables::MECHANISMS,
        _ => return None,
    };
    number(table, text)
}

fn bytes(text: &str) -> Vec<u8> {
    let digits = text.strip_prefix("0x").filter(|digits| digits.len() % 2 == 0 && digits.is_ascii());
    let pairs = digits.map(|digits| {
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16)).collect::<Result<_, _>>()
    });
    match pairs {
        Some(Ok(bytes)) => bytes,
        _ => text.as_bytes().to_vec(),
    }
}

/// A version written as `"2.20"`.
#[derive(Clone, Copy, Debug)]
pub struct Version(pub CK_VERSION);

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parts = text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        let (major, minor) = parts.ok_or_else(|| D::Error::custom("a version is written as \"2.20\""))?;
        Ok(Version(CK_VERSION { major, minor }))
    }
}
