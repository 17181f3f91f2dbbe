//! A process that does the work, and the one that has forked it and waits for it.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::ptr;
use std::time::Duration;

use super::{Signal, Signals, check, mask, request_stop};

/// Which process one is after [`Vigil::fork`].
pub enum Fork {
    /// The new one, with the number of the one that has forked it.
    Child(u32),
    /// The one that was there.
    Parent(Child),
}

/// What a process that waits has noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noticed {
    /// It was sent a signal.
    Signal(Signal),
    /// Something that is to be looked into: the time is over, or a child may have ended.
    Stir,
}

/// Waits for signals and for the end of children, in a process that has one thread.
pub struct Vigil {
    awaited: libc::sigset_t,
    child: libc::sigset_t,
}

impl Vigil {
    /// Has the end of children wait until it is noticed, as `signals` do already.
    pub fn begin(signals: &Signals) -> io::Result<Self> {
        let mut child = MaybeUninit::uninit();
        let mut awaited = signals.0;
        // SAFETY: sigemptyset initialises the set, sigaddset then changes it and the other; all get valid signal numbers.
        let child = unsafe {
            libc::sigemptyset(child.as_mut_ptr());
            libc::sigaddset(child.as_mut_ptr(), libc::SIGCHLD);
            libc::sigaddset(&mut awaited, libc::SIGCHLD);
            child.assume_init()
        };
        mask(libc::SIG_BLOCK, &child)?;
        Ok(Self { awaited, child })
    }

    /// Goes on in two processes. To be called while there is only one thread.
    pub fn fork(&self) -> io::Result<Fork> {
        let parent = std::process::id();
        // SAFETY: with one thread no lock or buffer is left half-changed in the new process.
        let pid = check(unsafe { libc::fork() })?;
        if pid != 0 {
            return Ok(Fork::Parent(Child { pid }));
        }
        // A module's programs may wait for children of their own. Unblocking a valid signal cannot fail.
        let _ = mask(libc::SIG_UNBLOCK, &self.child);
        Ok(Fork::Child(parent))
    }

    /// Waits for something to happen, and no longer than `most`.
    pub fn wait(&self, most: Option<Duration>) -> io::Result<Noticed> {
        let most = most.map(|most| libc::timespec {
            tv_sec: most.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: most.subsec_nanos().into(),
        });
        let signal = check(match &most {
            // SAFETY: the set is initialised, the time valid, and the details of the signal are not asked for.
            Some(most) => unsafe { libc::sigtimedwait(&self.awaited, ptr::null_mut(), most) },
            // SAFETY: as above.
            None => unsafe { libc::sigwaitinfo(&self.awaited, ptr::null_mut()) },
        });
        match signal {
            Ok(libc::SIGCHLD) => Ok(Noticed::Stir),
            Ok(signal) => Ok(Noticed::Signal(Signal::of(signal))),
            Err(why) if matches!(why.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => Ok(Noticed::Stir),
            Err(why) => Err(why),
        }
    }
}

/// A process that was forked, not waited for yet.
pub struct Child {
    pid: libc::pid_t,
}

impl Child {
    /// How it has ended, if it has. It is not to be asked again then.
    pub fn ended(&self) -> io::Result<Option<ExitStatus>> {
        let mut status = 0;
        // SAFETY: the number is that of our child, and `status` a valid place.
        let ended = check(unsafe { libc::waitpid(self.pid, &mut status, libc::WNOHANG) })? == self.pid;
        Ok(ended.then(|| ExitStatus::from_raw(status)))
    }

    /// Passes a signal on to it.
    pub fn signal(&self, signal: Signal) {
        let signal = match signal {
            Signal::Hangup => libc::SIGHUP,
            Signal::Stop => libc::SIGTERM,
        };
        // SAFETY: kill takes no pointer; the process is a child not waited for yet, so that the number is its own.
        unsafe { libc::kill(self.pid, signal) };
    }
}

/// Has this process asked to stop, as by TERM, once `parent`, which has forked it, is gone. To be called in the main thread, which the
/// kernel remembers it for, and after the last change of user, by which it forgets it.
pub fn stop_with(parent: u32) -> io::Result<()> {
    let signal = libc::c_ulong::try_from(libc::SIGTERM).map_err(io::Error::other)?;
    // SAFETY: PR_SET_PDEATHSIG takes the number of a signal and no pointer.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal, 0, 0, 0) })?;
    // It may be gone already, and this process be another's child.
    // SAFETY: getppid takes no pointer and cannot fail.
    let now = unsafe { libc::getppid() };
    if u32::try_from(now) != Ok(parent) {
        request_stop();
    }
    Ok(())
}
