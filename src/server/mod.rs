//! The server: listens, speaks TLS, frames requests, and bounds what a stranger can hold of places, time and memory.
#![forbid(unsafe_code)]

pub mod look;
pub mod tls;

mod accept;
mod bustle;
mod client_ca;
mod connection;
mod deadline;
mod end;
mod identity;
mod inbox;
mod line;
mod places;
mod remarks;
mod self_signed;
mod threads;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use log::warn;
use rustls::ServerConfig;

use crate::bridge::Service;
use bustle::Bustle;
use places::{Limits, Places};
use remarks::Remarks;

/// What the server listens on, and its limits.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen, unless the service manager hands sockets over.
    pub addr: SocketAddr,
    /// Connections open at one time, at least 1; each has a thread.
    pub max_connections: usize,
    /// Connections open at one time from one address, or from one IPv6 network of 64 bits.
    pub max_connections_per_peer: usize,
    /// Connections open at one time that have not carried a request which proved its PIN, at least 1.
    pub max_unauthenticated: usize,
    /// The largest request, in bytes with its header.
    pub max_request_size: usize,
    /// The same until a request on the connection has proved its PIN.
    pub max_unauthenticated_request_size: usize,
    /// From the connection to the end of the TLS handshake.
    pub handshake_timeout: Duration,
    /// From a request's first byte to its last.
    pub request_timeout: Duration,
    /// For the client to take a response.
    pub write_timeout: Duration,
    /// From a response to the next request's first byte.
    pub idle_timeout: Duration,
    /// From the connection to the end of the first request that proves its PIN; the time that answers take does not count.
    pub unauthenticated_timeout: Duration,
    /// For the requests in hand when the server stops.
    pub drain_timeout: Duration,
}

impl Settings {
    /// KMIP's port on the loopback interface.
    pub const DEFAULT_ADDR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5696);
    /// A hundred times what one signer opens.
    pub const DEFAULT_MAX_CONNECTIONS: usize = 1024;
    /// A quarter of all: room for a site behind one address, while three more addresses have to misbehave before others suffer.
    pub const DEFAULT_MAX_CONNECTIONS_PER_PEER: usize = 256;
    /// 128: a client proves its PIN with its first request, within a few round trips; so these are clients about to do that, and
    /// strangers. Connections that come faster than 128 in a handshake's time could not be shaken hands with either.
    pub const DEFAULT_MAX_UNAUTHENTICATED: usize = 128;
    /// 1 MiB: some thousand signatures in one batch.
    pub const DEFAULT_MAX_REQUEST_SIZE: usize = 1024 * 1024;
    /// 64 KiB: some two hundred signatures in one batch, and 8 MiB in the hands of all strangers together.
    pub const DEFAULT_MAX_UNAUTHENTICATED_REQUEST_SIZE: usize = 64 * 1024;
    /// 10 s: two round trips, on any network.
    pub const DEFAULT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
    /// 30 s: what the largest request takes on a line of 300 kbit/s. The usual client gives up after 3 s itself.
    pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
    /// 30 s: what the largest response takes on the same line, and as long as clients wait for any.
    pub const DEFAULT_WRITE_TIMEOUT: Duration = Duration::from_secs(30);
    /// 10 minutes: clients keep connections in pools for a minute and more, and notice only after two errors that one is dead.
    pub const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(600);
    /// 30 s: clients connect when they have a request to send.
    pub const DEFAULT_UNAUTHENTICATED_TIMEOUT: Duration = Duration::from_secs(30);
    /// 10 s: a signature takes less than one, and service managers kill after 90, which leaves no time to log out of the tokens.
    pub const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            addr: Self::DEFAULT_ADDR,
            max_connections: Self::DEFAULT_MAX_CONNECTIONS,
            max_connections_per_peer: Self::DEFAULT_MAX_CONNECTIONS_PER_PEER,
            max_unauthenticated: Self::DEFAULT_MAX_UNAUTHENTICATED,
            max_request_size: Self::DEFAULT_MAX_REQUEST_SIZE,
            max_unauthenticated_request_size: Self::DEFAULT_MAX_UNAUTHENTICATED_REQUEST_SIZE,
            handshake_timeout: Self::DEFAULT_HANDSHAKE_TIMEOUT,
            request_timeout: Self::DEFAULT_REQUEST_TIMEOUT,
            write_timeout: Self::DEFAULT_WRITE_TIMEOUT,
            idle_timeout: Self::DEFAULT_IDLE_TIMEOUT,
            unauthenticated_timeout: Self::DEFAULT_UNAUTHENTICATED_TIMEOUT,
            drain_timeout: Self::DEFAULT_DRAIN_TIMEOUT,
        }
    }
}

/// Why the server cannot start.
#[derive(Debug)]
pub enum Error {
    /// Socket number so many (from 0) of those handed over does not listen on an internet address.
    Adopt(usize, io::Error),
    /// The address cannot be listened on.
    Bind(SocketAddr, io::Error),
    /// No thread can be started.
    Thread(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Adopt(number, error) => write!(f, "cannot use socket {number} of those handed over: {error}"),
            Self::Bind(address, error) => {
                write!(f, "cannot listen on {address}: {error}")?;
                match error.kind() {
                    io::ErrorKind::AddrInUse => write!(f, "\nhint: another program, or another bridge, listens there"),
                    io::ErrorKind::AddrNotAvailable => {
                        write!(f, "\nhint: no interface of this machine has the address")
                    }
                    io::ErrorKind::PermissionDenied => write!(f, "\nhint: ports below 1024 need a privilege"),
                    _ => Ok(()),
                }
            }
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Adopt(_, error) | Self::Bind(_, error) | Self::Thread(error) => Some(error),
        }
    }
}

/// Called with the address and the error when a listener fails for good.
type OnFailure = Box<dyn Fn(SocketAddr, &io::Error) + Send + Sync>;

/// A server that listens, but accepts nothing yet: clients wait in the backlog.
pub struct Server {
    settings: Settings,
    listeners: Vec<(TcpListener, SocketAddr)>,
    on_failure: OnFailure,
}

impl Server {
    /// Listens on the address of `settings`.
    ///
    /// # Errors
    /// The address is taken, not this machine's, or not allowed.
    pub fn bind(settings: &Settings) -> Result<Self, Error> {
        let failed = |error| Error::Bind(settings.addr, error);
        let listener = TcpListener::bind(settings.addr).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self::on(vec![(listener, address)], settings))
    }

    /// Takes over `listeners`, which a service manager opened; the address of `settings` is not used.
    ///
    /// # Errors
    /// One of them is not a socket of the internet families.
    pub fn adopt(listeners: Vec<TcpListener>, settings: &Settings) -> Result<Self, Error> {
        let adopt = |(number, listener): (usize, TcpListener)| {
            // Whoever opened it may have meant it for an event loop; here each has a thread that waits.
            let address = listener.set_nonblocking(false).and_then(|()| listener.local_addr());
            Ok((listener, address.map_err(|error| Error::Adopt(number, error))?))
        };
        let listeners = listeners.into_iter().enumerate().map(adopt).collect::<Result<_, _>>()?;
        Ok(Self::on(listeners, settings))
    }

    fn on(listeners: Vec<(TcpListener, SocketAddr)>, settings: &Settings) -> Self {
        Self { settings: settings.clone(), listeners, on_failure: Box::new(|_, _| {}) }
    }

    /// Has `report` called, in the listener's thread, should a listener fail for good while the server runs; the failure is
    /// logged already. Other listeners and the open connections go on.
    #[must_use]
    pub fn on_failure(mut self, report: impl Fn(SocketAddr, &io::Error) + Send + Sync + 'static) -> Self {
        self.on_failure = Box::new(report);
        self
    }

    /// The addresses listened on; a port that was 0 is the one the system chose.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|(_, address)| *address).collect()
    }

    /// Begins to accept connections, each of which has its requests answered by `service`.
    ///
    /// # Errors
    /// No thread can be started; nothing is served then.
    pub fn run(self, tls: Arc<ServerConfig>, service: Arc<dyn Service>) -> Result<Running, Error> {
        let places = Arc::new(Places::new(Limits {
            all: self.settings.max_connections,
            of_one: self.settings.max_connections_per_peer,
            unauthenticated: self.settings.max_unauthenticated,
        }));
        let drain_timeout = self.settings.drain_timeout;
        let shared = Arc::new(Shared {
            settings: self.settings,
            tls: RwLock::new(tls),
            service,
            places,
            remarks: Remarks::new(),
            bustle: Bustle::new(),
            on_failure: self.on_failure,
        });
        let mut running = Running { shared: Arc::clone(&shared), acceptors: Vec::new(), drain_timeout };
        for (number, (listener, address)) in self.listeners.into_iter().enumerate() {
            let shared = Arc::clone(&shared);
            let acceptor = thread::Builder::new().name(format!("accept-{number}"));
            match acceptor.spawn(move || accept::run(&listener, address, &shared)) {
                Ok(thread) => running.acceptors.push((thread, address)),
                Err(error) => {
                    running.stop();
                    return Err(Error::Thread(error));
                }
            }
        }
        Ok(running)
    }
}

/// What the threads of a server have in common.
struct Shared {
    settings: Settings,
    tls: RwLock<Arc<ServerConfig>>,
    service: Arc<dyn Service>,
    places: Arc<Places>,
    remarks: Remarks,
    bustle: Bustle,
    on_failure: OnFailure,
}

impl Shared {
    fn tls(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.tls.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A server at work. Dropping it changes nothing; it works until [`Running::stop`].
pub struct Running {
    shared: Arc<Shared>,
    acceptors: Vec<(JoinHandle<()>, SocketAddr)>,
    drain_timeout: Duration,
}

impl Running {
    /// How many connections are open now.
    pub fn connections(&self) -> usize {
        self.shared.places.len()
    }

    /// Connections that begin from now on are spoken to as `tls` says; those that are open go on as they began.
    pub fn replace_tls(&self, tls: Arc<ServerConfig>) {
        *self.shared.tls.write().unwrap_or_else(PoisonError::into_inner) = tls;
    }

    /// Stops accepting, ends the connections that wait for a request, and lets requests in hand finish within the
    /// drain-timeout. Returns how many connections had to be cut off after it: 0 means that nothing calls the service any more.
    pub fn stop(self) -> usize {
        self.shared.places.stop();
        self.end_acceptors();
        self.shared.places.drain(self.drain_timeout)
    }

    /// Ends the acceptors' wait with a connection of our own, and waits for them to end.
    ///
    /// Shutting the listening socket down would wake them too, but is for everyone who has it, and a socket handed over is to
    /// outlive this process. Someone else who has it may take our connection, so there may have to be more than one; a packet
    /// filter may swallow it, so the wait has an end. An acceptor that could not be woken closes what it accepts.
    fn end_acceptors(&self) {
        let since = Instant::now();
        for (thread, address) in &self.acceptors {
            while !thread.is_finished() {
                if since.elapsed() > WAKING {
                    warn!("{address}: the listener's thread does not end");
                    break;
                }
                let _ = TcpStream::connect_timeout(&reachable(*address), WAKING / 10);
                thread::sleep(WAKING / 200);
            }
        }
    }
}

/// How long to try to wake the acceptors.
const WAKING: Duration = Duration::from_secs(1);

/// An address at which a listener on `address` hears: a wildcard is none.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}
