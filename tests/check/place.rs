//! A token, a configuration for it, and the command run on them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use super::support::hsm::{Hsm, skipped_in_part};
use super::support::profile::Profile;
use super::support::scratch::Scratch;
use super::support::secrets::{Secrets, no_key_of};
use super::support::{self, Faulty, KeySpec, Token};

/// A token, and a directory of the test's own with a configuration file and one with the PIN.
pub struct Place {
    pub token: Token,
    pub directory: Scratch,
    environment: Vec<(&'static str, PathBuf)>,
    /// What the token has to be called by there.
    pub name: Option<String>,
    /// The module that plays a vendor's.
    pub faulty: Option<Faulty>,
}

/// What a run came to.
pub struct Said {
    pub code: Option<i32>,
    pub text: String,
}

/// Whether the tests run on the module whose hints they know; on another, its vendor's are left out. What each prints is kept.
pub fn knows_the_hints() -> bool {
    !skipped_in_part(Hsm::chosen() != Hsm::SoftHsm2, "the hints are those of SoftHSM")
}

/// Whether the tests run on another module than the one that the profiles of others are written for.
pub fn plays_no_profiles() -> bool {
    Hsm::chosen().is_not(Hsm::SoftHsm2, "the profiles are played over it")
}

impl Place {
    pub fn new() -> Place {
        let (token, directory) = (Token::create(), Scratch::new("check"));
        let place = Place { token, directory, environment: Vec::new(), name: None, faulty: None };
        place.configure(&Token::module(), "", "");
        place.write_pin(&place.token.pin);
        place
    }

    /// With the module that misbehaves as `faulty` has it play, and calls that may take so many seconds.
    pub fn with(faulty: &Faulty, seconds: u32) -> Place {
        let options = faulty.options();
        let place = Place { environment: options.environment, ..Place::new() };
        // Of two sessions one keeps the login, so that signatures are counted once only, with the other.
        place.configure(
            &options.module.unwrap(),
            &format!("call-timeout = {seconds}\ngenerate-timeout = {seconds}\nmax-sessions = 2"),
            "",
        );
        place
    }

    /// With the module that plays a vendor's.
    pub fn of(profile: &Profile) -> Place {
        let place = Place::new();
        let faulty = profile.set_stage(&place.token);
        let options = profile.options(&faulty, &place.token);
        let (name, pin) = profile.login(&place.token);
        place.write_pin(&pin);
        place.configure(&options.module.unwrap(), "max-sessions = 2", &options.tables);
        // A client's name is none of the token's.
        let name = Some(name).filter(|_| !profile.needs_no_login());
        Place { environment: options.environment, name, faulty: Some(faulty), ..place }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a sound configuration with more in `[pkcs11]`, and more tables or more of `[daemon]` at its end.
    pub fn configure(&self, module: &Path, pkcs11: &str, more: &str) {
        let text = format!(
            "version = 'v1'\n[server]\naddr = '127.0.0.1:0'\n[pkcs11]\nlib-path = {module:?}\n{pkcs11}\n\
             [daemon]\nstate-dir = {:?}\n{more}\n",
            self.path("state")
        );
        self.directory.file("config.toml", text);
    }

    /// The module that is configured.
    pub fn module(&self) -> PathBuf {
        let config = fs::read_to_string(self.path("config.toml")).unwrap();
        let line = config.lines().find_map(|line| line.strip_prefix("lib-path = ")).unwrap();
        line.trim_matches('"').into()
    }

    pub fn write_pin(&self, pin: &str) {
        let path = self.directory.file("pin", pin);
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub fn command(&self, args: &[&str]) -> Command {
        self.prepared(support::program(), &[&["check"], args].concat())
    }

    pub fn prepared(&self, program: impl AsRef<OsStr>, args: &[&str]) -> Command {
        let mut command = self.token.command(program);
        command.args(args).arg("--config").arg(self.path("config.toml"));
        command.envs(self.environment.iter().cloned()).stdin(Stdio::null());
        for name in ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "STATE_DIRECTORY", "JOURNAL_STREAM"] {
            command.env_remove(name);
        }
        command
    }

    /// The algorithm that the token makes keys of fastest, as the command calls it.
    pub fn quickest(&self) -> &'static str {
        if self.token.makes(&KeySpec::ecdsa(256)) { "P-256" } else { "RSA-2048" }
    }

    /// Runs it. It may print to standard output only; modules have their own ways with standard error.
    pub fn check(&self, args: &[&str]) -> Said {
        let Output { status, stdout, stderr } = self.command(args).output().unwrap();
        let stderr = String::from_utf8_lossy(&stderr);
        let is_ours =
            |line: &str| ["ok  ", "warn  ", "FAIL  ", "cascade-hsm-bridge: "].iter().any(|ours| line.starts_with(ours));
        assert!(!stderr.lines().any(is_ours), "{stderr}");
        let text = String::from_utf8(stdout).unwrap();
        let secrets = Secrets::default();
        secrets.add(&self.token.pin);
        secrets.add_file(&self.path("pin"));
        secrets.are_not_in(&format!("{text}{stderr}"), "");
        no_key_of(&self.path("state/server.key"), &text);
        Said::new(status.code(), text)
    }

    /// The same with the PIN.
    pub fn check_in(&self, args: &[&str]) -> Said {
        let pin = self.path("pin");
        self.check(&[args, &["--pin-file", pin.to_str().unwrap()]].concat())
    }

    /// Starts it, with the PIN.
    pub fn start_in(&self, args: &[&str]) -> Child {
        let pin = self.path("pin");
        let mut command = self.command(&[args, &["--pin-file", pin.to_str().unwrap()]].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    pub fn assert_empty(&self) {
        assert_eq!(self.token.objects(), [""; 0]);
    }
}

impl Said {
    /// Every failure comes with what to do about it.
    pub fn new(code: Option<i32>, text: String) -> Said {
        let lines: Vec<&str> = text.lines().collect();
        for (index, line) in lines.iter().enumerate().filter(|(_, line)| line.starts_with("FAIL")) {
            assert!(lines.get(index + 1).is_some_and(|next| next.starts_with("      hint: ")), "{line}\n{text}");
        }
        Said { code, text }
    }

    pub fn of(output: Output) -> Said {
        Said::new(output.status.code(), String::from_utf8(output.stdout).unwrap())
    }

    /// Asserts a line that begins so, and returns it with the hint under it.
    #[track_caller]
    pub fn line(&self, beginning: &str) -> String {
        let mut lines = self.text.lines().skip_while(|line| !line.starts_with(beginning));
        let line = lines.next().unwrap_or_else(|| panic!("no line begins with {beginning:?}:\n{}", self.text));
        let hint = lines.next().filter(|next| next.starts_with("      hint: "));
        hint.map_or_else(|| line.to_owned(), |hint| format!("{line}\n{hint}"))
    }

    /// Asserts that there is no such line.
    #[track_caller]
    pub fn lacks(&self, beginning: &str) {
        assert!(!self.text.lines().any(|line| line.starts_with(beginning)), "{}", self.text);
    }

    /// Asserts that nothing failed.
    #[track_caller]
    pub fn went_well(&self) {
        self.lacks("FAIL");
        assert_eq!(self.code, Some(0), "{}", self.text);
    }
}
