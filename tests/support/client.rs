//! A KMIP client: one TLS connection that trusts the bridge's certificate and nothing else.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use super::bridge::Reachable;
use super::message::{Answer, Item, Request, Response};
use super::secrets::Secrets;
use super::token::Token;
use super::ttlv::Node;

/// A bridge that says nothing is a failure, not a reason to wait for ever.
const SILENCE: Duration = Duration::from_secs(60);

/// A connection and what is said on it when a test does not say otherwise: version 1.2 and the token's login.
pub struct Client {
    stream: StreamOwned<ClientConnection, TcpStream>,
    pub login: Option<(String, String)>,
    pub version: (i32, i32),
    secrets: Arc<Secrets>,
}

impl Client {
    pub fn connect(bridge: &impl Reachable, token: &Token) -> Client {
        Client::connect_as(bridge, Some((&token.label, &token.pin)))
    }

    pub fn connect_as(bridge: &impl Reachable, login: Option<(&str, &str)>) -> Client {
        let stream = handshake(bridge, rustls::ALL_VERSIONS).expect("a TLS connection");
        let login = login.map(|(username, password)| (username.to_string(), password.to_string()));
        Client { stream, login, version: (1, 2), secrets: Arc::clone(bridge.secrets()) }
    }

    /// Over a connection that is there already.
    pub fn over(socket: TcpStream, bridge: &impl Reachable, token: &Token) -> Client {
        let stream = handshake_over(socket, bridge, rustls::ALL_VERSIONS, None).expect("a TLS connection");
        let login = Some((token.label.clone(), token.pin.clone()));
        Client { stream, login, version: (1, 2), secrets: Arc::clone(bridge.secrets()) }
    }

    /// With a client certificate and its key, or without.
    pub fn connect_showing(
        bridge: &impl Reachable,
        login: Option<(&str, &str)>,
        identity: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
    ) -> io::Result<Client> {
        let stream = handshake_showing(bridge, rustls::ALL_VERSIONS, identity)?;
        let login = login.map(|(username, password)| (username.to_string(), password.to_string()));
        Ok(Client { stream, login, version: (1, 2), secrets: Arc::clone(bridge.secrets()) })
    }

    /// With a TLS configuration of the test's own, in which sessions are remembered, for the name of the server.
    pub fn connect_with(
        bridge: &impl Reachable,
        login: Option<(&str, &str)>,
        config: &Arc<ClientConfig>,
        name: &str,
    ) -> io::Result<Client> {
        let name = ServerName::try_from(name.to_string()).expect("a server's name");
        let stream = handshake_as(TcpStream::connect(bridge.address())?, Arc::clone(config), name)?;
        let login = login.map(|(username, password)| (username.to_string(), password.to_string()));
        Ok(Client { stream, login, version: (1, 2), secrets: Arc::clone(bridge.secrets()) })
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the bridge reads");
        self.stream.flush().expect("the bridge reads");
    }

    /// Sends bytes; `false` if the bridge has closed the connection already.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).and_then(|()| self.stream.flush()).is_ok()
    }

    /// The next message, whole and well-formed, or `None` when the bridge has closed the connection.
    pub fn receive(&mut self) -> Option<Node> {
        let bytes = self.receive_bytes()?;
        Some(Node::decode(&bytes).unwrap_or_else(|problem| panic!("the answer is not TTLV: {problem}")))
    }

    pub fn receive_bytes(&mut self) -> Option<Vec<u8>> {
        let mut message = vec![0; 8];
        match self.stream.read_exact(&mut message) {
            Ok(()) => {}
            Err(error) if is_closed(&error) => return None,
            Err(error) => panic!("no answer: {error}"),
        }
        let length = u32::from_be_bytes([message[4], message[5], message[6], message[7]]);
        message.resize(8 + usize::try_from(length).expect("32 bits"), 0);
        self.stream.read_exact(&mut message[8..]).expect("the rest of the answer");
        Some(message)
    }

    /// The next message, or why there is none: for clients whose bridge may die.
    pub fn try_receive(&mut self) -> io::Result<Vec<u8>> {
        let mut message = vec![0; 8];
        self.stream.read_exact(&mut message)?;
        let length = u32::from_be_bytes([message[4], message[5], message[6], message[7]]);
        message.resize(8 + usize::try_from(length).expect("32 bits"), 0);
        self.stream.read_exact(&mut message[8..])?;
        Ok(message)
    }

    /// Whether the bridge has closed the connection and said nothing more.
    pub fn is_closed(&mut self) -> bool {
        self.receive_bytes().is_none()
    }

    /// Whether the connection ends, in whatever way, before the bridge says anything.
    pub fn is_cut_off(&mut self) -> bool {
        self.stream.read_exact(&mut [0]).is_err()
    }

    /// Whether the connection ends, in whatever way, instead of an answer to this.
    pub fn is_cut_off_at(&mut self, item: Item) -> bool {
        let request = self.request(vec![item]);
        !self.try_send(&request.encode()) || self.is_cut_off()
    }

    /// A request with this client's version and login.
    pub fn request(&self, items: Vec<Item>) -> Request {
        let mut request = Request::new(items);
        request.version = self.version;
        request.login = self.login.clone();
        if let Some((_, password)) = &self.login {
            self.secrets.add(password);
        }
        request
    }

    pub fn ask(&mut self, request: &Request) -> Response {
        self.ask_node(&request.to_node())
    }

    pub fn ask_node(&mut self, message: &Node) -> Response {
        self.send(&message.encode());
        Response::read(&self.receive().expect("an answer, not the end of the connection"))
    }

    /// Sends one item and returns its answer, whatever it is, after the checks that hold for every answer.
    pub fn call(&mut self, item: Item) -> Answer {
        let operation = item.operation;
        let request = self.request(vec![item]);
        let response = self.ask(&request);
        assert_eq!(response.version, request.version);
        let answer = response.single().clone();
        assert_eq!(answer.operation, Some(operation), "{answer:?}");
        answer
    }

    /// Sends one item that has to succeed and returns the payload of the answer.
    pub fn ok(&mut self, operation: u32, payload: Vec<Node>) -> Node {
        self.call(Item::new(operation, payload)).payload().clone()
    }

    /// The TCP connection below, for tests that end it rudely.
    pub fn socket(&self) -> &TcpStream {
        &self.stream.sock
    }

    /// Whether a session of before was taken up again.
    pub fn is_resumed(&self) -> bool {
        self.stream.conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    /// The certificate that the bridge has shown.
    pub fn shown(&self) -> Option<CertificateDer<'static>> {
        self.stream.conn.peer_certificates()?.first().cloned()
    }

    pub fn tls_version(&self) -> Option<rustls::ProtocolVersion> {
        self.stream.conn.protocol_version()
    }
}

/// Connects and finishes the handshake.
pub fn handshake(
    bridge: &impl Reachable,
    versions: &[&'static SupportedProtocolVersion],
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    handshake_showing(bridge, versions, None)
}

/// The same with a certificate of the client.
fn handshake_showing(
    bridge: &impl Reachable,
    versions: &[&'static SupportedProtocolVersion],
    identity: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    handshake_over(TcpStream::connect(bridge.address())?, bridge, versions, identity)
}

fn handshake_over(
    socket: TcpStream,
    bridge: &impl Reachable,
    versions: &[&'static SupportedProtocolVersion],
    identity: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(bridge.certificate()).expect("the bridge's certificate");
    roots.add(certificate).expect("a certificate that can be trusted");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("the protocol versions")
        .with_root_certificates(roots);
    let config = match identity {
        Some((certificate, key)) => config.with_client_auth_cert(vec![certificate], key).map_err(io::Error::other)?,
        None => config.with_no_client_auth(),
    };
    handshake_as(socket, Arc::new(config), ServerName::IpAddress(bridge.address().ip().into()))
}

fn handshake_as(
    socket: TcpStream,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
    socket.set_read_timeout(Some(SILENCE))?;
    socket.set_write_timeout(Some(SILENCE))?;
    socket.set_nodelay(true)?;
    let mut stream = StreamOwned::new(connection, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// A ClientHello as rustls writes it.
pub fn client_hello() -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
    let config = config.unwrap().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    hello
}
