//! What a check found: a line for each thing, for people or as JSON.
#![forbid(unsafe_code)]

use std::fmt::Write;

use super::vendor::{Topic, Vendor};
use crate::json::Value;

/// How a thing was found, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Not in the way of serving, but to be known.
    Warn,
    /// In the way.
    Fail,
}

impl Verdict {
    /// A number for it.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warn => 1,
            Self::Fail => 2,
        }
    }

    /// The one that has the number.
    pub fn of(code: u8) -> Self {
        match code {
            0 => Self::Ok,
            1 => Self::Warn,
            _ => Self::Fail,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

/// What is said of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    verdict: Verdict,
    subject: String,
    text: String,
    hint: Option<String>,
    /// Lines to be taken over as they are.
    lines: Box<[String]>,
    values: Vec<(&'static str, Value)>,
}

impl Line {
    /// A line about `subject`. What follows `hint: ` on a line of its own in `text` becomes the hint.
    pub fn new(verdict: Verdict, subject: impl Into<String>, text: impl ToString) -> Self {
        let text = text.to_string();
        let (text, hint) = match text.split_once("\nhint: ") {
            Some((text, hint)) => (text.to_owned(), Some(hint.to_owned())),
            None => (text, None),
        };
        Self { verdict, subject: subject.into(), text, hint, lines: Box::default(), values: Vec::new() }
    }

    /// The thing is as it should be.
    pub fn ok(subject: impl Into<String>, text: impl ToString) -> Self {
        Self::new(Verdict::Ok, subject, text)
    }

    /// The thing is odd.
    pub fn warn(subject: impl Into<String>, text: impl ToString) -> Self {
        Self::new(Verdict::Warn, subject, text)
    }

    /// The thing is in the way. What to do about it is `hint`, unless `text` brings one.
    pub fn fail(subject: impl Into<String>, text: impl ToString, hint: &str) -> Self {
        let mut line = Self::new(Verdict::Fail, subject, text);
        line.hint.get_or_insert_with(|| hint.to_owned());
        line
    }

    /// The same, but not in the way.
    #[must_use]
    pub fn but_warn(mut self) -> Self {
        self.verdict = self.verdict.min(Verdict::Warn);
        self
    }

    /// With what a vendor's product wants done, where that is known, in place of a hint that was there.
    #[must_use]
    pub fn advice(self, vendor: Option<&Vendor>, topic: Topic) -> Self {
        match vendor.and_then(|vendor| vendor.hint(topic)) {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }

    /// With what is to be done, in place of a hint that was there.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With a value for programs to read.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.values.push((name, value.into()));
        self
    }

    /// With lines under it that are to be taken over as they are; programs find them under `name`.
    #[must_use]
    pub fn copying(mut self, name: &'static str, lines: Vec<String>) -> Self {
        self.values.push((name, lines.join("\n").into()));
        self.lines = lines.into();
        self
    }

    /// For people: more lines where there is a hint, or something to copy.
    fn to_text(&self) -> String {
        let mut text = format!("{:<5} {}: {}", self.verdict.word(), one_line(&self.subject), one_line(&self.text));
        if let Some(hint) = &self.hint {
            let _ = write!(text, "\n      hint: {}", one_line(hint));
        }
        for line in &self.lines {
            let _ = write!(text, "\n      {}", one_line(line));
        }
        text
    }

    fn to_json(&self) -> Value {
        Value::Object(vec![
            ("result", self.verdict.word().to_ascii_lowercase().into()),
            ("subject", self.subject.as_str().into()),
            ("text", self.text.as_str().into()),
            ("hint", self.hint.clone().into()),
            ("values", Value::Object(self.values.clone())),
        ])
    }
}

/// Text of others with nothing in it that moves the cursor.
fn one_line(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

/// Where lines go.
pub struct Report<'o> {
    json: bool,
    worst: Verdict,
    out: Box<dyn FnMut(Verdict, String) + 'o>,
}

impl<'o> Report<'o> {
    /// Each line goes to `out`, as text or as a JSON object.
    pub fn new(json: bool, out: impl FnMut(Verdict, String) + 'o) -> Self {
        Self { json, worst: Verdict::Ok, out: Box::new(out) }
    }

    /// Whether lines are JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Says one thing.
    pub fn say(&mut self, line: Line) {
        let text = if self.json { line.to_json().to_string() } else { line.to_text() };
        self.pass_on(line.verdict, text);
    }

    /// A line that was put into words elsewhere.
    pub fn pass_on(&mut self, verdict: Verdict, text: String) {
        self.worst = self.worst.max(verdict);
        (self.out)(verdict, text);
    }

    /// The worst that was said.
    pub fn worst(&self) -> Verdict {
        self.worst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(json: bool, line: Line) -> String {
        let mut text = String::new();
        Report::new(json, |_, line| text = line).say(line);
        text
    }

    #[test]
    fn puts_the_hint_under_the_line() {
        let line = || Line::fail("module", "cannot open it\nhint: name another", "other").with("path", "/x");
        assert_eq!(said(false, line()), "FAIL  module: cannot open it\n      hint: name another");
        assert_eq!(
            said(true, line()),
            r#"{"result": "fail", "subject": "module", "text": "cannot open it", "hint": "name another", "values": {"path": "/x"}}"#
        );
        assert_eq!(said(false, Line::ok("port", "free")), "ok    port: free");
    }

    #[test]
    fn puts_what_is_to_be_copied_under_the_line() {
        let line = || Line::ok("learnt", "this").copying("toml", vec!["[[token]]".to_owned(), "a = \"b\"".to_owned()]);
        assert_eq!(said(false, line()), "ok    learnt: this\n      [[token]]\n      a = \"b\"");
        assert!(
            said(true, line()).ends_with(r#""values": {"toml": "[[token]]\na = \"b\""}}"#),
            "{}",
            said(true, line())
        );
    }

    #[test]
    fn lets_no_token_write_to_the_terminal() {
        assert_eq!(said(false, Line::ok("token 'a\u{1b}[2J'", "b\nc")), "ok    token 'a\\u{1b}[2J': b\\nc");
    }

    #[test]
    fn remembers_the_worst() {
        let mut report = Report::new(false, |_, _| {});
        for (line, worst) in [
            (Line::ok("a", ""), Verdict::Ok),
            (Line::fail("b", "", "c"), Verdict::Fail),
            (Line::warn("c", ""), Verdict::Fail),
        ] {
            report.say(line);
            assert_eq!(report.worst(), worst);
        }
    }
}
