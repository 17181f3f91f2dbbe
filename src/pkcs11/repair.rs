//! Repair: what is lost is made anew and the request tried again; what is away is tried again until it is back.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use cryptoki::error::RvError;
use cryptoki::session::Session;
use cryptoki::slot::Slot;

use super::deals::Dealing;
use super::error::Error;
use super::fault::Fault;
use super::kept::may_try;
use super::key::Class;
use super::login::{is_wrong_pin, tells_login};
use super::module::Inside;
use super::object;
use super::policy::LoginKind;
use super::slot::{self, TokenInfo};
use super::token::{Seat, Token};
use super::trouble::{Seen, Trouble};
use super::watch;

/// How often a token that is away is looked for.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// An identifier that no object has.
const NOBODY: &[u8] = b"cascade-hsm-bridge: is the token there?";

/// What a session is told whose handle means another by now.
pub(super) const LOST: Error = Error::Call { function: "C_GetSessionInfo", rv: RvError::SessionHandleInvalid };

impl Token {
    /// Does `work` on a session, and again once what was lost is repaired. Only for what may be done twice.
    pub(super) fn run<T>(&self, work: impl FnMut(&mut Seat) -> Result<T, Error>) -> Result<T, Error> {
        self.run_until(&Cell::new(false), work)
    }

    /// As [`Self::run`], but `work` is not done again once it has set `begun`.
    pub(super) fn run_until<T>(
        &self,
        begun: &Cell<bool>,
        mut work: impl FnMut(&mut Seat) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut trouble = Trouble::default();
        let _stay = watch::stay();
        loop {
            self.health.check()?;
            let mut seen = Seen { repairs: self.health.repairs(), disturbed: false };
            let result = self.attempt(begun, &mut seen, &mut work);
            match result {
                _ if seen.disturbed && !begun.get() && !result.as_ref().is_err_and(Error::is_loss) => {
                    log::debug!("token {}: disturbed by a repair: tried again", self.info().name());
                    if !trouble.goes_on(self.wait) {
                        return Err(Error::Disturbed);
                    }
                    self.health.settle(self.wait)?;
                }
                Ok(done) => return Ok(done),
                Err(error) if begun.get() => return Err(error),
                Err(error) => self.mend(error, seen.repairs, &mut trouble)?,
            }
        }
    }

    /// Does `work` on a session, and says what that has seen. One in which a call failed is closed afterwards.
    fn attempt<T>(
        &self,
        begun: &Cell<bool>,
        seen: &mut Seen,
        work: &mut impl FnMut(&mut Seat) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut lent = self.lend()?;
        let dealt = lent.dealt;
        let seat = lent.loan.get()?;
        seen.repairs = seat.repairs;
        let mut result = work(seat);
        if matches!(result, Err(Error::NotFound { .. })) && !begun.get() {
            // The login may have been lost when it looked, and back by now: only what is missed under a login that is known to
            // stand is missing.
            result = self.check_login(&seat.session).and_then(|_| work(seat));
            if matches!(result, Err(Error::NotFound { .. })) && !begun.get() && self.tells_login.load(Ordering::Relaxed)
            {
                if let Err(error) = self.check_login(&seat.session) {
                    result = Err(error);
                }
            }
        }
        // So YubiHSM says to who makes a key that nobody is logged in; and handles of private objects go with the login.
        let may_be_logout = |error: &Error| error.rv() == Some(RvError::SessionReadOnly) || error.is_stale_handle();
        if result.as_ref().is_err_and(may_be_logout) {
            if let Err(error) = self.check_login(&seat.session) {
                result = Err(error);
            }
        }
        let late = watch::answered();
        let is_lost = seat.claim.is_lost() || result.as_ref().is_err_and(Error::is_lost_session);
        seat.is_busy |= result.as_ref().is_err_and(Error::is_busy_session);
        seen.disturbed = self.may_be_stale(seat, dealt);
        if seat.claim.is_lost() && lent.loan.is_anchor() && !begun.get() {
            // It would be lent again and again: there is no other.
            result = Err(LOST);
        }
        match &result {
            _ if is_lost => drop(lent.loan.lose().map(Seat::forget)),
            _ if late => lent.loan.discard(),
            Err(error) if error.is_failed_call() => lent.loan.discard(),
            _ => {}
        }
        result
    }

    /// Repairs what `error` says is broken, so that the request can be tried again.
    ///
    /// # Errors
    /// What to answer, if there is nothing to repair, or it does not help.
    pub(super) fn mend(&self, error: Error, repairs: u64, trouble: &mut Trouble) -> Result<(), Error> {
        let fault = match &error {
            // The module is not initialised, and does not let itself be.
            Error::Away(why) if self.health.check().is_ok() => return Err(self.fall(why.as_ref().clone())),
            other => other.fault(),
        };
        // There is no login that could be made anew.
        let for_good = fault == Fault::Login && self.login_kind() == LoginKind::None;
        if for_good || matches!(fault, Fault::Request | Fault::Busy | Fault::Handle) {
            return Err(error);
        }
        if trouble.is_enough(fault) {
            return Err(if fault == Fault::Token { self.fall(error) } else { error });
        }
        log::debug!("token {}: {error}: repaired and tried again", self.info().name());
        if fault == Fault::Login && trouble.tried.contains(&fault) && self.login_kind() == LoginKind::User {
            // The one session that was logged in anew is not enough: on NetHSM each has a login of its own.
            self.logs_in_each.store(true, Ordering::Relaxed);
            self.learn(|learnt| learnt.logs_in_each = Some(true));
        }
        let was_lost = self.restore(fault, repairs)?;
        let by_others = was_lost && matches!(fault, Fault::Session | Fault::Login) && trouble.goes_on(self.wait);
        if !by_others {
            trouble.tried.push(fault);
        }
        Ok(())
    }

    /// Makes the token usable again, unless somebody did since there were `repairs` of them. Whether more was lost than the one
    /// session that complained.
    fn restore(&self, fault: Fault, repairs: u64) -> Result<bool, Error> {
        let Some(repair) = self.health.repair(repairs, self.wait)? else { return Ok(true) };
        self.health.check()?;
        match self.reconnect(fault) {
            Ok(was_lost) => {
                repair.done();
                Ok(was_lost)
            }
            // Only from a token that answers.
            Err(error) if error.rv().is_some_and(|rv| is_wrong_pin(rv) || rv == RvError::PinLocked) => Err(error),
            Err(error @ (Error::Call { .. } | Error::Binding { .. })) => Err(self.fall(error)),
            Err(Error::Away(why)) => Err(self.fall(*why)),
            Err(error) => Err(error),
        }
    }

    /// Sees to it that there is a session that keeps the login, initialising the module anew if nothing less helps. Whether that
    /// session or its login was lost.
    fn reconnect(&self, fault: Fault) -> Result<bool, Error> {
        let mut trouble = Trouble::default();
        loop {
            let reopened = match self.reopen(fault) {
                Err(error) if error.fault() == Fault::Module && self.library.renew()? => self.reopen(fault),
                other => other,
            };
            match reopened {
                // Lost again while it was made anew: of the token that says no more than of the session before.
                Err(error) if error.fault() == Fault::Session && trouble.goes_on(self.wait) => {
                    log::debug!("token {}: {error}: lost again during its repair", self.info().name());
                }
                Err(error) if error.fault() == Fault::Login && !trouble.is_enough(Fault::Login) => {
                    trouble.tried.push(Fault::Login);
                }
                other => return other,
            }
        }
    }

    fn reopen(&self, fault: Fault) -> Result<bool, Error> {
        let inside = self.library.enter()?;
        let may_log_in = self.recognise(&inside)?;
        let (anchor, place) = self.pool.take_anchor()?;
        // Kept until the handles are forgotten that sessions lent now have found: they may be another object's by then.
        let mut dealing = None;
        let forgets = Forgets(self);
        let reopened = self.reopen_on(&inside, anchor, fault, may_log_in, &mut dealing);
        drop(forgets);
        drop(dealing);
        let (mut anchor, was_lost) = reopened?;
        anchor.repairs = self.health.repairs().saturating_add(1);
        place.keep(anchor);
        Ok(was_lost)
    }

    /// The session that keeps the login, and whether the one before, or its login, was lost.
    fn reopen_on<'t>(
        &'t self,
        inside: &Inside<'_>,
        anchor: Option<Seat>,
        fault: Fault,
        may_log_in: Result<(), Error>,
        dealing: &mut Option<Dealing<'t>>,
    ) -> Result<(Seat, bool), Error> {
        // Closed before another is opened, which may be given the same handle.
        for seat in self.pool.purge() {
            if seat.claim.is_lost() { seat.forget() } else { drop(seat) }
        }
        let kept = anchor.and_then(|anchor| self.still_open(anchor));
        let was_kept = kept.is_some();
        let (seat, logged_in) = match kept {
            Some(kept) => kept,
            None => (self.open(inside)?, false),
        };
        // Some modules say that they are logged in whether or not they are.
        let is_told = logged_in && self.learnt().tells_login != Some(false);
        let logs_in = self.login_kind() != LoginKind::None;
        let logged_out = logs_in && !logged_in && self.learnt().tells_login != Some(false);
        // Nobody says whether the login stands, and to try would be to risk the PIN. To close the session for that would end the login.
        let is_spared = was_kept && logged_in && fault != Fault::Login && may_log_in.is_err();
        let ready = || {
            if logs_in && !is_spared && (!is_told || fault == Fault::Login) {
                may_log_in?;
                *dealing = Some(self.health.deals().begin());
                self.log_in_again(&seat.session)?;
            }
            if fault > Fault::Login { self.try_out(&seat.session) } else { Ok(()) }
        };
        match ready() {
            Ok(()) => Ok((seat, !was_kept || logged_out)),
            Err(error) => {
                seat.end(&error);
                Err(error)
            }
        }
    }

    /// The session that kept the login, and whether it says that it does; `None` if it is lost, or of no more use.
    fn still_open(&self, anchor: Seat) -> Option<(Seat, bool)> {
        if anchor.is_busy && !anchor.claim.is_lost() {
            // Where it serves, as there is no other. Closing it ends what it is in the middle of, and the login with that.
            log::debug!(
                "token {}: the session that kept the login is in the middle of something: closed",
                self.info().name()
            );
            return None;
        }
        let state = match tells_login(&anchor.session) {
            // Its handle means another session by now.
            Ok(_) if anchor.claim.is_lost() => Err(LOST),
            state => state,
        };
        match state {
            Ok(logged_in) => Some((anchor, logged_in)),
            Err(error) => {
                log::debug!("token {}: {error}: the session that kept the login is lost", self.info().name());
                anchor.end(&error);
                None
            }
        }
    }

    /// Has the token answer something in a thread of its own, unless such a thread still waits: the answer is what counts.
    pub(super) fn ask(self: &Arc<Self>) {
        if self.asked.swap(true, Ordering::AcqRel) {
            return;
        }
        // Dropped with the work, also where no thread is started or it panics.
        let asked = Asked(Arc::clone(self));
        let _asker = thread::Builder::new().name("ask-token".to_owned()).spawn(move || {
            let Asked(me) = &asked;
            if let Err(error) = me.run(|seat| me.try_out(&seat.session)) {
                log::debug!("token {}: {error}", me.info().name());
            }
        });
    }

    /// Tells an HSM in trouble from a request that it has no better word for. The states of sessions do not: YubiHSM says that
    /// it is logged in while its device is away, and tpm2-pkcs11 finds objects without its TPM, but has no random then.
    fn try_out(&self, session: &Session) -> Result<(), Error> {
        match object::find(session, Class::PrivateKey, NOBODY) {
            Ok(_) | Err(Error::NotFound { .. } | Error::Ambiguous { .. }) => {}
            Err(error) => return Err(error),
        }
        if self.info().rng {
            match session.generate_random_slice(&mut [0; 8]).map_err(Error::from) {
                Err(error) if error.fault() > Fault::Handle => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn log_in_again(&self, session: &Session) -> Result<(), Error> {
        if self.login_kind() == LoginKind::ProtectedPath {
            return self.log_in_by_typing(session).map(|_| ());
        }
        if self.log_in_with_kept_pin(session)? {
            log::info!("token {}: logged in again", self.info().name());
        }
        Ok(())
    }

    /// Whether the token in the slot is still this one; and, inside, whether it may be logged in to.
    fn recognise(&self, inside: &Inside<'_>) -> Result<Result<(), Error>, Error> {
        let info = match slot::describe(inside, self.slot) {
            Ok(info) => info,
            // What cannot be read may hold anything; the token itself is there.
            Err(Error::Binding { .. }) => return Ok(Ok(())),
            Err(error) => return Err(error),
        };
        Ok(may_try(&self.is_still(info)?))
    }

    /// The token is away: from now on requests fail at once, and it is looked for. Returns what to answer.
    fn fall(&self, why: Error) -> Error {
        if self.health.fall(why.clone()) {
            let name = self.info().name();
            log::warn!("token {name} is away: {why}\nhint: requests for it are refused until it is back");
            let me = self.me.clone();
            let prober = thread::Builder::new().name("look-for-token".to_owned()).spawn(move || look_for(&me));
            if let Err(error) = prober {
                log::warn!("token {name}: no thread to look for it: {error}");
                // The next request does.
                self.health.rise();
            }
        }
        Error::Away(Box::new(why))
    }

    /// Whether the token is back, made usable.
    fn is_back(&self) -> Result<(), Error> {
        let Some(repair) = self.health.repair(self.health.repairs(), self.wait)? else { return Ok(()) };
        // What cannot be listed may be there all the same.
        if self.has_moved().unwrap_or(false) {
            self.health.replace();
            return Ok(());
        }
        self.reconnect(Fault::Token)?;
        repair.done();
        Ok(())
    }

    /// Whether this token is in another slot, or was initialised anew: then it is for a client's next login to find.
    fn has_moved(&self) -> Result<bool, Error> {
        let me = self.info();
        let slots = slot::scan(&self.library.enter()?)?;
        let mut infos = slots.iter().filter_map(|(_, info)| info.as_ref());
        if let Some(info) = infos.clone().find(|info| info.initialized && info.slot_id == me.slot_id) {
            return Ok(!info.is_same(me));
        }
        // One that was there beside it is not it.
        let others = self.namesakes.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(infos.any(|info| {
            me.is_namesake(info) && !others.iter().any(|(id, serial)| (*id, serial) == (info.slot_id, &info.serial))
        }))
    }

    /// Remembers which other tokens have its name, while it is there too.
    pub(super) fn note_namesakes(&self, slots: &[(Slot, Option<TokenInfo>)]) {
        let infos = slots.iter().filter_map(|(_, info)| info.as_ref());
        let others = infos.filter(|info| self.info().is_namesake(info));
        *self.namesakes.lock().unwrap_or_else(PoisonError::into_inner) =
            others.map(|info| (info.slot_id, info.serial.clone())).collect();
    }
}

/// Has the handles forgotten at its end, whatever that is.
struct Forgets<'t>(&'t Token);

impl Drop for Forgets<'_> {
    fn drop(&mut self) {
        self.0.forget_handles();
    }
}

/// A token that is asked something.
struct Asked(Arc<Token>);

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.asked.store(false, Ordering::Release);
    }
}

/// Looks for a token until it is back, or nobody needs it any more.
fn look_for(token: &Weak<Token>) {
    loop {
        thread::sleep(LOOK_AGAIN);
        let Some(token) = token.upgrade() else { return };
        if token.library.is_closed() {
            return;
        }
        let name = token.info().name();
        // Requests for a token that is away ask the module nothing: that this call hangs would be seen by nobody else.
        let stay = watch::stay();
        let back = catch_unwind(AssertUnwindSafe(|| token.is_back()));
        drop(stay);
        // What the module says may be more than the binding understands. The panic has been logged.
        let Ok(back) = back else { continue };
        if back.as_ref().err().is_none_or(Error::is_failed_call) {
            watch::answered();
        }
        match back {
            Ok(()) if token.health.is_replaced() => {
                log::info!("token {name}: another one is in its place, whose PIN has to be proved");
                return token.health.rise();
            }
            Ok(()) => {
                log::info!("token {name} is back");
                return token.health.rise();
            }
            Err(_) if token.health.is_replaced() => {}
            Err(error) => log::debug!("token {name} is still away: {error}"),
        }
    }
}
