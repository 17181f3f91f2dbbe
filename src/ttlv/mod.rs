//! TTLV, the binary encoding of KMIP messages (KMIP 1.2, section 9.1): bytes only, nothing of KMIP's meaning.
#![forbid(unsafe_code)]

mod dump;
mod error;
mod frame;
mod reader;
mod writer;

pub use dump::Dump;
pub use error::{Error, Fault};
pub use frame::{FrameError, HEADER_LEN, frame_len};
pub use reader::{Item, MAX_DEPTH, Reader};
pub use writer::{Mark, Writer, make_room};

use std::fmt;

/// The type of an item (KMIP 1.2, section 9.1.1.2), in the order of their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Type {
    /// Items one after another.
    Structure = 1,
    /// 32 bits, signed.
    Integer = 2,
    /// 64 bits, signed.
    LongInteger = 3,
    /// Two's complement of any length that is a multiple of eight bytes.
    BigInteger = 4,
    /// 32 bits; what they mean depends on the tag.
    Enumeration = 5,
    /// Zero or one in eight bytes.
    Boolean = 6,
    /// UTF-8 without NUL.
    TextString = 7,
    /// Bytes.
    ByteString = 8,
    /// Seconds since 1970-01-01T00:00:00Z, signed.
    DateTime = 9,
    /// Seconds, 32 bits, unsigned.
    Interval = 10,
}

impl Type {
    /// The type with the number `code`, if there is one.
    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Structure,
            2 => Self::Integer,
            3 => Self::LongInteger,
            4 => Self::BigInteger,
            5 => Self::Enumeration,
            6 => Self::Boolean,
            7 => Self::TextString,
            8 => Self::ByteString,
            9 => Self::DateTime,
            10 => Self::Interval,
            _ => return None,
        })
    }

    /// The number that stands for this type on the wire.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Structure => "Structure",
            Self::Integer => "Integer",
            Self::LongInteger => "Long Integer",
            Self::BigInteger => "Big Integer",
            Self::Enumeration => "Enumeration",
            Self::Boolean => "Boolean",
            Self::TextString => "Text String",
            Self::ByteString => "Byte String",
            Self::DateTime => "Date-Time",
            Self::Interval => "Interval",
        })
    }
}

/// Bytes that a value of `len` bytes takes on the wire: values are padded to a multiple of eight.
fn padded(len: usize) -> Option<usize> {
    len.checked_next_multiple_of(8)
}
