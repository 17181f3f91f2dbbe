//! Tokens of the module that the tests are run on, in a directory of the test's own; the system's token stores are never touched.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{env, fs};

use super::hsm::{Hsm, Place, SO_PIN, attempt, run, skipped};
use super::scratch::Scratch;
use super::services::Services;

/// A label and PIN that appear nowhere else, so that logs can be searched for them. There are modules that take no PIN of fewer than
/// eight characters, and others that take none of more.
const LABEL: &str = "signer 5117";
const PIN: &str = "pin-7391";

/// Tells a process that a test starts where the test's tokens are.
const INHERITED: &str = "CASCADE_HSM_BRIDGE_TEST_TOKEN";

/// A token store, and the first token in it.
pub struct Token {
    pub label: String,
    pub pin: String,
    hsm: Hsm,
    environment: Vec<(&'static str, OsString)>,
    mechanisms: OnceLock<String>,
    // The services end before their directory goes.
    services: Option<Services>,
    store: Scratch,
}

impl Token {
    pub fn create() -> Token {
        let token = Token::empty();
        token.add(LABEL, PIN);
        token
    }

    /// A store without a token.
    pub fn empty() -> Token {
        let hsm = Hsm::chosen();
        let store = if hsm == Hsm::Kryoptic { Scratch::in_memory("token") } else { Scratch::new("token") };
        let Place { mut environment, services } = hsm.set_up(store.path());
        environment.push((INHERITED, store.path().into()));
        Token { environment, services, ..Token::of(hsm, store) }
    }

    /// The token of the test that has started this process, if one has, by [`Token::command`].
    pub fn inherited(label: &str) -> Option<Token> {
        let store = Scratch::of_another(PathBuf::from(env::var_os(INHERITED)?));
        Some(Token { label: label.to_string(), ..Token::of(Hsm::chosen(), store) })
    }

    fn of(hsm: Hsm, store: Scratch) -> Token {
        Token {
            label: LABEL.to_string(),
            pin: PIN.to_string(),
            hsm,
            environment: Vec::new(),
            mechanisms: OnceLock::new(),
            services: None,
            store,
        }
    }

    /// Makes one more token in the same store, so that the module shows several.
    pub fn add(&self, label: &str, pin: &str) {
        self.try_add(label, pin).unwrap_or_else(|why| panic!("{why}"));
    }

    /// The same for one that not every module has room for.
    pub fn try_add(&self, label: &str, pin: &str) -> Result<(), String> {
        // Counted in a file, as a process that the test starts may make some, too.
        let file = self.store.path().join("made");
        let made = fs::read(&file).unwrap_or_default();
        fs::write(&file, [&made[..], b"+"].concat()).expect("a count of the tokens");
        let number = u32::try_from(made.len()).expect("a few tokens");
        self.hsm.add(number, label, pin, |tool| self.command(tool))
    }

    /// Has the module initialise the token anew, with another PIN; the error says why it does not.
    pub fn initialise_anew(&self, pin: &str) -> Result<(), String> {
        self.hsm.initialise(self.slot(), &self.label, SO_PIN, pin, |tool| self.command(tool))
    }

    /// The module that the tests are run on.
    pub fn module() -> PathBuf {
        Hsm::chosen().library()
    }

    pub fn hsm(&self) -> Hsm {
        self.hsm
    }

    /// Whether another user than the one who has started its services cannot come to it, or load its module.
    pub fn is_for_one_user(&self) -> bool {
        let library = Token::module().canonicalize().expect("the library is there");
        let may =
            |path: &Path, bits| fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & bits == bits);
        let is_open = may(&library, 0o004) && library.ancestors().skip(1).all(|directory| may(directory, 0o001));
        self.services.is_some() || !is_open
    }

    /// Where the tokens are.
    pub fn directory(&self) -> &Path {
        self.store.path()
    }

    /// A command whose process sees this store through the module.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = match &self.services {
            Some(services) => services.command(program),
            None => Command::new(program),
        };
        command.envs(self.environment.iter().cloned());
        command
    }

    /// Runs pkcs11-tool, logged in to the token, and returns what it printed.
    pub fn pkcs11_tool(&self, arguments: &[&str]) -> String {
        run(self.logged_in().args(arguments))
    }

    /// The same for what not every module does: nothing where it is refused.
    pub fn try_pkcs11_tool(&self, arguments: &[&str]) -> Option<String> {
        attempt(self.logged_in().args(arguments)).ok()
    }

    /// What it prints of the module without a login.
    pub fn module_info(&self) -> Result<String, String> {
        attempt(self.tool().arg("--show-info"))
    }

    fn logged_in(&self) -> Command {
        let mut command = self.tool();
        command.args(["--token-label", &self.label, "--login", "--pin", &self.pin]);
        command
    }

    fn tool(&self) -> Command {
        let mut command = self.command("pkcs11-tool");
        command.arg("--module").arg(self.hsm.library());
        command
    }

    /// The token's objects as pkcs11-tool lists them, one text an object.
    pub fn objects(&self) -> Vec<String> {
        let listing = self.pkcs11_tool(&["--list-objects"]);
        let mut objects: Vec<String> = Vec::new();
        for line in listing.lines().filter(|line| !line.trim().is_empty()) {
            match objects.last_mut() {
                Some(object) if line.starts_with(' ') => {
                    object.push('\n');
                    object.push_str(line);
                }
                _ => objects.push(line.to_string()),
            }
        }
        objects.retain(|object| object.contains(" Object;"));
        objects
    }

    /// The one object of that class ("Private Key", "Public Key") with that label.
    pub fn object(&self, class: &str, label: &str) -> String {
        let line = format!("  label:      {label}\n");
        let mut found = self.objects();
        found.retain(|object| object.starts_with(&format!("{class} Object;")) && format!("{object}\n").contains(&line));
        assert_eq!(found.len(), 1, "{class} {label:?} in {:#?}", self.objects());
        found.remove(0)
    }

    /// Whether it says that it takes one wrong PIN more, and then none, or takes none any more.
    pub fn is_at_its_last_try(&self) -> bool {
        self.listed().contains("final user PIN try") || self.try_pkcs11_tool(&["--list-objects"]).is_none()
    }

    /// Whether a process may make fewer pairs than that, which then is why a test is left out.
    pub fn has_no_room_for(&self, pairs: usize) -> bool {
        let room = self.hsm.room().unwrap_or(usize::MAX);
        skipped(room < pairs, format!("{} makes {room} key pairs at most until it is loaded anew", self.hsm))
    }

    /// Whether it takes so long for random numbers that tests which want much of them would not end, which then is why one is left out.
    pub fn is_slow_at_random(&self) -> bool {
        let since = Instant::now();
        run(self.logged_in().args(["--generate-random", "65536"]).stdout(Stdio::null()));
        let is_slow = since.elapsed() > Duration::from_millis(500);
        skipped(is_slow, format!("{} takes half a second and more for 64 KiB of random numbers", self.hsm))
    }

    pub fn serial(&self) -> String {
        self.says("serial num")
    }

    pub fn manufacturer(&self) -> String {
        self.says("token manufacturer")
    }

    pub fn model(&self) -> String {
        self.says("token model")
    }

    fn says(&self, what: &str) -> String {
        let slot = self.listed();
        let value = slot.lines().find_map(|line| line.trim().strip_prefix(what)).unwrap_or_else(|| panic!("no {what}"));
        value.trim_start_matches([' ', ':']).trim_matches([' ', '\0']).to_string()
    }

    /// The number of the slot that the token is in.
    pub fn slot(&self) -> u64 {
        let slot = self.listed();
        let id = slot.split_once("(0x").and_then(|(_, rest)| rest.split_once(')')).expect("the slot's number").0;
        u64::from_str_radix(id, 16).expect("a number in hexadecimal")
    }

    /// What pkcs11-tool says of the token, from the slot's number on.
    fn listed(&self) -> String {
        let listing = run(self.tool().arg("--list-slots"));
        let label = |line: &str| {
            let label = line.trim().strip_prefix("token label").map(|rest| rest.trim_start_matches([' ', ':']));
            label == Some(self.label.as_str())
        };
        let slot = listing.split("\nSlot ").find(|slot| slot.lines().any(label)).expect("the slot of the token");
        slot.to_string()
    }

    /// A signature that pkcs11-tool makes with one of the token's keys.
    pub fn sign(&self, mechanism: &str, id: &str, data: &[u8]) -> Vec<u8> {
        let directory = Scratch::new("sign");
        let input = directory.file("data", data);
        let output = directory.path().join("signature");
        let (input, file) = (input.to_str().expect("UTF-8"), output.to_str().expect("UTF-8"));
        self.pkcs11_tool(&["--sign", "-m", mechanism, "--id", id, "--input-file", input, "--output-file", file]);
        fs::read(&output).expect("the signature")
    }

    /// Whether the module lists a mechanism, in pkcs11-tool's spelling, with that use.
    pub fn offers(&self, mechanism: &str, purpose: &str) -> bool {
        self.mechanism(mechanism).is_some_and(|line| line.contains(purpose))
    }

    /// Whether it lists a mechanism for keys of so many bits.
    pub fn offers_bits(&self, mechanism: &str, bits: i32) -> bool {
        let bits = u64::try_from(bits).unwrap_or(0);
        let holds = |(least, most)| (least..=most).contains(&bits);
        self.sizes(mechanism).map_or(self.mechanism(mechanism).is_some(), holds)
    }

    /// The least and the greatest size of keys that it lists with a mechanism.
    pub fn sizes(&self, mechanism: &str) -> Option<(u64, u64)> {
        let line = self.mechanism(mechanism)?;
        let (sizes, _) = line.split_once("keySize={")?.1.split_once('}')?;
        let (least, most) = sizes.split_once(',')?;
        Some((least.parse().unwrap_or(0), most.parse().unwrap_or(u64::MAX)))
    }

    /// Whether it does not list a mechanism with that use, which then is why the test is left out.
    pub fn lacks(&self, mechanism: &str, purpose: &str) -> bool {
        skipped(!self.offers(mechanism, purpose), format!("{} does not list {mechanism} to {purpose}", self.hsm))
    }

    /// The line that pkcs11-tool prints of a mechanism.
    fn mechanism(&self, mechanism: &str) -> Option<&str> {
        let list = || run(self.tool().args(["--token-label", &self.label, "--list-mechanisms"]));
        let listing = self.mechanisms.get_or_init(list);
        listing.lines().find(|line| line.trim().split(',').next() == Some(mechanism))
    }
}
