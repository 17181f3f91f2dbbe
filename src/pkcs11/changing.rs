//! Making, changing and destroying objects: one at a time, and with no search beside it.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use super::error::Error;
use super::token::Token;
use super::turnstile::{Entered, Turnstile, for_a_while};
use super::watch;

/// Who changes the objects of one token, and who searches them.
pub(super) struct Changing {
    /// Whether somebody makes a key: those who wait for their turn to change objects may have to wait for as long as that takes.
    pub(super) making: Making,
    /// Entered by whoever makes, changes or destroys objects: SoftHSM errs and NSS deadlocks otherwise.
    change: Turnstile,
    /// Read by searches, written by the calls that make, change or destroy: SoftHSM fails to make a key, and leaves an object without
    /// any attribute behind, while another session searches. Taken after a session is lent, never before.
    searches: RwLock<()>,
    /// How long a search makes way for a change.
    patience: Duration,
}

impl Changing {
    pub(super) fn new(patience: Duration) -> Self {
        Self { making: Making::default(), change: Turnstile::default(), searches: RwLock::default(), patience }
    }
}

/// Whether a key is being made.
#[derive(Default)]
pub(super) struct Making(AtomicBool);

impl Making {
    /// It is, until the guard is dropped. One at a time makes keys.
    pub(super) fn begin(&self) -> impl Drop + '_ {
        struct Guard<'m>(&'m Making);
        impl Drop for Guard<'_> {
            fn drop(&mut self) {
                self.0.0.store(false, Ordering::Relaxed);
            }
        }
        self.0.store(true, Ordering::Relaxed);
        Guard(self)
    }

    fn is_going_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Token {
    /// Waits for the right to make, change or destroy objects.
    ///
    /// # Errors
    /// [`Error::Late`]
    pub(super) fn change(&self) -> Result<Entered<'_>, Error> {
        if self.changing.making.is_going_on() {
            watch::is_patient();
        }
        self.changing.change.enter()
    }

    /// The same for what no client waits for.
    pub(super) fn change_however_late(&self) -> Entered<'_> {
        self.changing.change.enter_however_late()
    }

    /// Keeps searches out for as long as a call makes, changes or destroys an object.
    pub(super) fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.changing.searches.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets no call make, change or destroy an object during a search, unless one takes so long that the client of the search would be
    /// told that the HSM does not answer: a key that is being made for minutes is not worth all others.
    pub(super) fn searching<T>(&self, search: impl FnOnce() -> T) -> T {
        let _shared = self.out_of_the_way();
        search()
    }

    fn out_of_the_way(&self) -> Option<RwLockReadGuard<'_, ()>> {
        let shared = for_a_while(self.changing.patience, || self.changing.searches.try_read());
        if shared.is_none() {
            log::debug!("token {}: searched while an object is made or changed, which takes long", self.info().name());
        }
        shared
    }
}
