//! The table module by test, as text.

use std::fmt::Write;

use super::hsm::Hsm;
use super::programs::Test;
use super::run::Outcome;

/// A line for each test with a column for each module; why tests or parts of them were skipped is below, by number.
pub fn table(hsms: &[Hsm], tests: &[Test], outcomes: &[Vec<Outcome>]) -> String {
    let mut reasons: Vec<&str> = Vec::new();
    let mut text = String::new();
    let name = tests.iter().map(|test| test.to_string().len()).max().unwrap_or(0);
    let column = hsms.iter().map(|hsm| hsm.name().len()).max().unwrap_or(0).max("FAILED".len());
    let line = |text: &mut String, head: &str, cells: &[String]| {
        let _ = write!(text, "{head:name$}");
        for cell in cells {
            let _ = write!(text, "  {cell:column$}");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    };
    let names: Vec<String> = hsms.iter().map(Hsm::to_string).collect();
    line(&mut text, "", &names);
    for (number, test) in tests.iter().enumerate() {
        let cells: Vec<String> = outcomes.iter().map(|of| cell(&of[number], &mut reasons)).collect();
        line(&mut text, &test.to_string(), &cells);
    }
    for (head, which) in [
        ("passed", (|outcome| *outcome == Outcome::Passed) as fn(&Outcome) -> bool),
        ("passed in part", |outcome| matches!(outcome, Outcome::PassedInPart(_))),
        ("failed", |outcome| matches!(outcome, Outcome::Failed(_))),
        ("skipped", |outcome| matches!(outcome, Outcome::Skipped(_))),
    ] {
        let counts: Vec<_> = outcomes.iter().map(|of| of.iter().filter(|one| which(one)).count().to_string()).collect();
        line(&mut text, head, &counts);
    }
    for (number, reason) in reasons.iter().enumerate() {
        let _ = writeln!(text, "{}: {reason}", number + 1);
    }
    text
}

fn cell<'a>(outcome: &'a Outcome, reasons: &mut Vec<&'a str>) -> String {
    match outcome {
        Outcome::Passed => "ok".to_string(),
        Outcome::Failed(_) => "FAILED".to_string(),
        Outcome::PassedInPart(left_out) => {
            let numbers: Vec<String> = left_out.iter().map(|why| number(why, reasons).to_string()).collect();
            format!("part {}", numbers.join(","))
        }
        Outcome::Skipped(why) => format!("skip {}", number(why, reasons)),
    }
}

fn number<'a>(why: &'a str, reasons: &mut Vec<&'a str>) -> usize {
    let known = reasons.iter().position(|reason| *reason == why);
    known.unwrap_or_else(|| {
        reasons.push(why);
        reasons.len() - 1
    }) + 1
}
