//! The thread of a connection, and the one in which it goes on when it has been idle for a while.
//!
//! What a thread gathers at work stays with it until it ends: the pages that a handshake and the module have touched of its stack, the freed
//! memory that the C library keeps ready for it, what the module and the libraries below it keep for each thread (OpenSSL two generators
//! of random numbers). A connection that rests waits in a thread that has done nothing yet.
#![forbid(unsafe_code)]

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use log::{debug, error};

use super::connection::{self, Held, Outcome};
use crate::bridge::STACK_SIZE;
use crate::sys;

/// How many connections begin to rest between two times that free memory is given back to the system.
const RESTS: usize = 64;

/// Gives a connection its thread.
///
/// # Errors
/// There is none to be had; the connection is closed then.
pub(super) fn start(held: Box<Held>) -> io::Result<()> {
    spawn(held).map_err(|(_, error)| error)
}

/// Starts a thread; without one, what was to go there comes back.
fn spawn(held: Box<Held>) -> Result<(), (Option<Box<Held>>, io::Error)> {
    let thread = thread::Builder::new().name(held.peer.address.to_string()).stack_size(STACK_SIZE);
    let passed = Arc::new(Mutex::new(Some(held)));
    let taken = Arc::clone(&passed);
    let take = |passed: Arc<Mutex<Option<Box<Held>>>>| passed.lock().unwrap_or_else(PoisonError::into_inner).take();
    let spawned = thread.spawn(move || {
        if let Some(held) = take(taken) {
            run(held);
        }
    });
    spawned.map(drop).map_err(|error| (take(passed), error))
}

fn run(mut held: Box<Held>) {
    if held.rests() {
        give_back_memory();
    }
    loop {
        // A bug costs the connection that met it. What was half done with is gone with the connection; the service's own
        // state is the service's to keep whole.
        match catch_unwind(AssertUnwindSafe(|| connection::serve(&mut held))) {
            Ok(Outcome::Ended) => break,
            Ok(Outcome::Rests) => {}
            Err(_) => {
                error!("{}: closed by a bug in this program (a panic)", held.peer.address);
                break;
            }
        }
        let address = held.peer.address;
        match spawn(held) {
            Err((Some(back), error)) => {
                debug!("{address}: rests in the thread that it has: {error}");
                held = back;
                held.stay();
            }
            Ok(()) | Err((None, _)) => return,
        }
    }
    held.close();
}

/// The stack may be one that another thread has used. What others have freed of the heap is not worth the search each time.
fn give_back_memory() {
    sys::give_back_stack();
    static RESTED: AtomicUsize = AtomicUsize::new(1);
    if RESTED.fetch_add(1, Ordering::Relaxed) % RESTS == 0 {
        sys::give_back_heap();
    }
}
