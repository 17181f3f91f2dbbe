//! Why a connection ended, and who is told.
#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, ErrorKind};
use std::time::Instant;

use log::{Level, info};
use rustls::PeerIncompatible;

use super::Shared;
use super::remarks::Verdict;
use crate::ttlv::FrameError;

/// Why a connection ended.
pub(super) enum End {
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

/// What an operator has to see to set up a client is INFO, as long as nobody makes it a flood; what any scanner can cause is DEBUG.
pub(super) fn level(end: &End, shared: &Shared) -> Level {
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
