//! A stage for the module: each test runs in a process of its own, since a module, its environment and its counters
//! belong to the process, on a SoftHSM token of its own.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::env;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;

pub const LABEL: &str = "faulty";
pub const PIN: &str = "2468";
pub const SO_PIN: &str = "13579";

/// The DER of the OID of P-256.
pub const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// Names the directory in the process that plays the test.
const STAGE: &str = "FAULTY_STAGE";

/// What a process of the test has to itself.
pub struct Stage {
    directory: PathBuf,
}

/// Plays the test in a process of its own, which has to end well.
pub fn play<F: FnOnce(&Stage)>(test: F) {
    play_over(None, test);
}

/// The same with a profile in force from the start.
pub fn play_profile<F: FnOnce(&Stage)>(profile: &str, test: F) {
    play_over(Some(profile), test);
}

fn play_over<F: FnOnce(&Stage)>(profile: Option<&str>, test: F) {
    if let Some((status, output)) = run(profile, test) {
        assert!(status.success(), "{status}\n{output}");
    }
}

/// Plays a test whose process has to end by SIGABRT, and returns what it wrote.
pub fn play_to_the_abort<F: FnOnce(&Stage)>(test: F) -> Option<String> {
    use std::os::unix::process::ExitStatusExt;
    let (status, output) = run(None, test)?;
    assert_eq!(status.signal(), Some(6), "{status}\n{output}");
    Some(output)
}

/// In the test's first process, runs it in a second; in the second, runs it.
fn run<F: FnOnce(&Stage)>(profile: Option<&str>, test: F) -> Option<(ExitStatus, String)> {
    if let Some(directory) = env::var_os(STAGE) {
        test(&Stage { directory: directory.into() });
        return None;
    }
    let name = std::any::type_name::<F>();
    let name = name.split_once("::").map_or(name, |(_, name)| name);
    let name = name.trim_end_matches("::{{closure}}");
    let directory = Directory::new();
    let stage = Stage { directory: directory.0.clone() };
    stage.set_up();
    let output = stage.path("output");
    let profile = profile.map_or_else(|| stage.path("profile"), PathBuf::from);
    let control = env::join_paths([profile, stage.path("control")]).expect("two paths");
    let to = File::create(&output).expect("a file for the output");
    let mut child = Command::new(env::current_exe().expect("this test"))
        .args([name, "--exact", "--nocapture"])
        .env(STAGE, &stage.directory)
        .env("SOFTHSM2_CONF", stage.path("softhsm2.conf"))
        .env("FAULTY_CONTROL", control)
        .env("FAULTY_COUNTS", stage.path("counts"))
        .env_remove("FAULTY_MODULE")
        .stdout(to.try_clone().expect("the same file"))
        .stderr(to)
        .spawn()
        .expect("a second process");
    let end = Instant::now() + Duration::from_secs(60);
    let status = loop {
        if let Some(status) = child.try_wait().expect("the state of the second process") {
            break status;
        }
        if Instant::now() > end {
            child.kill().expect("an end to a process that hangs");
        }
        thread::sleep(Duration::from_millis(5));
    };
    let output = fs::read_to_string(output).unwrap_or_default();
    assert!(status.code() != Some(0) || output.contains("1 passed"), "no test is called {name}\n{output}");
    Some((status, output))
}

impl Stage {
    fn set_up(&self) {
        fs::create_dir(self.path("tokens")).expect("a directory for tokens");
        let conf = format!("directories.tokendir = {}\nobjectstore.backend = file\n", self.path("tokens").display());
        fs::write(self.path("softhsm2.conf"), conf).expect("a configuration for SoftHSM");
        self.add_token(LABEL);
    }

    /// Makes a token. A process that has loaded the module sees it after C_Finalize and C_Initialize.
    pub fn add_token(&self, label: &str) {
        let made = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", SO_PIN])
            .env("SOFTHSM2_CONF", self.path("softhsm2.conf"))
            .stdout(Stdio::null())
            .status()
            .expect("softhsm2-util");
        assert!(made.success());
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Puts a control file in force.
    pub fn control(&self, text: &str) {
        self.write("control", text);
    }

    /// Puts a file in force that lies below the control file.
    pub fn profile(&self, text: &str) {
        self.write("profile", text);
    }

    fn write(&self, name: &str, text: &str) {
        let new = self.path("new");
        fs::write(&new, text).expect("a new control file");
        fs::rename(new, self.path(name)).expect("a control file");
    }

    /// How often a function was called, or another number of the count file.
    pub fn count(&self, name: &str) -> u64 {
        let text = fs::read_to_string(self.path("counts")).expect("the count file");
        let counts: toml::Table = toml::from_str(&text).expect("TOML");
        counts[name].as_integer().expect("a number").try_into().expect("a count")
    }

    /// The library under test.
    pub fn library(&self) -> PathBuf {
        let tests = env::current_exe().expect("this test");
        tests.parent().expect("its directory").join("libfaulty_module.so")
    }

    pub fn load(&self) -> Pkcs11 {
        Pkcs11::new(self.library()).expect("the module")
    }

    /// The module, initialised.
    pub fn module(&self) -> Pkcs11 {
        let module = self.load();
        initialize(&module).expect("C_Initialize");
        module
    }

    /// The slot of the token with that label.
    pub fn slot_of(&self, module: &Pkcs11, label: &str) -> Slot {
        let slots = module.get_slots_with_token().expect("slots");
        let is_it = |slot: &Slot| module.get_token_info(*slot).is_ok_and(|token| token.label() == label);
        slots.into_iter().find(is_it).expect("the token")
    }

    pub fn slot(&self, module: &Pkcs11) -> Slot {
        self.slot_of(module, LABEL)
    }

    /// The module, and a session that is logged in.
    pub fn session(&self) -> (Pkcs11, Slot, Session) {
        let module = self.module();
        let slot = self.slot(&module);
        let session = module.open_rw_session(slot).expect("a session");
        session.login(UserType::User, Some(&pin(PIN))).expect("a login");
        (module, slot, session)
    }
}

pub fn initialize(module: &Pkcs11) -> Result<(), Error> {
    module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
}

pub fn pin(text: &str) -> AuthPin {
    AuthPin::new(text.into())
}

/// The templates of a P-256 key pair on the token.
pub fn halves(id: &[u8], label: &str) -> (Vec<Attribute>, Vec<Attribute>) {
    let both = [Attribute::Token(true), Attribute::Id(id.to_vec()), Attribute::Label(label.into())];
    let mut public = both.to_vec();
    public.extend([Attribute::EcParams(P256.to_vec()), Attribute::Verify(true)]);
    let mut private = both.to_vec();
    private.extend([Attribute::Private(true), Attribute::Sensitive(true), Attribute::Sign(true)]);
    (public, private)
}

/// Makes a P-256 key pair.
pub fn generate(session: &Session, id: &[u8]) -> Result<(ObjectHandle, ObjectHandle), Error> {
    let (public, private) = halves(id, "key");
    session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)
}

pub fn sign(session: &Session, key: ObjectHandle) -> Result<Vec<u8>, Error> {
    session.sign(&Mechanism::Ecdsa, key, &[7; 32])
}

/// What the module answered in place of CKR_OK.
#[track_caller]
pub fn rv<T>(result: Result<T, Error>) -> RvError {
    match result {
        Err(Error::Pkcs11(rv, _)) => rv,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it worked"),
    }
}

struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("faulty-module-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).expect("a directory for the test");
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Waits until something is so.
#[track_caller]
pub fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "{what} did not come");
        thread::sleep(Duration::from_millis(2));
    }
}
