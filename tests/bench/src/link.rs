//! A connection that costs as little as a connection can: the same for the bridge and for its bare counterpart, so that what the
//! two differ in is the server.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// Bytes in front of a message that tell its length, in the last four of them.
const HEADER: usize = 8;

/// TLS for clients that trust the `certificate` and nothing else.
pub fn tls(certificate: &Path, resumes: bool) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(certificate).expect("a certificate");
    roots.add(certificate).expect("a certificate that can be trusted");
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    if !resumes {
        config.resumption = Resumption::disabled();
    }
    Arc::new(config)
}

/// One TLS connection and the last answer that came on it.
pub struct Link {
    tls: ClientConnection,
    socket: TcpStream,
    answer: Vec<u8>,
}

impl Link {
    /// Connects and finishes the handshake.
    pub fn open(address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Link> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        // A server that says nothing is a failure.
        socket.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut tls = ClientConnection::new(Arc::clone(config), address.ip().into()).map_err(io::Error::other)?;
        while tls.is_handshaking() || tls.wants_write() {
            while tls.wants_write() {
                tls.write_tls(&mut &socket)?;
            }
            if tls.is_handshaking() {
                if tls.read_tls(&mut &socket)? == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                tls.process_new_packets().map_err(io::Error::other)?;
            }
        }
        Ok(Link { tls, socket, answer: Vec::new() })
    }

    /// Sends a message and returns the one that answers it.
    pub fn exchange(&mut self, request: &[u8]) -> io::Result<&[u8]> {
        let mut rest = request;
        while !rest.is_empty() {
            let taken = self.tls.writer().write(rest)?;
            rest = &rest[taken..];
            while self.tls.wants_write() {
                self.tls.write_tls(&mut &self.socket)?;
            }
        }
        let mut filled = 0;
        while filled < HEADER || filled < message_len(&self.answer) {
            if self.tls.read_tls(&mut &self.socket)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let ready = self.tls.process_new_packets().map_err(io::Error::other)?.plaintext_bytes_to_read();
            if self.answer.len() < filled + ready {
                self.answer.resize(filled + ready, 0);
            }
            self.tls.reader().read_exact(&mut self.answer[filled..filled + ready])?;
            filled += ready;
        }
        Ok(&self.answer[..filled])
    }
}

/// The length of the message that begins so, with its header.
pub fn message_len(begun: &[u8]) -> usize {
    let length = begun[4..HEADER].try_into().map(u32::from_be_bytes).expect("four bytes");
    HEADER + length as usize
}
