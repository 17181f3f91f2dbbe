//! One at a time, and nobody waits for ever: whoever has the turn may be in a call that never returns.
#![forbid(unsafe_code)]

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::error::Error;
use super::watch;

/// Lets one in at a time.
#[derive(Default)]
pub(super) struct Turnstile {
    taken: Mutex<bool>,
    free: Condvar,
}

impl Turnstile {
    /// Waits until nobody else is in. The guard lets the next one in.
    ///
    /// # Errors
    /// [`Error::Late`] once this thread has spent its time with the module.
    pub(super) fn enter(&self) -> Result<Entered<'_>, Error> {
        let mut taken = self.lock();
        loop {
            if watch::is_overdue() {
                return Err(Error::Late);
            }
            if !*taken {
                *taken = true;
                return Ok(Entered(self));
            }
            taken = self.free.wait_timeout(taken, watch::TICK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The same for what no client waits for.
    pub(super) fn enter_however_late(&self) -> Entered<'_> {
        let mut taken = self.lock();
        while *taken {
            taken = self.free.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        *taken = true;
        Entered(self)
    }

    /// The state is whole whenever the lock is free.
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Turnstile::enter`].
pub(super) struct Entered<'t>(&'t Turnstile);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        *self.0.lock() = false;
        self.0.free.notify_one();
    }
}
