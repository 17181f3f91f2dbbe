//! What becomes of a session's cryptographic operation when a call of it fails.

use std::collections::{HashMap, HashSet};
use std::ptr;

use cryptoki_sys::*;

use crate::abi::Function::{self, *};
use crate::call::Call;
use crate::real::forward;
use crate::sessions;

/// A kind of operation; a session has at most one of each.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    Encrypt,
    Decrypt,
    Digest,
    Sign,
    SignRecover,
    Verify,
    VerifyRecover,
}

/// The operations of a session.
#[derive(Default)]
pub struct Operations {
    mechanisms: HashMap<Kind, CK_MECHANISM_TYPE>,
    /// Objects that nobody made and the search under way is still to find.
    pub extra: std::ops::Range<u32>,
    /// Failed, and left active all the same.
    stuck: HashSet<Kind>,
}

/// The operation that a function belongs to, and whether it begins it.
fn of(function: Function) -> Option<(Kind, bool)> {
    Some(match function {
        C_EncryptInit => (Kind::Encrypt, true),
        C_Encrypt | C_EncryptUpdate | C_EncryptFinal => (Kind::Encrypt, false),
        C_DecryptInit => (Kind::Decrypt, true),
        C_Decrypt | C_DecryptUpdate | C_DecryptFinal => (Kind::Decrypt, false),
        C_DigestInit => (Kind::Digest, true),
        C_Digest | C_DigestUpdate | C_DigestKey | C_DigestFinal => (Kind::Digest, false),
        C_SignInit => (Kind::Sign, true),
        C_Sign | C_SignUpdate | C_SignFinal => (Kind::Sign, false),
        C_SignRecoverInit => (Kind::SignRecover, true),
        C_SignRecover => (Kind::SignRecover, false),
        C_VerifyInit => (Kind::Verify, true),
        C_Verify | C_VerifyUpdate | C_VerifyFinal => (Kind::Verify, false),
        C_VerifyRecoverInit => (Kind::VerifyRecover, true),
        C_VerifyRecover => (Kind::VerifyRecover, false),
        _ => return None,
    })
}

/// The mechanism that the operation was begun with.
pub fn mechanism(function: Function, session: CK_SESSION_HANDLE) -> Option<CK_MECHANISM_TYPE> {
    let (kind, _) = of(function)?;
    sessions::operations(session, |operations| operations.mechanisms.get(&kind).copied())?
}

/// What a call answers because an operation before it is still active.
pub fn refusal(call: &Call) -> Option<CK_RV> {
    let (kind, true) = of(call.function)? else { return None };
    let stuck = sessions::operations(call.subject.session?, |operations| operations.stuck.contains(&kind))?;
    stuck.then_some(CKR_OPERATION_ACTIVE)
}

/// Notes the mechanism of an operation that has begun.
pub fn succeeded(call: &Call) {
    if let (Some((kind, true)), Some(session), Some(mechanism)) =
        (of(call.function), call.subject.session, call.mechanism)
    {
        sessions::operations(session, |operations| operations.mechanisms.insert(kind, mechanism));
    }
}

/// A call of the operation failed. As the standard has it that ends the operation, also if the real module never
/// heard of the failure; as some modules have it the operation stays.
pub fn failed(call: &Call, rv: CK_RV) {
    let ends = !matches!(
        rv,
        CKR_BUFFER_TOO_SMALL
            | CKR_OPERATION_ACTIVE
            | CKR_OPERATION_NOT_INITIALIZED
            | CKR_SESSION_HANDLE_INVALID
            | CKR_CRYPTOKI_NOT_INITIALIZED
    );
    let (Some((kind, _)), Some(session), true) = (of(call.function), call.subject.session, ends) else { return };
    let is_answer = matches!(rv, CKR_SIGNATURE_INVALID | CKR_SIGNATURE_LEN_RANGE);
    if call.control.settings.operations.stay_active_after_error && !is_answer {
        sessions::operations(session, |operations| operations.stuck.insert(kind));
    } else {
        end(call, kind, session);
    }
}

/// Ends the operation in the real module. PKCS#11 before 3.0 has no function for that, so it is brought to its end in
/// both ways, one of which the module refuses without harm.
fn end(call: &Call, kind: Kind, s: CK_SESSION_HANDLE) {
    let _gate = call.at_work();
    let real = call.real;
    let mut bytes = [0u8; 16];
    let from = bytes.as_mut_ptr();
    let mut room = vec![0u8; 1 << 16];
    let to = room.as_mut_ptr();
    let mut len = room.len() as CK_ULONG;
    let mut rest = len;
    match kind {
        Kind::Encrypt => {
            forward!(real, C_Encrypt, s, from, 16, to, &mut len);
            forward!(real, C_EncryptFinal, s, to, &mut rest);
        }
        Kind::Decrypt => {
            forward!(real, C_Decrypt, s, from, 16, to, &mut len);
            forward!(real, C_DecryptFinal, s, to, &mut rest);
        }
        Kind::Digest => {
            forward!(real, C_Digest, s, from, 16, to, &mut len);
            forward!(real, C_DigestFinal, s, to, &mut rest);
        }
        Kind::Sign => {
            forward!(real, C_Sign, s, from, 16, to, &mut len);
            forward!(real, C_SignFinal, s, to, &mut rest);
        }
        Kind::SignRecover => {
            forward!(real, C_SignRecover, s, from, 16, to, &mut len);
        }
        Kind::Verify => {
            forward!(real, C_Verify, s, from, 16, to, 16);
            forward!(real, C_VerifyFinal, s, to, 16);
        }
        Kind::VerifyRecover => {
            forward!(real, C_VerifyRecover, s, from, 16, ptr::null_mut(), &mut len);
        }
    }
}
