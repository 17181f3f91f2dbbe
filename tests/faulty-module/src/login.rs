//! Logging in: what a PIN looks like, how often it may be wrong, and tokens that log in by themselves.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{LazyLock, Mutex};

use cryptoki_sys::*;

use crate::abi::Function::{self, *};
use crate::call::{Call, lock};
use crate::handles;
use crate::names;
use crate::real::forward;
use crate::sessions;
use crate::settings::Token;

/// The flags that say how many tries are left.
pub const COUNT_FLAGS: CK_FLAGS = CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_LOCKED;

/// What is known of a slot's user PIN.
#[derive(Default)]
struct Login {
    /// A digest of the PIN that the token took last.
    proven: Option<u64>,
    wrong: u32,
}

static LOGINS: LazyLock<Mutex<HashMap<CK_SLOT_ID, Login>>> = LazyLock::new(Mutex::default);

/// A digest, so that no PIN stays in memory.
fn digest(pin: &[u8]) -> u64 {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    KEY.hash_one(pin)
}

/// Forgets the logins, not the wrong PINs: the module was finalised, the token was not.
pub fn forget() {
    lock(&LOGINS).values_mut().for_each(|login| login.proven = None);
}

/// Lets the counts of wrong PINs start again.
pub fn unlock() {
    lock(&LOGINS).values_mut().for_each(|login| login.wrong = 0);
}

/// What CK_TOKEN_INFO says of the tries that are left.
pub fn count_flags(slot: CK_SLOT_ID, tries: u32) -> CK_FLAGS {
    let wrong = lock(&LOGINS).get(&slot).map_or(0, |login| login.wrong);
    match tries.saturating_sub(wrong) {
        0 => CKF_USER_PIN_LOCKED,
        1 => CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY,
        left if left < tries => CKF_USER_PIN_COUNT_LOW,
        _ => 0,
    }
}

/// Whether the PIN is typed in at the token.
fn has_pin_pad(token: &Token) -> bool {
    names::flags(&token.set_flags) & CKF_PROTECTED_AUTHENTICATION_PATH != 0
}

/// What a call answers because its session has not logged in, though the token is logged in to.
pub fn refusal(call: &Call) -> Option<CK_RV> {
    const FREE: &[Function] = &[C_Login, C_Logout, C_CloseSession, C_GetSessionInfo, C_GenerateRandom, C_SeedRandom];
    let per_session = call.token().login_per_session && !FREE.contains(&call.function);
    let stranger = sessions::is_logged_in(call.subject.session.filter(|_| per_session)?) == Some(false);
    stranger.then_some(CKR_USER_NOT_LOGGED_IN)
}

/// A token whose PIN is in the configuration of its module is logged in to with its first session.
pub fn log_in_by_itself(call: &Call, session: CK_SESSION_HANDLE) {
    let token = call.token();
    if let Some(pin) = token.own_pin.as_ref().filter(|_| !has_pin_pad(token)) {
        log_in(call, session, CKU_USER, pin.as_bytes());
    }
}

/// C_Login.
///
/// # Safety
///
/// The arguments are an application's, as the standard asks.
pub unsafe fn login(
    call: &Call,
    session: CK_SESSION_HANDLE,
    user: CK_USER_TYPE,
    pin: *mut CK_BYTE,
    len: CK_ULONG,
) -> CK_RV {
    let token = call.token();
    if user == CKU_SO {
        return forward!(call.real, C_Login, session, user, pin, len);
    }
    // SAFETY: null, or `len` bytes, as the standard asks.
    let offered = (!pin.is_null()).then(|| unsafe { std::slice::from_raw_parts(pin, len as usize) });
    let offered = match (offered, &token.own_pin) {
        (None, Some(own)) if has_pin_pad(token) => own.as_bytes(),
        (Some(_), Some(own)) if token.any_pin => own.as_bytes(),
        (None, _) => return CKR_ARGUMENTS_BAD,
        (Some(offered), _) => offered,
    };
    let prefix = token.pin_prefix.as_deref().unwrap_or_default().as_bytes();
    match offered.strip_prefix(prefix) {
        Some(offered) => log_in(call, session, user, offered),
        None => token.malformed_pin.map_or(CKR_PIN_INCORRECT, |rv| rv.0),
    }
}

fn log_in(call: &Call, session: CK_SESSION_HANDLE, user: CK_USER_TYPE, pin: &[u8]) -> CK_RV {
    let token = call.token();
    // Held over the call: two tries at once are still two.
    let mut logins = lock(&LOGINS);
    let login = logins.entry(call.slot.unwrap_or_default()).or_default();
    if token.pin_tries.is_some_and(|tries| login.wrong >= tries) {
        return CKR_PIN_LOCKED;
    }
    let rv = forward!(call.real, C_Login, session, user, pin.as_ptr().cast_mut(), pin.len() as CK_ULONG);
    match rv {
        CKR_OK => {
            login.proven = Some(digest(pin));
            login.wrong = 0;
            sessions::set_logged_in(session, true);
            CKR_OK
        }
        CKR_PIN_INCORRECT | CKR_PIN_LEN_RANGE | CKR_PIN_INVALID => {
            login.wrong = login.wrong.saturating_add(1);
            token.wrong_pin.map_or(rv, |rv| rv.0)
        }
        CKR_USER_ALREADY_LOGGED_IN
            if login.proven == Some(digest(pin))
                && sessions::is_logged_in(session) == Some(false)
                && token.login_per_session =>
        {
            sessions::set_logged_in(session, true);
            CKR_OK
        }
        CKR_USER_ALREADY_LOGGED_IN if login.proven == Some(digest(pin)) => token.login_again.map_or(rv, |rv| rv.0),
        CKR_USER_ALREADY_LOGGED_IN => token.login_again_wrong_pin.map_or(rv, |rv| rv.0),
        rv => rv,
    }
}

/// C_Logout.
///
/// # Safety
///
/// The arguments are an application's, as the standard asks.
pub unsafe fn logout(call: &Call, session: CK_SESSION_HANDLE) -> CK_RV {
    let token = call.token();
    if token.own_pin.is_some() && !has_pin_pad(token) {
        return CKR_OK;
    }
    let others = sessions::set_logged_in(session, false);
    if others && token.login_per_session {
        return CKR_OK;
    }
    let rv = forward!(call.real, C_Logout, session);
    if rv == CKR_OK {
        handles::deal_anew();
    }
    rv
}
