//! When a token may have dealt its object handles anew, as some do at each login: what was a handle of one object may then be
//! another's.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The logins of one token that may have done so.
#[derive(Default)]
pub(super) struct Deals {
    /// Those that are over, and how many are under way: read by every request.
    over: AtomicU64,
    under_way: AtomicUsize,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    /// How many were begun.
    begun: u64,
    /// The numbers of those under way and when they were begun, the oldest first.
    under_way: Vec<(u64, Instant)>,
}

impl Deals {
    /// How many there were: to be asked before a handle is had that [`Self::are_still`] is asked about.
    pub(super) fn so_far(&self) -> u64 {
        self.over.load(Ordering::Acquire)
    }

    /// From now on, and until the guard is dropped, the token may deal its handles anew. Those that are remembered have to be
    /// forgotten before it is dropped.
    pub(super) fn begin(&self) -> Dealing<'_> {
        let mut state = self.lock();
        state.begun = state.begun.saturating_add(1);
        let number = state.begun;
        state.under_way.push((number, Instant::now()));
        self.under_way.fetch_add(1, Ordering::AcqRel);
        Dealing { deals: self, number, is_none: false }
    }

    /// Whether handles that were had when there were `before` mean the same now. Waits for logins that are under way, since most turn
    /// out to be none; one that takes longer than `most` is counted as over, after `forget` has forgotten the handles.
    pub(super) fn are_still(&self, before: u64, most: Duration, forget: impl FnOnce()) -> bool {
        // In this order: what is no longer under way is counted already.
        let is_quiet = self.under_way.load(Ordering::Acquire) == 0;
        if self.so_far() != before {
            return false;
        }
        if is_quiet {
            return true;
        }
        let mut state = self.lock();
        // Those begun from now on change nothing about what was done before.
        let last = state.begun;
        while self.so_far() == before {
            let Some((number, since)) = state.under_way.first().copied().filter(|(number, _)| *number <= last) else {
                return true;
            };
            match most.checked_sub(since.elapsed()) {
                Some(left) => {
                    state = self.ended.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
                }
                None => {
                    forget();
                    self.end(&mut state, number, true);
                    return false;
                }
            }
        }
        false
    }

    fn end(&self, state: &mut State, number: u64, counts: bool) {
        if counts {
            self.over.fetch_add(1, Ordering::AcqRel);
        }
        let before = state.under_way.len();
        state.under_way.retain(|(other, _)| *other != number);
        // It may have been counted as over already.
        if state.under_way.len() < before {
            self.under_way.fetch_sub(1, Ordering::AcqRel);
        }
        self.ended.notify_all();
    }

    /// The state is whole whenever the lock is free.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Deals::begin`].
pub(super) struct Dealing<'d> {
    deals: &'d Deals,
    number: u64,
    is_none: bool,
}

impl Dealing<'_> {
    /// The token has dealt nothing anew: whoever has handles is not disturbed.
    pub(super) fn was_none(mut self) {
        self.is_none = true;
    }
}

impl Drop for Dealing<'_> {
    fn drop(&mut self) {
        self.deals.end(&mut self.deals.lock(), self.number, !self.is_none);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    const LONG: Duration = Duration::from_secs(3600);

    fn never() {
        panic!("nothing is to be forgotten");
    }

    #[test]
    fn what_was_asked_while_handles_were_dealt_anew_does_not_count() {
        let deals = Deals::default();
        let before = deals.so_far();
        assert!(deals.are_still(before, LONG, never));
        let (first, second) = (deals.begin(), deals.begin());
        drop(first);
        assert!(!deals.are_still(before, LONG, never));
        let between = deals.so_far();
        drop(second);
        assert!(!deals.are_still(between, LONG, never));
        assert!(deals.are_still(deals.so_far(), LONG, never));
    }

    #[test]
    fn logins_that_dealt_nothing_disturb_nobody_however_many_there_are() {
        let deals = Deals::default();
        for _ in 0..100 {
            let before = deals.so_far();
            let (early, late) = (deals.begin(), deals.begin());
            thread::scope(|scope| {
                let asks = scope.spawn(|| deals.are_still(before, LONG, never));
                early.was_none();
                // There is always one under way.
                let next = deals.begin();
                late.was_none();
                while !asks.is_finished() && deals.under_way.load(Ordering::SeqCst) > 1 {
                    thread::yield_now();
                }
                next.was_none();
                assert!(asks.join().unwrap());
            });
        }
    }

    #[test]
    fn one_that_hangs_is_counted_when_it_was_waited_for_and_when_it_ends() {
        let deals = Deals::default();
        let before = deals.so_far();
        let hangs = deals.begin();
        let mut forgotten = false;
        assert!(!deals.are_still(before, Duration::ZERO, || forgotten = true));
        assert!(forgotten);
        let after = deals.so_far();
        assert!(after != before && deals.are_still(after, LONG, never), "waited for again");
        drop(hangs);
        assert!(!deals.are_still(after, LONG, never));
        assert_eq!(deals.under_way.load(Ordering::SeqCst), 0);
    }
}
