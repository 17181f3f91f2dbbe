//! The login gate: whoever asks for a token proves its PIN, whether or not the module is logged in already.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use cryptoki::types::RawAuthPin;
use ring::{hmac, rand};
use secrecy::ExposeSecret;

use super::error::Error;
use super::turnstile::Turnstile;

/// A PIN as a client offers it. It borrows its bytes, and can neither be printed nor copied.
pub struct Pin<'a>(&'a [u8], Option<IpAddr>);

impl<'a> Pin<'a> {
    /// Takes the bytes for a PIN.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes, None)
    }

    /// The same, coming from a client at `origin`.
    pub fn from(self, origin: IpAddr) -> Self {
        Self(self.0, Some(origin))
    }

    pub(super) fn origin(&self) -> Option<IpAddr> {
        self.1
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0
    }

    /// A copy for the binding, wiped when dropped.
    pub(super) fn secret(&self) -> RawAuthPin {
        RawAuthPin::new(Box::new(self.0.to_vec()))
    }
}

/// Why a token is refused to a client. Its text is for the log only: a client is told no more than that it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Several tokens have this label, or this serial number.
    AmbiguousToken,
    /// The token refuses the PIN with an answer that it also has for trouble of its own.
    DoubtfulPin,
    /// The token says that one more wrong PIN locks it, so nothing was tried.
    FinalTry,
    /// There is no login by a PIN that clients could know, so that none proves anything.
    NoJudge,
    /// The token says that its PIN is locked.
    PinLocked,
    /// So many wrong PINs came that none is tried for a while.
    TooManyAttempts,
    /// No PIN of any token can be judged.
    Unavailable(Error),
    /// This token could not judge the PIN.
    Unjudged(Error),
    /// No token has this label, serial number or slot id.
    UnknownToken,
    /// The PIN is not the token's.
    WrongPin,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AmbiguousToken => f.write_str(
                "several tokens have this label or serial number\nhint: name the token by its slot id, or give each token a label of its own",
            ),
            Self::DoubtfulPin => f.write_str(
                "wrong PIN, or the token is in trouble: it answers the same to both\nhint: the same PIN is tried again after a minute",
            ),
            Self::FinalTry => f.write_str(
                "one more wrong PIN would lock the token, so none is tried\nhint: log in once with the vendor's tool and the right PIN, then try again",
            ),
            Self::NoJudge => f.write_str("the token cannot judge a PIN, clients have to prove themselves otherwise"),
            Self::PinLocked => f.write_str("the token's PIN is locked\nhint: the token's security officer can set a new one"),
            Self::TooManyAttempts => f.write_str("too many wrong PINs for this token, none is tried for a while"),
            Self::Unavailable(error) => write!(f, "no token can judge a PIN: {error}"),
            Self::Unjudged(error) => write!(f, "the token cannot judge a PIN: {error}"),
            Self::UnknownToken => f.write_str("no token has this label, serial number or slot id"),
            Self::WrongPin => f.write_str("wrong PIN"),
        }
    }
}

impl std::error::Error for Refusal {}

/// How many wrong PINs are remembered until the right one comes. A client in error repeats one; a stranger who tries many
/// is stopped by [`Refusal::FinalTry`].
const WRONG_PINS: usize = 32;

/// For how long one counts as wrong of which the token has not said so in so many words: it may have been right all the same.
const DOUBT: Duration = Duration::from_secs(60);

/// Admits requests to one token.
///
/// PINs are compared by their HMAC under a random key of this process, so that the time a comparison takes tells nothing. The
/// admitted PIN itself is kept too, for the token may log out by itself while clients go on; it is wiped when it is replaced
/// or no longer right.
pub(super) struct Gate {
    key: hmac::Key,
    /// Held while a PIN is proved, and taken before whatever that waits for. Whoever is inside the module does not take it.
    proving: Turnstile,
    /// Never held during a call: those who log in anew read the PIN from here, in the middle of theirs.
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    admitted: Option<Admitted>,
    wrong: VecDeque<Wrong>,
}

/// A PIN that the token has refused; until then, if it may have been for another reason.
struct Wrong {
    tag: hmac::Tag,
    until: Option<Instant>,
}

impl Wrong {
    fn lasts(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// What a token's refusal of a PIN says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is wrong.
    Wrong,
    /// It is wrong, or the token was in trouble then.
    Doubtful(Instant),
}

impl State {
    fn remember_wrong(&mut self, tag: hmac::Tag, verdict: Verdict) {
        let until = match verdict {
            Verdict::Wrong => None,
            Verdict::Doubtful(now) => {
                self.wrong.retain(|wrong| wrong.lasts(now));
                now.checked_add(DOUBT)
            }
        };
        if self.wrong.len() >= WRONG_PINS {
            self.wrong.pop_front();
        }
        self.wrong.push_back(Wrong { tag, until });
    }
}

/// The PIN that is known to be right.
struct Admitted {
    tag: hmac::Tag,
    pin: RawAuthPin,
}

impl Gate {
    pub(super) fn new() -> Result<Self, Error> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new())
            .map_err(|_| Error::Unsupported("keeping PINs apart without the system's random numbers"))?;
        Ok(Self { key, proving: Turnstile::default(), state: RwLock::default() })
    }

    /// Judges `pin`; `prove` asks the token, and is called only while no PIN is known to be right and this one is not
    /// known to be wrong. Callers, who came `now`, wait for each other where they need it, so that a PIN is never tried twice.
    pub(super) fn admit(
        &self,
        pin: &Pin<'_>,
        now: Instant,
        prove: impl FnOnce(&Pin<'_>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        // The state is whole between any two statements that change it, so a poisoned lock is as good as another.
        let known = || self.verdict(&self.state.read().unwrap_or_else(PoisonError::into_inner), pin, now);
        if let Some(verdict) = known() {
            return verdict;
        }
        let _alone = self.proving.enter().map_err(Refusal::Unjudged)?;
        if let Some(verdict) = known() {
            return verdict;
        }
        let proof = prove(pin);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        match &proof {
            Ok(()) => {
                state.admitted = Some(Admitted { tag: hmac::sign(&self.key, pin.0), pin: pin.secret() });
            }
            Err(Refusal::WrongPin) => {
                state.remember_wrong(hmac::sign(&self.key, pin.0), Verdict::Wrong);
            }
            Err(Refusal::DoubtfulPin) => {
                state.remember_wrong(hmac::sign(&self.key, pin.0), Verdict::Doubtful(now));
            }
            Err(_) => {}
        }
        proof
    }

    /// Whether `pin` is the one that is known to be right.
    pub(super) fn is_in_force(&self, pin: &Pin<'_>) -> bool {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.admitted.as_ref().is_some_and(|it| hmac::verify(&self.key, pin.0, it.tag.as_ref()).is_ok())
    }

    /// Whether another PIN is known to be right, and this one not to be wrong.
    pub(super) fn could_be_new(&self, pin: &Pin<'_>, now: Instant) -> bool {
        let tag = hmac::sign(&self.key, pin.0);
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.admitted.is_some()
            && !state.wrong.iter().any(|wrong| wrong.lasts(now) && wrong.tag.as_ref() == tag.as_ref())
    }

    /// `pin` was proved to be right, in place of the one that was.
    pub(super) fn replace(&self, pin: &Pin<'_>) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.wrong.retain(|wrong| hmac::verify(&self.key, pin.0, wrong.tag.as_ref()).is_err());
        let new = Admitted { tag: hmac::sign(&self.key, pin.0), pin: pin.secret() };
        if let Some(Admitted { tag, .. }) = state.admitted.replace(new) {
            state.remember_wrong(tag, Verdict::Wrong);
        }
    }

    /// `pin` was refused.
    pub(super) fn is_wrong(&self, pin: &Pin<'_>, verdict: Verdict) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.remember_wrong(hmac::sign(&self.key, pin.0), verdict);
    }

    /// Forgets which PINs were wrong.
    pub(super) fn forget_wrong(&self) {
        self.state.write().unwrap_or_else(PoisonError::into_inner).wrong.clear();
    }

    /// A copy of the admitted PIN, to log in anew with.
    pub(super) fn kept(&self) -> Option<RawAuthPin> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let pin = state.admitted.as_ref()?.pin.expose_secret().to_vec();
        Some(RawAuthPin::new(Box::new(pin)))
    }

    /// Whether there is one.
    pub(super) fn has_kept(&self) -> bool {
        self.state.read().unwrap_or_else(PoisonError::into_inner).admitted.is_some()
    }

    /// The token refuses `pin`, which [`Self::kept`] gave: it is not tried again, not even by clients if that says that it is wrong, and
    /// one has to be proved. False if it is not the one in force: it may have been replaced while the token was asked.
    pub(super) fn revoke(&self, pin: &RawAuthPin, verdict: Verdict) -> bool {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let is_refused = |it: &Admitted| hmac::verify(&self.key, pin.expose_secret(), it.tag.as_ref()).is_ok();
        if !state.admitted.as_ref().is_some_and(is_refused) {
            return false;
        }
        if let Some(Admitted { tag, .. }) = state.admitted.take() {
            // It was changed, and another may be right that was wrong before.
            state.wrong.clear();
            state.remember_wrong(tag, verdict);
        }
        true
    }

    /// What is already known of `pin`.
    fn verdict(&self, state: &State, pin: &Pin<'_>, now: Instant) -> Option<Result<(), Refusal>> {
        let is = |tag: &hmac::Tag| hmac::verify(&self.key, pin.0, tag.as_ref()).is_ok();
        match &state.admitted {
            Some(admitted) if is(&admitted.tag) => Some(Ok(())),
            Some(_) => Some(Err(Refusal::WrongPin)),
            None => {
                let wrong = state.wrong.iter().find(|wrong| wrong.lasts(now) && is(&wrong.tag))?;
                Some(Err(if wrong.until.is_some() { Refusal::DoubtfulPin } else { Refusal::WrongPin }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptoki::error::RvError;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    /// A token with the PIN `1234` that counts how often it is asked.
    #[derive(Default)]
    struct Asked(AtomicUsize);

    impl Asked {
        fn judge(&self, pin: &Pin<'_>) -> Result<(), Refusal> {
            self.0.fetch_add(1, Ordering::SeqCst);
            if pin.0 == b"1234" { Ok(()) } else { Err(Refusal::WrongPin) }
        }

        fn times(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    fn offer(gate: &Gate, token: &Asked, pin: &[u8]) -> Result<(), Refusal> {
        gate.admit(&Pin::new(pin), Instant::now(), |pin| token.judge(pin))
    }

    #[test]
    fn asks_the_token_once_and_then_compares() {
        let (gate, token) = (Gate::new().unwrap(), Asked::default());
        assert_eq!(offer(&gate, &token, b"1234"), Ok(()));
        assert_eq!(offer(&gate, &token, b"1234"), Ok(()));
        for wrong in [&b"1235"[..], b"", b"12345", b"123"] {
            assert_eq!(offer(&gate, &token, wrong), Err(Refusal::WrongPin));
        }
        assert_eq!(token.times(), 1);
    }

    #[test]
    fn never_tries_a_wrong_pin_twice_before_the_right_one_comes() {
        let (gate, token) = (Gate::new().unwrap(), Asked::default());
        for _ in 0..5 {
            assert_eq!(offer(&gate, &token, b"0000"), Err(Refusal::WrongPin));
        }
        assert_eq!(token.times(), 1);
        assert_eq!(offer(&gate, &token, b"1234"), Ok(()));
        assert_eq!(offer(&gate, &token, b"0000"), Err(Refusal::WrongPin));
        assert_eq!(token.times(), 2);
    }

    #[test]
    fn remembers_a_bounded_number_of_wrong_pins() {
        let (gate, token) = (Gate::new().unwrap(), Asked::default());
        for number in 0..1000_u32 {
            assert_eq!(offer(&gate, &token, &number.to_be_bytes()), Err(Refusal::WrongPin));
        }
        assert_eq!(gate.state.read().unwrap().wrong.len(), WRONG_PINS);
        assert_eq!(offer(&gate, &token, &999_u32.to_be_bytes()), Err(Refusal::WrongPin));
        assert_eq!(token.times(), 1000);
    }

    #[test]
    fn learns_nothing_from_a_token_that_cannot_judge() {
        let (gate, token) = (Gate::new().unwrap(), Asked::default());
        let down = Refusal::Unjudged(Error::Call { function: "C_Login", rv: RvError::DeviceRemoved });
        for refusal in [down, Refusal::FinalTry, Refusal::PinLocked] {
            assert_eq!(gate.admit(&Pin::new(b"1234"), Instant::now(), |_| Err(refusal.clone())), Err(refusal));
        }
        assert_eq!(offer(&gate, &token, b"1234"), Ok(()));
        assert_eq!(token.times(), 1);
    }

    #[test]
    fn lets_first_logins_wait_for_each_other() {
        let (gate, token) = (Arc::new(Gate::new().unwrap()), Arc::new(Asked::default()));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (gate, token) = (Arc::clone(&gate), Arc::clone(&token));
                thread::spawn(move || offer(&gate, &token, b"1234"))
            })
            .collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), Ok(()));
        }
        assert_eq!(token.times(), 1);
    }

    #[test]
    fn puts_a_new_pin_in_the_place_of_the_old_one() {
        let (gate, token) = (Gate::new().unwrap(), Asked::default());
        let is_new = |pin: &[u8]| gate.could_be_new(&Pin::new(pin), Instant::now());
        assert!(!is_new(b"5678"), "nothing is in force yet");
        offer(&gate, &token, b"0000").unwrap_err();
        offer(&gate, &token, b"1234").unwrap();
        assert!(is_new(b"5678") && !is_new(b"0000"));
        gate.is_wrong(&Pin::new(b"9999"), Verdict::Wrong);
        assert!(!is_new(b"9999"));
        gate.replace(&Pin::new(b"5678"));
        assert_eq!(offer(&gate, &token, b"5678"), Ok(()));
        assert_eq!(offer(&gate, &token, b"1234"), Err(Refusal::WrongPin));
        assert!(!is_new(b"1234"), "the old PIN would be tried again");
        gate.forget_wrong();
        assert!(is_new(b"0000"));
    }

    #[test]
    fn keeps_the_right_pin_until_the_token_says_otherwise() {
        let (gate, token) = (Gate::new().unwrap(), Asked::default());
        assert!(offer(&gate, &token, b"0000").is_err() && gate.kept().is_none());
        offer(&gate, &token, b"1234").unwrap();
        let kept = gate.kept().unwrap();
        assert_eq!(kept.expose_secret().as_slice(), b"1234");
        assert!(gate.revoke(&kept, Verdict::Wrong) && !gate.revoke(&kept, Verdict::Wrong));
        assert!(gate.kept().is_none());
        assert_eq!(offer(&gate, &token, b"1234"), Err(Refusal::WrongPin));
        assert_eq!(token.times(), 2, "a PIN known to be wrong was tried again");
    }

    #[test]
    fn a_doubtful_refusal_counts_for_a_while() {
        let (gate, token, now) = (Gate::new().unwrap(), Asked::default(), Instant::now());
        let late = now + DOUBT;
        let early = late - Duration::from_millis(1);
        let offer = |at| gate.admit(&Pin::new(b"1234"), at, |pin| token.judge(pin));
        let doubts = |at| gate.admit(&Pin::new(b"1234"), at, |_| Err(Refusal::DoubtfulPin));
        assert_eq!(doubts(now), Err(Refusal::DoubtfulPin));
        assert_eq!((offer(early), token.times()), (Err(Refusal::DoubtfulPin), 0));
        assert_eq!(doubts(late), Err(Refusal::DoubtfulPin), "not tried again");
        assert_eq!(gate.state.read().unwrap().wrong.len(), 1);
        let now = late + DOUBT;
        assert_eq!((offer(now), token.times()), (Ok(()), 1));
        // The one that is kept, and another beside it.
        gate.is_wrong(&Pin::new(b"5678"), Verdict::Doubtful(now));
        let could_be = |at| gate.could_be_new(&Pin::new(b"5678"), at);
        assert!(!could_be(now + DOUBT - Duration::from_millis(1)) && could_be(now + DOUBT));
        assert!(gate.revoke(&gate.kept().unwrap(), Verdict::Doubtful(now)) && gate.kept().is_none());
        assert_eq!(offer(now), Err(Refusal::DoubtfulPin));
        assert_eq!((offer(now + DOUBT), token.times()), (Ok(()), 2));
    }

    #[test]
    fn a_late_refusal_of_the_old_pin_leaves_the_new_one_in_force() {
        let (gate, token) = (Gate::new().unwrap(), Asked::default());
        offer(&gate, &token, b"1234").unwrap();
        let old = gate.kept().unwrap();
        gate.replace(&Pin::new(b"5678"));
        assert!(!gate.revoke(&old, Verdict::Wrong));
        assert_eq!(gate.kept().unwrap().expose_secret().as_slice(), b"5678");
        assert_eq!(offer(&gate, &token, b"5678"), Ok(()));
        assert_eq!(offer(&gate, &token, b"1234"), Err(Refusal::WrongPin));
        assert_eq!(token.times(), 1);
    }

    #[test]
    fn survives_a_panic_of_the_proof() {
        let (gate, token) = (Arc::new(Gate::new().unwrap()), Asked::default());
        let theirs = Arc::clone(&gate);
        let panicked =
            thread::spawn(move || theirs.admit(&Pin::new(b"1234"), Instant::now(), |_| panic!("as a test"))).join();
        assert!(panicked.is_err());
        assert_eq!(offer(&gate, &token, b"0000"), Err(Refusal::WrongPin));
        assert_eq!(offer(&gate, &token, b"1234"), Ok(()));
    }
}
