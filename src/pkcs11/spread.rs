//! Calls that do not depend on one another, in several sessions at once: a token that takes its time, as one in a network does, is
//! through with many as soon as with one.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::token::Token;
use super::watch;
use crate::sys;

/// What a call has to wait for the token to be worth a thread of its own, which takes some 20 µs to start. A module that computes waits
/// for nothing, and more threads than processors would only get into each other's way.
const WORTH_A_THREAD: Duration = Duration::from_micros(250);

/// Most threads for one batch, however many sessions are free.
const MOST_THREADS: usize = 256;

/// Stack of a thread that calls the module, in bytes. A vendor's library runs on it, written for the stacks that its other users give
/// it: 1 MiB is what Java's threads have, on which such libraries are used every day. What is not touched costs addresses
/// only, and a thousand of these still fit into those of a 32-bit machine. Where memory runs out, it is this that a new connection
/// does not get, while there still is enough for the small pieces that the open ones need.
pub const STACK_SIZE: usize = 1024 * 1024;

/// How long calls wait for the token rather than compute.
pub(super) struct Waits(AtomicU64);

impl Default for Waits {
    fn default() -> Self {
        Self(AtomicU64::new(Self::UNKNOWN))
    }
}

impl Waits {
    const UNKNOWN: u64 = u64::MAX;

    /// A call waited for so long. The least counts at once, more only little by little: a call that computes may have to wait for a
    /// processor, but one that waits for a network never does without.
    fn learn(&self, waited: Duration) {
        let waited = u64::try_from(waited.as_nanos()).unwrap_or(Self::UNKNOWN - 1);
        let known = self.0.load(Ordering::Relaxed);
        let learnt = if known == Self::UNKNOWN || waited < known { waited } else { known + (waited - known) / 8 };
        self.0.store(learnt, Ordering::Relaxed);
    }

    fn are_long(&self) -> bool {
        let known = self.0.load(Ordering::Relaxed);
        known != Self::UNKNOWN && Duration::from_nanos(known) >= WORTH_A_THREAD
    }
}

impl Token {
    /// In how many threads independent pieces of work may be done now: as many as sessions are free; 1 where that is not worth it.
    pub fn threads(&self) -> usize {
        if !self.waits.are_long() || self.library.is_serial() {
            return 1;
        }
        usize::try_from(self.pool.free()).unwrap_or(usize::MAX).clamp(1, MOST_THREADS)
    }

    /// Does `work`, and learns of it how long the token has one wait.
    pub fn observed<R>(&self, work: impl FnOnce() -> R) -> R {
        let (began, computed) = (Instant::now(), sys::thread_time());
        let result = work();
        self.waits.learn(began.elapsed().saturating_sub(sys::thread_time().saturating_sub(computed)));
        result
    }

    /// Does `work` for each number below `count`, in so many threads, and hands what comes of it to `take` in the order of the numbers,
    /// until that says no: then no other piece is begun, and those begun come to nothing.
    ///
    /// While it waits for a piece, this thread counts as one that waits for the module.
    pub fn spread<R: Send>(
        &self,
        threads: usize,
        count: usize,
        work: impl Fn(usize) -> R + Sync,
        take: impl FnMut(usize, R) -> bool,
    ) {
        spread(threads, count, |number| self.observed(|| work(number)), take);
    }
}

fn spread<R: Send>(
    threads: usize,
    count: usize,
    work: impl Fn(usize) -> R + Sync,
    mut take: impl FnMut(usize, R) -> bool,
) {
    let next = AtomicUsize::new(0);
    let one_after_another = |results: mpsc::Sender<(usize, R)>| {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count || results.send((number, work(number))).is_err() {
                return;
            }
        }
    };
    let one_after_another = &one_after_another;
    thread::scope(|scope| {
        let (results, arrived) = mpsc::channel();
        let mut started = Vec::new();
        for number in 0..threads {
            let results = results.clone();
            let thread = thread::Builder::new().name(format!("batch-{number}")).stack_size(STACK_SIZE);
            match thread.spawn_scoped(scope, move || one_after_another(results)) {
                Ok(thread) => started.push(thread),
                Err(error) => {
                    log::debug!("{} threads for a batch, not {threads}: {error}", started.len());
                    break;
                }
            }
        }
        drop(results);
        if started.is_empty() {
            let _all = (0..count).all(|number| take(number, work(number)));
            return;
        }
        let mut early = BTreeMap::new();
        let mut due = 0;
        while due < count {
            // Anew for each: what is too long for one is not for all of them.
            let stay = watch::stay();
            let result = early.remove(&due).or_else(|| next_of(&arrived, due, &mut early));
            drop(stay);
            // Of a thread that panicked nothing comes; its panic goes on below.
            if !result.is_some_and(|result| take(due, result)) {
                break;
            }
            due += 1;
        }
        next.store(count, Ordering::Relaxed);
        // A call that hangs is waited for here as well, by a thread that somebody speaks for: the scope would wait unheard.
        let _stay = watch::stay();
        for thread in started {
            if let Err(panic) = thread.join() {
                resume_unwind(panic);
            }
        }
    });
}

/// Waits for what comes of number `due`, and keeps what comes before it.
fn next_of<R>(arrived: &mpsc::Receiver<(usize, R)>, due: usize, early: &mut BTreeMap<usize, R>) -> Option<R> {
    loop {
        match arrived.recv().ok()? {
            (number, result) if number == due => return Some(result),
            (number, result) => {
                early.insert(number, result);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn waiting_is_learnt_slowly_and_computing_at_once() {
        let (long, none) = (Duration::from_millis(5), Duration::ZERO);
        let waits = Waits::default();
        assert!(!waits.are_long());
        waits.learn(long);
        assert!(waits.are_long());
        waits.learn(none);
        assert!(!waits.are_long());
        // One that had to wait for a processor.
        waits.learn(Duration::from_millis(1));
        assert!(!waits.are_long());
        waits.learn(long);
        assert!(waits.are_long());
    }

    /// What `take` was given, in its order, when it says no to `last`.
    fn taken(threads: usize, work: impl Fn(usize) -> usize + Sync, last: usize) -> Vec<(usize, usize)> {
        let mut taken = Vec::new();
        spread(threads, 20, work, |number, result| {
            taken.push((number, result));
            number != last
        });
        taken
    }

    #[test]
    fn pieces_are_taken_in_their_order_and_none_after_the_last() {
        // None, as where no thread can be started.
        for threads in [0, 1, 3, 20] {
            let begun = AtomicUsize::new(0);
            let square = |number| {
                begun.fetch_add(1, Ordering::Relaxed);
                number * number
            };
            assert_eq!(taken(threads, square, 99), (0..20).map(|number| (number, number * number)).collect::<Vec<_>>());
            begun.store(0, Ordering::Relaxed);
            assert_eq!(taken(threads, square, 2), [(0, 0), (1, 1), (2, 4)]);
            assert!(threads > 0 || begun.into_inner() == 3, "what comes after the last was begun");
        }
    }

    #[test]
    fn a_panic_goes_on_where_the_pieces_are_waited_for() {
        for threads in [0, 1, 3, 20] {
            let mut taken = 0;
            let work = |number| if number == 5 { panic!("piece {number}") } else { number };
            let all = AssertUnwindSafe(|| {
                spread(threads, 20, work, |_, _| {
                    taken += 1;
                    true
                })
            });
            let panic = catch_unwind(all).unwrap_err();
            assert_eq!(panic.downcast_ref::<String>().map(String::as_str), Some("piece 5"));
            assert_eq!(taken, 5);
        }
    }
}
