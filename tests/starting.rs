//! A module that hangs or crashes while the bridge starts or serves: who hears of it, who starts the next bridge, and what clients notice.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use support::scratch::Scratch;
use support::{Faulty, Token, until};

/// A token behind the faulty module, and a directory with a configuration that gives a call a second.
struct Place {
    token: Token,
    faulty: Faulty,
    directory: Scratch,
}

impl Place {
    fn new() -> Place {
        let place = Place { token: Token::create(), faulty: Faulty::new(), directory: Scratch::new("starting") };
        let (module, log, state) = (place.faulty.options().module.unwrap(), place.path("log"), place.path("state"));
        place.directory.file(
            "config.toml",
            format!(
                "version = 'v1'\n[pkcs11]\nlib-path = {module:?}\ncall-timeout = 1\n[server]\naddr = '127.0.0.1:0'\n\
                 [daemon]\nlog-level = 'trace'\nlog-target = {{ type = 'file', path = {log:?} }}\nstate-dir = {state:?}\n"
            ),
        );
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.token.command(support::program());
        command.args(args).arg("--config").arg(self.path("config.toml")).envs(self.faulty.options().environment);
        for name in ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "STATE_DIRECTORY", "JOURNAL_STREAM"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    fn run(&self, args: &[&str]) -> Output {
        let mut child = self.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        until("it ends", || child.try_wait().unwrap().is_some());
        child.wait_with_output().unwrap()
    }
}

#[test]
fn a_module_that_hangs_at_the_start_is_given_up_and_told_of() {
    for (function, named) in
        [("C_Initialize", "C_Initialize, or loading it,"), ("C_GetTokenInfo", "C_GetSlotList or C_GetTokenInfo")]
    {
        for args in [&[][..], &["-d"]] {
            let place = Place::new();
            place.faulty.play(&format!("[[fault]]\nfunction = {function:?}\nhang = true\n"));
            let output = place.run(args);
            let (said, log) = (String::from_utf8(output.stderr).unwrap(), place.log());
            let wanted = format!("{named} has not returned after 3 s, the start is given up");
            assert_eq!(output.status.code(), Some(1), "{said}{log}");
            assert!(said.contains(&format!("{wanted}\nhint: ")), "{said}");
            assert_eq!(log.matches(&format!("{wanted}; hint: ")).count(), 1, "{log}");
        }
    }
}
