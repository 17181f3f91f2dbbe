//! How busy the server is: a connection that alone is at work waits awake for its next request.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// A client that asked so soon after its last answer is likely to do so again. It includes the time that it takes to wake a
/// sleeping processor, on both sides.
const PROMPT: Duration = Duration::from_micros(100);

/// How long a connection waits awake. A processor that falls asleep takes 20 µs to wake, as long as half a signature, and a signer
/// that signs one record set after another would meet that each time; what takes longer to come may as well wake it.
const AWAKE: Duration = Duration::from_micros(50);

/// Requests that are being answered, and whether somebody waits awake.
pub(super) struct Bustle {
    busy: AtomicUsize,
    awake: AtomicBool,
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
        Self { busy: AtomicUsize::new(0), awake: AtomicBool::new(false), several_processors }
    }

    /// A request begins to be answered.
    pub fn begin(&self) -> Busy<'_> {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(self)
    }

    /// Lets a connection wait awake: one at a time, and none while a request is being answered.
    pub fn wait_awake(&self) -> Option<Awake<'_>> {
        let may = self.several_processors
            && self.busy.load(Ordering::Relaxed) == 0
            && !self.awake.swap(true, Ordering::Relaxed);
        may.then_some(Awake(self))
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
    fn one_waits_awake_at_a_time_and_only_while_nobody_is_busy() {
        let bustle = Bustle { several_processors: true, ..Bustle::new() };
        let awake = bustle.wait_awake().unwrap();
        assert!(bustle.wait_awake().is_none());
        assert!(awake.goes_on(Duration::ZERO) && !awake.goes_on(AWAKE));
        let busy = bustle.begin();
        assert!(!awake.goes_on(Duration::ZERO));
        drop(awake);
        assert!(bustle.wait_awake().is_none());
        drop(busy);
        assert!(bustle.wait_awake().is_some());
        assert!(Bustle { several_processors: false, ..Bustle::new() }.wait_awake().is_none());
    }
}
