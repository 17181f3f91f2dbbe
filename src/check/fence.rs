//! The fence around the module: what calls it runs in a process of its own, which says what it calls, makes and finds. A call that
//! does not return, or a module that crashes, is a line of the answer then, and what was made is still known.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant};

use zeroize::{Zeroize, Zeroizing};

use super::report::{Line, Report, Verdict};
use crate::pkcs11::Class;
use crate::sys::{self, Caught, Fenced, Heard, Split};

/// Something that was made on a token, or is about to be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Made {
    /// A data object, by its label.
    DataObject(String),
    /// A key pair whose CKA_ID is not known yet, by its label.
    Pair(String),
    /// The half of a key pair, by its CKA_ID.
    Key(Half, Vec<u8>),
}

/// Which half of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Half {
    /// The one to destroy first.
    Private,
    /// The other.
    Public,
}

impl Half {
    /// Its class of objects.
    pub fn class(self) -> Class {
        match self {
            Self::Private => Class::PrivateKey,
            Self::Public => Class::PublicKey,
        }
    }
}

/// What is known of the inside when it has come to its end.
#[derive(Default)]
pub struct Outcome {
    /// What it has made and not destroyed.
    pub left: BTreeSet<Made>,
    /// The PIN that was asked for.
    pub pin: Option<Zeroizing<Vec<u8>>>,
    /// The token let it in.
    pub entered: bool,
}

/// More than what is said at one time.
const LONGEST: usize = 1 << 16;

// What a message is about: its first byte. The length of what follows comes after it, in four bytes.
const CALL: u8 = b'C';
const DONE: u8 = b'.';
const ENTERED: u8 = b'E';
const GONE: u8 = b'-';
const LINE: u8 = b'L';
const MADE: u8 = b'+';

/// What to do where nothing else helps.
const AGAIN: &str = "what comes after it was not looked at: run it again";

/// The way out of the fence.
#[derive(Clone, Copy)]
pub struct Outlet<'p>(&'p File);

impl Outlet<'_> {
    /// A call, or several, begin that should return within `most`; without, for as long as it takes.
    pub fn calling(self, call: &str, most: Option<Duration>) {
        let most = most.map_or(0, |most| u32::try_from(most.as_millis()).unwrap_or(u32::MAX).max(1));
        self.send(CALL, &[&most.to_be_bytes()[..], call.as_bytes()].concat());
    }

    /// Something is about to be made.
    pub fn made(self, what: &Made) {
        self.send(MADE, &what.encode());
    }

    /// It is not there, or no longer.
    pub fn gone(self, what: &Made) {
        self.send(GONE, &what.encode());
    }

    /// The token let this process in, with this PIN if it was asked for.
    pub fn entered(self, pin: Option<&[u8]>) {
        self.send(ENTERED, pin.unwrap_or_default());
    }

    fn line(self, verdict: Verdict, text: &str) {
        self.send(LINE, &[&[verdict.code()], text.as_bytes()].concat());
    }

    /// Whoever listened may be gone; what was begun is brought to its end all the same.
    fn send(self, kind: u8, content: &[u8]) {
        let len = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let message = Zeroizing::new([&[kind][..], &len.to_be_bytes(), content].concat());
        let _ = (&mut &*self.0).write_all(&message);
    }
}

impl Made {
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::DataObject(label) => [b"d", label.as_bytes()].concat(),
            Self::Pair(label) => [b"k", label.as_bytes()].concat(),
            Self::Key(Half::Private, id) => [b"s", id.as_slice()].concat(),
            Self::Key(Half::Public, id) => [b"p", id.as_slice()].concat(),
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (b'd', label) => Some(Self::DataObject(String::from_utf8_lossy(label).into_owned())),
            (b'k', label) => Some(Self::Pair(String::from_utf8_lossy(label).into_owned())),
            (b's', id) => Some(Self::Key(Half::Private, id.to_vec())),
            (b'p', id) => Some(Self::Key(Half::Public, id.to_vec())),
            _ => None,
        }
    }
}

/// Does `work` inside the fence, passing on to `report` what it says there. False if it did not come to its end, which the
/// report then says.
pub fn run(
    caught: &Caught,
    report: &mut Report<'_>,
    outcome: &mut Outcome,
    work: impl FnOnce(Outlet<'_>, &mut Report<'_>),
) -> bool {
    match sys::split(caught) {
        Ok(Split::Inside(pipe)) => {
            let outlet = Outlet(&pipe);
            let mut inner = Report::new(report.is_json(), |verdict, text| outlet.line(verdict, &text));
            let ended = panic::catch_unwind(AssertUnwindSafe(|| work(outlet, &mut inner)));
            if ended.is_ok() {
                outlet.send(DONE, &[]);
            }
            sys::leave(i32::from(ended.is_err()));
        }
        Ok(Split::Outside(fenced)) => {
            let mut outside = Outside { report, outcome, call: None, is_done: false };
            match outside.listen(&fenced, caught) {
                Ok(()) => outside.end(fenced, caught),
                Err(line) => {
                    outside.report.say(line);
                    let _ = fenced.end(Duration::ZERO);
                    false
                }
            }
        }
        Err(why) => {
            report.say(Line::fail(
                "process",
                format!("cannot start another process: {why}"),
                "ulimit -u is how many there may be",
            ));
            false
        }
    }
}

/// What is known outside.
struct Outside<'r, 'o> {
    report: &'r mut Report<'o>,
    outcome: &'r mut Outcome,
    /// What is called, and until when it should have returned.
    call: Option<(String, Option<(Instant, Duration)>)>,
    is_done: bool,
}

impl Outside<'_, '_> {
    /// Hears the process out.
    ///
    /// # Errors
    /// What to say when that takes too long, or this process is to end.
    fn listen(&mut self, fenced: &Fenced, caught: &Caught) -> Result<(), Line> {
        // Never moved, so that no copy of a PIN is left behind.
        let mut said = Zeroizing::new(Vec::with_capacity(LONGEST));
        loop {
            let left = self.call.as_ref().and_then(|(_, limit)| limit.map(|(end, _)| end));
            let left = left.map(|end| end.saturating_duration_since(Instant::now()));
            match fenced.hear(caught, left, &mut said) {
                Ok(Heard::Something) => {
                    self.understand(&mut said);
                    // A process that the module has started may keep the pipe open.
                    if self.is_done {
                        return Ok(());
                    }
                }
                Ok(Heard::End) => return Ok(()),
                Ok(Heard::Nothing) => return Err(self.overdue()),
                Ok(Heard::Signal(signal)) => {
                    // It may have a terminal to put in order.
                    fenced.signal(signal);
                    return Ok(());
                }
                Err(why) => return Err(Line::fail("process", format!("cannot hear the other process: {why}"), AGAIN)),
            }
        }
    }

    fn overdue(&self) -> Line {
        let (call, limit) = self.call.as_ref().map_or(("", None), |(call, limit)| (call.as_str(), *limit));
        let seconds = limit.map_or(0, |(_, most)| most.as_secs());
        let hint = "the HSM may be away, or busy; pkcs11.call-timeout and generate-timeout are how long the bridge lets a client wait";
        Line::fail("module", format!("{call} has not returned after {seconds} s"), hint)
            .with("call", call)
            .with("seconds", seconds)
    }

    /// How the process ended.
    fn end(&mut self, fenced: Fenced, caught: &Caught) -> bool {
        const GRACE: Duration = Duration::from_secs(2);
        let ended = fenced.end(GRACE);
        let call = self.call.as_ref().map_or("", |(call, _)| call.as_str());
        let during = if call.is_empty() { String::new() } else { format!(" during {call}") };
        // From the terminal it comes to both processes, and either may be the first to notice.
        let of_inside = ended.as_ref().ok().copied().flatten().and_then(|status| status.signal());
        if let Some(signal) = caught.take().or(of_inside.filter(|signal| sys::is_ending(*signal))) {
            self.report.say(Line::fail("process", format!("interrupted by signal {signal}{during}"), AGAIN));
            return false;
        }
        if self.is_done {
            return true;
        }
        let how = match ended {
            Ok(Some(status)) => status.to_string(),
            Ok(None) => "it cannot be ended".to_owned(),
            Err(why) => why.to_string(),
        };
        let hint = "so would the bridge, at that call; the module's vendor has to mend it";
        let text = format!("the process that had it loaded died{during}: {how}");
        self.report.say(Line::fail("module", text, hint).with("call", call));
        false
    }

    /// Takes the whole messages out of `said`.
    fn understand(&mut self, said: &mut Zeroizing<Vec<u8>>) {
        while let Some((&[kind, a, b, c, d], rest)) = said.split_first_chunk() {
            let len = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
            let Some(content) = rest.get(..len) else { return };
            self.take(kind, content);
            let whole = len.saturating_add(5);
            let mut rest = said.split_off(whole);
            said.zeroize();
            said.append(&mut rest);
        }
    }

    fn take(&mut self, kind: u8, content: &[u8]) {
        match (kind, content) {
            (CALL, [a, b, c, d, call @ ..]) => {
                let most = Duration::from_millis(u32::from_be_bytes([*a, *b, *c, *d]).into());
                let limit = Instant::now().checked_add(most).filter(|_| !most.is_zero()).map(|end| (end, most));
                self.call = Some((String::from_utf8_lossy(call).into_owned(), limit));
            }
            (DONE, _) => self.is_done = true,
            (ENTERED, pin) => {
                self.outcome.entered = true;
                self.outcome.pin = Some(Zeroizing::new(pin.to_vec())).filter(|pin| !pin.is_empty());
            }
            (GONE, what) => {
                Made::decode(what).map(|what| self.outcome.left.remove(&what));
            }
            (LINE, [verdict, text @ ..]) => {
                let text = String::from_utf8_lossy(text).into_owned();
                self.report.pass_on(Verdict::of(*verdict), text);
            }
            (MADE, what) => {
                Made::decode(what).map(|what| self.outcome.left.insert(what));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_survives_the_way_through_the_pipe() {
        for made in [
            Made::DataObject("x y".to_owned()),
            Made::Pair("x".to_owned()),
            Made::Key(Half::Private, vec![0, 1, 0xff]),
            Made::Key(Half::Public, Vec::new()),
        ] {
            assert_eq!(Made::decode(&made.encode()), Some(made));
        }
        assert_eq!(Made::decode(b"x"), None);
    }

    #[test]
    fn understands_messages_that_come_in_pieces() {
        let mut lines = Vec::new();
        let mut report = Report::new(false, |verdict, text| lines.push((verdict, text)));
        let mut outcome = Outcome::default();
        let mut outside = Outside { report: &mut report, outcome: &mut outcome, call: None, is_done: false };
        let messages = [
            &b"C\0\0\0\x0a\0\0\x03\xe8C_Sign"[..],
            b"+\0\0\0\x02s\x07",
            b"+\0\0\0\x02p\x07",
            b"L\0\0\0\x03\x01hi",
            b"-\0\0\0\x02s\x07",
            b"E\0\0\0\x041234",
            b".\0\0\0\0",
        ]
        .concat();
        let mut said = Zeroizing::new(Vec::new());
        for byte in messages {
            said.push(byte);
            outside.understand(&mut said);
        }
        let (call, limit) = outside.call.clone().unwrap();
        assert_eq!((call.as_str(), limit.unwrap().1), ("C_Sign", Duration::from_secs(1)));
        assert!(outside.is_done && said.is_empty());
        assert_eq!(outcome.left, BTreeSet::from([Made::Key(Half::Public, vec![7])]));
        assert!(outcome.entered && outcome.pin.unwrap().as_slice() == b"1234");
        drop(report);
        assert_eq!(lines, [(Verdict::Warn, "hi".to_owned())]);
    }
}
