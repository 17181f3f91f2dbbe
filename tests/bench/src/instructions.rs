//! Instructions of the bridge's own code for a request, counted by callgrind, which counts the same each time.
//!
//! Own is what is in the program's file, but for ring, whose code depends on the processor. The module, the C library and the kernel
//! are not counted: theirs is the same whatever the bridge does.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use crate::in_process::{InProcess, watched};
use crate::requests::Ask;
use crate::support::fake_module;
use crate::support::scratch::Scratch;

/// Requests that are counted together.
const REQUESTS: u64 = 100;

/// How much a request may grow before the record has to be changed.
const TOLERANCE: f64 = 0.05;

/// The number of instructions for each request, and for which compiler it holds.
#[derive(Debug, PartialEq, Eq)]
struct Record {
    built_by: String,
    counts: BTreeMap<String, u64>,
}

/// Counts, and compares with the record or replaces it. Says what is wrong with what was found.
pub fn run(records: bool) -> Result<(), String> {
    let module = fake_module();
    let mut now = Record { built_by: built_by()?, counts: BTreeMap::new() };
    for (number, ask) in watched().iter().enumerate() {
        now.counts.insert(ask.name.clone(), count(&module, number, ask)?);
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions");
    let before = fs::read_to_string(&file).ok().and_then(|text| Record::read(&text));
    println!("{:32} {:>12} {:>12}", "instructions of own code", "now", "recorded");
    for (name, count) in &now.counts {
        let recorded = before.as_ref().and_then(|before| before.counts.get(name));
        println!("{name:32} {count:>12} {:>12}", recorded.map_or("-".to_owned(), u64::to_string));
    }
    if records {
        return fs::write(&file, now.write()).map_err(|error| format!("{}: {error}", file.display()));
    }
    match before {
        None => Err(format!("{} does not say what to compare with\n{HINT}", file.display())),
        Some(before) if before.built_by != now.built_by => {
            println!("not compared: recorded with {}, now built by {}", before.built_by, now.built_by);
            Ok(())
        }
        Some(before) => compare(&before, &now),
    }
}

const HINT: &str = "hint: make bench-callgrind RECORD=1 writes what is now, to be committed with the reason";

fn compare(before: &Record, now: &Record) -> Result<(), String> {
    let mut grown = String::new();
    for (name, count) in &now.counts {
        match before.counts.get(name) {
            Some(recorded) if *count as f64 <= *recorded as f64 * (1.0 + TOLERANCE) => {}
            Some(recorded) => {
                let percent = (*count as f64 / *recorded as f64 - 1.0) * 100.0;
                let _ = writeln!(grown, "{name} takes {percent:.1} % more instructions than recorded");
            }
            None => {
                let _ = writeln!(grown, "{name} is not recorded");
            }
        }
    }
    if grown.is_empty() { Ok(()) } else { Err(grown + HINT) }
}

impl Record {
    fn write(&self) -> String {
        let mut text = format!(
            "# Instructions for one request: `make bench-callgrind RECORD=1` writes this.\n{}\n",
            self.built_by
        );
        for (name, count) in &self.counts {
            let _ = writeln!(text, "{name} = {count}");
        }
        text
    }

    fn read(text: &str) -> Option<Record> {
        let mut lines = text.lines().filter(|line| !line.starts_with('#'));
        let built_by = lines.next()?.to_owned();
        let counts = lines.map(|line| {
            let (name, count) = line.split_once(" = ")?;
            Some((name.to_owned(), count.parse().ok()?))
        });
        Some(Record { built_by, counts: counts.collect::<Option<_>>()? })
    }
}

/// The compiler's version, which is in what it has built, and the processor's kind.
fn built_by() -> Result<String, String> {
    let program = env::current_exe().and_then(fs::read).map_err(|error| format!("this program: {error}"))?;
    let version = version_in(&program).ok_or("this program does not say what compiler built it")?;
    Ok(format!("rustc {version} for {}", env::consts::ARCH))
}

/// What follows the words "rustc version" where it begins with a digit: the words alone are in the program too, as they stand here.
fn version_in(program: &[u8]) -> Option<String> {
    const MARK: &[u8] = b"rustc version ";
    program.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK).find_map(|(at, _)| {
        let version = program[at + MARK.len()..].split(|byte| !byte.is_ascii_graphic()).next()?;
        version.first()?.is_ascii_digit().then(|| String::from_utf8_lossy(version).into_owned())
    })
}

/// The instructions for one request.
fn count(module: &Path, number: usize, ask: &Ask) -> Result<u64, String> {
    let program = env::current_exe().expect("this program");
    let directory = Scratch::new("callgrind");
    let profile: PathBuf = directory.path().join("profile");
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--toggle-collect=bench::instructions::counted*"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(&program)
        .arg("instructions-of")
        .args([module.as_os_str(), number.to_string().as_ref()])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(format!("{}: valgrind: {status}", ask.name)),
        Err(error) => return Err(format!("valgrind: {error}\nhint: make deps installs it")),
    }
    let text = fs::read_to_string(&profile).map_err(|error| format!("{}: {error}", profile.display()))?;
    let own = own_cost(&text, &program);
    if own == 0 { Err(format!("{}: nothing was counted", ask.name)) } else { Ok(own / REQUESTS) }
}

/// What runs under callgrind.
pub fn run_under_callgrind(module: &Path, number: usize) {
    let ask = &watched()[number];
    let mut bridge = InProcess::start(module);
    bridge.warm_up(ask);
    counted(&mut bridge, &ask.message);
}

#[inline(never)]
fn counted(bridge: &mut InProcess, request: &[u8]) {
    for _ in 0..REQUESTS {
        bridge.answer(request);
    }
}

/// The cost in a profile of what is in `program`, without ring.
///
/// "ob=" and "fn=" say where the lines after them belong; names are given once and numbered. The line after "calls=" is what was
/// called, whose cost stands with it already. (Callgrind Format Specification)
fn own_cost(profile: &str, program: &Path) -> u64 {
    let mut names = BTreeMap::new();
    let mut name = |kind, text: &str| -> String {
        let (number, new) = text.split_once(')').unwrap_or((text, ""));
        let new = new.trim();
        if !new.is_empty() {
            names.insert((kind, number.to_owned()), new.to_owned());
        }
        names.get(&(kind, number.to_owned())).cloned().unwrap_or_default()
    };
    let (mut object, mut function, mut cost, mut called) = (String::new(), String::new(), 0, false);
    for line in profile.lines() {
        match line.split_once('=') {
            Some(("ob", text)) => object = name("object", text),
            Some(("cob", text)) => drop(name("object", text)),
            Some(("fn", text)) => function = name("function", text),
            Some(("cfn", text)) => drop(name("function", text)),
            Some(("calls", _)) => called = true,
            None if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) => {
                let is_own = Path::new(&object) == program && !function.starts_with("ring");
                if is_own && !std::mem::take(&mut called) {
                    cost += line.split(' ').nth(1).and_then(|cost| cost.parse::<u64>().ok()).unwrap_or(0);
                }
                called = false;
            }
            _ => {}
        }
    }
    cost
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = "\
version: 1
events: Ir

ob=(1) /bench
fl=(1) a.rs
fn=(1) bridge::answer
10 100
cob=(2) /libc.so
cfn=(2) memcpy
calls=3 0
11 900
+1 20

ob=(2)
fn=(2)
5 900

ob=(1)
fn=(3) ring_core_sha256
1 5000

fn=(1)
12 3
";

    #[test]
    fn own_cost_is_that_of_the_program_without_ring() {
        assert_eq!(own_cost(PROFILE, Path::new("/bench")), 123);
    }

    #[test]
    fn the_version_is_found_behind_the_words_for_it() {
        let program = b"\0rustc version this program\0rustc version \0rustc version 1.85.0 (4d91de4e4 2025-02-17)\0rustc version 1.0.0";
        assert_eq!(version_in(program).as_deref(), Some("1.85.0"));
        assert_eq!(version_in(b"rustc version "), None);
        assert!(built_by().unwrap().starts_with("rustc 1."));
    }

    /// Each crate's name with its version.
    fn crates(lock: &str) -> BTreeMap<&str, &str> {
        lock.split("[[package]]\n")
            .skip(1)
            .filter_map(|package| {
                let mut lines = package.lines();
                Some((lines.next()?.strip_prefix("name = ")?, lines.next()?.strip_prefix("version = ")?))
            })
            .collect()
    }

    #[test]
    fn counts_what_the_program_is_built_of() {
        let (ours, theirs) = (crates(include_str!("../Cargo.lock")), crates(include_str!("../../../Cargo.lock")));
        for (name, version) in &ours {
            assert!(theirs.get(name).is_none_or(|theirs| theirs == version), "{name} {version}: cargo update it");
        }
        assert!(ours.len() > 40);
    }

    #[test]
    fn a_request_may_grow_by_five_percent() {
        let record = |count| Record { built_by: "rustc 1".to_owned(), counts: [("Sign".to_owned(), count)].into() };
        assert_eq!(compare(&record(1000), &record(1050)), Ok(()));
        assert!(compare(&record(1000), &record(1051)).unwrap_err().starts_with("Sign takes 5.1 % more"));
    }

    #[test]
    fn reads_the_record_that_it_writes() {
        let counts = [("Sign P-256, batch of 16".to_owned(), 5), ("Get".to_owned(), 7)].into();
        let record = Record { built_by: "rustc 1.85.0 for x86_64".to_owned(), counts };
        assert_eq!(Record::read(&record.write()), Some(record));
    }
}
