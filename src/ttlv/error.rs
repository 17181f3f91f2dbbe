//! What can be wrong with TTLV, and where.
#![forbid(unsafe_code)]

use std::fmt;

use super::Type;

/// A fault in an encoding and the offset, in bytes from the start of the message, of the item that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// Bytes from the start of the message to the first byte of the faulty item.
    pub offset: usize,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with an item. An error may be logged, so its text has no value in it, and no tag that cannot be one either: where a
/// length was wrong, what stands there is the middle of some value, as it may be of a PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Less than the eight bytes of tag, type and length are left.
    TruncatedHeader,
    /// The value, so many bytes long, runs past the end of what holds it.
    TruncatedValue(u32),
    /// The padding runs past the end of what holds the item.
    TruncatedPadding,
    /// A padding byte is not zero.
    Padding,
    /// The tag's first byte is neither 42 nor 54.
    Tag(u32),
    /// No such type.
    Type(u8),
    /// The length does not fit the type.
    Length(Type, u32),
    /// A Boolean that is neither zero nor one.
    Boolean,
    /// A Text String that is not UTF-8.
    Utf8,
    /// A Text String with a NUL in it.
    Nul,
    /// Structures nested deeper than this.
    TooDeep(u8),
    /// So many bytes follow the item that should be the last.
    Trailing(usize),
    /// The item's type is the second, but its tag wants the first.
    WrongType(Type, Type),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TruncatedHeader => write!(f, "item header is cut off"),
            Self::TruncatedValue(len) => write!(f, "value of {len} bytes runs past its end"),
            Self::TruncatedPadding => write!(f, "padding is cut off"),
            Self::Padding => write!(f, "padding is not zero"),
            Self::Tag(_) => write!(f, "tag does not begin with 42 or 54"),
            Self::Type(_) => write!(f, "there is no such type"),
            Self::Length(ty, len) => write!(f, "{ty} of {len} bytes"),
            Self::Boolean => write!(f, "Boolean is neither 0 nor 1"),
            Self::Utf8 => write!(f, "Text String is not UTF-8"),
            Self::Nul => write!(f, "Text String contains NUL"),
            Self::TooDeep(deepest) => write!(f, "structures are nested deeper than {deepest}"),
            Self::Trailing(len) => write!(f, "{len} bytes follow the last item"),
            Self::WrongType(wanted, found) => write!(f, "{found} where {wanted} belongs"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.fault, self.offset)
    }
}

impl std::error::Error for Error {}
