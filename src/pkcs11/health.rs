//! How a token is: up, or known to be away, so that requests for it fail at once; and who repairs it, one at a time.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::deals::Deals;
use super::error::Error;

/// The state of one token.
#[derive(Default)]
pub(super) struct Health {
    /// Whether `state.why` is there: read by every request.
    away: AtomicBool,
    /// Another token is where this one was, or this one is elsewhere.
    replaced: AtomicBool,
    /// How often it was repaired.
    repairs: AtomicU64,
    deals: Deals,
    state: Mutex<State>,
    repaired: Condvar,
}

#[derive(Default)]
struct State {
    busy: bool,
    why: Option<Error>,
}

impl Health {
    /// # Errors
    /// [`Error::Away`] while the token is known to be.
    pub(super) fn check(&self) -> Result<(), Error> {
        if !self.away.load(Ordering::Acquire) {
            return Ok(());
        }
        match &self.lock().why {
            Some(why) => Err(Error::Away(Box::new(why.clone()))),
            None => Ok(()),
        }
    }

    /// The token is away. False if that was known.
    pub(super) fn fall(&self, why: Error) -> bool {
        let mut state = self.lock();
        let news = state.why.replace(why).is_none();
        self.away.store(true, Ordering::Release);
        news
    }

    /// The token is back.
    pub(super) fn rise(&self) {
        let mut state = self.lock();
        state.why = None;
        self.away.store(false, Ordering::Release);
    }

    pub(super) fn replace(&self) {
        self.replaced.store(true, Ordering::Release);
    }

    pub(super) fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::Acquire)
    }

    /// How often the token was repaired: to be asked before a call that may fail.
    pub(super) fn repairs(&self) -> u64 {
        self.repairs.load(Ordering::Acquire)
    }

    /// Logins at which the token may have dealt its object handles anew.
    pub(super) fn deals(&self) -> &Deals {
        &self.deals
    }

    /// Waits while somebody repairs.
    ///
    /// # Errors
    /// [`Error::NoSession`] if that goes on for longer than `wait`.
    pub(super) fn settle(&self, wait: Duration) -> Result<(), Error> {
        self.until_idle(wait).map(drop)
    }

    /// Lets one in to repair what was broken when there had been `repairs`; `None` if it was repaired since.
    ///
    /// # Errors
    /// [`Error::NoSession`] if another repair goes on for longer than `wait`.
    pub(super) fn repair(&self, repairs: u64, wait: Duration) -> Result<Option<Repair<'_>>, Error> {
        let mut state = self.until_idle(wait)?;
        if self.repairs() != repairs {
            return Ok(None);
        }
        state.busy = true;
        Ok(Some(Repair(self)))
    }

    fn until_idle(&self, wait: Duration) -> Result<MutexGuard<'_, State>, Error> {
        let started = Instant::now();
        let mut state = self.lock();
        while state.busy {
            let left = wait.checked_sub(started.elapsed()).ok_or(Error::NoSession)?;
            state = self.repaired.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(state)
    }

    /// The state is whole whenever the lock is free.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to repair.
pub(super) struct Repair<'h>(&'h Health);

impl Repair<'_> {
    /// It is done.
    pub(super) fn done(self) {
        self.0.repairs.fetch_add(1, Ordering::AcqRel);
    }
}

impl Drop for Repair<'_> {
    fn drop(&mut self) {
        self.0.lock().busy = false;
        self.0.repaired.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptoki::error::RvError;
    use std::sync::atomic::AtomicU32;
    use std::thread;

    fn gone() -> Error {
        Error::Call { function: "C_Sign", rv: RvError::DeviceRemoved }
    }

    #[test]
    fn requests_fail_with_the_reason_while_the_token_is_away() {
        let health = Health::default();
        assert_eq!(health.check(), Ok(()));
        assert!(health.fall(gone()));
        assert!(!health.fall(gone()), "told once");
        assert_eq!(health.check(), Err(Error::Away(Box::new(gone()))));
        health.rise();
        assert_eq!(health.check(), Ok(()));
        assert!(health.fall(gone()));
    }

    #[test]
    fn what_one_repaired_others_do_not_repair_again() {
        let health = Health::default();
        let before = health.repairs();
        let repairs = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    if let Some(repair) = health.repair(before, Duration::from_secs(60)).unwrap() {
                        repairs.fetch_add(1, Ordering::SeqCst);
                        repair.done();
                    }
                });
            }
        });
        assert_eq!(repairs.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_repair_that_fails_or_panics_lets_the_next_one_try() {
        let health = Health::default();
        let before = health.repairs();
        drop(health.repair(before, Duration::ZERO).unwrap().unwrap());
        thread::scope(|scope| {
            let panicked = scope.spawn(|| {
                let _repair = health.repair(before, Duration::ZERO).unwrap();
                panic!("as a test");
            });
            assert!(panicked.join().is_err());
        });
        let held = health.repair(before, Duration::ZERO).unwrap();
        assert_eq!(health.repair(before, Duration::ZERO).err(), Some(Error::NoSession));
        drop(held);
    }
}
