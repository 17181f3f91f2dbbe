//! One connection, from the TLS handshake to the close.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, Read};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use log::{debug, log};
use rustls::ServerConnection;
use zeroize::{Zeroize, Zeroizing};

use super::Shared;
use super::bustle::{self, Awake};
use super::deadline::{Deadlined, Patience};
use super::end::{self, End};
use super::inbox::{Inbox, KEPT};
use super::line::{self, CLOSING_PAUSE, DISCARDED_UNKNOWN, InHand, Line};
use super::places::{Open, Place};
use crate::bridge::{After, Peer};
use crate::sys;
use crate::ttlv::{self, FrameError};

/// How much a peer may go on sending after its connection was refused, in bytes. Someone whose message is a few times too
/// large is still to read why; someone who sends for ever is not.
const DISCARDED: u64 = 16 * 1024 * 1024;

/// How much TLS may arrive without a byte of data in it. The largest record is 16 KiB; what goes on beyond a few of those is
/// empty records and new keys, which cost work and bring nothing.
const DATALESS: usize = 64 * 1024;

/// How long a connection is idle before it rests. A client at work asks again sooner.
const RESTING: Duration = Duration::from_secs(1);

/// A connection, as it goes from one thread to the next.
pub(super) struct Held {
    pub peer: Arc<Peer>,
    open: Arc<Open>,
    place: Place,
    shared: Arc<Shared>,
    state: Option<State>,
    stays: bool,
}

/// What there is to know of a connection once it has begun.
struct State {
    line: Arc<Mutex<Line>>,
    answered: u64,
    /// None once a request has proved its PIN.
    patience: Option<Patience>,
    /// Bytes received since the last that held data.
    dataless: usize,
    /// What is left of the idle-timeout of a connection that rests.
    left: Option<Duration>,
}

/// What became of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Ended,
    /// It is idle: to be served again, by another thread.
    Rests,
}

impl Held {
    pub fn new(peer: &Arc<Peer>, (open, place): (Arc<Open>, Place), shared: &Arc<Shared>) -> Self {
        Self { peer: Arc::clone(peer), open, place, shared: Arc::clone(shared), state: None, stays: false }
    }

    /// Whether it has been idle.
    pub fn rests(&self) -> bool {
        self.state.is_some()
    }

    /// Has it wait for its next request in this thread.
    pub fn stay(&mut self) {
        self.stays = true;
    }

    /// Whoever waits for the place to be free finds the service let go of and the socket closed.
    pub fn close(self) {
        drop(self.state);
        drop(self.shared);
        drop(self.open);
        drop(self.place);
    }

    /// Waits for the next request of a connection that rests, or for its end.
    fn wait(&mut self) {
        let Some(state) = &mut self.state else { return };
        if std::mem::take(&mut self.stays) {
            return;
        }
        let (since, left) = (Instant::now(), state.left.unwrap_or_default());
        let allowed = state.patience.as_ref().map_or(left, |patience| left.min(patience.left()));
        // Whatever it ends with, reading meets again.
        let _ = Deadlined::new(&self.open.socket, allowed).wait();
        state.left = Some(left.saturating_sub(since.elapsed()));
    }
}

/// Serves a connection until it ends or rests.
pub(super) fn serve(held: &mut Held) -> Outcome {
    held.wait();
    speak(held)
}

/// Apart, so that the stack of who waits is not as deep as this one's.
#[inline(never)]
fn speak(held: &mut Held) -> Outcome {
    let Held { peer, open, place, shared, state, .. } = held;
    let settings = &shared.settings;
    let began = state.is_some();
    let State { line, answered, patience, dataless, left } = match state.take() {
        Some(state) => state,
        None => match ServerConnection::new(shared.tls()) {
            Ok(tls) => State {
                line: Line::new(tls),
                answered: 0,
                patience: Some(Patience::new(settings.unauthenticated_timeout)),
                dataless: 0,
                left: None,
            },
            Err(error) => {
                debug!("{}: {error}", peer.address);
                return Outcome::Ended;
            }
        },
    };
    let _rescue = line::answer_when_overdue(&line, open, peer, shared);
    let theirs = Arc::downgrade(open);
    peer.watched_by(move || theirs.upgrade().is_none_or(|open| sys::has_hung_up(&open.socket)));
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
        answered,
        patience,
        dataless,
        left,
        prompt: false,
    };
    if !began {
        debug!("{}: connected", peer.address);
    }
    let mut end = match connection.run(began) {
        Ok(left) => {
            let Connection { answered, patience, dataless, .. } = connection;
            *state = Some(State { line, answered, patience, dataless, left: Some(left) });
            return Outcome::Rests;
        }
        Err(end) => end,
    };
    if open.gave_way() {
        end = End::GaveWay;
    }
    let level = end::level(&end, shared);
    log!(level, "{}: {end}; {} requests answered", peer.address, connection.answered);
    connection.close(&end);
    Outcome::Ended
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
    /// What is left of the idle-timeout, if a rest took part of it.
    left: Option<Duration>,
}

/// What a connection comes to that waits for a request.
enum Next {
    /// A request is at the front of the inbox, this long.
    Request(usize),
    /// What is there can be no request.
    Refused(FrameError),
    /// Nothing for a while; this much is left of the idle-timeout.
    Rest(Duration),
}

impl Connection<'_> {
    /// Serves it until it rests. Returns what is left of the idle-timeout then.
    fn run(&mut self, began: bool) -> Result<Duration, End> {
        if !began {
            self.shake_hands()?;
        }
        loop {
            if let Some(left) = self.exchange()? {
                return Ok(left);
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

    /// Waits for one request and answers it. If the connection rests instead, returns what is left of the idle-timeout.
    fn exchange(&mut self) -> Result<Option<Duration>, End> {
        let mut line = line::lock(self.line);
        let (len, after) = match self.next_request(&mut line.tls)? {
            Next::Rest(left) => return Ok(Some(left)),
            Next::Request(len) => {
                let asked = Instant::now();
                self.open.set_being_answered(true);
                let request = InHand::new(&self.inbox, len);
                line.in_hand = Some(request.clone());
                drop(line);
                let busy = self.shared.bustle.begin(self.place.number());
                let after = self.shared.service.answer(self.peer, request.bytes(), &mut self.outbox);
                drop(busy);
                self.open.set_being_answered(false);
                let took = asked.elapsed();
                if let Some(pause) = self.peer.pause() {
                    thread::sleep(pause);
                }
                line = line::lock(self.line);
                if line.in_hand.take().is_none() {
                    return Err(End::GivenUp);
                }
                self.peer.has_response();
                if let Some(patience) = &mut self.patience {
                    patience.credit(took);
                }
                (len, after)
            }
            Next::Refused(error) => {
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
            After::KeepOpen => Ok(None),
            After::KeepOpenProven => {
                if self.patience.take().is_some() {
                    self.place.authenticate();
                }
                Ok(None)
            }
            After::Close => Err(End::ClosedByService),
        }
    }

    fn next_request(&mut self, tls: &mut ServerConnection) -> Result<Next, End> {
        let limits = &self.shared.settings;
        let mut begun = !self.inbox.is_empty();
        // Who has rested is being spoken to.
        let rests = if self.left.is_some() { None } else { limits.idle_timeout.checked_sub(RESTING) };
        let idle = self.left.take().unwrap_or(limits.idle_timeout);
        self.allow_reading(match rests {
            _ if begun => limits.request_timeout,
            Some(_) => RESTING,
            None => idle,
        });
        let largest = match self.patience {
            Some(_) => limits.max_unauthenticated_request_size.min(limits.max_request_size),
            None => limits.max_request_size,
        };
        loop {
            match ttlv::frame_len(self.inbox.bytes(), largest) {
                Ok(Some(len)) if len <= self.inbox.bytes().len() => return Ok(Next::Request(len)),
                Ok(_) => {}
                Err(error) => return Ok(Next::Refused(error)),
            }
            self.open.set_in_hand(begun);
            if !begun && self.shared.places.is_stopping() {
                return Err(End::Stopping);
            }
            match (self.receive(tls, begun), rests) {
                (Err(End::Idle), Some(left)) => return Ok(Next::Rest(left)),
                (received, _) => received?,
            }
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
        let awake = if self.prompt && !begun { self.shared.bustle.wait_awake(self.place.number()) } else { None };
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
