//! A module that hangs or crashes while the bridge starts or serves: who hears of it, who starts the next process, and that clients wait
//! for it.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::ffi::OsStr;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use support::bridge::Reachable;
use support::key::{KeyPair, sign_item};
use support::place::kill;
use support::scratch::Scratch;
use support::secrets::Secrets;
use support::{Client, Faulty, KeySpec, Token, until};

/// The next process aborts, too, and so does the one that serves at the next signature.
const ABORT_ALWAYS: &str = "[[fault]]\nfunctions = [\"C_Initialize\", \"C_Sign\"]\nabort = true\n";

/// The one that serves aborts at the next signature, and the next one waits for the end of this.
const ABORT_ONCE: &str =
    "[[fault]]\nfunction = \"C_Sign\"\nabort = true\n[[fault]]\nfunction = \"C_Initialize\"\nhang = true\n";

/// A token behind the faulty module, and a directory with a configuration.
struct Place {
    token: Token,
    faulty: Faulty,
    secrets: Arc<Secrets>,
    directory: Scratch,
}

impl Place {
    fn new(call_timeout: u32) -> Place {
        let (token, faulty, secrets) = (Token::create(), Faulty::new(), Arc::<Secrets>::default());
        secrets.add(&token.pin);
        let place = Place { token, faulty, secrets, directory: Scratch::new("starting") };
        let module = place.faulty.options().module.unwrap();
        let [log, pid_file, state] = ["log", "pid", "state"].map(|name| place.path(name));
        place.directory.file(
            "config.toml",
            format!(
                "version = 'v1'\n[pkcs11]\nlib-path = {module:?}\ncall-timeout = {call_timeout}\n[server]\n\
                 addr = '127.0.0.1:0'\n[daemon]\nlog-level = 'trace'\nlog-target = {{ type = 'file', path = {log:?} }}\n\
                 pid-file = {pid_file:?}\nstate-dir = {state:?}\n"
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

    fn pid(&self) -> String {
        fs::read_to_string(self.path("pid")).unwrap_or_default().trim().to_owned()
    }

    fn command(&self, program: impl AsRef<OsStr>, args: &[&str]) -> Command {
        let mut command = self.token.command(program);
        for name in ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "STATE_DIRECTORY", "JOURNAL_STREAM"] {
            command.env_remove(name);
        }
        command.args(args).envs(self.faulty.options().environment).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Runs it to its end.
    fn run(&self, args: &[&str]) -> Output {
        let mut command = self.command(support::program(), args);
        let mut child = command.arg("--config").arg(self.path("config.toml")).stderr(Stdio::piped()).spawn().unwrap();
        until("it ends", || child.try_wait().unwrap().is_some());
        child.wait_with_output().unwrap()
    }

    /// Starts it in the background.
    fn start(&self) -> Background<'_> {
        let output = self.run(&["-d"]);
        assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stderr), self.log());
        let log = self.log();
        let address = log.rsplit_once("listening on ").unwrap().1.lines().next().unwrap().parse().unwrap();
        Background { place: self, address, supervisor: self.pid() }
    }

    /// Starts it in the foreground, with a socket that it is handed.
    fn start_on(&self, socket: &TcpListener) -> Child {
        let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1; export LISTEN_PID LISTEN_FDS; exec \"$@\"";
        let mut command = self.command("sh", &["-c", script, "sh"]);
        command.arg(support::program()).arg("--config").arg(self.path("config.toml")).stderr(Stdio::null());
        command.stdin(OwnedFd::from(socket.try_clone().unwrap())).spawn().unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let pid = self.pid();
        if !pid.is_empty() {
            let _ = Command::new("kill").args(["-KILL", &pid]).stderr(Stdio::null()).status();
        }
        if !std::thread::panicking() {
            self.secrets.are_not_in(&self.log(), "");
        }
    }
}

/// A bridge that answers clients at an address.
struct At<'p>(&'p Place, SocketAddr);

impl Reachable for At<'_> {
    fn address(&self) -> SocketAddr {
        self.1
    }

    fn certificate(&self) -> PathBuf {
        self.0.path("state/server.crt")
    }

    fn secrets(&self) -> &Arc<Secrets> {
        &self.0.secrets
    }
}

/// A bridge in the background.
struct Background<'p> {
    place: &'p Place,
    address: SocketAddr,
    supervisor: String,
}

impl Background<'_> {
    fn client(&self) -> Client {
        Client::connect(&At(self.place, self.address), &self.place.token)
    }

    /// The processes that have this one for a parent.
    fn children(&self) -> Vec<String> {
        let processes =
            fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
        processes.filter(|pid| stat(pid).is_some_and(|stat| stat[1] == self.supervisor)).collect()
    }

    /// The one that serves.
    fn child(&self) -> String {
        let children = self.children();
        assert_eq!(children.len(), 1, "{children:?}");
        children.into_iter().next().unwrap()
    }

    /// Holds that it ends, and leaves nothing behind.
    fn is_gone(&self) {
        until("the pid-file goes", || !self.place.path("pid").exists());
        until("the supervisor ends", || has_ended(&self.supervisor));
        assert_eq!(self.children(), [""; 0]);
        TcpListener::bind(self.address).unwrap();
    }
}

/// What stat(5) says of a process, from its state on.
fn stat(pid: &str) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect())
}

/// Also if whoever it is a child of does not care.
fn has_ended(pid: &str) -> bool {
    stat(pid).is_none_or(|stat| stat[0] == "Z")
}

/// Has the process abort.
fn abort(client: &mut Client, pair: &KeyPair, token: &Token) {
    let request = client.request(vec![sign_item(&pair.private, token.sign_parameters(), b"data")]);
    client.send(&request.encode());
    assert!(client.is_cut_off());
}

/// When the supervisor was to start another process, as it said.
fn restarts(log: &str) -> Vec<&str> {
    let told = log.lines().filter_map(|line| line.split_once("ERROR the process that serves ended: "));
    told.map(|(_, rest)| rest.split_once("another is started ").unwrap().1.split_once(',').unwrap().0).collect()
}

#[test]
fn a_module_that_hangs_at_the_start_is_given_up_and_told_of() {
    for (function, named) in
        [("C_Initialize", "C_Initialize, or loading it,"), ("C_GetTokenInfo", "C_GetSlotList or C_GetTokenInfo")]
    {
        for args in [&[][..], &["-d"]] {
            let place = Place::new(1);
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

#[test]
fn a_module_that_aborts_in_the_background_costs_its_connections_and_the_others_wait_for_the_next_process() {
    let place = Place::new(60);
    let bridge = place.start();
    let mut client = bridge.client();
    let pair = client.create_key_pair(&KeySpec::any(&place.token));
    let first = bridge.child();
    place.faulty.play(ABORT_ONCE);
    abort(&mut client, &pair, &place.token);
    until("the next one starts", || place.faulty.count("calls-hanging") == 1);
    // Nobody accepts connections now.
    let waiting = TcpStream::connect(bridge.address).unwrap();
    assert!(has_ended(&first) && bridge.child() != first);
    place.faulty.play("");
    let mut client = Client::over(waiting, &At(&place, bridge.address), &place.token);
    client.sign(&pair.private, place.token.sign_parameters(), b"data");
    assert_eq!(place.pid(), bridge.supervisor);
    assert_eq!(restarts(&place.log()), ["at once"], "{}", place.log());
    assert!(place.log().contains("the process that serves ended: signal: 6 (SIGABRT)"), "{}", place.log());
    kill("TERM", &bridge.supervisor);
    bridge.is_gone();
    assert!(place.log().ends_with("INFO  stopped\n"), "{}", place.log());
}

#[test]
fn a_hangup_reaches_both_processes_in_the_background() {
    let place = Place::new(60);
    let bridge = place.start();
    let mut client = bridge.client();
    let pair = client.create_key_pair(&KeySpec::any(&place.token));
    fs::rename(place.path("log"), place.path("log.1")).unwrap();
    kill("HUP", &bridge.supervisor);
    until("the hangup is told of", || place.log().contains("HUP: done"));
    place.faulty.play(ABORT_ONCE);
    abort(&mut client, &pair, &place.token);
    // Which the supervisor says.
    until("the end is told of", || !restarts(&place.log()).is_empty());
    let old = fs::read_to_string(place.path("log.1")).unwrap();
    assert!(!old.contains("HUP") && restarts(&old).is_empty(), "{old}");
    // Whom nobody is connected to any more is stopped all the same.
    kill("TERM", &bridge.supervisor);
    bridge.is_gone();
}

#[test]
fn whichever_process_is_told_to_stop_both_do_in_order() {
    let place = Place::new(60);
    let bridge = place.start();
    kill("TERM", &bridge.child());
    bridge.is_gone();
    assert!(restarts(&place.log()).is_empty() && place.log().ends_with("INFO  stopped\n"), "{}", place.log());
    // A supervisor that is killed cannot tell the other process, which is not to stay without it.
    let bridge = place.start();
    let child = bridge.child();
    kill("KILL", &bridge.supervisor);
    until("the other process ends", || has_ended(&child));
    assert!(place.log().ends_with("INFO  stopped\n"), "{}", place.log());
    TcpListener::bind(bridge.address).unwrap();
    let bridge = place.start();
    kill("TERM", &bridge.supervisor);
    bridge.is_gone();
}

/// As `pkill` does, and a service manager with a control group.
#[test]
fn both_processes_told_to_stop_at_once_stop_in_order() {
    let place = Place::new(60);
    let bridge = place.start();
    let mut client = bridge.client();
    let pair = client.create_key_pair(&KeySpec::any(&place.token));
    place.faulty.play("[[fault]]\nfunction = \"C_Sign\"\nhang = true\n");
    std::thread::scope(|scope| {
        let sign = scope.spawn(|| client.sign(&pair.private, place.token.sign_parameters(), b"data"));
        until("it signs", || place.faulty.count("calls-hanging") == 1);
        let child = bridge.child();
        kill("TERM", &child);
        kill("TERM", &bridge.supervisor);
        until("it stops", || place.log().contains("stopping"));
        // That the other signal comes meanwhile: without it, this holds nothing.
        std::thread::sleep(std::time::Duration::from_millis(300));
        place.faulty.play("");
        assert!(!sign.join().unwrap().is_empty());
    });
    bridge.is_gone();
    assert!(place.log().ends_with("stopped\n") && !place.log().contains("at once"), "{}", place.log());
}

#[test]
fn a_module_that_aborts_at_every_start_is_started_again_after_growing_pauses() {
    let place = Place::new(60);
    let bridge = place.start();
    let mut client = bridge.client();
    let pair = client.create_key_pair(&KeySpec::any(&place.token));
    place.faulty.play(ABORT_ALWAYS);
    abort(&mut client, &pair, &place.token);
    let pauses = ["at once", "in 1 s", "in 2 s", "in 4 s", "in 8 s", "in 16 s", "in 30 s"];
    let restarts = || {
        let log = place.log();
        let told = restarts(&log);
        assert_eq!(told, pauses[..told.len()], "{log}");
        told.len()
    };
    until("it has ended three times", || restarts() >= 3);
    assert!(place.faulty.processes().len() <= restarts() + 1);
    // In hundredths of a second, its own: there are no turns that it would take in vain.
    let stat = stat(&bridge.supervisor).unwrap();
    let time: u64 = stat[11..13].iter().map(|time| time.parse::<u64>().unwrap()).sum();
    assert!(time < 50, "{stat:?}");
    let waiting = TcpStream::connect(bridge.address).unwrap();
    place.faulty.play("");
    let mut client = Client::over(waiting, &At(&place, bridge.address), &place.token);
    client.sign(&pair.private, place.token.sign_parameters(), b"data");
    place.faulty.play(ABORT_ALWAYS);
    let before = restarts();
    abort(&mut client, &pair, &place.token);
    until("it has ended again", || restarts() > before);
    // In the middle of the pause.
    kill("TERM", &bridge.supervisor);
    bridge.is_gone();
    assert!(place.log().ends_with("INFO  stopped\n"), "{}", place.log());
    assert_eq!(place.faulty.processes().len(), restarts());
}

#[test]
fn a_module_that_answers_nobody_in_the_background_is_started_anew() {
    let place = Place::new(1);
    let bridge = place.start();
    let mut client = bridge.client();
    let pair = client.create_key_pair(&KeySpec::any(&place.token));
    place.faulty.happen("jam");
    let sign = sign_item(&pair.private, place.token.sign_parameters(), b"data");
    client.call(sign).is_refused(support::tags::reason::GENERAL_FAILURE);
    // The next process is not to be jammed as well; this one stays so.
    place.faulty.play("");
    until("it is given up", || !restarts(&place.log()).is_empty());
    assert!(place.log().contains("the process that serves ended: exit status: 1"), "{}", place.log());
    bridge.client().sign(&pair.private, place.token.sign_parameters(), b"data");
    kill("TERM", &bridge.supervisor);
    bridge.is_gone();
}

/// What cannot even start would only be tried in vain: who has started it is there to look into it.
#[test]
fn a_module_that_aborts_at_the_first_start_is_not_started_again() {
    let place = Place::new(60);
    place.faulty.play(ABORT_ALWAYS);
    let output = place.run(&["-d"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the background process ended before it served\nhint: its log says more"), "{said}");
    until("the pid-file goes", || !place.path("pid").exists());
    assert!(place.log().contains("ERROR the process that was to serve, or to stop, ended: signal: 6 (SIGABRT)"));
    assert_eq!(place.faulty.processes().len(), 1);
}

/// What systemd does with a socket unit.
#[test]
fn clients_wait_at_the_service_managers_socket_for_the_next_bridge_when_a_module_aborts() {
    let place = Place::new(60);
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let mut first = place.start_on(&socket);
    until("it serves", || place.log().contains("listening on "));
    let mut client = Client::connect(&At(&place, address), &place.token);
    let pair = client.create_key_pair(&KeySpec::any(&place.token));
    place.faulty.play("[[fault]]\nfunction = \"C_Sign\"\nabort = true\n");
    abort(&mut client, &pair, &place.token);
    assert_eq!(first.wait().unwrap().signal(), Some(6));
    let waiting = TcpStream::connect(address).unwrap();
    place.faulty.play("");
    let mut second = place.start_on(&socket);
    let mut client = Client::over(waiting, &At(&place, address), &place.token);
    client.sign(&pair.private, place.token.sign_parameters(), b"data");
    kill("TERM", &second.id().to_string());
    assert!(second.wait().unwrap().success());
    assert!(!Path::new(&place.path("pid")).exists());
}
