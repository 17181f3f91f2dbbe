//! The program as an operator starts it: with a configuration file and a token, in the foreground or in the background.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use super::scratch::Scratch;
use super::secrets::no_key_of;
use super::token::Token;

/// A token, and a directory of the test's own with a configuration file.
pub struct Place {
    pub token: Token,
    pub directory: Scratch,
}

impl Place {
    pub fn new() -> Place {
        let place = Place { token: Token::create(), directory: Scratch::new("cli") };
        place.configure("");
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a sound configuration with `more` at its end, which is inside `[daemon]`.
    pub fn configure(&self, more: &str) {
        let (module, state) = (Token::module(), self.path("state"));
        self.write(&format!(
            "version = 'v1'\n[pkcs11]\nlib-path = {module:?}\n[server]\naddr = '127.0.0.1:0'\n[daemon]\nstate-dir = {state:?}\n{more}\n"
        ));
    }

    pub fn write(&self, config: &str) {
        fs::write(self.path("config.toml"), config).unwrap();
    }

    pub fn command(&self, args: &[&str]) -> Command {
        self.prepared(super::program(), args)
    }

    pub fn prepared(&self, program: impl AsRef<OsStr>, args: &[&str]) -> Command {
        let mut command = self.token.command(program);
        command.args(args).stdin(Stdio::null());
        for name in ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "STATE_DIRECTORY", "JOURNAL_STREAM"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs it to its end with the configuration of this place.
    pub fn run(&self, args: &[&str]) -> Output {
        let config = self.path("config.toml");
        let output = self.command(args).arg("--config").arg(config).output().unwrap();
        for text in [&output.stdout, &output.stderr] {
            no_key_of(&self.path("state/server.key"), &String::from_utf8_lossy(text));
        }
        output
    }

    /// Starts `command`, and waits until it says where it listens.
    pub fn start(&self, mut command: Command) -> Running {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap());
        let address = SocketAddr::from(([0, 0, 0, 0], 0));
        let key = self.path("state/server.key");
        let mut running = Running { address, key, child, log: String::new(), lines };
        while running.lines.read_line(&mut running.log).unwrap() > 0 {
            let line = running.log.lines().last().unwrap();
            if let Some((_, address)) = line.split_once("listening on ") {
                running.address = address.parse().unwrap();
                return running;
            }
        }
        panic!("it does not serve:\n{}", running.log);
    }

    pub fn serve(&self, args: &[&str]) -> Running {
        let mut command = self.command(args);
        command.arg("--config").arg(self.path("config.toml"));
        self.start(command)
    }
}

pub struct Running {
    pub address: SocketAddr,
    pub child: Child,
    pub log: String,
    pub lines: BufReader<std::process::ChildStderr>,
    /// The private key of its certificate.
    key: PathBuf,
}

impl Running {
    pub fn signal(&self, name: &str) {
        kill(name, &self.child.id().to_string());
    }

    /// Asks it to stop; its exit code and all that it has logged.
    pub fn stop(mut self) -> (Option<i32>, String) {
        self.signal("TERM");
        let code = self.child.wait().unwrap().code();
        while self.lines.read_line(&mut self.log).unwrap() > 0 {}
        no_key_of(&self.key, &self.log);
        (code, std::mem::take(&mut self.log))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process in the background, ended with the test.
pub struct Background(pub String);

impl Drop for Background {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-KILL", &self.0]).stderr(Stdio::null()).status();
    }
}

pub fn kill(signal: &str, pid: &str) {
    assert!(Command::new("kill").args([&format!("-{signal}"), pid]).status().unwrap().success());
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
