//! Tests run, several at a time, each in a process of its own.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{env, process, thread};

use super::hsm::Hsm;
use super::programs::Test;

/// Far more than the slowest test takes on the slowest module.
const PATIENCE: Duration = Duration::from_secs(600);

/// Lines shown of what a failed test has said.
const SHOWN: usize = 60;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    /// Without what the module cannot do: what that is.
    PassedInPart(Vec<String>),
    /// How it ended and the last that it said.
    Failed(String),
    /// Why.
    Skipped(String),
}

/// What became of each test on each module: by module, then by test. Failures are told at once.
pub fn all(hsms: &[Hsm], tests: &[Test]) -> Vec<Vec<Outcome>> {
    let work = hsms.iter().enumerate().flat_map(|(hsm, _)| (0..tests.len()).map(move |test| (hsm, test)));
    let work = Mutex::new(work.collect::<VecDeque<_>>());
    let outcomes = Mutex::new(vec![vec![Outcome::Failed("not run".to_string()); tests.len()]; hsms.len()]);
    let directory = env::temp_dir().join(format!("cascade-hsm-bridge-interop-{}", process::id()));
    fs::create_dir(&directory).expect("a directory for what the tests say");
    // Most tests wait for something most of the time.
    let workers = 2 * thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for worker in 0..workers {
            let (work, outcomes, said) = (&work, &outcomes, directory.join(worker.to_string()));
            scope.spawn(move || {
                loop {
                    let next = work.lock().expect("no worker panics").pop_front();
                    let Some((hsm, test)) = next else { return };
                    let outcome = one(hsms[hsm], &tests[test], &said);
                    outcomes.lock().expect("no worker panics")[hsm][test] = outcome;
                }
            });
        }
    });
    let _ = fs::remove_dir_all(&directory);
    outcomes.into_inner().expect("no worker panics")
}

/// Runs one test; what it says goes into the file `said`.
fn one(hsm: Hsm, test: &Test, said: &Path) -> Outcome {
    let file = File::create(said).expect("a file for what the test says");
    let mut command = Command::new(&test.path);
    command.args(["--exact", &test.name, "--nocapture", "--test-threads=1"]).current_dir(&test.directory);
    command.env("HSM", hsm.name()).env("CARGO", env!("CARGO")).env("RUST_BACKTRACE", "0");
    command.stdin(Stdio::null()).stdout(file.try_clone().expect("a second handle")).stderr(file);
    // A process group of its own, so that what a hanging test has started ends with it.
    let mut child = command.process_group(0).spawn().expect("the test program runs");
    let since = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("the test can be waited for") {
            break Some(status);
        }
        if since.elapsed() > PATIENCE {
            let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).status();
            let _ = child.wait();
            break None;
        }
        thread::sleep(Duration::from_millis(10));
    };
    let text = fs::read(said).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    match status {
        Some(status) if status.success() => passed(&text),
        _ => {
            let how = status.map_or_else(|| format!("not over after {PATIENCE:?}"), |status| status.to_string());
            let lines: Vec<&str> = text.lines().collect();
            let last = lines[lines.len().saturating_sub(SHOWN)..].join("\n");
            let failure = format!("--- {test} on {hsm}: {how}\n{last}\n---");
            println!("{failure}");
            Outcome::Failed(failure)
        }
    }
}

/// What became of a test that ended well, by what it said: tests/support/hsm.rs has the words. libtest writes the name of the test in
/// front, on the same line.
fn passed(said: &str) -> Outcome {
    let after = |words: &str| said.lines().filter_map(|line| Some(line.split_once(words)?.1.to_string())).collect();
    let mut whole: Vec<String> = after("skipped: ");
    let mut parts: Vec<String> = after("skipped in part: ");
    parts.sort();
    parts.dedup();
    match whole.pop() {
        Some(why) => Outcome::Skipped(why),
        None if parts.is_empty() => Outcome::Passed,
        None => Outcome::PassedInPart(parts),
    }
}
