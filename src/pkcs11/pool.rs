//! The sessions with one token: opened when needed, lent one request at a time, given back or thrown away.
#![forbid(unsafe_code)]

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cryptoki::error::RvError;

use super::error::Error;

/// After the token refused one more session, how long until another is asked for: what took the places may be another
/// program's.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// Lends sessions `S`.
///
/// One session, the anchor, is kept apart: when the last session with a token closes, the token logs out. It is lent only
/// where the token allows no other.
pub(super) struct Pool<S> {
    state: Mutex<State<S>>,
    freed: Condvar,
    most: u32,
    wait: Duration,
}

struct State<S> {
    /// The last one given back is lent first, so that few sessions do the work and stay warm.
    idle: Vec<S>,
    /// Sessions lent, or being opened. `idle.len() + lent` is never more than `most`.
    lent: u32,
    /// How many may be lent now: `most`, or fewer since the token refused another at `refused`.
    limit: u32,
    refused: Option<Instant>,
    anchor: Anchor<S>,
    closed: bool,
    /// Threads that wait for a session: to wake nobody costs a system call as well.
    waiting: u32,
}

enum Anchor<S> {
    None,
    Home(S),
    Lent,
}

impl<S> Pool<S> {
    /// A pool of at most `most` sessions beside the anchor; 0 makes the anchor serve. Borrowers wait for at most `wait`.
    pub(super) fn new(most: u32, wait: Duration) -> Self {
        let state = State {
            idle: Vec::new(),
            lent: 0,
            limit: most,
            refused: None,
            anchor: Anchor::None,
            closed: false,
            waiting: 0,
        };
        Self { state: Mutex::new(state), freed: Condvar::new(), most, wait }
    }

    /// The most that are lent at one time beside the anchor.
    pub(super) fn places(&self) -> u32 {
        self.most
    }

    /// How many could be lent now, as far as is known.
    pub(super) fn free(&self) -> u32 {
        let state = self.lock();
        state.limit.saturating_sub(state.lent)
    }

    /// Lends a session, opened with `open` if none is idle and another is allowed. CKR_SESSION_COUNT from `open` means
    /// that as many are open as the token allows now.
    ///
    /// # Errors
    /// [`Error::NoSession`] if none is given back in time, [`Error::Closed`] once the pool is, and what `open` says.
    pub(super) fn lend(&self, open: impl Fn() -> Result<S, Error>) -> Result<Loan<'_, S>, Error> {
        let started = Instant::now();
        let mut state = self.lock();
        loop {
            if state.closed {
                return Err(Error::Closed);
            }
            if let Some(session) = state.idle.pop() {
                state.lent = state.lent.saturating_add(1);
                return Ok(Loan { pool: self, session: Some(session), anchor: false, sound: true });
            }
            if state.refused.is_some_and(|at| at.elapsed() >= ASK_AGAIN) {
                state.refused = None;
                state.limit = self.most;
            }
            if state.lent < state.limit {
                state.lent = state.lent.saturating_add(1);
                drop(state);
                // Holds the place while the module works, and gives it back if that fails.
                let mut loan = Loan { pool: self, session: None, anchor: false, sound: true };
                match open() {
                    Ok(session) => {
                        loan.session = Some(session);
                        return Ok(loan);
                    }
                    Err(error) if error.rv() == Some(RvError::SessionCount) => {
                        drop(loan);
                        state = self.lock();
                        state.limit = state.lent;
                        state.refused = Some(Instant::now());
                        log::debug!("{error}: going on with {} sessions", state.limit.max(1));
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            if state.limit == 0 {
                match std::mem::replace(&mut state.anchor, Anchor::Lent) {
                    Anchor::Home(session) => {
                        return Ok(Loan { pool: self, session: Some(session), anchor: true, sound: true });
                    }
                    Anchor::Lent => {}
                    Anchor::None => {
                        state.anchor = Anchor::None;
                        return Err(Error::NoSession);
                    }
                }
            }
            let Some(left) = self.wait.checked_sub(started.elapsed()) else { return Err(Error::NoSession) };
            state = self.wait(state, left);
        }
    }

    /// Takes the anchor out, to log in with it; waits for whoever has it. `None` if there is none. [`Self::anchor`] has to
    /// follow.
    ///
    /// # Errors
    /// [`Error::NoSession`] if it is not given back in time.
    pub(super) fn take_anchor(&self) -> Result<Option<S>, Error> {
        let started = Instant::now();
        let mut state = self.lock();
        loop {
            match std::mem::replace(&mut state.anchor, Anchor::Lent) {
                Anchor::Home(session) => return Ok(Some(session)),
                Anchor::None => return Ok(None),
                Anchor::Lent => {}
            }
            // This wake-up may have been for somebody who waits for another session.
            self.freed.notify_one();
            let Some(left) = self.wait.checked_sub(started.elapsed()) else { return Err(Error::NoSession) };
            state = self.wait(state, left);
        }
    }

    /// Keeps `session` as the anchor; without one, the token has none.
    pub(super) fn anchor(&self, session: Option<S>) {
        self.lock().anchor = session.map_or(Anchor::None, Anchor::Home);
        self.freed.notify_all();
    }

    /// Takes out the sessions that are idle, for they may be lost.
    pub(super) fn purge(&self) -> Vec<S> {
        std::mem::take(&mut self.lock().idle)
    }

    /// Lends nothing from now on; who waits for a session is refused.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.freed.notify_all();
    }

    /// Takes out every session that is here, the anchor last.
    pub(super) fn drain(&self) -> Vec<S> {
        let mut state = self.lock();
        let mut sessions = std::mem::take(&mut state.idle);
        if let Anchor::Home(session) = std::mem::replace(&mut state.anchor, Anchor::None) {
            sessions.push(session);
        }
        sessions
    }

    fn wait<'p>(&'p self, mut state: MutexGuard<'p, State<S>>, left: Duration) -> MutexGuard<'p, State<S>> {
        state.waiting = state.waiting.saturating_add(1);
        state = self.freed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        state.waiting = state.waiting.saturating_sub(1);
        state
    }

    /// The state is whole whenever the lock is free, even after a panic elsewhere.
    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session on loan; it goes back to the pool when dropped.
pub(super) struct Loan<'p, S> {
    pool: &'p Pool<S>,
    /// `None` only while it is being opened.
    session: Option<S>,
    anchor: bool,
    sound: bool,
}

impl<S> Loan<'_, S> {
    /// The session is to be closed instead of given back: an operation may still be active in it.
    ///
    /// The anchor goes back all the same, since closing it would log the token out.
    pub(super) fn discard(&mut self) {
        self.sound = false;
    }

    /// The session is lost: it is handed out for good, to be forgotten without a word to the module, where its handle may name another
    /// one by now.
    pub(super) fn lose(&mut self) -> Option<S> {
        // The anchor goes back: whether it is lost, repair will tell.
        if self.anchor {
            return None;
        }
        self.sound = false;
        self.session.take()
    }

    /// What is lent.
    pub(super) fn get(&mut self) -> Result<&mut S, Error> {
        self.session.as_mut().ok_or(Error::NoSession)
    }
}

impl<S> Drop for Loan<'_, S> {
    fn drop(&mut self) {
        let mut session = self.session.take();
        let is_awaited = if self.anchor {
            let mut state = self.pool.lock();
            state.anchor = session.map_or(Anchor::None, Anchor::Home);
            state.waiting > 0
        } else {
            // After a panic nobody knows what the session is in the middle of.
            if !self.sound || thread::panicking() {
                // Closed before its place is free, or the token would count one session too many.
                drop(session.take());
            }
            let mut state = self.pool.lock();
            state.lent = state.lent.saturating_sub(1);
            if let Some(session) = session {
                state.idle.push(session);
            }
            state.waiting > 0
        };
        if is_awaited {
            self.pool.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Opens sessions that are numbers, and counts those that are open.
    #[derive(Clone, Default)]
    struct Token {
        open: Arc<AtomicUsize>,
        opened: Arc<AtomicUsize>,
        limit: usize,
    }

    struct Open(usize, Arc<AtomicUsize>);

    impl Drop for Open {
        fn drop(&mut self) {
            self.1.fetch_sub(1, Ordering::SeqCst);
        }
    }

    impl Token {
        fn of(limit: usize) -> Self {
            Self { limit, ..Self::default() }
        }

        fn open(&self) -> Result<Open, Error> {
            if self.open.fetch_add(1, Ordering::SeqCst) >= self.limit {
                self.open.fetch_sub(1, Ordering::SeqCst);
                return Err(Error::Call { function: "C_OpenSession", rv: RvError::SessionCount });
            }
            Ok(Open(self.opened.fetch_add(1, Ordering::SeqCst), Arc::clone(&self.open)))
        }

        fn open_now(&self) -> usize {
            self.open.load(Ordering::SeqCst)
        }
    }

    const SHORT: Duration = Duration::from_millis(1);
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn lends_the_session_given_back_last() {
        let (pool, token) = (Pool::new(3, SHORT), Token::of(9));
        let open = || token.open();
        let mut first = pool.lend(open).unwrap();
        let mut second = pool.lend(open).unwrap();
        assert_eq!((first.get().unwrap().0, second.get().unwrap().0), (0, 1));
        drop(second);
        drop(first);
        assert_eq!(pool.lend(open).unwrap().get().unwrap().0, 0);
        assert_eq!(token.open_now(), 2);
    }

    #[test]
    fn refuses_when_all_are_lent_and_none_comes_back_in_time() {
        let (pool, token) = (Pool::new(1, SHORT), Token::of(9));
        let held = pool.lend(|| token.open()).unwrap();
        assert_eq!(pool.lend(|| token.open()).err(), Some(Error::NoSession));
        drop(held);
        assert!(pool.lend(|| token.open()).is_ok());
    }

    #[test]
    fn a_discarded_session_is_closed_and_replaced() {
        let (pool, token) = (Pool::new(1, SHORT), Token::of(9));
        let mut loan = pool.lend(|| token.open()).unwrap();
        loan.discard();
        drop(loan);
        assert_eq!(token.open_now(), 0);
        assert_eq!(pool.lend(|| token.open()).unwrap().get().unwrap().0, 1);
    }

    #[test]
    fn a_panic_costs_the_session_it_held() {
        let (pool, token) = (Arc::new(Pool::new(1, SHORT)), Token::of(9));
        let (theirs, opener) = (Arc::clone(&pool), token.clone());
        let panicked = thread::spawn(move || {
            let _loan = theirs.lend(|| opener.open()).unwrap();
            panic!("as a test");
        });
        assert!(panicked.join().is_err());
        assert_eq!(token.open_now(), 0);
        assert!(pool.lend(|| token.open()).is_ok());
    }

    #[test]
    fn a_failed_or_panicking_opening_gives_its_place_back() {
        let pool: Arc<Pool<Open>> = Arc::new(Pool::new(1, SHORT));
        let down = Error::Call { function: "C_OpenSession", rv: RvError::DeviceRemoved };
        assert_eq!(pool.lend(|| Err(down.clone())).err(), Some(down));
        let theirs = Arc::clone(&pool);
        assert!(thread::spawn(move || theirs.lend(|| panic!("as a test")).is_ok()).join().is_err());
        let token = Token::of(1);
        assert!(pool.lend(|| token.open()).is_ok());
    }

    #[test]
    fn waits_for_a_session_when_the_token_allows_no_more() {
        let (pool, token) = (Arc::new(Pool::new(8, LONG)), Token::of(2));
        let served = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (pool, token, served) = (Arc::clone(&pool), token.clone(), Arc::clone(&served));
                thread::spawn(move || {
                    for _ in 0..50 {
                        let _loan = pool.lend(|| token.open()).unwrap();
                        served.fetch_add(1, Ordering::SeqCst);
                        thread::yield_now();
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(served.load(Ordering::SeqCst), 400);
        assert!(token.open_now() <= 2);
    }

    #[test]
    fn the_anchor_serves_where_the_token_allows_no_other() {
        for (most, limit) in [(0, 9), (4, 1)] {
            let (pool, token) = (Pool::new(most, SHORT), Token::of(limit));
            pool.anchor(token.open().ok());
            let mut loan = pool.lend(|| token.open()).unwrap();
            assert_eq!(loan.get().unwrap().0, 0);
            assert_eq!(pool.lend(|| token.open()).err(), Some(Error::NoSession));
            // Closing it would log out.
            loan.discard();
            drop(loan);
            assert_eq!(pool.lend(|| token.open()).unwrap().get().unwrap().0, 0);
            assert_eq!(token.open_now(), 1);
        }
    }

    #[test]
    fn a_lost_session_is_not_closed_but_replaced() {
        let (pool, token) = (Pool::new(1, SHORT), Token::of(9));
        let mut loan = pool.lend(|| token.open()).unwrap();
        std::mem::forget(loan.lose());
        drop(loan);
        assert_eq!(token.open_now(), 1);
        assert_eq!(pool.lend(|| token.open()).unwrap().get().unwrap().0, 1);
    }

    #[test]
    fn whoever_repairs_the_anchor_waits_for_it_and_others_wait_meanwhile() {
        let (pool, token) = (Arc::new(Pool::new(0, LONG)), Token::of(1));
        assert!(pool.take_anchor().unwrap().is_none());
        pool.anchor(token.open().ok());
        let loan = pool.lend(|| token.open()).unwrap();
        let theirs = Arc::clone(&pool);
        let repair = thread::spawn(move || {
            let anchor = theirs.take_anchor().unwrap();
            theirs.anchor(anchor);
        });
        drop(loan);
        repair.join().unwrap();
        assert!(pool.lend(|| token.open()).is_ok());
    }

    #[test]
    fn without_any_session_to_wait_for_nobody_waits() {
        let (pool, token) = (Pool::new(4, LONG), Token::of(0));
        assert_eq!(pool.lend(|| token.open()).err(), Some(Error::NoSession));
    }

    #[test]
    fn closing_turns_borrowers_away_and_drains_what_is_given_back() {
        let (pool, token) = (Arc::new(Pool::new(1, LONG)), Token::of(9));
        pool.anchor(token.open().ok());
        let held = pool.lend(|| token.open()).unwrap();
        let (theirs, opener) = (Arc::clone(&pool), token.clone());
        let waiting = thread::spawn(move || theirs.lend(|| opener.open()).err());
        pool.close();
        assert_eq!(waiting.join().unwrap(), Some(Error::Closed));
        drop(held);
        let drained = pool.drain();
        assert_eq!(drained.iter().map(|session| session.0).collect::<Vec<_>>(), [1, 0], "the anchor comes last");
        drop(drained);
        assert_eq!(token.open_now(), 0);
    }
}
