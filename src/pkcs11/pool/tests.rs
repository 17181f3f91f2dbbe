//! Tests of the lending of sessions.
#![forbid(unsafe_code)]

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
fn who_waits_is_passed_by_a_few_only_that_come_back_at_once() {
    let (pool, token) = (Arc::new(Pool::new(1, LONG)), Token::of(1));
    let served = Arc::new(AtomicUsize::new(0));
    let mut loan = pool.lend(|| token.open()).unwrap();
    let waiters: Vec<_> = (1..=3)
        .map(|number| {
            let (theirs, opener, served) = (Arc::clone(&pool), token.clone(), Arc::clone(&served));
            let waiter = thread::spawn(move || {
                let _loan = theirs.lend(|| opener.open()).unwrap();
                served.fetch_add(1, Ordering::SeqCst) + 1
            });
            while pool.lock().queue.len() < number {
                thread::yield_now();
            }
            (number, waiter)
        })
        .collect();
    assert_eq!(pool.free(), 0);
    let mut passed = 0;
    while served.load(Ordering::SeqCst) < 3 {
        drop(loan);
        loan = pool.lend(|| token.open()).unwrap();
        passed += 1;
    }
    assert!(passed <= 3 * (MOST_PASSED + 1), "{passed}");
    for (number, waiter) in waiters {
        assert_eq!(waiter.join().unwrap(), number, "in the order in which they came");
    }
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
    assert!(pool.take_anchor().unwrap().0.is_none());
    pool.anchor(token.open().ok());
    let loan = pool.lend(|| token.open()).unwrap();
    let theirs = Arc::clone(&pool);
    let repair = thread::spawn(move || {
        let (anchor, place) = theirs.take_anchor().unwrap();
        place.keep(anchor.unwrap());
    });
    drop(loan);
    repair.join().unwrap();
    assert!(pool.lend(|| token.open()).is_ok());
}

#[test]
fn without_any_session_to_wait_for_nobody_waits() {
    for most in [0, 4] {
        let (pool, token) = (Pool::new(most, LONG), Token::of(0));
        assert_eq!(pool.lend(|| token.open()).err(), Some(LOST));
    }
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
