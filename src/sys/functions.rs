//! Functions of a loaded PKCS#11 module, called without the binding where that has no call that serves: it asks for the length
//! of every signature first, which costs a remote module a round trip and some get wrong, it cannot sign once a key has been
//! authenticated to, and it does not read a token that tells its time in another form than the standard's.
#![allow(unsafe_code)]

use std::ffi::{CString, c_int, c_uchar, c_ulong, c_void};
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

/// CKR_OK.
pub const CKR_OK: c_ulong = 0;

/// CK_TOKEN_INFO (PKCS#11 2.40, section 3.2), as it lies in memory.
#[repr(C)]
#[derive(Clone, Debug)]
pub struct RawTokenInfo {
    /// Padded with blanks, as are the next three.
    pub label: [c_uchar; 32],
    /// The manufacturer.
    pub manufacturer: [c_uchar; 32],
    /// The model.
    pub model: [c_uchar; 16],
    /// The serial number.
    pub serial: [c_uchar; 16],
    /// CKF_*.
    pub flags: c_ulong,
    /// Most sessions of this program.
    pub max_sessions: c_ulong,
    /// Sessions open now.
    pub sessions: c_ulong,
    /// Most read/write sessions of this program.
    pub max_rw_sessions: c_ulong,
    /// Read/write sessions open now.
    pub rw_sessions: c_ulong,
    /// Bytes of the longest PIN.
    pub max_pin_len: c_ulong,
    /// Bytes of the shortest PIN.
    pub min_pin_len: c_ulong,
    /// Bytes for public objects.
    pub total_public_memory: c_ulong,
    /// Those of them that are free.
    pub free_public_memory: c_ulong,
    /// Bytes for private objects.
    pub total_private_memory: c_ulong,
    /// Those of them that are free.
    pub free_private_memory: c_ulong,
    /// Major and minor.
    pub hardware_version: [c_uchar; 2],
    /// Major and minor.
    pub firmware_version: [c_uchar; 2],
    /// The token's time, where it has a clock.
    pub utc_time: [c_uchar; 16],
}

type GetFunctionList = unsafe extern "C" fn(*mut *const FunctionList) -> c_ulong;
type GetTokenInfo = unsafe extern "C" fn(c_ulong, *mut RawTokenInfo) -> c_ulong;
type Sign = unsafe extern "C" fn(c_ulong, *mut c_uchar, c_ulong, *mut c_uchar, *mut c_ulong) -> c_ulong;

/// The beginning of CK_FUNCTION_LIST, the same in every version since 2.0 (section 3.6), as far as what is called here.
#[repr(C)]
struct FunctionList {
    version: [c_uchar; 2],
    functions: [Option<unsafe extern "C" fn()>; 44],
}

/// Places in the list.
const GET_TOKEN_INFO: usize = 6;
const SIGN: usize = 43;

/// Functions of a loaded module.
pub struct Functions {
    get_token_info: Option<GetTokenInfo>,
    sign: Option<Sign>,
    // Keeps the functions where they are.
    _library: Loaded,
}

impl Functions {
    /// Those of the module at `path`, which has been loaded; `None` where they are not sure to be the ones that the binding calls:
    /// p11-kit makes a module of its own for everyone who asks for the list.
    pub fn of(path: &Path) -> Option<Self> {
        let path = CString::new(path.as_os_str().as_bytes()).ok()?;
        let library = Loaded::find(&path)?;
        // SAFETY: the handle is valid and the name ends in NUL.
        let symbol = unsafe { libc::dlsym(library.0, c"C_GetFunctionList".as_ptr()) };
        if symbol.is_null() {
            return None;
        }
        // SAFETY: by the standard, what has this name is a function of this type.
        let get_list: GetFunctionList = unsafe { mem::transmute::<*mut c_void, GetFunctionList>(symbol) };
        let list = || {
            let mut list = ptr::null();
            // SAFETY: `list` is a valid place for a pointer. The standard lets this function be called at any time.
            let rv = unsafe { get_list(&mut list) };
            (rv == CKR_OK && !list.is_null()).then_some(list)
        };
        let one = list()?;
        if list()? != one {
            return None;
        }
        // SAFETY: by the standard the list stays, and is at least as long as what is read of it if its version is 2 or later.
        let (version, functions) = unsafe { ((*one).version, ptr::addr_of!((*one).functions)) };
        if version < [2, 0] {
            return None;
        }
        // SAFETY: as above.
        let functions = unsafe { functions.read() };
        let at = |place: usize| functions.get(place).copied().flatten();
        Some(Self {
            // SAFETY: by the standard, these are the types of the functions in these places.
            get_token_info: at(GET_TOKEN_INFO)
                .map(|function| unsafe { mem::transmute::<unsafe extern "C" fn(), GetTokenInfo>(function) }),
            // SAFETY: as above.
            sign: at(SIGN).map(|function| unsafe { mem::transmute::<unsafe extern "C" fn(), Sign>(function) }),
            _library: library,
        })
    }

    /// Whether there is C_Sign.
    pub fn has_sign(&self) -> bool {
        self.sign.is_some()
    }

    /// C_GetTokenInfo.
    ///
    /// # Errors
    /// The return value; `None` if there is no such function.
    pub fn token_info(&self, slot: c_ulong) -> Result<RawTokenInfo, Option<c_ulong>> {
        let get_token_info = self.get_token_info.ok_or(None)?;
        // SAFETY: numbers and bytes may all be zero.
        let mut info: RawTokenInfo = unsafe { mem::zeroed() };
        // SAFETY: `info` is a valid place for a CK_TOKEN_INFO.
        match unsafe { get_token_info(slot, &mut info) } {
            CKR_OK => Ok(info),
            rv => Err(Some(rv)),
        }
    }

    /// C_Sign into `signature`, of which the signature takes as many bytes as are returned.
    ///
    /// # Errors
    /// The return value, and how many bytes the module says that the signature has.
    pub fn sign(&self, session: c_ulong, data: &[u8], signature: &mut [u8]) -> Result<usize, (c_ulong, usize)> {
        const CKR_FUNCTION_NOT_SUPPORTED: c_ulong = 0x54;
        const CKR_DATA_LEN_RANGE: c_ulong = 0x21;
        let sign = self.sign.ok_or((CKR_FUNCTION_NOT_SUPPORTED, 0))?;
        let too_long = |_| (CKR_DATA_LEN_RANGE, 0);
        let data_len = c_ulong::try_from(data.len()).map_err(too_long)?;
        let mut len = c_ulong::try_from(signature.len()).map_err(too_long)?;
        // SAFETY: both buffers are valid for the lengths given; by the standard the data is only read, and no more is written than
        // the length allows.
        let rv = unsafe { sign(session, data.as_ptr().cast_mut(), data_len, signature.as_mut_ptr(), &mut len) };
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if rv == CKR_OK { Ok(len.min(signature.len())) } else { Err((rv, len)) }
    }
}

/// A library of this process, kept loaded.
struct Loaded(*mut c_void);

// SAFETY: the handle is a name that the loader knows, whichever thread gives it back.
unsafe impl Send for Loaded {}
// SAFETY: nothing is done with it through a shared reference.
unsafe impl Sync for Loaded {}

impl Loaded {
    fn find(path: &CString) -> Option<Self> {
        const FLAGS: c_int = libc::RTLD_LAZY | libc::RTLD_LOCAL | libc::RTLD_NOLOAD;
        // SAFETY: the path ends in NUL, and nothing is loaded that is not loaded already.
        let library = unsafe { libc::dlopen(path.as_ptr(), FLAGS) };
        if library.is_null() { None } else { Some(Self(library)) }
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // SAFETY: the handle is the loader's own, and is given back once.
        unsafe { libc::dlclose(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_info_has_the_size_of_the_standards() {
        // 96 bytes of text, eleven CK_ULONG, two versions and a time.
        assert_eq!(mem::size_of::<RawTokenInfo>(), 96 + 11 * mem::size_of::<c_ulong>() + 4 + 16 + padding());
    }

    /// What the compiler leaves free at the end.
    fn padding() -> usize {
        (mem::size_of::<c_ulong>() - 20 % mem::size_of::<c_ulong>()) % mem::size_of::<c_ulong>()
    }

    #[test]
    fn finds_no_functions_in_what_is_not_loaded_or_no_module() {
        assert!(Functions::of(Path::new("/nonexistent/module.so")).is_none());
        assert!(Functions::of(Path::new("libc.so.6")).is_none());
    }
}
