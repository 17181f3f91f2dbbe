//! SoftHSM tokens in a directory of the test's own; the system's token store is never touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::scratch::Scratch;

/// A label and PIN that appear nowhere else, so that logs can be searched for them.
const LABEL: &str = "signer 5117";
const PIN: &str = "pin-7391-of-the-user";
const SO_PIN: &str = "pin-8204-of-the-officer";

/// A token store holding one token.
pub struct Token {
    pub label: String,
    pub pin: String,
    store: Scratch,
}

impl Token {
    pub fn create() -> Token {
        let store = Scratch::new("token");
        let tokens = store.path().join("tokens");
        fs::create_dir(&tokens).expect("a directory for the tokens");
        let conf = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n",
            tokens.display()
        );
        store.file("softhsm2.conf", conf);
        let token = Token { label: LABEL.to_string(), pin: PIN.to_string(), store };
        token.add(LABEL, PIN);
        token
    }

    /// Makes one more token in the same store, so that the module shows several.
    pub fn add(&self, label: &str, pin: &str) {
        let mut command = Command::new("softhsm2-util");
        command.args(["--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", SO_PIN]);
        run(command.env("SOFTHSM2_CONF", self.conf()));
    }

    /// What `SOFTHSM2_CONF` has to say for a process to see this store.
    pub fn conf(&self) -> PathBuf {
        self.store.path().join("softhsm2.conf")
    }

    /// Where the SoftHSM library is on this machine.
    pub fn module() -> PathBuf {
        let places = [
            "/usr/lib/softhsm/libsofthsm2.so",
            "/usr/lib64/softhsm/libsofthsm2.so",
            "/usr/lib64/pkcs11/libsofthsm2.so",
            "/usr/local/lib/softhsm/libsofthsm2.so",
        ];
        let found = places.iter().map(Path::new).find(|path| path.exists());
        found.expect("libsofthsm2.so is installed (make deps)").to_path_buf()
    }

    /// Runs pkcs11-tool, logged in to the token, and returns what it printed.
    pub fn pkcs11_tool(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("pkcs11-tool");
        command.arg("--module").arg(Token::module());
        command.args(["--token-label", &self.label, "--login", "--pin", &self.pin]).args(arguments);
        run(command.env("SOFTHSM2_CONF", self.conf()))
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

    pub fn serial(&self) -> String {
        let slot = self.listed();
        let serial = slot.lines().find_map(|line| line.trim().strip_prefix("Serial number:")).expect("a serial number");
        serial.trim().to_string()
    }

    /// The number of the slot that the token is in.
    pub fn slot(&self) -> u64 {
        self.listed().lines().next().expect("a line").trim().parse().expect("a number")
    }

    /// What softhsm2-util says of the token, from the slot's number on.
    fn listed(&self) -> String {
        let listing = run(Command::new("softhsm2-util").arg("--show-slots").env("SOFTHSM2_CONF", self.conf()));
        let label = |line: &str| line.trim().strip_prefix("Label:").is_some_and(|label| label.trim() == self.label);
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
        let listing = self.pkcs11_tool(&["--list-mechanisms"]);
        listing.lines().any(|line| line.trim().starts_with(&format!("{mechanism},")) && line.contains(purpose))
    }
}

/// Runs a tool that has to succeed; its arguments stay out of the message, as they may hold a PIN.
fn run(command: &mut Command) -> String {
    let name = command.get_program().to_string_lossy().into_owned();
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|error| panic!("{name}: {error}"));
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{name}: {status}\n{stdout}{}", String::from_utf8_lossy(&stderr));
    stdout
}
