//! The system's log, by datagrams to its Unix socket. RFC 3164 as local programs speak it: no time, no host.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a line begins with that is waited for. No message can begin so, as control characters are escaped.
pub const AWAITED: char = '\u{1}';

/// How long a line is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// A connection to the log; connects anew when the log was restarted.
///
/// What the log does not take at once is lost, and counted in the next message that it takes: whoever has the bridge say much is not
/// to hold it up. Nor is he to drown the lines that tell what was done, and so those [are waited for](AWAITED) a while; not again where
/// that was in vain, until the log has taken something.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    socket: Option<UnixDatagram>,
    lost: u64,
    patience: Duration,
    is_stuck: bool,
}

impl Socket {
    /// Connects to the log at `path`.
    pub fn connect(path: &Path) -> io::Result<Socket> {
        Ok(Socket { path: path.to_owned(), socket: Some(dial(path)?), lost: 0, patience: PATIENCE, is_stuck: false })
    }

    fn send(&mut self, message: &[u8], wait: Option<Duration>) -> io::Result<()> {
        if let Some(socket) = &self.socket {
            match send_on(socket, message, wait) {
                Ok(_) => return Ok(()),
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return Err(why),
                // The log has gone, perhaps to come back under the same name.
                Err(_) => self.socket = None,
            }
        }
        let socket = dial(&self.path)?;
        send_on(&socket, message, wait)?;
        self.socket = Some(socket);
        Ok(())
    }
}

impl Write for Socket {
    /// Sends `line` as one message. Never fails: there is nowhere to report it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let message = line.strip_suffix(b"\n").unwrap_or(line);
        let (message, is_awaited) = match message.split_first() {
            Some((first, awaited)) if char::from(*first) == AWAITED => (awaited, true),
            _ => (message, false),
        };
        let wait = Some(self.patience).filter(|_| is_awaited && !self.is_stuck);
        let sent = match self.lost {
            0 => self.send(message, wait),
            lost => {
                let told = format!(" ({lost} messages before this one were lost)");
                self.send(&[message, told.as_bytes()].concat(), wait)
            }
        };
        self.is_stuck = sent.is_err() && (self.is_stuck || is_awaited);
        self.lost = if sent.is_ok() { 0 } else { self.lost.saturating_add(1) };
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn send_on(socket: &UnixDatagram, message: &[u8], wait: Option<Duration>) -> io::Result<()> {
    let Some(patience) = wait else { return socket.send(message).map(|_| ()) };
    socket.set_write_timeout(Some(patience))?;
    socket.set_nonblocking(false)?;
    let sent = socket.send(message);
    socket.set_nonblocking(true)?;
    sent.map(|_| ())
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

    /// Until the log takes nothing more.
    fn fill(socket: &mut Socket) {
        while socket.lost == 0 {
            socket.write_all(b"junk").unwrap();
        }
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
    fn waits_for_a_full_log_to_take_a_line_that_is_awaited() {
        let path = place("awaited");
        let log = UnixDatagram::bind(&path).unwrap();
        // However slow the machine is.
        let mut socket = Socket { patience: Duration::from_secs(60), ..Socket::connect(&path).unwrap() };
        fill(&mut socket);
        let reader = std::thread::spawn(move || {
            // Until the line waits. Should it not yet, it finds room.
            std::thread::sleep(Duration::from_millis(100));
            std::iter::repeat_with(|| received(&log)).find(|line| line != "junk").unwrap()
        });
        socket.write_all(format!("{AWAITED}<30>deed\n").as_bytes()).unwrap();
        assert_eq!(socket.lost, 0);
        assert_eq!(reader.join().unwrap(), "<30>deed (1 messages before this one were lost)");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn waits_once_for_a_log_that_takes_nothing_any_more() {
        let path = place("stuck");
        let log = UnixDatagram::bind(&path).unwrap();
        let mut socket = Socket::connect(&path).unwrap();
        fill(&mut socket);
        // A thousand seconds, if each were waited for.
        for _ in 0..1000 {
            socket.write_all(format!("{AWAITED}deed").as_bytes()).unwrap();
        }
        assert_eq!((socket.lost, socket.is_stuck), (1001, true));
        received(&log);
        socket.write_all(b"junk").unwrap();
        assert_eq!((socket.lost, socket.is_stuck), (0, false));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn fails_to_connect_where_nobody_listens() {
        assert!(Socket::connect(Path::new("/nonexistent/log")).is_err());
    }
}
