//! A part of the work done in a process of its own, which may hang or crash and be ended without harm to the rest.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, FromRawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::thread;
use std::time::Duration;

use zeroize::Zeroize;

use super::caught::Caught;
use super::{Stream, check, redirect};

/// Which process one is after [`split`].
pub enum Split {
    /// The new one, which says here what it has to say. Its standard output is what standard error is: what is printed by others
    /// is not for the answer.
    Inside(File),
    /// The one that was there.
    Outside(Fenced),
}

/// The new process, seen from outside.
pub struct Fenced {
    pid: libc::pid_t,
    output: File,
}

/// What was heard of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// It said something, which is appended to what it said before.
    Something,
    /// It said nothing in the time given.
    Nothing,
    /// It has nothing more to say.
    End,
    /// This process is to end.
    Signal(libc::c_int),
}

/// Goes on in two processes. To be called while there is only one thread; the new one has to end by [`super::leave`].
///
/// # Errors
/// There is no second process.
pub fn split(caught: &Caught) -> io::Result<Split> {
    let mut ends = [0; 2];
    // SAFETY: `ends` has place for the two descriptors.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: both descriptors are new, open and nobody else's.
    let [output, input] = ends.map(|fd| unsafe { File::from_raw_fd(fd) });
    // SAFETY: with one thread no lock or buffer is left half-changed in the new process.
    let pid = check(unsafe { libc::fork() })?;
    if pid != 0 {
        return Ok(Split::Outside(Fenced { pid, output }));
    }
    drop(output);
    caught.let_go();
    redirect(Stream::Output, &io::stderr().as_fd().try_clone_to_owned()?.into())?;
    Ok(Split::Inside(input))
}

impl Fenced {
    /// Waits for what the process has to say.
    ///
    /// # Errors
    /// The pipe fails.
    pub fn hear(&self, caught: &Caught, most: Option<Duration>, said: &mut Vec<u8>) -> io::Result<Heard> {
        match caught.wait_for(&self.output, most) {
            Ok(false) => return Ok(Heard::Nothing),
            Ok(true) => {}
            Err(why) => return caught.signal().map(Heard::Signal).ok_or(why),
        }
        let mut buffer = [0; 4096];
        let len = (&self.output).read(&mut buffer)?;
        said.extend_from_slice(buffer.get(..len).unwrap_or_default());
        // It may be a PIN.
        buffer.zeroize();
        Ok(if len == 0 { Heard::End } else { Heard::Something })
    }

    /// Passes a signal on to the process.
    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: kill takes no pointer; the process is a child not waited for yet, so that the number is its own.
        unsafe { libc::kill(self.pid, signal) };
    }

    /// How the process ended, if it does within `most`; else it is killed. `None` if it cannot even be killed.
    ///
    /// # Errors
    /// It is not there to be waited for.
    pub fn end(self, most: Duration) -> io::Result<Option<ExitStatus>> {
        const STEP: Duration = Duration::from_millis(5);
        /// For the kernel to be done with a process that was killed; one in the middle of a driver may take for ever.
        const LAST: Duration = Duration::from_secs(2);
        for (patience, then) in [(most, Some(libc::SIGKILL)), (LAST, None)] {
            let mut waited = Duration::ZERO;
            while waited <= patience {
                let mut status = 0;
                // SAFETY: the number is that of our child, and `status` a valid place.
                if check(unsafe { libc::waitpid(self.pid, &mut status, libc::WNOHANG) })? == self.pid {
                    return Ok(Some(ExitStatus::from_raw(status)));
                }
                thread::sleep(STEP);
                waited = waited.saturating_add(STEP);
            }
            then.into_iter().for_each(|signal| self.signal(signal));
        }
        Ok(None)
    }
}
