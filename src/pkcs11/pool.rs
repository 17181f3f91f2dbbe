//! The sessions with one token: opened when needed, lent one request at a time, given back or thrown away.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cryptoki::error::RvError;

use super::error::Error;

/// After the token refused one more session, how long until another is asked for: what took the places may be another
/// program's.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// How often a session that is given back goes to somebody who comes just then, past those who wait. To wake a waiter takes longer than
/// a short call, and the token would idle meanwhile; but the threads of a batch come back at once, each time, and who waits for one of
/// their sessions would never get any.
const MOST_PASSED: u32 = 8;

/// Lends sessions `S`.
///
/// One session, the anchor, is kept apart: when the last session with a token closes, the token logs out. It is lent only
/// where the token allows no other.
pub(super) struct Pool<S> {
    state: Mutex<State<S>>,
    /// Whoever repairs waits for the anchor here.
    anchored: Condvar,
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
    /// Threads that wait for a session, in the order in which they came, each with what wakes it.
    queue: VecDeque<Arc<Condvar>>,
    /// How many have come past the first of them.
    passed: u32,
}

impl<S> State<S> {
    /// Whether a session is here, or may be opened; or none will ever be.
    fn has_one(&mut self, most: u32) -> bool {
        if self.refused.is_some_and(|at| at.elapsed() >= ASK_AGAIN) {
            self.refused = None;
            self.limit = most;
        }
        !self.idle.is_empty() || self.lent < self.limit || (self.limit == 0 && !matches!(self.anchor, Anchor::Lent))
    }

    /// Wakes the first of those who wait. Whoever leaves the queue wakes the next, which may find nothing.
    fn wake_first(&self) {
        if let Some(first) = self.queue.front() {
            first.notify_one();
        }
    }
}

/// Only a repair opens another anchor.
const LOST: Error = Error::Call { function: "C_OpenSession", rv: RvError::SessionHandleInvalid };

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
            queue: VecDeque::new(),
            passed: 0,
        };
        Self { state: Mutex::new(state), anchored: Condvar::new(), most, wait }
    }

    /// The most that are lent at one time beside the anchor.
    pub(super) fn places(&self) -> u32 {
        self.most
    }

    /// How many could be lent now, as far as is known: none while others wait.
    pub(super) fn free(&self) -> u32 {
        let state = self.lock();
        if state.queue.is_empty() { state.limit.saturating_sub(state.lent) } else { 0 }
    }

    /// Lends a session, opened with `open` if none is idle and another is allowed. CKR_SESSION_COUNT from `open` means
    /// that as many are open as the token allows now.
    ///
    /// # Errors
    /// [`Error::NoSession`] if none is given back in time, [`Error::Closed`] once the pool is, and what `open` says; what a module says
    /// of a lost session where the anchor would serve, but there is none.
    pub(super) fn lend(&self, open: impl Fn() -> Result<S, Error>) -> Result<Loan<'_, S>, Error> {
        let started = Instant::now();
        loop {
            let mut state = self.turn(started)?;
            if let Some(session) = state.idle.pop() {
                state.lent = state.lent.saturating_add(1);
                return Ok(Loan { pool: self, session: Some(session), anchor: false, sound: true });
            }
            if state.lent >= state.limit {
                let anchor = std::mem::replace(&mut state.anchor, Anchor::Lent);
                if let Anchor::Home(session) = anchor {
                    return Ok(Loan { pool: self, session: Some(session), anchor: true, sound: true });
                }
                let is_lost = state.limit == 0 && matches!(anchor, Anchor::None);
                state.anchor = anchor;
                return Err(if is_lost { LOST } else { Error::NoSession });
            }
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
                    let mut state = self.lock();
                    state.limit = state.lent;
                    state.refused = Some(Instant::now());
                    log::debug!("{error}: going on with {} sessions", state.limit.max(1));
                    // Where that is none, the anchor serves.
                    state.wake_first();
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until this thread may have a session: in the order in which they came, but for a few that come just when one is there.
    fn turn(&self, started: Instant) -> Result<MutexGuard<'_, State<S>>, Error> {
        let mut state = self.lock();
        if state.closed {
            return Err(Error::Closed);
        }
        if (state.queue.is_empty() || state.passed < MOST_PASSED) && state.has_one(self.most) {
            state.passed = if state.queue.is_empty() { 0 } else { state.passed.saturating_add(1) };
            return Ok(state);
        }
        let mine = Arc::new(Condvar::new());
        let is_mine = |other: &Arc<Condvar>| Arc::ptr_eq(other, &mine);
        state.queue.push_back(Arc::clone(&mine));
        let outcome = loop {
            if state.closed {
                break Err(Error::Closed);
            }
            if state.queue.front().is_some_and(is_mine) && state.has_one(self.most) {
                state.passed = 0;
                break Ok(());
            }
            let Some(left) = self.wait.checked_sub(started.elapsed()) else { break Err(Error::NoSession) };
            state = mine.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        };
        state.queue.retain(|other| !is_mine(other));
        state.wake_first();
        outcome.map(|()| state)
    }

    /// Takes the anchor out, to log in with it; waits for whoever has it. `None` if there is none. Its place tells what is to be the
    /// anchor from then on.
    ///
    /// # Errors
    /// [`Error::NoSession`] if it is not given back in time.
    pub(super) fn take_anchor(&self) -> Result<(Option<S>, Place<'_, S>), Error> {
        let started = Instant::now();
        let mut state = self.lock();
        loop {
            match std::mem::replace(&mut state.anchor, Anchor::Lent) {
                Anchor::Home(session) => return Ok((Some(session), Place(Some(self)))),
                Anchor::None => return Ok((None, Place(Some(self)))),
                Anchor::Lent => {}
            }
            let Some(left) = self.wait.checked_sub(started.elapsed()) else { return Err(Error::NoSession) };
            state = self.anchored.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Keeps `session` as the anchor; without one, the token has none.
    fn anchor(&self, session: Option<S>) {
        let mut state = self.lock();
        state.anchor = session.map_or(Anchor::None, Anchor::Home);
        state.wake_first();
        self.anchored.notify_all();
    }

    /// Takes out the sessions that are idle, for they may be lost.
    pub(super) fn purge(&self) -> Vec<S> {
        std::mem::take(&mut self.lock().idle)
    }

    /// Lends nothing from now on; who waits for a session is refused.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.queue.iter().for_each(|waiter| waiter.notify_one());
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

    /// The state is whole whenever the lock is free, even after a panic elsewhere.
    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of an anchor that is taken out. Dropped, it leaves the token without one, whatever became of who took it: others would wait
/// for it in vain.
pub(super) struct Place<'p, S>(Option<&'p Pool<S>>);

impl<S> Place<'_, S> {
    /// Keeps `session` as the anchor.
    pub(super) fn keep(mut self, session: S) {
        if let Some(pool) = self.0.take() {
            pool.anchor(Some(session));
        }
    }
}

impl<S> Drop for Place<'_, S> {
    fn drop(&mut self) {
        if let Some(pool) = self.0 {
            pool.anchor(None);
        }
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

    /// Whether it is the session that keeps the login, as the token allows no other.
    pub(super) fn is_anchor(&self) -> bool {
        self.anchor
    }

    /// What is lent.
    pub(super) fn get(&mut self) -> Result<&mut S, Error> {
        self.session.as_mut().ok_or(Error::NoSession)
    }
}

impl<S> Drop for Loan<'_, S> {
    fn drop(&mut self) {
        let mut session = self.session.take();
        if self.anchor {
            let mut state = self.pool.lock();
            state.anchor = session.map_or(Anchor::None, Anchor::Home);
            state.wake_first();
            self.pool.anchored.notify_all();
            return;
        }
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
        state.wake_first();
    }
}

#[cfg(test)]
mod tests;
