//! Start and stop of the server, in order, one step after the other.
#![forbid(unsafe_code)]

mod background;
mod hearing;
mod loading;
mod module_output;
mod pid_file;
mod reload;
mod supervisor;
mod watchdog;

use std::fmt;
use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use log::{debug, error, info, warn};

use crate::bridge::access::Clients;
use crate::bridge::{Bridge, PublicKeys};
use crate::config::{self, Config, Overrides};
use crate::logging::{self, Target};
use crate::server::tls::{self, Certificate, Origin};
use crate::server::{Running, Server};
use crate::sys::{Signal, Signals};
use crate::{notify, sys};
use background::{Place, Starter};
use hearing::Hearing;
use module_output::ModuleOutput;
use pid_file::PidFile;
use reload::Reload;
use supervisor::{Report, Role};

/// Serves as the file at `path` and `overrides` say, until it is told to stop.
pub fn run(path: &Path, overrides: &Overrides) -> ExitCode {
    logging::start();
    let mut audience = Audience { log_on_stderr: true, starter: None };
    match serve(path, overrides, &mut audience) {
        Ok(code) => code,
        Err(Failure(why)) => {
            audience.hear(&why);
            ExitCode::FAILURE
        }
    }
}

fn serve(path: &Path, overrides: &Overrides, audience: &mut Audience) -> Result<ExitCode, Failure> {
    let config = configuration(path, overrides)?;
    // Before there is another thread, let alone the module.
    config.set_environment();
    sys::restrict_new_files();
    sys::forbid_core_dumps().map_err(because("cannot switch core dumps off"))?;
    sys::keep_ended_children();
    let signals = Signals::block().map_err(because("cannot block signals"))?;

    let server = listen(&config)?;
    let addresses = server.local_addrs();
    let mut pid_file = claim_pid_file(&config)?;
    let goes_to_background = goes_to_background(&config);
    if goes_to_background {
        match background::enter().map_err(because("cannot go on in the background"))? {
            Place::Foreground(other) => {
                // From here on it is the other's.
                if let Some(file) = pid_file {
                    file.leave();
                }
                signals.unblock();
                return Ok(outcome(other.wait()));
            }
            Place::Background(starter) => audience.starter = Some(starter),
        }
    }
    switch_log(&config, audience)?;
    if let Some(file) = &mut pid_file {
        file.write().map_err(because("cannot write the pid-file"))?;
    }
    let (server, report) = match goes_to_background {
        false => (server, Report::default()),
        true => match supervise(server, &config, &signals, audience)? {
            Role::Ended(code) => return Ok(ExitCode::from(code)),
            Role::Serving(server, report) => {
                // It is the supervisor's, and locked as long as either of them is there.
                if let Some(file) = pid_file.take() {
                    file.leave();
                }
                (*server, report)
            }
        },
    };
    let hearing = Hearing::begin(signals, report.clone()).map_err(because("cannot hear signals"))?;
    info!("{} {}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));

    // What only root can read is read while it can be.
    let configured_tls = match config.tls.identity {
        Some(_) => Some(tls::load(&config.tls, &addresses)?),
        None => None,
    };
    let clients = clients(&config)?;
    give_up_root(&config)?;
    report.end_with_supervisor().map_err(because("cannot end with the supervisor"))?;
    let tls = match configured_tls {
        Some(tls) => tls,
        // Only now, so that what is made belongs to whom it serves.
        None => tls::load(&config.tls, &addresses)?,
    };
    log_certificate(&tls.certificate);
    let public_keys = public_keys(&config)?;
    let module_output = ModuleOutput::begin().map_err(because("cannot keep the module's output apart"))?;
    let tokens = loading::load(&config, audience)?;

    let bridge = Arc::new(Bridge::new(tokens, config.bridge.clone()));
    bridge.admit_clients(clients);
    bridge.look_for_public_keys_in(public_keys);
    let failed = Arc::new(AtomicBool::new(false));
    let server = stop_on_failure(server, &failed);
    let running = server.run(Arc::clone(&tls.config), Arc::<Bridge>::clone(&bridge))?;
    // Before anybody is told that it serves: who stops it then finds it in order.
    hearing.serving();
    for address in &addresses {
        info!("listening on {address}");
    }
    if let Err(why) = notify::send(notify::READY) {
        warn!("cannot tell the service manager that the bridge is ready: {why}");
    }
    report.serves();
    if let Some(starter) = audience.starter.take() {
        starter.serves();
    }

    watchdog::start(&bridge, config.pkcs11.call_timeout);

    let reload = Reload {
        config: &config,
        addresses: &addresses,
        running: &running,
        bridge: &bridge,
        in_force: Arc::new(Mutex::new(tls)),
    };
    reload.watch_expiry();
    wait_for_stop(&hearing, &reload)?;
    if !failed.load(Ordering::Acquire) {
        // Whatever the module does at its end, nobody wants another start.
        report.ends();
    }
    stop(running, &bridge);
    drop(pid_file);
    drop(module_output);
    info!("stopped");
    // A module's exit handlers run after its threads and memory are gone, and some crash there.
    sys::leave(i32::from(failed.load(Ordering::Acquire)))
}

/// The clients of the configuration, with the secrets that it names.
fn clients(config: &Config) -> Result<Clients, Failure> {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
    Ok(Clients::load(&config.access, credentials.as_deref().map(Path::new))?)
}

/// The public keys of the configured directory. A file that cannot be used keeps nobody from the keys that do not need it.
fn public_keys(config: &Config) -> Result<PublicKeys, Failure> {
    let Some(directory) = &config.bridge.public_keys else { return Ok(PublicKeys::default()) };
    let (keys, odd) = PublicKeys::load(directory)?;
    for why in odd {
        warn!("{why}");
    }
    info!("public keys in {}: {}", directory.display(), keys.len());
    Ok(keys)
}

fn configuration(path: &Path, overrides: &Overrides) -> Result<Config, Failure> {
    let judged = config::read(path, overrides)?;
    judged.log_warnings();
    Ok(judged.sound()?)
}

/// Takes over the sockets that the service manager opened, or opens one; as root, so that any port will do.
fn listen(config: &Config) -> Result<Server, Failure> {
    const OTHERS: u64 = 64;
    let wanted = u64::try_from(config.server.max_connections).unwrap_or(u64::MAX).saturating_add(OTHERS);
    let allowed = sys::allow_descriptors(wanted).map_err(because("cannot set the limit of open files"))?;
    if allowed < wanted {
        warn!("{allowed} open files are allowed, but {wanted} may be needed\nhint: raise LimitNOFILE or ulimit -n");
    }
    let inherited = sys::inherited_listeners().map_err(because("cannot use the sockets of the service manager"))?;
    if inherited.is_empty() {
        return Ok(Server::bind(&config.server)?);
    }
    info!("using the sockets of the service manager instead of server.addr");
    Ok(Server::adopt(inherited, &config.server)?)
}

fn goes_to_background(config: &Config) -> bool {
    if config.daemon.daemonize && notify::is_expected() {
        // To the service manager it would look as if the program ended.
        warn!("daemonize is ignored: the service manager waits for this process");
        return false;
    }
    config.daemon.daemonize
}

/// Splits the bridge into a process that serves and one that watches over it.
fn supervise(server: Server, config: &Config, signals: &Signals, audience: &mut Audience) -> Result<Role, Failure> {
    let open_log = || {
        if let Err(why) = open_log(config) {
            error!("HUP: {why}\nhint: messages of the supervisor go where they went");
        }
    };
    let starter = &mut audience.starter;
    supervisor::supervise(server, signals, starter, open_log).map_err(because("cannot supervise the bridge"))
}

/// Opens the log, perhaps as root for whom the bridge becomes.
fn open_log(config: &Config) -> Result<(), logging::Error> {
    let owner = config.daemon.identity.as_ref().filter(|_| sys::is_root());
    logging::switch(&config.log, owner.map(|identity| (identity.uid, identity.gid)))
}

fn switch_log(config: &Config, audience: &mut Audience) -> Result<(), Failure> {
    open_log(config)?;
    let to_stderr = config.log.target == Target::Stderr;
    audience.log_on_stderr = to_stderr;
    if audience.starter.is_some() {
        if to_stderr {
            warn!(
                "the log goes to standard error in the background too\nhint: daemon.log-target or --log names another place"
            );
        }
        background::leave_terminal(to_stderr).map_err(because("cannot leave the terminal"))?;
    }
    Ok(())
}

/// Before the fork, so that the process that was started can tell that another bridge has it.
fn claim_pid_file(config: &Config) -> Result<Option<PidFile>, Failure> {
    let Some(path) = &config.daemon.pid_file else { return Ok(None) };
    let claimed = PidFile::claim(path);
    claimed.map(Some).map_err(because(format_args!("cannot take the pid-file {}", path.display())))
}

/// Becomes the identity of the configuration. No code of the module has run before this.
fn give_up_root(config: &Config) -> Result<(), Failure> {
    let Some(identity) = &config.daemon.identity else {
        if sys::is_root() {
            warn!("the PKCS#11 module will run as root\nhint: daemon.identity or --user names whom to become");
        }
        return Ok(());
    };
    if sys::is_root() && config.tls.identity.is_none() {
        make_state_dir(&config.state_dir, identity);
    }
    sys::become_identity(identity)?;
    // The change of user has undone part of it.
    sys::forbid_core_dumps().map_err(because("cannot switch core dumps off"))?;
    debug!("became user {} and group {}", identity.uid, identity.gid);
    Ok(())
}

/// Makes the state directory for `identity`, which could not do so itself. One that is there is left as it is, and one that
/// cannot be made is told of by whoever needs it.
fn make_state_dir(path: &Path, identity: &sys::Identity) {
    if DirBuilder::new().mode(0o700).create(path).is_err() {
        return;
    }
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let given = File::options().read(true).custom_flags(flags).open(path).and_then(|directory| {
        // Clients' operators are to reach the certificate in it, whatever the umask says.
        directory.set_permissions(Permissions::from_mode(0o755))?;
        fchown(&directory, Some(identity.uid), Some(identity.gid))
    });
    if let Err(why) = given {
        warn!("cannot give {} to user {}: {why}", path.display(), identity.uid);
    }
}

fn log_certificate(certificate: &Certificate) {
    let kind = match certificate.origin {
        Origin::Configured => "certificate",
        Origin::Kept => "self-signed certificate",
        Origin::Made | Origin::Unkept => "new self-signed certificate",
    };
    let place = certificate.path.as_ref().map(|path| format!(" {}", path.display())).unwrap_or_default();
    info!("{kind}{place}, SHA-256 fingerprint {}", certificate.fingerprint);
}

/// A bridge that cannot be reached is better restarted.
fn stop_on_failure(server: Server, failed: &Arc<AtomicBool>) -> Server {
    let failed = Arc::clone(failed);
    server.on_failure(move |_, _| {
        failed.store(true, Ordering::Release);
        sys::request_stop();
    })
}

fn wait_for_stop(hearing: &Hearing, reload: &Reload<'_>) -> Result<(), Failure> {
    loop {
        match hearing.next().map_err(because("cannot wait for signals"))? {
            Signal::Hangup => reload.run(),
            Signal::Stop => return Ok(()),
        }
    }
}

/// Lets the requests in hand finish, then leaves the module. A second signal ends the process at once.
fn stop(running: Running, bridge: &Bridge) {
    info!("stopping");
    if let Err(why) = notify::send(notify::STOPPING) {
        debug!("cannot tell the service manager that the bridge stops: {why}");
    }
    match running.stop() {
        0 => {}
        cut_off => warn!("{cut_off} connections were cut off, their requests took too long"),
    }
    bridge.tokens().finalize();
}

/// Who is to hear of a start that fails, beside the log.
struct Audience {
    /// The log goes to standard error, where whoever started the program reads it.
    log_on_stderr: bool,
    /// The process that was started, if this one went on in the background.
    starter: Option<Starter>,
}

impl Audience {
    /// The same listeners, for another thread.
    fn another(&self) -> io::Result<Self> {
        let starter = self.starter.as_ref().map(Starter::another).transpose()?;
        Ok(Self { starter, ..*self })
    }

    /// Logs why the start goes no further, and tells the others.
    fn hear(&mut self, why: &str) {
        for record in records(why) {
            error!("{record}");
        }
        let why = if self.log_on_stderr { "" } else { why };
        match self.starter.take() {
            Some(starter) => starter.fails(why),
            None => print(why),
        }
    }
}

/// How the process that was started ends.
fn outcome(background: Result<(), String>) -> ExitCode {
    match background {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            print(&why);
            ExitCode::FAILURE
        }
    }
}

fn print(why: &str) {
    if !why.is_empty() {
        // There is nobody left to tell if this fails.
        let _ = writeln!(logging::stderr::Stderr, "{why}");
    }
}

/// Why the start went no further: what, why, and a hint on its own line where there is one.
struct Failure(String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure(error.to_string())
    }
}

/// The messages of `text`, each with its hint: one record of the log for each thing that is wrong.
fn records(text: &str) -> Vec<String> {
    let mut records: Vec<String> = Vec::new();
    for line in text.lines() {
        match records.last_mut().filter(|_| line.starts_with("hint: ")) {
            Some(record) => record.extend(["\n", line]),
            None => records.push(line.to_owned()),
        }
    }
    records
}

/// Puts before an error what it stands in the way of.
fn because(what: impl fmt::Display) -> impl FnOnce(io::Error) -> Failure {
    move |why| Failure(format!("{what}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_each_message_with_its_own_hint() {
        assert_eq!(records("a: x\nhint: y\nb\nc\nhint: z"), ["a: x\nhint: y", "b", "c\nhint: z"]);
        assert_eq!(records("hint: alone"), ["hint: alone"]);
    }
}
