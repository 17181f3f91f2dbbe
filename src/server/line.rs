//! The TLS of a connection: what its thread speaks, or another in its place while a call to the module does not return.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use log::{debug, error, warn};
use rustls::ServerConnection;
use zeroize::Zeroizing;

use super::Shared;
use super::deadline::Deadlined;
use super::inbox::Inbox;
use super::places::Open;
use crate::bridge::{self, Overdue, Peer, Rescue};

/// How long a connection that closes waits for a peer that does nothing.
pub(super) const CLOSING_PAUSE: Duration = Duration::from_secs(1);

/// How much a peer may go on sending after its connection was refused, in bytes, where nothing large is to be expected, or no one
/// that speaks TLS.
pub(super) const DISCARDED_UNKNOWN: u64 = 64 * 1024;

/// Stack of a thread that speaks for another: it calls no module.
const STACK_SIZE: usize = 256 * 1024;

/// What it takes to answer. The connection's thread holds it, but for the time in which the service is at work.
pub(super) struct Line {
    pub tls: ServerConnection,
    /// The request that the service is at work for. Whoever takes it out answers it.
    pub in_hand: Option<InHand>,
}

/// A request: the first bytes of what was received.
#[derive(Clone)]
pub(super) struct InHand {
    inbox: Arc<Inbox>,
    len: usize,
}

impl InHand {
    pub fn new(inbox: &Arc<Inbox>, len: usize) -> Self {
        Self { inbox: Arc::clone(inbox), len }
    }

    pub fn bytes(&self) -> &[u8] {
        self.inbox.bytes().get(..self.len).unwrap_or_default()
    }
}

impl Line {
    pub fn new(tls: ServerConnection) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { tls, in_hand: None }))
    }
}

/// Uncontended, unless another speaks for the connection: then it is waited for. What a panic left behind is sent to nobody.
pub(super) fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has the client of this thread answered when a call to the module does not return in time, for as long as the guard is kept.
/// The thread cannot be called back from there, but its client need not wait with it.
pub(super) fn answer_when_overdue(
    line: &Arc<Mutex<Line>>,
    open: &Arc<Open>,
    peer: &Arc<Peer>,
    shared: &Arc<Shared>,
) -> Rescue {
    let stand_in =
        StandIn { line: Arc::clone(line), open: Arc::clone(open), peer: Arc::clone(peer), shared: Arc::clone(shared) };
    bridge::on_overdue(move |overdue| stand_in.clone().begin(overdue))
}

/// Who answers in the place of a thread.
#[derive(Clone)]
struct StandIn {
    line: Arc<Mutex<Line>>,
    open: Arc<Open>,
    peer: Arc<Peer>,
    shared: Arc<Shared>,
}

impl StandIn {
    /// In a thread of its own: who watches the module waits for no client.
    fn begin(self, overdue: Overdue) {
        let (open, address) = (Arc::clone(&self.open), self.peer.address);
        let thread = thread::Builder::new().name(format!("for {address}")).stack_size(STACK_SIZE);
        let spawned = thread.spawn(move || {
            if catch_unwind(AssertUnwindSafe(|| self.answer(&overdue))).is_err() {
                error!("{}: closed by a bug in this program (a panic)", self.peer.address);
                let _ = self.open.socket.shutdown(Shutdown::Both);
            }
        });
        if let Err(error) = spawned {
            warn!("{address}: closed without an answer, as there is no thread to write it: {error}");
            let _ = open.socket.shutdown(Shutdown::Both);
        }
    }

    fn answer(&self, overdue: &Overdue) {
        // Held by its own thread, or back in its hands while nobody looked: the call has returned.
        let Ok(mut line) = self.line.try_lock() else { return };
        if !overdue.lasts() {
            return;
        }
        let Some(request) = line.in_hand.take() else { return };
        debug!("{}: a call to the PKCS#11 module does not return: answered without it", self.peer.address);
        let mut response = Zeroizing::default();
        self.shared.service.give_up(&self.peer, request.bytes(), &mut response);
        drop(request);
        let mut stream = Deadlined::new(&self.open.socket, self.shared.settings.write_timeout);
        if send(&mut line.tls, &mut stream, &response).is_ok() {
            hang_up(&mut line.tls, &mut stream, DISCARDED_UNKNOWN, CLOSING_PAUSE, !self.shared.places.is_stopping());
        }
        let _ = self.open.socket.shutdown(Shutdown::Both);
    }
}

/// Writes `rest`. In the ordinary case, all of it is encrypted first and goes out with one system call.
pub(super) fn send(tls: &mut ServerConnection, stream: &mut Deadlined<'_>, mut rest: &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        // TLS buffers a bounded part of a large response at a time.
        let taken = tls.writer().write(rest)?;
        if taken == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
        rest = rest.get(taken..).unwrap_or_default();
        flush(tls, stream)?;
    }
    Ok(())
}

/// Writes what TLS has to say.
pub(super) fn flush(tls: &mut ServerConnection, stream: &mut Deadlined<'_>) -> io::Result<()> {
    while tls.wants_write() {
        if tls.write_tls(stream)? == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}

/// Closes so that the peer reads what was sent to it last; what it still sends is read for so long, and so many bytes, if it
/// is to be waited for at all.
pub(super) fn hang_up(
    tls: &mut ServerConnection,
    stream: &mut Deadlined<'_>,
    bytes: u64,
    allowed: Duration,
    waits: bool,
) {
    tls.send_close_notify();
    stream.allow_writing(CLOSING_PAUSE);
    let _ = flush(tls, stream);
    if stream.socket().shutdown(if waits { Shutdown::Write } else { Shutdown::Both }).is_ok() {
        discard(stream, bytes, allowed.max(CLOSING_PAUSE));
    }
}

/// Reads what the peer still sends, up to so many bytes, until it closes or pauses.
///
/// A socket that is closed with unread data resets the connection, and a reset takes away what the peer has not read yet:
/// the answer. A peer that was still sending gets to read it this way.
fn discard(stream: &mut Deadlined<'_>, mut bytes: u64, allowed: Duration) {
    let since = Instant::now();
    let mut scratch = [0; 8192];
    while bytes > 0 {
        stream.allow_reading(CLOSING_PAUSE.min(allowed.saturating_sub(since.elapsed())));
        match stream.read(&mut scratch) {
            Ok(read @ 1..) => bytes = bytes.saturating_sub(read as u64),
            _ => return,
        }
    }
}
