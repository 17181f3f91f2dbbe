//! The soak: clients of every kind for a while, with faults of the module injected at random, and then the accounts: nothing is
//! left over, what was acknowledged is there, what was refused is not, and no key is half made.
//!
//! A program of its own, since it is run for seconds with the other tests and for as long as wanted by `make soak`:
//! `SOAK_SECONDS` says how long, `SOAK_SEED` repeats a run's choices.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};
use std::{env, thread};

use support::bridge::Options;
use support::key::{KeyPair, ecdsa_sha_256, sign_item, unique_identifier};
use support::message::name_attribute;
use support::tags::{self, operation, reason};
use support::{Bridge, Client, Faulty, Item, KeySpec, Token, until};

const CLIENTS: usize = 6;

/// One for each client, one for who looks on, and one that keeps the login.
const SESSIONS: u64 = CLIENTS as u64 + 2;

const PATIENCE: Duration = Duration::from_secs(60);

/// What memory may grow by, in KiB: the facts of the keys made are remembered.
const SLACK: u64 = 16 * 1024;

/// Calls that are made to fail, before they have done anything or after it. Not among them is C_GetAttributeValue: an object that cannot be
/// read is left out of what a search finds, by design.
const FAILING: [&str; 8] = [
    "C_Sign",
    "C_SignInit",
    "C_FindObjectsInit",
    "C_FindObjects",
    "C_GenerateKeyPair",
    "C_SetAttributeValue",
    "C_DestroyObject",
    "C_Login",
];
const HANGING: [&str; 4] = ["C_Sign", "C_FindObjectsInit", "C_GenerateKeyPair", "C_DestroyObject"];
const ERRORS: [&str; 6] = [
    "CKR_DEVICE_ERROR",
    "CKR_GENERAL_ERROR",
    "CKR_FUNCTION_FAILED",
    "CKR_HOST_MEMORY",
    "CKR_SESSION_HANDLE_INVALID",
    "CKR_TOKEN_RESOURCE_EXCEEDED",
];
const EVENTS: [&str; 3] = ["close-sessions", "logout", "reconnect"];

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
    /// CKA_IDs of pairs whose private half was destroyed, and not the public one.
    halved: Vec<String>,
    /// CKA_IDs of pairs whose destruction may have been done: nobody knows, and the client was told so.
    doubtful: Vec<String>,
    /// Names of keys whose making was refused.
    refused: Vec<String>,
    /// Names of keys that may have been made: the client was told that nobody knows.
    unknown: Vec<String>,
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
    if answer.message.as_deref().is_some_and(|message| message.contains("the HSM is ")) {
        // Away: as any client would.
        thread::sleep(Duration::from_millis(20));
    }
    answer
}

/// Whether the answer says that nobody knows whether it was done. All else that is refused was not.
fn is_unknown(answer: &support::Answer) -> bool {
    answer.message.as_deref().is_some_and(|message| message.contains("is not known"))
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
            assert_ne!(answer.reason, Some(reason::ITEM_NOT_FOUND), "a key that is there");
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
            } else if is_unknown(&answer) {
                accounts.unknown.push(name);
            } else {
                accounts.refused.push(name);
            }
            continue;
        }
        let at = random.below(accounts.live.len());
        let (pair, name) = accounts.live[at].clone();
        match choice {
            8..15 => {
                let destroy = |id: &str| Item::new(operation::DESTROY, vec![unique_identifier(id)]);
                let id = cka_id(&pair.private);
                let answer = ask(bridge, token, &mut client, destroy(&pair.private));
                if !did(&answer) && !is_unknown(&answer) {
                    continue;
                }
                accounts.live.swap_remove(at);
                if is_unknown(&answer) {
                    accounts.doubtful.push(id);
                    continue;
                }
                let answer = ask(bridge, token, &mut client, destroy(&pair.public));
                match did(&answer) {
                    true => accounts.destroyed.push(id),
                    false if is_unknown(&answer) => accounts.doubtful.push(id),
                    false => accounts.halved.push(id),
                }
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

/// Puts another fault in force now and then, each kind before any comes again; none at the end.
fn inject(faulty: &Faulty, mut random: Random, over: &AtomicBool) {
    let mut round = 0;
    let mut deck: Vec<u32> = Vec::new();
    while !over.load(Ordering::Relaxed) {
        round += 1;
        if deck.is_empty() {
            deck = (0..9).collect();
        }
        let kind = deck.swap_remove(random.below(deck.len()));
        let mut one_of = |all: &[&'static str]| all[random.below(all.len())];
        let (error, event, shows) = (one_of(&ERRORS), one_of(&EVENTS), one_of(&["absent", "error"]));
        let (any, hanging) = (one_of(&FAILING), one_of(&HANGING));
        let strikes = format!("chance = 0.1\nseed = {}\narm = {round}", random.below(1 << 30));
        let (control, lasts) = match kind {
            0 => (String::new(), 100),
            1 => (format!("[[fault]]\nfunctions = \"{any}\"\n{strikes}\ndelay-ms = 20.0\n"), 100),
            // Longer than a call may take.
            2 => (format!("[[fault]]\nfunctions = \"{hanging}\"\nhang = true\nnext = 1\narm = {round}\n"), 1600),
            // Before only: nobody could close a session that was opened and not told of.
            3 => (format!("[[fault]]\nfunctions = \"C_OpenSession\"\n{strikes}\nrv = \"{error}\"\n"), 100),
            4 => (format!("[[fault]]\nfunctions = \"{any}\"\nquery = false\n{strikes}\nrv = \"{error}\"\n"), 200),
            // The work is done, and the answer lost.
            5 => {
                let answer = format!("query = false\nafter = true\n{strikes}\nrv = \"{error}\"\n");
                (format!("[[fault]]\nfunctions = [\"{any}\", \"C_GenerateKeyPair\"]\n{answer}"), 300)
            }
            6 => (
                format!(
                    "[[fault]]\nfunctions = [\"{any}\", \"C_GetAttributeValue\"]\n{strikes}\nevents = \"{event}\"\n"
                ),
                200,
            ),
            7 => (
                format!(
                    "[[fault]]\nfunctions = [\"{any}\", \"C_GetAttributeValue\"]\nafter = true\n{strikes}\nevents = \"{event}\"\n"
                ),
                200,
            ),
            _ => (format!("[token]\naway = true\naway-shows = \"{shows}\"\n"), 200),
        };
        faulty.play(&control);
        thread::sleep(Duration::from_millis(lasts));
        if kind == 8 {
            // It is looked for every second.
            faulty.play("");
            thread::sleep(Duration::from_millis(1100));
        }
    }
    faulty.play("");
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

/// Runs for `duration`, and holds the accounts against the token.
fn soak(what: &str, with_faults: bool, seed: u64, duration: Duration) {
    let (token, faulty) = (Token::create(), Faulty::new());
    // A log of everything would fill the disk of a long run.
    let log_level = (duration > Duration::from_secs(10)).then_some("info");
    let deadlines = if with_faults { "call-timeout = 1\ngenerate-timeout = 1\n" } else { "" };
    let pkcs11 = format!("{deadlines}max-sessions = {SESSIONS}");
    let bridge = Bridge::start_with(&token, Options { log_level, pkcs11, ..faulty.options() });
    let mut warm = Client::connect(&bridge, &token);
    let pair = warm.create_key_pair(&KeySpec::ecdsa(256).named("warm"));
    warm.sign(&pair.private, ecdsa_sha_256(), b"warm");
    let (before, memory) = (held(&bridge), bridge.resident());
    let (over, faults_over) = (AtomicBool::new(false), AtomicBool::new(false));
    let accounts: Vec<Accounts> = thread::scope(|scope| {
        let (bridge, token, faulty, over, faults_over) = (&bridge, &token, &faulty, &over, &faults_over);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let random = Random(seed.wrapping_add(number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
                scope.spawn(move || work(bridge, token, number, random, over))
            })
            .collect();
        let faults = with_faults.then(|| scope.spawn(move || inject(faulty, Random(seed | 1), faults_over)));
        let end = Instant::now() + duration;
        while Instant::now() < end && !clients.iter().any(|client| client.is_finished()) {
            thread::sleep(Duration::from_millis(20));
        }
        over.store(true, Ordering::Relaxed);
        // What is wrong with one client has to end the faults too.
        let accounts: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
        faults_over.store(true, Ordering::Relaxed);
        faults.into_iter().for_each(|faults| faults.join().expect("the faults end"));
        accounts.into_iter().map(|accounts| accounts.expect("a client ends well")).collect()
    });

    // As if nothing had been.
    until("it is served", || warm.call(sign_item(&pair.private, ecdsa_sha_256(), b"warm")).status == 0);
    // Descriptors of sessions are not counted: SoftHSM's have none of their own.
    let since = Instant::now();
    while held(&bridge) != before {
        assert!(since.elapsed() < PATIENCE, "descriptors and threads: {:?}, before {before:?}", held(&bridge));
        thread::sleep(Duration::from_millis(20));
    }
    // Some stay open for the next requests.
    let since = Instant::now();
    let sessions = loop {
        let open = faulty.count("sessions");
        if open <= SESSIONS {
            break open;
        }
        assert!(since.elapsed() < PATIENCE, "sessions are not closed that nobody can use: {open} are open");
        thread::sleep(Duration::from_millis(20));
    };
    let grown = bridge.resident().saturating_sub(memory);
    assert!(grown < SLACK, "{grown} KiB more");
    if !with_faults {
        // SoftHSM fails to make a key now and then while others look for objects.
        let its_own = |error: &&String| error.contains("C_GenerateKeyPair: CKR_GENERAL_ERROR");
        let first = accounts.iter().flat_map(|client| &client.errors).find(|error| !its_own(error));
        assert_eq!(first, None, "an error without a fault");
    }
    let objects = objects(&token);
    // What SoftHSM leaves of a key that it began to make while another session searched: that is prevented, but where the key takes
    // so long that searches no longer wait for it.
    let log = bridge.log();
    let broken_off = log.matches("C_GenerateKeyPair: CKR_GENERAL_ERROR").count();
    let nameless = objects.get("").map_or(0, Vec::len);
    assert!(nameless <= if with_faults { broken_off } else { 0 }, "{nameless} objects without an identifier");
    balance(&accounts, &objects, &cka_id(&pair.private), &log.to_lowercase());
    let (status, log) = bridge.stop();
    assert!(status.success() && !log.contains("panic"), "{status}");
    let sum = |of: fn(&Accounts) -> usize| accounts.iter().map(of).sum::<usize>();
    println!(
        "soak, {what}: {} requests, {} refused, {} pairs made, {} destroyed, {} of which nobody knows, {sessions} sessions, \
         {grown} KiB more",
        sum(|client| client.answers),
        sum(|client| client.errors.len()),
        sum(|client| client.live.len() + client.destroyed.len() + client.halved.len() + client.doubtful.len()),
        sum(|client| client.destroyed.len()),
        sum(|client| client.doubtful.len() + client.unknown.len()),
    );
}

fn balance(accounts: &[Accounts], objects: &BTreeMap<String, Vec<String>>, warm: &str, log: &str) {
    let labels: Vec<&String> = objects.values().flatten().collect();
    let halves_of = |id: &str| objects.get(id).map_or(0, Vec::len);
    let mut known = BTreeSet::from([warm.to_string()]);
    for client in accounts {
        for (pair, name) in &client.live {
            assert_eq!(halves_of(&cka_id(&pair.private)), 2, "{name} was acknowledged");
        }
        for id in &client.destroyed {
            assert_eq!(halves_of(id), 0, "{id} was destroyed");
        }
        for id in &client.halved {
            assert_eq!(halves_of(id), 1, "the private half of {id} was destroyed, the public one was not");
        }
        for name in &client.refused {
            let halves = [format!("{name}-pri"), format!("{name}-pub")];
            assert!(!labels.iter().any(|label| halves.contains(label)), "{name} was refused");
        }
        known.extend(client.live.iter().map(|(pair, _)| cka_id(&pair.private)));
        known.extend(client.halved.iter().chain(&client.doubtful).cloned());
    }
    // Of the others nobody was told the identifier. They were asked for, and the log says that they are left.
    for (id, labels) in objects.iter().filter(|(id, _)| !id.is_empty() && !known.contains(*id)) {
        let is_asked_for = |label: &String| {
            let name = label.trim_end_matches("-pri").trim_end_matches("-pub");
            accounts.iter().any(|client| client.unknown.iter().any(|unknown| unknown == name))
        };
        assert!(labels.iter().all(is_asked_for), "{id} was asked for by nobody: {labels:?}");
        assert!(log.contains(id.as_str()), "the log does not tell of {id}, which is left: {labels:?}");
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
    let duration = Duration::from_secs(number("SOAK_SECONDS").unwrap_or(9)) / 3;
    println!("SOAK_SEED={seed}");
    soak("without faults", false, seed, duration);
    soak("with faults", true, seed, duration * 2);
    // A run that fails panics.
    println!("soak: 2 passed, 0 failed");
}
