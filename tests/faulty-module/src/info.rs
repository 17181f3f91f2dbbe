//! The library itself: how it is initialised, what it says of itself, and its function list.

use std::ffi::{CStr, c_void};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use cryptoki_sys::*;

use crate::abi;
use crate::call::{self, Call};
use crate::control;
use crate::events;
use crate::real::{self, forward};
use crate::settings::Module;
use crate::slots::fill;

/// C_Initialize.
///
/// # Safety
///
/// The argument is an application's, as the standard asks.
pub unsafe fn initialize(call: &Call, args: *mut c_void) -> CK_RV {
    let module = &call.control.settings.module;
    // SAFETY: null or a CK_C_INITIALIZE_ARGS, as the standard asks.
    let flags = unsafe { args.cast::<CK_C_INITIALIZE_ARGS>().as_ref() }.map_or(0, |args| args.flags);
    if let Some(rv) = module.os_locking.filter(|_| flags & CKF_OS_LOCKING_OK != 0) {
        return rv.0;
    }
    if let Some(line) = &module.stderr {
        eprintln!("{line}");
    }
    if module.needs_env.iter().any(|name| std::env::var_os(name).is_none()) {
        return CKR_GENERAL_ERROR;
    }
    // The real one is called by several threads all the same, and may refuse that without locks: p11-kit's client does.
    let mut locking = CK_C_INITIALIZE_ARGS { flags: CKF_OS_LOCKING_OK, ..CK_C_INITIALIZE_ARGS::default() };
    let args = if module.os_locking.is_some() { ptr::from_mut(&mut locking).cast() } else { args };
    match forward!(call.real, C_Initialize, args) {
        CKR_OK => {
            events::initialized(&call.control);
            CKR_OK
        }
        CKR_CRYPTOKI_ALREADY_INITIALIZED => module.initialize_again.map_or(CKR_CRYPTOKI_ALREADY_INITIALIZED, |rv| rv.0),
        rv => rv,
    }
}

/// C_Finalize.
///
/// # Safety
///
/// The argument is an application's, as the standard asks.
pub unsafe fn finalize(call: &Call, reserved: *mut c_void) -> CK_RV {
    let rv = forward!(call.real, C_Finalize, reserved);
    if rv == CKR_OK {
        events::finalized();
    }
    rv
}

/// C_GetInfo.
///
/// # Safety
///
/// The argument is an application's, as the standard asks.
pub unsafe fn get_info(call: &Call, to: *mut CK_INFO) -> CK_RV {
    let rv = forward!(call.real, C_GetInfo, to);
    // SAFETY: null, or a pointer to what the real module has written.
    if let (CKR_OK, Some(info)) = (rv, unsafe { to.as_mut() }) {
        let module = &call.control.settings.module;
        if let Some(version) = module.cryptoki_version.or(module.interface).or(module.list_version) {
            info.cryptokiVersion = version.0;
        }
        if let Some(version) = module.library_version {
            info.libraryVersion = version.0;
        }
        fill(&mut info.manufacturerID, module.manufacturer.as_deref());
        fill(&mut info.libraryDescription, module.description.as_deref());
    }
    rv
}

/// C_GetFunctionList.
///
/// # Safety
///
/// `to` is null or points to room for one pointer.
pub unsafe fn get_function_list(call: &Call, to: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    // SAFETY: null or valid, by the contract of this function.
    let Some(to) = (unsafe { to.as_mut() }) else {
        return CKR_ARGUMENTS_BAD;
    };
    let module = &call.control.settings.module;
    let version = module.list_version.map_or(CK_VERSION { major: 2, minor: 40 }, |version| version.0);
    // An application keeps the list for as long as the library is loaded, which is for good.
    let new = || Box::leak(Box::new(abi::list(version, |function| !module.absent.contains(function))));
    *to = if module.list_per_call { new() } else { LIST.get_or_init(|| AtomicPtr::new(new())).load(Ordering::Relaxed) };
    CKR_OK
}

/// The one list that there is, as it was when it was first asked for.
static LIST: OnceLock<AtomicPtr<CK_FUNCTION_LIST>> = OnceLock::new();

/// The name of the standard's own interface.
const PKCS11: &CStr = c"PKCS 11";

/// C_GetInterface, which modules older than 3.0 do not have: for those it gives the function list that they have.
///
/// # Safety
///
/// The pointers are an application's, as the standard asks.
pub unsafe fn get_interface(name: *const CK_UTF8CHAR, version: *const CK_VERSION, to: *mut *mut CK_INTERFACE) -> CK_RV {
    // SAFETY: null, or room for a pointer.
    let (Some(to), Some(real)) = (unsafe { to.as_mut() }, real::module()) else {
        return CKR_ARGUMENTS_BAD;
    };
    call::guarded(|| {
        let (interface, own) = interface(&control::current(real).settings.module);
        // SAFETY: null, or a version.
        let wanted = unsafe { version.as_ref() };
        let other = wanted.is_some_and(|wanted| (wanted.major, wanted.minor) != (own.major, own.minor));
        // SAFETY: null, or a name that ends in a zero.
        if other || !name.is_null() && unsafe { CStr::from_ptr(name.cast()) } != PKCS11 {
            return CKR_FUNCTION_FAILED;
        }
        // An application keeps it for as long as the library is loaded, which is for good.
        *to = Box::leak(Box::new(interface));
        CKR_OK
    })
}

/// C_GetInterfaceList: the one that there is.
///
/// # Safety
///
/// The pointers are an application's, as the standard asks.
pub unsafe fn get_interface_list(to: *mut CK_INTERFACE, count: *mut CK_ULONG) -> CK_RV {
    // SAFETY: null, or a count.
    let (Some(count), Some(real)) = (unsafe { count.as_mut() }, real::module()) else {
        return CKR_ARGUMENTS_BAD;
    };
    call::guarded(|| {
        let room = std::mem::replace(count, 1);
        // SAFETY: null, or room for `room` interfaces.
        match unsafe { to.as_mut() } {
            None => CKR_OK,
            Some(_) if room == 0 => CKR_BUFFER_TOO_SMALL,
            Some(to) => {
                *to = interface(&control::current(real).settings.module).0;
                CKR_OK
            }
        }
    })
}

fn interface(module: &Module) -> (CK_INTERFACE, CK_VERSION) {
    let present = |function| !module.absent.contains(function);
    let version =
        module.interface.or(module.list_version).map_or(CK_VERSION { major: 2, minor: 40 }, |version| version.0);
    let list = Box::leak(Box::new(abi::long_list(version, present)));
    let name = PKCS11.as_ptr().cast_mut().cast();
    (CK_INTERFACE { pInterfaceName: name, pFunctionList: std::ptr::from_mut(list).cast(), flags: 0 }, version)
}
