//! The command `check`: a set-up tried out piece by piece, a line for each, and what stands in the way of one piece does not
//! keep the others from being looked at.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use super::report::{Line, Report, Verdict};
use super::{module, places, tokens};
use crate::bridge::PublicKeys;
use crate::config::{self, Config, Judged, Overrides, keys};
use crate::console::{self, Questions, Visit};
use crate::pkcs11::{Module, Tokens};
use crate::sys;

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
pub fn prove(path: &Path, overrides: &Overrides, questions: &Questions, _trials: &Trials) -> ExitCode {
    let mut output = Output { json: questions.json, lines: 0, broken: false };
    let mut report = Report::new(questions.json, |_, line| output.line(&line));
    look(path, overrides, questions, &mut report);
    let worst = report.worst();
    drop(report);
    output.end();
    if worst == Verdict::Fail { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn look(path: &Path, overrides: &Overrides, questions: &Questions, report: &mut Report<'_>) {
    let judged = match config::read(path, overrides) {
        Ok(judged) => judged,
        Err(error) => return report.say(Line::fail("configuration", error)),
    };
    configuration(&judged, report);
    let config = &judged.config;
    let visit = Visit::prepare(questions, &config.access);
    for (subject, judged) in [
        ("log", (!judged.is_faulty("daemon.log-target")).then(|| places::log(&config.log.target))),
        ("pid-file", config.daemon.pid_file.as_deref().map(places::pid_file)),
    ] {
        match judged {
            Some(Ok(())) => report.say(Line::ok(subject, "can be written")),
            Some(Err(why)) => report.say(Line::fail(subject, why)),
            None => {}
        }
    }
    if !become_user(config, report) || judged.is_faulty(keys::LIB_PATH.path) {
        return;
    }
    if let Some(directory) = &config.bridge.public_keys {
        public_keys(directory, report);
    }
    let visit = match visit {
        Ok(visit) => visit,
        Err(error) => return report.say(Line::fail("secrets", error)),
    };
    match Module::load(&config.pkcs11.lib_path) {
        Ok(module) => {
            module::describe(module.info(), report);
            let tokens = Tokens::new(module, &config.pkcs11);
            tokens::look(&tokens, &visit, report);
        }
        Err(error) => report.say(Line::fail("module", error)),
    }
}

fn configuration(judged: &Judged, report: &mut Report<'_>) {
    for problem in &judged.problems {
        report.say(Line::fail("configuration", problem.in_file(&judged.path)));
    }
    for warning in &judged.warnings {
        report.say(Line::warn("configuration", warning.in_file(&judged.path)));
    }
    if judged.problems.is_empty() {
        report.say(Line::ok("configuration", judged.path.display()));
    }
}

fn public_keys(directory: &Path, report: &mut Report<'_>) {
    match PublicKeys::load(directory) {
        Ok((keys, odd)) => {
            for why in odd {
                report.say(Line::warn("public keys", why).hint("the bridge goes on without this file"));
            }
            report.say(Line::ok("public keys", format!("{} in {}", keys.len(), directory.display())));
        }
        Err(why) => report.say(Line::fail("public keys", why)),
    }
}

fn become_user(config: &Config, report: &mut Report<'_>) -> bool {
    match console::become_user(config) {
        Ok(()) if config.daemon.identity.is_none() && sys::is_root() => report.say(
            Line::warn("user", "this is root, and nobody else to become is configured")
                .hint("daemon.identity or --user names whom the bridge becomes"),
        ),
        Ok(()) => {}
        Err(why) => {
            report.say(Line::fail("user", why));
            return false;
        }
    }
    true
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
        self.broken |= self.broken || out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err();
    }
}
