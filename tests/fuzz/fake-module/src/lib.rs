//! A PKCS#11 module that answers from memory: one token, called "fake", of PIN 1234, with a few keys that are none. A signature
//! has the right length and no other virtue.
//!
//! Every C_Initialize begins with the same keys. The object of a canned key that is destroyed is back at once under another
//! handle, and the oldest of the key pairs that were generated makes way for the newest, so that the module neither grows nor
//! changes much while it is fuzzed. The symbol `fake_module_script`, if called, makes its answers bad ones: see `script`.

#[macro_use]
mod ffi;
mod calls;
mod keys;
mod script;
mod store;

use std::sync::OnceLock;

use cryptoki_sys::{CK_FUNCTION_LIST, CK_RV, CKR_ARGUMENTS_BAD, CKR_OK};

/// The one function that a module has to export.
///
/// # Safety
/// `list` points to a place for a pointer, or is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    static LIST: OnceLock<Box<CK_FUNCTION_LIST>> = OnceLock::new();
    if list.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    let ours: *const CK_FUNCTION_LIST = &**LIST.get_or_init(|| Box::new(calls::list()));
    // SAFETY: the caller vouches for the pointer. Callers only read the list, in spite of its type.
    unsafe { *list = ours.cast_mut() };
    CKR_OK
}

/// Gives the module the bytes that decide how it misbehaves from now on, until they are used up or C_Initialize is called.
///
/// # Safety
/// `script` points to `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fake_module_script(script: *const u8, len: usize) {
    // SAFETY: the caller vouches for pointer and length.
    let bytes = unsafe { ffi::bytes(script, len) };
    store::lock().script = script::Script::new(bytes);
}
