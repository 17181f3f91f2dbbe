//! What happens behind the callers' backs: sessions closed, logins lost, tokens taken away, a module that is broken.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use cryptoki_sys::*;

use crate::abi::Function::{self, *};
use crate::call::{Call, GATE, lock};
use crate::control::{self, Control};
use crate::names::FunctionSet;
use crate::real::{Scratch, forward};
use crate::settings::{Away, Event, Heals, Token};
use crate::{counts, handles, login, sessions, slots};

/// Whether every call hangs.
static JAMMED: AtomicBool = AtomicBool::new(false);

/// Whether every call fails until C_Finalize and C_Initialize.
static BROKEN: AtomicBool = AtomicBool::new(false);

/// Tokens, by label, that were away and stay lost until C_Finalize and C_Initialize; `None` is every token without a
/// table of its own.
static SPOILT: LazyLock<Mutex<HashSet<Option<String>>>> = LazyLock::new(Mutex::default);

/// Does what a new version of the control file asks for once.
pub fn between(real: &'static CK_FUNCTION_LIST, old: &Control, new: &Control) {
    spoil(new, |label| !old.token(label).away);
    let left = |token: &Token, before: &Token| token.away && !before.away && token.away_shows == Away::Absent;
    let lost = sessions::all().into_iter().filter(|(_, slot)| {
        let label = slots::label(real, *slot);
        left(new.token(label.as_deref()), old.token(label.as_deref()))
    });
    let lost: Vec<CK_SESSION_HANDLE> = lost.map(|(session, _)| session).collect();
    if !lost.is_empty() {
        let _gate = GATE.write().unwrap_or_else(PoisonError::into_inner);
        sessions::lose(real, &lost, true);
    }
    let events = &new.settings.events;
    if events.number != old.settings.events.number {
        for event in &events.happen {
            happen(real, *event);
        }
    }
    counts::dump(new.settings.dump);
}

/// Remembers the tokens that will not come back by themselves.
fn spoil(control: &Control, newly: impl Fn(Option<&str>) -> bool) {
    let labels = control.settings.tokens.keys().cloned().map(Some);
    for label in labels.chain([None]) {
        let token = control.token(label.as_deref());
        if token.away && token.heals == Heals::Initialize && newly(label.as_deref()) {
            lock(&SPOILT).insert(label);
        }
    }
}

/// Lets something happen once, while no call is at work.
pub fn happen(real: &'static CK_FUNCTION_LIST, event: Event) {
    let _gate = GATE.write().unwrap_or_else(PoisonError::into_inner);
    match event {
        Event::CloseSessions => close_sessions(real, false),
        Event::Reconnect => close_sessions(real, true),
        Event::Logout => log_out(real),
        Event::Break => BROKEN.store(true, Ordering::SeqCst),
        Event::Jam => jam(),
        Event::Unjam => JAMMED.store(false, Ordering::SeqCst),
        Event::UnlockPin => login::unlock(),
    }
}

/// Makes every later call hang.
pub fn jam() {
    JAMMED.store(true, Ordering::SeqCst);
}

fn close_sessions(real: &'static CK_FUNCTION_LIST, removed: bool) {
    let all: Vec<CK_SESSION_HANDLE> = sessions::all().into_iter().map(|(session, _)| session).collect();
    sessions::lose(real, &all, removed);
}

fn log_out(real: &'static CK_FUNCTION_LIST) {
    let slots: HashSet<CK_SLOT_ID> = sessions::all().into_iter().map(|(_, slot)| slot).collect();
    for slot in slots {
        if let Some(scratch) = Scratch::open(real, slot) {
            forward!(real, C_Logout, scratch.session);
        }
    }
    sessions::log_out();
    handles::deal_anew();
}

/// C_Initialize worked: what is away at that time and does not heal by itself is not found later either.
pub fn initialized(control: &Control) {
    spoil(control, |_| true);
}

/// C_Finalize worked: nothing of before counts any more.
pub fn finalized() {
    BROKEN.store(false, Ordering::SeqCst);
    lock(&SPOILT).clear();
    sessions::forget();
    handles::forget();
    slots::forget();
    login::forget();
}

/// Whether a token is out of reach.
pub fn is_gone(control: &Control, label: Option<&str>) -> bool {
    let key = label.filter(|label| control.settings.tokens.contains_key(*label)).map(str::to_string);
    control.token(label).away || lock(&SPOILT).contains(&key)
}

/// What a call answers because module, token or session is out of reach.
pub fn refusal(call: &Call) -> Option<CK_RV> {
    let of_module = matches!(call.function, C_Initialize | C_Finalize | C_GetFunctionList);
    if JAMMED.load(Ordering::SeqCst) && !of_module {
        let _hanging = counts::hang();
        while JAMMED.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
            control::current(call.real);
        }
    }
    let error = call.token().away_error.map(|rv| rv.0);
    if of_module {
        return None;
    }
    if BROKEN.load(Ordering::SeqCst) {
        return Some(error.unwrap_or(CKR_DEVICE_ERROR));
    }
    let removed = call.subject.session.is_some_and(sessions::take_removed);
    let gone = is_gone(&call.control, call.slot.and_then(|_| call.label()).as_deref());
    if gone && call.token().away_shows == Away::Error {
        return (!still_works(call)).then(|| error.unwrap_or(CKR_DEVICE_ERROR));
    }
    if removed {
        return Some(error.unwrap_or(CKR_DEVICE_REMOVED));
    }
    if gone && call.subject.session.is_some() {
        return Some(CKR_SESSION_HANDLE_INVALID);
    }
    let needs_token = call.subject.slot.is_some() && call.function != C_GetSlotInfo;
    (gone && needs_token).then(|| error.unwrap_or(CKR_TOKEN_NOT_PRESENT))
}

fn still_works(call: &Call) -> bool {
    const UNLESS_SAID: &[Function] = &[
        C_GetSlotList,
        C_GetSlotInfo,
        C_GetTokenInfo,
        C_GetMechanismList,
        C_GetMechanismInfo,
        C_OpenSession,
        C_CloseSession,
        C_CloseAllSessions,
        C_GetSessionInfo,
    ];
    let works = call.token().away_still_works.unwrap_or_else(|| FunctionSet::of(UNLESS_SAID));
    call.function == C_GetInfo || works.contains(call.function)
}
