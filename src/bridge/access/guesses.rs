//! Failed logins from everywhere: who has addresses without number is not to have guesses without number.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::origin::origin;

/// Addresses remembered from which somebody has logged in. Of more than that, the later ones count as strangers'.
const MOST: usize = 4096;

/// How long it takes until as many failures are free again as there are in all.
const REGAINED: Duration = Duration::from_secs(60);

/// Counts the failed logins from addresses where nobody has succeeded yet.
pub(crate) struct Guesses {
    /// Of a minute; 0 for any number.
    most: u32,
    /// Whether there was one ever: most of the time there is nothing to look at.
    any: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: HashSet<IpAddr>,
    /// When what has failed until now will have been regained.
    until: Option<Instant>,
}

impl Guesses {
    pub(crate) fn new(most: u32) -> Self {
        Self { most, any: AtomicBool::new(false), state: Mutex::default() }
    }

    /// Whether a login from `peer` is judged now.
    pub(crate) fn leave_room(&self, peer: IpAddr, now: Instant) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return true;
        }
        let state = self.state();
        state.spent(now) < REGAINED || state.known.contains(&origin(peer))
    }

    /// A login from `peer` was judged and failed. Those that are judged at one time are all counted, though there was room for one only:
    /// what is beyond it is regained first.
    pub(crate) fn failed(&self, peer: IpAddr, now: Instant) {
        let Some(each) = REGAINED.checked_div(self.most) else { return };
        let mut state = self.state();
        if !state.known.contains(&origin(peer)) {
            state.until = now.checked_add(state.spent(now).saturating_add(each));
            self.any.store(true, Ordering::Release);
        }
    }

    /// Somebody at `peer` has logged in: failures there are a matter of that address alone.
    pub(crate) fn succeeded(&self, peer: IpAddr) {
        let mut state = self.state();
        if state.known.len() < MOST {
            state.known.insert(origin(peer));
        }
    }

    /// Whole whenever the lock is free, even after a panic elsewhere.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How long it takes to regain all that has failed.
    fn spent(&self, now: Instant) -> Duration {
        self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stranger(number: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + number).into())
    }

    #[test]
    fn strangers_have_so_many_failures_in_a_minute_however_many_addresses_they_have() {
        let (guesses, now) = (Guesses::new(60), Instant::now());
        for number in 0..60 {
            assert!(guesses.leave_room(stranger(number), now));
            guesses.failed(stranger(number), now);
        }
        assert!(!guesses.leave_room(stranger(99), now));
        let later = now + Duration::from_secs(1);
        assert!(guesses.leave_room(stranger(99), later));
        guesses.failed(stranger(99), later);
        assert!(!guesses.leave_room(stranger(99), later));
        assert!(guesses.leave_room(stranger(99), later + REGAINED));
    }

    #[test]
    fn those_that_are_judged_at_one_time_are_all_counted() {
        let (guesses, now) = (Guesses::new(60), Instant::now());
        (0..90).for_each(|number| guesses.failed(stranger(number), now));
        assert!(!guesses.leave_room(stranger(99), now + Duration::from_secs(30)));
        assert!(guesses.leave_room(stranger(99), now + Duration::from_secs(31)));
    }

    #[test]
    fn where_somebody_has_logged_in_others_failures_do_not_count_nor_its_own_against_others() {
        let (guesses, now) = (Guesses::new(5), Instant::now());
        guesses.succeeded(stranger(1));
        (0..9).for_each(|_| guesses.failed(stranger(1), now));
        assert!(guesses.leave_room(stranger(2), now));
        (0..9).for_each(|_| guesses.failed(stranger(2), now));
        assert!(!guesses.leave_room(stranger(3), now) && guesses.leave_room(stranger(1), now));
    }

    #[test]
    fn with_zero_all_are_judged_and_no_more_addresses_are_remembered_than_there_is_room_for() {
        let (guesses, now) = (Guesses::new(0), Instant::now());
        (0..9999).for_each(|number| guesses.failed(stranger(number), now));
        assert!(guesses.leave_room(stranger(1), now));
        (0..9999).for_each(|number| guesses.succeeded(stranger(number)));
        assert_eq!(guesses.state().known.len(), MOST);
    }
}
