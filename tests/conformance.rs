//! The OASIS test cases for KMIP 1.2, replayed by a runner that is not part of this project, where it is at hand: in the directory
//! that `SHARED` names, else in `../shared`. `tests/conformance.list` holds the cases that pass; none may stop to.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Bridge, Token};

#[test]
fn the_cases_that_passed_still_pass() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = root.join(env::var_os("SHARED").map_or_else(|| PathBuf::from("../shared"), PathBuf::from));
    let runner = shared.join("tools/oasis-run");
    if !runner.exists() {
        eprintln!("{} is not there: no OASIS case was replayed", runner.display());
        return;
    }
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut command = Command::new(runner);
    command.args(["--host", &bridge.address.ip().to_string(), "--port", &bridge.address.port().to_string()]);
    command.arg("--ca").arg(bridge.certificate());
    command.args(["--username", &token.label, "--password", &token.pin]);
    // `CONFORMANCE=all` shows what passes of all cases, to bring the list up to date.
    let all = env::var_os("CONFORMANCE").is_some_and(|choice| choice == "all");
    if !all {
        command.arg("--list").arg(root.join("tests/conformance.list"));
    }
    let output = command.arg(shared.join("oasis/v1.2")).output().expect("the runner runs (it needs python3)");
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}{}", String::from_utf8_lossy(&output.stderr));
    if all {
        return;
    }
    assert!(output.status.success(), "{}\n{text}", output.status);
    let listed = std::fs::read_to_string(root.join("tests/conformance.list")).expect("the list");
    let listed = listed.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).count();
    assert!(text.contains(&format!("\n{listed} passed, 0 failed, 0 skipped\n")), "not all of {listed}:\n{text}");
}
