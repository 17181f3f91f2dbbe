//! Measures the bridge beside the limits that it cannot pass: the token alone, and TLS alone. See README.md.

#[cfg(test)]
mod allocations;
mod connections;
mod direct;
mod echo;
mod footprint;
mod growth;
mod hostile;
mod in_process;
mod instructions;
mod latency;
mod link;
mod process;
mod report;
mod requests;
mod rounds;
mod samples;
mod slow;
mod support;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs};

use report::Report;
use rounds::Pace;

const USAGE: &str = "usage: bench [--pace ROUNDS,MILLISECONDS] [--json FILE] [SECTION...]
       bench instructions [--record]
sections: requests, connections, slow, footprint (these are run without any), growth, hostile, brief";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        // What this program starts itself as.
        ["direct-worker", module, label, pin] => direct::work(Path::new(module), label, pin).expect("a pipe"),
        ["echo-server", certificate, key] => echo::serve(Path::new(certificate), Path::new(key)),
        ["bare-server", module, label, pin, certificate, key] => {
            echo::serve_token(Path::new(module), label, pin, Path::new(certificate), Path::new(key));
        }
        ["instructions-of", module, number] => {
            instructions::run_under_callgrind(Path::new(module), number.parse().expect("a number"));
        }
        ["instructions"] | ["instructions", "--record"] => {
            if let Err(why) = instructions::run(words.len() > 1) {
                return complain(&why);
            }
        }
        words => return measure(words),
    }
    ExitCode::SUCCESS
}

fn measure(words: &[&str]) -> ExitCode {
    let mut pace = Pace { rounds: 9, slice: Duration::from_millis(200) };
    let mut json = None;
    let mut sections = Vec::new();
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        match word {
            "--pace" => match words.next().and_then(read_pace) {
                Some(asked) => pace = asked,
                None => return complain(USAGE),
            },
            "--json" => json = words.next(),
            section if section.starts_with('-') => return complain(USAGE),
            section => sections.push(section),
        }
    }
    if sections.is_empty() {
        sections = vec!["footprint", "requests", "connections", "slow"];
    }
    let mut report = Report::default();
    for section in sections {
        match section {
            "requests" => latency::run(pace, &mut report),
            "brief" => latency::brief(pace, &mut report),
            "connections" => connections::run(pace, &mut report),
            "slow" => slow::run(pace, &mut report),
            "footprint" => footprint::run(&mut report),
            "growth" => growth::run(pace, &mut report),
            "hostile" => hostile::run(pace, &mut report),
            _ => return complain(USAGE),
        }
    }
    report.print_targets();
    if let Some(file) = json {
        if let Err(error) = fs::write(file, report.json()) {
            return complain(&format!("{file}: {error}"));
        }
    }
    ExitCode::SUCCESS
}

fn read_pace(text: &str) -> Option<Pace> {
    let (rounds, millis) = text.split_once(',')?;
    let (rounds, millis) = (rounds.parse().ok()?, millis.parse().ok()?);
    (rounds > 0).then_some(Pace { rounds, slice: Duration::from_millis(millis) })
}

fn complain(what: &str) -> ExitCode {
    eprintln!("{what}");
    ExitCode::FAILURE
}
