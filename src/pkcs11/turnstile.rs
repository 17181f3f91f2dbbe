//! Locks that nobody waits for without end: whoever holds one may be in a call that never returns.
#![forbid(unsafe_code)]

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError, TryLockResult};
use std::thread;
use std::time::{Duration, Instant};

use super::error::Error;
use super::watch;

/// What `take` takes as soon as it is free, poisoned or not; nothing if that is not within `patience`.
pub(super) fn for_a_while<G>(patience: Duration, take: impl Fn() -> TryLockResult<G>) -> Option<G> {
    const LOOK_AGAIN: Duration = Duration::from_millis(2);
    let mut since = None;
    loop {
        match take() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {}
        }
        if since.get_or_insert_with(Instant::now).elapsed() >= patience {
            return None;
        }
        thread::sleep(LOOK_AGAIN);
    }
}

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
