//! The program as an operator meets it: command line, configuration check, start, background, signals, stop.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use support::Token;
use support::hsm::{Hsm, skipped, skipped_in_part};
use support::scratch::Scratch;
use support::spy::Spy;

/// A token, and a directory of the test's own with a configuration file.
struct Place {
    token: Token,
    directory: Scratch,
}

impl Place {
    fn new() -> Place {
        let place = Place { token: Token::create(), directory: Scratch::new("cli") };
        place.configure("");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a sound configuration with `more` at its end, which is inside `[daemon]`.
    fn configure(&self, more: &str) {
        let (module, state) = (Token::module(), self.path("state"));
        self.write(&format!(
            "version = 'v1'\n[pkcs11]\nlib-path = {module:?}\n[server]\naddr = '127.0.0.1:0'\n[daemon]\nstate-dir = {state:?}\n{more}\n"
        ));
    }

    fn write(&self, config: &str) {
        fs::write(self.path("config.toml"), config).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        self.prepared(support::program(), args)
    }

    fn prepared(&self, program: impl AsRef<OsStr>, args: &[&str]) -> Command {
        let mut command = self.token.command(program);
        command.args(args).stdin(Stdio::null());
        for name in ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "STATE_DIRECTORY", "JOURNAL_STREAM"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs it to its end with the configuration of this place.
    fn run(&self, args: &[&str]) -> Output {
        let config = self.path("config.toml");
        self.command(args).arg("--config").arg(config).output().unwrap()
    }

    /// Starts `command`, and waits until it says where it listens.
    fn start(&self, mut command: Command) -> Running {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap());
        let address = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut running = Running { address, child, log: String::new(), lines };
        while running.lines.read_line(&mut running.log).unwrap() > 0 {
            let line = running.log.lines().last().unwrap();
            if let Some((_, address)) = line.split_once("listening on ") {
                running.address = address.parse().unwrap();
                return running;
            }
        }
        panic!("it does not serve:\n{}", running.log);
    }

    fn serve(&self, args: &[&str]) -> Running {
        let mut command = self.command(args);
        command.arg("--config").arg(self.path("config.toml"));
        self.start(command)
    }
}

struct Running {
    address: SocketAddr,
    child: Child,
    log: String,
    lines: BufReader<std::process::ChildStderr>,
}

impl Running {
    fn signal(&self, name: &str) {
        kill(name, &self.child.id().to_string());
    }

    /// Asks it to stop; its exit code and all that it has logged.
    fn stop(mut self) -> (Option<i32>, String) {
        self.signal("TERM");
        let code = self.child.wait().unwrap().code();
        while self.lines.read_line(&mut self.log).unwrap() > 0 {}
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
struct Background(String);

impl Drop for Background {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-KILL", &self.0]).stderr(Stdio::null()).status();
    }
}

fn kill(signal: &str, pid: &str) {
    assert!(Command::new("kill").args([&format!("-{signal}"), pid]).status().unwrap().success());
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn run(args: &[&str]) -> Output {
    Command::new(support::program()).args(args).output().unwrap()
}

#[test]
fn prints_help_and_version_to_standard_output() {
    let help = run(&["--help"]);
    assert!(help.status.success() && help.stderr.is_empty());
    assert!(stdout(&help).starts_with("usage: cascade-hsm-bridge"));
    let version = run(&["-V"]);
    assert_eq!(stdout(&version), format!("cascade-hsm-bridge {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn refuses_a_wrong_command_line_with_exit_code_2() {
    let output = run(&["--chekc-config"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    assert!(stderr(&output).contains("unknown option --chekc-config, the nearest is --check-config"));
}

#[test]
fn survives_a_reader_that_goes_away() {
    let (gone, end) = UnixStream::pair().unwrap();
    drop(gone);
    let mut child =
        Command::new(support::program()).arg("-h").stdout(OwnedFd::from(end)).stderr(Stdio::piped()).spawn().unwrap();
    let status = child.wait().unwrap();
    assert!(status.success());
    assert_eq!(std::io::read_to_string(child.stderr.take().unwrap()).unwrap(), "");
}

/// The incumbent: `--check-config` passes a module and a certificate that do not exist.
#[test]
fn fault_6_check_config_tells_of_a_missing_module_and_a_missing_certificate_at_once() {
    let place = Place::new();
    place.write(
        "version = 'v1'\n[pkcs11]\nlib-path = '/nonexistent/module.so'\n[server]\nmax-connections = 0\n\
         [server.identity]\ncert-path = '/nonexistent/cert.pem'\nkey-path = '/nonexistent/key.pem'\n",
    );
    let output = place.run(&["--check-config"]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    assert!(said.contains("config.toml: server.max-connections: 0 is not between 1 and 65535 (line 5)\n"), "{said}");
    assert!(said.contains("server.identity.cert-path: cannot read /nonexistent/cert.pem"), "{said}");
    assert!(said.contains("server.identity.key-path: cannot read /nonexistent/key.pem"), "{said}");
    assert!(said.contains("pkcs11.lib-path: cannot open PKCS#11 module /nonexistent/module.so"), "{said}");
}

/// The incumbent: a missing configuration file panics.
#[test]
fn fault_6_a_missing_configuration_file_is_named_not_a_panic() {
    for args in [&["-c", "/nonexistent/config.toml"][..], &["-c", "/nonexistent/config.toml", "--check-config"]] {
        let output = run(args);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1));
        assert!(said.contains("cannot read the configuration file /nonexistent/config.toml: No such file"), "{said}");
        assert!(said.contains("hint: --config names another file"), "{said}");
        assert!(!said.contains("panicked"), "{said}");
        assert_eq!(said.matches("cannot read").count(), 1, "{said}");
    }
}

#[test]
fn check_config_passes_what_would_run_and_creates_nothing() {
    let place = Place::new();
    let output = place.run(&["--check-config"]);
    assert_eq!(stdout(&output), "configuration OK\n", "{}", stderr(&output));
    assert!(output.status.success());
    assert!(!place.path("state").exists());
}

#[test]
fn check_config_refuses_places_where_nothing_can_be_written() {
    let place = Place::new();
    place.configure("log-target = { type = 'file', path = '/nonexistent/x.log' }\npid-file = '/nonexistent/x.pid'");
    let output = place.run(&["--check-config"]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for wanted in ["cannot log to /nonexistent/x.log: ", "cannot take the pid-file /nonexistent/x.pid: "] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
}

#[test]
fn check_config_warns_of_a_state_directory_that_keeps_nothing() {
    let place = Place::new();
    let unfit = |args: &[&str]| {
        let output = place.run(&[&["--check-config"], args].concat());
        let said = stderr(&output);
        assert_eq!(stdout(&output), "configuration OK\n", "{said}");
        said.contains("warning: cannot keep a certificate in ")
    };
    assert!(!unfit(&[]));
    assert!(unfit(&["--state-dir", "/proc/nope"]));
    if fs::metadata("/proc/self").unwrap().uid() == 0
        && !skipped_in_part(place.token.is_for_one_user(), "the module serves one user")
    {
        // The identity has to read its configuration's module, and its own token.
        let store = place.token.directory();
        let changed = Command::new("chown").args(["-R", "65534:65534"]).arg(store).status().unwrap();
        assert!(changed.success());
        fs::set_permissions(place.directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let nobody = ["--user", "65534", "--group", "65534"];
        assert!(!unfit(&nobody));
        fs::create_dir(place.path("state")).unwrap();
        assert!(unfit(&nobody));
    }
    assert!(!place.path("state/server.crt").exists());
}

#[test]
fn check_config_prints_what_is_odd_as_a_warning() {
    let place = Place::new();
    place.configure("log_level = 'info'");
    let output = place.run(&["--check-config"]);
    assert_eq!(stdout(&output), "configuration OK\n");
    let said = stderr(&output);
    assert!(
        said.starts_with("warning: ") && said.contains("daemon.log_level: is the older spelling of log-level"),
        "{said}"
    );
}

#[test]
fn serves_until_told_to_stop_and_outlives_a_hangup() {
    let place = Place::new();
    let running = place.serve(&[]);
    running.signal("HUP");
    TcpStream::connect(running.address).unwrap();
    let address = running.address;
    let (code, log) = running.stop();
    assert_eq!(code, Some(0), "{log}");
    for part in ["INFO  cascade-hsm-bridge ", "SHA-256 fingerprint ", "PKCS#11 module ", "HUP: ", "stopped\n"] {
        assert!(log.contains(part), "{part} in {log}");
    }
    assert!(TcpStream::connect(address).is_err());
}

/// What logrotate does: rename, HUP. A log file that cannot be opened anew goes on where it is.
#[test]
fn opens_its_log_file_anew_on_hup() {
    let place = Place::new();
    let (logs, pid_file) = (place.path("logs"), place.path("pid"));
    fs::create_dir(&logs).unwrap();
    let (log, rotated) = (logs.join("log"), logs.join("log.1"));
    place.configure(&format!("log-target = {{ type = 'file', path = {log:?} }}\npid-file = {pid_file:?}"));
    assert!(place.run(&["-d"]).status.success());
    let pid = fs::read_to_string(&pid_file).unwrap().trim().to_owned();
    let _background = Background(pid.clone());
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let wait_for = |path: &Path, what: &str, times: usize| {
        let since = std::time::Instant::now();
        while read(path).matches(what).count() < times {
            assert!(since.elapsed() < Duration::from_secs(60), "{}", read(path));
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    fs::rename(&log, &rotated).unwrap();
    kill("HUP", &pid);
    wait_for(&log, "HUP: done", 1);
    assert!(read(&rotated).contains("listening on ") && !read(&rotated).contains("HUP"), "{}", read(&rotated));
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o640);
    let moved = place.path("moved");
    fs::rename(&logs, &moved).unwrap();
    kill("HUP", &pid);
    wait_for(&moved.join("log"), "HUP: done", 2);
    assert!(read(&moved.join("log")).contains("ERROR HUP: cannot log to "), "{}", read(&moved.join("log")));
    kill("TERM", &pid);
    wait_for(&moved.join("log"), "stopped", 1);
}

#[test]
fn tells_what_an_old_client_lacks() {
    let place = Place::new();
    let running = place.serve(&[]);
    let connect = ["s_client", "-tls1_2", "-connect", &running.address.to_string()].map(str::to_owned);
    let client = Command::new("openssl").args(connect).stdin(Stdio::null()).output().unwrap();
    assert!(!client.status.success());
    let (_, log) = running.stop();
    assert!(log.contains("TLS: the client offers neither TLS 1.3 nor what server.tls.min-version allows"), "{log}");
}

#[test]
fn tells_the_service_manager_when_it_serves_and_when_it_stops() {
    let place = Place::new();
    let manager = UnixDatagram::bind(place.path("notify")).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut command = place.command(&["-d", "--config"]);
    command.arg(place.path("config.toml")).env("NOTIFY_SOCKET", place.path("notify"));
    // A service manager that waits for this process must not see it go to the background.
    let running = place.start(command);
    let received = || {
        let mut buffer = [0; 64];
        let len = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    };
    assert_eq!(received(), "READY=1");
    let (code, log) = running.stop();
    assert_eq!(received(), "STOPPING=1");
    assert_eq!(code, Some(0));
    assert!(log.contains("daemonize is ignored"), "{log}");
}

/// A command that starts the program with `socket` as the descriptor that the service manager hands over.
fn with_inherited(place: &Place, socket: OwnedFd) -> Command {
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1; export LISTEN_PID LISTEN_FDS; exec \"$@\"";
    let mut command = place.prepared("sh", &["-c", script, "sh"]);
    command.arg(support::program()).arg("--config").arg(place.path("config.toml")).stdin(socket);
    command
}

#[test]
fn takes_over_a_socket_of_the_service_manager() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let running = place.start(with_inherited(&place, listener.try_clone().unwrap().into()));
    assert_eq!(running.address, address);
    let (code, log) = running.stop();
    assert_eq!(code, Some(0), "{log}");
    // The socket is the service manager's, and goes on listening for the next start.
    assert!(TcpStream::connect(address).is_ok());
}

/// Standard error is a socket that takes a few lines and then makes the program wait, in the midst of saying where it listens.
#[test]
fn who_reads_that_it_listens_can_stop_it_in_order_at_once() {
    let unread = fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen").unwrap();
    // A line each, which are more than may be unread.
    let sockets = unread.trim().parse::<usize>().unwrap() + 8;
    let place = Place::new();
    let (log, standard_error) = UnixDatagram::pair().unwrap();
    log.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let script = format!(
        "for n in {{3..{}}}; do eval \"exec $n<&0\"; done; exec </dev/null; LISTEN_PID=$$ LISTEN_FDS={sockets} exec \"$@\"",
        sockets + 2
    );
    let mut command = place.prepared("bash", &["-c", &script, "bash"]);
    command.arg(support::program()).arg("--config").arg(place.path("config.toml"));
    command.stdin(OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap())).stderr(OwnedFd::from(standard_error));
    let mut child = command.spawn().unwrap();
    // The other end of its standard error goes with the command.
    drop(command);
    let next = || {
        let mut line = [0; 4096];
        let len = log.recv(&mut line).unwrap_or(0);
        String::from_utf8_lossy(&line[..len]).into_owned()
    };
    while !next().contains("listening on ") {
        assert!(child.try_wait().unwrap().is_none());
    }
    kill("TERM", &child.id().to_string());
    let mut lines = 1;
    let last = loop {
        let line = next();
        lines += usize::from(line.contains("listening on "));
        if line.is_empty() || line.contains("stopped") {
            break line;
        }
    };
    assert_eq!((child.wait().unwrap().code(), lines), (Some(0), sockets), "{last}");
}

#[test]
fn refuses_a_socket_that_is_not_for_tcp() {
    let place = Place::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let output = with_inherited(&place, socket.into()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("cannot use the sockets of the service manager: descriptor 3 is not a TCP socket"), "{said}");
}

/// The process that has this one for its parent.
fn child_of(parent: &str) -> Option<String> {
    fs::read_dir("/proc").unwrap().find_map(|entry| {
        let status = fs::read_to_string(entry.ok()?.path().join("status")).ok()?;
        let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        (value("PPid:") == Some(parent) && value("State:")?.starts_with(['R', 'S', 'D']))
            .then(|| value("Pid:").unwrap().to_owned())
    })
}

#[test]
fn goes_to_the_background_once_it_serves_and_gives_root_up() {
    let place = Place::new();
    if skipped(place.token.is_for_one_user(), "the module serves one user") {
        return;
    }
    let (log, pid_file, secret) = (place.path("log"), place.path("pid"), place.path("secret"));
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let identity = if is_root { "identity = '65534:65534'" } else { "" };
    // Which only root can read.
    fs::write(&secret, &place.token.pin).unwrap();
    fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
    place.configure(&format!(
        "log-target = {{ type = 'file', path = {log:?} }}\npid-file = {pid_file:?}\n{identity}\n\
         [[token]]\nname = {:?}\npin-file = {secret:?}\n",
        place.token.label
    ));
    if is_root {
        // What the bridge becomes must be able to reach its token; its state directory root makes for it.
        let store = place.token.directory();
        let changed = Command::new("chown").args(["-R", "65534:65534"]).arg(store).status().unwrap();
        fs::set_permissions(place.directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        assert!(changed.success());
    }
    let output = place.run(&["--daemonize"]);
    let text = fs::read_to_string(&log).unwrap_or_default();
    assert!(output.status.success(), "{}{text}", stderr(&output));
    assert_eq!((stdout(&output), stderr(&output)), (String::new(), String::new()));

    let supervisor = fs::read_to_string(&pid_file).unwrap().trim().to_owned();
    let _background = Background(supervisor.clone());
    let address = text.split_once("listening on ").unwrap().1.lines().next().unwrap();
    let served = |times| fs::read_to_string(&log).unwrap().matches("listening on ").count() == times;
    for times in 1..=2 {
        support::until("it serves", || served(times));
        let child = child_of(&supervisor).unwrap();
        for pid in [&child, &supervisor] {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            // Field 7 of stat(5): no terminal.
            assert_eq!(stat.rsplit_once(") ").unwrap().1.split(' ').nth(4), Some("0"));
            assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/"));
        }
        let threads = fs::read_dir(format!("/proc/{supervisor}/task")).unwrap().count();
        let maps = [&supervisor, &child].map(|pid| fs::read_to_string(format!("/proc/{pid}/maps")).unwrap());
        let module = Token::module();
        let module = module.file_name().unwrap().to_str().unwrap();
        assert_eq!((threads, maps.map(|maps| maps.contains(module))), (1, [false, true]));
        let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap();
        if is_root {
            assert!(
                status.contains("Uid:\t65534\t65534\t65534\t65534\nGid:\t65534\t65534\t65534\t65534\n"),
                "{status}"
            );
            assert!(status.contains("Groups:\t65534 \n"), "{status}");
            assert_eq!(fs::metadata(place.path("state/server.key")).unwrap().uid(), 65534);
        }
        assert!(TcpStream::connect(address).is_ok());
        if times == 1 {
            // As the kernel does where memory runs out.
            kill("KILL", &child);
        }
    }
    kill("TERM", &supervisor);
    support::until("the pid-file goes", || !pid_file.exists());
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.ends_with("stopped\n"), "{text}");
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o640);
    let mode = |name: &str| fs::metadata(place.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("state"), mode("state/server.crt"), mode("state/server.key")), (0o755, 0o644, 0o600));
}

/// pkcs11-spy opens its record with the first call to it: whose that is, is whose the module was loaded.
#[test]
fn the_module_is_loaded_only_after_root_is_given_up() {
    let place = Place::new();
    if skipped(fs::metadata("/proc/self").unwrap().uid() != 0, "there is no root here to be given up")
        || skipped(place.token.is_for_one_user(), "the module serves one user")
        || Spy::is_blind(&place.token)
    {
        return;
    }
    let changed = Command::new("chown").args(["-R", "65534:65534"]).arg(place.token.directory()).status().unwrap();
    assert!(changed.success());
    fs::set_permissions(place.directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
    place.write(&format!(
        "version = 'v1'\n[pkcs11]\nlib-path = {:?}\n[server]\naddr = '127.0.0.1:0'\n[daemon]\nidentity = '65534:65534'\nstate-dir = {:?}\n",
        Hsm::Spy.library(),
        place.path("state")
    ));
    let command = |record: &str, args: &[&str]| {
        let mut command = place.command(args);
        command.arg("--config").arg(place.path("config.toml"));
        command.env("PKCS11SPY", Hsm::chosen().behind_spy()).env("PKCS11SPY_OUTPUT", place.path(record));
        command
    };
    let checked = command("checked", &["--check-config"]).output().unwrap();
    assert!(checked.status.success(), "{}", stderr(&checked));
    assert_eq!(place.start(command("served", &[])).stop().0, Some(0));
    for record in ["checked", "served"] {
        assert_eq!(fs::metadata(place.path(record)).unwrap().uid(), 65534, "{record}");
    }
    // What a module creates without thought for its mode is its user's alone.
    assert_eq!(fs::metadata(place.path("served")).unwrap().permissions().mode() & 0o777, 0o600);
}

/// Some starters ignore SIGCHLD, and what is ignored stays so in the programs that they start.
#[test]
fn goes_to_the_background_also_where_ended_children_are_ignored() {
    let place = Place::new();
    let (log, pid_file) = (place.path("log"), place.path("pid"));
    place.configure(&format!("log-target = {{ type = 'file', path = {log:?} }}\npid-file = {pid_file:?}"));
    let mut command = place.prepared("env", &["--ignore-signal=CHLD"]);
    command.arg(support::program()).arg("-d").arg("--config").arg(place.path("config.toml"));
    let output = command.output().unwrap();
    let _background = Background(fs::read_to_string(&pid_file).unwrap_or_default().trim().to_owned());
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn two_bridges_do_not_share_a_pid_file() {
    let place = Place::new();
    let (log, pid_file) = (place.path("log"), place.path("pid"));
    place.configure(&format!(
        "log-target = {{ type = 'file', path = {log:?} }}\npid-file = {pid_file:?}\ndaemonize = true"
    ));
    let first = place.run(&[]);
    assert!(first.status.success(), "{}", stderr(&first));
    let pid = fs::read_to_string(&pid_file).unwrap();
    let _background = Background(pid.trim().to_owned());
    for args in [&[][..], &["--log", "stderr"]] {
        let second = place.run(args);
        assert_eq!(second.status.code(), Some(1));
        let said = stderr(&second);
        assert!(
            said.contains(&format!("cannot take the pid-file {}: it is held by another bridge", pid_file.display()))
        );
        assert_eq!(fs::read_to_string(&pid_file).unwrap(), pid);
    }
    assert!(place.run(&["--check-config"]).status.success());
}

/// What is open here is open to the module too.
#[test]
fn keeps_no_descriptor_that_it_was_started_with_by_chance() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command =
        place.prepared("sh", &["-c", "exec 3<&0 9</dev/zero </dev/null; LISTEN_PID=$$ exec \"$@\"", "sh"]);
    command.arg(support::program()).arg("--config").arg(place.path("config.toml"));
    let running = place.start({
        command.env("LISTEN_FDS", "1").stdin(OwnedFd::from(listener));
        command
    });
    assert!(running.log.contains("using the sockets of the service manager"), "{}", running.log);
    let open = fs::read_dir(format!("/proc/{}/fd", running.child.id())).unwrap();
    let open: Vec<_> = open.map(|entry| fs::read_link(entry.unwrap().path()).unwrap_or_default()).collect();
    assert!(!open.contains(&"/dev/zero".into()), "{open:?}");
    assert_eq!(running.stop().0, Some(0));
}

#[test]
fn the_started_process_tells_why_the_background_one_does_not_serve() {
    let place = Place::new();
    let log = place.path("log");
    place.write(&format!(
        "version = 'v1'\n[pkcs11]\nlib-path = '/nonexistent/m.so'\n[server]\naddr = '127.0.0.1:0'\n\
         [daemon]\nlog-target = {{ type = 'file', path = {log:?} }}\nstate-dir = {:?}\n",
        place.path("state")
    ));
    let output = place.run(&["-d"]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("/nonexistent/m.so") && said.contains("\nhint: "), "{said}");
    assert!(fs::read_to_string(&log).unwrap().contains("ERROR"));
}

#[test]
fn a_start_that_fails_is_told_once_where_the_log_is_the_terminal() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (module, address) = (Token::module(), taken.local_addr().unwrap());
    place.write(&format!("version = 'v1'\n[pkcs11]\nlib-path = {module:?}\n[server]\naddr = '{address}'\n"));
    let output = place.run(&[]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(said.matches(&format!("cannot listen on {address}")).count(), 1, "{said}");
}

#[test]
fn a_start_that_fails_for_several_reasons_logs_a_line_for_each() {
    let place = Place::new();
    place.configure("log-level = 'loud'\nuser = 1\npid_file = 7");
    let said = stderr(&place.run(&[]));
    let errors: Vec<_> = said.lines().filter(|line| line.contains(" ERROR ")).collect();
    assert_eq!(errors.len(), 3, "{said}");
    assert!(errors[0].contains("daemon.log-level: \"loud\" is not one of"), "{said}");
    assert!(errors.iter().all(|line| !line.contains("\\n")), "{said}");
}

#[test]
fn logs_for_the_journal_without_times() {
    let place = Place::new();
    let log = fs::File::create(place.path("log")).unwrap();
    let metadata = log.metadata().unwrap();
    let mut command = place.command(&["-c", "/nonexistent/config.toml"]);
    command.env("JOURNAL_STREAM", format!("{}:{}", metadata.dev(), metadata.ino())).stderr(log);
    assert!(!command.status().unwrap().success());
    let text = fs::read_to_string(place.path("log")).unwrap();
    assert!(text.starts_with("<3>cannot read the configuration file"), "{text}");
    assert_eq!(text.lines().count(), 1);
}
