//! The program under test, started on a token with a configuration, a state directory and a port of its own.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use super::scratch::Scratch;
use super::secrets::{self, Secrets};
use super::token::Token;

/// Long enough for a loaded machine; reached only when something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);

/// What differs from the plainest configuration.
#[derive(Default)]
pub struct Options {
    /// Another module than the one that the tests are run on.
    pub module: Option<PathBuf>,
    /// Where to listen, else on a free port of 127.0.0.1.
    pub address: Option<&'static str>,
    /// The log level, else "trace": whatever is logged is searched for secrets.
    pub log_level: Option<&'static str>,
    /// Further lines of `[server]`.
    pub server: String,
    /// Further lines of `[pkcs11]`.
    pub pkcs11: String,
    /// Further tables of the file.
    pub tables: String,
    /// Further variables of the environment.
    pub environment: Vec<(&'static str, PathBuf)>,
    /// The directory to start it in, else the test's own.
    pub directory: Option<PathBuf>,
}

/// How much of the log is shown of a test that failed, in bytes from the end.
const SHOWN: usize = 64 * 1024;

/// A running bridge; killed on drop. Its log must hold no secret, and is shown if the test failed.
pub struct Bridge {
    pub address: SocketAddr,
    /// What must not be in its log.
    pub secrets: Arc<Secrets>,
    /// The token's name, which is no secret.
    label: String,
    /// The private key of a configured certificate.
    key: Option<PathBuf>,
    child: Child,
    directory: Scratch,
}

/// What clients have to know of a bridge.
pub trait Reachable {
    fn address(&self) -> SocketAddr;
    /// The certificate that it made for itself.
    fn certificate(&self) -> PathBuf;
    /// What clients give it and must not be in its log.
    fn secrets(&self) -> &Arc<Secrets>;
}

impl Reachable for Bridge {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn certificate(&self) -> PathBuf {
        Bridge::certificate(self)
    }

    fn secrets(&self) -> &Arc<Secrets> {
        &self.secrets
    }
}

/// A bridge by another of the addresses that it listens on, where its peers have another address too.
pub struct Elsewhere<'b>(pub &'b Bridge, pub SocketAddr);

impl Reachable for Elsewhere<'_> {
    fn address(&self) -> SocketAddr {
        self.1
    }

    fn certificate(&self) -> PathBuf {
        self.0.certificate()
    }

    fn secrets(&self) -> &Arc<Secrets> {
        &self.0.secrets
    }
}

impl Bridge {
    pub fn start(token: &Token) -> Bridge {
        Bridge::start_with(token, Options::default())
    }

    pub fn start_with(token: &Token, options: Options) -> Bridge {
        let directory = Scratch::new("bridge");
        let state = directory.path().join("state");
        fs::create_dir(&state).expect("a state directory");
        let config = format!(
            "version = \"v1\"\n\n[pkcs11]\nlib-path = {module:?}\n{pkcs11}\n\n[server]\naddr = {address:?}\n{server}\n\n\
             [daemon]\nlog-level = {level:?}\nlog-target = {{ type = \"stderr\" }}\n{tables}\n",
            module = options.module.unwrap_or_else(Token::module),
            pkcs11 = options.pkcs11,
            address = options.address.unwrap_or("127.0.0.1:0"),
            server = options.server,
            tables = options.tables,
            level = options.log_level.unwrap_or("trace"),
        );
        let secrets = all_secrets(token, &config, &options.environment);
        let label = token.label.clone();
        let key = config.lines().find_map(|line| line.trim().strip_prefix("key-path = "));
        let key = key.map(|path| path.trim_matches('"').into());
        let config = directory.file("config.toml", config);
        // A PIN may stand in it.
        fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).expect("the configuration's permissions");
        let log = fs::File::create(directory.path().join("log")).expect("a file for the log");
        let mut command = token.command(super::program());
        if let Some(directory) = options.directory {
            command.current_dir(directory);
        }
        let child = command
            .arg("--config")
            .arg(config)
            .env("STATE_DIRECTORY", &state)
            .env_remove("LISTEN_FDS")
            .env_remove("NOTIFY_SOCKET")
            .envs(options.environment)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle of the log"))
            .stderr(log)
            .spawn()
            .expect("the bridge starts");
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut bridge = Bridge { address: nowhere, secrets, label, key, child, directory };
        bridge.address = bridge.wait_until_it_listens();
        bridge
    }

    /// The address in the log line that says where it listens.
    fn wait_until_it_listens(&mut self) -> SocketAddr {
        let since = Instant::now();
        loop {
            let log = self.log();
            if let Some(address) = log.split_once("listening on ").and_then(|(_, rest)| address(rest)) {
                return address;
            }
            if let Some(status) = self.child.try_wait().expect("the bridge can be waited for") {
                panic!("the bridge ended instead of listening: {status}");
            }
            assert!(since.elapsed() < PATIENCE, "the bridge does not say where it listens");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Everything that it has written to standard output and standard error.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.directory.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The certificate that it made for itself.
    pub fn certificate(&self) -> PathBuf {
        self.state_dir().join("server.crt")
    }

    /// Whether it has learnt that the token takes no template that says what a key is not for: such tokens add uses of their own.
    pub fn meets_added_uses(&self) -> bool {
        let log = self.log();
        let mut templates = log.lines().filter_map(|line| line.split_once(": template of ")?.1.split_once(" keys: "));
        templates.any(|(_, template)| !template.starts_with("full"))
    }

    pub fn state_dir(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process is still the one that was started.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("the bridge can be waited for").is_none()
    }

    /// Open file descriptors.
    pub fn descriptors(&self) -> usize {
        self.count("fd")
    }

    /// The names of its threads, as far as the kernel keeps them: 15 bytes.
    pub fn thread_names(&self) -> Vec<String> {
        let threads = fs::read_dir(self.proc().join("task")).expect("the threads of the process");
        // One may end meanwhile.
        let name = |entry: io::Result<fs::DirEntry>| fs::read_to_string(entry.ok()?.path().join("comm")).ok();
        threads.filter_map(name).map(|name| name.trim_end().to_owned()).collect()
    }

    /// Threads, the main one included.
    pub fn threads(&self) -> usize {
        self.count("task")
    }

    /// Resident memory in KiB.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(self.proc().join("status")).expect("the status of the process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse().expect("a number of kB")
    }

    /// Waits for it to end by itself.
    pub fn wait(mut self) -> (ExitStatus, String) {
        self.wait_for_its_end()
    }

    /// Asks it to end, as a service manager does, and waits for it to have ended.
    pub fn stop(mut self) -> (ExitStatus, String) {
        self.signal("TERM");
        self.wait_for_its_end()
    }

    fn wait_for_its_end(&mut self) -> (ExitStatus, String) {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the bridge can be waited for") {
                let log = self.log();
                self.search(&log);
                return (status, log);
            }
            assert!(since.elapsed() < PATIENCE, "the bridge does not end");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Holds that its log has no secret in it.
    fn search(&self, log: &str) {
        self.secrets.are_not_in(log, &self.label);
        secrets::no_key_of(&self.state_dir().join("server.key"), log);
        self.key.iter().for_each(|key| secrets::no_key_of(key, log));
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(status.expect("kill runs").success());
    }

    /// Has it read its files anew, and waits until it has.
    pub fn hang_up(&self) {
        let heard = || self.log().matches("HUP: done").count();
        let before = heard();
        self.signal("HUP");
        super::until("what HUP asks for is done", || heard() > before);
    }

    fn count(&self, what: &str) -> usize {
        fs::read_dir(self.proc().join(what)).expect("the process is there").count()
    }

    fn proc(&self) -> PathBuf {
        Path::new("/proc").join(self.pid().to_string())
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = self.log();
        if thread::panicking() {
            let shown = log.as_bytes().get(log.len().saturating_sub(SHOWN)..).unwrap_or_default();
            eprintln!("--- log of the bridge\n{}---", String::from_utf8_lossy(shown));
        } else {
            self.search(&log);
        }
    }
}

/// What is secret from the start: the token's PIN, and what the files of the configuration and the service manager hold.
fn all_secrets(token: &Token, config: &str, environment: &[(&str, PathBuf)]) -> Arc<Secrets> {
    let secrets = Secrets::default();
    secrets.add(&token.pin);
    for line in config.lines() {
        let file = ["pin-file = ", "password-file = "].iter().find_map(|key| line.trim().strip_prefix(key));
        if let Some(file) = file {
            secrets.add_file(Path::new(file.trim_matches('"')));
        }
        let inline = ["pin = ", "password = "].iter().find_map(|key| line.trim().strip_prefix(key));
        secrets.add(inline.unwrap_or_default().trim_matches('"'));
    }
    let directories = environment.iter().filter(|(name, _)| *name == "CREDENTIALS_DIRECTORY");
    for file in directories.flat_map(|(_, directory)| fs::read_dir(directory).expect("the credentials")) {
        secrets.add_file(&file.expect("a credential").path());
    }
    Arc::new(secrets)
}

/// The socket address at the beginning of `text`, if the line is complete.
fn address(text: &str) -> Option<SocketAddr> {
    let (line, _) = text.split_once('\n')?;
    line.split_whitespace().next()?.trim_end_matches([',', ';', '.']).parse().ok()
}
