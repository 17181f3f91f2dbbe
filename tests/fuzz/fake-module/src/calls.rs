//! The functions of the module. Those that the list leaves out are not called by the bridge.
//!
//! What holds of all of them: the application vouches for its pointers as PKCS#11 asks (section 5.1), and no function writes
//! more than the application says that there is room for.
#![allow(non_snake_case)]

use std::ffi::c_void;

use cryptoki_sys::*;

use crate::ffi::{bytes, give, padded, template, ulong};
use crate::keys::signature_len;
use crate::script::Twist;
use crate::store::{self, Store};

const SLOT: CK_SLOT_ID = 1;
const PIN: &[u8] = b"1234";
const VERSION: CK_VERSION = CK_VERSION { major: 2, minor: 40 };

const SIGNS: CK_FLAGS = CKF_SIGN | CKF_VERIFY;

const MECHANISMS: [(CK_MECHANISM_TYPE, CK_FLAGS); 17] = [
    (CKM_RSA_PKCS_KEY_PAIR_GEN, CKF_GENERATE_KEY_PAIR),
    (CKM_RSA_PKCS, SIGNS),
    (CKM_SHA1_RSA_PKCS, SIGNS),
    (CKM_SHA256_RSA_PKCS, SIGNS),
    (CKM_SHA384_RSA_PKCS, SIGNS),
    (CKM_SHA512_RSA_PKCS, SIGNS),
    (CKM_RSA_PKCS_PSS, SIGNS),
    (CKM_SHA256_RSA_PKCS_PSS, SIGNS),
    (CKM_SHA384_RSA_PKCS_PSS, SIGNS),
    (CKM_SHA512_RSA_PKCS_PSS, SIGNS),
    (CKM_EC_KEY_PAIR_GEN, CKF_GENERATE_KEY_PAIR),
    (CKM_ECDSA, SIGNS),
    (CKM_ECDSA_SHA256, SIGNS),
    (CKM_ECDSA_SHA384, SIGNS),
    (CKM_ECDSA_SHA512, SIGNS),
    (CKM_EC_EDWARDS_KEY_PAIR_GEN, CKF_GENERATE_KEY_PAIR),
    (CKM_EDDSA, SIGNS),
];

pub fn list() -> CK_FUNCTION_LIST {
    CK_FUNCTION_LIST {
        version: VERSION,
        C_Initialize: Some(C_Initialize),
        C_Finalize: Some(C_Finalize),
        C_GetInfo: Some(C_GetInfo),
        C_GetFunctionList: Some(crate::C_GetFunctionList),
        C_GetSlotList: Some(C_GetSlotList),
        C_GetTokenInfo: Some(C_GetTokenInfo),
        C_GetMechanismList: Some(C_GetMechanismList),
        C_GetMechanismInfo: Some(C_GetMechanismInfo),
        C_OpenSession: Some(C_OpenSession),
        C_CloseSession: Some(C_CloseSession),
        C_CloseAllSessions: Some(C_CloseAllSessions),
        C_Login: Some(C_Login),
        C_Logout: Some(C_Logout),
        C_DestroyObject: Some(C_DestroyObject),
        C_GetAttributeValue: Some(C_GetAttributeValue),
        C_SetAttributeValue: Some(C_SetAttributeValue),
        C_FindObjectsInit: Some(C_FindObjectsInit),
        C_FindObjects: Some(C_FindObjects),
        C_FindObjectsFinal: Some(C_FindObjectsFinal),
        C_SignInit: Some(C_SignInit),
        C_Sign: Some(C_Sign),
        C_VerifyInit: Some(C_VerifyInit),
        C_Verify: Some(C_Verify),
        C_GenerateKeyPair: Some(C_GenerateKeyPair),
        C_GenerateRandom: Some(C_GenerateRandom),
        ..CK_FUNCTION_LIST::default()
    }
}

unsafe extern "C" fn C_Initialize(_arguments: *mut c_void) -> CK_RV {
    let mut store = store::lock();
    if store.initialized {
        return CKR_CRYPTOKI_ALREADY_INITIALIZED;
    }
    *store = Store::start();
    CKR_OK
}

unsafe extern "C" fn C_Finalize(_reserved: *mut c_void) -> CK_RV {
    *store::lock() = Store::default();
    CKR_OK
}

unsafe extern "C" fn C_GetInfo(info: *mut CK_INFO) -> CK_RV {
    let ours = CK_INFO {
        cryptokiVersion: VERSION,
        manufacturerID: padded("nobody"),
        libraryDescription: padded("answers from memory"),
        libraryVersion: CK_VERSION { major: 0, minor: 0 },
        ..CK_INFO::default()
    };
    // SAFETY: see above.
    unsafe { *info = ours };
    CKR_OK
}

unsafe extern "C" fn C_GetSlotList(_present: CK_BBOOL, slots: *mut CK_SLOT_ID, count: *mut CK_ULONG) -> CK_RV {
    // SAFETY: see above.
    unsafe { give(&[SLOT], slots, count) }
}

unsafe extern "C" fn C_GetTokenInfo(_slot: CK_SLOT_ID, info: *mut CK_TOKEN_INFO) -> CK_RV {
    let ours = CK_TOKEN_INFO {
        label: padded("fake"),
        manufacturerID: padded("nobody"),
        model: padded("memory"),
        serialNumber: padded("0"),
        flags: CKF_RNG | CKF_LOGIN_REQUIRED | CKF_USER_PIN_INITIALIZED | CKF_TOKEN_INITIALIZED,
        ulMaxPinLen: 255,
        ulMinPinLen: 4,
        ..CK_TOKEN_INFO::default()
    };
    // SAFETY: see above.
    unsafe { *info = ours };
    CKR_OK
}

unsafe extern "C" fn C_GetMechanismList(
    _slot: CK_SLOT_ID,
    mechanisms: *mut CK_MECHANISM_TYPE,
    count: *mut CK_ULONG,
) -> CK_RV {
    // SAFETY: see above.
    unsafe { give(&MECHANISMS.map(|(mechanism, _)| mechanism), mechanisms, count) }
}

unsafe extern "C" fn C_GetMechanismInfo(
    _slot: CK_SLOT_ID,
    mechanism: CK_MECHANISM_TYPE,
    info: *mut CK_MECHANISM_INFO,
) -> CK_RV {
    let Some((_, flags)) = MECHANISMS.iter().find(|(known, _)| *known == mechanism) else {
        return CKR_MECHANISM_INVALID;
    };
    // SAFETY: see above.
    unsafe { *info = CK_MECHANISM_INFO { ulMinKeySize: 255, ulMaxKeySize: 8192, flags: *flags } };
    CKR_OK
}

unsafe extern "C" fn C_OpenSession(
    _slot: CK_SLOT_ID,
    _flags: CK_FLAGS,
    _application: *mut c_void,
    _notify: CK_NOTIFY,
    session: *mut CK_SESSION_HANDLE,
) -> CK_RV {
    let mut store = store::lock();
    if !store.initialized {
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    }
    attempt!(store.script.failure());
    // SAFETY: see above.
    unsafe { *session = store.open() };
    CKR_OK
}

unsafe extern "C" fn C_CloseSession(session: CK_SESSION_HANDLE) -> CK_RV {
    store::lock().sessions.remove(&session).map_or(CKR_SESSION_HANDLE_INVALID, |_| CKR_OK)
}

unsafe extern "C" fn C_CloseAllSessions(_slot: CK_SLOT_ID) -> CK_RV {
    let mut store = store::lock();
    store.sessions.clear();
    store.logged_in = false;
    CKR_OK
}

unsafe extern "C" fn C_Login(
    session: CK_SESSION_HANDLE,
    _user: CK_USER_TYPE,
    pin: *mut CK_UTF8CHAR,
    len: CK_ULONG,
) -> CK_RV {
    // SAFETY: see above.
    let right = unsafe { bytes(pin, len as usize) } == PIN;
    let mut store = store::lock();
    attempt!(store.session(session));
    match (right, store.logged_in) {
        (_, true) => return CKR_USER_ALREADY_LOGGED_IN,
        (false, false) => return CKR_PIN_INCORRECT,
        (true, false) => store.logged_in = true,
    }
    CKR_OK
}

unsafe extern "C" fn C_Logout(session: CK_SESSION_HANDLE) -> CK_RV {
    let mut store = store::lock();
    attempt!(store.session(session));
    store.logged_in = false;
    CKR_OK
}

unsafe extern "C" fn C_DestroyObject(session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE) -> CK_RV {
    let mut store = store::lock();
    attempt!(store.session(session));
    attempt!(store.script.failure());
    attempt!(store.destroy(object));
    CKR_OK
}

unsafe extern "C" fn C_GetAttributeValue(
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    first: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> CK_RV {
    let mut guard = store::lock();
    let store = &mut *guard;
    attempt!(store.session(session));
    attempt!(store.object(object));
    let mut rv = CKR_OK;
    for index in 0..count as usize {
        // SAFETY: see above; the index is below the count.
        let attribute = unsafe { &mut *first.add(index) };
        // What the script makes of a value is decided when its length is asked for, so that the two answers agree.
        let twist = if attribute.pValue.is_null() { store.script.next() } else { Twist::None };
        let attributes = &mut attempt!(store.object(object)).attributes;
        match twist {
            Twist::None => {}
            Twist::Fail(failure) => return failure,
            Twist::Value(value) => drop(attributes.insert(attribute.type_, value)),
            Twist::Cut(len) => attributes.entry(attribute.type_).or_default().truncate(len),
        }
        let Some(value) = attributes.get(&attribute.type_) else {
            attribute.ulValueLen = CK_UNAVAILABLE_INFORMATION;
            rv = CKR_ATTRIBUTE_TYPE_INVALID;
            continue;
        };
        // SAFETY: see above.
        match unsafe { give(value, attribute.pValue.cast(), &raw mut attribute.ulValueLen) } {
            CKR_OK => {}
            failure => {
                attribute.ulValueLen = CK_UNAVAILABLE_INFORMATION;
                rv = failure;
            }
        }
    }
    rv
}

unsafe extern "C" fn C_SetAttributeValue(
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    first: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> CK_RV {
    // SAFETY: see above.
    let changes = unsafe { template(first, count) };
    let mut guard = store::lock();
    let store = &mut *guard;
    attempt!(store.session(session));
    attempt!(store.script.failure());
    attempt!(store.object(object)).attributes.extend(changes);
    CKR_OK
}

unsafe extern "C" fn C_FindObjectsInit(session: CK_SESSION_HANDLE, first: *mut CK_ATTRIBUTE, count: CK_ULONG) -> CK_RV {
    // SAFETY: see above.
    let template = unsafe { template(first, count) };
    let mut store = store::lock();
    attempt!(store.script.failure());
    let found = store.find(&template);
    match &mut attempt!(store.session(session)).found {
        Some(_) => CKR_OPERATION_ACTIVE,
        none => {
            *none = Some(found);
            CKR_OK
        }
    }
}

unsafe extern "C" fn C_FindObjects(
    session: CK_SESSION_HANDLE,
    objects: *mut CK_OBJECT_HANDLE,
    most: CK_ULONG,
    count: *mut CK_ULONG,
) -> CK_RV {
    let mut store = store::lock();
    let twist = store.script.next();
    let Some(found) = &mut attempt!(store.session(session)).found else { return CKR_OPERATION_NOT_INITIALIZED };
    match twist {
        Twist::None => {}
        Twist::Fail(failure) => return failure,
        // Handles of nothing.
        Twist::Value(value) => *found = value.into_iter().map(CK_OBJECT_HANDLE::from).collect(),
        Twist::Cut(len) => found.truncate(len),
    }
    let some: Vec<_> = found.drain(..found.len().min(most as usize)).collect();
    // SAFETY: see above; there is room for `most`.
    unsafe {
        *count = most;
        give(&some, objects, count)
    }
}

unsafe extern "C" fn C_FindObjectsFinal(session: CK_SESSION_HANDLE) -> CK_RV {
    match attempt!(store::lock().session(session)).found.take() {
        Some(_) => CKR_OK,
        None => CKR_OPERATION_NOT_INITIALIZED,
    }
}

/// The signature by `key`, whatever is signed.
fn signature(store: &mut Store, key: CK_OBJECT_HANDLE) -> Result<Vec<u8>, CK_RV> {
    let attributes = &store.object(key).map_err(|_| CKR_KEY_HANDLE_INVALID)?.attributes;
    signature_len(attributes).map(|len| vec![0x5a; len]).ok_or(CKR_KEY_TYPE_INCONSISTENT)
}

unsafe extern "C" fn C_SignInit(
    session: CK_SESSION_HANDLE,
    _mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> CK_RV {
    let mut store = store::lock();
    let mut signature = attempt!(signature(&mut store, key));
    attempt!(store.script.twisted(&mut signature));
    attempt!(store.session(session)).signature = Some(signature);
    CKR_OK
}

unsafe extern "C" fn C_Sign(
    session: CK_SESSION_HANDLE,
    _data: *mut CK_BYTE,
    _data_len: CK_ULONG,
    place: *mut CK_BYTE,
    len: *mut CK_ULONG,
) -> CK_RV {
    let mut store = store::lock();
    attempt!(store.script.failure());
    let session = attempt!(store.session(session));
    let Some(signature) = &session.signature else { return CKR_OPERATION_NOT_INITIALIZED };
    // SAFETY: see above.
    let rv = unsafe { give(signature, place, len) };
    if rv == CKR_OK && !place.is_null() {
        session.signature = None;
    }
    rv
}

unsafe extern "C" fn C_VerifyInit(
    session: CK_SESSION_HANDLE,
    _mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> CK_RV {
    let mut store = store::lock();
    let right = attempt!(signature(&mut store, key));
    attempt!(store.script.failure());
    attempt!(store.session(session)).verifies = Some(right);
    CKR_OK
}

unsafe extern "C" fn C_Verify(
    session: CK_SESSION_HANDLE,
    _data: *mut CK_BYTE,
    _data_len: CK_ULONG,
    signature: *mut CK_BYTE,
    len: CK_ULONG,
) -> CK_RV {
    let mut store = store::lock();
    attempt!(store.script.failure());
    let Some(right) = attempt!(store.session(session)).verifies.take() else { return CKR_OPERATION_NOT_INITIALIZED };
    // SAFETY: see above.
    let signature = unsafe { bytes(signature, len as usize) };
    if signature.len() != right.len() {
        return CKR_SIGNATURE_LEN_RANGE;
    }
    if signature == right { CKR_OK } else { CKR_SIGNATURE_INVALID }
}

unsafe extern "C" fn C_GenerateKeyPair(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    public: *mut CK_ATTRIBUTE,
    public_count: CK_ULONG,
    private: *mut CK_ATTRIBUTE,
    private_count: CK_ULONG,
    public_key: *mut CK_OBJECT_HANDLE,
    private_key: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    // SAFETY: see above.
    let (mechanism, public, private) =
        unsafe { ((*mechanism).mechanism, template(public, public_count), template(private, private_count)) };
    let mut store = store::lock();
    attempt!(store.session(session));
    attempt!(store.script.failure());
    let (made_public, made_private) = attempt!(store.generate(mechanism, public, private));
    // SAFETY: see above.
    unsafe {
        *public_key = made_public;
        *private_key = made_private;
    }
    CKR_OK
}

unsafe extern "C" fn C_GenerateRandom(session: CK_SESSION_HANDLE, place: *mut CK_BYTE, len: CK_ULONG) -> CK_RV {
    let mut store = store::lock();
    attempt!(store.session(session));
    attempt!(store.script.failure());
    let random = store.random(len as usize);
    let mut room = ulong(random.len());
    // SAFETY: see above.
    unsafe { give(&random, place, &raw mut room) }
}
