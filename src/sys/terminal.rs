//! Asking for a secret at the terminal, which is to show again what is typed whatever happens meanwhile.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use zeroize::Zeroizing;

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
        .and_then(|()| caught.wait_for(&terminal))
        .and_then(|()| (&terminal).read(&mut line));
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

/// The signal that came while [`Caught`] was there; 0 for none.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// What would end the process from the keyboard or from elsewhere.
const ENDING: [libc::c_int; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

/// Holds back the signals that would end or stop the process; when it is dropped, the one that came has its effect.
///
/// For a program that has one thread where it asks.
struct Caught {
    actions: Vec<(libc::c_int, libc::sigaction)>,
    before: libc::sigset_t,
    while_waiting: libc::sigset_t,
}

impl Caught {
    fn begin() -> io::Result<Self> {
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

    /// Waits until there is something to read from `terminal`.
    fn wait_for(&self, terminal: &File) -> io::Result<()> {
        let mut place = libc::pollfd { fd: terminal.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        loop {
            // A signal comes either before, and waits, or in this call, and ends it.
            // SAFETY: one valid pollfd is given, no time limit, and an initialised set.
            match check(unsafe { libc::ppoll(&mut place, 1, ptr::null(), &self.while_waiting) }) {
                Err(why) if why.kind() == io::ErrorKind::Interrupted && SIGNAL.load(Ordering::Relaxed) == 0 => {}
                other => return other.map(|_| ()),
            }
        }
    }
}

impl Drop for Caught {
    fn drop(&mut self) {
        for (signal, action) in &self.actions {
            let _ = set_action(*signal, action);
        }
        // SAFETY: the set is initialised, and the old one is not asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, ptr::null_mut()) };
        match SIGNAL.load(Ordering::Relaxed) {
            0 => {}
            // SAFETY: raise takes a number, of a signal that came.
            signal => unsafe {
                libc::raise(signal);
            },
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
