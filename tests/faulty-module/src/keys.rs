//! Keys: generated, unwrapped, derived, and named at the start of an operation.

use cryptoki_sys::*;

use crate::call::Call;
use crate::objects::{made, make};
use crate::real::forward;
use crate::template::Template;
use crate::{handles, hashed, ids};

/// Functions that begin an operation with a key.
macro_rules! begin {
    ($($name:ident => $function:ident),* $(,)?) => {
        $(
            #[doc = concat!(stringify!($function), ".")]
            ///
            /// # Safety
            ///
            /// The arguments are an application's, as the standard asks.
            pub unsafe fn $name(
                call: &Call,
                session: CK_SESSION_HANDLE,
                mechanism: *mut CK_MECHANISM,
                key: CK_OBJECT_HANDLE,
            ) -> CK_RV {
                let mut room = hashed::of_kind(0);
                // SAFETY: the application's mechanism.
                let mechanism = unsafe { hashed::bare(call, mechanism, &mut room) };
                forward!(call.real, $function, session, mechanism, handles::real(call, key))
            }
        )*
    };
}

begin! {
    encrypt_init => C_EncryptInit,
    decrypt_init => C_DecryptInit,
    sign_init => C_SignInit,
    sign_recover_init => C_SignRecoverInit,
    verify_init => C_VerifyInit,
    verify_recover_init => C_VerifyRecoverInit,
}

/// C_DigestKey.
///
/// # Safety
///
/// The arguments are an application's, as the standard asks.
pub unsafe fn digest(call: &Call, session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE) -> CK_RV {
    forward!(call.real, C_DigestKey, session, handles::real(call, key))
}

/// C_GenerateKey.
///
/// # Safety
///
/// The arguments are an application's, as the standard asks.
pub unsafe fn generate(
    call: &Call,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    to: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    let work = |raw, count| forward!(call.real, C_GenerateKey, session, mechanism, raw, count, to);
    // SAFETY: the application's pointers.
    unsafe { make(call, (template, count), Some(CKO_SECRET_KEY), to, work) }
}

/// C_GenerateKeyPair.
///
/// # Safety
///
/// The arguments are an application's, as the standard asks.
#[allow(clippy::too_many_arguments)]
pub unsafe fn generate_pair(
    call: &Call,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    public: *mut CK_ATTRIBUTE,
    public_count: CK_ULONG,
    private: *mut CK_ATTRIBUTE,
    private_count: CK_ULONG,
    to_public: *mut CK_OBJECT_HANDLE,
    to_private: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    // SAFETY: the application's template.
    let mut public = match unsafe { Template::ruled(call, public, public_count, Some(CKO_PUBLIC_KEY)) } {
        Ok(template) => template,
        Err(rv) => return rv,
    };
    // SAFETY: the application's template.
    let mut private = match unsafe { Template::ruled(call, private, private_count, Some(CKO_PRIVATE_KEY)) } {
        Ok(template) => template,
        Err(rv) => return rv,
    };
    if let Some(rv) = ids::choose(call, Some(CKO_PRIVATE_KEY), &mut [&mut public, &mut private]) {
        return rv;
    }
    let (public, public_count) = public.raw();
    let (private, private_count) = private.raw();
    let rv = forward!(
        call.real,
        C_GenerateKeyPair,
        session,
        mechanism,
        public,
        public_count,
        private,
        private_count,
        to_public,
        to_private,
    );
    // SAFETY: the application's pointers.
    unsafe {
        made(call, rv, to_public);
        made(call, rv, to_private);
    }
    rv
}

/// C_WrapKey.
///
/// # Safety
///
/// The arguments are an application's, as the standard asks.
pub unsafe fn wrap(
    call: &Call,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    wrapping: CK_OBJECT_HANDLE,
    key: CK_OBJECT_HANDLE,
    to: *mut CK_BYTE,
    room: *mut CK_ULONG,
) -> CK_RV {
    let (wrapping, key) = (handles::real(call, wrapping), handles::real(call, key));
    forward!(call.real, C_WrapKey, session, mechanism, wrapping, key, to, room)
}

/// C_UnwrapKey.
///
/// # Safety
///
/// The arguments are an application's, as the standard asks.
#[allow(clippy::too_many_arguments)]
pub unsafe fn unwrap(
    call: &Call,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
    from: *mut CK_BYTE,
    len: CK_ULONG,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    to: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    let key = handles::real(call, key);
    let work = |raw, count| forward!(call.real, C_UnwrapKey, session, mechanism, key, from, len, raw, count, to);
    // SAFETY: the application's pointers.
    unsafe { make(call, (template, count), None, to, work) }
}

/// C_DeriveKey.
///
/// # Safety
///
/// The arguments are an application's, as the standard asks.
pub unsafe fn derive(
    call: &Call,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    to: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    let key = handles::real(call, key);
    let work = |raw, count| forward!(call.real, C_DeriveKey, session, mechanism, key, raw, count, to);
    // SAFETY: the application's pointers.
    unsafe { make(call, (template, count), None, to, work) }
}
