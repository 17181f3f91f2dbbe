//! The translation: what a KMIP request asks, done on a PKCS#11 token.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use crate::ttlv::FrameError;

/// Answers KMIP messages; what the server calls for each one it has framed.
///
/// Neither function fails: whatever is wrong with a request becomes a KMIP response.
pub trait Service: Send + Sync + 'static {
    /// Answers `request`, one whole TTLV message, by appending one whole response message to `response`.
    fn answer(&self, peer: &Peer, request: &[u8], response: &mut Vec<u8>) -> After;

    /// Appends the response to a message whose frame cannot be trusted; the connection closes after it.
    fn refuse(&self, peer: &Peer, error: FrameError, response: &mut Vec<u8>);
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where the connection comes from.
    pub address: SocketAddr,
}

/// What becomes of the connection after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The next request may come.
    KeepOpen,
    /// The response is sent, then the connection closes.
    Close,
}
