//! The limit of the transport: a bare blocking TLS server, a thread for each connection, whose answers are as large as it is asked
//! for. If it has a token, it makes a signature before each: the limit of the two together.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use cryptoki::session::Session;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

use crate::direct::{self, Operation};
use crate::link::message_len;
use crate::support::Token;

/// The server, in a process of its own.
pub struct Echo {
    pub address: SocketAddr,
    child: Child,
}

impl Echo {
    /// Starts it with the certificate and key that the bridge uses.
    pub fn start(certificate: &Path) -> Echo {
        Echo::start_as(Command::new(std::env::current_exe().expect("this program")).arg("echo-server"), certificate)
    }

    /// The same, with the token.
    pub fn start_with(certificate: &Path, module: &Path, token: &Token) -> Echo {
        let mut command = token.command(std::env::current_exe().expect("this program"));
        Echo::start_as(command.arg("bare-server").arg(module).args([&token.label, &token.pin]), certificate)
    }

    fn start_as(command: &mut Command, certificate: &Path) -> Echo {
        let mut child = command
            .args([certificate, &certificate.with_extension("key")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the echo server starts");
        let mut line = String::new();
        let output = child.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("its address");
        Echo { address: line.trim().parse().expect("its address"), child }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the operation stands in a message: its length in one byte, then its words.
const OPERATION: usize = 12;

/// A message of `len` bytes that asks for one of `answer_len`, both at least 16, and for the operation where the server has a token.
pub fn request(len: usize, answer_len: usize, operation: Option<&Operation>) -> Vec<u8> {
    let mut request = vec![0; len];
    let length = |len: usize| u32::try_from(len - 8).expect("a small message").to_be_bytes();
    request[4..8].copy_from_slice(&length(len));
    request[8..OPERATION].copy_from_slice(&length(answer_len));
    if let Some(operation) = operation {
        let words = operation.to_string();
        request[OPERATION] = u8::try_from(words.len()).expect("few words");
        request[OPERATION + 1..][..words.len()].copy_from_slice(words.as_bytes());
    }
    request
}

/// What is done before each answer.
type Work<'s> = Box<dyn FnMut(&[u8]) + 's>;

/// Serves until it is killed.
pub fn serve(certificate: &Path, key: &Path) {
    serve_with(certificate, key, |socket, config| serve_one(socket, config, &mut |_| {}));
}

/// Serves until it is killed, with a session of the token for each connection.
pub fn serve_token(module: &Path, label: &str, pin: &str, certificate: &Path, key: &Path) {
    let (pkcs11, slot) = direct::open(module, label);
    let _keeps_the_login = direct::log_in(&pkcs11, slot, pin);
    serve_with(certificate, key, move |socket, config| {
        let session = pkcs11.open_rw_session(slot).expect("a session");
        let mut work: Option<Work<'_>> = None;
        serve_one(socket, config, &mut |request| {
            let work = work.get_or_insert_with(|| signer(&session, request));
            work(request);
        })
    });
}

/// The operation that the first request of a connection asks for: all others ask for the same.
fn signer<'s>(session: &'s Session, request: &[u8]) -> Work<'s> {
    let words = &request[OPERATION + 1..][..usize::from(request[OPERATION])];
    let words = std::str::from_utf8(words).expect("words");
    let (operation, id) = words.split_once(' ').expect("two words");
    let mut sign = direct::signer(session, operation, &direct::bytes(id)).expect("a signature");
    Box::new(move |_| assert!(sign()))
}

fn serve_with(
    certificate: &Path,
    key: &Path,
    serve_one: impl Fn(&TcpStream, Arc<ServerConfig>) -> Option<()> + Send + Sync + 'static,
) {
    let chain = vec![CertificateDer::from_pem_file(certificate).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate and its key");
    config.ticketer = rustls::crypto::ring::Ticketer::new().expect("a ticketer");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    println!("{}", listener.local_addr().expect("an address"));
    let serve_one = Arc::new(serve_one);
    for socket in listener.incoming() {
        let (config, serve_one) = (Arc::clone(&config), Arc::clone(&serve_one));
        thread::spawn(move || serve_one(&socket.expect("a connection"), config));
    }
}

/// Answers messages until the connection ends, in whatever way.
fn serve_one(mut socket: &TcpStream, config: Arc<ServerConfig>, work: &mut dyn FnMut(&[u8])) -> Option<()> {
    socket.set_nodelay(true).ok()?;
    let mut tls = ServerConnection::new(config).ok()?;
    let (mut request, mut answer) = (Vec::new(), Vec::new());
    let mut filled = 0;
    loop {
        if tls.read_tls(&mut socket).ok()? == 0 {
            return None;
        }
        let ready = tls.process_new_packets().ok()?.plaintext_bytes_to_read();
        if request.len() < filled + ready {
            request.resize(filled + ready, 0_u8);
        }
        tls.reader().read_exact(&mut request[filled..filled + ready]).ok()?;
        filled += ready;
        if filled >= 8 && filled == message_len(&request) {
            filled = 0;
            work(&request);
            answer.clear();
            answer.resize(8 + usize::try_from(u32::from_be_bytes(*request[8..].first_chunk()?)).ok()?, 0);
            let len = answer.len();
            answer[4..8].copy_from_slice(&u32::try_from(len - 8).ok()?.to_be_bytes());
            tls.writer().write_all(&answer).ok()?;
        }
        while tls.wants_write() {
            tls.write_tls(&mut socket).ok()?;
        }
    }
}
