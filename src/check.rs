//! The self-test: judges the configuration and what it names, and tells everything that is wrong at once.
#![forbid(unsafe_code)]

mod access;
mod certificate;
mod data_objects;
mod fence;
mod inside;
mod learnt;
mod login;
mod mechanisms;
mod module;
mod places;
mod port;
mod prove;
mod rate;
mod report;
mod rights;
mod sign;
mod tokens;
mod vendor;
mod vendors;

pub use prove::{Trials, prove};

use std::path::Path;

use log::warn;

use crate::bridge::PublicKeys;
use crate::bridge::access::Clients;
use crate::config::{self, Config, Judged, Overrides, keys};
use crate::pkcs11::Module;
use crate::server::tls::{self, Certificate};
use crate::sys;

/// Judges the configuration file at `path`, then opens the module, the certificate and the key that it names. Creates nothing.
///
/// Whoever may, does it as the identity of the configuration: what root can read the daemon may not be able to.
///
/// # Errors
/// All that is wrong, one message after the other. What is only odd is logged.
pub fn run(path: &Path, overrides: &Overrides) -> Result<(), Vec<String>> {
    let judged = config::read(path, overrides).map_err(|error| vec![error.to_string()])?;
    judged.log_warnings();
    let mut problems: Vec<_> = judged.problems.iter().map(|problem| problem.in_file(&judged.path)).collect();
    problems.extend(open_all(&judged));
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// Opens what the sound parts of the configuration name, in the order in which the daemon does and as the user that it is then.
fn open_all(judged: &Judged) -> Vec<String> {
    let Judged { config, .. } = judged;
    let mut problems = Vec::new();
    config.set_environment();
    // Read as the daemon does, before it gives up root.
    if !judged.is_faulty("client") && !judged.is_faulty("token") {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
        let clients = Clients::load(&config.access, credentials.as_deref().map(Path::new));
        problems.extend(clients.err().map(|error| error.to_string()));
    }
    // A configured key may be root's alone; a kept one is the identity's.
    let is_configured = config.tls.identity.is_some();
    if is_configured {
        problems.extend(certificate(judged).err());
    }
    // An unsound target would be judged as if it were another.
    if !judged.is_faulty(LOG_TARGET) {
        problems.extend(places::log(&config.log.target).err());
    }
    let pid_file = config.daemon.pid_file.as_deref();
    problems.extend(pid_file.and_then(|path| places::pid_file(path).err()));
    let by_root = if sys::is_root() { config.daemon.identity.as_ref() } else { None };
    let is_made_by_root = by_root.is_some() && places::can_be_made_here(&config.state_dir);
    problems.extend(
        config
            .daemon
            .identity
            .as_ref()
            .and_then(|identity| sys::become_identity(identity).err())
            .map(|why| why.to_string()),
    );
    if !is_configured {
        match certificate(judged) {
            Ok(Some(None)) if !is_made_by_root => {
                if let Err(why) = places::directory(&config.state_dir) {
                    warn!("{}", tls::unkept(&config.state_dir, &why));
                }
            }
            Ok(_) => {}
            Err(why) => problems.push(why),
        }
    }
    if !judged.is_faulty(keys::PUBLIC_KEYS.path) {
        problems.extend(public_keys(config));
    }
    if !judged.is_faulty(keys::LIB_PATH.path) {
        let loaded = Module::load(&config.pkcs11.lib_path);
        problems.extend(loaded.err().map(|error| format!("{}: {error}", keys::LIB_PATH.path)));
    }
    problems
}

/// What cannot be used of the public keys.
fn public_keys(config: &Config) -> Vec<String> {
    let Some(directory) = &config.bridge.public_keys else { return Vec::new() };
    let odd = PublicKeys::load(directory).map_or_else(|why| vec![why], |(_, odd)| odd);
    odd.iter().map(ToString::to_string).collect()
}

/// The certificate that is there, none if it is to be made; nothing where the configuration of it is not sound.
fn certificate(judged: &Judged) -> Result<Option<Option<Certificate>>, String> {
    let Judged { config, .. } = judged;
    // An unsound identity would be judged as if there were none.
    let faulty = ["server.identity", "server.tls.c", keys::NAMES.path];
    if faulty.into_iter().any(|part| judged.is_faulty(part)) {
        return Ok(None);
    }
    tls::check(&config.tls, &[config.server.addr]).map(Some).map_err(|error| error.to_string())
}

/// The table around the keys of the log's target.
const LOG_TARGET: &str = "daemon.log-target";
