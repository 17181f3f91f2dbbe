//! One request message in, one response message out.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::{debug, trace};

use super::access::{Access, Certificate, Clients, FailedLogins};
use super::audit::{self, Deed};
use super::batch::Batch;
use super::object::{Departed, LeftOut};
use super::op;
use super::progress::Progress;
use super::public_keys::PublicKeys;
use crate::kmip::{
    Continuation, Failure, Limits, Rejected, Request, RequestHeader, Response, ResultReason, Version, stated_version,
};
use crate::pkcs11::Tokens;
use crate::ttlv::{Dump, FrameError};

/// Answers KMIP messages; what the server calls for each one it has framed.
///
/// No function fails: whatever is wrong with a request becomes a KMIP response.
pub trait Service: Send + Sync + 'static {
    /// Answers `request`, one whole TTLV message, by appending one whole response message to `response`.
    fn answer(&self, peer: &Peer, request: &[u8], response: &mut Vec<u8>) -> After;

    /// Appends the response to `request` while [`Self::answer`] waits for a call to the module that does not return; what that comes
    /// to is told to nobody. The connection closes after it.
    fn give_up(&self, peer: &Peer, request: &[u8], response: &mut Vec<u8>);

    /// Appends the response to a message whose frame cannot be trusted; the connection closes after it.
    fn refuse(&self, peer: &Peer, error: FrameError, response: &mut Vec<u8>);
}

/// Who is at the other end of a connection; one for each connection.
pub struct Peer {
    /// Where the connection comes from.
    pub address: SocketAddr,
    /// What tells the first credential that was admitted on this connection: it goes on being judged while others from the same
    /// address are not.
    pub(super) admitted: OnceLock<[u8; 32]>,
    pub(super) progress: Progress,
    /// Nanoseconds by which the response is held back.
    pause: AtomicU64,
    gone: OnceLock<Box<dyn Fn() -> bool + Send + Sync>>,
    certificate: OnceLock<Certificate>,
    /// Whether it was told in the log that an answer was shortened.
    is_shortened: AtomicBool,
}

impl Peer {
    /// Somebody at `address` who has proved nothing yet.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            admitted: OnceLock::new(),
            progress: Progress::default(),
            pause: AtomicU64::new(0),
            gone: OnceLock::new(),
            certificate: OnceLock::new(),
            is_shortened: AtomicBool::new(false),
        }
    }

    /// `is_gone` tells whether the client has closed its end, and so may not hear the answer.
    pub fn watched_by(&self, is_gone: impl Fn() -> bool + Send + Sync + 'static) {
        self.gone.get_or_init(|| Box::new(is_gone));
    }

    /// Whether the client may not hear the answer.
    pub(super) fn is_gone(&self) -> bool {
        self.progress.is_given_up() || self.gone.get().is_some_and(|is_gone| is_gone())
    }

    /// Whether the client no longer waits for what it asked for at that time.
    pub(super) fn has_left(&self, asked: Instant) -> bool {
        asked.elapsed() >= LATE && self.is_gone()
    }

    /// The response to its message is to be sent so much later.
    pub(super) fn hold_back(&self, pause: Duration) {
        self.pause.store(u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long to wait before the response is sent, so that it does not tell what a judgement took; asked once.
    pub fn pause(&self) -> Option<Duration> {
        let nanos = self.pause.swap(0, Ordering::Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    /// The response to its message is in the hands of who sends it: nobody has to give it up any more.
    pub fn has_response(&self) {
        self.progress.clear();
    }

    /// Whether no answer to it was shortened yet, as far as was asked here.
    pub(super) fn is_first_shortened(&self) -> bool {
        !self.is_shortened.swap(true, Ordering::Relaxed)
    }

    /// TLS has verified that the client has this certificate, given in DER.
    pub fn proved(&self, certificate: &[u8]) {
        self.certificate.get_or_init(|| Certificate::read(certificate));
    }

    pub(super) fn certificate(&self) -> Option<&Certificate> {
        self.certificate.get()
    }
}

/// Until then a client that has closed its end may only have said that it sends no more; later it has given up.
const LATE: Duration = Duration::from_secs(1);

/// What becomes of the connection after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The next request may come.
    KeepOpen,
    /// The same, and the request has proved that its sender may use a token: the server has more patience with the connection
    /// from now on. Nothing else depends on it; each request proves itself.
    KeepOpenProven,
    /// The response is sent, then the connection closes.
    Close,
}

/// What the operator decides about the translation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How much a request message may be.
    pub limits: Limits,
    /// What a login that fails costs.
    pub failed_logins: FailedLogins,
    /// Bytes of a response message, also where the client would take more.
    pub max_response_size: usize,
    /// The directory with public keys that tokens do not tell.
    pub public_keys: Option<PathBuf>,
}

impl Settings {
    /// 1 MiB, as for requests: a response stands in memory as a whole, once for each connection.
    pub const DEFAULT_MAX_RESPONSE_SIZE: usize = 1024 * 1024;
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            failed_logins: FailedLogins::default(),
            max_response_size: Self::DEFAULT_MAX_RESPONSE_SIZE,
            public_keys: None,
        }
    }
}

/// The KMIP server without its network: tokens on one side, messages on the other.
pub struct Bridge {
    pub(super) tokens: Tokens,
    pub(super) settings: Settings,
    pub(super) departed: Departed,
    pub(super) left_out: LeftOut,
    pub(super) access: Access,
    public_keys: RwLock<Arc<PublicKeys>>,
}

impl Bridge {
    /// Translates for `tokens`.
    pub fn new(tokens: Tokens, settings: Settings) -> Self {
        let access = Access::new(settings.failed_logins.clone());
        Self {
            tokens,
            settings,
            departed: Departed::default(),
            left_out: LeftOut::default(),
            access,
            public_keys: RwLock::default(),
        }
    }

    /// Judges clients by `clients` from now on; those that are connected are judged anew with their next request.
    pub fn admit_clients(&self, clients: Clients) {
        self.access.replace_clients(clients);
    }

    /// Looks for public keys that a token does not tell in these files from now on.
    pub fn look_for_public_keys_in(&self, files: PublicKeys) {
        *self.public_keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(files);
    }

    pub(super) fn public_keys(&self) -> Arc<PublicKeys> {
        Arc::clone(&self.public_keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The tokens, for what has to be done with them at the end.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    fn carry_out(&self, peer: &Peer, request: &Request<'_>, response: &mut Vec<u8>) -> After {
        let (version, writer) = self.begin(&request.header, response);
        let batch = Batch::new(self, peer, &request.header, version, writer);
        if batch.carry_out(request) { After::KeepOpenProven } else { After::KeepOpen }
    }
}

impl Bridge {
    /// The response to a request, in the version that it is to be answered in.
    fn begin<'b>(&self, header: &RequestHeader<'_>, response: &'b mut Vec<u8>) -> (Version, Response<'b>) {
        // What is left of a later minor version was judged by Request::decode: it is answered in the last one spoken.
        let version = header.version.answered_in().unwrap_or(Version::V1_2);
        let most = header.max_response_size.unwrap_or(usize::MAX).min(self.settings.max_response_size);
        (version, Response::begin(response, version, now(), header.client_correlation_value, Some(most)))
    }

    /// Tells what was done before a call to the module did not return, and what was not.
    fn tell_what_is_known(&self, peer: &Peer, request: &Request<'_>, response: &mut Vec<u8>) {
        let known = peer.progress.give_up();
        let (_, mut writer) = self.begin(&request.header, response);
        writer.repeat(known.items, &known.answers);
        if known.ended {
            return writer.finish();
        }
        let mut left = request.items().skip(usize::try_from(known.items).unwrap_or(usize::MAX));
        if let Some(item) = left.next() {
            let changes = item.operation.filter(|operation| op::changes(*operation));
            if let Some(operation) = changes {
                // The placeholder is with the thread that waits; without a login that was judged, it has none.
                let told = || Deed::of_nobody_yet(op::told(operation, item.payload.as_ref().ok(), None));
                audit::given_up(peer, &known.deed.unwrap_or_else(told));
            }
            // The failure comes back as what it was; it is already in the response.
            let _ = writer.item(item.operation, item.id, |_| Err(no_answer(changes.is_some())));
        }
        if request.header.continuation == Continuation::Continue {
            for item in left {
                let _ = writer.item(item.operation, item.id, |_| Err(not_begun()));
                if writer.is_full() {
                    break;
                }
            }
        }
        writer.finish();
    }
}

impl Service for Bridge {
    fn answer(&self, peer: &Peer, request: &[u8], response: &mut Vec<u8>) -> After {
        trace!("{}: request {}", peer.address, Dump(request));
        let start = response.len();
        let after = match Request::decode(request, self.settings.limits) {
            Ok(decoded) => self.carry_out(peer, &decoded, response),
            Err(rejected) => {
                debug!("{}: message refused: {}", peer.address, rejected.failure);
                refuse_message(version_for(request), rejected, response);
                After::KeepOpen
            }
        };
        trace!("{}: response {}", peer.address, Dump(response.get(start..).unwrap_or_default()));
        after
    }

    fn give_up(&self, peer: &Peer, request: &[u8], response: &mut Vec<u8>) {
        let start = response.len();
        match Request::decode(request, self.settings.limits) {
            Ok(decoded) => self.tell_what_is_known(peer, &decoded, response),
            Err(rejected) => refuse_message(version_for(request), rejected, response),
        }
        trace!("{}: response {}", peer.address, Dump(response.get(start..).unwrap_or_default()));
    }

    fn refuse(&self, peer: &Peer, error: FrameError, response: &mut Vec<u8>) {
        debug!("{}: message refused: {error}", peer.address);
        refuse_message(Version::V1_2, Failure::invalid_message(error.to_string()).into(), response);
    }
}

/// The version to refuse a message in. Another major one is answered in the best that is spoken here.
fn version_for(request: &[u8]) -> Version {
    stated_version(request).map_or(Version::V1_2, |stated| stated.answered_in().unwrap_or(Version::V1_4))
}

/// The answer to the item that waits for the module.
fn no_answer(changes: bool) -> Failure {
    let message = if changes {
        "the HSM has not answered in time: whether this was done is not known"
    } else {
        "the HSM has not answered in time"
    };
    Failure::new(ResultReason::GENERAL_FAILURE, message)
}

/// The answer to an item behind that.
pub(super) fn not_begun() -> Failure {
    Failure::new(ResultReason::GENERAL_FAILURE, "not done: the HSM has not answered an item before this one in time")
}

/// The answer to a message as a whole: one item.
fn refuse_message(version: Version, rejected: Rejected<'_>, response: &mut Vec<u8>) {
    let mut writer = Response::begin(response, version, now(), None, None);
    // The failure comes back as what it was; it is already in the response.
    let _ = writer.item(rejected.operation, rejected.id, |_| Err(rejected.failure));
    writer.finish();
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
