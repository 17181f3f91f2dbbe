//! A token's PIN that is changed while clients use the token: who offers another one may have it proved, seldom.
//!
//! A login proves nothing while the process is logged in, and to log out first would take the keys from everybody else.
//! So the PIN is proved by a process of its own ([`super::prover`]): PKCS#11 logins are each process's own. What it may cost is the
//! token's retry counter, which a stranger must not run down: only addresses from which the PIN in force came are heard, once
//! a minute, never where the token says that a wrong PIN was tried already, and a few times in all.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, TryLockError};
use std::time::{Duration, Instant};

use super::gate::{Pin, Verdict};
use super::prover::{Proof, Prover};
use super::token::Token;

/// The time between two PINs that are tried: a client that was given the new one waits for no longer, should a stranger's have been
/// tried a moment before.
const PAUSE: Duration = Duration::from_secs(60);

/// Addresses remembered: more than one HSM has signers.
const ORIGINS: usize = 256;

/// What is known of the clients of one token, and of PINs tried beside the one in force.
pub(super) struct Changes {
    /// Wrong PINs tried until one is right.
    most: u32,
    origins: RwLock<HashSet<IpAddr>>,
    /// Held while a PIN is tried: others who offer the same one wait.
    tries: Mutex<Tries>,
    /// Whether what was tried is to be forgotten by whoever tries next: the operator does not wait for who tries now.
    anew: AtomicBool,
}

#[derive(Default)]
struct Tries {
    last: Option<Instant>,
    wrong: u32,
    /// Whoever comes is heard, once: the operator asked for it.
    anyone: bool,
}

impl Changes {
    pub(super) fn new(most: u32) -> Self {
        Self { most, origins: RwLock::default(), tries: Mutex::default(), anew: AtomicBool::new(false) }
    }

    /// The PIN in force came from there.
    pub(super) fn came_from(&self, origin: Option<IpAddr>) {
        let Some(origin) = origin else { return };
        if self.origins.read().unwrap_or_else(PoisonError::into_inner).contains(&origin) {
            return;
        }
        let mut origins = self.origins.write().unwrap_or_else(PoisonError::into_inner);
        if origins.len() < ORIGINS {
            origins.insert(origin);
        }
    }

    /// Forgets what was tried, and lets one PIN be tried wherever it comes from.
    pub(super) fn begin_anew(&self) {
        self.anew.store(true, Ordering::Release);
    }

    fn reconsider(&self, tries: &mut Tries) {
        if self.anew.swap(false, Ordering::AcqRel) {
            *tries = Tries { anyone: true, ..Tries::default() };
        }
    }

    fn tries(&self) -> MutexGuard<'_, Tries> {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn knows(&self, origin: Option<IpAddr>) -> bool {
        let origins = self.origins.read().unwrap_or_else(PoisonError::into_inner);
        origin.is_some_and(|origin| origins.contains(&origin))
    }
}

impl Tries {
    fn is_open(&self, most: u32, is_known: bool, now: Instant) -> bool {
        (is_known || self.anyone)
            && self.wrong < most
            && self.last.is_none_or(|last| now.saturating_duration_since(last) >= PAUSE)
    }
}

impl Token {
    /// Whether `pin` is the token's by now, though it is not the one in force. From then on it is.
    pub(super) fn has_changed_to(&self, pin: &Pin<'_>, prover: &Prover) -> bool {
        let is_known = self.changes.knows(pin.origin());
        let mut tries = match self.changes.tries.try_lock() {
            Ok(tries) => tries,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // A stranger does not wait for what is tried for somebody else.
            Err(TryLockError::WouldBlock) if !is_known => return false,
            Err(TryLockError::WouldBlock) => self.changes.tries(),
        };
        self.changes.reconsider(&mut tries);
        if self.gate.is_in_force(pin) {
            return true;
        }
        let now = Instant::now();
        if !self.gate.could_be_new(pin, now) || !tries.is_open(self.changes.most, is_known, now) {
            return false;
        }
        tries.last = Some(now);
        tries.anyone = false;
        let proof = prover.prove(self.info(), pin);
        let name = self.info().name();
        match proof {
            Proof::Right => {
                tries.wrong = 0;
                tries.last = None;
                self.gate.replace(pin);
                log::info!("token {name}: its PIN was changed; the new one is in force, the old one no longer");
                true
            }
            Proof::Wrong | Proof::Doubtful => {
                tries.wrong = tries.wrong.saturating_add(1);
                let is_doubtful = matches!(proof, Proof::Doubtful);
                self.gate.is_wrong(pin, if is_doubtful { Verdict::Doubtful(now) } else { Verdict::Wrong });
                let what = if is_doubtful { ", or the token is in trouble" } else { "" };
                log::warn!("token {name}: another PIN than the one in force was offered, and is wrong{what}");
                if tries.wrong >= self.changes.most {
                    log::warn!(
                        "token {name}: no other PIN is tried any more\nhint: if its PIN was changed, send HUP and use the new one"
                    );
                }
                false
            }
            Proof::Untried => {
                log::warn!("token {name}: a wrong PIN was tried lately, so that another than the one in force is not");
                false
            }
            Proof::Unknown(why) => {
                // It may have been tried, and been wrong.
                tries.wrong = tries.wrong.saturating_add(1);
                log::warn!("token {name}: cannot prove another PIN than the one in force: {why}");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_seldom_and_a_few_in_all_and_only_for_known_addresses() {
        let now = Instant::now();
        let mut tries = Tries::default();
        assert!(tries.is_open(2, true, now));
        assert!(!tries.is_open(2, false, now) && !tries.is_open(0, true, now));
        tries.last = Some(now);
        assert!(!tries.is_open(2, true, now + PAUSE - Duration::from_millis(1)));
        assert!(tries.is_open(2, true, now + PAUSE));
        tries.wrong = 2;
        assert!(!tries.is_open(2, true, now + PAUSE * 100));
    }

    #[test]
    fn lets_anyone_in_once_the_operator_asked_for_it() {
        let changes = Changes::new(2);
        let mut tries = changes.tries();
        tries.wrong = 2;
        // While somebody tries one.
        changes.begin_anew();
        changes.reconsider(&mut tries);
        assert!(tries.is_open(2, false, Instant::now()));
        tries.anyone = false;
        changes.reconsider(&mut tries);
        assert!(!tries.is_open(2, false, Instant::now()), "forgotten twice");
    }

    #[test]
    fn knows_a_bounded_number_of_addresses() {
        let changes = Changes::new(2);
        for number in 0..1000_u32 {
            changes.came_from(Some(IpAddr::V4(number.into())));
        }
        assert!(changes.knows(Some(IpAddr::V4(0.into()))));
        assert!(!changes.knows(Some(IpAddr::V4(999.into()))) && !changes.knows(None));
    }
}
