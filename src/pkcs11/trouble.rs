//! When a request has been repaired for often enough.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use super::fault::Fault;

/// What one attempt has seen.
pub(super) struct Seen {
    /// How many repairs the session it had was made after.
    pub(super) repairs: u64,
    /// Whether its handles may have come to mean something else meanwhile.
    pub(super) disturbed: bool,
}

/// What a request has been through.
#[derive(Default)]
pub(super) struct Trouble {
    /// What was repaired for it, and may not have been what it suffers from.
    pub(super) tried: Vec<Fault>,
    /// Losses that were not its own, and when the first was.
    losses: usize,
    since: Option<Instant>,
}

/// How many losses that were not its own a request may meet, and a repair too. They cost it an attempt each, so it can be unlucky more
/// often than it can be at fault.
const MOST_LOSSES: usize = 20;

impl Trouble {
    /// Notes a loss that all sessions have suffered. Whether the request may be tried again for it: there is no end to losses that
    /// a module brings about by itself.
    pub(super) fn goes_on(&mut self, wait: Duration) -> bool {
        self.losses = self.losses.saturating_add(1);
        self.losses <= MOST_LOSSES && self.since.get_or_insert_with(Instant::now).elapsed() < wait
    }

    /// Whether repairing this has helped so seldom that it will not.
    pub(super) fn is_enough(&self, fault: Fault) -> bool {
        let most = match fault {
            // Whatever closed or logged out one session may well do so again at once, and it costs little.
            Fault::Session | Fault::Login => 3,
            _ => 1,
        };
        self.tried.iter().filter(|other| **other == fault).count() >= most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn losses_of_all_are_borne_longer_than_what_may_be_the_requests_own() {
        let mut trouble = Trouble::default();
        for _ in 0..3 {
            assert!(!trouble.is_enough(Fault::Session));
            trouble.tried.push(Fault::Session);
        }
        assert!(trouble.is_enough(Fault::Session) && !trouble.is_enough(Fault::Token));
        assert_eq!((0..100).filter(|_| trouble.goes_on(LONG)).count(), MOST_LOSSES);
        assert!(!Trouble::default().goes_on(Duration::ZERO), "past its time");
    }
}
