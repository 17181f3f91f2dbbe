//! One call of the module, from entry to return.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use cryptoki_sys::*;

use crate::abi::Function;
use crate::control::{self, Control};
use crate::settings::Token;
use crate::{counts, events, faults, handles, login, mechanisms, operations, real, sessions, slots};

/// Held for reading while the real module works, for writing while something happens behind the callers' backs, so that
/// a session is never closed under a call that uses it.
pub static GATE: RwLock<()> = RwLock::new(());

/// Held by the one call that a token which does one thing at a time is busy with.
static TURN: Mutex<()> = Mutex::new(());

/// What a call is about, as far as faults care.
#[derive(Clone, Copy)]
pub struct Subject {
    pub session: Option<CK_SESSION_HANDLE>,
    pub slot: Option<CK_SLOT_ID>,
    pub object: Option<CK_OBJECT_HANDLE>,
    pub kind: Option<CK_MECHANISM_TYPE>,
    pub input: Option<CK_ULONG>,
    pub output: *mut CK_BYTE,
    pub output_len: *mut CK_ULONG,
}

impl Default for Subject {
    fn default() -> Subject {
        Subject {
            session: None,
            slot: None,
            object: None,
            kind: None,
            input: None,
            output: std::ptr::null_mut(),
            output_len: std::ptr::null_mut(),
        }
    }
}

impl Subject {
    pub fn object(self, object: CK_OBJECT_HANDLE) -> Subject {
        Subject { object: Some(object), ..self }
    }

    pub fn kind(self, kind: CK_MECHANISM_TYPE) -> Subject {
        Subject { kind: Some(kind), ..self }
    }

    pub fn mechanism(self, mechanism: *const CK_MECHANISM) -> Subject {
        // SAFETY: the application passes null or a pointer to a mechanism, here as to any module.
        Subject { kind: unsafe { mechanism.as_ref() }.map(|mechanism| mechanism.mechanism), ..self }
    }

    pub fn input(self, len: CK_ULONG) -> Subject {
        Subject { input: Some(len), ..self }
    }

    pub fn output(self, output: *mut CK_BYTE, output_len: *mut CK_ULONG) -> Subject {
        Subject { output, output_len, ..self }
    }
}

/// A call that is under way.
pub struct Call {
    pub function: Function,
    pub subject: Subject,
    pub real: &'static CK_FUNCTION_LIST,
    pub control: Arc<Control>,
    /// The slot that the call is about, by itself or by its session.
    pub slot: Option<CK_SLOT_ID>,
    /// The mechanism that the call names, or that its operation was begun with.
    pub mechanism: Option<CK_MECHANISM_TYPE>,
}

impl Call {
    fn new(function: Function, subject: Subject, real: &'static CK_FUNCTION_LIST, control: Arc<Control>) -> Call {
        let slot = subject.slot.or_else(|| sessions::slot(subject.session?));
        let mechanism = subject.kind.or_else(|| operations::mechanism(function, subject.session?));
        Call { function, subject, real, control, slot, mechanism }
    }

    /// The label of the call's token, looked up only where the control file tells tokens apart.
    pub fn label(&self) -> Option<String> {
        slots::label(self.real, self.slot?)
    }

    /// What the control file says of the call's token.
    pub fn token(&self) -> &Token {
        if self.control.settings.tokens.is_empty() {
            return &self.control.settings.token;
        }
        self.control.token(self.label().as_deref())
    }

    /// The class of the object that the call is about.
    pub fn class(&self) -> Option<CK_OBJECT_CLASS> {
        let object = handles::real(self, self.subject.object?);
        real::ulong_attribute(self.real, self.subject.session?, object, CKA_CLASS)
    }

    /// Keeps sessions from being closed while the real module is asked something. Never taken twice by one call.
    pub fn at_work(&self) -> RwLockReadGuard<'static, ()> {
        GATE.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers that there is nothing, for a call that pretends to have worked.
    fn give_nothing(&self) {
        // SAFETY: the application passes null or a pointer to a length, here as to any module.
        if let Some(len) = unsafe { self.subject.output_len.as_mut() } {
            *len = 0;
        }
    }
}

/// Runs one call; a panic becomes CKR_GENERAL_ERROR.
pub fn enter(function: Function, subject: Subject, work: impl FnOnce(&Call) -> CK_RV) -> CK_RV {
    guarded(|| run(function, subject, work))
}

/// Lets no panic out to an application.
pub fn guarded(work: impl FnOnce() -> CK_RV) -> CK_RV {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(CKR_GENERAL_ERROR)
}

fn run(function: Function, subject: Subject, work: impl FnOnce(&Call) -> CK_RV) -> CK_RV {
    let Some(real) = real::module() else {
        return CKR_GENERAL_ERROR;
    };
    let control = control::current(real);
    let call = Call::new(function, subject, real, control);
    let _together = faults::together(&call);
    let _inside = counts::enter(function);
    let _turn = call.control.settings.module.one_at_a_time.then(|| lock(&TURN));

    if let Some(rv) = faults::before(&call) {
        match rv {
            CKR_OK => call.give_nothing(),
            _ => operations::failed(&call, rv),
        }
        return rv;
    }
    if let Some(rv) = refusal(&call) {
        return rv;
    }
    let done = if matches!(function, Function::C_Login | Function::C_Logout) && real::logs_in_alone() {
        let _gate = GATE.write().unwrap_or_else(PoisonError::into_inner);
        work(&call)
    } else {
        let _gate = call.at_work();
        work(&call)
    };
    let rv = faults::after(&call, done);
    if rv == CKR_OK {
        operations::succeeded(&call);
    } else {
        operations::failed(&call, rv);
    }
    rv
}

/// Why the call does not reach the token, if it does not.
fn refusal(call: &Call) -> Option<CK_RV> {
    let refusal = events::refusal(call).or_else(|| login::refusal(call));
    refusal.or_else(|| operations::refusal(call)).or_else(|| mechanisms::refusal(call))
}

/// Locks, also after a panic elsewhere: nothing here is left half-changed by one.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
