//! The self-test: judges the configuration and what it names, and tells everything that is wrong at once.
#![forbid(unsafe_code)]

use std::path::Path;

use crate::bridge::access::Clients;
use crate::config::{self, Judged, Overrides, keys};
use crate::pkcs11::Module;
use crate::server::tls;
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
    let mut problems: Vec<_> =
        judged.problems.iter().map(|problem| format!("{}: {problem}", judged.path.display())).collect();
    problems.extend(open_all(&judged));
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// Opens what the sound parts of the configuration name, in the order in which the daemon does.
fn open_all(judged: &Judged) -> Vec<String> {
    let Judged { config, .. } = judged;
    let mut problems = Vec::new();
    // Read as the daemon does, before it gives up root.
    if !judged.is_faulty("client") && !judged.is_faulty("token") {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
        let clients = Clients::load(&config.access, credentials.as_deref().map(Path::new));
        problems.extend(clients.err().map(|error| error.to_string()));
    }
    let mut certificate = || {
        // An unsound identity would be judged as if there were none.
        if !judged.is_faulty("server.identity")
            && !judged.is_faulty("server.tls.c")
            && !judged.is_faulty(keys::NAMES.path)
        {
            problems.extend(tls::check(&config.tls, &[config.server.addr]).err().map(|error| error.to_string()));
        }
    };
    // A configured key may be root's alone; a kept one is the identity's.
    let is_configured = config.tls.identity.is_some();
    if is_configured {
        certificate();
    }
    let dropped = config.daemon.identity.as_ref().map_or(Ok(()), sys::become_identity);
    if !is_configured {
        certificate();
    }
    problems.extend(dropped.err().map(|why| why.to_string()));
    if !judged.is_faulty(keys::LIB_PATH.path) {
        problems.extend(Module::load(&config.pkcs11.lib_path).err().map(|error| error.to_string()));
    }
    problems
}
