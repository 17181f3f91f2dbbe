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
mod faults;
mod handles;
mod ids;
mod info;
mod keys;
mod login;
mod mechanisms;
mod names;
mod objects;
mod operations;
mod real;
mod sessions;
mod settings;
mod slots;
mod tables;
mod template;

use cryptoki_sys::{CK_FUNCTION_LIST, CK_RV};

/// The one symbol that an application looks up.
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
