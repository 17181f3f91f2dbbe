//! The configuration: the file and the command line, judged in full, as the settings of each layer.
#![forbid(unsafe_code)]

mod clients;
mod hidden;
mod key_template;
pub mod keys;
mod nearest;
mod problem;
mod tokens;
mod values;
mod written;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use log::LevelFilter;
use zeroize::Zeroizing;

pub use keys::LEVELS;
pub use nearest::nearest;
pub use problem::{Error, Problem};

use crate::bridge::access::{FailedLogins, Login, Secret, Source, TokenSettings};
use crate::server::tls;
use crate::{bridge, logging, pkcs11, server, sys};
use keys::LogTarget;
use written::{Written, quoted};

/// Where the configuration is unless the command line says otherwise.
pub const DEFAULT_PATH: &str = "/etc/cascade-hsm-bridge/config.toml";

/// The configuration as meant: every value in range.
#[derive(Clone, Debug)]
pub struct Config {
    /// Clients that do not know a PIN.
    pub access: bridge::access::Settings,
    /// The translation.
    pub bridge: bridge::Settings,
    /// The process.
    pub daemon: Daemon,
    /// Variables of the environment that the module wants.
    pub environment: Vec<(String, Secret)>,
    /// What is logged, and where to.
    pub log: logging::Settings,
    /// The module.
    pub pkcs11: pkcs11::Settings,
    /// The listener.
    pub server: server::Settings,
    /// Where the program keeps what it makes.
    pub state_dir: PathBuf,
    /// The certificate.
    pub tls: tls::Settings,
}

impl Config {
    /// Sets what the module wants of the environment. To be called before it is loaded, while there is only one thread.
    pub fn set_environment(&self) {
        sys::set_environment(self.environment.iter().map(|(name, text)| (name.as_str(), text.expose())));
    }
}

/// What the configuration says of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// Whether it goes on in the background.
    pub daemonize: bool,
    /// Who it becomes.
    pub identity: Option<sys::Identity>,
    /// Where it writes its number.
    pub pid_file: Option<PathBuf>,
}

/// What the command line says instead of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Go on in the background.
    pub daemonize: bool,
    /// The group to become.
    pub group: Option<String>,
    /// The least important messages to log.
    pub log_level: Option<LevelFilter>,
    /// Where to log to.
    pub log_target: Option<logging::Target>,
    /// Where to keep what the program makes.
    pub state_dir: Option<PathBuf>,
    /// The user to become.
    pub user: Option<String>,
}

/// A file that has been read, and what is to be said of it.
#[derive(Debug)]
pub struct Judged {
    /// The file.
    pub path: PathBuf,
    /// What it means; where there is a problem, the default, or nothing.
    pub config: Config,
    /// All that is wrong.
    pub problems: Vec<Problem>,
    /// All that is odd.
    pub warnings: Vec<Problem>,
}

impl Judged {
    /// Whether anything is wrong in the table, or with the key, at `path`.
    pub fn is_faulty(&self, path: &str) -> bool {
        self.problems.iter().any(|problem| problem.subject.starts_with(path))
    }

    /// Logs all that is odd.
    pub fn log_warnings(&self) {
        for warning in &self.warnings {
            log::warn!("{}", warning.in_file(&self.path));
        }
    }

    /// The configuration, if nothing is wrong with it.
    pub fn sound(self) -> Result<Config, Error> {
        if self.problems.is_empty() {
            return Ok(self.config);
        }
        Err(Error::Faulty { path: self.path, problems: self.problems })
    }
}

/// Reads and judges the file at `path`, with what `overrides` puts in its place.
pub fn read(path: &Path, overrides: &Overrides) -> Result<Judged, Error> {
    let unreadable = |why| Error::Unreadable { path: path.to_owned(), why };
    let (text, mode) = load(path).map_err(unreadable)?;
    let state_directory = std::env::var_os("STATE_DIRECTORY");
    let mut judged = judge(path, &text, overrides, state_directory.as_deref());
    let holds_pin = |token: &TokenSettings| matches!(token.login, Login::Kept(Source::Here(_)));
    if mode & 0o007 != 0 && judged.config.access.tokens.iter().any(holds_pin) {
        let what = format!("everyone on this machine may use it (mode {:o}), but a PIN stands in it", mode & 0o7777);
        judged.problems.push(Problem { subject: "file".to_owned(), what, line: None });
    }
    if mode & 0o002 != 0 {
        let what = format!("anyone may write it (mode {:o})", mode & 0o7777);
        judged.warnings.push(Problem { subject: "file".to_owned(), what, line: None });
    }
    Ok(judged)
}

fn load(path: &Path) -> io::Result<(Zeroizing<String>, u32)> {
    const MOST: u64 = 1 << 20;
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    let mut bytes = Vec::new();
    if file.take(MOST).read_to_end(&mut bytes)? >= usize::try_from(MOST).unwrap_or(usize::MAX) {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {MOST} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count().saturating_add(1);
        io::Error::new(io::ErrorKind::InvalidData, format!("line {line} is not UTF-8"))
    })?;
    Ok((text.into(), mode))
}

/// Judges the `text` of the file at `path`; `state_directory` is what the service manager gives.
pub fn judge(path: &Path, text: &str, overrides: &Overrides, state_directory: Option<&OsStr>) -> Judged {
    let mut written = Written::parse(text);
    let w = &mut written;
    if w.is_toml {
        for (key, wanted) in
            [(keys::VERSION.path, "version = \"v1\""), (keys::LIB_PATH.path, "the path of the PKCS#11 module")]
        {
            if !w.has(key) {
                w.problem(key, format!("is missing; it has to be there: {wanted}"));
            }
        }
    }
    let _: Option<()> = w.word(&keys::VERSION);
    let _: Option<()> = w.word(&keys::LIFECYCLE);
    let written_state_dir = state_dir(w, state_directory);
    let state_dir = overrides.state_dir.clone().unwrap_or(written_state_dir);
    let clients = client_certificates(w);
    let tokens = tokens::read(w);
    let config = Config {
        access: clients::read(w, tokens.logins, clients.is_some()),
        bridge: bridge::Settings {
            limits: bridge::Limits {
                batch_items: w.size(&keys::MAX_BATCH_ITEMS),
                depth: u8::try_from(w.number(&keys::MAX_NESTING_DEPTH)).unwrap_or(bridge::Limits::DEFAULT_DEPTH),
            },
            failed_logins: FailedLogins {
                free: w.number(&keys::MAX_FAILED_LOGINS),
                everywhere: w.number(&keys::MAX_FAILED_LOGINS_PER_MINUTE),
                longest_pause: w.seconds(&keys::FAILED_LOGIN_PAUSE),
                ..FailedLogins::default()
            },
            max_response_size: w.size(&keys::MAX_RESPONSE_SIZE),
            public_keys: w.path(&keys::PUBLIC_KEYS),
        },
        daemon: Daemon {
            daemonize: w.flag(&keys::DAEMONIZE) || overrides.daemonize,
            identity: identity(w, overrides),
            pid_file: w.path(&keys::PID_FILE),
        },
        environment: w.variables(&keys::MODULE_ENV),
        log: logging::Settings { level: log_level(w, overrides), target: log_target(w, overrides) },
        pkcs11: pkcs11::Settings {
            lib_path: w.module(&keys::LIB_PATH).unwrap_or_default(),
            max_sessions: w.number(&keys::MAX_SESSIONS),
            session_timeout: w.seconds(&keys::SESSION_TIMEOUT),
            call_timeout: w.seconds(&keys::CALL_TIMEOUT),
            generate_timeout: w.seconds(&keys::GENERATE_TIMEOUT),
            max_pin_tries: w.number(&keys::MAX_PIN_TRIES),
            max_changed_pin_tries: w.number(&keys::MAX_CHANGED_PIN_TRIES),
            id_length: w.size(&keys::ID_LENGTH),
            serialize: tokens.serialize,
            policies: tokens.policies,
        },
        server: server_settings(w),
        tls: tls::Settings {
            identity: certificate(w),
            min_version: w.word(&keys::MIN_VERSION).unwrap_or(tls::TlsVersion::V1_3),
            clients,
            names: w.names(&keys::NAMES),
            state_dir: state_dir.clone(),
        },
        state_dir,
    };
    let Written { mut problems, warnings, .. } = written;
    problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
    Judged { path: path.to_owned(), config, problems, warnings }
}

fn server_settings(w: &mut Written<'_>) -> server::Settings {
    let settings = server::Settings {
        addr: address(w),
        max_connections: w.size(&keys::MAX_CONNECTIONS),
        max_connections_per_peer: w.size(&keys::MAX_CONNECTIONS_PER_PEER),
        max_unauthenticated: w.size(&keys::MAX_UNAUTHENTICATED),
        max_request_size: w.size(&keys::MAX_REQUEST_SIZE),
        max_unauthenticated_request_size: w.size(&keys::MAX_UNAUTHENTICATED_REQUEST_SIZE),
        handshake_timeout: w.seconds(&keys::HANDSHAKE_TIMEOUT),
        request_timeout: w.seconds(&keys::REQUEST_TIMEOUT),
        write_timeout: w.seconds(&keys::WRITE_TIMEOUT),
        idle_timeout: w.seconds(&keys::IDLE_TIMEOUT),
        unauthenticated_timeout: w.seconds(&keys::UNAUTHENTICATED_TIMEOUT),
        drain_timeout: w.seconds(&keys::DRAIN_TIMEOUT),
    };
    let idle = settings.idle_timeout.as_secs();
    if idle < SHORTEST_IDLE {
        let what = format!("{idle} seconds is short: clients keep silent connections for up to 90 seconds");
        w.warning(keys::IDLE_TIMEOUT.path, what);
    }
    settings
}

fn address(w: &mut Written<'_>) -> SocketAddr {
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, 5696));
    let Some(text) = w.text(&keys::ADDR) else { return default };
    text.parse().unwrap_or_else(|_| {
        let what = "is not an IP address with a port, such as 127.0.0.1:5696 or [::1]:5696";
        w.problem(keys::ADDR.path, format!("{} {what}", quoted(&text)));
        default
    })
}

fn certificate(w: &mut Written<'_>) -> Option<tls::Identity> {
    for (one, other) in [(&keys::CERT_PATH, &keys::KEY_PATH), (&keys::KEY_PATH, &keys::CERT_PATH)] {
        if w.has(one.path) && !w.has(other.path) {
            w.problem(other.path, format!("is missing, but {} is there", one.path));
        }
    }
    let (cert_path, key_path) = (w.path(&keys::CERT_PATH), w.path(&keys::KEY_PATH));
    Some(tls::Identity { cert_path: cert_path?, key_path: key_path? })
}

fn client_certificates(w: &mut Written<'_>) -> Option<tls::Clients> {
    let auth = w.word(&keys::CLIENT_AUTH).unwrap_or(tls::ClientAuth::Off);
    let (ca_path, crl_path) = (w.path(&keys::CLIENT_CA), w.path(&keys::CRL));
    let (ca, crl) = (keys::CLIENT_CA.path, keys::CRL.path);
    if auth == tls::ClientAuth::Off {
        for path in [ca, crl] {
            if w.has(path) {
                w.problem(path, format!("is there, but {} is \"off\"", keys::CLIENT_AUTH.path));
            }
        }
        return None;
    }
    if !w.has(ca) {
        w.problem(ca, "is missing: it names the issuers of the certificates of clients");
    }
    Some(tls::Clients { is_required: auth == tls::ClientAuth::Required, ca_path: ca_path?, crl_path })
}

fn log_level(w: &mut Written<'_>, overrides: &Overrides) -> LevelFilter {
    let level = w.word(&keys::LOG_LEVEL).unwrap_or(LevelFilter::Info);
    overrides.log_level.unwrap_or(level)
}

fn log_target(w: &mut Written<'_>, overrides: &Overrides) -> logging::Target {
    let path = w.path(&keys::LOG_TARGET_PATH);
    let target = match w.word(&keys::LOG_TARGET_TYPE).unwrap_or(LogTarget::Stderr) {
        LogTarget::File => {
            if !w.has(keys::LOG_TARGET_PATH.path) {
                w.problem(keys::LOG_TARGET_PATH.path, "is missing: it names the file");
            }
            logging::Target::File(path.unwrap_or_default())
        }
        other => {
            if w.has(keys::LOG_TARGET_PATH.path) {
                w.problem(keys::LOG_TARGET_PATH.path, "is only for type = \"file\"");
            }
            match other {
                LogTarget::Syslog => logging::Target::Syslog,
                _ => logging::Target::Stderr,
            }
        }
    };
    overrides.log_target.clone().unwrap_or(target)
}

/// The user and group of `daemon.identity`, each of which the command line can replace.
fn identity(w: &mut Written<'_>, overrides: &Overrides) -> Option<sys::Identity> {
    let written = w.text(&keys::IDENTITY);
    let (mut user, mut group) = match written.as_deref().map(|text| text.split_once(':').unwrap_or((text, ""))) {
        Some((user, group)) => (Some((user, keys::IDENTITY.path)), Some(group).filter(|group| !group.is_empty())),
        None => (None, None),
    };
    let mut group_subject = keys::IDENTITY.path;
    if let Some(other) = &overrides.user {
        // The group that the file names is for the file's user.
        (user, group) = (Some((other.as_str(), "--user")), None);
    }
    if let Some(other) = &overrides.group {
        (group, group_subject) = (Some(other.as_str()), "--group");
    }
    let Some((user, subject)) = user else {
        if group.is_some() {
            w.problem(group_subject, format!("needs a user too, of --user or {}", keys::IDENTITY.path));
        }
        return None;
    };
    let found = find_user(user).map_err(|what| w.problem(subject, what));
    let group = group.map(|group| find_group(group).map_err(|what| w.problem(group_subject, what))).transpose();
    let (sys::User { name, uid, gid: own }, group) = (found.ok()?, group.ok()?);
    // Without a group it is the one of the user's name, else the user's primary one.
    let of_name = || if user.parse::<u32>().is_err() { sys::group(user).ok().flatten() } else { None };
    let Some(gid) = group.or_else(of_name).or(own) else {
        let how = if subject == "--user" { "of --group" } else { "as in \"user:group\"" };
        w.problem(subject, format!("{} needs a group, {how}", quoted(user)));
        return None;
    };
    if uid == 0 {
        w.warning(subject, format!("{} is root, and so will the PKCS#11 module be", quoted(user)));
    }
    Some(sys::Identity { name, uid, gid })
}

fn find_user(user: &str) -> Result<sys::User, String> {
    sys::user(user)
        .map_err(|why| format!("cannot look up {}: {why}", quoted(user)))?
        .ok_or_else(|| format!("there is no user {}", quoted(user)))
}

fn find_group(group: &str) -> Result<u32, String> {
    sys::group(group)
        .map_err(|why| format!("cannot look up {}: {why}", quoted(group)))?
        .ok_or_else(|| format!("there is no group {}", quoted(group)))
}

fn state_dir(w: &mut Written<'_>, given: Option<&OsStr>) -> PathBuf {
    let written = w.path(&keys::STATE_DIR);
    // The service manager separates several directories by colons; the first is the program's own.
    let given = given.and_then(|given| given.as_bytes().split(|byte| *byte == b':').next()).map(OsStr::from_bytes);
    match (written, given) {
        (Some(written), _) if w.has(keys::STATE_DIR.path) => written,
        (_, Some(given)) if Path::new(given).is_absolute() => given.into(),
        (written, _) => written.unwrap_or_default(),
    }
}

/// The shortest idle timeout, in seconds, that no client of today runs into.
const SHORTEST_IDLE: u64 = 120;

#[cfg(test)]
mod tests;
