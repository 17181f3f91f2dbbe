//! Signatures per second, by number of sessions.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::fence::Outlet;
use super::inside::Patience;
use super::report::Line;
use crate::bridge::Trial;
use crate::json::Value;
use crate::pkcs11::{KeyPair, Token};

/// How long signatures are counted for each number of sessions.
const TIME: Duration = Duration::from_millis(500);

/// Where one signature takes longer than this, more sessions would take it longer still.
const SLOW: Duration = Duration::from_secs(2);

/// The most sessions tried: what a token does with more, few clients will see.
const MOST: u32 = 32;

/// What came of one number of sessions.
struct Rate {
    sessions: u32,
    signatures: u64,
    took: Duration,
}

/// Signs with 1, 2, 4 ... sessions for a while each, and says how many signatures that gave.
pub fn look(token: &Token, trial: &Trial, pair: &KeyPair, patience: Patience, outlet: Outlet<'_>) -> Line {
    let subject = "signatures";
    let most = token.places().clamp(1, MOST);
    let mut rates: Vec<Rate> = Vec::new();
    let numbers =
        std::iter::successors(Some(1_u32), |number| number.checked_mul(2)).take_while(|number| *number <= most);
    for sessions in numbers {
        if rates.last().is_some_and(|rate| rate.took > SLOW) {
            break;
        }
        outlet.calling("C_Sign", patience.call().map(|call| call.saturating_add(SLOW)));
        match count(token, trial, pair, sessions) {
            Ok(rate) => rates.push(rate),
            Err(why) => {
                let text = format!("{why}, with {sessions} sessions at once; {}", text(trial, &rates));
                return Line::fail(subject, text, "max-sessions in [pkcs11] keeps the bridge to fewer")
                    .with("sessions", sessions);
            }
        }
    }
    let values = rates.iter().map(Rate::value).collect();
    Line::ok(subject, text(trial, &rates)).with("algorithm", trial.name).with("rates", Value::List(values))
}

fn text(trial: &Trial, rates: &[Rate]) -> String {
    let rates: Vec<_> = rates.iter().map(|rate| format!("{} with {}", rate.per_second(), rate.sessions)).collect();
    format!("{} per second and sessions: {}", trial.name, rates.join(", "))
}

/// Signatures with so many sessions at once.
fn count(token: &Token, trial: &Trial, pair: &KeyPair, sessions: u32) -> Result<Rate, String> {
    let (made, failure) = (AtomicU64::new(0), Mutex::new(None));
    let begun = Instant::now();
    let sign = || {
        while begun.elapsed() < TIME && lock(&failure).is_none() {
            match trial.sign(token, &pair.private, 0, b"signatures per second") {
                Ok(_) => {
                    made.fetch_add(1, Ordering::Relaxed);
                }
                Err(why) => *lock(&failure) = Some(why),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..sessions {
            if let Err(why) = thread::Builder::new().spawn_scoped(scope, sign) {
                *lock(&failure) = Some(format!("no more threads: {why}"));
            }
        }
    });
    let took = begun.elapsed();
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(why) => Err(why),
        None => Ok(Rate { sessions, signatures: made.into_inner(), took }),
    }
}

impl Rate {
    fn value(&self) -> Value {
        Value::Object(vec![
            ("sessions", self.sessions.into()),
            ("signatures", self.signatures.into()),
            ("microseconds", u64::try_from(self.took.as_micros()).unwrap_or(u64::MAX).into()),
        ])
    }

    /// To the tenth where there are few.
    fn per_second(&self) -> String {
        let took = self.took.as_millis().max(1);
        let tenths = u128::from(self.signatures).saturating_mul(10_000).checked_div(took).unwrap_or_default();
        let (whole, tenth) = (tenths / 10, tenths % 10);
        if whole < 10 { format!("{whole}.{tenth}") } else { whole.to_string() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_few_signatures_to_the_tenth() {
        let rate = |signatures, millis| Rate { sessions: 1, signatures, took: Duration::from_millis(millis) };
        for (signatures, millis, told) in
            [(1, 3000, "0.3"), (9, 1000, "9.0"), (4999, 500, "9998"), (0, 500, "0.0"), (6, 500, "12"), (1, 0, "1000")]
        {
            assert_eq!(rate(signatures, millis).per_second(), told);
        }
    }
}
