//! Signals, from the first moment to the last: what they mean depends on how far the program is.
#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use log::warn;

use super::supervisor::Report;
use crate::sys::{self, Signal, Signals};

/// Whoever tells all processes of the bridge to stop, as a service manager does with a control group, tells the one that serves twice: the
/// supervisor passes it on. The second within this time is the same one.
const SAME: Duration = Duration::from_secs(1);

/// Hears signals in a thread of its own, so that TERM and INT end the program also while a module hangs at the start or at the end.
pub(super) struct Hearing {
    heard: Receiver<Signal>,
    serving: Arc<AtomicBool>,
}

impl Hearing {
    /// Begins to hear. Until [`Hearing::serving`] is called, TERM and INT end the program at once: there is nothing
    /// yet that could be left in order. A supervisor hears of that by `report`.
    pub(super) fn begin(signals: Signals, report: Report) -> io::Result<Self> {
        let (tell, heard) = channel();
        let serving = Arc::new(AtomicBool::new(false));
        let is_serving = Arc::clone(&serving);
        let mut stops = Stops { is_passed_on: report.is_heard(), first: None };
        let hear = move || {
            while let Ok(signal) = signals.wait() {
                if signal == Signal::Stop {
                    match stops.next(is_serving.load(Ordering::SeqCst), Instant::now()) {
                        Stop::Orderly => {}
                        Stop::Same => continue,
                        Stop::AtOnce => {
                            warn!("stopped at once, without waiting for anything");
                            report.ends();
                            sys::leave(1);
                        }
                    }
                }
                if tell.send(signal).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("signals".to_owned()).spawn(hear)?;
        Ok(Self { heard, serving })
    }

    /// From now on the first TERM or INT is for [`Hearing::next`].
    pub(super) fn serving(&self) {
        self.serving.store(true, Ordering::SeqCst);
    }

    /// Waits for the next signal. After TERM or INT a second one ends the program at once.
    pub(super) fn next(&self) -> io::Result<Signal> {
        self.heard.recv().map_err(|_| io::Error::other("the thread that hears them has ended"))
    }
}

/// What TERM or INT means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Orderly,
    /// The one before, by another way.
    Same,
    AtOnce,
}

/// Those that have come so far.
struct Stops {
    /// Whether a supervisor passes on what it is told.
    is_passed_on: bool,
    /// When the orderly one came.
    first: Option<Instant>,
}

impl Stops {
    fn next(&mut self, is_serving: bool, now: Instant) -> Stop {
        match self.first {
            None if is_serving => {
                self.first = Some(now);
                Stop::Orderly
            }
            Some(first) if self.is_passed_on && now.saturating_duration_since(first) < SAME => Stop::Same,
            _ => Stop::AtOnce,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_supervisor_passes_on_as_well_is_one_stop_and_a_later_one_is_another() {
        let (now, moment) = (Instant::now(), Duration::from_millis(1));
        let mut stops = Stops { is_passed_on: true, first: None };
        assert_eq!(stops.next(true, now), Stop::Orderly);
        assert_eq!(stops.next(true, now + moment), Stop::Same);
        assert_eq!(stops.next(true, now + SAME - moment), Stop::Same);
        assert_eq!(stops.next(true, now + SAME), Stop::AtOnce);
    }

    #[test]
    fn any_second_stop_counts_without_a_supervisor_and_the_first_before_anything_is_served() {
        let now = Instant::now();
        let mut stops = Stops { is_passed_on: false, first: None };
        assert_eq!((stops.next(true, now), stops.next(true, now)), (Stop::Orderly, Stop::AtOnce));
        assert_eq!(Stops { is_passed_on: true, first: None }.next(false, now), Stop::AtOnce);
    }
}
