//! A PKCS#11 module that forwards to another one and misbehaves as a control file says. README.md is its manual.
//!
//! One call goes through `call::enter`: the control file is looked at, the call counted, the faults that come before it
//! played, then the work done (passed on, or by one of the files below), then the faults that come after it played.

mod abi;
mod attributes;
mod call;
mod control;
mod counts;
mod events;
mod extra;
mod faults;
mod handles;
mod hashed;
mod ids;
mod info;
mod keys;
mod login;
mod mechanisms;
mod names;
mod objects;
mod operations;
mod public_key;
mod real;
mod sessions;
mod settings;
mod slots;
mod tables;
mod template;

use cryptoki_sys::{CK_FLAGS, CK_FUNCTION_LIST, CK_INTERFACE, CK_RV, CK_ULONG, CK_UTF8CHAR, CK_VERSION};

/// The symbol that an application looks up.
///
/// # Safety
///
/// `to` is null or points to room for one pointer.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub unsafe extern "C" fn C_GetFunctionList(to: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    // SAFETY: the argument is handed on as it came.
    unsafe { abi::C_GetFunctionList(to) }
}

/// The symbol that an application of 3.0 looks up first.
///
/// # Safety
///
/// The arguments are as the standard asks.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub unsafe extern "C" fn C_GetInterface(
    name: *mut CK_UTF8CHAR,
    version: *mut CK_VERSION,
    to: *mut *mut CK_INTERFACE,
    _flags: CK_FLAGS,
) -> CK_RV {
    // SAFETY: the arguments are handed on as they came.
    unsafe { info::get_interface(name, version, to) }
}

/// What an application of 3.0 asks for all interfaces.
///
/// # Safety
///
/// The arguments are as the standard asks.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub unsafe extern "C" fn C_GetInterfaceList(to: *mut CK_INTERFACE, count: *mut CK_ULONG) -> CK_RV {
    // SAFETY: the arguments are handed on as they came.
    unsafe { info::get_interface_list(to, count) }
}
