//! Loading the module, which is not waited for without end: a module that hangs while it starts would else have a bridge that neither
//! serves nor says why.
#![forbid(unsafe_code)]

use std::path::Path;
use std::time::Duration;

use log::{info, warn};

use super::{Audience, Failure, because};
use crate::config::{Config, keys};
use crate::pkcs11::{Module, Tokens, within};

const CANNOT_WATCH: &str = "cannot watch over the module's start";

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
    fn call<T>(&self, what: &str, work: impl FnOnce() -> T) -> Result<T, Failure> {
        let mut audience = self.audience.another().map_err(because(CANNOT_WATCH))?;
        within(self.most, self.path, what, move |why| audience.hear(why), work).map_err(because(CANNOT_WATCH))
    }
}
