//! Which mechanisms a token has.

use cryptoki_sys::*;

use crate::abi::Function;
use crate::call::Call;
use crate::real::forward;
use crate::settings::Mechanisms;
use crate::slots::give;
use crate::{hashed, names};

/// Whether the control file takes the mechanism away.
fn is_refused(mechanisms: &Mechanisms, kind: CK_MECHANISM_TYPE) -> bool {
    let among = |list: &[names::Mechanism]| list.iter().any(|mechanism| mechanism.0 == kind);
    among(&mechanisms.refuse) || mechanisms.only.as_ref().is_some_and(|only| !among(only))
}

fn is_unlisted(mechanisms: &Mechanisms, kind: CK_MECHANISM_TYPE) -> bool {
    is_refused(mechanisms, kind) || mechanisms.unlisted.iter().any(|mechanism| mechanism.0 == kind)
}

/// What a call that names a mechanism answers if the token does not have it.
pub fn refusal(call: &Call) -> Option<CK_RV> {
    let mechanisms = &call.control.settings.mechanisms;
    let refused = is_refused(mechanisms, call.subject.kind?) && call.function != Function::C_GetMechanismInfo;
    refused.then(|| mechanisms.refuse_rv.map_or(CKR_MECHANISM_INVALID, |rv| rv.0))
}

/// C_GetMechanismList.
///
/// # Safety
///
/// The arguments are an application's, as the standard asks.
pub unsafe fn list(call: &Call, slot: CK_SLOT_ID, to: *mut CK_MECHANISM_TYPE, count: *mut CK_ULONG) -> CK_RV {
    let mut kinds = vec![0; 1024];
    let mut found = kinds.len() as CK_ULONG;
    let rv = forward!(call.real, C_GetMechanismList, slot, kinds.as_mut_ptr(), &mut found);
    if rv != CKR_OK {
        return rv;
    }
    kinds.truncate(found as usize);
    let mechanisms = &call.control.settings.mechanisms;
    let added = mechanisms.hashed.iter().map(|added| added.0).filter(|added| !kinds.contains(added));
    kinds.extend(added.collect::<Vec<_>>());
    kinds.retain(|kind| !is_unlisted(mechanisms, *kind));
    // SAFETY: the pointers are the application's.
    unsafe { give(&kinds, to, count) }
}

/// C_GetMechanismInfo.
///
/// # Safety
///
/// The arguments are an application's, as the standard asks.
pub unsafe fn info(call: &Call, slot: CK_SLOT_ID, kind: CK_MECHANISM_TYPE, to: *mut CK_MECHANISM_INFO) -> CK_RV {
    let mechanisms = &call.control.settings.mechanisms;
    if is_unlisted(mechanisms, kind) {
        return CKR_MECHANISM_INVALID;
    }
    let bare = hashed::parts(call, kind).map_or(kind, |(_, bare)| bare);
    let rv = forward!(call.real, C_GetMechanismInfo, slot, bare, to);
    // SAFETY: null, or a pointer to what the real module has written.
    if let (CKR_OK, Some(info)) = (rv, unsafe { to.as_mut() }) {
        for said in mechanisms.info.iter().filter(|said| said.mechanism.0 == kind) {
            info.ulMinKeySize = said.min_key.map_or(info.ulMinKeySize, |size| size as CK_ULONG);
            info.ulMaxKeySize = said.max_key.map_or(info.ulMaxKeySize, |size| size as CK_ULONG);
            info.flags = (info.flags | names::flags(&said.set_flags)) & !names::flags(&said.clear_flags);
        }
    }
    rv
}
