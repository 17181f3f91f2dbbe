//! What HUP does: everything that can change without a restart is read anew, and what is bad leaves the old in force. And what
//! time does: certificates end.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use log::{debug, error, info};

use super::{clients, log_certificate, public_keys};
use crate::bridge::Bridge;
use crate::config::Config;
use crate::logging;
use crate::server::Running;
use crate::server::tls::{self, Tls};

/// How often a certificate's end is thought of.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What is reloaded, and into what.
pub(super) struct Reload<'a> {
    pub(super) config: &'a Config,
    pub(super) addresses: &'a [SocketAddr],
    pub(super) running: &'a Running,
    pub(super) bridge: &'a Bridge,
    pub(super) in_force: Arc<Mutex<Tls>>,
}

impl Reload<'_> {
    /// Reads certificates, keys, lists of revoked certificates, passwords, PINs and public keys anew, and opens the log file anew.
    pub(super) fn run(&self) {
        if let Err(why) = logging::switch(&self.config.log, None) {
            error!("HUP: {why}\nhint: messages go where they went");
        }
        match tls::load(&self.config.tls, self.addresses) {
            Ok(tls) => {
                log_certificate(&tls.certificate);
                self.running.replace_tls(Arc::clone(&tls.config));
                *self.in_force.lock().unwrap_or_else(PoisonError::into_inner) = tls;
            }
            Err(why) => error!("HUP: {why}\nhint: the certificates that were in force stay so"),
        }
        match clients(self.config) {
            Ok(clients) => self.bridge.admit_clients(clients),
            Err(super::Failure(why)) => error!("HUP: {why}\nhint: the passwords and PINs that were in force stay so"),
        }
        match public_keys(self.config) {
            Ok(files) => self.bridge.look_for_public_keys_in(files),
            Err(super::Failure(why)) => error!("HUP: {why}\nhint: the public keys that were found before stay so"),
        }
        self.bridge.tokens().reconsider_pins();
        info!("HUP: done; for a changed configuration, restart the bridge");
    }

    /// Warns of the end of the certificate in force, every day from now on.
    pub(super) fn watch_expiry(&self) {
        let in_force = Arc::clone(&self.in_force);
        let watch = thread::Builder::new().name("expiry".to_owned()).spawn(move || {
            loop {
                thread::sleep(DAY);
                in_force.lock().unwrap_or_else(PoisonError::into_inner).warn_of_expiry();
            }
        });
        if let Err(why) = watch {
            debug!("the certificate's end will not be watched: {why}");
        }
    }
}
