//! The module behind this one, and questions that this one asks it on its own account.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::ptr;
use std::sync::{LazyLock, OnceLock};

use cryptoki_sys::*;
use libloading::Library;

/// Calls a function of the real module, which may lack it.
macro_rules! forward {
    ($real:expr, $function:ident $(, $argument:expr)* $(,)?) => {
        match $real.$function {
            // SAFETY: pointers among the arguments are either those that the application gave this module for the
            // same function, which vouches for them, or point to values that outlive the call.
            Some(function) => unsafe { function($($argument),*) },
            None => cryptoki_sys::CKR_FUNCTION_NOT_SUPPORTED,
        }
    };
}
pub(crate) use forward;

/// Where SoftHSM is on Debian.
const DEFAULT_MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// The functions of the module that `FAULTY_MODULE` names; `None`, and a line on stderr, if it cannot be loaded.
pub fn module() -> Option<&'static CK_FUNCTION_LIST> {
    static MODULE: OnceLock<Option<&'static CK_FUNCTION_LIST>> = OnceLock::new();
    *MODULE.get_or_init(|| {
        let path = path();
        let list = load(path.as_os_str());
        if let Err(error) = &list {
            eprintln!("faulty-module: {}: {error}", path.display());
        }
        list.ok()
    })
}

fn path() -> PathBuf {
    std::env::var_os("FAULTY_MODULE").map_or_else(|| PathBuf::from(DEFAULT_MODULE), PathBuf::from)
}

/// Whether the real module locks up for good where a login meets another call: kryoptic 1.5.4 takes the locks of token and session in
/// one order for C_Login and in the other for C_SignInit and C_FindObjectsInit.
pub fn logs_in_alone() -> bool {
    static ALONE: LazyLock<bool> = LazyLock::new(|| path().to_string_lossy().contains("kryoptic"));
    *ALONE
}

fn load(path: &OsStr) -> Result<&'static CK_FUNCTION_LIST, String> {
    // SAFETY: the operator of the test names a PKCS#11 module, whose initialisers are as trusted as any library's.
    let library = unsafe { Library::new(path) }.map_err(|error| error.to_string())?;
    // Unloading a module that has threads of its own would crash at exit, so it stays for good.
    let library: &'static Library = Box::leak(Box::new(library));
    // SAFETY: the type is the one that the standard gives this symbol.
    let function: CK_C_GetFunctionList =
        unsafe { library.get(b"C_GetFunctionList\0") }.map(|symbol| *symbol).map_err(|error| error.to_string())?;
    let mut list: *mut CK_FUNCTION_LIST = ptr::null_mut();
    let function = function.ok_or("C_GetFunctionList is null")?;
    // SAFETY: the function writes one pointer to the place it is given.
    let rv = unsafe { function(&mut list) };
    if rv != CKR_OK {
        return Err(format!("C_GetFunctionList: {rv:#x}"));
    }
    // SAFETY: the list belongs to the module, which is never unloaded, and nobody changes it.
    unsafe { list.as_ref() }.ok_or_else(|| "C_GetFunctionList gave no list".to_string())
}

/// One attribute of an object, or `None` if the module does not give it.
pub fn attribute(
    real: &CK_FUNCTION_LIST,
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    kind: CK_ATTRIBUTE_TYPE,
) -> Option<Vec<u8>> {
    let mut asked = CK_ATTRIBUTE { type_: kind, pValue: ptr::null_mut(), ulValueLen: 0 };
    let rv = forward!(real, C_GetAttributeValue, session, object, &mut asked, 1);
    if rv != CKR_OK || asked.ulValueLen == CK_UNAVAILABLE_INFORMATION {
        return None;
    }
    let mut value = vec![0; asked.ulValueLen as usize];
    asked.pValue = value.as_mut_ptr().cast();
    let rv = forward!(real, C_GetAttributeValue, session, object, &mut asked, 1);
    value.truncate(asked.ulValueLen as usize);
    (rv == CKR_OK).then_some(value)
}

/// An attribute that is a CK_ULONG.
pub fn ulong_attribute(
    real: &CK_FUNCTION_LIST,
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    kind: CK_ATTRIBUTE_TYPE,
) -> Option<CK_ULONG> {
    attribute(real, session, object, kind)?.try_into().ok().map(CK_ULONG::from_ne_bytes)
}

/// A session of this module's own, closed when dropped, so that a search does not disturb the caller's.
pub struct Scratch {
    real: &'static CK_FUNCTION_LIST,
    pub session: CK_SESSION_HANDLE,
}

impl Scratch {
    pub fn open(real: &'static CK_FUNCTION_LIST, slot: CK_SLOT_ID) -> Option<Scratch> {
        let mut session = 0;
        let flags = CKF_SERIAL_SESSION | CKF_RW_SESSION;
        let rv = forward!(real, C_OpenSession, slot, flags, ptr::null_mut(), None, &mut session);
        (rv == CKR_OK).then_some(Scratch { real, session })
    }

    /// The objects of a class with that CKA_ID.
    pub fn find(&self, class: CK_OBJECT_CLASS, id: &[u8]) -> Vec<CK_OBJECT_HANDLE> {
        let class = class.to_ne_bytes();
        let attribute = |type_, value: &[u8]| CK_ATTRIBUTE {
            type_,
            pValue: value.as_ptr().cast_mut().cast(),
            ulValueLen: value.len() as CK_ULONG,
        };
        let mut template = [attribute(CKA_CLASS, &class), attribute(CKA_ID, id)];
        let mut found = vec![0; 16];
        let mut count = 0;
        if forward!(self.real, C_FindObjectsInit, self.session, template.as_mut_ptr(), 2) == CKR_OK {
            forward!(self.real, C_FindObjects, self.session, found.as_mut_ptr(), 16, &mut count);
            forward!(self.real, C_FindObjectsFinal, self.session);
        }
        found.truncate(count as usize);
        found
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        forward!(self.real, C_CloseSession, self.session);
    }
}
