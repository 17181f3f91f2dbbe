//! The program in the background: who it becomes, which processes there are, what passes between them, its log and its pid-file.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::hsm::{Hsm, skipped};
use support::place::{Background, Place, kill, stderr, stdout};
use support::spy::Spy;
use support::{Token, until};

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
        until("it serves", || served(times));
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
    until("the pid-file goes", || !pid_file.exists());
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
