//! The one way into the module: who is inside is counted, so that it is initialised anew and finalized with nobody in it.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::error::Error;

/// From one initialisation to the next: it costs every token its sessions.
const AGAIN: Duration = Duration::from_secs(30);

/// How long to wait for those inside before the module is initialised anew.
const LEAVING: Duration = Duration::from_secs(2);

/// How long those outside wait for the module to be initialised.
const WAITING: Duration = Duration::from_secs(10);

/// How often [`Door::is_left`] looks.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Nobody comes in ever again.
const CLOSED: usize = 1 << (usize::BITS - 1);
/// Nobody comes in for now.
const SHUT: usize = CLOSED >> 1;

/// Counts who is inside, and keeps others out.
#[derive(Default)]
pub(super) struct Door {
    /// How many are inside, [`SHUT`] and [`CLOSED`].
    inside: AtomicUsize,
    state: Mutex<State>,
    opened: Condvar,
}

#[derive(Default)]
struct State {
    /// Somebody initialises the module.
    busy: bool,
    /// Why the module is not initialised.
    away: Option<Error>,
    /// When it was last tried to initialise the module anew.
    tried: Option<Instant>,
}

/// What came of [`Door::shut`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shut {
    /// Somebody else did just now what was wished.
    ByOther,
    /// Those inside do not come out.
    Crowded,
    /// Nobody is inside. [`Door::open`] or [`Door::stay_shut`] has to follow.
    Empty,
    /// It was tried less than 30 s ago.
    TooSoon,
}

impl Door {
    /// Comes in, if the door is open. [`Self::step_out`] has to follow.
    pub(super) fn step_in(&self) -> bool {
        if self.inside.fetch_add(1, Ordering::AcqRel) & (CLOSED | SHUT) == 0 {
            return true;
        }
        self.step_out();
        false
    }

    pub(super) fn step_out(&self) {
        self.inside.fetch_sub(1, Ordering::AcqRel);
    }

    /// Waits while somebody initialises the module. True if it has to be tried by the caller.
    pub(super) fn wait_until_open(&self) -> Result<bool, Error> {
        let mut state = self.lock();
        let started = Instant::now();
        while state.busy {
            let left = WAITING.checked_sub(started.elapsed()).ok_or(Error::NoSession)?;
            state = self.opened.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        match &state.away {
            Some(why) if is_recent(state.tried) => Err(Error::Away(Box::new(why.clone()))),
            away => Ok(away.is_some()),
        }
    }

    /// Keeps everybody out and waits, not for ever, until those inside are out.
    pub(super) fn shut(&self) -> Result<Shut, Error> {
        let mut state = self.lock();
        if state.busy {
            drop(state);
            return self.wait_until_open().map(|_| Shut::ByOther);
        }
        if is_recent(state.tried) {
            return match &state.away {
                Some(why) => Err(Error::Away(Box::new(why.clone()))),
                None => Ok(Shut::TooSoon),
            };
        }
        state.busy = true;
        state.tried = Some(Instant::now());
        drop(state);
        self.inside.fetch_or(SHUT, Ordering::AcqRel);
        if self.is_left(LEAVING) {
            return Ok(Shut::Empty);
        }
        self.open();
        Ok(Shut::Crowded)
    }

    /// Lets everybody in.
    pub(super) fn open(&self) {
        let mut state = self.lock();
        state.away = None;
        state.busy = false;
        self.inside.fetch_and(!SHUT, Ordering::AcqRel);
        self.opened.notify_all();
    }

    /// Keeps everybody out until the module lets itself be initialised.
    pub(super) fn stay_shut(&self, why: Error) {
        let mut state = self.lock();
        self.inside.fetch_or(SHUT, Ordering::AcqRel);
        state.away = Some(why);
        state.busy = false;
        state.tried.get_or_insert_with(Instant::now);
        self.opened.notify_all();
    }

    /// Whether the module could not be initialised.
    pub(super) fn is_away(&self) -> bool {
        let state = self.lock();
        state.busy || state.away.is_some()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.inside.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Lets nobody in ever again. False if that was so already.
    pub(super) fn close(&self) -> bool {
        self.inside.fetch_or(CLOSED, Ordering::AcqRel) & CLOSED == 0
    }

    /// Whether all who are inside come out within `wait`. To be called with the door shut or closed.
    pub(super) fn is_left(&self, wait: Duration) -> bool {
        let started = Instant::now();
        while self.inside.load(Ordering::Acquire) & !(CLOSED | SHUT) != 0 {
            if started.elapsed() >= wait {
                return false;
            }
            thread::sleep(LOOK_AGAIN);
        }
        true
    }

    /// As [`Self::is_left`], but nobody initialises the module either. To be called with the door closed.
    pub(super) fn is_deserted(&self, wait: Duration) -> bool {
        let started = Instant::now();
        let mut state = self.lock();
        while state.busy {
            let Some(left) = wait.checked_sub(started.elapsed()) else { return false };
            state = self.opened.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        self.is_left(wait.saturating_sub(started.elapsed()))
    }

    /// The state is whole whenever the lock is free.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_recent(tried: Option<Instant>) -> bool {
    tried.is_some_and(|tried| tried.elapsed() < AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptoki::error::RvError;

    fn failure() -> Error {
        Error::Call { function: "C_Initialize", rv: RvError::DeviceError }
    }

    #[test]
    fn nobody_is_inside_while_it_is_shut() {
        let door = Door::default();
        assert!(door.step_in());
        door.step_out();
        assert_eq!(door.shut(), Ok(Shut::Empty));
        assert!(!door.step_in());
        door.open();
        assert!(door.step_in());
        assert_eq!(door.shut(), Ok(Shut::TooSoon), "twice within 30 s");
    }

    #[test]
    fn it_does_not_stay_shut_while_somebody_is_inside() {
        let door = Door::default();
        assert!(door.step_in());
        assert_eq!(door.shut(), Ok(Shut::Crowded));
        assert!(!door.is_away() && door.step_in(), "others come in as before");
        assert_eq!(door.shut(), Ok(Shut::TooSoon), "twice within 30 s");
    }

    #[test]
    fn those_outside_wait_for_the_door_to_open() {
        let door = Door::default();
        assert_eq!(door.shut(), Ok(Shut::Empty));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| door.wait_until_open());
            let other = scope.spawn(|| door.shut());
            while !other.is_finished() && !waiting.is_finished() && door.lock().busy {
                door.open();
            }
            assert_eq!(waiting.join().unwrap(), Ok(false));
            assert!(matches!(other.join().unwrap(), Ok(Shut::ByOther | Shut::TooSoon)));
        });
    }

    #[test]
    fn a_module_that_is_away_is_not_tried_again_at_once() {
        let door = Door::default();
        door.stay_shut(failure());
        let away = Error::Away(Box::new(failure()));
        assert!(!door.step_in());
        assert_eq!(door.wait_until_open(), Err(away.clone()));
        assert_eq!(door.shut(), Err(away));
        door.lock().tried = Instant::now().checked_sub(AGAIN);
        assert_eq!(door.wait_until_open(), Ok(true));
        assert_eq!(door.shut(), Ok(Shut::Empty));
        door.open();
        assert!(door.step_in());
    }

    #[test]
    fn a_closed_door_stays_closed() {
        let door = Door::default();
        assert!(door.close() && !door.close());
        door.open();
        assert!(!door.step_in() && door.is_left(Duration::ZERO));
    }
}
