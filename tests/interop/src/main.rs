//! Runs the integration tests on each PKCS#11 module that can be brought up here, and prints what became of each test on each module.
//!
//! `interop [--only TEXT] [MODULE...]`: the modules, else all; with `--only`, the tests whose names hold TEXT. A test is run in a process of
//! its own, whose exit code tells how it went, with its module named by `HSM` (tests/support/hsm.rs).
#![forbid(unsafe_code)]

#[path = "../../support/hsm.rs"]
#[allow(dead_code)] // modules are only listed here; the tests bring them up
mod hsm;
mod programs;
mod run;
#[path = "../../support/services.rs"]
#[allow(dead_code)]
mod services;
mod table;

use std::process::ExitCode;
use std::{env, fmt};

use hsm::Hsm;
use programs::Test;
use run::Outcome;

fn main() -> ExitCode {
    let (hsms, only) = match arguments() {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!(
                "interop: {problem}\nhint: interop [--only TEXT] [MODULE...]; modules are {:?}",
                Hsm::ALL.map(Hsm::name)
            );
            return ExitCode::from(2);
        }
    };
    let (absent, hsms): (Vec<_>, Vec<_>) =
        hsms.into_iter().map(|hsm| (hsm, hsm.obstacle())).partition(|(_, obstacle)| obstacle.is_some());
    let hsms: Vec<Hsm> = hsms.into_iter().map(|(hsm, _)| hsm).collect();
    let mut tests = programs::tests();
    tests.retain(|test| test.to_string().contains(&only));
    let outcomes = run::all(&hsms, &tests);

    print!("{}", table::table(&hsms, &tests, &outcomes));
    for (hsm, obstacle) in &absent {
        println!("{hsm} was not brought up: {}", obstacle.as_deref().unwrap_or_default());
    }
    let count = |which: fn(&Outcome) -> bool| outcomes.iter().flatten().filter(|outcome| which(outcome)).count();
    let failed = count(|outcome| matches!(outcome, Outcome::Failed(_)));
    let skipped = count(|outcome| matches!(outcome, Outcome::Skipped(_)));
    let in_part = count(|outcome| matches!(outcome, Outcome::PassedInPart(_)));
    let passed = in_part + count(|outcome| *outcome == Outcome::Passed);
    // Again, below the table: what keeps only the end of the output keeps what failed.
    for outcome in outcomes.iter().flatten() {
        if let Outcome::Failed(failure) = outcome {
            println!("{failure}");
        }
    }
    println!("interop: {passed} passed, {in_part} of them in part, {failed} failed, {skipped} skipped");
    // Nothing run is nothing shown.
    if failed > 0 || outcomes.iter().all(Vec::is_empty) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The modules asked for, and what the names of tests have to hold.
fn arguments() -> Result<(Vec<Hsm>, String), String> {
    let (mut hsms, mut only) = (Vec::new(), String::new());
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--only" {
            only = arguments.next().ok_or("--only wants a text")?;
        } else {
            let found = Hsm::ALL.into_iter().find(|hsm| hsm.name() == argument);
            hsms.push(found.ok_or_else(|| format!("no module is called '{argument}'"))?);
        }
    }
    Ok((if hsms.is_empty() { Hsm::ALL.to_vec() } else { hsms }, only))
}

impl fmt::Display for Test {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}::{}", self.program, self.name)
    }
}
