//! Logins with the PIN that is kept, where one was lost or each session wants its own, and what they do to object handles.
#![forbid(unsafe_code)]

use std::sync::atomic::Ordering;

use cryptoki::error::RvError;
use cryptoki::session::{Session, UserType};
use cryptoki::types::RawAuthPin;

use super::error::Error;
use super::login::{is_wrong_pin, tells_login};
use super::module::Inside;
use super::policy::LoginKind;
use super::token::Token;

impl Token {
    /// Logs in with the PIN that is known to be right. False if the session was logged in already.
    pub(super) fn log_in_with_kept_pin(&self, session: &Session) -> Result<bool, Error> {
        let refused = Error::Call { function: "C_Login", rv: RvError::PinIncorrect };
        loop {
            let pin = self.gate.kept().ok_or_else(|| refused.clone())?;
            match session.login_with_raw(UserType::User, &pin).map_err(Error::from) {
                Ok(()) => return Ok(true),
                Err(error) => match error.rv() {
                    Some(RvError::UserAlreadyLoggedIn) => return Ok(false),
                    Some(rv) if is_wrong_pin(rv) => {
                        if self.refuses_kept_pin(&pin, &error) {
                            return Err(refused);
                        }
                        // The one that has taken its place has been proved.
                    }
                    _ => return Err(error),
                },
            }
        }
    }

    /// The token refused `pin` with `error`. Whether there is no other by now to be tried.
    pub(super) fn refuses_kept_pin(&self, pin: &RawAuthPin, error: &Error) -> bool {
        let is_revoked = self.gate.revoke(pin);
        if is_revoked {
            // Each further try would bring the token closer to being locked.
            log::warn!("token {}: {error}: the PIN has been changed", self.info().name());
        }
        is_revoked
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
        self.log_in_openly(session, || {
            if self.learnt().takes_every_login == Some(false) {
                return Ok(false);
            }
            // Some say so to every login. Where another one is refused, the login was lost.
            let takes_every = self.log_in_with_kept_pin(session)?;
            self.learn(|learnt| learnt.takes_every_login = Some(takes_every));
            Ok(takes_every)
        })
    }

    /// Logs a new session in, on a token where the login of another session seemed not to be enough.
    pub(super) fn log_in_new(&self, inside: &Inside<'_>, session: &Session) -> Result<(), Error> {
        let logged_in = self.log_in_openly(session, || {
            // This one is logged in now. Where that is not enough for another, this one did not need its own because a login was lost.
            let another = self.open(inside)?;
            let takes_every = self.log_in_with_kept_pin(&another.session)?;
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
        says_nothing: impl FnOnce() -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        if self.learnt().takes_every_login == Some(true) {
            return self.log_in_with_kept_pin(session);
        }
        let dealing = self.health.deals().begin();
        let logged_in = self.log_in_with_kept_pin(session);
        let was_lost = match &logged_in {
            Ok(true) => !says_nothing().unwrap_or(false),
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
}
