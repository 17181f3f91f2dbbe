//! How the module misbehaves: a byte for each answer that can go wrong.

use std::collections::VecDeque;

use cryptoki_sys::*;

/// What an answer becomes.
pub enum Twist {
    /// As it should be.
    None,
    /// A failure.
    Fail(CK_RV),
    /// Other bytes.
    Value(Vec<u8>),
    /// The first so many bytes of it.
    Cut(usize),
}

/// The bytes that are left. With none left, every answer is as it should be.
#[derive(Default)]
pub struct Script(VecDeque<u8>);

const FAILURES: [CK_RV; 32] = [
    CKR_DEVICE_ERROR,
    CKR_SESSION_HANDLE_INVALID,
    CKR_OBJECT_HANDLE_INVALID,
    CKR_KEY_HANDLE_INVALID,
    CKR_FUNCTION_FAILED,
    CKR_GENERAL_ERROR,
    CKR_USER_NOT_LOGGED_IN,
    CKR_BUFFER_TOO_SMALL,
    CKR_ATTRIBUTE_TYPE_INVALID,
    CKR_ATTRIBUTE_SENSITIVE,
    CKR_ATTRIBUTE_READ_ONLY,
    CKR_ATTRIBUTE_VALUE_INVALID,
    CKR_DATA_INVALID,
    CKR_DATA_LEN_RANGE,
    CKR_DEVICE_MEMORY,
    CKR_HOST_MEMORY,
    CKR_MECHANISM_INVALID,
    CKR_MECHANISM_PARAM_INVALID,
    CKR_SIGNATURE_INVALID,
    CKR_SIGNATURE_LEN_RANGE,
    CKR_TEMPLATE_INCONSISTENT,
    CKR_TEMPLATE_INCOMPLETE,
    CKR_SESSION_CLOSED,
    CKR_SESSION_COUNT,
    CKR_KEY_TYPE_INCONSISTENT,
    CKR_KEY_FUNCTION_NOT_PERMITTED,
    CKR_OPERATION_ACTIVE,
    CKR_OPERATION_NOT_INITIALIZED,
    CKR_CURVE_NOT_SUPPORTED,
    CKR_FUNCTION_NOT_SUPPORTED,
    CKR_VENDOR_DEFINED,
    CKR_VENDOR_DEFINED + 0x7fff_ffff,
];

impl Script {
    pub fn new(bytes: &[u8]) -> Script {
        Script(bytes.iter().copied().collect())
    }

    pub fn next(&mut self) -> Twist {
        match self.0.pop_front() {
            None | Some(0..=0x7f) => Twist::None,
            Some(byte @ 0x80..=0xbf) => Twist::Fail(FAILURES[usize::from(byte) % FAILURES.len()]),
            Some(0xc0..=0xdf) => {
                let len = usize::from(self.0.pop_front().unwrap_or(0)).min(self.0.len());
                Twist::Value(self.0.drain(..len).collect())
            }
            Some(byte @ 0xe0..) => Twist::Cut(usize::from(byte & 0x1f)),
        }
    }

    /// As [`Self::next`], where only failing makes a difference.
    pub fn failure(&mut self) -> Result<(), CK_RV> {
        match self.next() {
            Twist::Fail(rv) => Err(rv),
            _ => Ok(()),
        }
    }

    /// What becomes of `value`.
    pub fn twisted(&mut self, value: &mut Vec<u8>) -> Result<(), CK_RV> {
        match self.next() {
            Twist::None => {}
            Twist::Fail(rv) => return Err(rv),
            Twist::Value(other) => *value = other,
            Twist::Cut(len) => value.truncate(len),
        }
        Ok(())
    }
}
