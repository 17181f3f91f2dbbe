//! The module that misbehaves on command, loaded by the bridge instead of SoftHSM's own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs};

use super::bridge::Options;
use super::scratch::Scratch;
use super::token::Token;

pub struct Faulty {
    directory: Scratch,
    /// The files that lie below what [`Faulty::play`] says.
    below: Vec<PathBuf>,
}

impl Faulty {
    pub fn new() -> Faulty {
        Faulty { directory: Scratch::new("faulty"), below: Vec::new() }
    }

    /// One that behaves as a profile says, and as the test adds.
    pub fn with(profile: &Path, more: &str) -> Faulty {
        let faulty = Faulty::new();
        let below = vec![profile.to_path_buf(), faulty.directory.file("more", more)];
        Faulty { below, ..faulty }
    }

    pub fn options(&self) -> Options {
        let file = |name: &str| self.directory.path().join(name);
        let control = env::join_paths(self.below.iter().chain([&file("control")])).expect("paths without colons");
        Options {
            module: Some(module()),
            environment: vec![
                ("FAULTY_MODULE", Token::module()),
                ("FAULTY_CONTROL", control.into()),
                ("FAULTY_COUNTS", file("counts.%p")),
            ],
            ..Options::default()
        }
    }

    /// Where the profiles are.
    pub fn profiles() -> PathBuf {
        package().join("profiles")
    }

    /// Has it misbehave as `control` says from now on.
    pub fn play(&self, control: &str) {
        let new = self.directory.file("new", control);
        fs::rename(new, self.directory.path().join("control")).expect("a control file");
    }

    /// Has something happen once, behind the back of its callers.
    pub fn happen(&self, event: &str) {
        static NUMBER: AtomicUsize = AtomicUsize::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        self.play(&format!("[events]\nnumber = {number}\ndo = \"{event}\"\n"));
    }

    /// The processes that have loaded it.
    pub fn processes(&self) -> Vec<u32> {
        let files =
            fs::read_dir(self.directory.path()).expect("the directory").map(|entry| entry.expect("a file").path());
        let counts = files.filter(|path| path.file_stem().is_some_and(|stem| stem == "counts"));
        counts.filter_map(|path| path.extension()?.to_str()?.parse().ok()).collect()
    }

    /// What it has counted of `what` in all processes: calls of a function, or `calls-hanging`, `sessions` and the like.
    pub fn count(&self, what: &str) -> u64 {
        self.sum(|counted| counted == what)
    }

    /// The calls of all functions.
    pub fn calls(&self) -> u64 {
        self.sum(|counted| counted.starts_with("C_"))
    }

    fn sum(&self, is_asked_for: impl Fn(&str) -> bool) -> u64 {
        let files =
            fs::read_dir(self.directory.path()).expect("the directory").map(|entry| entry.expect("a file").path());
        let counts = files.filter(|path| path.file_stem().is_some_and(|stem| stem == "counts"));
        let texts = counts.map(|path| fs::read_to_string(path).expect("the counts"));
        let sum = |text: String| -> u64 {
            let counted = text.lines().filter_map(|line| line.split_once('='));
            let asked_for = counted.filter(|(name, _)| is_asked_for(name.trim()));
            asked_for.map(|(_, value)| value.trim().parse::<u64>().expect("a number")).sum()
        };
        texts.map(sum).sum()
    }
}

/// The library, built where it is not.
pub fn module() -> PathBuf {
    static BUILT: Once = Once::new();
    let package = package();
    BUILT.call_once(|| {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let build = Command::new(cargo)
            .args(["build", "--locked", "--quiet"])
            .current_dir(&package)
            .env_remove("CARGO_TARGET_DIR")
            .status();
        assert!(build.expect("cargo runs").success(), "the faulty module is not built");
    });
    package.join("target/debug/libfaulty_module.so")
}

fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faulty-module")
}
