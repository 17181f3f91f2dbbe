//! The life of a key on every module that the faulty module has a profile of: made, read, activated, renamed, signed with,
//! revoked and destroyed in the way of the Cascade signer, in a token that behaves as that vendor's.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, thread};

use support::key::{KeyPair, ecdsa_sha_256, parameters, public_key, rsa_sha_256, sign_item, unique_identifier};
use support::message::name_attribute;
use support::openssl::{PublicKey, Scheme};
use support::tags::{self, algorithm, object_type, operation, reason, state};
use support::ttlv::{Node, Value};
use support::{Bridge, Client, Faulty, Hsm, Item, KeySpec, Profile, Token, until};

/// What is done with each module, in this order.
const CASES: [Case; 11] = [
    Case { name: "strangers_stay_out", needs: "", play: strangers },
    Case { name: "rsa_2048", needs: RSA, play: |stage| stage.life(&Algorithm::rsa()) },
    Case { name: "ecdsa_p256", needs: "ECDSA-KEY-PAIR-GEN", play: |stage| stage.life(&Algorithm::ecdsa()) },
    Case { name: "ed25519", needs: "EC-EDWARDS-KEY-PAIR-GEN", play: |stage| stage.life(&Algorithm::ed25519()) },
    Case { name: "random", needs: "", play: random },
    Case { name: "the_public_half_goes_first", needs: "", play: Stage::public_first },
    Case { name: "sizes_out_of_range_are_refused", needs: RSA, play: Stage::small_key },
    Case { name: "clients_at_once", needs: "", play: Stage::crowd },
    Case { name: "a_lost_login_is_made_anew", needs: LOGIN, play: Stage::lose_login },
    Case { name: "an_hsm_that_was_away_is_back", needs: "", play: Stage::lose_hsm },
    Case { name: "keys_outlive_the_bridge", needs: "", play: Stage::restart },
];

const RSA: &str = "RSA-PKCS-KEY-PAIR-GEN";

/// That the bridge logs in.
const LOGIN: &str = "a login";

struct Case {
    name: &'static str,
    /// The mechanism without which the token cannot do it, in pkcs11-tool's spelling; or what else it takes.
    needs: &'static str,
    play: fn(&mut Stage),
}

/// A kind of key, and how it signs.
struct Algorithm {
    spec: fn() -> KeySpec,
    parameters: fn() -> Node,
    scheme: Scheme,
}

impl Algorithm {
    fn rsa() -> Algorithm {
        Algorithm { spec: || KeySpec::rsa(2048), parameters: rsa_sha_256, scheme: Scheme::Digest("-sha256") }
    }

    fn ecdsa() -> Algorithm {
        Algorithm { spec: || KeySpec::ecdsa(256), parameters: ecdsa_sha_256, scheme: Scheme::Digest("-sha256") }
    }

    fn ed25519() -> Algorithm {
        let spec = || KeySpec::new(algorithm::ED25519, None, None);
        let parameters = || parameters(None, None, Some(algorithm::ED25519));
        Algorithm { spec, parameters, scheme: Scheme::Edwards }
    }
}

/// A bridge on a module that behaves as one vendor's.
struct Stage {
    profile: Profile,
    token: Token,
    faulty: Faulty,
    bridge: Bridge,
    mechanisms: BTreeMap<String, RangeInclusive<u64>>,
    login: (String, String),
}

impl Stage {
    fn new(profile: Profile) -> Stage {
        let token = Token::create();
        let faulty = profile.set_stage(&token);
        let mechanisms = profile.mechanisms(&faulty, &token);
        let bridge = Bridge::start_with(&token, profile.options(&faulty, &token));
        let login = profile.login(&token);
        Stage { profile, token, faulty, bridge, mechanisms, login }
    }

    fn offers(&self, what: &str) -> bool {
        match what {
            "" => true,
            LOGIN => !self.profile.needs_no_login(),
            mechanism => self.mechanisms.contains_key(mechanism),
        }
    }

    /// A client that keeps its connection, as Cascade does.
    fn cascade(&self) -> Client {
        Client::connect_as(&self.bridge, Some((&self.login.0, &self.login.1)))
    }

    /// A client of one request: dnst is one process a command.
    fn dnst(&self) -> Client {
        let mut client = self.cascade();
        client.version = (1, 0);
        client
    }

    fn create(&self, algorithm: &Algorithm) -> KeyPair {
        // The first names are 64 hexadecimal characters; the real ones need the key tag.
        let (private_name, public_name) = ("5f".repeat(32), "a0".repeat(32));
        self.dnst().create_key_pair(&KeySpec { private_name, public_name, ..(algorithm.spec)() })
    }

    fn life(&mut self, algorithm: &Algorithm) {
        let pair = self.create(algorithm);
        let key = public_key(&self.dnst().get_public(&pair.public, None));
        self.dnst().on_object(operation::ACTIVATE, &pair.private);
        self.rename(&pair);
        self.look_up(&pair);
        self.sign(&pair, algorithm, &key);

        self.cascade().revoke(&pair.private);
        self.destroy(&pair);
        self.cascade()
            .call(sign_item(&pair.private, (algorithm.parameters)(), b"late"))
            .is_refused(reason::ITEM_NOT_FOUND);
        assert_eq!(self.token.objects(), Vec::<String>::new());
    }

    /// The public key first: where a token takes no new name, that is where dnst finds out, and leaves both as they are.
    fn rename(&self, pair: &KeyPair) {
        for (id, name) in [(&pair.public, "example.org-4711-ksk-pub"), (&pair.private, "example.org-4711-ksk-pri")] {
            let before = self.cascade().name_of(id);
            let answer = self.dnst().call(Client::rename_item(id, name));
            if self.profile.keeps_labels() {
                assert!(answer.reason.is_some_and(reason::is_known_to_cascade), "{answer:?}");
                assert_eq!(self.cascade().name_of(id), before);
            } else {
                assert_eq!(answer.payload().children(), [unique_identifier(id), name_attribute(name)]);
                assert_eq!(self.cascade().name_of(id), name);
                assert_eq!(self.cascade().locate(vec![name_attribute(name)]), [id.as_str()]);
            }
        }
    }

    fn look_up(&self, pair: &KeyPair) {
        let mut client = self.cascade();
        for (id, class) in [(&pair.public, object_type::PUBLIC_KEY), (&pair.private, object_type::PRIVATE_KEY)] {
            assert_eq!(client.attribute(id, "Object Type"), Value::Enumeration(class));
            assert_eq!(client.attribute(id, "State"), Value::Enumeration(state::ACTIVE));
        }
        let mut found = client.locate(vec![]);
        let mut expected = vec![pair.public.clone(), pair.private.clone()];
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
    }

    /// Several signers at once, each with one signature after another.
    fn sign(&self, pair: &KeyPair, algorithm: &Algorithm, key: &PublicKey) {
        self.sign_with(3, pair, algorithm, key);
    }

    fn sign_with(&self, signers: usize, pair: &KeyPair, algorithm: &Algorithm, key: &PublicKey) {
        let signed: Vec<(String, Vec<u8>)> = thread::scope(|scope| {
            let signer = |number: usize| {
                let mut client = self.cascade();
                (0..5).map(move |turn| {
                    let data = format!("RRset {turn} of signer {number}");
                    let signature = client.sign(&pair.private, (algorithm.parameters)(), data.as_bytes());
                    (data, signature)
                })
            };
            let signers: Vec<_> =
                (0..signers).map(|number| scope.spawn(move || signer(number).collect::<Vec<_>>())).collect();
            signers.into_iter().flat_map(|signer| signer.join().expect("signatures")).collect()
        });
        for (data, signature) in &signed {
            assert!(key.verifies(algorithm.scheme, data.as_bytes(), signature), "{data}: {signature:02X?}");
        }
    }

    /// The private half first. Where the public one goes with it, it is destroyed all the same.
    fn destroy(&self, pair: &KeyPair) {
        for id in [&pair.private, &pair.public] {
            self.dnst().on_object(operation::DESTROY, id);
        }
        for id in [&pair.private, &pair.public] {
            let again = Item::new(operation::DESTROY, vec![unique_identifier(id)]);
            self.dnst().call(again).is_refused(reason::ITEM_NOT_FOUND);
        }
        assert_eq!(self.cascade().locate(vec![]), Vec::<String>::new());
    }

    /// As clients that know nothing of the order do it.
    fn public_first(&mut self) {
        let pair = self.create(&self.fastest());
        for id in [&pair.public, &pair.private] {
            self.dnst().on_object(operation::DESTROY, id);
        }
        assert_eq!(self.cascade().locate(vec![]), Vec::<String>::new());
        assert_eq!(self.token.objects(), Vec::<String>::new());
    }

    /// An RSA key of 1024 bits, where the token makes them; else nothing.
    fn small_key(&mut self) {
        let calls = self.faulty.count("C_GenerateKeyPair");
        let answer = self.dnst().call(KeySpec::rsa(1024).item());
        if self.mechanisms[RSA].contains(&1024) {
            let payload = answer.payload();
            for half in [tags::PRIVATE_KEY_UNIQUE_IDENTIFIER, tags::PUBLIC_KEY_UNIQUE_IDENTIFIER] {
                self.dnst().on_object(operation::DESTROY, payload.child(half).as_text());
            }
        } else {
            answer.is_refused(reason::INVALID_FIELD);
            assert_eq!(self.faulty.count("C_GenerateKeyPair"), calls, "the token was asked for what it does not offer");
        }
        assert_eq!(self.token.objects(), Vec::<String>::new());
    }

    /// The kind of key that is made fastest.
    fn fastest(&self) -> Algorithm {
        if self.offers("ECDSA-KEY-PAIR-GEN") { Algorithm::ecdsa() } else { Algorithm::rsa() }
    }

    /// Keys that are made, found, used and destroyed while others are.
    fn crowd(&mut self) {
        let algorithm = self.fastest();
        let client = |number: usize| {
            let pair = self.dnst().create_key_pair(&(algorithm.spec)().named(&format!("client-{number}")));
            let key = public_key(&self.dnst().get_public(&pair.public, None));
            self.sign_with(1, &pair, &algorithm, &key);
            for id in [&pair.private, &pair.public] {
                self.dnst().on_object(operation::DESTROY, id);
            }
        };
        thread::scope(|scope| {
            let client = &client;
            let clients: Vec<_> = (0..4).map(|number| scope.spawn(move || client(number))).collect();
            clients.into_iter().for_each(|client| client.join().expect("keys"));
        });
        assert_eq!(self.token.objects(), Vec::<String>::new());
    }

    /// A key is made, found, used and destroyed after the token logged out behind the bridge's back.
    fn lose_login(&mut self) {
        let algorithm = self.fastest();
        let lose = || self.faulty.happen("logout");
        self.cascade().locate(vec![]);
        lose();
        let pair = self.create(&algorithm);
        lose();
        let key = public_key(&self.dnst().get_public(&pair.public, None));
        lose();
        self.sign_with(1, &pair, &algorithm, &key);
        lose();
        self.destroy(&pair);
        self.faulty.play("");
    }

    /// As it shows when it is away, and comes back.
    fn lose_hsm(&mut self) {
        let algorithm = self.fastest();
        let pair = self.create(&algorithm);
        let key = public_key(&self.dnst().get_public(&pair.public, None));
        self.faulty.play("[token]\naway = true\n");
        let item = || sign_item(&pair.private, (algorithm.parameters)(), b"data");
        self.cascade().call(item()).is_refused(reason::GENERAL_FAILURE);
        self.faulty.play("");
        until("the HSM is back", || self.cascade().call(item()).status == 0);
        self.sign_with(1, &pair, &algorithm, &key);
        self.destroy(&pair);
    }

    fn restart(&mut self) {
        let algorithm = self.fastest();
        let pair = self.create(&algorithm);
        self.bridge = Bridge::start_with(&self.token, self.profile.options(&self.faulty, &self.token));
        let key = public_key(&self.dnst().get_public(&pair.public, None));
        self.sign(&pair, &algorithm, &key);
        self.destroy(&pair);
    }
}

/// Before anybody has logged in, and after.
fn strangers(stage: &mut Stage) {
    let wrong = format!("{}x", stage.login.1);
    let stranger = || {
        let mut client = Client::connect_as(&stage.bridge, Some((&stage.login.0, &wrong)));
        client.call(Item::new(operation::LOCATE, vec![])).is_refused(reason::AUTHENTICATION_NOT_SUCCESSFUL);
    };
    stranger();
    assert_eq!(stage.cascade().locate(vec![]), Vec::<String>::new());
    stranger();
}

/// Less than some tokens give in one call, and more than others do.
fn random(stage: &mut Stage) {
    let mut client = stage.cascade();
    for length in [1, 32, 1024, 1027, 5000] {
        let random = client.random(length);
        assert_eq!(random.len(), usize::try_from(length).unwrap());
        assert!(length < 32 || random.iter().any(|byte| *byte != 0));
    }
}

#[derive(Default)]
struct Tally {
    passed: AtomicUsize,
    failed: AtomicUsize,
    skipped: AtomicUsize,
}

fn main() -> ExitCode {
    // As the other tests are chosen by name, so are these; options of theirs, some of two words, are passed over.
    let mut arguments = env::args().skip(1);
    let (mut words, mut lists) = (Vec::new(), false);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--list" => lists = true,
            "--color" | "--format" | "--skip" | "--test-threads" => drop(arguments.next()),
            option if option.starts_with('-') => {}
            _ => words.push(argument),
        }
    }
    let is_chosen = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    let title = |profile: &Profile, case: &Case| format!("{}::{}", profile.name, case.name);
    let chosen = |profile: &Profile| CASES.iter().filter(|case| is_chosen(&title(profile, case))).collect::<Vec<_>>();
    if lists {
        for profile in Profile::all() {
            chosen(&profile).iter().for_each(|case| println!("{}: test", title(&profile, case)));
        }
        return ExitCode::SUCCESS;
    }
    if Hsm::chosen().is_not(Hsm::SoftHsm2, "the profiles are played over it") {
        return ExitCode::SUCCESS;
    }
    let waiting: Mutex<VecDeque<Profile>> = Mutex::new(Profile::all().into());
    let tally = Tally::default();
    let work = || {
        // Taken in a statement of its own, so that the lock is free while the profile is played.
        while let Some(profile) = { waiting.lock().unwrap().pop_front() } {
            let (name, cases) = (profile.name.clone(), chosen(&profile));
            if !cases.is_empty() {
                // A thread of that name, so that what it says of a failure says where.
                let play = || play(profile, &cases, &tally);
                thread::scope(|scope| {
                    let played = thread::Builder::new().name(name).spawn_scoped(scope, play).expect("a thread");
                    played.join().expect("failures are caught");
                });
            }
        }
    };
    thread::scope(|scope| {
        // Some of them wait most of the time, for an HSM to come back.
        for _ in 0..2 * thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(work);
        }
    });
    let count = |number: &AtomicUsize| number.load(Ordering::Relaxed);
    let failed = count(&tally.failed);
    println!("vendors: {} passed, {failed} failed, {} skipped", count(&tally.passed), count(&tally.skipped));
    ExitCode::from(u8::from(failed > 0))
}

fn play(profile: Profile, cases: &[&Case], tally: &Tally) {
    let name = profile.name.clone();
    let Ok(mut stage) = catch_unwind(AssertUnwindSafe(|| Stage::new(profile))) else {
        println!("test {name} ... FAILED, the bridge does not start");
        tally.failed.fetch_add(1, Ordering::Relaxed);
        return;
    };
    for case in cases {
        let title = format!("test {name}::{}", case.name);
        let before = stage.bridge.log().len();
        if !stage.offers(case.needs) {
            println!("{title} ... skipped, the token does not offer {}", case.needs);
            tally.skipped.fetch_add(1, Ordering::Relaxed);
        } else if catch_unwind(AssertUnwindSafe(|| (case.play)(&mut stage))).is_ok() {
            println!("{title} ... ok");
            tally.passed.fetch_add(1, Ordering::Relaxed);
        } else {
            let log = stage.bridge.log();
            println!("{title} ... FAILED; what the bridge said:\n{}", log.get(before..).unwrap_or(&log));
            tally.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}
