//! Who gets in: what is kept from one message to the next to judge the logins that follow.
#![forbid(unsafe_code)]

mod certificate;
mod clients;
mod guesses;
mod origin;
mod rights;
mod throttle;
mod validity;

use std::sync::{Arc, PoisonError, RwLock};

use ring::rand::{SecureRandom, SystemRandom};

pub(super) use certificate::Certificate;
pub use certificate::alternative_names_of;
// For the fuzzer.
#[doc(hidden)]
pub use certificate::owner;
pub(super) use clients::Known;
pub use clients::{ClientSettings, Clients, Error, Login, Proof, Secret, Settings, Source, TokenSettings, read_secret};
pub(super) use guesses::Guesses;
pub use origin::origin;
pub use rights::Rights;

pub use crate::kmip::Operation;
pub use throttle::FailedLogins;
pub(super) use throttle::{Fingerprints, Throttle};
pub use validity::{next_update, not_after};

/// What judges logins beside the tokens themselves.
pub(super) struct Access {
    pub(super) throttle: Throttle,
    pub(super) guesses: Guesses,
    /// Whom the log was told of that the token could not judge; nobody is kept from being judged by it.
    pub(super) outages: Throttle,
    pub(super) fingerprints: Fingerprints,
    clients: RwLock<Arc<Clients>>,
}

impl Access {
    pub(super) fn new(failed_logins: FailedLogins) -> Self {
        let mut random = [0; 32];
        // Without random numbers no token admits anybody, so that nothing is lost by not having them here.
        let _ = SystemRandom::new().fill(&mut random);
        Self {
            guesses: Guesses::new(failed_logins.everywhere),
            throttle: Throttle::new(failed_logins),
            outages: Throttle::default(),
            fingerprints: Fingerprints::new(random),
            clients: RwLock::new(Arc::new(Clients::none())),
        }
    }

    pub(super) fn clients(&self) -> Arc<Clients> {
        Arc::clone(&self.clients.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn replace_clients(&self, clients: Clients) {
        *self.clients.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(clients);
    }
}
