//! Why a request, or one item of it, is not carried out: in the client's language.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt;

use super::ResultReason;
use crate::ttlv;

/// A Result Reason and a Result Message. The message names KMIP fields and identifiers; never a path, a PIN or key
/// material.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For the program that asked.
    pub reason: ResultReason,
    /// For the person behind it.
    pub message: Cow<'static, str>,
}

/// What an operation comes to.
pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// A failure with `reason`, told as `message`.
    pub fn new(reason: ResultReason, message: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, message: message.into() }
    }

    /// The message cannot be read or breaks the rules of messages.
    pub fn invalid_message(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ResultReason::INVALID_MESSAGE, message)
    }

    /// A field has a value that cannot be.
    pub fn invalid_field(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ResultReason::INVALID_FIELD, message)
    }

    /// There is no such object.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ResultReason::ITEM_NOT_FOUND, message)
    }
}

/// What cannot be decoded is an invalid message (KMIP 1.2, section 11, "parse error").
impl From<ttlv::Error> for Failure {
    fn from(error: ttlv::Error) -> Self {
        Self::invalid_message(error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}
