//! One log message as one line of text.
#![forbid(unsafe_code)]

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::time::{SystemTime, UNIX_EPOCH};

use log::{Level, Record};

use super::{AUDIT, syslog};

/// How a line begins; all are followed by the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `<6>`, the priority as the journal reads it from standard error; it has times of its own. sd-daemon(3)
    Journal,
    /// `warning: `, for the answer to a command.
    Plain,
    /// `<30>cascade-hsm-bridge[123]: `, for syslog, which adds the time; [awaited](syslog::AWAITED) if it is of the audit trail.
    Syslog,
    /// `2026-01-31T12:00:00Z INFO  `, for people.
    Timed,
}

impl Form {
    /// The form for standard error.
    pub fn of_stderr() -> Form {
        match std::env::var("JOURNAL_STREAM") {
            Ok(stream) if place_of_stderr().is_ok_and(|place| place == stream) => Form::Journal,
            _ => Form::Timed,
        }
    }

    /// Writes the line for `record`, with its newline.
    pub fn write(self, out: &mut impl Write, record: &Record<'_>) -> io::Result<()> {
        let (level, message) = (record.level(), Escaped(record.args()));
        match self {
            Form::Journal => writeln!(out, "<{}>{message}", severity(level)),
            Form::Plain => {
                let word = if level == Level::Warn { "warning" } else { level.as_str() };
                writeln!(out, "{}: {message}", word.to_lowercase())
            }
            Form::Syslog => {
                let priority = DAEMON | severity(level);
                if record.target() == AUDIT {
                    write!(out, "{}", syslog::AWAITED)?;
                }
                writeln!(out, "<{priority}>{}[{}]: {message}", env!("CARGO_PKG_NAME"), std::process::id())
            }
            Form::Timed => writeln!(out, "{} {level:<5} {message}", Utc(SystemTime::now())),
        }
    }
}

/// Device and inode of standard error. Programs started from a service inherit its JOURNAL_STREAM even where their own
/// standard error is another, so the variable alone proves nothing. systemd.exec(5)
fn place_of_stderr() -> io::Result<String> {
    let metadata = super::stderr::place()?.metadata()?;
    Ok(format!("{}:{}", metadata.dev(), metadata.ino()))
}

/// The severity of RFC 5424, section 6.2.1. What people need not see every day is `info`, not `notice`.
fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// The facility `daemon`, 3, where syslog expects it in a priority.
const DAEMON: u8 = 3 << 3;

/// Text in which whatever could end the line, start another, or change how it is shown is written as an escape.
struct Escaped<'a>(&'a fmt::Arguments<'a>);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaper(f).write_fmt(*self.0)
    }
}

struct Escaper<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Escaper<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(needs_escape) {
            let (plain, from) = rest.split_at(at);
            self.0.write_str(plain)?;
            // What stands on a line of its own for people at a terminal has to stay with its message here.
            if let Some(hint) = from.strip_prefix("\nhint: ") {
                self.0.write_str("; hint: ")?;
                rest = hint;
                continue;
            }
            let mut chars = from.chars();
            if let Some(c) = chars.next() {
                write!(self.0, "{}", c.escape_default())?;
            }
            rest = chars.as_str();
        }
        self.0.write_str(rest)
    }
}

/// Control characters, line and paragraph separators, and the marks that turn the direction of writing.
fn needs_escape(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A time in UTC to the second. RFC 3339
struct Utc(SystemTime);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default();
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = date(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// The date that is `days` after 1970-01-01 in the Gregorian calendar.
fn date(days: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    // Whole cycles of 400 years first, so that the loop is short for every time the clock can show.
    let (mut year, mut days) = (1970 + days / 146_097 * 400, days % 146_097);
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn line(form: Form, level: Level, message: &str) -> String {
        let mut out = Vec::new();
        form.write(&mut out, &Record::builder().level(level).args(format_args!("{message}")).build()).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn utc(seconds: u64) -> String {
        Utc(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
    }

    #[test]
    fn writes_the_priority_first_for_the_journal() {
        assert_eq!(line(Form::Journal, Level::Error, "no"), "<3>no\n");
        assert_eq!(line(Form::Journal, Level::Trace, "no"), "<7>no\n");
    }

    #[test]
    fn writes_facility_severity_name_and_process_for_syslog() {
        let expected = format!("<30>cascade-hsm-bridge[{}]: started\n", std::process::id());
        assert_eq!(line(Form::Syslog, Level::Info, "started"), expected);
        assert!(line(Form::Syslog, Level::Warn, "x").starts_with("<28>"));
    }

    #[test]
    fn has_syslog_wait_for_the_audit_trail_and_for_no_other_line() {
        let line = |target: &str, message: &str| {
            let mut out = Vec::new();
            let message = format_args!("{message}");
            Form::Syslog.write(&mut out, &Record::builder().target(target).args(message).build()).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert!(line(AUDIT, "audit: made").starts_with("\u{1}<30>"));
        assert!(line("cascade_hsm_bridge::bridge", "\u{1}audit: made").starts_with("<30>"));
    }

    #[test]
    fn writes_time_and_level_for_people() {
        let text = line(Form::Timed, Level::Info, "started");
        assert_eq!(text.len(), "2026-01-31T12:00:00Z INFO  started\n".len());
        assert!(text.ends_with("Z INFO  started\n"));
    }

    #[test]
    fn escapes_what_could_forge_a_line() {
        let text = line(Form::Journal, Level::Info, "a\n<3>b\r\x1b[31m\u{2028}\u{202e}c\0\u{9b}é");
        assert_eq!(text, "<6>a\\n<3>b\\r\\u{1b}[31m\\u{2028}\\u{202e}c\\u{0}\\u{9b}é\n");
    }

    #[test]
    fn keeps_a_hint_on_the_line_of_its_message() {
        assert_eq!(line(Form::Journal, Level::Info, "no\nhint: try\n"), "<6>no; hint: try\\n\n");
    }

    #[test]
    fn writes_the_level_as_a_word_in_answers() {
        assert_eq!(line(Form::Plain, Level::Warn, "old"), "warning: old\n");
        assert_eq!(line(Form::Plain, Level::Error, "no"), "error: no\n");
    }

    #[test]
    fn knows_the_calendar() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(68_169_599), "1972-02-28T23:59:59Z");
        assert_eq!(utc(68_169_600), "1972-02-29T00:00:00Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_767_225_599), "2025-12-31T23:59:59Z");
        assert_eq!(utc(4_107_542_400), "2100-03-01T00:00:00Z");
        assert_eq!(utc(13_574_563_200), "2400-02-29T00:00:00Z");
    }
}
