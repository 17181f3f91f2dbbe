//! The connections that are open: how many there may be, and how they end when the server stops.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use log::warn;

/// Wait for threads that were cut off in a read or write to notice.
const CUT_OFF_GRACE: Duration = Duration::from_secs(1);

/// A bounded number of places, one for each open connection.
pub(super) struct Places {
    limit: usize,
    stopping: AtomicBool,
    taken: Mutex<Taken>,
    freed: Condvar,
}

#[derive(Default)]
struct Taken {
    open: HashMap<u64, Arc<Open>>,
    last: u64,
    /// Connections refused since the limit was hit; `None` while below it.
    refused: Option<u64>,
}

/// An open connection's socket, which its thread reads and writes, and whoever stops the server shuts down.
pub(super) struct Open {
    pub socket: TcpStream,
    in_hand: AtomicBool,
}

impl Open {
    /// Says whether a request is in hand: from its first byte until its answer is written.
    pub fn set_in_hand(&self, in_hand: bool) {
        self.in_hand.store(in_hand, Ordering::SeqCst);
    }
}

/// One connection's place, given back when dropped.
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.free(self.number);
    }
}

impl Places {
    pub fn new(limit: usize) -> Self {
        Self { limit, stopping: AtomicBool::new(false), taken: Mutex::default(), freed: Condvar::new() }
    }

    /// How many connections are open.
    pub fn len(&self) -> usize {
        self.lock().open.len()
    }

    /// Whether the server stops: no new connection, and none that waits for a request it has not begun.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Takes a place for `socket`; without one it is closed.
    ///
    /// Closed rather than left in the backlog: the clients' libraries wait for a TLS handshake without a limit, but go on to
    /// an error, another try or another server when the connection ends.
    pub fn take(self: &Arc<Self>, socket: TcpStream) -> Option<(Arc<Open>, Place)> {
        let mut taken = self.lock();
        if self.is_stopping() {
            return None;
        }
        if taken.open.len() >= self.limit {
            let first = taken.refused.is_none();
            taken.refused = Some(taken.refused.unwrap_or(0).saturating_add(1));
            drop(taken);
            if first {
                warn!("all {} connections are taken: new ones are closed until others end", self.limit);
            }
            return None;
        }
        taken.last = taken.last.wrapping_add(1);
        let number = taken.last;
        let open = Arc::new(Open { socket, in_hand: AtomicBool::new(false) });
        taken.open.insert(number, Arc::clone(&open));
        drop(taken);
        Some((open, Place { places: Arc::clone(self), number }))
    }

    fn free(&self, number: u64) {
        let mut taken = self.lock();
        // The connection's thread has let go of it: the socket closes here, before the place counts as free.
        drop(taken.open.remove(&number));
        // Well below the limit, so that connections coming and going at the limit do not write two lines each.
        let below = taken.open.len() <= self.limit.saturating_sub((self.limit / 8).max(1));
        let refused = if below { taken.refused.take() } else { None };
        drop(taken);
        self.freed.notify_all();
        if let Some(refused) = refused {
            warn!("there is room for connections again; {refused} were closed unserved");
        }
    }

    /// Takes no more connections, and ends those that wait for a request.
    pub fn stop(&self) {
        // Each connection says "nothing in hand" before it looks at `stopping`, and this is the other way round: so either it
        // sees the flag, or its socket is shut down here.
        self.stopping.store(true, Ordering::SeqCst);
        for open in self.lock().open.values() {
            if !open.in_hand.load(Ordering::SeqCst) {
                let _ = open.socket.shutdown(Shutdown::Read);
            }
        }
    }

    /// Waits until all connections have ended, for `allowed` at most; then cuts off those that have not, and tells how many.
    pub fn drain(&self, allowed: Duration) -> usize {
        let taken = self.wait_until_empty(self.lock(), allowed);
        let left = taken.open.len();
        for open in taken.open.values() {
            let _ = open.socket.shutdown(Shutdown::Both);
        }
        if left > 0 {
            drop(self.wait_until_empty(taken, CUT_OFF_GRACE));
        }
        left
    }

    fn wait_until_empty<'a>(&self, taken: MutexGuard<'a, Taken>, allowed: Duration) -> MutexGuard<'a, Taken> {
        let waited = self.freed.wait_timeout_while(taken, allowed, |taken| !taken.open.is_empty());
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::net::TcpListener;

    fn socket() -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).unwrap()
    }

    #[test]
    fn refuses_over_the_limit_and_takes_again_below_it() {
        let places = Arc::new(Places::new(2));
        let first = places.take(socket()).unwrap();
        let _second = places.take(socket()).unwrap();
        assert!(places.take(socket()).is_none());
        assert!(places.take(socket()).is_none());
        assert_eq!(places.lock().refused, Some(2));
        drop(first);
        assert_eq!(places.lock().refused, None);
        assert!(places.take(socket()).is_some());
    }

    #[test]
    fn one_place_that_frees_at_a_large_limit_is_not_yet_room_again() {
        let places = Arc::new(Places::new(16));
        let mut taken: Vec<_> = (0..16).map(|_| places.take(socket()).unwrap()).collect();
        assert!(places.take(socket()).is_none());
        taken.pop();
        assert_eq!(places.lock().refused, Some(1));
        taken.pop();
        assert_eq!(places.lock().refused, None);
    }

    #[test]
    fn cuts_off_and_counts_what_does_not_end() {
        let places = Arc::new(Places::new(2));
        let (open, place) = places.take(socket()).unwrap();
        open.set_in_hand(true);
        places.stop();
        assert!(places.take(socket()).is_none());
        assert_eq!(places.drain(Duration::ZERO), 1);
        drop(place);
        assert_eq!(places.drain(Duration::ZERO), 0);
    }
}
