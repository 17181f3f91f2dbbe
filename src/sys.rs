//! The system calls that std does not offer. All `unsafe` of this program is in this file and in those of its directory.
#![allow(unsafe_code)]

mod accounts;
mod caught;
mod fenced;
mod functions;
mod memory;
mod sockets;
mod supervised;
mod terminal;

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

pub use accounts::{User, group, group_name, user, user_name};
pub use caught::{Caught, is_ending};
pub use fenced::{Fenced, Heard, Split, split};
pub use functions::{Functions, RawTokenInfo};
pub use memory::{give_back_heap, give_back_stack};
pub use sockets::{has_hung_up, inherited_listeners, listener, receive_now};
pub use supervised::{Child, Fork, Noticed, Vigil, stop_with};
pub use terminal::ask_hidden;

/// The signals that the main thread waits for, blocked in every other thread.
pub struct Signals(libc::sigset_t);

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// HUP.
    Hangup,
    /// TERM or INT.
    Stop,
}

impl Signal {
    fn of(number: libc::c_int) -> Self {
        if number == libc::SIGHUP { Self::Hangup } else { Self::Stop }
    }
}

/// Changes which signals are blocked in this thread.
fn mask(how: libc::c_int, set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: a set that is referred to is initialised, and the old one is not asked for.
    match unsafe { libc::pthread_sigmask(how, set, ptr::null_mut()) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

impl Signals {
    /// Blocks TERM, INT and HUP in this thread and in those that it starts from now on.
    pub fn block() -> io::Result<Signals> {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigemptyset initialises the set, sigaddset then changes it; all get valid signal numbers.
        let set = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
                libc::sigaddset(set.as_mut_ptr(), signal);
            }
            set.assume_init()
        };
        mask(libc::SIG_BLOCK, &set)?;
        Ok(Signals(set))
    }

    /// Lets them through again, in a process that has nothing to put in order.
    pub fn unblock(&self) {
        // Unblocking valid signals cannot fail.
        let _ = mask(libc::SIG_UNBLOCK, &self.0);
    }

    /// Waits for the next of them.
    pub fn wait(&self) -> io::Result<Signal> {
        loop {
            let mut signal = 0;
            // SAFETY: the set is initialised and `signal` is a valid place for the answer.
            match unsafe { libc::sigwait(&self.0, &mut signal) } {
                0 => return Ok(Signal::of(signal)),
                libc::EINTR => {}
                errno => return Err(io::Error::from_raw_os_error(errno)),
            }
        }
    }
}

/// Asks this process to stop, as if TERM had been sent to it.
pub fn request_stop() {
    // SAFETY: kill takes no pointer. While TERM is blocked it does no more than wake the thread that waits for it.
    unsafe { libc::kill(libc::getpid(), libc::SIGTERM) };
}

/// Has children that end wait to be waited for, also if whoever started this process ignores SIGCHLD, which would be inherited: a
/// fork, processes that prove PINs, and modules that start programs count on it.
pub fn keep_ended_children() {
    // SAFETY: SIGCHLD exists, and its default action is no handler of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Which process one is after [`fork_to_background`].
pub enum Side {
    /// The one that was started; reads here what the background process has to say.
    Parent(File),
    /// The background process, in a session of its own without a terminal; says here how its start went.
    Child(File),
}

/// Sets variables of the environment, for this process and for those that it starts. To be called while there is only one thread.
pub fn set_environment<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) {
    for (name, value) in variables {
        // SAFETY: there is one thread, so nobody reads the environment meanwhile.
        unsafe { std::env::set_var(name, value) };
    }
}

/// Goes on in a background process. To be called while there is only one thread.
pub fn fork_to_background() -> io::Result<Side> {
    let [read, write] = pipe()?;
    // SAFETY: with one thread no lock or buffer is left half-changed in the child.
    let child = check(unsafe { libc::fork() })?;
    if child != 0 {
        drop(write);
        // SAFETY: `child` is our child, and its status is not asked for.
        check(unsafe { libc::waitpid(child, ptr::null_mut(), 0) })?;
        return Ok(Side::Parent(read));
    }
    drop(read);
    // SAFETY: setsid takes no pointer.
    check(unsafe { libc::setsid() })?;
    // The second fork leaves a process that leads no session, so that no terminal it opens becomes its own.
    // SAFETY: as for the first one.
    if check(unsafe { libc::fork() })? != 0 {
        leave(0);
    }
    Ok(Side::Child(write))
}

/// A pipe: the end that is read, then the one that is written to.
pub fn pipe() -> io::Result<[File; 2]> {
    let mut ends = [0; 2];
    // SAFETY: `ends` has place for the two descriptors.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: both descriptors are new, open and nobody else's.
    Ok(ends.map(|fd| unsafe { File::from_raw_fd(fd) }))
}

/// From now on, a C library that ends the process by abort(3) is heard out first: another thread is given the time to read
/// what is in `pipe`.
pub fn hear_out_before_abort(pipe: File) {
    PIPE.store(pipe.into_raw_fd(), Ordering::Relaxed);
    let handler: extern "C" fn(libc::c_int) = hear_out;
    // SAFETY: SIGABRT exists, and the handler calls nothing but what may be called in one, signal-safety(7). abort(3) ends the
    // process when it returns.
    unsafe { libc::signal(libc::SIGABRT, handler as libc::sighandler_t) };
}

/// The end of a pipe that is read, open for as long as the process runs; -1 for none.
static PIPE: AtomicI32 = AtomicI32::new(-1);

extern "C" fn hear_out(_: libc::c_int) {
    const PAUSES: u32 = 50;
    let pause = libc::timespec { tv_sec: 0, tv_nsec: 10_000_000 };
    let mut left: libc::c_int = 0;
    for _ in 0..PAUSES {
        // SAFETY: `left` is a valid place for the number of bytes in the pipe.
        let told = unsafe { libc::ioctl(PIPE.load(Ordering::Relaxed), libc::FIONREAD, &mut left) };
        // SAFETY: the time is valid, and what is left of it is not asked for. It also lets what was read last be logged.
        unsafe { libc::nanosleep(&pause, ptr::null_mut()) };
        if told == -1 || left == 0 {
            return;
        }
    }
}

/// A standard stream of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Descriptor 0.
    Input,
    /// Descriptor 1.
    Output,
    /// Descriptor 2.
    Error,
}

/// Puts `file` in the place of the stream, for std and for the C library alike.
pub fn redirect(stream: Stream, file: &File) -> io::Result<()> {
    let place = match stream {
        Stream::Input => libc::STDIN_FILENO,
        Stream::Output => libc::STDOUT_FILENO,
        Stream::Error => libc::STDERR_FILENO,
    };
    // SAFETY: dup2 takes no pointer; the standard streams belong to nobody who could lose them by it.
    check(unsafe { libc::dup2(file.as_raw_fd(), place) }).map(|_| ())
}

/// Locks `file` against every other process that does this, until all copies of its descriptor are closed, also those that
/// a fork makes. False if another process has it locked.
pub fn lock(file: &File) -> io::Result<bool> {
    // SAFETY: flock takes no pointer, and the descriptor is open.
    match check(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Ok(_) => Ok(true),
        Err(why) if why.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(why) => Err(why),
    }
}

/// What may be done with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum May {
    /// To go through the directory to what is in it.
    Enter,
    /// To make and remove files in the directory.
    Fill,
    /// To read the file.
    Read,
}

/// Whether this process may do `what` with `path`, if it has the permissions for it.
pub fn may(path: &Path, what: May) -> io::Result<()> {
    let metadata = path.metadata()?;
    let (needs_directory, mode) = match what {
        May::Enter => (true, libc::X_OK),
        May::Fill => (true, libc::W_OK | libc::X_OK),
        May::Read => (false, libc::R_OK),
    };
    if needs_directory && !metadata.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    // To root, permissions say nothing: what nobody may write is as a rule no place for files, such as /proc.
    if what == May::Fill && metadata.permissions().readonly() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path ends in NUL and is only read.
    check(unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), mode, libc::AT_EACCESS) })?;
    Ok(())
}

/// Ends the process at once, without the exit handlers and destructors of a loaded library.
pub fn leave(code: i32) -> ! {
    // SAFETY: _exit takes no pointer and does not return.
    unsafe { libc::_exit(code) }
}

/// Whether this process acts as root.
pub fn is_root() -> bool {
    effective_user() == 0
}

/// The number of the user that this process acts as.
pub fn effective_user() -> u32 {
    // SAFETY: geteuid takes no pointer and cannot fail.
    unsafe { libc::geteuid() }
}

/// The user and group that the process becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user's name, by which the supplementary groups are found; none for a bare number.
    pub name: Option<CString>,
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// Becomes `identity` for good: groups, then group, then user, then proof that root is gone.
///
/// Does nothing if the process is that user and group already; fails, with a message for the operator, if it is neither that
/// nor root.
pub fn become_identity(identity: &Identity) -> io::Result<()> {
    change_identity(identity).map_err(|why| {
        let hint = match why.kind() {
            io::ErrorKind::PermissionDenied if is_root() => {
                "\nhint: this root may not; it lacks the capabilities CAP_SETUID and CAP_SETGID"
            }
            io::ErrorKind::PermissionDenied => "\nhint: start the bridge as root, or as that user and group",
            _ => "",
        };
        let Identity { uid, gid, .. } = identity;
        io::Error::new(why.kind(), format!("cannot become user {uid} and group {gid}: {why}{hint}"))
    })
}

fn change_identity(identity: &Identity) -> io::Result<()> {
    if ids() == ([identity.uid; 3], [identity.gid; 3]) && identity.uid != 0 {
        return Ok(());
    }
    match &identity.name {
        // SAFETY: the name ends in NUL; initgroups only reads it.
        Some(name) => check(unsafe { libc::initgroups(name.as_ptr(), identity.gid) })?,
        // SAFETY: one group number is read from a valid place.
        None => check(unsafe { libc::setgroups(1, &identity.gid) })?,
    };
    // SAFETY: setresgid takes no pointer.
    check(unsafe { libc::setresgid(identity.gid, identity.gid, identity.gid) })?;
    // SAFETY: setresuid takes no pointer.
    check(unsafe { libc::setresuid(identity.uid, identity.uid, identity.uid) })?;
    // SAFETY: setuid takes no pointer.
    let regained = identity.uid != 0 && unsafe { libc::setuid(0) } != -1;
    if regained || ids() != ([identity.uid; 3], [identity.gid; 3]) {
        return Err(io::Error::other("the former user could be regained"));
    }
    Ok(())
}

/// The real, effective and saved user, and the same of the group.
fn ids() -> ([u32; 3], [u32; 3]) {
    let (mut users, mut groups) = ([0; 3], [0; 3]);
    let ([r, e, s], [rg, eg, sg]) = (&mut users, &mut groups);
    // SAFETY: all six are valid places for a number; the calls cannot fail.
    unsafe {
        libc::getresuid(r, e, s);
        libc::getresgid(rg, eg, sg);
    }
    (users, groups)
}

/// Lets nobody but the owner read what the process creates, unless the file is given its mode explicitly.
pub fn restrict_new_files() {
    // SAFETY: umask takes no pointer and cannot fail.
    unsafe { libc::umask(0o077) };
}

/// Keeps the memory, which holds PINs, out of core files, and closed to other processes of the same user.
///
/// To be called again after a change of user, which undoes part of it. A debug build stays open to debuggers.
pub fn forbid_core_dumps() -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for an rlimit.
    check(unsafe { libc::getrlimit(libc::RLIMIT_CORE, &mut limit) })?;
    // A limit of 0 binds files only; with 1 the kernel does not feed a dump to a collecting program either. core(5).
    let most = limit.rlim_max.min(1);
    limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: `limit` is a valid rlimit, and no hard limit is raised.
    check(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &limit) })?;
    if !cfg!(debug_assertions) {
        // SAFETY: PR_SET_DUMPABLE takes a number and no pointer.
        check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })?;
    }
    Ok(())
}

/// Allows `wanted` open descriptors if the hard limit does; returns how many are allowed.
///
/// The limit is not raised without need: a module that uses select(2) fails on descriptors from 1024 on.
pub fn allow_descriptors(wanted: u64) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for an rlimit.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    let wanted = libc::rlim_t::try_from(wanted).unwrap_or(libc::RLIM_INFINITY).min(limit.rlim_max);
    if wanted > limit.rlim_cur {
        limit.rlim_cur = wanted;
        // SAFETY: `limit` is a valid rlimit.
        check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })?;
    }
    Ok(limit.rlim_cur)
}

/// Processor time that this thread has had; zero where that is not told.
pub fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec that the call writes.
    if unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) } != 0 {
        return Duration::ZERO;
    }
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanoseconds.unwrap_or(0))
}

fn check<T: PartialEq + From<i8>>(result: T) -> io::Result<T> {
    if result == T::from(-1) { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests;
