//! Why connections were refused, told to the operator as long as it is not too often: strangers can cause it, and are not to fill the
//! log.
#![forbid(unsafe_code)]

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Remarks in one [`SPAN`]: whoever sets a client up sees each of its attempts.
const MOST: u32 = 20;

/// The time for which [`MOST`] is.
const SPAN: Duration = Duration::from_secs(60);

/// Counts the remarks of all connections.
pub(super) struct Remarks(Mutex<Counted>);

struct Counted {
    since: Instant,
    remarks: u32,
}

/// What to do with one more.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Tell it, after so many that were not told.
    Tell(u32),
    /// There were too many.
    Leave,
}

impl Remarks {
    pub fn new() -> Self {
        Self(Mutex::new(Counted { since: Instant::now(), remarks: 0 }))
    }

    /// Judges one more.
    pub fn judge(&self, now: Instant) -> Verdict {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left_out = 0;
        if now.saturating_duration_since(counted.since) >= SPAN {
            left_out = counted.remarks.saturating_sub(MOST);
            *counted = Counted { since: now, remarks: 0 };
        }
        counted.remarks = counted.remarks.saturating_add(1);
        if counted.remarks <= MOST { Verdict::Tell(left_out) } else { Verdict::Leave }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_a_few_and_later_how_many_it_left_out() {
        let (remarks, now) = (Remarks::new(), Instant::now());
        assert!((0..MOST).all(|_| remarks.judge(now) == Verdict::Tell(0)));
        assert!((0..500).all(|_| remarks.judge(now) == Verdict::Leave));
        assert_eq!(remarks.judge(now + SPAN), Verdict::Tell(500));
        assert_eq!(remarks.judge(now + SPAN), Verdict::Tell(0));
    }
}
