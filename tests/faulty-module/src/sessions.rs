//! The sessions that are open: how many there may be, which operations they are in, and which were lost.

use std::collections::{HashMap, HashSet};
use std::ffi::c_void;
use std::sync::{LazyLock, Mutex};

use cryptoki_sys::*;

use crate::call::{Call, lock};
use crate::operations::Operations;
use crate::real::forward;
use crate::settings::State;
use crate::{counts, handles, login};

/// An open session.
struct Session {
    slot: CK_SLOT_ID,
    read_write: bool,
    /// Where each session has a login of its own.
    logged_in: bool,
    operations: Operations,
}

#[derive(Default)]
struct Sessions {
    open: HashMap<CK_SESSION_HANDLE, Session>,
    /// Lost with their token; they say so once.
    removed: HashSet<CK_SESSION_HANDLE>,
    /// The real handles of those that have numbers, counted from 1; 0 where a number is free.
    numbered: Vec<CK_SESSION_HANDLE>,
    /// The free numbers: the one that was freed last is dealt first.
    free: Vec<usize>,
}

impl Sessions {
    fn number(&mut self, real: CK_SESSION_HANDLE) -> CK_SESSION_HANDLE {
        let at = self.free.pop().unwrap_or(self.numbered.len());
        self.numbered.resize(self.numbered.len().max(at + 1), CK_INVALID_HANDLE);
        self.numbered[at] = real;
        at as CK_SESSION_HANDLE + 1
    }

    fn remove(&mut self, real: CK_SESSION_HANDLE) {
        self.open.remove(&real);
        if let Some(at) = self.numbered.iter().position(|numbered| *numbered == real) {
            self.numbered[at] = CK_INVALID_HANDLE;
            self.free.push(at);
        }
    }
}

static SESSIONS: LazyLock<Mutex<Sessions>> = LazyLock::new(Mutex::default);

/// The real module's handle for the one that the application has, which may be a number.
pub fn real(given: CK_SESSION_HANDLE) -> CK_SESSION_HANDLE {
    let sessions = lock(&SESSIONS);
    if sessions.numbered.is_empty() {
        return given;
    }
    let at = usize::try_from(given).unwrap_or_default().wrapping_sub(1);
    sessions.numbered.get(at).copied().unwrap_or(CK_INVALID_HANDLE)
}

/// The slot of an open session.
pub fn slot(session: CK_SESSION_HANDLE) -> Option<CK_SLOT_ID> {
    lock(&SESSIONS).open.get(&session).map(|session| session.slot)
}

/// Every open session and its slot.
pub fn all() -> Vec<(CK_SESSION_HANDLE, CK_SLOT_ID)> {
    let mut all: Vec<_> = lock(&SESSIONS).open.iter().map(|(handle, session)| (*handle, session.slot)).collect();
    all.sort_unstable();
    all
}

/// Looks at or changes what a session is doing.
pub fn operations<T>(session: CK_SESSION_HANDLE, look: impl FnOnce(&mut Operations) -> T) -> Option<T> {
    lock(&SESSIONS).open.get_mut(&session).map(|session| look(&mut session.operations))
}

/// Whether the session has had a login of its own.
pub fn is_logged_in(session: CK_SESSION_HANDLE) -> Option<bool> {
    lock(&SESSIONS).open.get(&session).map(|session| session.logged_in)
}

/// Notes the login of a session; whether it, or another with its token, has one now.
pub fn set_logged_in(session: CK_SESSION_HANDLE, logged_in: bool) -> bool {
    let mut sessions = lock(&SESSIONS);
    let Some(changed) = sessions.open.get_mut(&session) else { return false };
    changed.logged_in = logged_in;
    let slot = changed.slot;
    sessions.open.values().any(|session| session.slot == slot && session.logged_in)
}

/// Every session has lost its login.
pub fn log_out() {
    lock(&SESSIONS).open.values_mut().for_each(|session| session.logged_in = false);
}

/// Closes sessions without being asked. With `removed` each says once that its device was removed.
pub fn lose(real: &CK_FUNCTION_LIST, lost: &[CK_SESSION_HANDLE], removed: bool) {
    let mut sessions = lock(&SESSIONS);
    for session in lost {
        forward!(real, C_CloseSession, *session);
        sessions.remove(*session);
        if removed {
            sessions.removed.insert(*session);
        }
    }
    counts::sessions(sessions.open.len());
    handles::deal_anew();
}

/// Whether the session was lost with its token and has not said so yet.
pub fn take_removed(session: CK_SESSION_HANDLE) -> bool {
    lock(&SESSIONS).removed.remove(&session)
}

/// Forgets all sessions: the module was finalised.
pub fn forget() {
    *lock(&SESSIONS) = Sessions::default();
    counts::sessions(0);
}

/// C_OpenSession.
///
/// # Safety
///
/// The arguments are an application's, as the standard asks.
pub unsafe fn open(
    call: &Call,
    slot: CK_SLOT_ID,
    flags: CK_FLAGS,
    application: *mut c_void,
    notify: CK_NOTIFY,
    to: *mut CK_SESSION_HANDLE,
) -> CK_RV {
    let token = call.token();
    let read_write = flags & CKF_RW_SESSION != 0;
    let refused = if read_write { token.refuse_read_write } else { token.refuse_read_only };
    if let Some(rv) = refused {
        return rv.0;
    }
    // Held over the call, so that two threads cannot both take the last session.
    let mut sessions = lock(&SESSIONS);
    let on_token = || sessions.open.values().filter(|session| session.slot == slot);
    let too_many = token.max_sessions.is_some_and(|max| on_token().count() as u64 >= max);
    let writing = || on_token().filter(|session| session.read_write).count() as u64;
    if too_many || read_write && token.max_rw_sessions.is_some_and(|max| writing() >= max) {
        return CKR_SESSION_COUNT;
    }
    let rv = forward!(call.real, C_OpenSession, slot, flags, application, notify, to);
    // SAFETY: null, or a pointer to a handle that the real module has written.
    if let (CKR_OK, Some(handle)) = (rv, unsafe { to.as_mut() }) {
        let real = *handle;
        sessions.open.insert(real, Session { slot, read_write, logged_in: false, operations: Operations::default() });
        counts::sessions(sessions.open.len());
        if call.control.settings.module.number_sessions {
            *handle = sessions.number(real);
        }
        drop(sessions);
        login::log_in_by_itself(call, real);
    }
    rv
}

/// C_CloseSession.
///
/// # Safety
///
/// The arguments are an application's, as the standard asks.
pub unsafe fn close(call: &Call, session: CK_SESSION_HANDLE) -> CK_RV {
    let rv = forward!(call.real, C_CloseSession, session);
    if rv == CKR_OK {
        let mut sessions = lock(&SESSIONS);
        sessions.remove(session);
        counts::sessions(sessions.open.len());
    }
    rv
}

/// C_CloseAllSessions.
///
/// # Safety
///
/// The arguments are an application's, as the standard asks.
pub unsafe fn close_all(call: &Call, slot: CK_SLOT_ID) -> CK_RV {
    let rv = forward!(call.real, C_CloseAllSessions, slot);
    if rv == CKR_OK {
        let mut sessions = lock(&SESSIONS);
        let closed: Vec<_> =
            sessions.open.iter().filter(|(_, open)| open.slot == slot).map(|(real, _)| *real).collect();
        closed.into_iter().for_each(|real| sessions.remove(real));
        counts::sessions(sessions.open.len());
    }
    rv
}

/// C_GetSessionInfo.
///
/// # Safety
///
/// The arguments are an application's, as the standard asks.
pub unsafe fn get_info(call: &Call, session: CK_SESSION_HANDLE, to: *mut CK_SESSION_INFO) -> CK_RV {
    let rv = forward!(call.real, C_GetSessionInfo, session, to);
    // SAFETY: null, or a pointer to what the real module has written.
    if let (CKR_OK, Some(state), Some(info)) = (rv, call.token().session_state, unsafe { to.as_mut() }) {
        let read_write = info.flags & CKF_RW_SESSION != 0;
        info.state = match state {
            State::Public if read_write => CKS_RW_PUBLIC_SESSION,
            State::Public => CKS_RO_PUBLIC_SESSION,
            State::User if !read_write => CKS_RO_USER_FUNCTIONS,
            State::User | State::RwUser => CKS_RW_USER_FUNCTIONS,
        };
    }
    rv
}
