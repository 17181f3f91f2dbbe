//! What the hostile peers are let loose on: a bridge, and well-behaved clients at work.

use std::io::Read;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::bridge::Options;
use crate::support::message::{Item, Request};
use crate::support::tags::operation;
use crate::support::{Bridge, Client, KeySpec, Token};

/// Limits that tests reach in seconds, not minutes.
const IMPATIENT: &str =
    "handshake-timeout = 2\nrequest-timeout = 2\nwrite-timeout = 2\nunauthenticated-timeout = 3\nidle-timeout = 120\n";

/// Anything that is to happen has happened by then.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A bridge, a key on its token, and the well-behaved clients that use it.
pub struct Stage {
    pub token: Token,
    pub bridge: Bridge,
    /// Where peers have another address than the well-behaved clients, if it listens on more than one.
    pub elsewhere: SocketAddr,
    pub key: String,
}

impl Stage {
    /// A bridge with little patience of every kind.
    pub fn set(server: &str) -> Stage {
        Stage::with(Options { server: format!("{IMPATIENT}{server}"), ..Options::default() })
    }

    /// A bridge with little patience of one kind, and enough of every other for it to be none of those that ended a connection.
    pub fn with_one_deadline(kind: &str) -> Stage {
        let kinds = ["handshake", "request", "write", "idle", "unauthenticated"];
        assert!(kinds.contains(&kind));
        let timeout = |each: &str| format!("{each}-timeout = {}\n", if each == kind { 3 } else { 600 });
        Stage::with(Options { server: kinds.map(timeout).concat(), ..Options::default() })
    }

    pub fn with(options: Options) -> Stage {
        let token = Token::create();
        let mut bridge = Bridge::start_with(&token, options);
        let mut elsewhere = bridge.address;
        if elsewhere.ip().is_unspecified() {
            elsewhere.set_ip(Ipv6Addr::LOCALHOST.into());
            bridge.address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        let key = Client::connect(&bridge, &token).create_key_pair(&KeySpec::any(&token)).private;
        Stage { token, bridge, elsewhere, key }
    }

    /// Runs `attack` while one client signs on a connection that it keeps, and another on a new one each time. Any answer that
    /// is not a signature fails the test. Afterwards nothing of the attack is left.
    pub fn withstands(&mut self, attack: impl FnOnce(&Stage)) {
        self.is_quiet();
        let over = AtomicBool::new(false);
        let signed = [AtomicUsize::new(0), AtomicUsize::new(0)];
        thread::scope(|scope| {
            let (stage, over, signed) = (&*self, &over, &signed);
            let good = [true, false].map(|keeps| {
                scope.spawn(move || {
                    let mut client = Client::connect(&stage.bridge, &stage.token);
                    let count = &signed[usize::from(keeps)];
                    while !over.load(Ordering::Relaxed) {
                        if !keeps {
                            client = Client::connect(&stage.bridge, &stage.token);
                        }
                        let number = count.fetch_add(1, Ordering::Relaxed);
                        client.sign(&stage.key, stage.token.sign_parameters(), &number.to_be_bytes());
                    }
                })
            });
            // The good clients end whatever becomes of the attack.
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                attack(stage);
                let before = signed.each_ref().map(|count| count.load(Ordering::Relaxed));
                let served = || (0..2).all(|client| signed[client].load(Ordering::Relaxed) > before[client] + 2);
                eventually("the good clients go on", || served() || good.iter().any(|client| client.is_finished()));
            }));
            over.store(true, Ordering::Relaxed);
            for client in good {
                client.join().expect("a good client saw nothing but signatures");
            }
            outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
        assert!(self.bridge.is_alive());
        self.is_quiet();
        assert!(!self.bridge.log().contains("panic"), "a panic");
    }

    /// Waits until every connection has ended. A module may have sockets of its own, for a service of its: they are none of TCP.
    fn is_quiet(&self) {
        let proc = PathBuf::from(format!("/proc/{}", self.bridge.pid()));
        let sockets = || {
            let tables = ["net/tcp", "net/tcp6"].map(|table| std::fs::read_to_string(proc.join(table)));
            // Field 10 of a line is the number that the descriptor's link has.
            let tcp: Vec<String> = tables
                .iter()
                .flatten()
                .flat_map(|table| table.lines().skip(1))
                .filter_map(|line| Some(format!("socket:[{}]", line.split_whitespace().nth(9)?)))
                .collect();
            let links = std::fs::read_dir(proc.join("fd")).unwrap().flatten();
            let target = |link: std::fs::DirEntry| std::fs::read_link(link.path()).ok()?.to_str().map(str::to_owned);
            links.filter_map(target).filter(|target| tcp.contains(target)).count()
        };
        eventually("all connections end", || sockets() <= 1);
    }

    pub fn tcp(&self) -> TcpStream {
        let socket = TcpStream::connect(self.bridge.address).expect("a connection");
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// How many connections ended for the reason that the log gives in these words.
    pub fn ended(&self, why: &str) -> usize {
        self.bridge.log().matches(why).count()
    }

    /// A connection that has shown the right PIN.
    pub fn proven(&self) -> Client {
        let mut client = Client::connect(&self.bridge, &self.token);
        client.call(Item::new(operation::LOCATE, vec![])).payload();
        client
    }

    /// A connection that has shown none.
    pub fn stranger(&self) -> Client {
        Client::connect_as(&self.bridge, None)
    }
}

pub fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for the bridge to close, whatever it says before.
pub fn is_closed(socket: &mut impl Read) {
    let mut scratch = [0; 4096];
    let since = Instant::now();
    while let Ok(1..) = socket.read(&mut scratch) {
        assert!(since.elapsed() < PATIENCE, "the bridge does not close");
    }
    assert!(since.elapsed() < PATIENCE, "the bridge does not close");
}

pub fn query() -> Request {
    Request::new(vec![Item::new(operation::QUERY, vec![])])
}
