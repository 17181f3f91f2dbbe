//! How busy the server is: a connection that alone is at work waits awake for its next request.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// A client that asked so soon after its last answer is likely to do so again. It includes the time that it takes to wake a
/// sleeping processor, on both sides.
const PROMPT: Duration = Duration::from_micros(100);

/// How long a connection waits awake. A processor that falls asleep takes 20 µs to wake, as long as half a signature, and a signer
/// that signs one record set after another would meet that each time; what takes longer to come may as well wake it.
const AWAKE: Duration = Duration::from_micros(50);

/// Requests in a row of one connection, after which it counts as alone. Where there are two, one that waits awake takes the processor
/// from the other's client.
const ALONE: u32 = 32;

/// Requests that are being answered, whose they were, and whether somebody waits awake.
pub(super) struct Bustle {
    busy: AtomicUsize,
    awake: AtomicBool,
    /// The connection that had the last request, and how many in a row.
    last: AtomicU64,
    in_a_row: AtomicU32,
    /// On a single processor the client runs only while nobody waits awake.
    several_processors: bool,
}

/// A request is being answered, for as long as this is kept.
pub(super) struct Busy<'b>(&'b Bustle);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Somebody waits awake, for as long as this is kept.
pub(super) struct Awake<'b>(&'b Bustle);

impl Awake<'_> {
    /// Whether to go on after having waited for so long: not while others could use the processor.
    pub fn goes_on(&self, waited: Duration) -> bool {
        waited < AWAKE && self.0.busy.load(Ordering::Relaxed) == 0
    }
}

impl Drop for Awake<'_> {
    fn drop(&mut self) {
        self.0.awake.store(false, Ordering::Relaxed);
    }
}

impl Bustle {
    pub fn new() -> Self {
        let several_processors = thread::available_parallelism().is_ok_and(|count| count.get() > 1);
        Self {
            busy: AtomicUsize::new(0),
            awake: AtomicBool::new(false),
            last: AtomicU64::new(0),
            in_a_row: AtomicU32::new(0),
            several_processors,
        }
    }

    /// A request of the connection of this number begins to be answered.
    pub fn begin(&self, connection: u64) -> Busy<'_> {
        self.busy.fetch_add(1, Ordering::Relaxed);
        // Where two count at the same time, neither is alone.
        let before =
            if self.last.load(Ordering::Relaxed) == connection { self.in_a_row.load(Ordering::Relaxed) } else { 0 };
        self.last.store(connection, Ordering::Relaxed);
        self.in_a_row.store(before.saturating_add(1), Ordering::Relaxed);
        Busy(self)
    }

    /// Lets the connection of this number wait awake, if it is alone.
    pub fn wait_awake(&self, connection: u64) -> Option<Awake<'_>> {
        let may = self.several_processors
            && self.last.load(Ordering::Relaxed) == connection
            && self.in_a_row.load(Ordering::Relaxed) >= ALONE
            && self.busy.load(Ordering::Relaxed) == 0
            && !self.awake.swap(true, Ordering::Relaxed);
        // Not made otherwise, as its end would be taken for that of who does wait.
        may.then(|| Awake(self))
    }
}

/// Whether the next request is likely to come at once, as the last came so soon after the answer before it.
pub(super) fn is_prompt(waited: Duration) -> bool {
    waited <= PROMPT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_alone_waits_awake_until_others_come() {
        let bustle = Bustle { several_processors: true, ..Bustle::new() };
        let asks = |connection, times: u32| (0..times).for_each(|_| drop(bustle.begin(connection)));
        asks(1, ALONE - 1);
        assert!(bustle.wait_awake(1).is_none());
        asks(1, 1);
        let awake = bustle.wait_awake(1).unwrap();
        // However often it is asked.
        assert!((0..2).all(|_| bustle.wait_awake(1).is_none()));
        assert!(awake.goes_on(Duration::ZERO) && !awake.goes_on(AWAKE));
        let busy = bustle.begin(2);
        assert!(!awake.goes_on(Duration::ZERO));
        drop((awake, busy));
        assert!(bustle.wait_awake(1).is_none() && bustle.wait_awake(2).is_none());
        for _ in 0..ALONE {
            asks(1, 1);
            asks(2, 1);
        }
        assert!(bustle.wait_awake(1).is_none() && bustle.wait_awake(2).is_none());
        asks(2, ALONE);
        assert!(bustle.wait_awake(1).is_none() && bustle.wait_awake(2).is_some());
    }

    #[test]
    fn nobody_waits_awake_on_the_only_processor() {
        let bustle = Bustle { several_processors: false, ..Bustle::new() };
        (0..ALONE).for_each(|_| drop(bustle.begin(1)));
        assert!(bustle.wait_awake(1).is_none());
    }
}
