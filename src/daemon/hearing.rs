//! Signals, from the first moment to the last: what they mean depends on how far the program is.
#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use log::warn;

use super::supervisor::Report;
use crate::sys::{self, Signal, Signals};

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
        let hear = move || {
            while let Ok(signal) = signals.wait() {
                // Swapped, so that only the first of them is an orderly stop.
                if signal == Signal::Stop && !is_serving.swap(false, Ordering::SeqCst) {
                    warn!("stopped at once, without waiting for anything");
                    report.ends();
                    sys::leave(1);
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
