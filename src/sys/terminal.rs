//! Asking for a secret at the terminal, which is to show again what is typed whatever happens meanwhile.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

use zeroize::Zeroizing;

use super::caught::Caught;
use super::check;

/// More than any line that a terminal hands over at once. termios(3)
const LONGEST: usize = 4096;

/// Asks at the terminal that this process belongs to, and reads a line that is not shown; without its end. `None` if nothing
/// was typed.
///
/// # Errors
/// There is no terminal, or it fails.
pub fn ask_hidden(prompt: &str) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let terminal = File::options().read(true).write(true).open("/dev/tty")?;
    let caught = Caught::begin()?;
    let quiet = Quiet::begin(&terminal)?;
    let mut line = Zeroizing::new(vec![0; LONGEST]);
    let read = (&terminal)
        .write_all(prompt.as_bytes())
        .and_then(|()| caught.wait_for(&terminal, None))
        .and_then(|_| (&terminal).read(&mut line));
    drop(quiet);
    // The end of the line was not shown either.
    let _ = (&terminal).write_all(b"\n");
    // A signal that came has its way with the process now.
    drop(caught);
    line.truncate(read?);
    while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        line.pop();
    }
    Ok(Some(line).filter(|line| !line.is_empty()))
}

/// A terminal that does not show what is typed, until this is dropped.
struct Quiet<'t> {
    terminal: &'t File,
    before: libc::termios,
}

impl<'t> Quiet<'t> {
    fn begin(terminal: &'t File) -> io::Result<Self> {
        let mut before = MaybeUninit::<libc::termios>::uninit();
        // SAFETY: the descriptor is open, and the place is valid for the settings.
        check(unsafe { libc::tcgetattr(terminal.as_raw_fd(), before.as_mut_ptr()) })?;
        // SAFETY: tcgetattr succeeded, so it has filled them in.
        let before = unsafe { before.assume_init() };
        let mut quiet = before;
        quiet.c_lflag &= !libc::ECHO;
        quiet.c_lflag |= libc::ICANON;
        // What was typed before the question is no answer to it.
        // SAFETY: the descriptor is open and the settings are those of a terminal.
        check(unsafe { libc::tcsetattr(terminal.as_raw_fd(), libc::TCSAFLUSH, &quiet) })?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // SAFETY: as in `begin`.
        unsafe { libc::tcsetattr(self.terminal.as_raw_fd(), libc::TCSANOW, &self.before) };
    }
}
