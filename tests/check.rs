//! The command `check`: what an operator reads of a set-up that is good, and of one that is not.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use support::Token;
use support::scratch::Scratch;

/// A token, and a directory of the test's own with a configuration file.
struct Place {
    token: Token,
    directory: Scratch,
}

impl Place {
    fn new() -> Place {
        let place = Place { token: Token::create(), directory: Scratch::new("check") };
        place.configure(&Token::module(), "");
        place.directory.file("pin", &place.token.pin);
        fs::set_permissions(place.path("pin"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a sound configuration with `more` at its end, which is inside `[daemon]`.
    fn configure(&self, module: &std::path::Path, more: &str) {
        let text = format!(
            "version = 'v1'\n[pkcs11]\nlib-path = {module:?}\n[server]\naddr = '127.0.0.1:0'\n[daemon]\nstate-dir = {:?}\n{more}\n",
            self.path("state")
        );
        self.directory.file("config.toml", text);
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.token.command(support::program());
        command.arg("check").arg("--config").arg(self.path("config.toml")).args(args);
        command.stdin(Stdio::null());
        for name in ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "STATE_DIRECTORY", "JOURNAL_STREAM"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs it; its exit code and what it printed.
    fn check(&self, args: &[&str]) -> (Option<i32>, String) {
        let Output { status, stdout, stderr } = self.command(args).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&stderr), "");
        let said = String::from_utf8(stdout).unwrap();
        assert!(!said.contains(&self.token.pin), "{said}");
        (status.code(), said)
    }
}

/// What python3 makes of a JSON text, an element of the array a line; it fails if it is none.
fn read_json(text: &str) -> Vec<String> {
    let script =
        "import json, sys\nfor line in json.load(sys.stdin): print(line['result'], line['subject'], sorted(line))";
    let mut python = Command::new("python3");
    let mut child =
        python.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 (make deps)");
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{text}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn tells_module_and_token_of_a_good_set_up() {
    let place = Place::new();
    let (code, said) = place.check(&[]);
    assert!(said.contains("\nok    module: SoftHSM, Implementation of PKCS11, version 2."), "{said}");
    assert!(said.contains("\nok    token 'signer 5117': slot "), "{said}");
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn fails_with_a_hint_where_there_is_no_module() {
    let place = Place::new();
    place.configure("/nonexistent/m.so".as_ref(), "");
    let (code, said) = place.check(&[]);
    assert_eq!(code, Some(1), "{said}");
    let (_, module) = said.split_once("\nFAIL  module: ").expect(&said);
    assert!(
        module.starts_with("cannot open PKCS#11 module /nonexistent/m.so: no such file\n      hint: lib-path"),
        "{said}"
    );
}

#[test]
fn says_the_same_in_json() {
    let place = Place::new();
    let (code, said) = place.check(&["--json"]);
    let lines = read_json(&said);
    assert_eq!(code, Some(0));
    assert!(lines.iter().any(|line| line.starts_with("ok token 'signer 5117' ")), "{said}");
    assert!(lines.iter().all(|line| line.ends_with("['hint', 'result', 'subject', 'text', 'values']")), "{lines:?}");
}

#[test]
fn wants_to_be_told_which_of_several_tokens() {
    let place = Place::new();
    place.token.add("other", "another-pin");
    let (code, said) = place.check(&[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("FAIL  token: there are several tokens\n      hint: --token says which"), "{said}");
    assert_eq!(place.check(&["--token", "other"]).0, Some(0));
    let (code, said) = place.check(&["--token", "third"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("FAIL  token: there is no token 'third'"), "{said}");
}
