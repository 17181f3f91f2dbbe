//! The system's log, by datagrams to its Unix socket. RFC 3164 as local programs speak it: no time, no host.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// A connection to the log; connects anew when the log was restarted.
///
/// Nothing here waits: what the log does not take at once is lost, and counted in the next message that it takes.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    socket: Option<UnixDatagram>,
    lost: u64,
}

impl Socket {
    /// Connects to the log at `path`.
    pub fn connect(path: &Path) -> io::Result<Socket> {
        Ok(Socket { path: path.to_owned(), socket: Some(dial(path)?), lost: 0 })
    }

    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        if let Some(socket) = &self.socket {
            match socket.send(message) {
                Ok(_) => return Ok(()),
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return Err(why),
                // The log has gone, perhaps to come back under the same name.
                Err(_) => self.socket = None,
            }
        }
        let socket = dial(&self.path)?;
        socket.send(message)?;
        self.socket = Some(socket);
        Ok(())
    }
}

impl Write for Socket {
    /// Sends `line` as one message. Never fails: there is nowhere to report it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let message = line.strip_suffix(b"\n").unwrap_or(line);
        let sent = match self.lost {
            0 => self.send(message),
            lost => self.send(&[message, format!(" ({lost} messages before this one were lost)").as_bytes()].concat()),
        };
        self.lost = if sent.is_ok() { 0 } else { self.lost.saturating_add(1) };
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn dial(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(path)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("chb-syslog-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        path
    }

    fn received(log: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let len = log.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    }

    #[test]
    fn sends_each_line_as_a_message_without_its_newline() {
        let path = place("lines");
        let log = UnixDatagram::bind(&path).unwrap();
        let mut socket = Socket::connect(&path).unwrap();
        socket.write_all(b"<30>one\n").unwrap();
        socket.write_all(b"<30>two\n").unwrap();
        assert_eq!(received(&log), "<30>one");
        assert_eq!(received(&log), "<30>two");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn finds_a_log_that_was_restarted_and_tells_what_was_lost() {
        let path = place("restart");
        let log = UnixDatagram::bind(&path).unwrap();
        let mut socket = Socket::connect(&path).unwrap();
        drop(log);
        std::fs::remove_file(&path).unwrap();
        socket.write_all(b"one\n").unwrap();
        socket.write_all(b"two\n").unwrap();
        let log = UnixDatagram::bind(&path).unwrap();
        socket.write_all(b"three\n").unwrap();
        socket.write_all(b"four\n").unwrap();
        assert_eq!(received(&log), "three (2 messages before this one were lost)");
        assert_eq!(received(&log), "four");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn drops_messages_that_a_full_log_does_not_take() {
        let path = place("full");
        let _log = UnixDatagram::bind(&path).unwrap();
        let mut socket = Socket::connect(&path).unwrap();
        for _ in 0..10_000 {
            socket.write_all(&[b'x'; 1000]).unwrap();
        }
        assert!(socket.lost > 0);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn fails_to_connect_where_nobody_listens() {
        assert!(Socket::connect(Path::new("/nonexistent/log")).is_err());
    }
}
