//! Sockets: those that a service manager hands over, and reading without waiting.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use super::check;

/// Takes over the listening sockets that the service manager hands to this process, sd_listen_fds(3), and closes whatever
/// else it was started with beyond the standard streams, as the module would have it too.
///
/// To be called once, while there is only one thread and before anything has been opened to stay open. Its variables are
/// removed from the environment, so that no program that a module starts takes the descriptors for its own.
pub fn inherited_listeners() -> io::Result<Vec<TcpListener>> {
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    let (pid, count) = (number("LISTEN_PID"), number("LISTEN_FDS"));
    for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
        // SAFETY: there is one thread, so nobody reads the environment meanwhile.
        unsafe { std::env::remove_var(name) };
    }
    let first: RawFd = 3;
    let count = count.filter(|_| pid == Some(std::process::id()));
    let past = count.and_then(|n| RawFd::try_from(n).ok()).and_then(|n| first.checked_add(n)).unwrap_or(first);
    close_from(past)?;
    (first..past)
        .map(|fd| {
            // SAFETY: F_SETFD takes a number and no pointer; it fails on a descriptor that is not open.
            check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
            // SAFETY: the descriptor is open, and by the protocol it is this process's own.
            listener(unsafe { OwnedFd::from_raw_fd(fd) })
        })
        .collect()
}

/// Closes all descriptors from `first` on, which are to be nobody's.
fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: close_range takes three numbers and no pointer; by the contract of the caller nothing uses what it closes.
    match check(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) }) {
        Ok(_) => return Ok(()),
        // Linux before 5.9, or a filter of system calls that does not know it.
        Err(why) if matches!(why.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {}
        Err(why) => return Err(why),
    }
    let mut open = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        open.extend(entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok()));
    }
    for fd in open.into_iter().filter(|fd| *fd >= first) {
        // SAFETY: as above. The directory's own descriptor is closed already, which close answers with an error.
        unsafe { libc::close(fd) };
    }
    Ok(())
}

/// Takes `fd` for a listener, if it is a TCP socket that listens.
pub fn listener(fd: OwnedFd) -> io::Result<TcpListener> {
    let option = |name| {
        let mut value: libc::c_int = 0;
        let mut len = libc::socklen_t::try_from(mem::size_of_val(&value)).unwrap_or_default();
        // SAFETY: `value` and `len` are valid places, and `len` is the size of `value`.
        check(unsafe {
            libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, name, ptr::from_mut(&mut value).cast(), &mut len)
        })
        .map(|_| value)
    };
    let refused =
        |what| Err(io::Error::new(io::ErrorKind::InvalidInput, format!("descriptor {} {what}", fd.as_raw_fd())));
    let (family, kind) = (option(libc::SO_DOMAIN)?, option(libc::SO_TYPE)?);
    if ![libc::AF_INET, libc::AF_INET6].contains(&family) || kind != libc::SOCK_STREAM {
        return refused("is not a TCP socket");
    }
    if option(libc::SO_ACCEPTCONN)? == 0 {
        return refused("does not listen");
    }
    let listener = TcpListener::from(fd);
    listener.set_nonblocking(false)?;
    Ok(listener)
}

/// Whether the other end of a connection sends no more, whatever it has sent that is not read yet.
pub fn has_hung_up(socket: &TcpStream) -> bool {
    let mut place = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLRDHUP, revents: 0 };
    // SAFETY: one valid pollfd is given, of a descriptor that is open; it is not waited for.
    unsafe { libc::poll(&mut place, 1, 0) == 1 }
}

/// Reads what has arrived on `socket`, without waiting for it.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if nothing has, and what recv(2) says.
pub fn receive_now(socket: &TcpStream, buf: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of `buf`, which nobody else has.
    let read = unsafe { libc::recv(socket.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), libc::MSG_DONTWAIT) };
    usize::try_from(check(read as i64)?).map_err(io::Error::other)
}
