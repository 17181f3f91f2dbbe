//! Proving a PIN to a token: what the gate calls when it does not know.
#![forbid(unsafe_code)]

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Instant;

use cryptoki::error::RvError;
use cryptoki::session::{Session, SessionState, UserType};

use super::error::Error;
use super::fault::Fault;
use super::gate::{Pin, Refusal};
use super::mechanisms::Mechanisms;
use super::module::Inside;
use super::policy::LoginKind;
use super::repair::LOST;
use super::slot;
use super::token::Token;
use super::trouble::Trouble;
use super::watch;

impl Token {
    /// How it is logged in to.
    pub(super) fn login_kind(&self) -> LoginKind {
        self.policy.login.unwrap_or_default()
    }

    /// Judges a PIN; asks the token only where the gate does.
    pub(super) fn admit(&self, pin: &Pin<'_>) -> Result<(), Refusal> {
        if self.login_kind() != LoginKind::User {
            return Err(Refusal::NoJudge);
        }
        self.gate.admit(pin, Instant::now(), |pin| self.prove(pin))?;
        self.changes.came_from(pin.origin());
        Ok(())
    }

    /// Makes the token ready for whoever has proved himself otherwise than by its PIN.
    pub(super) fn open_up(&self) -> Result<(), Refusal> {
        let kind = self.login_kind();
        if kind == LoginKind::User {
            return Err(Refusal::NoJudge);
        }
        let _stay = watch::stay();
        if kind == LoginKind::ProtectedPath {
            // Somebody types, who may take as long as the making of a key.
            watch::is_patient();
        }
        // Others wait meanwhile.
        let mut typed = self.typed.lock().unwrap_or_else(PoisonError::into_inner);
        if *typed {
            return Ok(());
        }
        let inside = self.library.enter().map_err(Refusal::Unavailable)?;
        self.on_anchor(&inside, |session| {
            if kind == LoginKind::None {
                return self.look_around(&inside, None);
            }
            self.look_at_pin(&inside)?;
            let told = tells_login(session).unwrap_or(false);
            let was_in = self.announced(|| self.log_in_by_typing(session)).map_err(|error| refusal(error, || false))?;
            self.look_around(&inside, Some((session, told && !was_in)))
        })?;
        *typed = true;
        Ok(())
    }

    /// Logs in with the PIN that is typed at the token. Whether it was logged in already.
    pub(super) fn log_in_by_typing(&self, session: &Session) -> Result<bool, Error> {
        let name = self.info().name();
        log::info!("token {name}: waiting for its PIN to be typed at the token");
        let excuse = watch::types();
        let typed = session.login(UserType::User, None).map_err(Error::from);
        drop(excuse);
        match typed {
            Ok(()) => {
                log::info!("token {name}: logged in");
                Ok(false)
            }
            Err(error) if error.rv() == Some(RvError::UserAlreadyLoggedIn) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Logs in, whatever the token says of its need for it or of the session's state: only C_Login proves a PIN.
    fn prove(&self, pin: &Pin<'_>) -> Result<(), Refusal> {
        let inside = self.library.enter().map_err(Refusal::Unavailable)?;
        self.look_at_pin(&inside)?;
        if !self.attempts.take(Instant::now()) {
            return Err(Refusal::TooManyAttempts);
        }
        self.on_anchor(&inside, |session| {
            let told = tells_login(session).unwrap_or(false);
            let is_away = || slot::is_empty(inside.pkcs11(), self.slot);
            let was_in =
                self.announced(|| log_in(session, pin, is_away)).inspect_err(|refusal| self.hint_at_pad(refusal))?;
            self.look_around(&inside, Some((session, told && !was_in)))
        })?;
        // Only now: what a module answers to a wrong PIN is not sure.
        self.attempts.give_back();
        log::info!("token {}: logged in, {} mechanisms", self.info().name(), self.mechanisms().iter().count());
        Ok(())
    }

    /// Logs in, and has everybody who uses a handle know of it: the token may deal its handles anew. Sessions that are open since before
    /// a PIN was revoked, or since an earlier login, have some.
    fn announced<T>(&self, log_in: impl FnOnce() -> T) -> T {
        let _dealing = self.health.deals().begin();
        let done = log_in();
        self.forget_handles();
        done
    }

    /// Refuses to have a PIN tried where a wrong one would lock the token, or where it is locked, and of another token than its own.
    fn look_at_pin(&self, inside: &Inside<'_>) -> Result<(), Refusal> {
        match slot::describe(inside, self.slot).and_then(|info| self.is_still(info)) {
            Ok(info) if info.user_pin_locked => Err(Refusal::PinLocked),
            Ok(info) if info.user_pin_final_try => Err(Refusal::FinalTry),
            // What cannot be read may hold anything; the token itself is there.
            Ok(_) | Err(Error::Binding { .. }) => Ok(()),
            Err(error) => Err(Refusal::Unjudged(error)),
        }
    }

    /// Does `work` on the session that keeps the login, opened if there is none.
    fn on_anchor(
        &self,
        inside: &Inside<'_>,
        mut work: impl FnMut(&Session) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let (mut anchor, place) = self.pool.take_anchor().map_err(Refusal::Unjudged)?;
        let mut trouble = Trouble::default();
        loop {
            // One whose handle was issued again is another session by now, maybe with another token, which would be asked for its PIN.
            if let Some(lost) = anchor.take_if(|seat| seat.claim.is_lost()) {
                lost.forget();
            }
            let seat = anchor.take().map_or_else(|| self.open(inside), Ok).map_err(Refusal::Unjudged)?;
            let verdict = work(&seat.session);
            // Nor does it count what another token says.
            let verdict = if seat.claim.is_lost() { Err(Refusal::Unjudged(LOST)) } else { verdict };
            match &verdict {
                Err(Refusal::Unjudged(error)) if error.fault() == Fault::Session => {
                    seat.end(error);
                    // A PIN that was not judged does no harm when it is tried again.
                    if trouble.goes_on(self.wait) {
                        log::debug!("token {}: {error}: tried again on another session", self.info().name());
                        continue;
                    }
                }
                Err(Refusal::Unjudged(_)) => drop(seat),
                _ => place.keep(seat),
            }
            return verdict;
        }
    }

    /// What can be told of the token once it is open: its mechanisms, and whether its sessions tell of the login. NetHSM's say that
    /// they are logged in before anybody is: then `session` comes with true.
    fn look_around(&self, inside: &Inside<'_>, session: Option<(&Session, bool)>) -> Result<(), Refusal> {
        if let Some((session, lied)) = session {
            let tells = !lied && tells_login(session).map_err(Refusal::Unjudged)?;
            self.tells_login.store(tells, Ordering::Relaxed);
            self.learn(|learnt| learnt.tells_login = Some(tells));
        }
        if self.mechanisms.get().is_none() {
            let read = Mechanisms::read(inside.pkcs11(), self.slot, &self.policy.omit_mechanisms);
            // Nobody else fills it: one is let in at a time.
            let _ = self.mechanisms.set(read.map_err(Refusal::Unjudged)?);
        }
        self.learn(|learnt| learnt.login = Some(self.login_kind()));
        Ok(())
    }

    fn hint_at_pad(&self, refusal: &Refusal) {
        if matches!(refusal, Refusal::WrongPin | Refusal::DoubtfulPin) && self.info().protected_authentication_path {
            log::warn!(
                "token {}: it refuses a PIN that is not typed at the token itself, or this one\nhint: login = \"protected-path\" has it asked for there",
                self.info().name()
            );
        }
    }
}

/// Proves a PIN; `is_away` tells whether there is no token in the slot. Whether somebody was logged in already, who is so no more.
pub(super) fn log_in(session: &Session, pin: &Pin<'_>, is_away: impl Fn() -> bool) -> Result<bool, Refusal> {
    let secret = pin.secret();
    let attempt = || session.login_with_raw(UserType::User, &secret).map_err(Error::from);
    match attempt() {
        Ok(()) => Ok(false),
        Err(error) if error.rv() == Some(RvError::UserAlreadyLoggedIn) => {
            // Somebody else's PIN, then. Nobody is served before a PIN is known, so nobody is disturbed.
            session.logout().map_err(|error| Refusal::Unjudged(error.into()))?;
            attempt().map(|()| true).map_err(|error| refusal(error, is_away))
        }
        Err(error) => Err(refusal(error, is_away)),
    }
}

/// What a failed C_Login says of the PIN.
fn refusal(error: Error, is_away: impl Fn() -> bool) -> Refusal {
    match error.rv() {
        Some(rv) if is_vague(rv) && is_away() => Refusal::Unjudged(slot::EMPTY),
        Some(rv) if is_vague(rv) => Refusal::DoubtfulPin,
        Some(rv) if is_wrong_pin(rv) => Refusal::WrongPin,
        Some(RvError::PinLocked) => Refusal::PinLocked,
        _ => Refusal::Unjudged(error),
    }
}

/// What C_Login says of a wrong PIN.
pub(super) fn is_wrong_pin(rv: RvError) -> bool {
    matches!(rv, RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange) || is_vague(rv)
}

/// What it says of a wrong PIN and of much else: NetHSM USER_TYPE_INVALID, also where it is locked or does not answer, and YubiHSM
/// ARGUMENTS_BAD of a PIN of the wrong form.
pub(super) fn is_vague(rv: RvError) -> bool {
    matches!(rv, RvError::ArgumentsBad | RvError::UserTypeInvalid)
}

/// Whether the session says that it is logged in; it does if the binding does not understand what it says.
pub(super) fn tells_login(session: &Session) -> Result<bool, Error> {
    match session.get_session_info().map_err(Error::from) {
        Ok(info) => Ok(is_user(info.session_state())),
        Err(Error::Binding { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

fn is_user(state: SessionState) -> bool {
    matches!(state, SessionState::RoUser | SessionState::RwUser)
}
