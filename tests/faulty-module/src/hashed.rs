//! Mechanisms that hash and sign, for a real module that has only the one that signs: the hash is made here.

use cryptoki_sys::*;

use crate::call::Call;
use crate::names;
use crate::real::{Scratch, forward};

/// What the mechanism is made of, if it is one that the control file adds: the digest and the bare mechanism.
pub fn parts(call: &Call, kind: CK_MECHANISM_TYPE) -> Option<(CK_MECHANISM_TYPE, CK_MECHANISM_TYPE)> {
    let added: &[names::Mechanism] = &call.control.settings.mechanisms.hashed;
    if !added.iter().any(|added| added.0 == kind) {
        return None;
    }
    let digest = match kind {
        CKM_ECDSA_SHA1 => CKM_SHA_1,
        CKM_ECDSA_SHA224 => CKM_SHA224,
        CKM_ECDSA_SHA256 => CKM_SHA256,
        CKM_ECDSA_SHA384 => CKM_SHA384,
        CKM_ECDSA_SHA512 => CKM_SHA512,
        _ => return None,
    };
    Some((digest, CKM_ECDSA))
}

/// The mechanism that the real module is to begin with: the bare one, put into `room`, or the application's own.
///
/// # Safety
///
/// `mechanism` is null or an application's, as the standard asks.
pub unsafe fn bare(call: &Call, mechanism: *mut CK_MECHANISM, room: &mut CK_MECHANISM) -> *mut CK_MECHANISM {
    // SAFETY: by the contract of this function.
    match unsafe { mechanism.as_ref() }.and_then(|asked| parts(call, asked.mechanism)) {
        Some((_, bare)) => {
            room.mechanism = bare;
            room
        }
        None => mechanism,
    }
}

/// The hash of what is to be signed or verified; `None` if the operation's mechanism is not one of these, else what made it
/// fail.
fn digest(call: &Call, data: *mut CK_BYTE, len: CK_ULONG) -> Option<Result<Vec<u8>, CK_RV>> {
    let (mut mechanism, _) = parts(call, call.mechanism?).map(|(digest, bare)| (of_kind(digest), bare))?;
    let Some(scratch) = call.slot.and_then(|slot| Scratch::open(call.real, slot)) else {
        return Some(Err(CKR_GENERAL_ERROR));
    };
    let mut hash = vec![0; 64];
    let mut room = hash.len() as CK_ULONG;
    let begun = forward!(call.real, C_DigestInit, scratch.session, &mut mechanism);
    if begun != CKR_OK {
        return Some(Err(begun));
    }
    let rv = forward!(call.real, C_Digest, scratch.session, data, len, hash.as_mut_ptr(), &mut room);
    hash.truncate(room as usize);
    Some(if rv == CKR_OK { Ok(hash) } else { Err(rv) })
}

pub fn of_kind(mechanism: CK_MECHANISM_TYPE) -> CK_MECHANISM {
    CK_MECHANISM { mechanism, pParameter: std::ptr::null_mut(), ulParameterLen: 0 }
}

/// C_Sign.
///
/// # Safety
///
/// The arguments are an application's, as the standard asks.
pub unsafe fn sign(
    call: &Call,
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    len: CK_ULONG,
    to: *mut CK_BYTE,
    room: *mut CK_ULONG,
) -> CK_RV {
    match digest(call, data, len) {
        None => forward!(call.real, C_Sign, session, data, len, to, room),
        Some(Ok(mut hash)) => {
            forward!(call.real, C_Sign, session, hash.as_mut_ptr(), hash.len() as CK_ULONG, to, room)
        }
        Some(Err(rv)) => rv,
    }
}

/// C_Verify.
///
/// # Safety
///
/// The arguments are an application's, as the standard asks.
pub unsafe fn verify(
    call: &Call,
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    len: CK_ULONG,
    signature: *mut CK_BYTE,
    signature_len: CK_ULONG,
) -> CK_RV {
    match digest(call, data, len) {
        None => forward!(call.real, C_Verify, session, data, len, signature, signature_len),
        Some(Ok(mut hash)) => {
            let len = hash.len() as CK_ULONG;
            forward!(call.real, C_Verify, session, hash.as_mut_ptr(), len, signature, signature_len)
        }
        Some(Err(rv)) => rv,
    }
}
