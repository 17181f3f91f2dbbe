//! The program as an operator meets it: command line, configuration check, start, signals, stop.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use support::Token;
use support::hsm::skipped_in_part;
use support::place::{Place, kill, stderr, stdout};

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
