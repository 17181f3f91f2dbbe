//! How long a signature takes a well-behaved client, alone and among hostile peers.
//!
//! The peers run on the same machine, so what they compute themselves gives way to the bridge and the client; what they have the bridge
//! do does not.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::report::Report;
use crate::rounds::Pace;
use crate::samples::median;
use crate::support::bridge::Elsewhere;
use crate::support::client::{client_hello, handshake};
use crate::support::key::ecdsa_sha_256;
use crate::support::message::Response;
use crate::support::tags::{self, operation, reason};
use crate::support::ttlv::structure;
use crate::support::{Bridge, Client, Item, KeySpec, Options, Request, Token, start};

/// How many times the undisturbed 99th percentile the disturbed one may be.
const TARGET: f64 = 3.0;

/// Times of the signatures made in `duration`, sorted.
fn signatures(client: &mut Client, key: &str, duration: Duration) -> Vec<Duration> {
    let until = Instant::now() + duration;
    let mut times = Vec::new();
    while Instant::now() < until {
        let since = Instant::now();
        client.sign(key, ecdsa_sha_256(), &times.len().to_be_bytes());
        times.push(since.elapsed());
    }
    times.sort();
    times
}

fn percentile(times: &[Duration], percent: usize) -> f64 {
    times[(times.len() - 1) * percent / 100].as_secs_f64() * 1000.0
}

/// What the peers are let loose on, and what they say to it.
struct Scene {
    bridge: Bridge,
    token: Token,
    /// Where the bridge listens for who guesses PINs: the good client has another address.
    elsewhere: SocketAddr,
    hello: Vec<u8>,
    request: Vec<u8>,
    nested: Vec<u8>,
    tiny: Vec<u8>,
}

/// Connections that a peer keeps.
type Kept = VecDeque<Box<dyn Write>>;

/// What some peers do, over and over.
struct Kind {
    name: &'static str,
    peers: usize,
    /// Once, for the so many-th time. It is all the same to them if they are refused in the middle of it.
    act: fn(&Scene, &mut Kept, usize) -> io::Result<()>,
    pause: Duration,
}

const fn kind(name: &'static str, act: fn(&Scene, &mut Kept, usize) -> io::Result<()>) -> Kind {
    Kind { name, peers: 1, act, pause: Duration::from_millis(5) }
}

const KINDS: [Kind; 8] = [
    kind("silence", say_nothing),
    kind("a byte at a time", dawdle),
    kind("garbage instead of TLS", send_garbage),
    kind("resets", reset),
    kind("huge declared lengths", declare_too_much),
    kind("structures nested without end", nest),
    // They have to wait for their answers.
    Kind { peers: 8, ..kind("wrong PINs", guess) },
    Kind { pause: Duration::from_millis(50), ..kind("a megabyte of tiny items", send_tiny_items) },
];

/// Connects and says nothing. A hundred of these stay.
fn say_nothing(scene: &Scene, kept: &mut Kept, _: usize) -> io::Result<()> {
    kept.push_back(Box::new(TcpStream::connect(scene.bridge.address)?));
    if kept.len() > 100 {
        kept.pop_front();
    }
    Ok(())
}

/// Sends one more byte of what one of twenty connections has begun: a hello, the header of a request, or its body.
fn dawdle(scene: &Scene, kept: &mut Kept, round: usize) -> io::Result<()> {
    const HEADER: [u8; 8] = [0x42, 0, 0x78, 1, 0, 0, 0x40, 0];
    if kept.len() < 20 {
        let (mut one, begin): (Box<dyn Write>, _) = match round % 3 {
            0 => (Box::new(TcpStream::connect(scene.bridge.address)?), &scene.hello[..scene.hello.len() / 2]),
            1 => (Box::new(handshake(&scene.bridge, rustls::ALL_VERSIONS)?), &HEADER[..1]),
            _ => (Box::new(handshake(&scene.bridge, rustls::ALL_VERSIONS)?), &HEADER[..]),
        };
        one.write_all(begin)?;
        kept.push_back(one);
    } else if let Some(mut one) = kept.pop_front() {
        // One that was closed makes room for the next.
        one.write_all(&[0]).and_then(|()| one.flush())?;
        kept.push_back(one);
    }
    Ok(())
}

fn send_garbage(scene: &Scene, _: &mut Kept, round: usize) -> io::Result<()> {
    let garbage = if round % 2 == 0 { &[0xff; 500][..] } else { &scene.request };
    TcpStream::connect(scene.bridge.address)?.write_all(garbage)
}

/// Closes with something unread, which the bridge is told by a reset: its hello, its keys for a later session, an answer.
fn reset(scene: &Scene, _: &mut Kept, round: usize) -> io::Result<()> {
    if round % 3 == 0 {
        let mut socket = TcpStream::connect(scene.bridge.address)?;
        socket.write_all(&scene.hello)?;
        return socket.peek(&mut [0]).map(drop);
    }
    let mut stream = handshake(&scene.bridge, rustls::ALL_VERSIONS)?;
    if round % 3 == 1 {
        stream.write_all(&scene.request)?;
    }
    stream.sock.peek(&mut [0]).map(drop)
}

fn declare_too_much(scene: &Scene, _: &mut Kept, _: usize) -> io::Result<()> {
    handshake(&scene.bridge, rustls::ALL_VERSIONS)?.write_all(&[0x42, 0, 0x78, 1, 0xff, 0xff, 0xff, 0xf8])
}

fn nest(scene: &Scene, _: &mut Kept, _: usize) -> io::Result<()> {
    handshake(&scene.bridge, rustls::ALL_VERSIONS)?.write_all(&scene.nested)
}

/// As much as a stranger may send, all of it structures within the header of a request.
fn nested() -> Vec<u8> {
    let deep = 8000_u32;
    let level = |level: u32| {
        let tag = if level == 0 { tags::REQUEST_MESSAGE } else { tags::REQUEST_HEADER };
        [(tag << 8 | 1).to_be_bytes(), ((deep - level - 1) * 8).to_be_bytes()].concat()
    };
    (0..deep).flat_map(level).collect()
}

/// Tries five PINs, which nobody has tried before.
fn guess(scene: &Scene, _: &mut Kept, _: usize) -> io::Result<()> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let mut client = Client::connect_as(&Elsewhere(&scene.bridge, scene.elsewhere), None);
    for _ in 0..5 {
        let pin = format!("wrong-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        client.login = Some((scene.token.label.clone(), pin));
        client.call(Item::new(operation::LOCATE, vec![])).is_refused(reason::AUTHENTICATION_NOT_SUCCESSFUL);
    }
    Ok(())
}

/// As much as who has shown a PIN may send.
fn send_tiny_items(scene: &Scene, _: &mut Kept, _: usize) -> io::Result<()> {
    let mut client = Client::connect(&scene.bridge, &scene.token);
    client.ok(operation::LOCATE, vec![]);
    client.send(&scene.tiny);
    let answer = client.receive().ok_or(io::ErrorKind::UnexpectedEof)?;
    Response::read(&answer).single().is_refused_as_a_whole(reason::INVALID_MESSAGE);
    Ok(())
}

fn tiny(token: &Token) -> Vec<u8> {
    let header = Request { count: Some(1000), ..Request::new(vec![]).login(&token.label, &token.pin) }.header();
    let items = vec![structure(tags::BATCH_ITEM, vec![]); 100_000];
    structure(tags::REQUEST_MESSAGE, [vec![header], items].concat()).encode()
}

/// Has this thread run when no other wants to, as if it were on a machine of its own.
fn give_way() {
    let thread = fs::read_link("/proc/thread-self").expect("the thread's number");
    let number = thread.file_name().expect("the thread's number");
    let status = Command::new("renice").args(["-n", "19", "-p"]).arg(number).stdout(Stdio::null()).status();
    assert!(status.expect("renice runs").success());
}

/// When the peers are at it.
#[derive(Default)]
struct Phase {
    attack: AtomicBool,
    over: AtomicBool,
}

/// Ends the peers, also when the good client was refused.
struct End<'p>(&'p Phase);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

/// What one peer does.
fn attack(scene: &Scene, kind: &Kind, phase: &Phase, attacks: &AtomicUsize) {
    give_way();
    let mut kept = Kept::new();
    for round in 0.. {
        if phase.over.load(Ordering::Relaxed) {
            return;
        }
        if phase.attack.load(Ordering::Relaxed) {
            let _ = (kind.act)(scene, &mut kept, round);
            attacks.fetch_add(1, Ordering::Relaxed);
        } else {
            kept.clear();
        }
        thread::sleep(kind.pause);
    }
}

/// Alone and among peers by turns, as all that is compared.
pub fn run(pace: Pace, report: &mut Report) {
    let token = Token::create();
    // Both families, as the good client and who guesses PINs are to have addresses of their own.
    let mut bridge = start(&token, Options { address: Some("[::]:0"), ..Options::default() });
    let elsewhere = SocketAddr::from((Ipv6Addr::LOCALHOST, bridge.address.port()));
    bridge.address.set_ip(Ipv4Addr::LOCALHOST.into());
    let mut client = Client::connect(&bridge, &token);
    let key = client.create_key_pair(&KeySpec::ecdsa(256)).private;
    let request = Request::new(vec![Item::new(operation::LOCATE, vec![])]).encode();
    let tiny = tiny(&token);
    let scene = Scene { bridge, token, elsewhere, hello: client_hello(), request, nested: nested(), tiny };
    let (phase, attacks) = (Phase::default(), KINDS.each_ref().map(|_| AtomicUsize::new(0)));
    let mut times = [Vec::new(), Vec::new()];
    let mut ratios = Vec::new();
    thread::scope(|scope| {
        for (kind, attacks) in KINDS.iter().zip(&attacks) {
            let (scene, phase) = (&scene, &phase);
            (0..kind.peers).for_each(|_| drop(scope.spawn(move || attack(scene, kind, phase, attacks))));
        }
        let _end = End(&phase);
        for _ in 0..pace.rounds {
            let mut turn = |is_attacked: bool| {
                phase.attack.store(is_attacked, Ordering::Relaxed);
                // Until they are all at it, or none is any more.
                signatures(&mut client, &key, pace.slice / 5);
                let turn = signatures(&mut client, &key, pace.slice);
                times[usize::from(is_attacked)].extend_from_slice(&turn);
                percentile(&turn, 99)
            };
            let alone = turn(false);
            ratios.push(turn(true) / alone);
        }
    });
    for (what, times) in ["undisturbed", "disturbed"].into_iter().zip(&mut times) {
        times.sort();
        let values =
            [("signatures", times.len() as f64), ("p50 ms", percentile(times, 50)), ("p99 ms", percentile(times, 99))];
        report.row("hostile peers", what, &values);
    }
    for (kind, attacks) in KINDS.iter().zip(&attacks) {
        report.row("what they do", kind.name, &[("times", attacks.load(Ordering::Relaxed) as f64)]);
    }
    let ratio = median(ratios);
    report.at_most("p99 of a signature among hostile peers, of that alone", "times", ratio, TARGET);
}
