//! The test programs that work on a token, built, and the tests in them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The program's own tests, and those of a published client, which stand on the same support.
const PACKAGES: [&str; 2] = ["../..", "../published-client"];

pub struct Test {
    pub program: String,
    pub name: String,
    pub path: PathBuf,
    /// The directory of its package, in which cargo would run it.
    pub directory: PathBuf,
}

/// Every test that works on a token.
pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for package in PACKAGES {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(package).canonicalize().expect("the package");
        for (program, path) in build(&directory) {
            let output = Command::new(&path).args(["--list", "--format", "terse"]).current_dir(&directory).output();
            let listing = String::from_utf8(output.expect("the test program runs").stdout).expect("UTF-8");
            let names = listing.lines().filter_map(|line| line.strip_suffix(": test"));
            let test = |name: &str| Test {
                program: program.clone(),
                name: name.to_string(),
                path: path.clone(),
                directory: directory.clone(),
            };
            tests.extend(names.map(test));
        }
    }
    tests.sort_by_key(|test| test.to_string());
    tests
}

/// Has cargo build the tests of a package: (name, executable).
fn build(directory: &Path) -> Vec<(String, PathBuf)> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--no-run", "--locked", "--message-format=json"]).current_dir(directory);
    // What cargo tells this package is not meant for another: build scripts that see it change would run again.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_") && name != "CARGO_HOME") {
            cargo.env_remove(name);
        }
    }
    let output = cargo.stderr(Stdio::inherit()).output().expect("cargo runs");
    assert!(output.status.success(), "the tests in {} do not build", directory.display());
    let messages = String::from_utf8(output.stdout).expect("UTF-8");
    let artifacts = messages.lines().filter(|line| line.contains(r#""reason":"compiler-artifact""#));
    let tests = artifacts.filter(|line| line.contains(r#""kind":["test"]"#));
    let built =
        tests.filter_map(|line| Some((text(line, "name")?, text(line, "src_path")?, text(line, "executable")?)));
    built
        .filter(|(_, source, _)| works_on_a_token(Path::new(source)))
        .map(|(name, _, path)| (name, path.into()))
        .collect()
}

/// The value of the first such field of a JSON text, if it is a string; paths with characters that JSON escapes are not for us.
fn text(json: &str, field: &str) -> Option<String> {
    let (_, rest) = json.split_once(&format!("\"{field}\":\""))?;
    Some(rest.split_once('"')?.0.to_string())
}

/// Whether a test program stands on tests/support, where the tokens come from, and plays no modules of its own.
fn works_on_a_token(source: &Path) -> bool {
    let text = fs::read_to_string(source).expect("the source of a test");
    (text.contains("mod support;") || text.contains("published_client::token")) && !text.contains("Profile::all()")
}
