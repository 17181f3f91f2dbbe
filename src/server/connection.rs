//! One connection, from the TLS handshake to the close.
#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use log::{Level, debug, info, log};
use rustls::{PeerIncompatible, ServerConnection};
use zeroize::{Zeroize, Zeroizing};

use super::Shared;
use super::bustle::{self, Awake};
use super::deadline::Deadlined;
use super::inbox::{Inbox, KEPT};
use super::line::{self, CLOSING_PAUSE, DISCARDED_UNKNOWN, InHand, Line};
use super::places::{Open, Place};
use super::remarks::Verdict;
use crate::bridge::{After, Peer};
use crate::ttlv::{self, FrameError};

/// How much a peer may go on sending after its connection was refused, in bytes. Someone whose message is a few times too
/// large is still to read why; someone who sends for ever is not.
const DISCARDED: u64 = 16 * 1024 * 1024;

/// How much TLS may arrive without a byte of data in it. The largest record is 16 KiB; what goes on beyond a few of those is
/// empty records and new keys, which cost work and bring nothing.
const DATALESS: usize = 64 * 1024;

/// Serves `open` until it ends.
pub(super) fn serve(open: &Arc<Open>, place: &Place, peer: &Arc<Peer>, shared: &Arc<Shared>) {
    let line = match ServerConnection::new(shared.tls()) {
        Ok(tls) => Line::new(tls),
        Err(error) => return debug!("{}: {error}", peer.address),
    };
    let _rescue = line::answer_when_overdue(&line, open, peer, shared);
    debug!("{}: connected", peer.address);
    let settings = &shared.settings;
    let stream = Deadlined::new(&open.socket, settings.handshake_timeout.min(settings.unauthenticated_timeout));
    let mut connection = Connection {
        open,
        place,
        peer,
        shared,
        line: &line,
        stream,
        inbox: Arc::default(),
        outbox: Zeroizing::default(),
        answered: 0,
        patience: Some(Patience { since: Instant::now(), allowed: settings.unauthenticated_timeout }),
        dataless: 0,
        prompt: false,
    };
    let mut end = connection.run();
    if open.gave_way() {
        end = End::GaveWay;
    }
    let level = level(&end, shared);
    log!(level, "{}: {end}; {} requests answered", peer.address, connection.answered);
    connection.close(&end);
}

/// What an operator has to see to set up a client is INFO, as long as nobody makes it a flood; what any scanner can cause is DEBUG.
fn level(end: &End, shared: &Shared) -> Level {
    if !end.is_worth_a_remark() {
        return Level::Debug;
    }
    match shared.remarks.judge(Instant::now()) {
        Verdict::Leave => Level::Debug,
        Verdict::Tell(left_out) => {
            if left_out > 0 {
                info!("{left_out} more connections were refused; at the level debug each is told of");
            }
            Level::Info
        }
    }
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
    line: &'a Mutex<Line>,
    stream: Deadlined<'a>,
    /// Shared with the line while the service is at work.
    inbox: Arc<Inbox>,
    /// It may hold random numbers that become keys.
    outbox: Zeroizing<Vec<u8>>,
    answered: u64,
    /// None once a request has proved its PIN.
    patience: Option<Patience>,
    /// Bytes received since the last that held data.
    dataless: usize,
    /// The last request came as soon as its client had the answer before it.
    prompt: bool,
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
        let tls = &mut line::lock(self.line).tls;
        if let Err(error) = self.stream.socket().set_nodelay(true) {
            return Err(End::Handshake(error));
        }
        while tls.is_handshaking() {
            match tls.read_tls(&mut self.stream) {
                Ok(0) => return Err(End::Handshake(ErrorKind::UnexpectedEof.into())),
                Ok(_) => self.decrypt(tls)?,
                Err(error) => return Err(End::Handshake(error)),
            }
            line::flush(tls, &mut self.stream).map_err(End::Handshake)?;
        }
        if let Some(certificate) = tls.peer_certificates().and_then(|chain| chain.first()) {
            self.peer.proved(certificate);
        }
        let version = tls.protocol_version().and_then(|version| version.as_str()).unwrap_or("TLS");
        debug!("{}: {version} established", self.peer.address);
        Ok(())
    }

    /// Waits for one request and answers it.
    fn exchange(&mut self) -> Result<(), End> {
        let mut line = line::lock(self.line);
        let (len, after) = match self.next_request(&mut line.tls)? {
            Ok(len) => {
                let asked = Instant::now();
                self.open.set_being_answered(true);
                let request = InHand::new(&self.inbox, len);
                line.in_hand = Some(request.clone());
                drop(line);
                let busy = self.shared.bustle.begin();
                let after = self.shared.service.answer(self.peer, request.bytes(), &mut self.outbox);
                drop(busy);
                line = line::lock(self.line);
                self.open.set_being_answered(false);
                if line.in_hand.take().is_none() {
                    return Err(End::GivenUp);
                }
                if let Some(patience) = &mut self.patience {
                    // The peer is not to blame for a token that takes its time.
                    patience.allowed = patience.allowed.saturating_add(asked.elapsed());
                }
                (len, after)
            }
            Err(error) => {
                self.shared.service.refuse(self.peer, error, &mut self.outbox);
                self.send(&mut line.tls)?;
                return Err(End::Refused(error));
            }
        };
        self.inbox()?.consume(len);
        self.send(&mut line.tls)?;
        drop(line);
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
    fn next_request(&mut self, tls: &mut ServerConnection) -> Result<Result<usize, FrameError>, End> {
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
            self.receive(tls, begun)?;
            if !begun && !self.inbox.is_empty() {
                begun = true;
                self.prompt = self.patience.is_none() && bustle::is_prompt(self.stream.waited());
                self.open.set_in_hand(true);
                self.allow_reading(limits.request_timeout);
            }
        }
    }

    fn allow_reading(&mut self, allowed: Duration) {
        self.stream.allow_reading(self.patience.as_ref().map_or(allowed, |patience| allowed.min(patience.left())));
    }

    /// Reads once from the socket, and takes what this decrypts to into the inbox.
    fn receive(&mut self, tls: &mut ServerConnection, begun: bool) -> Result<(), End> {
        let awake = if self.prompt && !begun { self.shared.bustle.wait_awake() } else { None };
        let read = tls.read_tls(&mut Watchful { stream: &mut self.stream, awake });
        match read {
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
        self.decrypt(tls)?;
        if self.dataless > DATALESS {
            return Err(End::Dataless);
        }
        // TLS itself has something to say, such as new keys.
        if tls.wants_write() {
            self.stream.allow_writing(self.shared.settings.write_timeout);
            line::flush(tls, &mut self.stream).map_err(End::Broken)?;
        }
        Ok(())
    }

    fn decrypt(&mut self, tls: &mut ServerConnection) -> Result<(), End> {
        let state = match tls.process_new_packets() {
            Ok(state) => state,
            Err(error) => {
                // The alert that tells the peer why.
                self.stream.allow_writing(CLOSING_PAUSE);
                let _ = line::flush(tls, &mut self.stream);
                return Err(End::Tls(error));
            }
        };
        let len = state.plaintext_bytes_to_read();
        if len > 0 {
            self.dataless = 0;
        }
        self.inbox()?.take(len, tls.reader()).map_err(End::Broken)
    }

    /// What was received. Nobody else has it, unless in answering in the place of this thread.
    fn inbox(&mut self) -> Result<&mut Inbox, End> {
        Arc::get_mut(&mut self.inbox).ok_or(End::GivenUp)
    }

    fn is_out_of_patience(&self) -> bool {
        self.patience.as_ref().is_some_and(|patience| patience.left().is_zero())
    }

    /// Writes the response.
    fn send(&mut self, tls: &mut ServerConnection) -> Result<(), End> {
        self.stream.allow_writing(self.shared.settings.write_timeout);
        line::send(tls, &mut self.stream, &self.outbox).map_err(End::Unanswered)?;
        self.outbox.as_mut_slice().zeroize();
        self.outbox.clear();
        self.outbox.shrink_to(KEPT);
        Ok(())
    }

    /// Closes the connection so that the peer reads what was sent to it last.
    fn close(&mut self, end: &End) {
        self.open.set_in_hand(false);
        let (discarded, allowed) = match end {
            End::Broken(_) | End::Dataless | End::GaveWay | End::GivenUp | End::Handshake(_) | End::Unanswered(_) => {
                return;
            }
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
        let waits = !allowed.is_zero() && !self.shared.places.is_stopping();
        line::hang_up(&mut line::lock(self.line).tls, &mut self.stream, discarded, allowed, waits);
    }
}

/// Reads without falling asleep at first, where it may.
struct Watchful<'w, 's> {
    stream: &'w mut Deadlined<'s>,
    awake: Option<Awake<'w>>,
}

impl Read for Watchful<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let looked = self.awake.take().and_then(|awake| self.stream.read_awake(buf, |waited| awake.goes_on(waited)));
        looked.unwrap_or_else(|| self.stream.read(buf))
    }
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
    /// A call to the module did not return in time; another thread has answered.
    GivenUp,
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
    /// Whether it may be a client that an operator is setting up.
    fn is_worth_a_remark(&self) -> bool {
        match self {
            Self::Refused(_) => true,
            // Both speak TLS, but not together: a version or algorithm, or one's certificate is not to the other's liking.
            Self::Tls(error) => {
                use rustls::Error::{AlertReceived, InvalidCertificate, NoCertificatesPresented, PeerIncompatible};
                matches!(
                    error,
                    AlertReceived(_) | InvalidCertificate(_) | NoCertificatesPresented | PeerIncompatible(_)
                )
            }
            _ => false,
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
            Self::GivenUp => write!(f, "closed: a call to the PKCS#11 module did not return in time"),
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
