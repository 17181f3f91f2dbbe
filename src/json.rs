//! JSON, written: for answers that programs read. RFC 8259
#![forbid(unsafe_code)]

use std::fmt::{self, Write};

/// A value; displayed, it is its JSON text on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number. Readers that take numbers for floating point keep 53 bits of it.
    Number(u64),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Value>),
    /// An object, its members in this order.
    Object(Vec<(&'static str, Value)>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Text(text) => string(f, text),
            Self::List(values) => {
                f.write_char('[')?;
                for (index, value) in values.iter().enumerate() {
                    separate(f, index)?;
                    value.fmt(f)?;
                }
                f.write_char(']')
            }
            Self::Object(members) => {
                f.write_char('{')?;
                for (index, (name, value)) in members.iter().enumerate() {
                    separate(f, index)?;
                    string(f, name)?;
                    write!(f, ": {value}")?;
                }
                f.write_char('}')
            }
        }
    }
}

fn separate(f: &mut fmt::Formatter<'_>, index: usize) -> fmt::Result {
    f.write_str(if index == 0 { "" } else { ", " })
}

/// Quotes and escapes. Every control character is escaped, also those that JSON would allow: the text may reach a terminal.
fn string(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            // None of them needs a surrogate pair.
            c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Number(value.into())
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Number(value)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Number(u64::try_from(value).unwrap_or(u64::MAX))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(values: Vec<T>) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_every_kind_of_value() {
        let value = Value::Object(vec![
            ("none", Option::<u64>::None.into()),
            ("yes", true.into()),
            ("most", u64::MAX.into()),
            ("list", vec!["a", "b"].into()),
            ("empty", Value::List(Vec::new())),
            ("inner", Value::Object(Vec::new())),
        ]);
        let text = r#"{"none": null, "yes": true, "most": 18446744073709551615, "list": ["a", "b"], "empty": [], "inner": {}}"#;
        assert_eq!(value.to_string(), text);
    }

    #[test]
    fn escapes_what_would_end_a_string_or_reach_the_terminal() {
        let text = Value::from("a\"b\\c\nd\te\u{1b}[0m\u{7f}\u{9b}\0é😀/").to_string();
        assert_eq!(text, r#""a\"b\\c\nd\te\u001b[0m\u007f\u009b\u0000é😀/""#);
    }
}
