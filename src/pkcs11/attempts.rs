//! How often a token may be asked to judge a PIN: what a stranger could use up of its retry counter.
#![forbid(unsafe_code)]

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The time that gives all attempts back, one after the other.
const ALL: Duration = Duration::from_secs(60);

/// The attempts of one token.
pub(super) struct Attempts {
    at_once: u32,
    spent: Mutex<Spent>,
}

struct Spent {
    attempts: u32,
    /// Up to when attempts were given back.
    since: Instant,
}

impl Attempts {
    /// So many may come at once, and as many in a minute.
    pub(super) fn new(at_once: u32) -> Self {
        let at_once = at_once.max(1);
        Self { at_once, spent: Mutex::new(Spent { attempts: 0, since: Instant::now() }) }
    }

    /// Takes an attempt, if there is one.
    pub(super) fn take(&self, now: Instant) -> bool {
        let each = ALL.checked_div(self.at_once).unwrap_or(ALL);
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        while spent.attempts > 0 {
            let Some(next) = spent.since.checked_add(each).filter(|next| *next <= now) else { break };
            spent.since = next;
            spent.attempts = spent.attempts.saturating_sub(1);
        }
        if spent.attempts == 0 {
            spent.since = now;
        }
        let is_left = spent.attempts < self.at_once;
        if is_left {
            spent.attempts = spent.attempts.saturating_add(1);
        }
        is_left
    }

    /// What was taken has cost the token nothing: the PIN was right.
    pub(super) fn give_back(&self) {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        spent.attempts = spent.attempts.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn right_pins_are_not_counted() {
        let (attempts, now) = (Attempts::new(1), Instant::now());
        assert!(attempts.take(now));
        attempts.give_back();
        assert!(attempts.take(now) && !attempts.take(now));
    }

    #[test]
    fn gives_attempts_back_with_time() {
        for (at_once, each) in [(10, 6), (3, 20), (1, 60)] {
            let each = Duration::from_secs(each);
            let attempts = Attempts::new(at_once);
            let now = Instant::now();
            assert!((0..at_once).all(|_| attempts.take(now)));
            assert!(!attempts.take(now + each - Duration::from_millis(1)));
            assert!(attempts.take(now + each));
            assert!(!attempts.take(now + each));
            assert_eq!((0..100).filter(|_| attempts.take(now + each * 1000)).count(), at_once as usize);
        }
    }
}
