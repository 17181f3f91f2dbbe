//! Calls into the module that do not return: noticed at a deadline, so that somebody else can speak for the thread that waits.
#![forbid(unsafe_code)]

use std::cell::OnceCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// How often the time is looked at: a deadline is kept to within this.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// After so long without an answer the module is asked something, since it may only be that nobody else does.
pub(super) const ASK_AFTER: Duration = Duration::from_secs(2);

/// Ticks since the first watch began, from 1: threads read it instead of the clock.
static NOW: AtomicU64 = AtomicU64::new(1);

/// The answers to threads that have ended.
static PAST: AtomicU64 = AtomicU64::new(0);

/// Everyone who ever was in a call and whose thread still runs.
static STAYS: Mutex<Vec<Weak<Stay>>> = Mutex::new(Vec::new());

thread_local! {
    static MINE: OnceCell<Arc<Stay>> = const { OnceCell::new() };
}

/// Speaks for a thread that does not come back from the module.
type Speaks = Box<dyn Fn(Overdue) + Send>;

/// One thread's time with the module.
#[derive(Default)]
struct Stay {
    /// The tick it began at; 0 outside.
    since: AtomicU64,
    /// Whether it may take as long as making a key does, and whether it is this thread that makes one.
    is_patient: AtomicBool,
    makes: AtomicBool,
    /// The ticks at which somebody was begun to be waited for who types a PIN, and the module to be initialised; 0 otherwise.
    types: AtomicU64,
    initializes: AtomicU64,
    /// The beginning of the time that was found too long; 0 if none was.
    overdue: AtomicU64,
    /// Calls that came back, whatever they said.
    answers: AtomicU64,
    rescue: Mutex<Option<Speaks>>,
}

impl Drop for Stay {
    fn drop(&mut self) {
        PAST.fetch_add(*self.answers.get_mut(), Ordering::Relaxed);
    }
}

impl Stay {
    fn is_overdue(&self) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        since != 0 && self.overdue.load(Ordering::Relaxed) == since
    }
}

/// A thread's time with the module; nested ones belong to the first.
pub(super) struct Guard(Option<Arc<Stay>>);

/// From now on this thread waits for the module, or for others that do.
pub(super) fn stay() -> Guard {
    let mine = mine();
    if mine.since.load(Ordering::Relaxed) != 0 {
        return Guard(None);
    }
    mine.since.store(NOW.load(Ordering::Relaxed), Ordering::Release);
    Guard(Some(mine))
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(stay) = &self.0 {
            stay.since.store(0, Ordering::Release);
            stay.is_patient.store(false, Ordering::Relaxed);
            stay.makes.store(false, Ordering::Relaxed);
        }
    }
}

/// For the rest of its time with the module this thread makes a key.
pub(super) fn makes() {
    let mine = mine();
    mine.is_patient.store(true, Ordering::Relaxed);
    mine.makes.store(true, Ordering::Relaxed);
}

/// For the rest of its time with the module this thread waits for one that makes a key, or for somebody who types a PIN.
pub(super) fn is_patient() {
    mine().is_patient.store(true, Ordering::Relaxed);
}

/// Until the guard is dropped this thread waits for somebody who types a PIN, and maybe all others for that: how long it takes says nothing
/// of the module, unless it is for ever.
pub(super) fn types() -> Excuse {
    let mine = mine();
    mine.types.store(NOW.load(Ordering::Relaxed), Ordering::Relaxed);
    Excuse(mine)
}

/// Until the guard is dropped this thread initialises the module, which may look for its HSM for minutes, and all others wait for that.
pub(super) fn initializes() -> Excuse {
    let mine = mine();
    mine.initializes.store(NOW.load(Ordering::Relaxed), Ordering::Relaxed);
    Excuse(mine)
}

/// See [`types`] and [`initializes`].
pub(super) struct Excuse(Arc<Stay>);

impl Drop for Excuse {
    fn drop(&mut self) {
        // What follows has its own time.
        self.0.answers.fetch_add(1, Ordering::Relaxed);
        self.0.types.store(0, Ordering::Relaxed);
        self.0.initializes.store(0, Ordering::Relaxed);
    }
}

/// The module answered this thread, whatever it said. Whether that was too late.
pub(super) fn answered() -> bool {
    let mine = mine();
    mine.answers.fetch_add(1, Ordering::Relaxed);
    mine.is_overdue()
}

/// Whether this thread has waited for so long that its client is not there any more: what has not begun is not to begin.
pub(super) fn is_overdue() -> bool {
    mine().is_overdue()
}

/// Has `rescue` called, by another thread, when a call of this thread does not return in time: for as long as the guard is
/// kept.
pub fn on_overdue(rescue: impl Fn(Overdue) + Send + 'static) -> Rescue {
    *lock(&mine().rescue) = Some(Box::new(rescue));
    Rescue
}

/// See [`on_overdue`].
pub struct Rescue;

/// A thread's time with the module that has become too long.
pub struct Overdue {
    stay: Arc<Stay>,
    since: u64,
}

impl Overdue {
    /// Whether the thread still is there, and has not been back meanwhile.
    pub fn lasts(&self) -> bool {
        // A later time would have begun at a later tick.
        self.stay.since.load(Ordering::Acquire) == self.since
    }
}

impl Drop for Rescue {
    fn drop(&mut self) {
        *lock(&mine().rescue) = None;
    }
}

fn mine() -> Arc<Stay> {
    MINE.with(|mine| {
        Arc::clone(mine.get_or_init(|| {
            let stay = Arc::new(Stay::default());
            lock(&STAYS).push(Arc::downgrade(&stay));
            stay
        }))
    })
}

/// What the supervisor knows.
pub(super) struct Watch {
    /// Ticks that a thread may wait, and one that makes a key.
    allowed: u64,
    to_make: u64,
    to_initialize: u64,
    answers: u64,
    stuck: Option<Instant>,
}

impl Watch {
    /// For threads that may wait so long, and for those that make a key; the module may be initialised, and a PIN typed, for as long as
    /// that, and for as long as at the start.
    pub(super) fn new(allowed: Duration, to_make: Duration, to_start: Duration) -> Self {
        let ticks = |time: Duration| u64::try_from(time.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u64::MAX);
        Self {
            allowed: ticks(allowed),
            to_make: ticks(to_make.max(allowed)),
            to_initialize: ticks(to_make.max(to_start)),
            answers: 0,
            stuck: None,
        }
    }

    /// To be called every [`TICK`]. Since when calls are overdue and none has come back.
    pub(super) fn look(&mut self) -> Option<Instant> {
        let now = NOW.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let stays: Vec<_> = {
            let mut stays = lock(&STAYS);
            stays.retain(|stay| stay.strong_count() > 0);
            stays.iter().filter_map(Weak::upgrade).collect()
        };
        let (mut overdue, mut making, mut answers) = (false, false, PAST.load(Ordering::Relaxed));
        for stay in stays {
            answers = answers.wrapping_add(stay.answers.load(Ordering::Relaxed));
            let is_excused = [&stay.initializes, &stay.types].into_iter().any(|begun| {
                let begun = begun.load(Ordering::Relaxed);
                begun != 0 && now.saturating_sub(begun) <= self.to_initialize
            });
            making |= is_excused;
            let since = stay.since.load(Ordering::Acquire);
            if since == 0 {
                continue;
            }
            let is_patient = stay.is_patient.load(Ordering::Relaxed);
            if now.saturating_sub(since) <= if is_patient { self.to_make } else { self.allowed } {
                // Not those who wait: clients that come one after another would keep a module that hangs from being found out.
                making |= stay.makes.load(Ordering::Relaxed);
                continue;
            }
            overdue |= !is_excused;
            // A client is told all the same.
            if stay.overdue.swap(since, Ordering::Relaxed) != since {
                if !is_excused {
                    log::warn!(
                        "a call to the PKCS#11 module has not returned in time: its session counts as lost\n\
                         hint: where the HSM takes so long, pkcs11.{} has to be longer",
                        if is_patient { "generate-timeout" } else { "call-timeout" }
                    );
                }
                if let Some(rescue) = lock(&stay.rescue).as_ref() {
                    rescue(Overdue { stay: Arc::clone(&stay), since });
                }
            }
        }
        // A card makes one key and nothing else for minutes, and nobody is inside a module while it is initialised: silence meanwhile
        // says nothing.
        if !overdue || making || answers != self.answers {
            self.stuck = None;
        }
        self.answers = answers;
        if overdue && !making {
            self.stuck.get_or_insert_with(Instant::now);
        }
        self.stuck
    }
}

/// Calls `look` every [`TICK`] until it says no.
pub(super) fn every_tick(mut look: impl FnMut() -> bool + Send + 'static) {
    let supervisor = thread::Builder::new().name("module-watch".to_owned());
    let started = supervisor.spawn(move || {
        while look() {
            thread::sleep(TICK);
        }
    });
    if let Err(error) = started {
        log::warn!("no thread to watch the PKCS#11 module: {error}");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_key_in_the_making_excuses_silence_but_not_those_who_wait_for_it() {
        let mut watch = Watch::new(TICK, TICK.saturating_mul(1000), TICK);
        let (begin, begun) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        thread::scope(|scope| {
            scope.spawn(move || {
                let _stay = stay();
                begin.send(()).unwrap();
                ended.recv()
            });
            // Dropped whatever comes.
            let _end = end;
            begun.recv().unwrap();
            let looks = |watch: &mut Watch| (0..5).filter_map(|_| watch.look()).last();
            assert!(looks(&mut watch).is_some(), "one call hangs, and nobody else is answered");
            let excuse = types();
            assert!(looks(&mut watch).is_none(), "somebody types");
            assert!((0..1001).filter_map(|_| watch.look()).last().is_some(), "for too long");
            drop(excuse);
            let _stay = stay();
            is_patient();
            assert!(looks(&mut watch).is_some(), "somebody waits");
            makes();
            assert!(watch.look().is_none(), "a key is made");
            assert!((0..1001).filter_map(|_| watch.look()).last().is_some(), "that takes too long as well");
        });
    }
}
