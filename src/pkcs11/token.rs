//! One token: its gate, its sessions, what is remembered of its objects, and the operations.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use cryptoki::error::RvError;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use cryptoki::slot::Slot;

use super::Settings;
use super::attempts::Attempts;
use super::cache::{Forgotten, Handles, Keys, Nameless, Sightings};
use super::change::Changes;
use super::changing::Changing;
use super::error::Error;
use super::gate::Gate;
use super::health::Health;
use super::issued::Claim;
use super::kept::Turns;
use super::key::{Class, Hex, Key, PublicKey};
use super::learnt::Learnt;
use super::mechanisms::Mechanisms;
use super::module::{Inside, Library};
use super::object;
use super::policy::Policy;
use super::pool::{Loan, Pool};
use super::repair::LOST;
use super::search::Efforts;
use super::slot::TokenInfo;
use super::spread::Waits;

/// How many session handles in a row may turn out to be held already, before the module is taken for one that knows no others.
const HANDLES: usize = 64;

/// A token that a client was admitted to.
///
/// Every operation borrows a session for as long as it takes, and fails with [`Error::Closed`] once the module is
/// finalized. What makes, changes or destroys objects runs one at a time.
pub struct Token {
    info: TokenInfo,
    pub(super) policy: Policy,
    /// Bytes of a new key's CKA_ID, where the token wants no other number.
    pub(super) id_length: usize,
    pub(super) learnt: Mutex<Learnt>,
    pub(super) slot: Slot,
    /// Slot and serial number of tokens that have the same label, and were seen while this one was there.
    pub(super) namesakes: Mutex<Vec<(u64, String)>>,
    pub(super) gate: Gate,
    pub(super) attempts: Attempts,
    pub(super) changes: Changes,
    pub(super) mechanisms: OnceLock<Mechanisms>,
    pub(super) keys: Keys,
    pub(super) sightings: Sightings,
    pub(super) effort: Efforts,
    pub(super) at_once: object::AtOnce,
    pub(super) nameless: Nameless,
    pub(super) forgotten: Forgotten,
    pub(super) health: Health,
    /// Whether the state of a session says that it is logged in, where it is.
    pub(super) tells_login: AtomicBool,
    /// Whether somebody waits for what it was asked, to see whether it answers.
    pub(super) asked: AtomicBool,
    /// Whether a session has to be logged in whatever the others are.
    pub(super) logs_in_each: AtomicBool,
    pub(super) turns: Turns,
    /// Whether a PIN was typed at the token itself. Held by whoever waits for that.
    pub(super) typed: Mutex<bool>,
    /// How long to wait for a session, or for a repair.
    pub(super) wait: Duration,
    pub(super) waits: Waits,
    pub(super) me: Weak<Self>,
    pub(super) changing: Changing,
    // Sessions are closed before the library is finalized: fields are dropped in this order.
    pub(super) pool: Pool<Seat>,
    pub(super) library: Arc<Library>,
}

/// A session and the object handles found in it.
pub(super) struct Seat {
    pub(super) session: Session,
    pub(super) handles: Handles,
    /// How many repairs of the token it has seen: one that missed the last may be lost.
    pub(super) repairs: u64,
    /// Whether it turned out to be in the middle of something.
    pub(super) is_busy: bool,
    /// Dropped after the session is closed: fields are dropped in this order.
    pub(super) claim: Claim<Session>,
}

impl Seat {
    /// Lets go of a session that is lost, or said to be.
    pub(super) fn forget(self) {
        self.claim.let_go(self.session);
    }

    /// Closes a session in which a call failed with `error`; with care, if that says that it is lost.
    pub(super) fn end(self, error: &Error) {
        if error.is_lost_session() {
            self.forget();
        }
    }

    /// Leaves it as it is, where all sessions are lost.
    fn abandon(self) {
        std::mem::forget(self.session);
        self.claim.abandon();
    }
}

/// A session on loan, and with it the right to call the module.
pub(super) struct Lent<'t> {
    // Goes back, or is closed, while the module may still be called: fields are dropped in this order.
    pub(super) loan: Loan<'t, Seat>,
    /// How many deals there had been when the handles in it were good.
    pub(super) dealt: u64,
    _inside: Inside<'t>,
}

impl Token {
    pub(super) fn new(
        library: Arc<Library>,
        slot: Slot,
        info: TokenInfo,
        settings: &Settings,
    ) -> Result<Arc<Self>, Error> {
        let gate = Gate::new()?;
        let policy = Policy::of(&settings.policies, &info);
        let wait = settings.session_timeout;
        let max_sessions = policy.max_sessions.unwrap_or(settings.max_sessions);
        let token = Arc::new_cyclic(|me| Self {
            gate,
            attempts: Attempts::new(settings.max_pin_tries),
            changes: Changes::new(settings.max_changed_pin_tries),
            mechanisms: OnceLock::new(),
            keys: Keys::default(),
            sightings: Sightings::default(),
            effort: Efforts::default(),
            at_once: object::AtOnce::default(),
            nameless: Nameless::default(),
            forgotten: Forgotten::default(),
            health: Health::default(),
            tells_login: AtomicBool::new(false),
            asked: AtomicBool::new(false),
            logs_in_each: AtomicBool::new(false),
            turns: Turns::default(),
            typed: Mutex::new(false),
            wait,
            waits: Waits::default(),
            me: Weak::clone(me),
            changing: Changing::new(settings.call_timeout / 4),
            pool: Pool::new(places(&info, max_sessions), wait),
            id_length: settings.id_length,
            learnt: Mutex::new(Learnt::default().fixed(&policy)),
            policy,
            info,
            slot,
            namesakes: Mutex::default(),
            library,
        });
        token.library.tokens.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&token));
        Ok(token)
    }

    /// What the token says of itself.
    pub fn info(&self) -> &TokenInfo {
        &self.info
    }

    /// How many requests can be served at once: a session each.
    pub fn places(&self) -> u32 {
        // Where there is no other, the one that keeps the login serves.
        self.pool.places().max(1)
    }

    /// What the token can do, read when its PIN was proved.
    pub fn mechanisms(&self) -> &Mechanisms {
        self.mechanisms.get_or_init(Mechanisms::default)
    }

    /// The facts of a key, remembered for the next time.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`], [`Error::Unsupported`] if the token does not say what key it is, or a
    /// failure of the module.
    pub fn key(&self, class: Class, id: &[u8]) -> Result<Arc<Key>, Error> {
        if self.library.is_closed() {
            return Err(Error::Closed);
        }
        if let Some(key) = self.keys.known(class, id) {
            return Ok(key);
        }
        let generation = self.keys.generation();
        let key = self.on_object(class, id, |session, object| object::facts(session, object, class, id))?;
        // A handle may be another object's by the time it is read, and a module may err: that object was not asked for.
        if key.id != id {
            log::warn!(
                "token {}: the {class} {} was searched, but found under another CKA_ID",
                self.info.name(),
                Hex(id)
            );
            return Err(Error::NotFound { class });
        }
        let key = Arc::new(key);
        self.keys.remember(generation, class, id, Arc::clone(&key));
        Ok(key)
    }

    /// Remembers the other half of a private key, of which the token itself says nothing.
    pub fn learn_public(&self, key: &Arc<Key>, public: PublicKey) -> Arc<Key> {
        let kind = public.kind();
        let learnt = Arc::new(Key { kind, public: Some(public), ..Key::clone(key) });
        self.keys.replace(key, &learnt);
        learnt
    }

    /// Whether another token has taken its place, so that it has to be looked for by its name.
    pub(super) fn is_replaced(&self) -> bool {
        self.health.is_replaced()
    }

    /// Does `work` on an object, once more if its handle turns out to be stale. Only for what may be done twice.
    pub(super) fn on_object<T>(
        &self,
        class: Class,
        id: &[u8],
        work: impl Fn(&Session, ObjectHandle) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let attempt = || {
            let result = self.run(|seat| {
                let object = self.locate(seat, class, id)?;
                work(&seat.session, object)
            });
            if let Err(error) = &result {
                match error {
                    // It was never there, as far as is known here: that says nothing of the other half, which is there perhaps.
                    Error::NotFound { .. } if self.keys.known(class, id).is_none() => self.forget_places(id),
                    Error::NotFound { .. } => self.forget(id),
                    error if error.is_stale_handle() => self.forget(id),
                    _ => {}
                }
            }
            result
        };
        match attempt() {
            Err(error) if error.is_stale_handle() => attempt(),
            result => result,
        }
    }

    /// Whether handles that were had after there had been `dealt` deals may mean others by now.
    pub(super) fn may_be_stale(&self, seat: &Seat, dealt: u64) -> bool {
        seat.claim.is_lost() || !self.health.deals().are_still(dealt, self.wait, || self.forget_handles())
    }

    /// Forgets what is known of the objects with this id, in every session.
    pub(super) fn forget(&self, id: &[u8]) {
        self.keys.forget(id);
        self.forget_places(id);
    }

    fn forget_places(&self, id: &[u8]) {
        self.sightings.forget(id);
        self.forgotten.add(id);
    }

    /// Forgets every handle.
    pub(super) fn forget_handles(&self) {
        self.sightings.forget_all();
        self.effort.reset();
        self.forgotten.all();
    }

    pub(super) fn lend(&self) -> Result<Lent<'_>, Error> {
        let inside = self.library.enter()?;
        loop {
            let mut loan = self.pool.lend(|| {
                let seat = self.open(&inside)?;
                if self.logs_in_each.load(Ordering::Relaxed) {
                    self.log_in_new(&inside, &seat.session)?;
                }
                Ok(seat)
            })?;
            if loan.get()?.claim.is_lost() {
                // Its handle means another session by now, with another token perhaps. The anchor is for a repair to replace.
                loan.lose().map(Seat::forget).ok_or(LOST)?;
                continue;
            }
            let seat = loan.get()?;
            if seat.repairs >= self.health.repairs() {
                // Before what was forgotten at one of them is known here.
                let dealt = self.health.deals().so_far();
                self.forgotten.apply(&mut seat.handles);
                return Ok(Lent { loan, dealt, _inside: inside });
            }
            loan.discard();
        }
    }

    /// Opens a session: read/write, which some tokens insist on, or read-only if the token is write-protected.
    pub(super) fn open(&self, inside: &Inside<'_>) -> Result<Seat, Error> {
        let repairs = self.health.repairs();
        for _ in 0..HANDLES {
            let _opening = self.library.issued.opening();
            let session = match inside.pkcs11().open_rw_session(self.slot).map_err(Error::from) {
                Err(error) if error.rv() == Some(RvError::TokenWriteProtected) => {
                    inside.pkcs11().open_ro_session(self.slot)?
                }
                other => other?,
            };
            if let Some((session, claim)) = self.library.issued.claim(session.handle(), session) {
                return Ok(Seat { session, handles: Handles::new(&self.forgotten), repairs, is_busy: false, claim });
            }
            log::debug!("token {}: a session handle is issued again: whoever holds it has lost his", self.info.name());
        }
        Err(Error::Call { function: "C_OpenSession", rv: RvError::SessionHandleInvalid })
    }

    /// Lends no more sessions; who waits for one is refused.
    pub(super) fn close(&self) {
        self.pool.close();
    }

    /// Logs out and closes every session. Nobody may be inside the module.
    pub(super) fn release(&self) {
        let mut sessions = self.pool.drain();
        if let Some(anchor) = sessions.pop() {
            if let Err(error) = anchor.session.logout().map_err(Error::from) {
                log::debug!("token {}: {error}", self.info.name());
            }
        }
    }

    /// Leaves the sessions as they are, for a module that can no longer be called.
    pub(super) fn abandon(&self) {
        self.pool.drain().into_iter().for_each(Seat::abandon);
    }
}

/// How many sessions may be lent: what the token and the operator allow, less the anchor.
fn places(info: &TokenInfo, allowed: u32) -> u32 {
    [info.max_sessions, info.max_rw_sessions]
        .into_iter()
        .flatten()
        .map(|most| u32::try_from(most).unwrap_or(u32::MAX))
        .fold(allowed, u32::min)
        .saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lends_no_more_sessions_than_the_token_and_the_operator_allow() {
        let limits =
            |max_sessions, max_rw_sessions| TokenInfo { max_sessions, max_rw_sessions, ..TokenInfo::default() };
        assert_eq!(places(&limits(None, None), 64), 63);
        assert_eq!(places(&limits(Some(16), None), 64), 15);
        assert_eq!(places(&limits(Some(1024), Some(8)), 64), 7);
        assert_eq!(places(&limits(Some(u64::MAX), None), 2), 1);
        // The anchor has to serve.
        assert_eq!(places(&limits(Some(1), None), 64), 0);
        assert_eq!(places(&limits(None, None), 1), 0);
    }
}
