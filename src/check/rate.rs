//! Signatures per second, by number of sessions.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
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

/// The most sessions tried: what a token does with more, few clients will see.
const MOST: u32 = 32;

/// Signs with 1, 2, 4 ... sessions for a while each, and says how many signatures that gave.
pub fn look(token: &Token, trial: &Trial, pair: &KeyPair, patience: Patience, outlet: Outlet<'_>) -> Line {
    let subject = "signatures";
    let most = token.places().clamp(1, MOST);
    let mut rates = Vec::new();
    let numbers =
        std::iter::successors(Some(1_u32), |number| number.checked_mul(2)).take_while(|number| *number <= most);
    for sessions in numbers {
        outlet.calling("C_Sign", patience.call().map(|call| call.saturating_add(TIME)));
        match count(token, trial, pair, sessions) {
            Ok(rate) => rates.push((sessions, rate)),
            Err(why) => {
                let done = text(trial, &rates);
                let text = format!("{why}, with {sessions} sessions at once; {done}");
                return Line::fail(subject, text, "max-sessions in [pkcs11] keeps the bridge to fewer")
                    .with("sessions", sessions);
            }
        }
    }
    let value = |(sessions, rate): &(u32, u64)| {
        Value::Object(vec![("sessions", (*sessions).into()), ("per-second", (*rate).into())])
    };
    let values = rates.iter().map(value).collect();
    Line::ok(subject, text(trial, &rates)).with("algorithm", trial.name).with("rates", Value::List(values))
}

fn text(trial: &Trial, rates: &[(u32, u64)]) -> String {
    let rates: Vec<_> = rates.iter().map(|(sessions, rate)| format!("{rate} with {sessions}")).collect();
    format!("{} per second and sessions: {}", trial.name, rates.join(", "))
}

/// Signatures per second with so many sessions at once.
fn count(token: &Token, trial: &Trial, pair: &KeyPair, sessions: u32) -> Result<u64, String> {
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
    let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
    let made = made.into_inner();
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(why) => Err(why),
        None => Ok(made.saturating_mul(1000).checked_div(took).unwrap_or_default()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
