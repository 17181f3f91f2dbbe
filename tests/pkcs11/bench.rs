//! What the tests stand on.
//!
//! SoftHSM finds its tokens through SOFTHSM2_CONF, and C_Initialize is once per process: so each test starts itself
//! again, in a process and with a token directory of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cascade_hsm_bridge::pkcs11::{
    Error, KeyKind, KeyPair, KeyPairSpec, Module, Pin, Refusal, Settings, Token, Tokens, Usage,
};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use ring::{digest, rand};

pub const PIN: &str = "S3cretPIN";
pub const DIRECTORY: &str = "PKCS11_TEST_DIRECTORY";
pub const MODULE: &str = "PKCS11_TEST_MODULE";

/// What a test works on: in its own process, with two tokens named "one" and "two".
pub struct Bench {
    pub directory: PathBuf,
    pub module: PathBuf,
}

/// Removed with everything in it when the test is over.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(test: &str) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let path = std::env::temp_dir().join(format!("{}-{}-{number}", test.replace("::", "-"), std::process::id()));
        fs::create_dir_all(path.join("tokens")).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn first_of(candidates: &[&str], what: &str) -> PathBuf {
    let found = candidates.iter().map(PathBuf::from).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{what} is needed by this test: see 'make deps'"))
}

pub fn softhsm() -> PathBuf {
    let candidates = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib64/softhsm/libsofthsm2.so",
        "/usr/lib64/pkcs11/libsofthsm2.so",
        "/usr/local/lib/softhsm/libsofthsm2.so",
    ];
    first_of(&candidates, "SoftHSM")
}

pub fn spy() -> PathBuf {
    let candidates = [
        "/usr/lib/x86_64-linux-gnu/pkcs11-spy.so",
        "/usr/lib/aarch64-linux-gnu/pkcs11-spy.so",
        "/usr/lib/pkcs11-spy.so",
        "/usr/lib64/pkcs11/pkcs11-spy.so",
        "/usr/lib64/pkcs11-spy.so",
    ];
    first_of(&candidates, "pkcs11-spy (OpenSC)")
}

pub fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{command:?} failed:\n{text}");
    text
}

/// What a test says in its own process when all went well.
const DONE: &str = "done in a process of its own";

/// Runs `body` in a process of its own, on SoftHSM itself.
pub fn on_softhsm(test: &str, body: fn(&Bench)) {
    on(test, &softhsm(), &["one", "two"], body);
}

/// Runs `body` in a process of its own, on a module that misbehaves as [`Bench::play`] says.
pub fn on_faulty(test: &str, body: fn(&Bench)) {
    on(test, &faulty(), &["one"], body);
}

/// The faulty module, built where it is not.
fn faulty() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faulty-module");
    if std::env::var_os(DIRECTORY).is_none() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--locked"]).current_dir(&package).env_remove("CARGO_TARGET_DIR");
        succeed(&mut build);
    }
    package.join("target/debug/libfaulty_module.so")
}

/// Runs `body` in a process of its own, with every call written to a file.
pub fn on_spy(test: &str, body: fn(&Bench)) {
    on(test, &spy(), &["one"], body);
}

pub fn on(test: &str, module: &Path, labels: &[&str], body: fn(&Bench)) {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        body(&Bench { directory: directory.into(), module: std::env::var_os(MODULE).unwrap().into() });
        println!("{DONE}");
        // As the program ends: threads that are still inside a module do not live through its exit handlers.
        cascade_hsm_bridge::sys::leave(0);
    }
    let scratch = Scratch::new(test);
    let conf = scratch.0.join("softhsm2.conf");
    fs::write(&conf, format!("directories.tokendir = {}\n", scratch.0.join("tokens").display())).unwrap();
    let bench = Bench { directory: scratch.0.clone(), module: module.into() };
    labels.iter().for_each(|label| bench.add_token(label));
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", test, "--nocapture"]);
    again.env(DIRECTORY, &scratch.0).env(MODULE, module).env("SOFTHSM2_CONF", &conf);
    again.env("PKCS11SPY", softhsm()).env("PKCS11SPY_OUTPUT", scratch.0.join("spy.log"));
    again.env("FAULTY_MODULE", softhsm()).env("FAULTY_CONTROL", scratch.0.join("faulty.toml"));
    let output = succeed(&mut again);
    assert!(output.contains(DONE), "'{test}' is not the name of this test:\n{output}");
}

impl Bench {
    pub fn conf(&self) -> PathBuf {
        self.directory.join("softhsm2.conf")
    }

    pub fn add_token(&self, label: &str) {
        let mut init = Command::new("softhsm2-util");
        init.args(["--init-token", "--free", "--label", label, "--so-pin", "12345678", "--pin", PIN]);
        succeed(init.env("SOFTHSM2_CONF", self.conf()));
    }

    pub fn pkcs11_tool(&self, args: &[&str]) -> String {
        let mut tool = Command::new("pkcs11-tool");
        tool.arg("--module").arg(softhsm()).args(["--token-label", "one", "--login", "--pin", PIN]).args(args);
        succeed(tool.env("SOFTHSM2_CONF", self.conf()))
    }

    pub fn tokens(&self) -> Tokens {
        self.tokens_with(Settings::DEFAULT_MAX_SESSIONS)
    }

    pub fn tokens_with(&self, max_sessions: u32) -> Tokens {
        let settings = Settings { max_sessions, ..Settings::new(self.module.clone()) };
        Tokens::new(Module::load(&settings.lib_path).unwrap(), &settings)
    }

    /// Has the faulty module misbehave as `control` says from now on.
    pub fn play(&self, control: &str) {
        let (new, file) = (self.directory.join("faulty.new"), self.directory.join("faulty.toml"));
        fs::write(&new, control).unwrap();
        fs::rename(&new, &file).unwrap();
    }

    /// Has something happen once, behind the back of its callers.
    pub fn happen(&self, event: &str) {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst) + 1;
        self.play(&format!("[events]\nnumber = {number}\ndo = \"{event}\"\n"));
    }

    /// The names of the functions called since the last time, in order.
    pub fn calls(&self) -> Vec<String> {
        let log = self.directory.join("spy.log");
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

pub fn new_id() -> Vec<u8> {
    let mut id = [0; 20];
    rand::SecureRandom::fill(&rand::SystemRandom::new(), &mut id).unwrap();
    id.to_vec()
}

pub fn make(token: &Token, kind: KeyKind) -> Result<KeyPair, Error> {
    token.generate_key_pair(&KeyPairSpec {
        kind,
        id: new_id(),
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
