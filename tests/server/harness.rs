//! A server on a port of its own with a service that the test writes, and TLS clients for it.

#[path = "../support/scratch.rs"]
#[allow(dead_code)] // it offers more than is used here
mod scratch;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use cascade_hsm_bridge::bridge::{After, Peer, Service};
use cascade_hsm_bridge::server::tls::{self, Tls, TlsVersion};
use cascade_hsm_bridge::server::{Running, Server, Settings};
use cascade_hsm_bridge::ttlv::FrameError;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

pub use scratch::Scratch;

/// How long anything that is to happen may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub type Client = StreamOwned<ClientConnection, TcpStream>;

/// Answers by a function from request to response; refuses with the frame error in words.
pub struct Answering<F>(pub F);

impl<F: Fn(&[u8]) -> (Vec<u8>, After) + Send + Sync + 'static> Service for Answering<F> {
    fn answer(&self, _: &Peer, request: &[u8], response: &mut Vec<u8>) -> After {
        assert!(response.is_empty());
        let (answer, after) = (self.0)(request);
        response.extend(answer);
        after
    }

    fn give_up(&self, _: &Peer, _: &[u8], response: &mut Vec<u8>) {
        response.extend(message(b"given up"));
    }

    fn refuse(&self, _: &Peer, error: FrameError, response: &mut Vec<u8>) {
        response.extend(message(error.to_string().as_bytes()));
    }
}

/// Returns each request's body.
pub fn echo() -> Arc<dyn Service> {
    Arc::new(Answering(|request: &[u8]| (request.to_vec(), After::KeepOpen)))
}

/// A message with this body, filled up to a multiple of eight.
pub fn message(body: &[u8]) -> Vec<u8> {
    let len = body.len().next_multiple_of(8);
    let mut message = vec![0x42, 0x00, 0x78, 0x01];
    message.extend(u32::try_from(len).unwrap().to_be_bytes());
    message.extend(body);
    message.resize(8 + len, b' ');
    message
}

/// Reads one message, and gives its body as text without the filling.
pub fn read_message(from: &mut impl Read) -> String {
    let mut head = [0; 8];
    from.read_exact(&mut head).unwrap();
    let mut body = vec![0; u32::from_be_bytes(*head.last_chunk().unwrap()) as usize];
    from.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap().trim_end().to_owned()
}

pub fn ask(client: &mut Client, body: &str) -> String {
    client.write_all(&message(body.as_bytes())).unwrap();
    read_message(client)
}

/// Waits for something to become true.
pub fn eventually(what: impl Fn() -> bool) {
    let since = Instant::now();
    while !what() {
        assert!(since.elapsed() < PATIENCE, "it did not come true");
        thread::sleep(Duration::from_millis(2));
    }
}

pub struct Bench {
    pub running: Running,
    pub address: SocketAddr,
    pub tls: Tls,
    _directory: Scratch,
}

impl Bench {
    pub fn start(service: Arc<dyn Service>, adjust: impl FnOnce(&mut Settings)) -> Self {
        Self::start_with(service, TlsVersion::V1_3, adjust)
    }

    pub fn start_with(service: Arc<dyn Service>, min_version: TlsVersion, adjust: impl FnOnce(&mut Settings)) -> Self {
        Self::start_as(service, min_version, false, adjust)
    }

    /// One that asks for certificates, of which its own is the CA, but does without.
    pub fn start_asking(service: Arc<dyn Service>) -> Self {
        Self::start_as(service, TlsVersion::V1_2, true, |_| {})
    }

    fn start_as(
        service: Arc<dyn Service>,
        min_version: TlsVersion,
        asks: bool,
        adjust: impl FnOnce(&mut Settings),
    ) -> Self {
        let mut settings = Settings { addr: "127.0.0.1:0".parse().unwrap(), ..Settings::default() };
        adjust(&mut settings);
        let server = Server::bind(&settings).unwrap();
        let directory = Scratch::new("server");
        let ca_path = directory.path().join("server.crt");
        let clients = asks.then_some(tls::Clients { is_required: false, ca_path, crl_path: None });
        let state_dir = directory.path().into();
        let tls = tls::Settings { identity: None, min_version, names: vec![], clients, state_dir };
        let tls = tls::load(&tls, &server.local_addrs()).unwrap();
        let address = server.local_addrs()[0];
        let running = server.run(Arc::clone(&tls.config), service).unwrap();
        Self { running, address, tls, _directory: directory }
    }

    /// A client that trusts the server's certificate and nothing else.
    pub fn client_config(&self, versions: &[&'static rustls::SupportedProtocolVersion]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let path = self.tls.certificate.path.as_ref().unwrap();
        roots.add(CertificateDer::from_pem_file(path).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }

    /// A connection without TLS.
    pub fn tcp(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        socket
    }

    /// A connection whose handshake is done.
    pub fn client(&self) -> Client {
        self.client_for("localhost", &[&rustls::version::TLS13]).unwrap()
    }

    pub fn client_for(
        &self,
        name: &str,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> std::io::Result<Client> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connection = ClientConnection::new(self.client_config(versions), name).unwrap();
        let mut client = StreamOwned::new(connection, self.tcp());
        while client.conn.is_handshaking() {
            client.conn.complete_io(&mut client.sock)?;
        }
        Ok(client)
    }
}

/// Closes at once, so that the peer gets a reset: what it sent has not been read.
pub fn reset(client: Client) {
    let mut byte = [0];
    // The session tickets come after the handshake, and nobody reads them.
    assert_eq!(client.sock.peek(&mut byte).unwrap(), 1);
    drop(client);
}

/// Whether the peer has closed, orderly or not, without another message.
pub fn is_closed(client: &mut impl Read) -> bool {
    matches!(client.read(&mut [0]), Ok(0) | Err(_))
}

/// Sends a byte at a time until that fails, in a thread of its own.
pub fn trickle(mut to: impl Write + Send + 'static) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        while to.write_all(b"B").is_ok() {
            thread::sleep(Duration::from_millis(5));
        }
    })
}

/// Ends the sending side only.
pub fn half_close(socket: &TcpStream) {
    socket.shutdown(Shutdown::Write).unwrap();
}
