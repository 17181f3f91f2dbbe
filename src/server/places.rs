//! The connections that are open: how many there may be, of whom, which give way, and how they end when the server stops.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use log::warn;

use crate::bridge::access::origin;

/// Wait for threads that were cut off in a read or write to notice.
const CUT_OFF_GRACE: Duration = Duration::from_secs(1);

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub all: usize,
    /// From one origin.
    pub of_one: usize,
    /// That have not shown that they may use a token.
    pub unauthenticated: usize,
}

/// A bounded number of places, one for each open connection.
pub(super) struct Places {
    limits: Limits,
    stopping: AtomicBool,
    taken: Mutex<Taken>,
    freed: Condvar,
}

#[derive(Default)]
struct Taken {
    open: HashMap<u64, (Arc<Open>, Standing)>,
    /// Those that have connections open.
    origins: HashMap<IpAddr, Held>,
    unauthenticated: usize,
    last: u64,
    /// Connections refused since the limit of all was hit; `None` while below it.
    refused: Option<u64>,
    /// Connections that gave way since the limit of unauthenticated ones was hit; `None` while below it.
    gave_way: Option<u64>,
}

/// What one origin holds.
#[derive(Default)]
struct Held {
    open: usize,
    unauthenticated: usize,
    /// Connections refused since the limit was hit.
    refused: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Unauthenticated,
    Authenticated,
    /// It was shut down for the sake of a new one and is about to end.
    GivingWay,
}

/// An open connection's socket, which its thread reads and writes, and whoever stops the server shuts down.
pub(super) struct Open {
    pub socket: TcpStream,
    origin: IpAddr,
    in_hand: AtomicBool,
    being_answered: AtomicBool,
    gave_way: AtomicBool,
}

impl Open {
    /// Says whether a request is in hand: from its first byte until its answer is written.
    pub fn set_in_hand(&self, in_hand: bool) {
        self.in_hand.store(in_hand, Ordering::SeqCst);
    }

    /// Says whether the service is at work for the connection.
    pub fn set_being_answered(&self, being_answered: bool) {
        self.being_answered.store(being_answered, Ordering::SeqCst);
    }

    /// Whether the connection was ended for the sake of a new one.
    pub fn gave_way(&self) -> bool {
        self.gave_way.load(Ordering::SeqCst)
    }
}

/// One connection's place, given back when dropped.
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
}

impl Place {
    /// Which connection it is: from 1, and never the same again.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Notes that the connection has shown that it may use a token: it no longer gives way to others.
    pub fn authenticate(&self) {
        self.places.authenticate(self.number);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.free(self.number);
    }
}

impl Places {
    pub fn new(limits: Limits) -> Self {
        Self { limits, stopping: AtomicBool::new(false), taken: Mutex::default(), freed: Condvar::new() }
    }

    /// How many connections are open.
    pub fn len(&self) -> usize {
        self.lock().open.len()
    }

    /// Whether the server stops: no new connection, and none that waits for a request it has not begun.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Takes a place for `socket`, which comes from `address`; without one it is closed.
    ///
    /// Closed rather than left in the backlog: the clients' libraries wait for a TLS handshake without a limit, but go on to
    /// an error, another try or another server when the connection ends.
    pub fn take(self: &Arc<Self>, socket: TcpStream, address: IpAddr) -> Option<(Arc<Open>, Place)> {
        let origin = origin(address);
        let mut taken = self.lock();
        if self.is_stopping() || !self.has_room(&mut taken, origin, address) {
            return None;
        }
        if taken.unauthenticated >= self.limits.unauthenticated && !self.make_way(&mut taken, origin) {
            return None;
        }
        taken.last = taken.last.wrapping_add(1);
        let number = taken.last;
        let flag = || AtomicBool::new(false);
        let open = Arc::new(Open { socket, origin, in_hand: flag(), being_answered: flag(), gave_way: flag() });
        taken.open.insert(number, (Arc::clone(&open), Standing::Unauthenticated));
        taken.unauthenticated = taken.unauthenticated.saturating_add(1);
        let held = taken.origins.entry(origin).or_default();
        held.open = held.open.saturating_add(1);
        held.unauthenticated = held.unauthenticated.saturating_add(1);
        drop(taken);
        Some((open, Place { places: Arc::clone(self), number }))
    }

    /// Whether neither the limit of all connections nor that of one origin is reached; tells of the first refusal of many.
    fn has_room(&self, taken: &mut Taken, origin: IpAddr, address: IpAddr) -> bool {
        if taken.open.len() >= self.limits.all {
            let refused = taken.refused.get_or_insert(0);
            *refused = refused.saturating_add(1);
            if *refused == 1 {
                warn!("all {} connections are taken: new ones are closed until others end", self.limits.all);
            }
            return false;
        }
        match taken.origins.get_mut(&origin) {
            Some(held) if held.open >= self.limits.of_one => {
                held.refused = held.refused.saturating_add(1);
                if held.refused == 1 {
                    let limit = self.limits.of_one;
                    warn!("{address}: has {limit} connections, its new ones are closed until others of it end");
                }
                false
            }
            _ => true,
        }
    }

    /// Ends a connection that has not authenticated, so that one more that has not may be taken. Returns whether there was one.
    ///
    /// Were the new one refused instead, whoever connects first and says nothing would keep everyone else out; were a random
    /// one dropped, as sshd does, a client at work would go as easily as an idle one. So it is the one that had the longest
    /// time to show who it is, and of the origin that has the most of them: a crowd from one address displaces itself.
    /// One whose request is being answered stays, as the service may be proving its PIN this moment; but not so if that would
    /// let one origin keep the others out by sending wrong ones.
    fn make_way(&self, taken: &mut Taken, newcomer: IpAddr) -> bool {
        let victim = taken
            .open
            .iter()
            .filter(|(_, (_, standing))| *standing == Standing::Unauthenticated)
            .map(|(number, (open, _))| (number, open, !open.being_answered.load(Ordering::SeqCst)))
            .filter(|(_, open, waits)| *waits || open.origin != newcomer)
            .max_by_key(|(number, open, waits)| {
                let crowd = taken.origins.get(&open.origin).map_or(0, |held| held.unauthenticated);
                (crowd, *waits, Reverse(**number))
            });
        let Some((&number, open, _)) = victim else {
            return false;
        };
        open.gave_way.store(true, Ordering::SeqCst);
        let _ = open.socket.shutdown(Shutdown::Both);
        taken.leave_unauthenticated(number, Standing::GivingWay);
        let gave_way = taken.gave_way.get_or_insert(0);
        *gave_way = gave_way.saturating_add(1);
        if *gave_way == 1 {
            warn!(
                "{} connections have not authenticated: the oldest of them are closed for new ones",
                self.limits.unauthenticated
            );
        }
        true
    }

    fn authenticate(&self, number: u64) {
        let mut taken = self.lock();
        taken.leave_unauthenticated(number, Standing::Authenticated);
        self.tell_of_quiet(&mut taken);
    }

    fn free(&self, number: u64) {
        let mut taken = self.lock();
        taken.leave_unauthenticated(number, Standing::GivingWay);
        // The connection's thread has let go of it: the socket closes here, before the place counts as free.
        if let Some((open, _)) = taken.open.remove(&number) {
            taken.leave_origin(open.origin);
        }
        if is_well_below(taken.open.len(), self.limits.all) {
            if let Some(refused) = taken.refused.take() {
                warn!("there is room for connections again; {refused} were closed unserved");
            }
        }
        self.tell_of_quiet(&mut taken);
        drop(taken);
        self.freed.notify_all();
    }

    fn tell_of_quiet(&self, taken: &mut Taken) {
        if is_well_below(taken.unauthenticated, self.limits.unauthenticated) {
            if let Some(gave_way) = taken.gave_way.take() {
                warn!("fewer connections wait unauthenticated again; {gave_way} were closed for new ones");
            }
        }
    }

    /// Takes no more connections, and ends those that wait for a request.
    pub fn stop(&self) {
        // Each connection says "nothing in hand" before it looks at `stopping`, and this is the other way round: so either it
        // sees the flag, or its socket is shut down here.
        self.stopping.store(true, Ordering::SeqCst);
        for (open, _) in self.lock().open.values() {
            if !open.in_hand.load(Ordering::SeqCst) {
                let _ = open.socket.shutdown(Shutdown::Read);
            }
        }
    }

    /// Waits until all connections have ended, for `allowed` at most; then cuts off those that have not, and tells how many.
    pub fn drain(&self, allowed: Duration) -> usize {
        let taken = self.wait_until_empty(self.lock(), allowed);
        let left = taken.open.len();
        for (open, _) in taken.open.values() {
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

impl Taken {
    /// Changes the standing of an unauthenticated connection; another's stays as it is.
    fn leave_unauthenticated(&mut self, number: u64, to: Standing) {
        let Some((open, standing @ Standing::Unauthenticated)) = self.open.get_mut(&number) else {
            return;
        };
        *standing = to;
        self.unauthenticated = self.unauthenticated.saturating_sub(1);
        if let Some(held) = self.origins.get_mut(&open.origin) {
            held.unauthenticated = held.unauthenticated.saturating_sub(1);
        }
    }

    fn leave_origin(&mut self, origin: IpAddr) {
        if let Some(held) = self.origins.get_mut(&origin) {
            held.open = held.open.saturating_sub(1);
            if held.open == 0 {
                self.origins.remove(&origin);
            }
        }
    }
}

/// Whether enough has ended for the end of a scarcity to be told: connections that come and go at the limit are not to write
/// two lines each.
fn is_well_below(count: usize, limit: usize) -> bool {
    count <= limit.saturating_sub((limit / 8).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::net::TcpListener;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn socket() -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).unwrap()
    }

    fn places(all: usize, of_one: usize, unauthenticated: usize) -> Arc<Places> {
        Arc::new(Places::new(Limits { all, of_one, unauthenticated }))
    }

    fn from(places: &Arc<Places>, address: &str) -> Option<(Arc<Open>, Place)> {
        places.take(socket(), address.parse().unwrap())
    }

    #[test]
    fn refuses_over_the_limit_and_takes_again_below_it() {
        let places = places(2, 9, 9);
        let first = places.take(socket(), HOME).unwrap();
        let _second = places.take(socket(), HOME).unwrap();
        assert!(places.take(socket(), HOME).is_none());
        assert!(places.take(socket(), HOME).is_none());
        assert_eq!(places.lock().refused, Some(2));
        drop(first);
        assert_eq!(places.lock().refused, None);
        assert!(places.take(socket(), HOME).is_some());
    }

    #[test]
    fn one_place_that_frees_at_a_large_limit_is_not_yet_room_again() {
        let places = places(16, 99, 99);
        let mut taken: Vec<_> = (0..16).map(|_| places.take(socket(), HOME).unwrap()).collect();
        assert!(places.take(socket(), HOME).is_none());
        taken.pop();
        assert_eq!(places.lock().refused, Some(1));
        taken.pop();
        assert_eq!(places.lock().refused, None);
    }

    #[test]
    fn one_origin_does_not_take_the_places_of_others() {
        let places = places(9, 2, 9);
        let mut ours: Vec<_> = (0..2).map(|_| from(&places, "2001:db8::1").unwrap()).collect();
        assert!(from(&places, "2001:db8::ffff").is_none());
        let other = from(&places, "2001:db8:0:1::1").unwrap();
        let (_third, _fourth) = (from(&places, "192.0.2.1").unwrap(), from(&places, "::ffff:192.0.2.1").unwrap());
        assert!(from(&places, "192.0.2.1").is_none());
        ours.pop();
        assert!(from(&places, "2001:db8::ffff").is_some());
        drop((ours, other));
        assert_eq!(places.lock().origins.len(), 1);
    }

    #[test]
    fn the_oldest_unauthenticated_of_the_largest_crowd_gives_way() {
        let places = places(99, 99, 3);
        let single = from(&places, "192.0.2.9").unwrap();
        let proven = from(&places, "192.0.2.1").unwrap();
        proven.1.authenticate();
        let (older, newer) = (from(&places, "192.0.2.1").unwrap(), from(&places, "192.0.2.1").unwrap());
        let last = from(&places, "192.0.2.2").unwrap();
        assert!(older.0.gave_way());
        for kept in [&single, &proven, &newer, &last] {
            assert!(!kept.0.gave_way());
        }
        assert_eq!(places.lock().unauthenticated, 3);
        // One that gave way is not authenticated any more, whatever it still has to say.
        older.1.authenticate();
        drop(older);
        assert_eq!(places.len(), 4);
        assert_eq!(places.lock().unauthenticated, 3);
        // Of crowds of one, the oldest.
        let _another = from(&places, "192.0.2.3").unwrap();
        assert!(single.0.gave_way());
        drop((single, newer, last));
        assert_eq!(places.lock().gave_way, None);
    }

    #[test]
    fn one_that_is_being_answered_gives_way_to_other_origins_only() {
        let places = places(99, 99, 2);
        let busy: Vec<_> = (0..2).map(|_| from(&places, "192.0.2.1").unwrap()).collect();
        busy.iter().for_each(|(open, _)| open.set_being_answered(true));
        assert!(from(&places, "192.0.2.1").is_none());
        let waiting = from(&places, "192.0.2.2").unwrap();
        assert!(busy[0].0.gave_way());
        // Of crowds of one, the one that waits.
        let last = from(&places, "192.0.2.2").unwrap();
        assert!(waiting.0.gave_way() && !busy[1].0.gave_way());
        last.0.set_being_answered(true);
        let _next = from(&places, "192.0.2.3").unwrap();
        assert!(busy[1].0.gave_way() && !last.0.gave_way());
    }

    #[test]
    fn cuts_off_and_counts_what_does_not_end() {
        let places = places(2, 9, 9);
        let (open, place) = places.take(socket(), HOME).unwrap();
        open.set_in_hand(true);
        places.stop();
        assert!(places.take(socket(), HOME).is_none());
        assert_eq!(places.drain(Duration::ZERO), 1);
        drop(place);
        assert_eq!(places.drain(Duration::ZERO), 0);
    }
}
