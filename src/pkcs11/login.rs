//! Proving a PIN to a token: what the gate calls when it does not know.
#![forbid(unsafe_code)]

use std::sync::atomic::Ordering;
use std::time::Instant;

use cryptoki::error::RvError;
use cryptoki::session::{Session, UserType};

use super::error::Error;
use super::gate::{Pin, Refusal};
use super::mechanisms::Mechanisms;
use super::repair::tells_login;
use super::token::Token;

impl Token {
    /// Judges a PIN; asks the token only where the gate does.
    pub(super) fn admit(&self, pin: &Pin<'_>) -> Result<(), Refusal> {
        self.gate.admit(pin, |pin| self.prove(pin))?;
        self.changes.came_from(pin.origin());
        Ok(())
    }

    /// Reads what the token can do, where it needs no login for that.
    pub(super) fn read_mechanisms(&self) -> Result<(), Error> {
        if self.mechanisms.get().is_none() {
            let inside = self.library.enter()?;
            // Who comes second has read the same.
            let _ = self.mechanisms.set(Mechanisms::read(inside.pkcs11(), self.slot)?);
        }
        Ok(())
    }

    /// Logs in, whatever the token says of its need for it or of the session's state: only C_Login proves a PIN.
    fn prove(&self, pin: &Pin<'_>) -> Result<(), Refusal> {
        let inside = self.library.enter().map_err(Refusal::Unavailable)?;
        match inside.pkcs11().get_token_info(self.slot).map_err(Error::from) {
            Ok(info) if info.user_pin_locked() => return Err(Refusal::PinLocked),
            Ok(info) if info.user_pin_final_try() => return Err(Refusal::FinalTry),
            // What the binding cannot read may hold anything; the token itself is there.
            Ok(_) | Err(Error::Binding { .. }) => {}
            Err(error) => return Err(Refusal::Unjudged(error)),
        }
        if !self.attempts.take(Instant::now()) {
            return Err(Refusal::TooManyAttempts);
        }
        let anchor = self.pool.take_anchor().map_err(Refusal::Unjudged)?;
        let anchor = match anchor.map_or_else(|| self.open(&inside), Ok) {
            Ok(anchor) => anchor,
            Err(error) => {
                self.pool.anchor(None);
                return Err(Refusal::Unjudged(error));
            }
        };
        let verdict = log_in(&anchor.session, pin).and_then(|()| {
            let tells = tells_login(&anchor.session).map_err(Refusal::Unjudged)?;
            self.tells_login.store(tells, Ordering::Relaxed);
            if self.mechanisms.get().is_none() {
                let read = Mechanisms::read(inside.pkcs11(), self.slot).map_err(Refusal::Unjudged)?;
                // Nobody else fills it: the gate lets one in at a time.
                let _ = self.mechanisms.set(read);
            }
            Ok(())
        });
        let sound = !matches!(verdict, Err(Refusal::Unjudged(_)));
        self.pool.anchor(sound.then_some(anchor));
        if verdict.is_ok() {
            log::info!("token {}: logged in, {} mechanisms", self.info().name(), self.mechanisms().iter().count());
        }
        verdict
    }
}

pub(super) fn log_in(session: &Session, pin: &Pin<'_>) -> Result<(), Refusal> {
    let secret = pin.secret();
    let attempt = || session.login_with_raw(UserType::User, &secret).map_err(Error::from);
    let result = match attempt() {
        Err(error) if error.rv() == Some(RvError::UserAlreadyLoggedIn) => {
            // Somebody else's PIN, then. Nobody is served before a PIN is known, so nobody is disturbed.
            session.logout().map_err(|error| Refusal::Unjudged(error.into()))?;
            attempt()
        }
        other => other,
    };
    result.map_err(|error| match error.rv() {
        Some(rv) if is_wrong_pin(rv) => Refusal::WrongPin,
        Some(RvError::PinLocked) => Refusal::PinLocked,
        _ => Refusal::Unjudged(error),
    })
}

/// What C_Login says of a wrong PIN: NetHSM USER_TYPE_INVALID, and YubiHSM ARGUMENTS_BAD of one of the wrong form.
pub(super) fn is_wrong_pin(rv: RvError) -> bool {
    matches!(
        rv,
        RvError::ArgumentsBad
            | RvError::PinIncorrect
            | RvError::PinInvalid
            | RvError::PinLenRange
            | RvError::UserTypeInvalid
    )
}
