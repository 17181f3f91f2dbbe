//! Logins with the PIN that is kept, where one was lost or each session wants its own, and what they do to object handles.
#![forbid(unsafe_code)]

use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cryptoki::error::RvError;
use cryptoki::session::{Session, UserType};

use super::error::Error;
use super::gate::Verdict;
use super::login::{is_vague, is_wrong_pin, tells_login};
use super::module::Inside;
use super::policy::LoginKind;
use super::slot::{self, TokenInfo};
use super::token::Token;

/// What is answered where the token has refused the PIN that was kept: it is not tried again.
pub(super) const REFUSED: Error = Error::Call { function: "C_Login", rv: RvError::PinIncorrect };

impl Token {
    /// Logs in with the PIN that is known to be right. False if the session was logged in already.
    pub(super) fn log_in_with_kept_pin(&self, session: &Session) -> Result<bool, Error> {
        self.log_in_by_turns(&self.turns.take(self.wait), session)
    }

    fn log_in_by_turns(&self, turn: &Turn<'_>, session: &Session) -> Result<bool, Error> {
        match self.offer_kept_pin(turn, session, UserType::User) {
            Ok(()) => Ok(true),
            Err(error) => match error.rv() {
                Some(RvError::UserAlreadyLoggedIn) => Ok(false),
                Some(rv) if is_wrong_pin(rv) => Err(REFUSED),
                _ => Err(error),
            },
        }
    }

    /// The login of its own that a key wants for each use. [`Self::look_whether_to_try`] comes before what is begun with the key.
    pub(super) fn log_in_for_key(&self, session: &Session) -> Result<(), Error> {
        self.offer_kept_pin(&self.turns.take(self.wait), session, UserType::ContextSpecific)
    }

    /// C_Login with the PIN that is kept. If that is no longer right it costs the token one try: whoever comes next finds it revoked.
    fn offer_kept_pin(&self, _turn: &Turn<'_>, session: &Session, kind: UserType) -> Result<(), Error> {
        loop {
            let pin = self.gate.kept().ok_or(REFUSED)?;
            match session.login_with_raw(kind, &pin).map_err(Error::from) {
                Err(error) if error.rv().is_some_and(is_wrong_pin) => {
                    let name = self.info().name();
                    let is_doubtful = error.rv().is_some_and(is_vague);
                    if is_doubtful && slot::is_empty(self.library.pkcs11_of(session), self.slot) {
                        log::debug!("token {name}: {error}: there is none in the slot");
                        return Err(slot::EMPTY);
                    }
                    let verdict = if is_doubtful { Verdict::Doubtful(Instant::now()) } else { Verdict::Wrong };
                    if self.gate.revoke(&pin, verdict) {
                        let what = if is_doubtful { ", or the token is in trouble" } else { "" };
                        log::warn!("token {name}: {error}: the PIN has been changed{what}");
                        return Err(error);
                    }
                    // The one that has taken its place has been proved.
                }
                other => return other,
            }
        }
    }

    /// To be asked when an object seems not to be there: without a login, private objects are not seen. True if there is one only
    /// now, so that it is worth looking again.
    ///
    /// # Errors
    /// The login is lost, and the state of the session tells it.
    pub(super) fn check_login(&self, session: &Session) -> Result<bool, Error> {
        if self.tells_login.load(Ordering::Relaxed) {
            if tells_login(session)? {
                return Ok(false);
            }
            return Err(Error::Call { function: "C_GetSessionInfo", rv: RvError::UserNotLoggedIn });
        }
        // Only another login tells, where a PIN is known.
        if self.login_kind() != LoginKind::User || self.learnt().tells_login.is_none() {
            return Ok(false);
        }
        self.log_in_openly(session, |turn| {
            if self.learnt().takes_every_login == Some(false) {
                return Ok(false);
            }
            // Some say so to every login. Where another one is refused, the login was lost.
            let takes_every = self.log_in_by_turns(turn, session)?;
            self.learn(|learnt| learnt.takes_every_login = Some(takes_every));
            Ok(takes_every)
        })
    }

    /// Logs a new session in, on a token where the login of another session seemed not to be enough.
    pub(super) fn log_in_new(&self, inside: &Inside<'_>, session: &Session) -> Result<(), Error> {
        let logged_in = self.log_in_openly(session, |turn| {
            // This one is logged in now. Where that is not enough for another, this one did not need its own because a login was lost.
            let another = self.open(inside)?;
            let takes_every = self.log_in_by_turns(turn, &another.session)?;
            self.learn(|learnt| learnt.takes_every_login = Some(takes_every));
            Ok(takes_every)
        })?;
        if !logged_in {
            log::debug!("token {}: a new session is logged in by the login of another", self.info().name());
            self.logs_in_each.store(false, Ordering::Relaxed);
            self.learn(|learnt| learnt.logs_in_each = None);
        }
        Ok(())
    }

    /// Logs in, and has everybody who uses a handle know of it where the login had been lost: the token may have dealt its handles
    /// anew, in the middle of what others do. `says_nothing` is asked after a login that succeeds, whether another one does so too.
    fn log_in_openly(
        &self,
        session: &Session,
        says_nothing: impl FnOnce(&Turn<'_>) -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        let turn = self.turns.take(self.wait);
        self.look_whether_to_try(session)?;
        if self.learnt().takes_every_login == Some(true) {
            return self.log_in_by_turns(&turn, session);
        }
        let dealing = self.health.deals().begin();
        let logged_in = self.log_in_by_turns(&turn, session);
        let was_lost = match &logged_in {
            Ok(true) => !says_nothing(&turn).unwrap_or(false),
            Ok(false) => false,
            // Whatever else went wrong, the token may have done it.
            Err(error) => !error.rv().is_some_and(is_wrong_pin),
        };
        if was_lost {
            self.forget_handles();
        } else {
            dealing.was_none();
        }
        logged_in
    }

    /// Refuses to have the kept PIN tried where a wrong one would lock the token, as nobody knows whether it is still right,
    /// and on another token.
    pub(super) fn look_whether_to_try(&self, session: &Session) -> Result<(), Error> {
        match slot::describe_from(session, &self.library, self.slot).and_then(|info| self.is_still(info)) {
            Ok(info) => may_try(&info),
            // What cannot be read may hold anything; the token itself is there.
            Err(Error::Binding { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What is in the slot, if it is still this token: another is not to be asked about its PIN, but found by who has the other's.
    pub(super) fn is_still(&self, info: TokenInfo) -> Result<TokenInfo, Error> {
        if self.info().is_same(&info) {
            return Ok(info);
        }
        self.health.replace();
        Err(Error::Call { function: "C_GetTokenInfo", rv: RvError::TokenNotRecognized })
    }
}

/// Whether the token says nothing against another try of its PIN.
pub(super) fn may_try(info: &TokenInfo) -> Result<(), Error> {
    if info.user_pin_locked || info.user_pin_final_try {
        return Err(Error::Call { function: "C_Login", rv: RvError::PinLocked });
    }
    Ok(())
}

/// Whose turn it is to log in with the kept PIN: were it tried by many at once, and wrong by now, it would lock the token.
#[derive(Default)]
pub(super) struct Turns {
    state: Mutex<Taken>,
    is_over: Condvar,
}

#[derive(Default)]
struct Taken {
    turns: u64,
    since: Option<Instant>,
}

impl Turns {
    /// Waits for who has the turn, but for no longer than `most`: a login that hangs has not been refused.
    fn take(&self, most: Duration) -> Turn<'_> {
        let mut taken = self.lock();
        while let Some(left) = taken.since.and_then(|since| most.checked_sub(since.elapsed())) {
            taken = self.is_over.wait_timeout(taken, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        taken.turns = taken.turns.saturating_add(1);
        taken.since = Some(Instant::now());
        Turn { turns: self, number: taken.turns }
    }

    /// Whole whenever the lock is free.
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to log in with the kept PIN.
struct Turn<'t> {
    turns: &'t Turns,
    number: u64,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut taken = self.turns.lock();
        // It may be another's by now.
        if taken.turns == self.number {
            taken.since = None;
            self.turns.is_over.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    #[test]
    fn one_at_a_time_has_the_turn() {
        let (turns, inside) = (Turns::default(), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let _turn = turns.take(Duration::from_secs(3600));
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
    }

    #[test]
    fn a_turn_that_does_not_end_is_taken_over_and_ends_no_other() {
        let turns = Turns::default();
        let hangs = turns.take(Duration::ZERO);
        let mine = turns.take(Duration::ZERO);
        drop(hangs);
        assert!(turns.lock().since.is_some(), "mine has ended");
        drop(mine);
        assert!(turns.lock().since.is_none());
    }
}
