//! A module that answers nobody any more: the service manager is not told that all is well, or the program ends by itself.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use log::{debug, error, warn};

use crate::bridge::Bridge;
use crate::{notify, sys};

/// How long nobody may be answered where there is no service manager that watches: so many times what one call may take. A new
/// start costs all clients their connections, and an HSM that fails over to its twin comes back by itself.
const TIMES: u32 = 3;

/// What is waited for in any case. While one call hangs, the module is asked something now and then, and only its silence to that
/// tells that it answers nobody.
const AT_LEAST: Duration = Duration::from_secs(10);

/// Begins to watch over `bridge`, whose calls to the module may each take `call_timeout`.
pub(super) fn start(bridge: &Arc<Bridge>, call_timeout: Duration) {
    let patience = call_timeout.saturating_mul(TIMES).max(AT_LEAST);
    let interval = notify::watchdog().filter(|_| notify::is_expected());
    // So often that one time at which nothing can be said is not missed.
    let pause = interval.map_or(Duration::from_secs(1), |interval| interval / 4);
    let bridge = Arc::downgrade(bridge);
    let watchdog = thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
        while let Some(bridge) = bridge.upgrade() {
            match (bridge.tokens().stuck_for().filter(|stuck| *stuck >= AT_LEAST), interval) {
                (None, Some(_)) => {
                    if let Err(why) = notify::send(notify::WATCHDOG) {
                        debug!("cannot tell the service manager that the bridge is well: {why}");
                    }
                }
                (Some(stuck), None) if stuck >= patience => {
                    error!(
                        "the PKCS#11 module answers no call any more, for {} s: giving up\nhint: a service manager, or the supervisor of a bridge in the background, starts it anew",
                        stuck.as_secs()
                    );
                    sys::leave(1);
                }
                _ => {}
            }
            drop(bridge);
            thread::sleep(pause);
        }
    });
    if let Err(why) = watchdog {
        warn!("no thread to watch over the bridge: {why}");
    }
}
