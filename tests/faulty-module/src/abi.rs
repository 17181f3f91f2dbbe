//! Every function of CK_FUNCTION_LIST: its arguments, what the call is about, and who does its work if it is more than
//! passing the call on.

use std::ffi::c_void;

use cryptoki_sys::*;

use crate::call::{self, Subject};
use crate::real::forward;
use crate::{attributes, hashed, info, keys, login, mechanisms, objects, sessions, slots};

/// An argument as the real module is to see it: sessions, which are called `s` below, may have numbers here.
macro_rules! real {
    (s, $session:ident) => {
        sessions::real($session)
    };
    ($other:ident, $argument:ident) => {
        $argument
    };
}

/// Declares the functions, their enumeration and the function list.
macro_rules! functions {
    ($($name:ident($($arg:ident: $type:ty),* $(,)?) on $subject:expr $(, by $work:path)?;)*) => {
        /// A function of the module.
        #[allow(non_camel_case_types, clippy::enum_variant_names)]
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum Function { $($name),* }

        impl Function {
            pub const ALL: &[Function] = &[$(Function::$name),*];

            pub fn name(self) -> &'static str {
                match self { $(Function::$name => stringify!($name)),* }
            }
        }

        $(
            /// See the standard.
            ///
            /// # Safety
            ///
            /// The arguments are as the standard asks.
            #[allow(non_snake_case)]
            pub unsafe extern "C" fn $name($($arg: $type),*) -> CK_RV {
                call::enter(Function::$name, $subject, |call| {
                    // Only now: while the call waited, the number may have become another session's.
                    $(let $arg = real!($arg, $arg);)*
                    functions!(@work call, $name, [$($work)?], ($($arg),*))
                })
            }
        )*

        /// The function list, without the functions that are to be absent.
        pub fn list(version: CK_VERSION, present: impl Fn(Function) -> bool) -> CK_FUNCTION_LIST {
            CK_FUNCTION_LIST { version, $($name: if present(Function::$name) { Some($name) } else { None }),* }
        }

        /// The same functions in the longest of the lists that begin alike; those that 3.0 added are absent.
        pub fn long_list(version: CK_VERSION, present: impl Fn(Function) -> bool) -> CK_FUNCTION_LIST_3_2 {
            CK_FUNCTION_LIST_3_2 {
                version,
                $($name: if present(Function::$name) { Some($name) } else { None },)*
                ..CK_FUNCTION_LIST_3_2::default()
            }
        }
    };
    (@work $call:ident, $name:ident, [], ($($arg:ident),*)) => {
        forward!($call.real, $name, $($arg),*)
    };
    (@work $call:ident, $name:ident, [$work:path], ($($arg:ident),*)) => {
        // SAFETY: the application vouches for its arguments as the standard asks; they are handed on unchanged.
        unsafe { $work($call $(, $arg)*) }
    };
}

fn about() -> Subject {
    Subject::default()
}

fn session(session: CK_SESSION_HANDLE) -> Subject {
    Subject { session: Some(sessions::real(session)), ..about() }
}

fn slot(slot: CK_SLOT_ID) -> Subject {
    Subject { slot: Some(slot), ..about() }
}

type Bytes = *mut CK_BYTE;
type Object = CK_OBJECT_HANDLE;
type Objects = *mut CK_OBJECT_HANDLE;
type Session = CK_SESSION_HANDLE;
type Slot = CK_SLOT_ID;
type Template = *mut CK_ATTRIBUTE;
type Len = CK_ULONG;
type Mech = *mut CK_MECHANISM;
type OutLen = *mut CK_ULONG;

functions! {
    C_Initialize(args: *mut c_void) on about(), by info::initialize;
    C_Finalize(reserved: *mut c_void) on about(), by info::finalize;
    C_GetInfo(to: *mut CK_INFO) on about(), by info::get_info;
    C_GetFunctionList(to: *mut *mut CK_FUNCTION_LIST) on about(), by info::get_function_list;

    C_GetSlotList(present: CK_BBOOL, to: *mut Slot, count: OutLen)
        on about().output(to.cast(), count), by slots::get_slot_list;
    C_GetSlotInfo(id: Slot, to: *mut CK_SLOT_INFO) on slot(id), by slots::get_slot_info;
    C_GetTokenInfo(id: Slot, to: *mut CK_TOKEN_INFO) on slot(id), by slots::get_token_info;
    C_WaitForSlotEvent(flags: CK_FLAGS, to: *mut Slot, reserved: *mut c_void) on about();
    C_GetMechanismList(id: Slot, to: *mut CK_MECHANISM_TYPE, count: OutLen)
        on slot(id).output(to.cast(), count), by mechanisms::list;
    C_GetMechanismInfo(id: Slot, kind: CK_MECHANISM_TYPE, to: *mut CK_MECHANISM_INFO)
        on slot(id).kind(kind), by mechanisms::info;
    C_InitToken(id: Slot, pin: Bytes, len: Len, label: Bytes) on slot(id), by slots::init_token;
    C_InitPIN(s: Session, pin: Bytes, len: Len) on session(s);
    C_SetPIN(s: Session, old: Bytes, old_len: Len, new: Bytes, new_len: Len) on session(s);

    C_OpenSession(id: Slot, flags: CK_FLAGS, application: *mut c_void, notify: CK_NOTIFY, to: *mut Session)
        on slot(id), by sessions::open;
    C_CloseSession(s: Session) on session(s), by sessions::close;
    C_CloseAllSessions(id: Slot) on slot(id), by sessions::close_all;
    C_GetSessionInfo(s: Session, to: *mut CK_SESSION_INFO) on session(s), by sessions::get_info;
    C_GetOperationState(s: Session, to: Bytes, len: OutLen) on session(s);
    C_SetOperationState(s: Session, from: Bytes, len: Len, encryption: Object, authentication: Object) on session(s);
    C_Login(s: Session, user: CK_USER_TYPE, pin: Bytes, len: Len) on session(s), by login::login;
    C_Logout(s: Session) on session(s), by login::logout;

    C_CreateObject(s: Session, template: Template, count: Len, to: Objects) on session(s), by objects::create;
    C_CopyObject(s: Session, object: Object, template: Template, count: Len, to: Objects)
        on session(s).object(object), by objects::copy;
    C_DestroyObject(s: Session, object: Object) on session(s).object(object), by objects::destroy;
    C_GetObjectSize(s: Session, object: Object, to: OutLen) on session(s).object(object), by objects::get_size;
    C_GetAttributeValue(s: Session, object: Object, template: Template, count: Len)
        on session(s).object(object), by attributes::get;
    C_SetAttributeValue(s: Session, object: Object, template: Template, count: Len)
        on session(s).object(object), by objects::set_attributes;
    C_FindObjectsInit(s: Session, template: Template, count: Len) on session(s), by objects::find_init;
    C_FindObjects(s: Session, to: Objects, max: Len, count: OutLen)
        on session(s).output(std::ptr::null_mut(), count), by objects::find;
    C_FindObjectsFinal(s: Session) on session(s);

    C_EncryptInit(s: Session, m: Mech, key: Object) on session(s).mechanism(m).object(key), by keys::encrypt_init;
    C_Encrypt(s: Session, from: Bytes, len: Len, to: Bytes, room: OutLen) on session(s).input(len).output(to, room);
    C_EncryptUpdate(s: Session, from: Bytes, len: Len, to: Bytes, room: OutLen)
        on session(s).input(len).output(to, room);
    C_EncryptFinal(s: Session, to: Bytes, room: OutLen) on session(s).output(to, room);
    C_DecryptInit(s: Session, m: Mech, key: Object) on session(s).mechanism(m).object(key), by keys::decrypt_init;
    C_Decrypt(s: Session, from: Bytes, len: Len, to: Bytes, room: OutLen) on session(s).input(len).output(to, room);
    C_DecryptUpdate(s: Session, from: Bytes, len: Len, to: Bytes, room: OutLen)
        on session(s).input(len).output(to, room);
    C_DecryptFinal(s: Session, to: Bytes, room: OutLen) on session(s).output(to, room);

    C_DigestInit(s: Session, m: Mech) on session(s).mechanism(m);
    C_Digest(s: Session, from: Bytes, len: Len, to: Bytes, room: OutLen) on session(s).input(len).output(to, room);
    C_DigestUpdate(s: Session, from: Bytes, len: Len) on session(s).input(len);
    C_DigestKey(s: Session, key: Object) on session(s).object(key), by keys::digest;
    C_DigestFinal(s: Session, to: Bytes, room: OutLen) on session(s).output(to, room);

    C_SignInit(s: Session, m: Mech, key: Object) on session(s).mechanism(m).object(key), by keys::sign_init;
    C_Sign(s: Session, from: Bytes, len: Len, to: Bytes, room: OutLen)
        on session(s).input(len).output(to, room), by hashed::sign;
    C_SignUpdate(s: Session, from: Bytes, len: Len) on session(s).input(len);
    C_SignFinal(s: Session, to: Bytes, room: OutLen) on session(s).output(to, room);
    C_SignRecoverInit(s: Session, m: Mech, key: Object)
        on session(s).mechanism(m).object(key), by keys::sign_recover_init;
    C_SignRecover(s: Session, from: Bytes, len: Len, to: Bytes, room: OutLen)
        on session(s).input(len).output(to, room);

    C_VerifyInit(s: Session, m: Mech, key: Object) on session(s).mechanism(m).object(key), by keys::verify_init;
    C_Verify(s: Session, from: Bytes, len: Len, signature: Bytes, signature_len: Len)
        on session(s).input(len), by hashed::verify;
    C_VerifyUpdate(s: Session, from: Bytes, len: Len) on session(s).input(len);
    C_VerifyFinal(s: Session, signature: Bytes, signature_len: Len) on session(s);
    C_VerifyRecoverInit(s: Session, m: Mech, key: Object)
        on session(s).mechanism(m).object(key), by keys::verify_recover_init;
    C_VerifyRecover(s: Session, signature: Bytes, len: Len, to: Bytes, room: OutLen)
        on session(s).input(len).output(to, room);

    C_DigestEncryptUpdate(s: Session, from: Bytes, len: Len, to: Bytes, room: OutLen)
        on session(s).input(len).output(to, room);
    C_DecryptDigestUpdate(s: Session, from: Bytes, len: Len, to: Bytes, room: OutLen)
        on session(s).input(len).output(to, room);
    C_SignEncryptUpdate(s: Session, from: Bytes, len: Len, to: Bytes, room: OutLen)
        on session(s).input(len).output(to, room);
    C_DecryptVerifyUpdate(s: Session, from: Bytes, len: Len, to: Bytes, room: OutLen)
        on session(s).input(len).output(to, room);

    C_GenerateKey(s: Session, m: Mech, template: Template, count: Len, to: Objects)
        on session(s).mechanism(m), by keys::generate;
    C_GenerateKeyPair(
        s: Session, m: Mech, public: Template, public_count: Len, private: Template, private_count: Len,
        to_public: Objects, to_private: Objects,
    ) on session(s).mechanism(m), by keys::generate_pair;
    C_WrapKey(s: Session, m: Mech, wrapping: Object, key: Object, to: Bytes, room: OutLen)
        on session(s).mechanism(m).object(key).output(to, room), by keys::wrap;
    C_UnwrapKey(s: Session, m: Mech, key: Object, from: Bytes, len: Len, template: Template, count: Len, to: Objects)
        on session(s).mechanism(m).object(key).input(len), by keys::unwrap;
    C_DeriveKey(s: Session, m: Mech, key: Object, template: Template, count: Len, to: Objects)
        on session(s).mechanism(m).object(key), by keys::derive;

    C_SeedRandom(s: Session, from: Bytes, len: Len) on session(s).input(len);
    C_GenerateRandom(s: Session, to: Bytes, len: Len) on session(s).input(len);
    C_GetFunctionStatus(s: Session) on session(s);
    C_CancelFunction(s: Session) on session(s);
}
