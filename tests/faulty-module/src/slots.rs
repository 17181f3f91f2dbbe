//! Slots and tokens: which are there, and what they say of themselves.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use cryptoki_sys::*;

use crate::call::{Call, lock};
use crate::events;
use crate::login;
use crate::names;
use crate::real::forward;
use crate::settings::Away;

/// The true labels of the tokens, by slot.
static LABELS: LazyLock<Mutex<HashMap<CK_SLOT_ID, String>>> = LazyLock::new(Mutex::default);

/// The label of the token in a slot, as the real module has it.
pub fn label(real: &CK_FUNCTION_LIST, slot: CK_SLOT_ID) -> Option<String> {
    let mut labels = lock(&LABELS);
    if let Some(label) = labels.get(&slot) {
        return Some(label.clone());
    }
    let mut info = CK_TOKEN_INFO::default();
    if forward!(real, C_GetTokenInfo, slot, &mut info) != CKR_OK {
        return None;
    }
    let label = String::from_utf8_lossy(&info.label).trim_end_matches([' ', '\0']).to_string();
    labels.insert(slot, label.clone());
    Some(label)
}

/// Forgets which token is where.
pub fn forget() {
    lock(&LABELS).clear();
}

/// Gives a list in the way of the standard: its length, or its items if there is room.
///
/// # Safety
///
/// `count` is null or points to a number; `to` is null or points to room for that many items.
pub unsafe fn give(items: &[CK_ULONG], to: *mut CK_ULONG, count: *mut CK_ULONG) -> CK_RV {
    // SAFETY: null or valid, by the contract of this function.
    let Some(count) = (unsafe { count.as_mut() }) else {
        return CKR_ARGUMENTS_BAD;
    };
    let room = std::mem::replace(count, items.len() as CK_ULONG);
    if to.is_null() {
        return CKR_OK;
    }
    if room < items.len() as CK_ULONG {
        return CKR_BUFFER_TOO_SMALL;
    }
    // SAFETY: there is room for `room` items, which are enough.
    unsafe { std::slice::from_raw_parts_mut(to, items.len()) }.copy_from_slice(items);
    CKR_OK
}

/// C_GetSlotList.
///
/// # Safety
///
/// The arguments are an application's, as the standard asks.
pub unsafe fn get_slot_list(call: &Call, present: CK_BBOOL, to: *mut CK_SLOT_ID, count: *mut CK_ULONG) -> CK_RV {
    let mut slots = vec![0; 256];
    let mut found = slots.len() as CK_ULONG;
    let rv = forward!(call.real, C_GetSlotList, present, slots.as_mut_ptr(), &mut found);
    if rv != CKR_OK {
        return rv;
    }
    slots.truncate(found as usize);
    if present == CK_TRUE {
        slots.retain(|slot| !is_absent(call, *slot));
    }
    // SAFETY: the pointers are the application's.
    unsafe { give(&slots, to, count) }
}

/// Whether the token looks as if it had been pulled out.
fn is_absent(call: &Call, slot: CK_SLOT_ID) -> bool {
    let label = label(call.real, slot);
    let token = call.control.token(label.as_deref());
    token.away_shows == Away::Absent && events::is_gone(&call.control, label.as_deref())
}

/// C_GetSlotInfo.
///
/// # Safety
///
/// The arguments are an application's, as the standard asks.
pub unsafe fn get_slot_info(call: &Call, slot: CK_SLOT_ID, to: *mut CK_SLOT_INFO) -> CK_RV {
    let rv = forward!(call.real, C_GetSlotInfo, slot, to);
    // SAFETY: null, or a pointer to what the real module has written.
    if let (CKR_OK, Some(info)) = (rv, unsafe { to.as_mut() }) {
        if is_absent(call, slot) || call.token().slot_says_empty {
            info.flags = info.flags & !CKF_TOKEN_PRESENT | CKF_REMOVABLE_DEVICE;
        }
    }
    rv
}

/// C_GetTokenInfo.
///
/// # Safety
///
/// The arguments are an application's, as the standard asks.
pub unsafe fn get_token_info(call: &Call, slot: CK_SLOT_ID, to: *mut CK_TOKEN_INFO) -> CK_RV {
    let rv = forward!(call.real, C_GetTokenInfo, slot, to);
    // SAFETY: null, or a pointer to what the real module has written.
    let (CKR_OK, Some(info)) = (rv, (unsafe { to.as_mut() })) else {
        return rv;
    };
    let token = call.token();
    // A label and a serial number belong to a token, not to the empty one that SoftHSM always has besides.
    if info.flags & CKF_TOKEN_INITIALIZED != 0 {
        fill(&mut info.label, token.label.as_deref());
        fill(&mut info.serialNumber, token.serial.as_deref());
    }
    fill(&mut info.manufacturerID, token.manufacturer.as_deref());
    fill(&mut info.model, token.model.as_deref());
    fill(&mut info.utcTime, token.utc_time.as_deref());

    let limit = |limit: Option<u64>, said: Option<i64>, own: CK_ULONG| {
        said.map(|said| said as CK_ULONG).or(limit.map(|limit| limit as CK_ULONG)).unwrap_or(own)
    };
    info.ulMaxSessionCount = limit(token.max_sessions, token.says_max_sessions, info.ulMaxSessionCount);
    let rw = token.max_rw_sessions.or(token.max_sessions);
    info.ulMaxRwSessionCount = limit(rw, token.says_max_rw_sessions, info.ulMaxRwSessionCount);
    info.ulSessionCount = limit(None, token.says_sessions, info.ulSessionCount);
    info.ulFreePublicMemory = limit(None, token.free_public_memory, info.ulFreePublicMemory);
    info.ulFreePrivateMemory = limit(None, token.free_private_memory, info.ulFreePrivateMemory);

    if let Some(tries) = token.pin_tries {
        info.flags = info.flags & !login::COUNT_FLAGS | login::count_flags(slot, tries);
    }
    info.flags = (info.flags | names::flags(&token.set_flags)) & !names::flags(&token.clear_flags);
    rv
}

/// Writes a text, cut or padded with blanks as the field needs.
pub fn fill(field: &mut [u8], text: Option<&str>) {
    if let Some(text) = text {
        let len = text.len().min(field.len());
        field.fill(b' ');
        field[..len].copy_from_slice(&text.as_bytes()[..len]);
    }
}

/// C_InitToken.
///
/// # Safety
///
/// The arguments are an application's, as the standard asks.
pub unsafe fn init_token(
    call: &Call,
    slot: CK_SLOT_ID,
    pin: *mut CK_BYTE,
    len: CK_ULONG,
    label: *mut CK_BYTE,
) -> CK_RV {
    let rv = forward!(call.real, C_InitToken, slot, pin, len, label);
    forget();
    rv
}
