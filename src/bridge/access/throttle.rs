//! Failed logins by peer address: who fails often is not judged for a while, and the log is told once a minute.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ring::digest::{self, digest};

use super::origin::origin;

/// What failed logins cost those who send them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedLogins {
    /// Failures of an address that cost it nothing.
    pub free: u32,
    /// Failures in a minute from all addresses from which nobody has logged in, after which none of those is judged; zero judges all.
    pub everywhere: u32,
    /// The longest time for which an address is not judged after more of them; zero judges all.
    pub longest_pause: Duration,
    /// A login that was judged and failed is answered when the next of these is full since it came, so that nothing is seen of what
    /// the judgement took: a token is asked for a name that means something, and nobody for one that does not. Zero answers at once.
    pub answered_every: Duration,
}

impl FailedLogins {
    /// 5: people mistype, and clients try again at once.
    pub const DEFAULT_FREE: u32 = 5;
    /// 60: at one in a second, the PINs of six digits take eleven days; and it is more than all clients of a site mistype in a minute.
    pub const DEFAULT_EVERYWHERE: u32 = 60;
    /// A minute: a guess a minute finds no PIN, and who has put a client right waits no longer than this.
    pub const DEFAULT_LONGEST_PAUSE: Duration = Duration::from_secs(60);
    /// 500 ms: logins take less on most tokens, and who mistypes a PIN can wait so long.
    pub const DEFAULT_ANSWERED_EVERY: Duration = Duration::from_millis(500);

    /// How long to wait with the answer to one that was judged for so long.
    pub(crate) fn rest(&self, judged: Duration) -> Duration {
        let beyond = judged.as_nanos().checked_rem(self.answered_every.as_nanos());
        let beyond = beyond.and_then(|nanos| u64::try_from(nanos).ok());
        beyond.map_or(Duration::ZERO, |nanos| self.answered_every.saturating_sub(Duration::from_nanos(nanos)))
    }
}

impl Default for FailedLogins {
    fn default() -> Self {
        Self {
            free: Self::DEFAULT_FREE,
            everywhere: Self::DEFAULT_EVERYWHERE,
            longest_pause: Self::DEFAULT_LONGEST_PAUSE,
            answered_every: Self::DEFAULT_ANSWERED_EVERY,
        }
    }
}

/// After this long without a failure, an address has the free ones back.
const FORGIVEN: Duration = Duration::from_secs(600);

/// Addresses remembered. Who has more of them is bounded by [`super::Guesses`].
const MOST: usize = 4096;

/// Wrong credentials remembered for each address. A client in error repeats one, and repeating it guesses nothing.
const REPEATS: usize = 4;

/// How long the log hears nothing more about an address.
const SILENCE: Duration = Duration::from_secs(60);

/// SHA-256 over name and password, under a prefix that only this process knows.
type Fingerprint = [u8; digest::SHA256_OUTPUT_LEN];

/// The right to have a login judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nobody waits for it.
    Free,
    /// The only one of its address for a while, unless it is given back.
    Only,
}

/// What is remembered of failed logins.
#[derive(Default)]
pub(crate) struct Throttle {
    settings: FailedLogins,
    records: Mutex<HashMap<IpAddr, Record>>,
}

#[derive(Default)]
struct Record {
    failures: u32,
    /// No judgement before this.
    until: Option<Instant>,
    /// The last failure that was judged, and the last refusal.
    failed: Option<Instant>,
    refused: Option<Instant>,
    /// When the log was told last, and how many refusals it has not been told of.
    told: Option<Instant>,
    untold: u32,
    wrong: Vec<Fingerprint>,
}

impl Throttle {
    pub(crate) fn new(settings: FailedLogins) -> Self {
        Self { settings, records: Mutex::default() }
    }

    /// How long to wait with the answer to a login that was judged, and failed, since `since`.
    pub(crate) fn pause(&self, since: Instant) -> Duration {
        self.settings.rest(since.elapsed())
    }

    /// Whether a login from `peer` is judged now. Where there were too many failures already, one is at a time; but for one that
    /// `is_known`, which its connection has proved itself with before: it takes nobody's turn.
    pub(crate) fn turn(&self, peer: IpAddr, now: Instant, is_known: impl FnOnce() -> bool) -> Option<Turn> {
        let mut records = self.records();
        // Most of the time nobody has failed, and there is nothing to look up.
        if records.is_empty() {
            return Some(Turn::Free);
        }
        let Some(record) = records.get_mut(&origin(peer)) else { return Some(Turn::Free) };
        let Some(penalty) = record.penalty(&self.settings) else { return Some(Turn::Free) };
        if record.is_forgiven(now) || is_known() {
            return Some(Turn::Free);
        }
        if record.until.is_some_and(|at| now < at) {
            return None;
        }
        record.until = now.checked_add(penalty);
        Some(Turn::Only)
    }

    /// A login from `peer` that had this turn did not fail: unless another one did just now, the next may be judged at once. Who guesses
    /// gains nothing by sharing an address with such a client: a failure costs what it did.
    pub(crate) fn give_back(&self, peer: IpAddr, turn: Turn, now: Instant) {
        if turn == Turn::Free {
            return;
        }
        if let Some(record) = self.records().get_mut(&origin(peer)) {
            record.give_back(&self.settings, now);
        }
    }

    /// A login from `peer` was judged and failed: it counts, unless it repeats an earlier one. Whether it does.
    pub(crate) fn failed(&self, peer: IpAddr, fingerprint: Fingerprint, now: Instant) -> bool {
        let mut records = self.records();
        let record = record(&mut records, peer, now);
        if record.wrong.contains(&fingerprint) {
            record.give_back(&self.settings, now);
            return false;
        }
        record.failed = Some(now);
        if record.wrong.len() >= REPEATS {
            record.wrong.remove(0);
        }
        record.wrong.push(fingerprint);
        record.failures = record.failures.saturating_add(1);
        record.until = record.penalty(&self.settings).and_then(|penalty| now.checked_add(penalty));
        true
    }

    /// Whether the log is to hear of a refusal of `peer` now, and if so of how many others it has not heard.
    pub(crate) fn report(&self, peer: IpAddr, now: Instant) -> Option<u32> {
        let mut records = self.records();
        let record = record(&mut records, peer, now);
        if record.told.is_some_and(|told| now.saturating_duration_since(told) < SILENCE) {
            record.untold = record.untold.saturating_add(1);
            return None;
        }
        record.told = Some(now);
        Some(std::mem::take(&mut record.untold))
    }

    /// Whole whenever the lock is free, even after a panic elsewhere.
    fn records(&self) -> MutexGuard<'_, HashMap<IpAddr, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    fn is_forgiven(&self, now: Instant) -> bool {
        self.failed.is_some_and(|failed| now.saturating_duration_since(failed) >= FORGIVEN)
    }

    fn give_back(&mut self, settings: &FailedLogins, now: Instant) {
        let penalty = self.penalty(settings).unwrap_or_default();
        if self.failed.is_none_or(|failed| now.saturating_duration_since(failed) >= penalty) {
            self.until = None;
        }
    }

    /// For how long nothing more is judged.
    fn penalty(&self, settings: &FailedLogins) -> Option<Duration> {
        let doublings = self.failures.checked_sub(settings.free)?.checked_sub(1)?;
        let seconds = 1_u64.checked_shl(doublings).unwrap_or(u64::MAX);
        Some(Duration::from_secs(seconds).min(settings.longest_pause))
    }
}

/// The record of an address; a new one takes the place of the one that is least recent where there are too many.
fn record(records: &mut HashMap<IpAddr, Record>, peer: IpAddr, now: Instant) -> &mut Record {
    let peer = origin(peer);
    if records.len() >= MOST && !records.contains_key(&peer) {
        let oldest = records.iter().min_by_key(|(_, record)| record.refused).map(|(peer, _)| *peer);
        if let Some(oldest) = oldest {
            records.remove(&oldest);
        }
    }
    let record = records.entry(peer).or_default();
    // What is refused unjudged is no failure: who only tries again would else never be forgiven.
    if record.is_forgiven(now) {
        *record = Record { untold: record.untold, told: record.told, ..Record::default() };
    }
    record.refused = Some(now);
    record
}

/// Tells credentials apart without keeping them: a prefix of random bytes, different in each process.
pub(crate) struct Fingerprints([u8; 32]);

impl Fingerprints {
    pub(crate) fn new(random: [u8; 32]) -> Self {
        Self(random)
    }

    pub(crate) fn of(&self, username: &str, password: &str) -> Fingerprint {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&self.0);
        // One digest of fixed length before the other, so that no part of one can be taken for a part of the other.
        context.update(digest(&digest::SHA256, username.as_bytes()).as_ref());
        context.update(password.as_bytes());
        let mut fingerprint = Fingerprint::default();
        for (to, from) in fingerprint.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        fingerprint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: u32 = FailedLogins::DEFAULT_FREE;
    const CEILING: Duration = FailedLogins::DEFAULT_LONGEST_PAUSE;
    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    /// From a connection that has not proved itself.
    fn allows(throttle: &Throttle, peer: IpAddr, now: Instant) -> bool {
        throttle.turn(peer, now, || false).is_some()
    }

    fn wrong(number: u32) -> Fingerprint {
        Fingerprints::new([0; 32]).of("token", &number.to_string())
    }

    #[test]
    fn lets_the_first_mistakes_pass_and_then_doubles_the_wait_up_to_a_ceiling() {
        let throttle = Throttle::default();
        let mut now = Instant::now();
        for number in 0..FREE {
            throttle.failed(PEER, wrong(number), now);
            assert!(allows(&throttle, PEER, now));
        }
        for (number, seconds) in (FREE..).zip([1, 2, 4, 8, 16, 32, 60, 60, 60]) {
            throttle.failed(PEER, wrong(number), now);
            assert!(!allows(&throttle, PEER, now + Duration::from_secs(seconds) - Duration::from_millis(1)));
            assert!(allows(&throttle, OTHER, now));
            now += Duration::from_secs(seconds);
            assert!(allows(&throttle, PEER, now));
        }
        // The ceiling holds however long it goes on.
        for number in 100..300 {
            throttle.failed(PEER, wrong(number), now);
        }
        assert!(allows(&throttle, PEER, now + CEILING));
    }

    #[test]
    fn holds_to_the_numbers_that_it_was_given() {
        let settings = FailedLogins { free: 1, longest_pause: Duration::from_secs(2), ..FailedLogins::default() };
        let (throttle, now) = (Throttle::new(settings), Instant::now());
        throttle.failed(PEER, wrong(0), now);
        assert!(allows(&throttle, PEER, now));
        for number in 1..9 {
            throttle.failed(PEER, wrong(number), now);
        }
        assert!(!allows(&throttle, PEER, now) && allows(&throttle, PEER, now + Duration::from_secs(2)));
        let never = Throttle::new(FailedLogins { longest_pause: Duration::ZERO, ..FailedLogins::default() });
        for number in 0..99 {
            never.failed(PEER, wrong(number), now);
        }
        assert!((0..9).all(|_| allows(&never, PEER, now)));
    }

    #[test]
    fn failures_are_answered_at_full_steps_of_time_whatever_they_took() {
        let settings = FailedLogins::default();
        for (judged, answered) in [(0, 500), (1, 500), (499, 500), (500, 1000), (1234, 1500)] {
            let judged = Duration::from_millis(judged);
            assert_eq!(judged + settings.rest(judged), Duration::from_millis(answered));
        }
        let at_once = FailedLogins { answered_every: Duration::ZERO, ..settings };
        assert_eq!(at_once.rest(Duration::from_millis(3)), Duration::ZERO);
    }

    #[test]
    fn judges_one_at_a_time_once_there_were_too_many_failures() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for number in 0..=FREE {
            throttle.failed(PEER, wrong(number), now);
        }
        let later = now + Duration::from_secs(1);
        assert!(allows(&throttle, PEER, later));
        assert!(!allows(&throttle, PEER, later));
        assert!(allows(&throttle, PEER, later + Duration::from_secs(1)));
    }

    #[test]
    fn counts_a_wrong_credential_that_is_repeated_once() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..1000 {
            throttle.failed(PEER, wrong(1), now);
        }
        assert!(allows(&throttle, PEER, now));
    }

    #[test]
    fn forgets_after_a_while() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for number in 0..100 {
            throttle.failed(PEER, wrong(number), now);
        }
        let later = now + FORGIVEN;
        throttle.failed(PEER, wrong(1000), later);
        assert!(allows(&throttle, PEER, later));
    }

    #[test]
    fn who_only_tries_again_is_forgiven_too() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for number in 0..100 {
            throttle.failed(PEER, wrong(number), now);
        }
        for second in 0..FORGIVEN.as_secs() {
            throttle.report(PEER, now + Duration::from_secs(second));
            throttle.failed(PEER, wrong(99), now + Duration::from_secs(second));
        }
        assert!((0..9).all(|_| allows(&throttle, PEER, now + FORGIVEN)));
    }

    #[test]
    fn who_is_right_when_the_guesses_have_ended_keeps_nobody_waiting() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for number in 0..100 {
            throttle.failed(PEER, wrong(number), now);
        }
        let later = now + CEILING;
        for _ in 0..20 {
            assert_eq!(throttle.turn(PEER, later, || false), Some(Turn::Only));
            throttle.give_back(PEER, Turn::Only, later);
        }
        // Nor does one who repeats an old mistake.
        for _ in 0..20 {
            assert!(allows(&throttle, PEER, later));
            throttle.failed(PEER, wrong(99), later);
        }
        // A guess costs what it did, whoever else is right meanwhile.
        assert!(allows(&throttle, PEER, later));
        throttle.failed(PEER, wrong(100), later);
        throttle.give_back(PEER, Turn::Only, later);
        throttle.failed(PEER, wrong(100), later);
        assert!(!allows(&throttle, PEER, later + CEILING - Duration::from_millis(1)));
    }

    #[test]
    fn who_has_proved_itself_is_judged_and_takes_nobodys_turn() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for number in 0..100 {
            throttle.failed(PEER, wrong(number), now);
        }
        assert_eq!((throttle.turn(PEER, now, || true), throttle.turn(PEER, now, || false)), (Some(Turn::Free), None));
        let later = now + CEILING;
        assert_eq!(throttle.turn(PEER, later, || true), Some(Turn::Free));
        assert!(allows(&throttle, PEER, later));
    }

    #[test]
    fn remembers_a_bounded_number_of_addresses() {
        let (throttle, mut now) = (Throttle::default(), Instant::now());
        for number in 0..10_000_u32 {
            now += Duration::from_millis(1);
            throttle.failed(IpAddr::V4(number.into()), wrong(1), now);
        }
        assert_eq!(throttle.records().len(), MOST);
        assert!(throttle.records().contains_key(&IpAddr::V4(9_999.into())));
    }

    #[test]
    fn takes_a_network_for_one_address() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for number in 0..100_u32 {
            throttle.failed(format!("2001:db8::{number:x}").parse().unwrap(), wrong(number), now);
        }
        assert!(!allows(&throttle, "2001:db8::ffff".parse().unwrap(), now));
        assert!(allows(&throttle, "2001:db8:0:1::1".parse().unwrap(), now));
    }

    #[test]
    fn reports_once_a_minute_with_the_number_left_out() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        assert_eq!(throttle.report(PEER, now), Some(0));
        for _ in 0..500 {
            assert_eq!(throttle.report(PEER, now), None);
        }
        assert_eq!(throttle.report(OTHER, now), Some(0));
        assert_eq!(throttle.report(PEER, now + SILENCE), Some(500));
        assert_eq!(throttle.report(PEER, now + SILENCE * 2), Some(0));
    }

    #[test]
    fn tells_credentials_apart() {
        let fingerprints = Fingerprints::new([7; 32]);
        assert_eq!(fingerprints.of("a", "b"), fingerprints.of("a", "b"));
        assert_ne!(fingerprints.of("a", "bc"), fingerprints.of("ab", "c"));
        assert_ne!(fingerprints.of("a", "b"), Fingerprints::new([8; 32]).of("a", "b"));
    }
}
