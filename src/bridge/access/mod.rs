//! Who gets in: what is kept from one message to the next to judge the logins that follow.
#![forbid(unsafe_code)]

mod throttle;

use ring::rand::{SecureRandom, SystemRandom};

pub(super) use throttle::{Fingerprints, Throttle};

/// What judges logins beside the tokens themselves.
pub(super) struct Access {
    pub(super) throttle: Throttle,
    pub(super) fingerprints: Fingerprints,
}

impl Access {
    pub(super) fn new() -> Self {
        let mut random = [0; 32];
        // Without random numbers no token admits anybody, so that nothing is lost by not having them here.
        let _ = SystemRandom::new().fill(&mut random);
        Self { throttle: Throttle::default(), fingerprints: Fingerprints::new(random) }
    }
}
