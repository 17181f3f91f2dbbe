//! A socket whose reads and writes end at a deadline, however slowly the peer sends or takes its bytes.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::sys;

/// How much later than its deadline a call may end, for the sake of not setting the socket's timer anew each time.
const TOLERANCE: Duration = Duration::from_millis(10);

/// A socket with one deadline for reading and one for writing.
///
/// `SO_RCVTIMEO` alone bounds a single read, so that a peer sending a byte a second never trips it.
pub(super) struct Deadlined<'a> {
    socket: &'a TcpStream,
    reading: Deadline,
    writing: Deadline,
}

impl<'a> Deadlined<'a> {
    /// A socket that may be read and written for `allowed` from now on.
    pub fn new(socket: &'a TcpStream, allowed: Duration) -> Self {
        Self { socket, reading: Deadline::new(allowed), writing: Deadline::new(allowed) }
    }

    /// Lets reads go on for `allowed` from now on, all of them together.
    pub fn allow_reading(&mut self, allowed: Duration) {
        self.reading.restart(allowed);
    }

    /// Lets writes go on for `allowed` from now on, all of them together.
    pub fn allow_writing(&mut self, allowed: Duration) {
        self.writing.restart(allowed);
    }

    /// How long it has been allowed to read.
    pub fn waited(&self) -> Duration {
        self.reading.since.elapsed()
    }

    /// Looks again and again for something to read, for as long as `awake` says so of the time waited; none if nothing has come.
    pub fn read_awake(&self, buf: &mut [u8], mut awake: impl FnMut(Duration) -> bool) -> Option<io::Result<usize>> {
        while awake(self.waited()) {
            match sys::receive_now(self.socket, buf) {
                Err(error) if is_early(&error) => thread::yield_now(),
                done => return Some(done),
            }
        }
        None
    }

    /// The socket itself, for what needs no deadline.
    pub fn socket(&self) -> &'a TcpStream {
        self.socket
    }

    /// Waits until there is something to read, or the end, and reads nothing.
    pub fn wait(&mut self) -> io::Result<()> {
        self.read_with(|socket| socket.peek(&mut [0]).map(drop))
    }

    fn read_with<T>(&mut self, mut read: impl FnMut(&TcpStream) -> io::Result<T>) -> io::Result<T> {
        let socket = self.socket;
        loop {
            self.reading.arm(|left| socket.set_read_timeout(left))?;
            match read(socket) {
                Err(error) if is_early(&error) => {}
                done => return done,
            }
        }
    }

    fn write_with(&mut self, mut write: impl FnMut(&TcpStream) -> io::Result<usize>) -> io::Result<usize> {
        let socket = self.socket;
        loop {
            self.writing.arm(|left| socket.set_write_timeout(left))?;
            match write(socket) {
                Err(error) if is_early(&error) => {}
                done => return done,
            }
        }
    }
}

impl Read for Deadlined<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_with(|mut socket| socket.read(buf))
    }
}

impl Write for Deadlined<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_with(|mut socket| socket.write(buf))
    }

    // A TLS record is kept in pieces: without this each piece would be a system call, and a packet, of its own.
    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_with(|mut socket| socket.write_vectored(bufs))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The kernel's timer was set for less than is left, or a signal came: neither is the deadline.
fn is_early(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// A span of time, and what the socket's timer was last set to.
struct Deadline {
    since: Instant,
    allowed: Duration,
    armed: Option<Duration>,
}

impl Deadline {
    fn new(allowed: Duration) -> Self {
        Self { since: Instant::now(), allowed, armed: None }
    }

    fn restart(&mut self, allowed: Duration) {
        self.since = Instant::now();
        self.allowed = allowed;
    }

    /// Sets the socket's timer by `set`, unless what it is set to already serves.
    fn arm(&mut self, set: impl FnOnce(Option<Duration>) -> io::Result<()>) -> io::Result<()> {
        let left = self.allowed.saturating_sub(self.since.elapsed());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        // A timer that ends early costs one turn of the caller's loop: so one that is at least half of what is left does.
        // The ordinary connection, which waits for each request as long as for the last, thus never sets it again.
        let serves = |armed: Duration| armed <= left.saturating_add(TOLERANCE) && armed >= left / 2;
        if !self.armed.is_some_and(serves) {
            set(Some(left))?;
            self.armed = Some(left);
        }
        Ok(())
    }
}

/// How long to listen to a connection that has not authenticated: all its handshake, requests and silence together.
pub(super) struct Patience {
    since: Instant,
    allowed: Duration,
    /// How much may still be added to that.
    credit: Duration,
}

impl Patience {
    pub fn new(allowed: Duration) -> Self {
        Self { since: Instant::now(), allowed, credit: allowed }
    }

    /// An answer has taken so long. The peer is not to blame for a token that takes its time, but who is refused again and again does not
    /// stay for it.
    pub fn credit(&mut self, took: Duration) {
        let credit = took.min(self.credit);
        self.credit = self.credit.saturating_sub(credit);
        self.allowed = self.allowed.saturating_add(credit);
    }

    pub fn left(&self) -> Duration {
        self.allowed.saturating_sub(self.since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::net::TcpListener;

    #[test]
    fn what_answers_take_is_added_to_the_patience_once_over() {
        let minute = Duration::from_secs(60);
        let mut patience = Patience::new(minute);
        for _ in 0..100 {
            patience.credit(Duration::from_secs(1));
        }
        assert!(patience.left() > minute && patience.left() <= 2 * minute);
    }

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    #[test]
    fn a_trickling_peer_does_not_stretch_the_deadline() {
        let (mut peer, socket) = pair();
        let trickle = std::thread::spawn(move || while peer.write_all(b"x").is_ok() {});
        let mut stream = Deadlined::new(&socket, Duration::from_millis(50));
        let mut byte = [0];
        let error = loop {
            if let Err(error) = stream.read(&mut byte) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        drop(socket);
        trickle.join().unwrap();
    }

    #[test]
    fn a_peer_that_does_not_read_does_not_stretch_the_deadline() {
        let (_peer, socket) = pair();
        let mut stream = Deadlined::new(&socket, Duration::from_millis(50));
        let error = loop {
            if let Err(error) = stream.write(&[0; 65536]) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn looks_awake_for_as_long_as_it_is_told_to() {
        let (mut peer, socket) = pair();
        let stream = Deadlined::new(&socket, Duration::from_secs(60));
        let (mut byte, mut looks) = ([0], 0);
        let nothing = stream.read_awake(&mut byte, |_| {
            looks += 1;
            looks <= 3
        });
        assert!(nothing.is_none() && looks == 4);
        peer.write_all(b"x").unwrap();
        assert_eq!(stream.read_awake(&mut byte, |_| true).unwrap().unwrap(), 1);
        drop(peer);
        assert_eq!(stream.read_awake(&mut byte, |_| true).unwrap().unwrap(), 0);
    }

    #[test]
    fn sets_the_timer_once_for_waits_of_one_length() {
        let mut deadline = Deadline::new(Duration::from_secs(600));
        let mut set = Vec::new();
        for allowed in [600, 600, 600, 30, 30, 600] {
            deadline.restart(Duration::from_secs(allowed));
            let mut arm = |left: Option<Duration>| {
                set.push(left.unwrap().as_secs_f64().round());
                Ok(())
            };
            deadline.arm(&mut arm).unwrap();
            deadline.arm(&mut arm).unwrap();
        }
        assert_eq!(set, [600.0, 30.0, 600.0]);
    }
}
