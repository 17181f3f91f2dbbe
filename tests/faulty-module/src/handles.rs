//! Object handles as the application has them: the real ones, or small numbers that are dealt out anew whenever the
//! sessions or the login are lost, so that an old one means another object.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use cryptoki_sys::*;

use crate::call::{Call, lock};

#[derive(Default)]
struct Handles {
    real: Vec<CK_OBJECT_HANDLE>,
    /// When objects were made, for those that cannot be found at once.
    made: HashMap<CK_OBJECT_HANDLE, Instant>,
}

static HANDLES: LazyLock<Mutex<Handles>> = LazyLock::new(Mutex::default);

/// The real module's handle for one that the application has.
pub fn real(call: &Call, given: CK_OBJECT_HANDLE) -> CK_OBJECT_HANDLE {
    let given = given.wrapping_sub(offset(call));
    if !call.control.settings.objects.number_handles {
        return given;
    }
    let at = usize::try_from(given).unwrap_or_default().wrapping_sub(1);
    lock(&HANDLES).real.get(at).copied().unwrap_or(CK_INVALID_HANDLE)
}

/// The application's handle for one of the real module's.
pub fn give(call: &Call, real: CK_OBJECT_HANDLE) -> CK_OBJECT_HANDLE {
    if !call.control.settings.objects.number_handles {
        return real.wrapping_add(offset(call));
    }
    let mut handles = lock(&HANDLES);
    let at = handles.real.iter().position(|known| *known == real).unwrap_or_else(|| {
        handles.real.push(real);
        handles.real.len() - 1
    });
    at as CK_OBJECT_HANDLE + 1 + offset(call)
}

/// What handles of this session are greater by: one from another session is that of another object, or of none.
fn offset(call: &Call) -> CK_OBJECT_HANDLE {
    if !call.control.settings.objects.handles_by_session {
        return 0;
    }
    call.subject.session.unwrap_or_default()
}

/// Remembers when an object was made, where that matters.
pub fn made(call: &Call, real: CK_OBJECT_HANDLE) {
    if call.control.settings.objects.found_after_ms.is_some() {
        lock(&HANDLES).made.insert(real, Instant::now());
    }
}

/// Whether the object is too new to be found.
pub fn is_too_new(call: &Call, real: CK_OBJECT_HANDLE) -> bool {
    let Some(after) = call.control.settings.objects.found_after_ms else {
        return false;
    };
    let made = lock(&HANDLES).made.get(&real).copied();
    made.is_some_and(|made| made.elapsed() < Duration::from_millis(after))
}

/// Deals the numbers out anew.
pub fn deal_anew() {
    lock(&HANDLES).real.clear();
}

/// Forgets everything: the module was finalised.
pub fn forget() {
    *lock(&HANDLES) = Handles::default();
}
