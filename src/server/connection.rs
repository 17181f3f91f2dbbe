//! One connection, from the TLS handshake to the close.
#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use log::{Level, debug, log};
use rustls::{PeerIncompatible, ServerConnection};
use zeroize::{Zeroize, Zeroizing};

use super::Shared;
use super::deadline::Deadlined;
use super::inbox::{Inbox, KEPT};
use super::places::{Open, Place};
use crate::bridge::{After, Peer};
use crate::ttlv::{self, FrameError};

/// How long a connection that closes waits for a peer that does nothing.
const CLOSING_PAUSE: Duration = Duration::from_secs(1);

/// How much a peer may go on sending after its connection was refused, in bytes. Someone whose message is a few times too
/// large is still to read why; someone who sends for ever is not.
const DISCARDED: u64 = 16 * 1024 * 1024;

/// The same where nothing large is to be expected, or no one that speaks TLS.
const DISCARDED_UNKNOWN: u64 = 64 * 1024;

/// How much TLS may arrive without a byte of data in it. The largest record is 16 KiB; what goes on beyond a few of those is
/// empty records and new keys, which cost work and bring nothing.
const DATALESS: usize = 64 * 1024;

/// Serves `open` until it ends.
pub(super) fn serve(open: &Open, place: &Place, peer: &Peer, shared: &Shared) {
    let tls = match ServerConnection::new(shared.tls()) {
        Ok(tls) => tls,
        Err(error) => return debug!("{}: {error}", peer.address),
    };
    debug!("{}: connected", peer.address);
    let settings = &shared.settings;
    let stream = Deadlined::new(&open.socket, settings.handshake_timeout.min(settings.unauthenticated_timeout));
    let mut connection = Connection {
        open,
        place,
        peer,
        shared,
        tls,
        stream,
        inbox: Inbox::default(),
        outbox: Zeroizing::default(),
        answered: 0,
        patience: Some(Patience { since: Instant::now(), allowed: settings.unauthenticated_timeout }),
        dataless: 0,
    };
    let mut end = connection.run();
    if open.gave_way() {
        end = End::GaveWay;
    }
    log!(end.level(), "{}: {end}; {} requests answered", peer.address, connection.answered);
    connection.close(&end);
}

/// How long to listen to a connection that has not authenticated: all its handshake, requests and silence together.
struct Patience {
    since: Instant,
    allowed: Duration,
}

impl Patience {
    fn left(&self) -> Duration {
        self.allowed.saturating_sub(self.since.elapsed())
    }
}

struct Connection<'a> {
    open: &'a Open,
    place: &'a Place,
    peer: &'a Peer,
    shared: &'a Shared,
    tls: ServerConnection,
    stream: Deadlined<'a>,
    inbox: Inbox,
    /// It may hold random numbers that become keys.
    outbox: Zeroizing<Vec<u8>>,
    answered: u64,
    /// None once a request has proved its PIN.
    patience: Option<Patience>,
    /// Bytes received since the last that held data.
    dataless: usize,
}

impl Connection<'_> {
    fn run(&mut self) -> End {
        if let Err(end) = self.shake_hands() {
            return end;
        }
        loop {
            if let Err(end) = self.exchange() {
                return end;
            }
        }
    }

    /// The handshake; its deadline is the one the stream began with.
    fn shake_hands(&mut self) -> Result<(), End> {
        if let Err(error) = self.stream.socket().set_nodelay(true) {
            return Err(End::Handshake(error));
        }
        while self.tls.is_handshaking() {
            match self.tls.read_tls(&mut self.stream) {
                Ok(0) => return Err(End::Handshake(ErrorKind::UnexpectedEof.into())),
                Ok(_) => self.decrypt()?,
                Err(error) => return Err(End::Handshake(error)),
            }
            self.flush().map_err(End::Handshake)?;
        }
        if let Some(certificate) = self.tls.peer_certificates().and_then(|chain| chain.first()) {
            self.peer.proved(certificate);
        }
        let version = self.tls.protocol_version().and_then(|version| version.as_str()).unwrap_or("TLS");
        debug!("{}: {version} established", self.peer.address);
        Ok(())
    }

    /// Waits for one request and answers it.
    fn exchange(&mut self) -> Result<(), End> {
        let (len, after) = match self.next_request()? {
            Ok(len) => {
                let asked = Instant::now();
                self.open.set_being_answered(true);
                let request = self.inbox.bytes().get(..len).unwrap_or_default();
                let after = self.shared.service.answer(self.peer, request, &mut self.outbox);
                self.open.set_being_answered(false);
                if let Some(patience) = &mut self.patience {
                    // The peer is not to blame for a token that takes its time.
                    patience.allowed = patience.allowed.saturating_add(asked.elapsed());
                }
                (len, after)
            }
            Err(error) => {
                self.shared.service.refuse(self.peer, error, &mut self.outbox);
                self.send()?;
                return Err(End::Refused(error));
            }
        };
        self.inbox.consume(len);
        self.send()?;
        self.answered = self.answered.saturating_add(1);
        match after {
            After::KeepOpen => Ok(()),
            After::KeepOpenProven => {
                if self.patience.take().is_some() {
                    self.place.authenticate();
                }
                Ok(())
            }
            After::Close => Err(End::ClosedByService),
        }
    }

    /// The length of the request that now is at the front of the inbox, or why none can be there.
    fn next_request(&mut self) -> Result<Result<usize, FrameError>, End> {
        let limits = &self.shared.settings;
        let mut begun = !self.inbox.is_empty();
        self.allow_reading(if begun { limits.request_timeout } else { limits.idle_timeout });
        let largest = match self.patience {
            Some(_) => limits.max_unauthenticated_request_size.min(limits.max_request_size),
            None => limits.max_request_size,
        };
        loop {
            match ttlv::frame_len(self.inbox.bytes(), largest) {
                Ok(Some(len)) if len <= self.inbox.bytes().len() => return Ok(Ok(len)),
                Ok(_) => {}
                Err(error) => return Ok(Err(error)),
            }
            self.open.set_in_hand(begun);
            if !begun && self.shared.places.is_stopping() {
                return Err(End::Stopping);
            }
            self.receive(begun)?;
            if !begun && !self.inbox.is_empty() {
                begun = true;
                self.open.set_in_hand(true);
                self.allow_reading(limits.request_timeout);
            }
        }
    }

    fn allow_reading(&mut self, allowed: Duration) {
        self.stream.allow_reading(self.patience.as_ref().map_or(allowed, |patience| allowed.min(patience.left())));
    }

    /// Reads once from the socket, and takes what this decrypts to into the inbox.
    fn receive(&mut self, begun: bool) -> Result<(), End> {
        match self.tls.read_tls(&mut self.stream) {
            // Also after the peer's close_notify.
            Ok(0) if self.shared.places.is_stopping() => return Err(End::Stopping),
            Ok(0) if begun => return Err(End::Broken(ErrorKind::UnexpectedEof.into())),
            Ok(0) => return Err(End::ClosedByPeer),
            Ok(read) => self.dataless = self.dataless.saturating_add(read),
            Err(error) if error.kind() == ErrorKind::TimedOut && self.is_out_of_patience() => {
                return Err(End::Unauthenticated);
            }
            Err(error) if error.kind() == ErrorKind::TimedOut && begun => return Err(End::SlowRequest),
            Err(error) if error.kind() == ErrorKind::TimedOut => return Err(End::Idle),
            Err(error) => return Err(End::Broken(error)),
        }
        self.decrypt()?;
        if self.dataless > DATALESS {
            return Err(End::Dataless);
        }
        // TLS itself has something to say, such as new keys.
        if self.tls.wants_write() {
            self.stream.allow_writing(self.shared.settings.write_timeout);
            self.flush().map_err(End::Broken)?;
        }
        Ok(())
    }

    fn decrypt(&mut self) -> Result<(), End> {
        let state = match self.tls.process_new_packets() {
            Ok(state) => state,
            Err(error) => {
                // The alert that tells the peer why.
                self.stream.allow_writing(CLOSING_PAUSE);
                let _ = self.flush();
                return Err(End::Tls(error));
            }
        };
        let len = state.plaintext_bytes_to_read();
        if len > 0 {
            self.dataless = 0;
        }
        self.inbox.take(len, self.tls.reader()).map_err(End::Broken)
    }

    fn is_out_of_patience(&self) -> bool {
        self.patience.as_ref().is_some_and(|patience| patience.left().is_zero())
    }

    /// Writes the response. In the ordinary case, all of it is encrypted first and goes out with one system call.
    fn send(&mut self) -> Result<(), End> {
        self.stream.allow_writing(self.shared.settings.write_timeout);
        let mut rest = self.outbox.as_slice();
        while !rest.is_empty() {
            // TLS buffers a bounded part of a large response at a time.
            let taken = self.tls.writer().write(rest).map_err(End::Unanswered)?;
            if taken == 0 {
                return Err(End::Unanswered(ErrorKind::WriteZero.into()));
            }
            rest = rest.get(taken..).unwrap_or_default();
            flush(&mut self.tls, &mut self.stream).map_err(End::Unanswered)?;
        }
        self.outbox.as_mut_slice().zeroize();
        self.outbox.clear();
        self.outbox.shrink_to(KEPT);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        flush(&mut self.tls, &mut self.stream)
    }

    /// Closes the connection so that the peer reads what was sent to it last.
    fn close(&mut self, end: &End) {
        self.open.set_in_hand(false);
        let (discarded, allowed) = match end {
            End::Broken(_) | End::Dataless | End::GaveWay | End::Handshake(_) | End::Unanswered(_) => return,
            End::Refused(_) => {
                let allowed = self.shared.settings.request_timeout;
                (DISCARDED, self.patience.as_ref().map_or(allowed, |patience| allowed.min(patience.left())))
            }
            End::ClosedByService | End::Tls(_) => (DISCARDED_UNKNOWN, CLOSING_PAUSE),
            // The peer has nothing on its way that it knows will be served: what is there already is taken, without waiting.
            End::ClosedByPeer | End::Idle | End::SlowRequest | End::Stopping | End::Unauthenticated => {
                (DISCARDED_UNKNOWN, Duration::ZERO)
            }
        };
        self.tls.send_close_notify();
        self.stream.allow_writing(CLOSING_PAUSE);
        let _ = self.flush();
        let waits = !allowed.is_zero() && !self.shared.places.is_stopping();
        if self.stream.socket().shutdown(if waits { Shutdown::Write } else { Shutdown::Both }).is_ok() {
            self.discard(discarded, allowed.max(CLOSING_PAUSE));
        }
    }

    /// Reads what the peer still sends, up to so many bytes, until it closes or pauses.
    ///
    /// A socket that is closed with unread data resets the connection, and a reset takes away what the peer has not read yet:
    /// the answer. A peer that was still sending gets to read it this way.
    fn discard(&mut self, mut bytes: u64, allowed: Duration) {
        let since = Instant::now();
        let mut scratch = [0; 8192];
        while bytes > 0 {
            self.stream.allow_reading(CLOSING_PAUSE.min(allowed.saturating_sub(since.elapsed())));
            match self.stream.read(&mut scratch) {
                Ok(read @ 1..) => bytes = bytes.saturating_sub(read as u64),
                _ => return,
            }
        }
    }
}

fn flush(tls: &mut ServerConnection, stream: &mut Deadlined<'_>) -> io::Result<()> {
    while tls.wants_write() {
        if tls.write_tls(stream)? == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}

/// Why a connection ended.
enum End {
    /// The socket failed, or the peer went away in the middle of a request.
    Broken(io::Error),
    ClosedByPeer,
    ClosedByService,
    /// The peer sends TLS without anything in it.
    Dataless,
    /// Another connection took the place of this one, which had not authenticated.
    GaveWay,
    Handshake(io::Error),
    Idle,
    Refused(FrameError),
    SlowRequest,
    Stopping,
    Tls(rustls::Error),
    /// The response could not be written.
    Unanswered(io::Error),
    Unauthenticated,
}

impl End {
    /// What an operator has to see to set up a client is INFO; what any scanner can cause is DEBUG.
    fn level(&self) -> Level {
        match self {
            Self::Refused(_) => Level::Info,
            // Both speak TLS, but not together: a version or algorithm, or our certificate is not to the client's liking.
            Self::Tls(rustls::Error::AlertReceived(_) | rustls::Error::PeerIncompatible(_)) => Level::Info,
            _ => Level::Debug,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(error) => write!(f, "connection lost: {error}"),
            Self::ClosedByPeer => write!(f, "closed by the peer"),
            Self::ClosedByService => write!(f, "closed after the answer"),
            Self::Dataless => write!(f, "closed: TLS records without data"),
            Self::GaveWay => write!(f, "closed for a new connection, as it had not authenticated"),
            Self::Handshake(error) if error.kind() == ErrorKind::TimedOut => {
                write!(f, "handshake: not done within handshake-timeout")
            }
            Self::Handshake(error) => write!(f, "handshake: {error}"),
            Self::Idle => write!(f, "closed: no request within idle-timeout"),
            Self::Refused(error) => write!(f, "refused: {error}"),
            Self::SlowRequest => write!(f, "closed: request not complete within request-timeout"),
            Self::Stopping => write!(f, "closed: the server stops"),
            Self::Tls(rustls::Error::PeerIncompatible(
                PeerIncompatible::SupportedVersionsExtensionRequired | PeerIncompatible::Tls12NotOfferedOrEnabled,
            )) => {
                write!(f, "TLS: the client offers neither TLS 1.3 nor what server.tls.min-version allows beside it")
            }
            Self::Tls(error) => write!(f, "TLS: {error}"),
            Self::Unanswered(error) if error.kind() == ErrorKind::TimedOut => {
                write!(f, "closed: response not taken within write-timeout")
            }
            Self::Unanswered(error) => write!(f, "response not written: {error}"),
            Self::Unauthenticated => write!(f, "closed: not authenticated within unauthenticated-timeout"),
        }
    }
}
