//! Calls with which a module starts, which are not waited for without end: what hangs there would else say nothing, to nobody.
#![forbid(unsafe_code)]

use std::io;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::sys;

/// Does `work`, which calls `what` of the module at `path`. If that takes longer than `most`, `tell` is told why, and the process ends
/// with exit code 1, as nothing else ends a call of a module.
///
/// # Errors
/// There is no thread that could watch.
pub fn within<T>(
    most: Duration,
    path: &Path,
    what: &str,
    tell: impl FnOnce(&str) + Send + 'static,
    work: impl FnOnce() -> T,
) -> io::Result<T> {
    let why = format!(
        "PKCS#11 module {}: {what} has not returned after {} s, the start is given up\n\
         hint: it may wait for its HSM, for a program of the vendor's, or for what another process has locked, and may say so in a log \
         of its own; it may take three times pkcs11.call-timeout",
        path.display(),
        most.as_secs()
    );
    let (done, wait) = channel::<()>();
    // The other thread is the one that watches: some modules mind which thread it is that initialises them.
    let watch = thread::Builder::new().name("loading".to_owned()).spawn(move || {
        if wait.recv_timeout(most) == Err(RecvTimeoutError::Timeout) {
            tell(&why);
            sys::leave(1);
        }
    })?;
    let result = work();
    drop(done);
    // Whoever waits until nobody holds what `tell` holds is not to wait for a thread that has nothing to say.
    let _ = watch.join();
    Ok(result)
}
