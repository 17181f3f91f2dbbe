//! The command `check`: a set-up tried out piece by piece, a line for each, and what stands in the way of one piece does not
//! keep the others from being looked at.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use super::fence::{self, Made, Outcome};
use super::inside::Inside;
use super::report::{Line, Report, Verdict};
use super::{certificate, places, port};
use crate::config::{self, Config, Judged, Overrides};
use crate::console::{Questions, Visit};
use crate::sys::{self, Caught};

/// Where every key of the configuration is described.
const MANUAL: &str = "man cascade-hsm-bridge-config.toml says what each key may be";

/// What to try out beyond looking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trials {
    /// Make and change data objects.
    pub data_objects: bool,
    /// Log in although the token says that wrong PINs came before.
    pub low_pin: bool,
    /// Make keys, sign with them and destroy them.
    pub sign: bool,
}

/// Tries the set-up of the configuration file at `path` out, and prints what was found.
pub fn prove(path: &Path, overrides: &Overrides, questions: &Questions, trials: &Trials) -> ExitCode {
    let mut output = Output { json: questions.json, lines: 0, broken: false };
    let mut report = Report::new(questions.json, |_, line| output.line(&line));
    match Caught::begin() {
        Ok(caught) => look(path, overrides, questions, *trials, &caught, &mut report),
        Err(why) => report.say(Line::fail("process", format!("cannot hold signals back: {why}"), "run it again")),
    }
    let worst = report.worst();
    drop(report);
    output.end();
    if worst == Verdict::Fail { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn look(
    path: &Path,
    overrides: &Overrides,
    questions: &Questions,
    trials: Trials,
    caught: &Caught,
    report: &mut Report<'_>,
) {
    let judged = match config::read(path, overrides) {
        Ok(judged) => judged,
        Err(error) => {
            return report.say(Line::fail(
                "configuration",
                error,
                "whoever starts the bridge has to read it; --config names another",
            ));
        }
    };
    configuration(&judged, report);
    let config = &judged.config;
    let visit = match Visit::prepare(questions, &config.access) {
        Ok(visit) => visit,
        Err(error) => {
            report.say(Line::fail(
                "secrets",
                error,
                "a secret is the first line of a file that is open to its owner or group only",
            ));
            Visit::without_secrets(questions)
        }
    };
    as_root(&judged, report);
    let mut inside = Inside { judged: &judged, visit, trials, by_root: made_by_root(config) };
    let mut outcome = Outcome::default();
    let went_well = fence::run(caught, report, &mut outcome, |outlet, report| inside.look(outlet, report));
    if let Some(pin) = outcome.pin.take() {
        inside.visit.remember(pin);
    }
    tidy(&inside, caught, &mut outcome, report);
    // In a process of its own, and last: no other thing is so often fatal.
    if trials.data_objects && went_well && outcome.entered {
        fence::run(caught, report, &mut outcome, |outlet, report| inside.try_data_objects(outlet, report));
        tidy(&inside, caught, &mut outcome, report);
    }
}

fn configuration(judged: &Judged, report: &mut Report<'_>) {
    for problem in &judged.problems {
        report.say(Line::fail("configuration", problem.in_file(&judged.path), MANUAL));
    }
    for warning in &judged.warnings {
        report.say(Line::warn("configuration", warning.in_file(&judged.path)));
    }
    if judged.problems.is_empty() {
        report.say(Line::ok("configuration", judged.path.display()));
    }
}

/// What the bridge does before it becomes another user.
fn as_root(judged: &Judged, report: &mut Report<'_>) {
    let config = &judged.config;
    // An unsound target would be judged as if it were another.
    let log = (!judged.is_faulty("daemon.log-target")).then(|| places::log(&config.log.target));
    let pid_file = config.daemon.pid_file.as_deref().map(places::pid_file);
    for (subject, judged) in [("log", log), ("pid-file", pid_file)] {
        match judged {
            Some(Ok(())) => report.say(Line::ok(subject, "can be written")),
            Some(Err(why)) => report.say(Line::fail(
                subject,
                why,
                "its directory has to be there; daemon.pid-file names another place",
            )),
            None => {}
        }
    }
    if !judged.is_faulty("server.addr") {
        port::look(&config.server, report);
    }
    if config.tls.identity.is_some() && certificate::is_sound(judged) {
        certificate::look(config, false, report);
    }
}

/// Whether root makes the state directory, for the user that the bridge becomes.
fn made_by_root(config: &Config) -> bool {
    sys::is_root() && config.daemon.identity.is_some() && places::can_be_made_here(&config.state_dir)
}

/// Destroys what is left of what was made, or says what it is.
fn tidy(inside: &Inside<'_>, caught: &Caught, outcome: &mut Outcome, report: &mut Report<'_>) {
    if outcome.left.is_empty() {
        return;
    }
    let left = outcome.left.clone();
    fence::run(caught, report, outcome, |outlet, _| inside.destroy(&left, outlet));
    for made in &outcome.left {
        let what = match made {
            Made::DataObject(label) => format!("the data object labelled {label}"),
            Made::Pair(label) => format!("a key pair labelled {label}"),
            Made::Key(half, id) => {
                let id: String = id.iter().map(|byte| format!("{byte:02X}")).collect();
                format!("the {} with the CKA_ID {id}", half.class())
            }
        };
        report.say(Line::fail(
            "left over",
            format!("{what} may still be on the token"),
            "look for it with the command keys or the vendor's tools, and destroy it: it is of no use",
        ));
    }
    if outcome.left.is_empty() {
        report.say(Line::ok("left over", "what had been made was destroyed"));
    }
    outcome.left.clear();
}

/// Standard output: lines, or an array of JSON with a line for each element.
struct Output {
    json: bool,
    lines: usize,
    broken: bool,
}

impl Output {
    fn line(&mut self, line: &str) {
        let text = match (self.json, self.lines) {
            (false, _) => format!("{line}\n"),
            (true, 0) => format!("[{line}"),
            (true, _) => format!(",\n{line}"),
        };
        self.lines = self.lines.saturating_add(1);
        self.write(&text);
    }

    fn end(&mut self) {
        if self.json {
            self.write(if self.lines == 0 { "[]\n" } else { "]\n" });
        }
    }

    /// A reader that has gone away is no reason to leave the work half done.
    fn write(&mut self, text: &str) {
        let mut out = io::stdout().lock();
        self.broken = self.broken || out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err();
    }
}
