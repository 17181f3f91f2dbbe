//! Waiting for what comes true in its own time.

use std::thread;
use std::time::{Duration, Instant};

/// Waits for what takes a while, and for ever only if something is wrong.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < Duration::from_secs(60), "never: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
