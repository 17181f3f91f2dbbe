//! A module that answers nobody any more: the service manager is not told that all is well, or the program ends by itself.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use log::{debug, error, warn};

use crate::bridge::Bridge;
use crate::{notify, sys};

/// How long nobody may be answered where there is no service manager that watches.
const PATIENCE: Duration = Duration::from_secs(60);

/// Begins to watch over `bridge`.
pub(super) fn start(bridge: &Arc<Bridge>) {
    let interval = notify::watchdog();
    let pause = interval.map_or(Duration::from_secs(1), |interval| interval / 2);
    let bridge = Arc::downgrade(bridge);
    let watchdog = thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
        while let Some(bridge) = bridge.upgrade() {
            match (bridge.tokens().stuck_for(), interval) {
                (None, Some(_)) => {
                    if let Err(why) = notify::send(notify::WATCHDOG) {
                        debug!("cannot tell the service manager that the bridge is well: {why}");
                    }
                }
                (Some(stuck), None) if stuck >= PATIENCE => {
                    error!(
                        "the PKCS#11 module answers no call any more, for {} s: giving up\nhint: a service manager restarts the bridge",
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
