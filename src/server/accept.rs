//! The accept loop: takes connections, gives each a place and a thread, and outlives whatever goes wrong with one of them.
#![forbid(unsafe_code)]

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use log::{debug, error, info, warn};

use super::connection::Held;
use super::{Shared, threads};
use crate::bridge::Peer;
use crate::sys;

/// Descriptors that new connections leave alone. Modules open files and sockets in the middle of a request, and take it for a key
/// that is not there when they cannot (SoftHSM does); so these are for the connections that are open.
const SPARE_DESCRIPTORS: u64 = 16;

/// Wait for others to give back the descriptors or memory that the system lacks.
const SCARCITY_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections from `listener` until the server stops or the listener fails.
pub(super) fn run(listener: &TcpListener, address: SocketAddr, shared: &Arc<Shared>) {
    let mut scarce = Episode::default();
    let mut threadless = Episode::default();
    loop {
        let accepted = listener.accept();
        if shared.places.is_stopping() {
            return;
        }
        match accepted {
            Ok((socket, peer)) => {
                if scarce.ends() {
                    info!("{address}: accepting connections again");
                }
                match welcome(socket, peer, shared) {
                    Ok(()) => {
                        threadless.ends();
                    }
                    Err(error) if threadless.begins() => {
                        warn!("no room in this process for new connections, which are closed: {error}");
                    }
                    Err(_) => {}
                }
            }
            Err(error) => match after(&error) {
                AfterError::Continue => debug!("{address}: a connection ended before it was accepted: {error}"),
                AfterError::Wait => {
                    if scarce.begins() {
                        warn!("{address}: cannot accept connections, will go on trying: {error}");
                    }
                    thread::sleep(SCARCITY_PAUSE);
                }
                AfterError::Stop => {
                    error!("{address}: cannot accept connections any more: {error}");
                    (shared.on_failure)(address, &error);
                    return;
                }
            },
        }
    }
}

/// Gives a connection its thread. Fails if there is none to be had; the connection is closed then.
fn welcome(socket: TcpStream, address: SocketAddr, shared: &Arc<Shared>) -> io::Result<()> {
    // A listener for both families shows IPv4 addresses in IPv6 clothes.
    let peer = Arc::new(Peer::new(SocketAddr::new(address.ip().to_canonical(), address.port())));
    descriptors_are_left(&socket)?;
    let Some(taken) = shared.places.take(socket, address.ip()) else {
        return Ok(());
    };
    threads::start(Box::new(Held::new(&peer, taken, shared)))
}

/// Whether [`SPARE_DESCRIPTORS`] are still to be had: the system gives the lowest number that is free.
fn descriptors_are_left(socket: &TcpStream) -> io::Result<()> {
    let used = u64::try_from(socket.as_raw_fd()).unwrap_or(u64::MAX);
    let allowed = sys::allow_descriptors(0)?;
    if used.saturating_add(SPARE_DESCRIPTORS) < allowed {
        return Ok(());
    }
    Err(io::Error::other(format!("the last {SPARE_DESCRIPTORS} of {allowed} open files are for the module")))
}

/// What an accept error means for those that follow.
#[derive(Debug, PartialEq, Eq)]
enum AfterError {
    /// It was one connection's.
    Continue,
    /// The system lacks something, for now.
    Wait,
    /// The listener is of no more use.
    Stop,
}

fn after(error: &io::Error) -> AfterError {
    match error.raw_os_error() {
        // Linux hands a new connection's own network errors to accept(2), EOPNOTSUPP among them: that the listener is a stream
        // was looked at when it was taken over.
        Some(
            libc::ECONNABORTED
            | libc::EINTR
            | libc::EPERM
            | libc::EPROTO
            | libc::ENOPROTOOPT
            | libc::ENETDOWN
            | libc::ENETUNREACH
            | libc::ENONET
            | libc::EHOSTDOWN
            | libc::EHOSTUNREACH
            | libc::EOPNOTSUPP
            | libc::ETIMEDOUT,
        ) => AfterError::Continue,
        // EAGAIN: someone else with this socket made it non-blocking. What some kernels answer beside that, accept(2) says without
        // a reason; should it last, it is not to keep a processor busy.
        Some(
            libc::EMFILE
            | libc::ENFILE
            | libc::ENOMEM
            | libc::ENOBUFS
            | libc::ENOSR
            | libc::EAGAIN
            | libc::EPROTONOSUPPORT
            | libc::ESOCKTNOSUPPORT,
        ) => AfterError::Wait,
        _ => AfterError::Stop,
    }
}

/// A state of affairs that is worth a line when it begins and one when it ends.
#[derive(Default)]
struct Episode {
    lasts: bool,
}

impl Episode {
    fn begins(&mut self) -> bool {
        !std::mem::replace(&mut self.lasts, true)
    }

    fn ends(&mut self) -> bool {
        std::mem::replace(&mut self.lasts, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_errors_by_whose_they_are() {
        // The errors of accept(2): those of a connection and of TCP/IP, those of a lack, those that some kernels return, and
        // those that say that this is no listener.
        let connection = [libc::ECONNABORTED, libc::EINTR, libc::EPERM, libc::EPROTO, libc::ENOPROTOOPT];
        let network = [libc::ENETDOWN, libc::ENETUNREACH, libc::ENONET, libc::EHOSTDOWN, libc::EHOSTUNREACH];
        let lack = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS, libc::EAGAIN, libc::EWOULDBLOCK];
        let some_kernels = [libc::ENOSR, libc::ESOCKTNOSUPPORT, libc::EPROTONOSUPPORT];
        let no_listener = [libc::EBADF, libc::EFAULT, libc::EINVAL, libc::ENOTSOCK];
        for (codes, wanted) in [
            (&connection[..], AfterError::Continue),
            (&network, AfterError::Continue),
            (&[libc::EOPNOTSUPP, libc::ETIMEDOUT], AfterError::Continue),
            (&lack, AfterError::Wait),
            (&some_kernels, AfterError::Wait),
            (&no_listener, AfterError::Stop),
        ] {
            for &code in codes {
                let error = io::Error::from_raw_os_error(code);
                assert_eq!(after(&error), wanted, "{error}");
            }
        }
        assert_eq!(after(&io::Error::other("no number of the system's")), AfterError::Stop);
    }

    #[test]
    fn an_episode_is_told_once() {
        let mut episode = Episode::default();
        assert!(!episode.ends());
        assert!(episode.begins());
        assert!(!episode.begins());
        assert!(episode.ends());
        assert!(!episode.ends());
    }
}
