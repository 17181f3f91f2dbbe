//! How often a token may be asked to judge a PIN: what a stranger could use up of its retry counter.
#![forbid(unsafe_code)]

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Attempts that may come at once: several clients with a PIN each, one of which is right.
const AT_ONCE: u32 = 10;

/// The time that gives one attempt back: ten a minute.
const EACH: Duration = Duration::from_secs(6);

/// The attempts of one token.
pub(super) struct Attempts(Mutex<Spent>);

struct Spent {
    attempts: u32,
    /// Up to when attempts were given back.
    since: Instant,
}

impl Attempts {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Spent { attempts: 0, since: Instant::now() }))
    }

    /// Takes an attempt, if there is one.
    pub(super) fn take(&self, now: Instant) -> bool {
        let mut spent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while spent.attempts > 0 {
            let Some(next) = spent.since.checked_add(EACH).filter(|next| *next <= now) else { break };
            spent.since = next;
            spent.attempts = spent.attempts.saturating_sub(1);
        }
        if spent.attempts == 0 {
            spent.since = now;
        }
        let is_left = spent.attempts < AT_ONCE;
        if is_left {
            spent.attempts = spent.attempts.saturating_add(1);
        }
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_attempts_back_with_time() {
        let attempts = Attempts::new();
        let now = Instant::now();
        assert!((0..AT_ONCE).all(|_| attempts.take(now)));
        assert!(!attempts.take(now + EACH - Duration::from_millis(1)));
        assert!(attempts.take(now + EACH));
        assert!(!attempts.take(now + EACH));
        assert_eq!((0..100).filter(|_| attempts.take(now + EACH * 1000)).count(), 10);
    }
}
