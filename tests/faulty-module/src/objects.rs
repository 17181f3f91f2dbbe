//! Objects: made, found, changed and destroyed.

use cryptoki_sys::*;

use crate::call::Call;
use crate::real::{self, Scratch, forward};
use crate::template::Template;
use crate::{extra, handles, ids};

/// Takes down an object that a call made, and gives its handle to the application.
///
/// # Safety
///
/// `to` is null or points to a handle that the real module wrote if `rv` says so.
pub unsafe fn made(call: &Call, rv: CK_RV, to: *mut CK_OBJECT_HANDLE) {
    // SAFETY: null or valid, by the contract of this function.
    if let (CKR_OK, Some(to)) = (rv, unsafe { to.as_mut() }) {
        handles::made(call, *to);
        *to = handles::give(call, *to);
    }
}

/// Makes an object by `work`, with the template as the rules and the choice of its id leave it.
///
/// # Safety
///
/// The pointers are an application's, as the standard asks.
pub unsafe fn make(
    call: &Call,
    (template, count): (*mut CK_ATTRIBUTE, CK_ULONG),
    class: Option<CK_OBJECT_CLASS>,
    to: *mut CK_OBJECT_HANDLE,
    work: impl FnOnce(*mut CK_ATTRIBUTE, CK_ULONG) -> CK_RV,
) -> CK_RV {
    // SAFETY: the application's template.
    let mut template = match unsafe { Template::ruled(call, template, count, class) } {
        Ok(template) => template,
        Err(rv) => return rv,
    };
    let class = class.or(template.class());
    if let Some(rv) = ids::choose(call, class, &mut [&mut template]) {
        return rv;
    }
    let (raw, count) = template.raw();
    let rv = work(raw, count);
    // SAFETY: the application's pointer.
    unsafe { made(call, rv, to) };
    rv
}

/// C_CreateObject.
///
/// # Safety
///
/// The arguments are an application's, as the standard asks.
pub unsafe fn create(
    call: &Call,
    session: CK_SESSION_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    to: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    let work = |raw, count| forward!(call.real, C_CreateObject, session, raw, count, to);
    // SAFETY: the application's pointers.
    unsafe { make(call, (template, count), None, to, work) }
}

/// C_CopyObject.
///
/// # Safety
///
/// The arguments are an application's, as the standard asks.
pub unsafe fn copy(
    call: &Call,
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    to: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    let object = handles::real(call, object);
    let work = |raw, count| forward!(call.real, C_CopyObject, session, object, raw, count, to);
    // SAFETY: the application's pointers.
    let rv = unsafe { change(call, template, count, work) };
    // SAFETY: the application's pointer.
    unsafe { made(call, rv, to) };
    rv
}

/// C_SetAttributeValue.
///
/// # Safety
///
/// The arguments are an application's, as the standard asks.
pub unsafe fn set_attributes(
    call: &Call,
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> CK_RV {
    let object = handles::real(call, object);
    let work = |raw, count| forward!(call.real, C_SetAttributeValue, session, object, raw, count);
    // SAFETY: the application's template.
    unsafe { change(call, template, count, work) }
}

/// Does `work` with a template that changes the object which the call is about.
///
/// # Safety
///
/// The template is an application's, as the standard asks.
unsafe fn change(
    call: &Call,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    work: impl FnOnce(*mut CK_ATTRIBUTE, CK_ULONG) -> CK_RV,
) -> CK_RV {
    // SAFETY: the application's template.
    match unsafe { Template::ruled(call, template, count, call.class()) } {
        Ok(mut template) => {
            let (raw, count) = template.raw();
            work(raw, count)
        }
        Err(rv) => rv,
    }
}

/// C_GetObjectSize.
///
/// # Safety
///
/// The arguments are an application's, as the standard asks.
pub unsafe fn get_size(call: &Call, session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE, to: *mut CK_ULONG) -> CK_RV {
    forward!(call.real, C_GetObjectSize, session, handles::real(call, object), to)
}

/// C_DestroyObject.
///
/// # Safety
///
/// The arguments are an application's, as the standard asks.
pub unsafe fn destroy(call: &Call, session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE) -> CK_RV {
    let object = handles::real(call, object);
    let objects = &call.control.settings.objects;
    let others = match call.class() {
        Some(CKO_PRIVATE_KEY) if objects.destroy_pair => partners(call, session, object, CKO_PUBLIC_KEY),
        Some(CKO_PUBLIC_KEY) if objects.destroy_private => partners(call, session, object, CKO_PRIVATE_KEY),
        _ => Vec::new(),
    };
    let rv = forward!(call.real, C_DestroyObject, session, object);
    if rv == CKR_OK {
        for other in others {
            forward!(call.real, C_DestroyObject, session, other);
        }
    }
    rv
}

/// The objects of a class that have the same CKA_ID.
pub fn partners(
    call: &Call,
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    class: CK_OBJECT_CLASS,
) -> Vec<CK_OBJECT_HANDLE> {
    let id = real::attribute(call.real, session, object, CKA_ID);
    let scratch = call.slot.and_then(|slot| Scratch::open(call.real, slot));
    id.zip(scratch).map(|(id, scratch)| scratch.find(class, &id)).unwrap_or_default()
}

/// C_FindObjectsInit.
///
/// # Safety
///
/// The arguments are an application's, as the standard asks.
pub unsafe fn find_init(
    call: &Call,
    session: CK_SESSION_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> CK_RV {
    // SAFETY: the application's template.
    let mut template = match unsafe { Template::ruled(call, template, count, None) } {
        Ok(template) => template,
        Err(rv) => return rv,
    };
    extra::begin(call, session, &template);
    let (raw, count) = template.raw();
    forward!(call.real, C_FindObjectsInit, session, raw, count)
}

/// C_FindObjects.
///
/// # Safety
///
/// The arguments are an application's, as the standard asks.
pub unsafe fn find(
    call: &Call,
    session: CK_SESSION_HANDLE,
    to: *mut CK_OBJECT_HANDLE,
    max: CK_ULONG,
    count: *mut CK_ULONG,
) -> CK_RV {
    if to.is_null() || count.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    let batch = call.control.settings.objects.find_batch;
    let max = batch.map_or(max, |batch| max.min(batch as CK_ULONG));
    loop {
        let rv = forward!(call.real, C_FindObjects, session, to, max, count);
        if rv != CKR_OK {
            return rv;
        }
        // SAFETY: not null, and the application's.
        let count = unsafe { &mut *count };
        let found = *count as usize;
        // SAFETY: the application has room for that many handles, the first of which the real module has just written.
        let room = unsafe { std::slice::from_raw_parts_mut(to, max as usize) };
        let mut shown = 0;
        for at in 0..found {
            if is_shown(call, session, room[at]) {
                room[shown] = handles::give(call, room[at]);
                shown += 1;
            }
        }
        if found < room.len() {
            shown += extra::next(call, session, &mut room[shown..]);
        }
        *count = shown as CK_ULONG;
        // Nothing of what was found may be shown; nothing at all would mean the end of the search.
        if shown > 0 || found == 0 {
            return CKR_OK;
        }
    }
}

fn is_shown(call: &Call, session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE) -> bool {
    let hide = &call.control.settings.objects.hide;
    if handles::is_too_new(call, object) {
        return false;
    }
    if hide.is_empty() {
        return true;
    }
    let class = real::ulong_attribute(call.real, session, object, CKA_CLASS);
    !hide.iter().any(|hidden| Some(hidden.0) == class)
}
