//! Signals that would end the program, held back while it has something to put in order first.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use super::check;

/// The signal that came while [`Caught`] was there; 0 for none.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// What would end the process from the keyboard or from elsewhere.
const ENDING: [libc::c_int; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

/// Whether a signal is one of those that end a program from outside, not one by which it ends itself.
pub fn is_ending(signal: libc::c_int) -> bool {
    ENDING.contains(&signal)
}

/// Holds back the signals that would end or stop the process; when it is dropped, the one that came has its effect.
///
/// For a program that has one thread while it is there.
pub struct Caught {
    actions: Vec<(libc::c_int, libc::sigaction)>,
    before: libc::sigset_t,
    while_waiting: libc::sigset_t,
}

impl Caught {
    /// From now on.
    pub fn begin() -> io::Result<Self> {
        SIGNAL.store(0, Ordering::Relaxed);
        let (mut blocked, mut before) = (MaybeUninit::uninit(), MaybeUninit::<libc::sigset_t>::uninit());
        // SAFETY: sigemptyset initialises the set, sigaddset then changes it; all get valid signal numbers.
        let blocked = unsafe {
            libc::sigemptyset(blocked.as_mut_ptr());
            for signal in ENDING.into_iter().chain([libc::SIGTSTP]) {
                libc::sigaddset(blocked.as_mut_ptr(), signal);
            }
            blocked.assume_init()
        };
        // SAFETY: `blocked` is initialised, and `before` is a valid place for the old set.
        match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &blocked, before.as_mut_ptr()) } {
            0 => {}
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
        // SAFETY: pthread_sigmask succeeded, so it has filled the set in.
        let before = unsafe { before.assume_init() };
        let mut while_waiting = before;
        // SAFETY: the set is initialised and the number valid. A stopped program would leave the terminal silent.
        unsafe { libc::sigaddset(&mut while_waiting, libc::SIGTSTP) };
        let mut caught = Self { actions: Vec::new(), before, while_waiting };
        for signal in ENDING {
            let old = set_action(signal, &noting())?;
            if old.sa_sigaction == libc::SIG_IGN {
                // Ignored before, as by nohup(1), it is ignored now.
                set_action(signal, &old)?;
            }
            caught.actions.push((signal, old));
        }
        Ok(caught)
    }

    /// Waits until there is something to read from `file`, or its other end is gone. False if that takes longer than `most`.
    ///
    /// # Errors
    /// [`io::ErrorKind::Interrupted`] once one of the signals came, which [`Self::signal`] tells.
    pub fn wait_for(&self, file: &File, most: Option<Duration>) -> io::Result<bool> {
        let mut place = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let most = most.map(|most| libc::timespec {
            tv_sec: most.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: most.subsec_nanos().into(),
        });
        let most = most.as_ref().map_or(ptr::null(), ptr::from_ref);
        if self.signal().is_some() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        loop {
            // A signal comes either before, and waits, or in this call, and ends it.
            // SAFETY: one valid pollfd is given, no time limit or a valid one, and an initialised set.
            match check(unsafe { libc::ppoll(&mut place, 1, most, &self.while_waiting) }) {
                Err(why) if why.kind() == io::ErrorKind::Interrupted && self.signal().is_none() => {}
                other => return other.map(|ready| ready > 0),
            }
        }
    }

    /// The signal that came, which then has no effect.
    pub fn take(&self) -> Option<libc::c_int> {
        // One that came while nobody waited is still held back: it comes now.
        let mut blocked = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: the first set is initialised, and the second a valid place, which the first call fills in if it succeeds.
        unsafe {
            if libc::pthread_sigmask(libc::SIG_SETMASK, &self.while_waiting, blocked.as_mut_ptr()) == 0 {
                libc::pthread_sigmask(libc::SIG_SETMASK, blocked.as_ptr(), ptr::null_mut());
            }
        }
        Some(SIGNAL.swap(0, Ordering::Relaxed)).filter(|signal| *signal != 0)
    }

    /// Lets signals do what they did before, in this process.
    pub(super) fn let_go(&self) {
        for (signal, action) in &self.actions {
            let _ = set_action(*signal, action);
        }
        // SAFETY: the set is initialised, and the old one is not asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, ptr::null_mut()) };
    }

    /// The signal that came.
    pub fn signal(&self) -> Option<libc::c_int> {
        Some(SIGNAL.load(Ordering::Relaxed)).filter(|signal| *signal != 0)
    }
}

impl Drop for Caught {
    fn drop(&mut self) {
        self.let_go();
        if let Some(signal) = self.signal() {
            // SAFETY: raise takes the number of a signal that came.
            unsafe { libc::raise(signal) };
        }
    }
}

extern "C" fn note(signal: libc::c_int) {
    SIGNAL.store(signal, Ordering::Relaxed);
}

/// The action that notes a signal, and has it interrupt what waits.
fn noting() -> libc::sigaction {
    let handler: extern "C" fn(libc::c_int) = note;
    // SAFETY: all fields of a sigaction may be zero; those that matter are set below.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handler as libc::sighandler_t;
    action
}

fn set_action(signal: libc::c_int, action: &libc::sigaction) -> io::Result<libc::sigaction> {
    let mut old = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: `action` is a whole sigaction, whose handler does no more than store a number, or one that was in force before;
    // `old` is a valid place.
    check(unsafe { libc::sigaction(signal, action, old.as_mut_ptr()) })?;
    // SAFETY: sigaction succeeded, so it has filled it in.
    Ok(unsafe { old.assume_init() })
}
