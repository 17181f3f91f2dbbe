//! The process that outlives a module which ends its process: in the background there is no service manager that would hold the
//! listening sockets meanwhile, so that clients wait in their backlog, and start the bridge anew.
//!
//! It keeps the user that it was started as. The process that serves is to read what only root can read, and to give root up by itself,
//! each time one is started; a supervisor that had given it up would have to keep certificates' keys, passwords and PINs for that. As it is
//! it reads none of them. It has one thread and no module, talks to nobody, and does nothing but wait for signals and for its child, open
//! the log anew, and fork.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{error, info};

use super::background::Starter;
use crate::server::Server;
use crate::sys::{self, Child, Fork, Noticed, Signal, Signals, Vigil};

/// Which process one is after [`supervise`].
pub(super) enum Role {
    /// One that is to serve.
    Serving(Box<Server>, Report),
    /// The supervisor at its end, with its exit code.
    Ended(u8),
}

/// What the process that serves tells its supervisor, if it has one.
#[derive(Clone, Default)]
pub(super) struct Report(Option<Arc<Line>>);

struct Line {
    words: UnixStream,
    supervisor: u32,
}

const SERVES: u8 = b'+';
const ENDS: u8 = b'.';

impl Report {
    /// Whether there is a supervisor.
    pub(super) fn is_heard(&self) -> bool {
        self.0.is_some()
    }

    /// It serves from now on.
    pub(super) fn serves(&self) {
        self.say(SERVES);
    }

    /// It ends because it was told to. Without this word, whatever its exit code, the next one is started: a module may end the
    /// process in any way.
    pub(super) fn ends(&self) {
        self.say(ENDS);
    }

    /// Ends with its supervisor, should that be killed: else it would hold the port and the pid-file against the next bridge, with nobody
    /// left to pass signals on to it. It ends in order, within `drain-timeout` and the time for the module: what clients have asked for
    /// is no fault of theirs. Until it has ended the pid-file stays locked, so that the next bridge does not meet it on the port either.
    pub(super) fn end_with_supervisor(&self) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |line| sys::stop_with(line.supervisor))
    }

    fn say(&self, word: u8) {
        if let Some(line) = &self.0 {
            // There may be no supervisor any more, which this process hears of by other means.
            let _ = (&line.words).write_all(&[word]);
        }
    }
}

/// Forks the process that serves, and again as often as it ends without having been told to. `starter` is that process's from then on.
///
/// Only the first has to come to serve; if it does not, that is the end, and `starter` has been told why. To be called while there is only
/// one thread. `open_log` is called for HUP, before it is passed on.
pub(super) fn supervise(
    mut server: Server,
    signals: &Signals,
    starter: &mut Option<Starter>,
    open_log: impl Fn(),
) -> io::Result<Role> {
    let watch = Watch { vigil: Vigil::begin(signals)?, open_log };
    let mut pace = Pace::default();
    let mut has_served = false;
    loop {
        let since = Instant::now();
        let (what, served_for) = match watch.fork() {
            Ok(Forked::Here(report)) => return Ok(Role::Serving(Box::new(server), report)),
            Ok(Forked::There(child, words)) => {
                *starter = None;
                let (status, kept) = watch.attend(&child, server)?;
                let words = heard(&words);
                has_served |= words.contains(&SERVES);
                let Some(kept) = kept.filter(|_| has_served && !words.contains(&ENDS)) else {
                    return Ok(Role::Ended(last(status)));
                };
                server = kept;
                (format!("ended: {status}"), words.contains(&SERVES).then(|| since.elapsed()))
            }
            Err(why) if !has_served => return Err(why),
            Err(why) => (format!("cannot be forked: {why}"), None),
        };
        let pause = pace.next(served_for);
        let when = if pause.is_zero() { "at once".to_owned() } else { format!("in {} s", pause.as_secs()) };
        error!(
            "the process that serves {what}; another is started {when}, clients wait meanwhile\n\
             hint: the lines before this one, or the module's own log, may tell why"
        );
        if !watch.rest(pause)? {
            info!("stopped");
            return Ok(Role::Ended(0));
        }
    }
}

enum Forked {
    Here(Report),
    There(Child, UnixStream),
}

struct Watch<F> {
    vigil: Vigil,
    open_log: F,
}

impl<F: Fn()> Watch<F> {
    fn fork(&self) -> io::Result<Forked> {
        let (ours, words) = UnixStream::pair()?;
        // What a module has started may keep the other end open.
        ours.set_nonblocking(true)?;
        Ok(match self.vigil.fork()? {
            Fork::Child(supervisor) => Forked::Here(Report(Some(Arc::new(Line { words, supervisor })))),
            Fork::Parent(child) => Forked::There(child, ours),
        })
    }

    /// Waits for the end of `child`, and passes on to it what this process is told. Once that is to stop, the sockets are not kept: nobody
    /// is to wait in their backlog for what does not come.
    fn attend(&self, child: &Child, server: Server) -> io::Result<(ExitStatus, Option<Server>)> {
        let mut server = Some(server);
        loop {
            if let Some(status) = child.ended()? {
                return Ok((status, server));
            }
            if let Noticed::Signal(signal) = self.vigil.wait(None)? {
                match signal {
                    // First here: this process may be able to make a new file where the other is not.
                    Signal::Hangup => (self.open_log)(),
                    Signal::Stop => server = None,
                }
                child.signal(signal);
            }
        }
    }

    /// Waits for so long, unless it is told to stop: false then.
    fn rest(&self, pause: Duration) -> io::Result<bool> {
        let since = Instant::now();
        loop {
            match self.vigil.wait(Some(pause.saturating_sub(since.elapsed())))? {
                Noticed::Signal(Signal::Stop) => return Ok(false),
                Noticed::Signal(Signal::Hangup) => (self.open_log)(),
                Noticed::Stir => {}
            }
            if since.elapsed() >= pause {
                return Ok(true);
            }
        }
    }
}

/// What a process that has ended had said.
fn heard(mut words: &UnixStream) -> Vec<u8> {
    let mut said = [0; 16];
    let len = words.read(&mut said).unwrap_or_default();
    said.get(..len).unwrap_or_default().to_vec()
}

/// The exit code that follows from that of a process after which no other comes.
fn last(status: ExitStatus) -> u8 {
    if status.signal().is_some() {
        error!("the process that was to serve, or to stop, ended: {status}");
    }
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// How soon the next process is started: at once, and after growing pauses where one follows the other. What ends it at its start, or
/// at the first request of a client that tries again and again, is not to use up the machine and fill the log.
#[derive(Default)]
struct Pace(Duration);

impl Pace {
    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(30);
    /// After having served for so long, an end is a new matter.
    const SETTLED: Duration = Duration::from_secs(60);

    /// The pause after a process that has served for so long, or not at all.
    fn next(&mut self, served_for: Option<Duration>) -> Duration {
        if served_for.is_some_and(|time| time >= Self::SETTLED) {
            self.0 = Duration::ZERO;
        }
        let pause = self.0;
        self.0 = pause.saturating_mul(2).clamp(Self::FIRST, Self::LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_half_a_minute_and_begin_anew_after_a_minute_of_service() {
        let mut pace = Pace::default();
        let mut pauses = |served_for: Option<u64>, times| -> Vec<u64> {
            (0..times).map(|_| pace.next(served_for.map(Duration::from_secs)).as_secs()).collect()
        };
        assert_eq!(pauses(Some(5), 3), [0, 1, 2]);
        assert_eq!(pauses(None, 5), [4, 8, 16, 30, 30]);
        assert_eq!(pauses(Some(59), 1), [30]);
        assert_eq!(pauses(Some(60), 2), [0, 0]);
        assert_eq!(pauses(None, 2), [1, 2]);
    }

    #[test]
    fn hears_what_was_said_and_does_not_wait_for_more() {
        let (ours, words) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        assert_eq!(heard(&ours), b"");
        let report = Report(Some(Arc::new(Line { words, supervisor: 0 })));
        report.serves();
        report.ends();
        assert_eq!(heard(&ours), b"+.");
        drop(ours);
        report.ends();
    }
}
