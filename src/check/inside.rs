//! What is done inside the fence: as the user that the bridge becomes, with the module loaded.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::fence::{Made, Outlet};
use super::prove::Trials;
use super::report::{Line, Report};
use super::vendor::Vendor;
use super::{access, certificate, data_objects, learnt, login, mechanisms, module, sign, tokens};
use crate::config::{Config, Judged, keys};
use crate::console::{self, Choice, Visit};
use crate::pkcs11::{Token, Tokens};
use crate::sys;

/// What is known before.
pub struct Inside<'j> {
    /// The configuration.
    pub judged: &'j Judged,
    /// The way to a token.
    pub visit: Visit,
    /// What to try out.
    pub trials: Trials,
    /// Root makes the state directory.
    pub by_root: bool,
}

/// How long calls may take.
#[derive(Clone, Copy)]
pub struct Patience {
    call: Duration,
    start: Duration,
    generate: Duration,
}

impl Patience {
    /// A call like most.
    pub fn call(self) -> Option<Duration> {
        Some(self.call)
    }

    /// C_Initialize, which may have to find an HSM first.
    pub fn start(self) -> Option<Duration> {
        Some(self.start)
    }

    /// Making a key pair: on a card, minutes.
    pub fn generate(self) -> Option<Duration> {
        Some(self.generate.max(self.call))
    }

    /// What a client may be taken to wait by itself.
    pub fn of_clients(self) -> Duration {
        self.call
    }
}

impl Inside<'_> {
    fn config(&self) -> &Config {
        &self.judged.config
    }

    /// How long calls may take.
    pub fn patience(&self) -> Patience {
        let pkcs11 = &self.config().pkcs11;
        Patience { call: pkcs11.call_timeout, start: pkcs11.start_timeout(), generate: pkcs11.generate_timeout }
    }

    /// Everything but data objects.
    pub fn look(&self, outlet: Outlet<'_>, report: &mut Report<'_>) {
        let config = self.config();
        if let Err(why) = become_user(config) {
            return report.say(Line::fail("user", why, "start it as root, or as that user"));
        }
        access::look(config, report);
        if config.tls.identity.is_none() && certificate::is_sound(self.judged) {
            certificate::look(config, self.by_root, report);
        }
        if let Some(directory) = &config.bridge.public_keys {
            access::public_keys(directory, report);
        }
        if self.judged.is_faulty(keys::LIB_PATH.path) {
            return;
        }
        let library = library(&config.pkcs11.lib_path);
        access::of_module(&config.pkcs11.lib_path, Vendor::of([library.as_str()]), report);
        let loaded = module::look(&config.pkcs11, self.patience(), outlet, report);
        let Some(tokens) = loaded else { return };
        self.look_at_tokens(&tokens, outlet, report);
        outlet.calling("C_Finalize", self.patience().start());
        tokens.finalize();
    }

    fn look_at_tokens(&self, tokens: &Tokens, outlet: Outlet<'_>, report: &mut Report<'_>) {
        let patience = self.patience();
        let module = module::vendor(tokens.module());
        let Some(choice) = tokens::look(tokens, &self.visit, module, patience, outlet, report) else { return };
        let vendor = tokens::vendor(&choice, module);
        tokens::describe(&choice, &self.config().pkcs11, report);
        let token = match tokens.find(&choice.name) {
            Ok(token) => token,
            Err(refusal) => {
                return report.say(Line::fail(
                    "token",
                    refusal,
                    "--token names one by its label, serial number or slot",
                ));
            }
        };
        mechanisms::look(&token, patience, outlet, report);
        let entered = login::look(tokens, &choice, vendor, self, outlet, report);
        if let Some(token) = entered {
            if self.trials.sign {
                sign::look(&token, vendor, patience, outlet, report);
            }
            learnt::tell(&token, report);
        }
    }

    /// The sections about data objects: the token is known to let this process in.
    pub fn try_data_objects(&self, outlet: Outlet<'_>, report: &mut Report<'_>) {
        match self.enter(outlet) {
            Ok((tokens, choice, token)) => {
                let vendor = tokens::vendor(&choice, module::vendor(tokens.module()));
                data_objects::look(&token, vendor, self.patience(), outlet, report);
                outlet.calling("C_Finalize", self.patience().start());
                tokens.finalize();
            }
            Err(why) => report.say(Line::fail("data objects", why, "run it again")),
        }
    }

    /// Destroys what another process made and could not destroy any more.
    pub fn destroy(&self, left: &BTreeSet<Made>, outlet: Outlet<'_>) {
        let Ok((tokens, _, token)) = self.enter(outlet) else { return };
        for made in left {
            outlet.calling("C_DestroyObject", self.patience().call());
            let is_gone = match made {
                Made::DataObject(label) => token.destroy_data_objects(label).is_ok(),
                Made::Key(half, id) => sign::destroy(&token, *half, id).is_ok(),
                Made::Pair(label) => sign::destroy_labelled(&token, label).is_ok(),
            };
            if is_gone {
                outlet.gone(made);
            }
        }
        outlet.calling("C_Finalize", self.patience().start());
        tokens.finalize();
    }

    /// Into the token once more, without a word.
    fn enter(&self, outlet: Outlet<'_>) -> Result<(Tokens, Choice, Arc<Token>), String> {
        let config = self.config();
        become_user(config).map_err(|why| why.to_string())?;
        outlet.calling("C_Initialize", self.patience().start());
        let tokens = module::load(&config.pkcs11).map_err(|why| why.to_string())?;
        let present = tokens.present().map_err(|why| why.to_string())?;
        let choice = self.visit.choose(&present).map_err(|why| why.to_string())?;
        let token = tokens.find(&choice.name).map_err(|why| why.to_string())?;
        let way = self.visit.way_into(&token).map_err(|why| why.to_string())?;
        outlet.calling("C_Login", login::patience(&way, self.patience()));
        let token = way.enter(&tokens, &choice).map_err(|why| why.to_string())?;
        Ok((tokens, choice, token))
    }
}

/// Becomes whom the bridge becomes, with files that are nobody else's as the bridge makes them.
fn become_user(config: &Config) -> std::io::Result<()> {
    sys::restrict_new_files();
    console::become_user(config)
}

/// The library's file name.
fn library(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
