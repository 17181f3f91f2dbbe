//! Counts calls, and keeps the count file (`FAULTY_COUNTS`) true after each of them, so that not even a crash loses one.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, OnceLock};

use crate::abi::Function;
use crate::call::lock;

/// Each line is as long as the next, so that one can be written without the others.
const LINE: usize = 48;

/// What is counted beside the functions' calls; the lines before theirs.
#[derive(Clone, Copy)]
enum Gauge {
    Dump,
    Calls,
    PeakCalls,
    Hanging,
    Sessions,
    PeakSessions,
}

const GAUGES: [(Gauge, &str); 6] = [
    (Gauge::Dump, "dump"),
    (Gauge::Calls, "calls-under-way"),
    (Gauge::PeakCalls, "peak-calls-under-way"),
    (Gauge::Hanging, "calls-hanging"),
    (Gauge::Sessions, "sessions"),
    (Gauge::PeakSessions, "peak-sessions"),
];

struct Counts {
    file: Option<File>,
    values: Vec<Mutex<u64>>,
}

impl Counts {
    fn open() -> Counts {
        let path = std::env::var("FAULTY_COUNTS").ok().filter(|path| !path.is_empty());
        let path = path.map(|path| path.replace("%p", &std::process::id().to_string()));
        let counts = Counts {
            file: path.map(|path| create(Path::new(&path))),
            values: (0..GAUGES.len() + Function::ALL.len()).map(|_| Mutex::new(0)).collect(),
        };
        for at in 0..counts.values.len() {
            counts.write(at, 0);
        }
        counts
    }

    /// Changes one value, and its line before anyone else can.
    fn change(&self, at: usize, change: impl FnOnce(u64) -> u64) -> u64 {
        let mut value = lock(&self.values[at]);
        let new = change(*value);
        if new != *value {
            *value = new;
            self.write(at, new);
        }
        new
    }

    fn write(&self, at: usize, value: u64) {
        let Some(file) = &self.file else { return };
        let name = match at.checked_sub(GAUGES.len()) {
            Some(function) => Function::ALL[function].name(),
            None => GAUGES[at].1,
        };
        let line = format!("{name:<24} = {value:>20}\n");
        debug_assert_eq!(line.len(), LINE);
        // A test that finds its numbers missing says more than this module could.
        let _ = file.write_all_at(line.as_bytes(), (at * LINE) as u64);
    }

    fn gauge(&self, gauge: Gauge, change: impl FnOnce(u64) -> u64) -> u64 {
        self.change(gauge as usize, change)
    }
}

fn create(path: &Path) -> File {
    File::create(path).unwrap_or_else(|error| {
        eprintln!("faulty-module: {}: {error}", path.display());
        std::process::abort();
    })
}

fn counts() -> &'static Counts {
    static COUNTS: OnceLock<Counts> = OnceLock::new();
    COUNTS.get_or_init(Counts::open)
}

/// A call that is under way.
pub struct Inside;

/// Counts a call.
pub fn enter(function: Function) -> Inside {
    let counts = counts();
    counts.change(GAUGES.len() + function as usize, |calls| calls + 1);
    let now = counts.gauge(Gauge::Calls, |calls| calls + 1);
    counts.gauge(Gauge::PeakCalls, |peak| peak.max(now));
    Inside
}

impl Drop for Inside {
    fn drop(&mut self) {
        counts().gauge(Gauge::Calls, |calls| calls - 1);
    }
}

/// A call that hangs.
pub struct Hanging;

/// Counts a call that hangs until what is returned is dropped.
pub fn hang() -> Hanging {
    counts().gauge(Gauge::Hanging, |calls| calls + 1);
    Hanging
}

impl Drop for Hanging {
    fn drop(&mut self) {
        counts().gauge(Gauge::Hanging, |calls| calls - 1);
    }
}

/// Notes how many sessions are open.
pub fn sessions(open: usize) {
    counts().gauge(Gauge::Sessions, |_| open as u64);
    counts().gauge(Gauge::PeakSessions, |peak| peak.max(open as u64));
}

/// Notes that a control file with this number in it has been seen.
pub fn dump(number: u64) {
    counts().gauge(Gauge::Dump, |_| number);
}
