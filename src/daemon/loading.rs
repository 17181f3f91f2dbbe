//! Loading the module, which is not waited for without end: a module that hangs while it starts would else have a bridge that neither
//! serves nor says why.
#![forbid(unsafe_code)]

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use log::{info, warn};

use super::{Audience, Failure, because};
use crate::config::{Config, keys};
use crate::pkcs11::{Module, Tokens};
use crate::sys;

/// Loads the module, initialises it and looks at its tokens.
pub(super) fn load(config: &Config, audience: &Audience) -> Result<Tokens, Failure> {
    let path = &config.pkcs11.lib_path;
    let within = Within { most: config.pkcs11.start_timeout(), path, audience };
    let loaded = within.call("C_Initialize, or loading it,", || Module::load_early(path))?;
    let (module, away) = loaded.map_err(|why| Failure(format!("{}: {why}", keys::LIB_PATH.path)))?;
    if let Some(why) = away {
        warn!(
            "PKCS#11 module {}: {why}\nhint: the HSM may be away, or the module's own configuration missing, wrong or not readable; \
             it is tried again every 30 s at most, when a client asks for a token",
            path.display()
        );
        return Ok(tokens(module, config));
    }
    let of = module.info();
    info!(
        "PKCS#11 module {}: {}, {}, version {}, PKCS#11 {}",
        of.path.display(),
        of.manufacturer,
        of.description,
        of.library_version,
        of.cryptoki_version
    );
    match within.call("C_GetSlotList or C_GetTokenInfo", || module.tokens())? {
        Ok(tokens) if tokens.iter().any(|token| token.initialized) => {
            for token in tokens.iter().filter(|token| token.initialized) {
                info!("token {}, serial {}, slot {}", token.name(), token.serial, token.slot_id);
            }
        }
        Ok(_) => warn!("the module has no initialised token\nhint: one that is made or plugged in later will be found"),
        Err(why) => warn!("cannot list the tokens: {why}"),
    }
    Ok(tokens(module, config))
}

fn tokens(module: Module, config: &Config) -> Tokens {
    // By the name of what runs, which stays the same when the file is replaced.
    Tokens::new(module, &config.pkcs11).proving_with(Path::new("/proc/self/exe"))
}

/// How long the module may take for each step of its start.
struct Within<'a> {
    most: Duration,
    path: &'a Path,
    audience: &'a Audience,
}

impl Within<'_> {
    /// Does `work`. If that takes too long, says so and ends the process, as nothing else ends a call of the module.
    ///
    /// The other thread is the one that watches: some modules mind which thread it is that initialises them.
    fn call<T>(&self, what: &str, work: impl FnOnce() -> T) -> Result<T, Failure> {
        let cannot_watch = "cannot watch over the module's start";
        let mut audience = self.audience.another().map_err(because(cannot_watch))?;
        let why = format!(
            "PKCS#11 module {}: {what} has not returned after {} s, the start is given up\n\
             hint: it may wait for its HSM, for a program of the vendor's, or for what another process has locked, and may say so in a log \
             of its own; it may take three times pkcs11.call-timeout",
            self.path.display(),
            self.most.as_secs()
        );
        let (done, wait) = channel::<()>();
        let most = self.most;
        let watch = move || {
            if wait.recv_timeout(most) == Err(RecvTimeoutError::Timeout) {
                audience.hear(&why);
                sys::leave(1);
            }
        };
        let watch = thread::Builder::new().name("loading".to_owned()).spawn(watch).map_err(because(cannot_watch))?;
        let result = work();
        drop(done);
        // Whoever waits for the last of the listeners is not to wait for a thread that has nothing to say.
        let _ = watch.join();
        Ok(result)
    }
}
