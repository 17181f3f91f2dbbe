//! The soak: clients of every kind for a while, with faults of the module injected at random, and then the accounts: nothing is
//! left over, what was acknowledged is there, what was refused is not, and no key is half made.
//!
//! A program of its own, since it is run for seconds with the other tests and for as long as wanted by `make soak`:
//! `SOAK_SECONDS` says how long, `SOAK_SEED` repeats a run's choices.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs, thread};

use support::bridge::Options;
use support::key::{KeyPair, ecdsa_sha_256, sign_item, unique_identifier};
use support::message::name_attribute;
use support::scratch::Scratch;
use support::tags::{self, operation};
use support::{Bridge, Client, Item, KeySpec, Token};

const CLIENTS: usize = 6;
const PATIENCE: Duration = Duration::from_secs(60);

/// What memory may grow by, in KiB: the facts of the keys made are remembered.
const SLACK: u64 = 16 * 1024;

/// Calls that are made to fail, and how. Each fails before it does anything.
const FAILING: [&str; 6] =
    ["C_Sign", "C_SignInit", "C_FindObjectsInit", "C_GenerateKeyPair", "C_SetAttributeValue", "C_OpenSession"];
const HANGING: [&str; 4] = ["C_Sign", "C_FindObjectsInit", "C_GenerateKeyPair", "C_DestroyObject"];
const ERRORS: [&str; 4] = ["CKR_DEVICE_ERROR", "CKR_GENERAL_ERROR", "CKR_FUNCTION_FAILED", "CKR_HOST_MEMORY"];

/// Random numbers that a seed repeats (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).expect("31 bits") % end
    }
}

/// What became of the keys of one client, by what it was told.
#[derive(Default)]
struct Accounts {
    live: Vec<(KeyPair, String)>,
    /// CKA_IDs of pairs both of whose halves were destroyed.
    destroyed: Vec<String>,
    /// CKA_IDs of pairs of which a destruction was refused: it may have been done.
    doubtful: Vec<String>,
    /// Names of keys whose making was refused.
    refused: Vec<String>,
    answers: usize,
    errors: Vec<String>,
}

/// The CKA_ID in a Unique Identifier, in pkcs11-tool's spelling.
fn cka_id(identifier: &str) -> String {
    identifier.split_once('_').expect("a suffix").0.to_lowercase()
}

/// Sends one item. Where its call hung, the bridge has closed the connection after the answer, and there has to be a new one.
fn ask(bridge: &Bridge, token: &Token, client: &mut Client, item: Item) -> support::Answer {
    let answer = client.call(item);
    if answer.message.as_deref().is_some_and(|message| message.contains("has not answered in time")) {
        assert!(client.is_closed(), "a request whose call hangs is the last of its connection");
        *client = Client::connect(bridge, token);
    }
    answer
}

fn work(bridge: &Bridge, token: &Token, number: usize, mut random: Random, over: &AtomicBool) -> Accounts {
    let mut accounts = Accounts::default();
    let mut client = Client::connect(bridge, token);
    let mut made = 0;
    while !over.load(Ordering::Relaxed) {
        let choice = random.below(100);
        accounts.answers += 1;
        let mut did = |answer: &support::Answer| {
            if answer.status != 0 {
                accounts.errors.push(format!("{answer:?}"));
            }
            answer.status == 0
        };
        if accounts.live.is_empty() || choice < 8 {
            made += 1;
            let name = format!("soak-{number}-{made}");
            let answer = ask(bridge, token, &mut client, KeySpec::ecdsa(256).named(&name).item());
            if did(&answer) {
                let id = |tag| answer.payload().child(tag).as_text().to_string();
                let pair = KeyPair {
                    private: id(tags::PRIVATE_KEY_UNIQUE_IDENTIFIER),
                    public: id(tags::PUBLIC_KEY_UNIQUE_IDENTIFIER),
                };
                accounts.live.push((pair, name));
            } else {
                accounts.refused.push(name);
            }
            continue;
        }
        let at = random.below(accounts.live.len());
        let (pair, name) = accounts.live[at].clone();
        match choice {
            8..15 => {
                accounts.live.swap_remove(at);
                let destroy = |id: &str| Item::new(operation::DESTROY, vec![unique_identifier(id)]);
                let private = did(&ask(bridge, token, &mut client, destroy(&pair.private)));
                let gone = private && did(&ask(bridge, token, &mut client, destroy(&pair.public)));
                let id = cka_id(&pair.private);
                if gone { accounts.destroyed.push(id) } else { accounts.doubtful.push(id) }
            }
            15..20 => drop(did(&ask(
                bridge,
                token,
                &mut client,
                Client::rename_item(&pair.private, &format!("{name}-renamed")),
            ))),
            20..28 => drop(did(&ask(
                bridge,
                token,
                &mut client,
                Item::new(operation::GET, vec![unique_identifier(&pair.public)]),
            ))),
            28..33 => {
                let item = Item::new(operation::LOCATE, vec![name_attribute(&format!("{name}-pub"))]);
                let answer = ask(bridge, token, &mut client, item);
                if did(&answer) {
                    let found = answer.payload().all(tags::UNIQUE_IDENTIFIER);
                    assert!(found.iter().any(|id| id.as_text() == pair.public), "{} is not found", pair.public);
                }
            }
            33..36 => client = Client::connect(bridge, token),
            _ => drop(did(&ask(
                bridge,
                token,
                &mut client,
                sign_item(&pair.private, ecdsa_sha_256(), &accounts.answers.to_be_bytes()),
            ))),
        }
    }
    accounts
}

/// Puts another fault in force now and then; none at the end.
fn inject(control: &Path, mut random: Random, over: &AtomicBool) {
    let mut round = 0;
    let put = |text: &str| {
        let new = control.with_extension("new");
        fs::write(&new, text).and_then(|()| fs::rename(&new, control)).expect("the control file");
    };
    while !over.load(Ordering::Relaxed) {
        round += 1;
        let function = FAILING[random.below(FAILING.len())];
        let error = ERRORS[random.below(ERRORS.len())];
        let seed = random.below(1 << 30);
        let kind = random.below(12);
        put(&match kind {
            0..3 => String::new(),
            3..6 => format!(
                "[[fault]]\nfunctions = \"{function}\"\nchance = 0.2\nseed = {seed}\ndelay-ms = 20.0\narm = {round}\n"
            ),
            6 => {
                let function = HANGING[random.below(HANGING.len())];
                format!("[[fault]]\nfunctions = \"{function}\"\nhang = true\nnext = 1\narm = {round}\n")
            }
            _ => format!(
                "[[fault]]\nfunctions = \"{function}\"\nquery = false\nchance = 0.1\nseed = {seed}\nrv = \"{error}\"\narm = {round}\n"
            ),
        });
        // What hangs does so for longer than a call may take.
        thread::sleep(Duration::from_millis(if kind == 6 { 1600 } else { 100 }));
    }
    put("");
}

/// Labels of the token's objects by CKA_ID.
fn objects(token: &Token) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for object in token.objects() {
        let field = |name: &str| {
            let line = object.lines().find_map(|line| line.trim().strip_prefix(name));
            line.map(|value| value.trim().to_string()).unwrap_or_default()
        };
        found.entry(field("ID:").to_lowercase()).or_default().push(field("label:"));
    }
    found
}

fn held(bridge: &Bridge) -> (usize, usize) {
    (bridge.descriptors(), bridge.threads())
}

/// Runs for `duration` and holds the accounts against the token.
fn soak(what: &str, options: Options, control: Option<&Path>, seed: u64, duration: Duration) {
    let token = Token::create();
    // A log of everything would fill the disk of a long run.
    let log_level = (duration > Duration::from_secs(10)).then_some("info");
    let bridge = Bridge::start_with(&token, Options { log_level, ..options });
    let mut warm = Client::connect(&bridge, &token);
    let pair = warm.create_key_pair(&KeySpec::ecdsa(256).named("warm"));
    warm.sign(&pair.private, ecdsa_sha_256(), b"warm");
    let (before, memory) = (held(&bridge), bridge.resident());
    let (over, faults_over) = (AtomicBool::new(false), AtomicBool::new(false));
    let accounts: Vec<Accounts> = thread::scope(|scope| {
        let (bridge, token, over, faults_over) = (&bridge, &token, &over, &faults_over);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let random = Random(seed.wrapping_add(number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
                scope.spawn(move || work(bridge, token, number, random, over))
            })
            .collect();
        let faults = control.map(|control| scope.spawn(move || inject(control, Random(seed | 1), faults_over)));
        let until = Instant::now() + duration;
        while Instant::now() < until && !clients.iter().any(|client| client.is_finished()) {
            thread::sleep(Duration::from_millis(20));
        }
        over.store(true, Ordering::Relaxed);
        let accounts = clients.into_iter().map(|client| client.join().expect("a client ends well")).collect();
        faults_over.store(true, Ordering::Relaxed);
        faults.into_iter().for_each(|faults| faults.join().expect("the faults end"));
        accounts
    });

    warm.sign(&pair.private, ecdsa_sha_256(), b"as if nothing had been");
    // Sessions stay open for the next request, and SoftHSM's have no descriptors of their own.
    let since = Instant::now();
    while held(&bridge) != before {
        assert!(since.elapsed() < PATIENCE, "descriptors and threads: {:?}, before {before:?}", held(&bridge));
        thread::sleep(Duration::from_millis(20));
    }
    let grown = bridge.resident().saturating_sub(memory);
    assert!(grown < SLACK, "{grown} KiB more");
    if control.is_none() {
        // SoftHSM fails to make a key now and then while others look for objects.
        let its_own = |error: &&String| error.contains("C_GenerateKeyPair: CKR_GENERAL_ERROR");
        let first = accounts.iter().flat_map(|client| &client.errors).find(|error| !its_own(error));
        assert_eq!(first, None, "an error without a fault");
    }
    let objects = objects(&token);
    // What SoftHSM leaves of a key that it began to make while another session searched.
    assert_eq!(objects.get(""), None, "objects without an identifier");
    balance(&accounts, &objects);
    let sum = |of: fn(&Accounts) -> usize| accounts.iter().map(of).sum::<usize>();
    println!(
        "soak, {what}: {} requests, {} refused, {} pairs made, {} destroyed, {grown} KiB more",
        sum(|client| client.answers),
        sum(|client| client.errors.len()),
        sum(|client| client.live.len() + client.destroyed.len() + client.doubtful.len()),
        sum(|client| client.destroyed.len()),
    );
    let (status, log) = bridge.stop();
    assert!(status.success() && !log.contains("panic"), "{status}");
}

fn balance(accounts: &[Accounts], objects: &BTreeMap<String, Vec<String>>) {
    let labels: Vec<&String> = objects.values().flatten().collect();
    for client in accounts {
        for (pair, name) in &client.live {
            let halves = objects.get(&cka_id(&pair.private)).map_or(0, Vec::len);
            assert_eq!(halves, 2, "{name} was acknowledged");
        }
        for id in &client.destroyed {
            assert!(!objects.contains_key(id), "{id} was destroyed");
        }
        for name in &client.refused {
            let halves = [format!("{name}-pri"), format!("{name}-pub")];
            assert!(!labels.iter().any(|label| halves.contains(label)), "{name} was refused");
        }
    }
    for (id, labels) in objects {
        let doubtful = accounts.iter().any(|client| client.doubtful.contains(id));
        assert!(labels.len() == 2 || doubtful, "{id} is half made: {labels:?}");
    }
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is not a number")))
}

fn main() {
    // As the other tests are chosen by name, so is this one.
    let mut names = env::args().skip(1).filter(|argument| !argument.starts_with('-')).peekable();
    if env::args().any(|argument| argument == "--list")
        || (names.peek().is_some() && !names.any(|name| "soak".contains(&name)))
    {
        return;
    }
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970");
    let seed = number("SOAK_SEED").unwrap_or(since_1970.as_secs());
    let duration = Duration::from_secs(number("SOAK_SECONDS").unwrap_or(6)) / 2;
    println!("SOAK_SEED={seed}");
    soak("without faults", Options::default(), None, seed, duration);
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faulty-module/target/debug/libfaulty_module.so");
    if !module.exists() {
        println!("soak: no faults injected, as {} is not built", module.display());
        println!("soak: 1 passed, 0 failed, 1 skipped");
        return;
    }
    let directory = Scratch::new("soak");
    let control: PathBuf = directory.file("control", "");
    let environment = vec![("FAULTY_MODULE", Token::module()), ("FAULTY_CONTROL", control.clone())];
    let pkcs11 = "call-timeout = 1\ngenerate-timeout = 1".to_string();
    let options = Options { module: Some(module), environment, pkcs11, ..Options::default() };
    soak("with faults", options, Some(&control), seed, duration);
    // A run that fails panics.
    println!("soak: 2 passed, 0 failed");
}
