//! The session handles that somebody here still holds. Some modules give the handle of a session that they have lost to the next one
//! that is opened: two requests would then work on one session, and get each other's answers.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::c_ulong;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use super::turnstile::for_a_while;

/// How long to wait for calls that open sessions, or that close lost ones, to be over. Each takes less, but for one that hangs, which
/// is not to take others with it.
const PATIENCE: Duration = Duration::from_millis(200);

/// The handles of one module, and who holds them. `S` is a session.
pub(super) struct Issued<S> {
    held: Mutex<HashMap<c_ulong, Held<S>>>,
    /// Read while a session is opened, until its handle is claimed.
    opening: RwLock<()>,
}

struct Held<S> {
    lost: Arc<AtomicBool>,
    /// The session that the handle means now. It is left alone until the holder of the handle has done with it.
    aside: Option<S>,
}

// Derived, it would ask for `S: Default`.
impl<S> Default for Issued<S> {
    fn default() -> Self {
        Self { held: Mutex::default(), opening: RwLock::default() }
    }
}

impl<S> Issued<S> {
    /// To be held from before a session is opened until its handle is claimed.
    pub(super) fn opening(&self) -> Option<RwLockReadGuard<'_, ()>> {
        for_a_while(PATIENCE, || self.opening.try_read())
    }

    /// Does `work` while nobody opens a session, if there comes such a moment.
    fn while_nobody_opens(&self, work: impl FnOnce()) {
        if let Some(_alone) = for_a_while(PATIENCE, || self.opening.try_write()) {
            work();
        }
    }

    /// Claims the handle of a session that was just opened. If somebody holds it already, his session is lost, which he is told by
    /// [`Claim::is_lost`]; the new one is kept aside, and `None` says that yet another is to be opened.
    pub(super) fn claim(self: &Arc<Self>, handle: c_ulong, session: S) -> Option<(S, Claim<S>)> {
        match self.lock().entry(handle) {
            Entry::Vacant(entry) => {
                let lost = Arc::clone(&entry.insert(Held { lost: Arc::default(), aside: None }).lost);
                Some((session, Claim { issued: Arc::clone(self), handle, lost }))
            }
            Entry::Occupied(mut entry) => {
                let held = entry.get_mut();
                held.lost.store(true, Ordering::Release);
                // An older one is lost as well, and its handle is this one's.
                std::mem::forget(held.aside.replace(session));
                None
            }
        }
    }

    /// The state is whole whenever the lock is free.
    fn lock(&self) -> MutexGuard<'_, HashMap<c_ulong, Held<S>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to use a handle. Dropped after the session is closed, or known to be lost: it closes what was kept aside.
pub(super) struct Claim<S> {
    issued: Arc<Issued<S>>,
    handle: c_ulong,
    lost: Arc<AtomicBool>,
}

impl<S> Claim<S> {
    /// Whether the handle was issued again, so that it means another session.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Ends `session`, which the module has called lost: closed, as some only say so, and it would count among those that are open until
    /// none is left; but not if its handle means another by now, or could while one is being opened.
    pub(super) fn let_go(self, session: S) {
        let mut session = Some(session);
        self.issued.while_nobody_opens(|| {
            if !self.is_lost() {
                drop(session.take());
            }
        });
        std::mem::forget(session);
    }

    /// Ends without a word to the module, which has forgotten all sessions.
    pub(super) fn abandon(self) {
        std::mem::forget(self.take_aside());
    }

    fn take_aside(&self) -> Option<S> {
        let mut held = self.issued.lock();
        match held.entry(self.handle) {
            // Another's, since this one was abandoned.
            Entry::Occupied(entry) if !Arc::ptr_eq(&entry.get().lost, &self.lost) => None,
            Entry::Occupied(entry) => entry.remove().aside,
            Entry::Vacant(_) => None,
        }
    }
}

impl<S> Drop for Claim<S> {
    fn drop(&mut self) {
        // Closed without the lock held, as that is a call of the module.
        drop(self.take_aside());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_that_is_issued_again_stays_its_holders() {
        let issued = Arc::new(Issued::default());
        let session = Arc::new(());
        let (_, first) = issued.claim(7, Arc::clone(&session)).unwrap();
        assert!(!first.is_lost());
        assert!(issued.claim(7, Arc::clone(&session)).is_none());
        assert!(first.is_lost());
        let (_, other) = issued.claim(8, Arc::clone(&session)).unwrap();
        assert!(!other.is_lost());
        assert_eq!(Arc::strong_count(&session), 2, "the one aside is not closed yet");
        drop(first);
        assert_eq!(Arc::strong_count(&session), 1, "the one aside was left open");
        assert!(issued.claim(7, session).is_some());
    }

    #[test]
    fn what_is_called_lost_is_closed_unless_its_handle_means_another() {
        let issued = Arc::new(Issued::default());
        let session = Arc::new(());
        let (own, first) = issued.claim(7, Arc::clone(&session)).unwrap();
        first.let_go(own);
        assert_eq!(Arc::strong_count(&session), 1, "left open");
        let (own, second) = issued.claim(7, Arc::clone(&session)).unwrap();
        {
            let _opening = issued.opening().unwrap();
            second.let_go(own);
        }
        assert_eq!(Arc::strong_count(&session), 2, "another that is being opened may have its handle");
        let (own, third) = issued.claim(7, Arc::clone(&session)).unwrap();
        assert!(issued.claim(7, Arc::clone(&session)).is_none());
        third.let_go(own);
        assert_eq!(Arc::strong_count(&session), 3, "the lost one is forgotten, the one aside closed");
    }

    #[test]
    fn what_is_abandoned_is_not_closed_and_can_be_issued_again() {
        let issued = Arc::new(Issued::default());
        let session = Arc::new(());
        let (_, first) = issued.claim(7, Arc::clone(&session)).unwrap();
        assert!(issued.claim(7, Arc::clone(&session)).is_none());
        first.abandon();
        assert_eq!(Arc::strong_count(&session), 2, "closed");
        let (_, second) = issued.claim(7, Arc::clone(&session)).unwrap();
        assert!(!second.is_lost());
    }
}
