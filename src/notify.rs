//! Tells the service manager how the program is. sd_notify(3)
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// It serves from now on.
pub const READY: &str = "READY=1";
/// It has begun to stop.
pub const STOPPING: &str = "STOPPING=1";

/// It is well: to be said at least as often as [`watchdog`] says.
pub const WATCHDOG: &str = "WATCHDOG=1";

/// How often the service manager wants to hear that this process is well, if it does. sd_watchdog_enabled(3)
pub fn watchdog() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    if number("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(std::process::id())) {
        return None;
    }
    number("WATCHDOG_USEC").filter(|usec| *usec > 0).map(Duration::from_micros)
}

/// Whether a service manager waits for news of this process.
pub fn is_expected() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// Sends `state` to the service manager, if one waits for it.
pub fn send(state: &str) -> io::Result<()> {
    match std::env::var_os(VARIABLE) {
        Some(place) => send_to(&place, state),
        None => Ok(()),
    }
}

fn send_to(place: &OsStr, state: &str) -> io::Result<()> {
    let address = match place.as_bytes() {
        // A name in the abstract name space is written with an at sign for the NUL it begins with.
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(place)?,
        _ => return Err(io::Error::new(io::ErrorKind::Unsupported, format!("{VARIABLE} names no Unix socket"))),
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

const VARIABLE: &str = "NOTIFY_SOCKET";

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        let len = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    }

    #[test]
    fn sends_to_a_socket_in_the_file_system() {
        let path = std::env::temp_dir().join(format!("chb-notify-{}", std::process::id()));
        let socket = UnixDatagram::bind(&path).unwrap();
        send_to(path.as_os_str(), READY).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(received(&socket), "READY=1");
    }

    #[test]
    fn sends_to_an_abstract_socket() {
        let name = format!("chb-notify-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send_to(OsStr::new(&format!("@{name}")), STOPPING).unwrap();
        assert_eq!(received(&socket), "STOPPING=1");
    }

    #[test]
    fn refuses_addresses_of_other_kinds() {
        assert!(send_to(OsStr::new("vsock:2:1234"), READY).is_err());
        assert!(send_to(OsStr::new(""), READY).is_err());
    }
}
