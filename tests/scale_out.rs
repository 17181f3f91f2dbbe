//! Two bridges behind HAProxy over one token: one of them is killed under load, and clients that try again lose nothing.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use support::bridge::{Bridge, Options};
use support::hsm::skipped;
use support::key::{KeySpec, ecdsa_sha_256, public_key, sign_item, unique_identifier};
use support::message::{Item, Response};
use support::scratch::Scratch;
use support::tags::{self, operation};
use support::ttlv::Node;
use support::{Client, Token, others};

const CONF: &str = include_str!("../conf/haproxy.cfg");

/// Clients that sign, and signatures of each; one more client makes keys meanwhile.
const SIGNERS: usize = 6;
const SIGNATURES: usize = 100;
const KEYS: usize = 12;

/// Reached only when something is wrong.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn makes_keys_where_it_is_told_to() {
    others::maker();
}

/// HAProxy with the configuration that is shipped, its addresses replaced; ended with the test.
struct Proxy {
    child: Child,
    _directory: Scratch,
}

impl Proxy {
    /// Starts it, and says where it listens.
    fn start(program: &Path, bridges: [SocketAddr; 2]) -> (Proxy, SocketAddr) {
        // It takes over the socket, so that there is a port of its own without guessing.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut conf = CONF.to_owned();
        for (shipped, own) in [
            ("bind 127.0.0.1:5696", "bind fd@0".to_owned()),
            ("bridge1 192.0.2.11:5696", format!("bridge1 {}", bridges[0])),
            ("bridge2 192.0.2.12:5696", format!("bridge2 {}", bridges[1])),
        ] {
            assert_eq!(conf.matches(shipped).count(), 1, "{shipped}");
            conf = conf.replace(shipped, &own);
        }
        let directory = Scratch::new("haproxy");
        let conf = directory.file("haproxy.cfg", conf);
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let child = Command::new(program)
            .args(["-db", "-f"])
            .arg(conf)
            .stdin(OwnedFd::from(listener))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        (Proxy { child, _directory: directory }, address)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = fs::read_to_string(self._directory.path().join("log"));
            eprintln!("--- log of HAProxy\n{}---", log.unwrap_or_default());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that connects anew and asks again whenever it has no answer, or one that it may ask again after.
struct Retrying<'a> {
    front: &'a Bridge,
    token: &'a Token,
    client: Option<Client>,
    /// Requests that were asked again.
    again: usize,
}

impl<'a> Retrying<'a> {
    fn new(front: &'a Bridge, token: &'a Token) -> Self {
        Retrying { front, token, client: None, again: 0 }
    }

    fn ask(&mut self, item: impl Fn() -> Item) -> Node {
        let since = Instant::now();
        loop {
            match self.try_once(item()) {
                Ok(payload) => return payload,
                Err(why) => {
                    assert!(since.elapsed() < PATIENCE, "{why}");
                    self.again += 1;
                    thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }

    fn try_once(&mut self, item: Item) -> io::Result<Node> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => Client::connect_showing(self.front, Some((&self.token.label, &self.token.pin)), None)?,
        };
        let request = client.request(vec![item]).encode();
        if !client.try_send(&request) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let answer = client.try_receive()?;
        self.client = Some(client);
        let response = Response::read(&Node::decode(&answer).expect("well-formed TTLV"));
        let answer = response.single();
        match (&answer.message, &answer.payload) {
            (_, Some(payload)) => Ok(payload.clone()),
            (why, None) => Err(io::Error::other(format!("{why:?}"))),
        }
    }
}

#[test]
fn a_client_that_tries_again_loses_nothing_when_one_of_two_bridges_is_killed() {
    let places = ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy", "/usr/bin/haproxy"].map(Path::new);
    let program = places.into_iter().find(|path| path.exists());
    if skipped(program.is_none(), "there is no HAProxy on this machine") {
        return;
    }
    let token = Token::create();
    let is_alone = || skipped(others::sees_nothing_new(&token), "the module sees nothing that another process makes");
    if token.cannot_make(&KeySpec::ecdsa(256)) || is_alone() {
        return;
    }
    let mut front = Bridge::start(&token);
    let identity = format!(
        "[server.identity]\ncert-path = {:?}\nkey-path = {:?}\n",
        front.certificate(),
        front.state_dir().join("server.key")
    );
    let other = Bridge::start_with(&token, Options { tables: identity, ..Options::default() });
    let (_proxy, address) = Proxy::start(program.unwrap(), [front.address, other.address]);
    // Clients of the first bridge find the proxy in its place.
    front.address = address;

    let mut owner = Retrying::new(&front, &token);
    let pair = owner.ask(|| KeySpec::ecdsa(256).named("zone").item());
    let private = pair.child(tags::PRIVATE_KEY_UNIQUE_IDENTIFIER).as_text().to_owned();
    let public = pair.child(tags::PUBLIC_KEY_UNIQUE_IDENTIFIER).as_text().to_owned();
    let got = owner.ask(|| Item::new(operation::GET, vec![unique_identifier(&public)]));
    let point = public_key(got.child(tags::PUBLIC_KEY).child(tags::KEY_BLOCK)).subject_public_key_info();
    // A P-256 point is the end of its SubjectPublicKeyInfo.
    let point = point[point.len() - 65..].to_vec();

    let (signed, again) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let made = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for signer in 0..SIGNERS {
            let (front, token, private, point) = (&front, &token, &private, &point);
            let (signed, again) = (&signed, &again);
            scope.spawn(move || {
                let mut client = Retrying::new(front, token);
                for number in 0..SIGNATURES {
                    let data = format!("record set {number} of signer {signer}");
                    let answer = client.ask(|| sign_item(private, ecdsa_sha_256(), data.as_bytes()));
                    let signature = answer.child(tags::SIGNATURE_DATA).as_bytes();
                    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point);
                    assert_eq!(key.verify(data.as_bytes(), signature), Ok(()), "{data}");
                    signed.fetch_add(1, Ordering::SeqCst);
                }
                again.fetch_add(client.again, Ordering::SeqCst);
            });
        }
        scope.spawn(|| {
            let mut client = Retrying::new(&front, &token);
            for number in 0..KEYS {
                let answer = client.ask(|| KeySpec::ecdsa(256).named(&format!("key-{number}")).item());
                made.lock().unwrap().push(answer.child(tags::PUBLIC_KEY_UNIQUE_IDENTIFIER).as_text().to_owned());
            }
        });
        support::until("half of the signatures are made", || signed.load(Ordering::SeqCst) >= SIGNERS * SIGNATURES / 2);
        other.signal("KILL");
    });
    assert_eq!(signed.load(Ordering::SeqCst), SIGNERS * SIGNATURES);
    assert!(again.load(Ordering::SeqCst) > 0, "nobody was connected to the bridge that was killed");
    let made = made.into_inner().unwrap();
    assert_eq!(made.len(), KEYS);
    for public in made {
        owner.ask(|| Item::new(operation::GET, vec![unique_identifier(&public)]));
    }
}
