//! What a process uses, as /proc tells.

use std::fs;
use std::time::Duration;

fn read(pid: u32, file: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_else(|error| panic!("process {pid}: {file}: {error}"))
}

/// Resident memory in KiB.
pub fn resident(pid: u32) -> f64 {
    field(pid, "VmRSS:")
}

/// Threads.
pub fn threads(pid: u32) -> f64 {
    field(pid, "Threads:")
}

fn field(pid: u32, name: &str) -> f64 {
    let status = read(pid, "status");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the field");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// The processor time of all its threads, those that have ended too; in steps of 10 ms.
pub fn cpu(pid: u32) -> Duration {
    let stat = read(pid, "stat");
    // The name, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let ticks = fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("ticks"));
    // USER_HZ is 100 on every architecture that is of interest.
    Duration::from_millis(ticks.sum::<u64>() * 10)
}
