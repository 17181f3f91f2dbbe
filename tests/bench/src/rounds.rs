//! Rounds: the token alone, the transport alone, then the bridge, each for a moment, again and again, so that what happens to
//! the machine meanwhile happens to all three.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use rustls::ClientConfig;

use crate::direct::Direct;
use crate::echo::{self, Echo};
use crate::link::{self, Link};
use crate::process;
use crate::requests::{Ask, is_success};
use crate::samples::{Slice, Slices};
use crate::support::{Bridge, Token};

/// What is measured side by side.
pub struct Trio {
    pub direct: Direct,
    pub echo: Echo,
    /// The same with the token, where that is measured.
    pub bare: Option<Echo>,
    pub bridge: Bridge,
    pub token: Token,
    pub pace: Pace,
    /// Threads that call the token directly, at most: where it computes, more than there are processors bring nothing.
    pub threads: usize,
}

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub rounds: usize,
    pub slice: Duration,
}

/// What came of one request.
pub struct Measured {
    pub ask: Ask,
    pub connections: usize,
    pub direct: Option<Slices>,
    pub echo: Slices,
    pub bare: Option<Slices>,
    pub bridge: Slices,
    /// Processor time of the bridge for each item, in microseconds.
    pub cpu: f64,
}

impl Trio {
    pub fn start(module: &Path, token: Token, bridge: Bridge, environment: &[(&str, &Path)], pace: Pace) -> Trio {
        let direct = Direct::start(module, &token, environment);
        let echo = Echo::start(&bridge.certificate());
        let threads = thread::available_parallelism().map_or(2, usize::from);
        Trio { direct, echo, bare: None, bridge, token, pace, threads }
    }

    /// Measures from now on what both limits together allow.
    pub fn with_bare(mut self, module: &Path) -> Trio {
        self.bare = Some(Echo::start_with(&self.bridge.certificate(), module, &self.token));
        self
    }

    pub fn tls(&self, resumes: bool) -> Arc<ClientConfig> {
        link::tls(&self.bridge.certificate(), resumes)
    }

    /// Has so many connections make the request over and over, and their counterparts do the same.
    pub fn measure(&mut self, ask: &Ask, connections: usize) -> Measured {
        let tls = self.tls(true);
        let open = |address| (0..connections).map(|_| Link::open(address, &tls).expect("a connection")).collect();
        let mut links: Vec<Link> = open(self.bridge.address);
        let mut answer_len = 0;
        for link in &mut links {
            let answer = link.exchange(&ask.message).expect("an answer");
            assert!(is_success(answer, ask.items), "{} is refused: {:02x?}", ask.name, answer);
            answer_len = answer.len();
        }
        let mut echoes: Vec<Link> = open(self.echo.address);
        let mut bares: Option<Vec<Link>> = self.bare.as_ref().map(|bare| open(bare.address));
        let request = echo::request(ask.message.len(), answer_len, ask.direct.as_ref());
        let mut measured = Measured {
            ask: ask.clone(),
            connections,
            direct: ask.direct.as_ref().map(|_| Slices::default()),
            echo: Slices::default(),
            bare: bares.as_ref().map(|_| Slices::default()),
            bridge: Slices::default(),
            cpu: 0.0,
        };
        // A tenth before it counts, for everything to be warm.
        let slice = self.pace.slice;
        drive(&mut links, &ask.message, ask.items, slice / 10);
        let before = process::cpu(self.bridge.pid());
        for _ in 0..self.pace.rounds {
            if let (Some(slices), Some(operation)) = (&mut measured.direct, &ask.direct) {
                slices.0.push(self.direct.run(operation, connections.min(self.threads), slice));
            }
            measured.echo.0.push(drive(&mut echoes, &request, 0, slice));
            if let (Some(slices), Some(bares)) = (&mut measured.bare, &mut bares) {
                slices.0.push(drive(bares, &request, 0, slice));
            }
            measured.bridge.0.push(drive(&mut links, &ask.message, ask.items, slice));
        }
        let cpu = process::cpu(self.bridge.pid()) - before;
        measured.cpu = cpu.as_secs_f64() * 1e6 / (measured.bridge.operations() * ask.items) as f64;
        measured
    }
}

/// Has each connection make the request over and over for so long.
pub fn drive(links: &mut [Link], request: &[u8], items: usize, duration: Duration) -> Slice {
    let ready = Barrier::new(links.len());
    let slices = thread::scope(|scope| {
        let ready = &ready;
        let work = |link| scope.spawn(move || drive_one(link, request, items, duration, ready));
        let threads: Vec<_> = links.iter_mut().map(work).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread that works")).collect::<Vec<_>>()
    });
    Slice::side_by_side(slices)
}

fn drive_one(link: &mut Link, request: &[u8], items: usize, duration: Duration, ready: &Barrier) -> Slice {
    ready.wait();
    Slice::repeat(duration, || link.exchange(request).is_ok_and(|answer| items == 0 || is_success(answer, items)))
}

/// Has so many threads connect, ask once if there is a request, and close, over and over.
pub fn reconnect(
    address: SocketAddr,
    tls: &Arc<ClientConfig>,
    ask: Option<(&[u8], usize)>,
    duration: Duration,
) -> Slice {
    Slice::repeat(duration, || {
        let Ok(mut link) = Link::open(address, tls) else { return false };
        let Some((request, items)) = ask else { return true };
        link.exchange(request).is_ok_and(|answer| items == 0 || is_success(answer, items))
    })
}
