//! What the tests stand on.
//!
//! A module finds its tokens through its environment, and C_Initialize is once per process: so each test starts itself again, in a process
//! and with tokens of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cascade_hsm_bridge::pkcs11::{
    Class, Curve, Error, KeyKind, KeyPair, KeyPairSpec, Match, Module, Pin, Policy, Refusal, Rungs, Settings, Token,
    Tokens, Usage,
};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, ObjectClass};
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;
use ring::digest;

use crate::support::hsm::{Hsm, run, skipped, skipped_in_part};
use crate::support::spy::Spy;
use crate::support::{self, KeySpec, faulty};

pub const PIN: &str = "S3cretPN";
const MODULE: &str = "PKCS11_TEST_MODULE";

/// What a test works on: in its own process, with tokens labelled "one" and "two".
pub struct Bench {
    pub module: PathBuf,
    store: support::Token,
}

/// What a test says in its own process when all went well.
const DONE: &str = "done in a process of its own";

/// Runs `body` in a process of its own, on the module that the tests are run on.
pub fn on_token(test: &str, body: fn(&Bench)) {
    on(test, &Hsm::chosen().library(), &["one", "two"], body);
}

/// Runs `body` in a process of its own, on the module that the tests are run on, as it misbehaves when [`Bench::play`] says.
pub fn on_faulty(test: &str, body: fn(&Bench)) {
    on(test, &faulty::module(), &["one"], body);
}

/// The same where the test needs a token that makes keys on P-256, and hashes what it signs with RSA.
pub fn on_faulty_with_all(test: &str, body: fn(&Bench)) {
    on_token_that(Bench::lacks_what_most_have, test, &faulty::module(), &["one"], body);
}

/// Runs `body` in a process of its own, with every call written to a file.
pub fn on_spy(test: &str, body: fn(&Bench)) {
    on(test, &Hsm::Spy.library(), &["one"], body);
}

pub fn on(test: &str, module: &Path, labels: &[&str], body: fn(&Bench)) {
    on_token_that(|_| false, test, module, labels, body);
}

fn on_token_that(does_not: fn(&Bench) -> bool, test: &str, module: &Path, labels: &[&str], body: fn(&Bench)) {
    if let Some(module) = std::env::var_os(MODULE) {
        let mut store = support::Token::inherited("one").unwrap();
        store.pin = PIN.to_owned();
        let bench = Bench { module: module.into(), store };
        if !does_not(&bench) {
            body(&bench);
        }
        println!("{DONE}");
        // As the program ends: threads that are still inside a module do not live through its exit handlers.
        cascade_hsm_bridge::sys::leave(0);
    }
    let store = support::Token::empty();
    if *module == Hsm::Spy.library() && Spy::is_blind(&store) {
        return;
    }
    for (index, label) in labels.iter().enumerate() {
        let added = store.try_add(label, PIN);
        if skipped(added.is_err() && labels[..index].contains(label), "the module takes no two tokens of one label") {
            return;
        }
        added.unwrap();
    }
    let file = |name: &str| store.directory().join(name);
    let mut again = store.command(std::env::current_exe().unwrap());
    again.args(["--exact", test, "--nocapture"]).env(MODULE, module);
    again.env("PKCS11SPY", Hsm::chosen().behind_spy()).env("PKCS11SPY_OUTPUT", file("calls"));
    again.env("FAULTY_MODULE", Hsm::chosen().library()).env("FAULTY_CONTROL", file("faulty.toml"));
    again.env("FAULTY_COUNTS", file("counts"));
    let output = run(&mut again);
    // What it says of a test that is left out is meant for who reads this one's output.
    print!("{}", output.split_inclusive('\n').filter(|line| line.contains("skipped")).collect::<String>());
    assert!(output.contains(DONE), "'{test}' is not the name of this test:\n{output}");
}

impl Bench {
    pub fn add_token(&self, label: &str) {
        self.store.add(label, PIN);
    }

    pub fn pkcs11_tool(&self, args: &[&str]) -> String {
        self.store.pkcs11_tool(args)
    }

    /// A kind of key that the token has, where the kind does not matter.
    pub fn kind(&self) -> KeyKind {
        if self.is_without_ec() { KeyKind::Rsa { bits: 1024 } } else { KeyKind::Ec(Curve::P256) }
    }

    /// A mechanism that signs a hash with such a key.
    pub fn mechanism(&self) -> Mechanism<'static> {
        if self.is_without_ec() { Mechanism::RsaPkcs } else { Mechanism::Ecdsa }
    }

    fn is_without_ec(&self) -> bool {
        !self.store.makes(&KeySpec::ecdsa(256))
    }

    /// Whether the module, which has been loaded, is another one for each that loads it: what is called without the binding then
    /// cannot be called.
    pub fn is_apart(&self) -> bool {
        let other = Pkcs11::new(&self.module).unwrap();
        let said = other.get_library_info();
        matches!(said, Err(cryptoki::error::Error::Pkcs11(cryptoki::error::RvError::CryptokiNotInitialized, _)))
    }

    /// Whether the module gives a new object the handle of one that is there, once another is destroyed, which then is why a test is left
    /// out. To be asked before the module is loaded.
    pub fn deals_handles_twice(&self) -> bool {
        let pkcs11 = Pkcs11::new(Hsm::chosen().library()).unwrap();
        let session = |pkcs11: &Pkcs11| {
            pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
            let session = pkcs11.open_rw_session(self.store.slot().try_into().unwrap()).unwrap();
            session.login(UserType::User, Some(&AuthPin::new(PIN.into()))).unwrap();
            session
        };
        let on = session(&pkcs11);
        let public =
            [Attribute::Token(true), Attribute::ModulusBits(2048.into()), Attribute::PublicExponent(vec![1, 0, 1])];
        let pair = || on.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &[Attribute::Token(true)]).unwrap();
        let first = pair();
        on.destroy_object(first.0).unwrap();
        let second = pair();
        let is_so = [second.0, second.1].contains(&first.1);
        drop(on);
        pkcs11.finalize().unwrap();
        // Told apart again.
        let pkcs11 = Pkcs11::new(Hsm::chosen().library()).unwrap();
        let on = session(&pkcs11);
        for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
            let found = on.find_objects(&[Attribute::Class(class)]).unwrap();
            found.into_iter().for_each(|object| on.destroy_object(object).unwrap());
        }
        drop(on);
        pkcs11.finalize().unwrap();
        skipped(is_so, "the module gives two objects one handle")
    }

    /// Whether the token lists no Edwards keys, of which the test then leaves out what it does with them.
    pub fn lacks_edwards(&self) -> bool {
        let is_listed = self.store.offers("EC-EDWARDS-KEY-PAIR-GEN", "generate_key_pair");
        skipped_in_part(!is_listed, "the token lists no Edwards keys")
    }

    fn lacks_what_most_have(&self) -> bool {
        self.store.cannot_make(&KeySpec::ecdsa(256)) || self.store.lacks("SHA256-RSA-PKCS", "sign")
    }

    /// What the tests of the whole program know of the first token.
    pub fn store(&self) -> &support::Token {
        &self.store
    }

    /// A file beside the tokens.
    pub fn file(&self, name: &str) -> PathBuf {
        self.store.directory().join(name)
    }

    pub fn tokens(&self) -> Tokens {
        self.tokens_with(Settings::DEFAULT_MAX_SESSIONS)
    }

    pub fn tokens_with(&self, max_sessions: u32) -> Tokens {
        self.tokens_as(&Settings { max_sessions, ..Settings::new(self.module.clone()) })
    }

    pub fn tokens_as(&self, settings: &Settings) -> Tokens {
        Tokens::new(Module::load(&settings.lib_path).unwrap(), settings)
    }

    /// Those of the module, each treated by `policy`.
    pub fn tokens_by(&self, policy: Policy) -> Tokens {
        self.tokens_as(&Settings { policies: vec![(Match::default(), policy)], ..Settings::new(self.module.clone()) })
    }

    /// The template that the token takes: where that is said beforehand, the first call that makes a key is the one that does.
    pub fn template(&self) -> Rungs {
        let tokens = self.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        let pair = make(&token, self.kind()).unwrap();
        token.destroy(Class::PrivateKey, &pair.private.id).unwrap();
        token.destroy(Class::PublicKey, &pair.public.id).unwrap();
        let shapes = token.learnt().shapes;
        shapes.ec.or(shapes.rsa).map(|shape| Rungs::all(shape.rung)).unwrap_or_default()
    }

    /// Has the faulty module misbehave as `control` says from now on.
    pub fn play(&self, control: &str) {
        let (new, file) = (self.file("faulty.new"), self.file("faulty.toml"));
        fs::write(&new, control).unwrap();
        fs::rename(&new, &file).unwrap();
    }

    /// Has something happen once, behind the back of its callers.
    pub fn happen(&self, event: &str) {
        self.happen_with(event, "");
    }

    /// The same, and have it misbehave as `control` says.
    pub fn happen_with(&self, event: &str, control: &str) {
        let number = self.next_event();
        self.play(&format!("[events]\nnumber = {number}\ndo = \"{event}\"\n{control}"));
    }

    /// A number that no event has had.
    pub fn next_event(&self) -> usize {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        NUMBER.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// How often the faulty module's `function` was called.
    pub fn count(&self, function: &str) -> usize {
        let counts = fs::read_to_string(self.file("counts")).unwrap();
        let lines = counts.lines().filter_map(|line| line.split_once(" = "));
        let (_, number) = lines.into_iter().find(|(name, _)| name.trim() == function).unwrap();
        number.trim().parse().unwrap()
    }

    /// The names of the functions called since the last time, in order.
    pub fn calls(&self) -> Vec<String> {
        let log = self.file("calls");
        let text = fs::read_to_string(&log).unwrap();
        fs::write(&log, "").unwrap();
        text.lines()
            .filter_map(|line| line.split_once(": C_"))
            .filter(|(number, _)| number.parse::<u32>().is_ok())
            .map(|(_, name)| format!("C_{}", name.trim()))
            .collect()
    }
}

pub fn admit(tokens: &Tokens, name: &str, pin: &str) -> Result<Arc<Token>, Refusal> {
    tokens.admit(name, &Pin::new(pin.as_bytes()))
}

pub fn make(token: &Token, kind: KeyKind) -> Result<KeyPair, Error> {
    token.generate_key_pair(&KeyPairSpec {
        kind,
        public_label: Some("label-pub"),
        private_label: Some("label-priv"),
        usage: Usage { sign: true, verify: true, ..Usage::default() },
    })
}

pub fn sha256(data: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, data).as_ref().to_vec()
}

pub fn eddsa() -> Mechanism<'static> {
    Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure))
}
