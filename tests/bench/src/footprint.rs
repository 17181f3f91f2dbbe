//! What the bridge takes of the machine: memory, threads, the file; how soon it answers; what it asks of the module.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use crate::direct::Direct;
use crate::link::{self, Link};
use crate::process;
use crate::report::Report;
use crate::requests::{Ask, Asks, Kind, is_success};
use crate::rounds::drive;
use crate::samples::median;
use crate::support::scratch::Scratch;
use crate::support::{Bridge, Options, Token, faulty_module, program, start};

const SECTION: &str = "footprint";

/// When all connections that are idle rest: they do after a second.
const RESTED: Duration = Duration::from_secs(3);

pub fn run(report: &mut Report) {
    file(report);
    first_answer(report);
    idle_connections(report);
    calls(report);
}

fn file(report: &mut Report) {
    let bytes = fs::metadata(program()).expect("the program").len();
    let mib = bytes as f64 / f64::from(1 << 20);
    report.row(SECTION, "the program", &[("MiB", mib)]);
    report.at_most("binary, stripped", "MiB", mib, 2.5);
}

/// How soon there is an answer, and what stands in memory then, beside a program that does no more than C_Initialize.
fn first_answer(report: &mut Report) {
    let token = Token::create();
    let (mut first, mut initialized, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..7 {
        let direct = Direct::start(&Token::module(), &token, &[]);
        initialized.push(direct.started.as_secs_f64() * 1000.0);
        theirs.push(process::resident(direct.pid()));
        let since = Instant::now();
        let bridge = start(&token, Options::default());
        let resident = process::resident(bridge.pid());
        let query = Asks::without_keys(&token).query();
        let mut link = Link::open(bridge.address, &link::tls(&bridge.certificate(), false)).expect("a connection");
        assert!(is_success(link.exchange(&query.message).expect("an answer"), 1), "Query is refused");
        first.push(since.elapsed().as_secs_f64() * 1000.0);
        ours.push(resident);
    }
    let [first, initialized, ours, theirs] = [first, initialized, ours, theirs].map(median);
    report.row(SECTION, "start to first answer", &[("ms", first), ("C_Initialize", initialized)]);
    report.at_most("start to first answer, beyond C_Initialize", "ms", first - initialized, 50.0);
    report.row(SECTION, "resident after start", &[("MiB", ours / 1024.0), ("direct MiB", theirs / 1024.0)]);
    report.at_most("resident after start, beyond direct", "MiB", (ours - theirs) / 1024.0, 2.0);
}

fn idle_connections(report: &mut Report) {
    let token = Token::create();
    let server = ["max-connections = 20000", "max-connections-per-peer = 20000", "idle-timeout = 3600"].join("\n");
    let bridge = start(&token, Options { server, ..Options::default() });
    let asks = Asks::make(&bridge, &token, &[Kind::P256]);
    let (query, sign) = (asks.query(), asks.sign(Kind::P256, 1));
    let tls = link::tls(&bridge.certificate(), false);
    cascade_hsm_bridge::sys::allow_descriptors(20_000).expect("a limit of open files");
    let mut links: Vec<Link> = (0..8).map(|_| Link::open(bridge.address, &tls).expect("a connection")).collect();
    drive(&mut links, &sign.message, 1, Duration::from_secs(2));
    drop(links);
    wait_for_threads(&bridge, 8);
    let load = [("MiB", process::resident(bridge.pid()) / 1024.0), ("threads", process::threads(bridge.pid()))];
    report.row(SECTION, "after load, eight connections", &load);
    let mut links = Vec::new();
    for count in [1000, 10_000] {
        let before = (links.len(), process::resident(bridge.pid()));
        while links.len() < count {
            let mut link = Link::open(bridge.address, &tls).expect("a connection");
            ask(&mut link, &query);
            links.push(link);
        }
        let opened = (links.len() - before.0) as f64;
        let each = |before: f64| {
            std::thread::sleep(RESTED);
            (process::resident(bridge.pid()) - before) / opened
        };
        let asked = each(before.1);
        links[before.0..].iter_mut().for_each(|link| ask(link, &sign));
        let signed = each(before.1);
        let threads = process::threads(bridge.pid());
        let values = [("KiB each", asked), ("having signed", signed), ("threads", threads)];
        report.row(SECTION, format!("{count} idle connections"), &values);
        if count == 10_000 {
            report.at_most("each of 10,000 idle connections", "KiB", asked, 24.0);
            report.at_most("each of 10,000 idle connections that have signed", "KiB", signed, 24.0);
        }
    }
    links.iter_mut().for_each(|link| ask(link, &sign));
    report.row(SECTION, "all of them answered again", &[("connections", links.len() as f64)]);
}

fn ask(link: &mut Link, ask: &Ask) {
    let answer = link.exchange(&ask.message).expect("an answer");
    assert!(is_success(answer, ask.items), "{} is refused", ask.name);
}

/// Waits until no more than so many threads are left.
fn wait_for_threads(bridge: &Bridge, threads: usize) {
    let since = Instant::now();
    while bridge.threads() > threads && since.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The calls to the module that a signature makes on a connection that has made some.
fn calls(report: &mut Report) {
    const SIGNATURES: usize = 1000;
    let (token, directory) = (Token::create(), Scratch::new("calls"));
    let counts = directory.path().join("counts");
    let environment = vec![("FAULTY_MODULE", Token::module()), ("FAULTY_COUNTS", counts.clone())];
    let bridge = start(&token, Options { module: Some(faulty_module()), environment, ..Options::default() });
    let sign = Asks::make(&bridge, &token, &[Kind::P256]).sign(Kind::P256, 1);
    let mut link = Link::open(bridge.address, &link::tls(&bridge.certificate(), false)).expect("a connection");
    ask(&mut link, &sign);
    let read = || {
        let text = fs::read_to_string(&counts).expect("the counts");
        let lines = text.lines().filter_map(|line| line.split_once('='));
        let lines = lines.filter(|(name, _)| name.starts_with("C_"));
        lines.map(|(name, count)| (name.trim().to_owned(), count.trim().parse().expect("a number"))).collect()
    };
    let before: BTreeMap<String, u64> = read();
    (0..SIGNATURES).for_each(|_| ask(&mut link, &sign));
    let after: BTreeMap<String, u64> = read();
    let mut others = 0.0;
    for (name, count) in &after {
        let each = (count - before[name]) as f64 / SIGNATURES as f64;
        if each > 0.0 {
            report.row(SECTION, format!("{name} for a signature"), &[("calls", each)]);
        }
        if !["C_SignInit", "C_Sign"].contains(&name.as_str()) {
            others += each;
        }
    }
    report.at_most("calls for a signature beside C_SignInit and C_Sign", "", others, 0.0);
}
