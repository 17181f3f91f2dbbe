//! What `make` installs, and what it asks for first.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

#[path = "support/scratch.rs"]
mod scratch;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use scratch::Scratch;

/// Runs `make` in the project's directory, unless this machine has none.
fn make(args: &[&str]) -> Option<Output> {
    let mut command = Command::new("make");
    for name in ["MAKEFLAGS", "MAKELEVEL", "MFLAGS", "CARGO_TARGET_DIR"] {
        command.env_remove(name);
    }
    match command.args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output() {
        Ok(output) => Some(output),
        Err(why) if why.kind() == ErrorKind::NotFound => {
            println!("skipped: there is no make on this machine");
            None
        }
        Err(why) => panic!("{why}"),
    }
}

#[test]
fn installs_what_was_built_and_a_unit_that_starts_it_there_and_removes_all_but_the_configuration() {
    let scratch = Scratch::new("install");
    let (built, root) = (scratch.path().join("built"), scratch.path().join("root"));
    fs::create_dir_all(built.join("release")).unwrap();
    fs::write(built.join("release/cascade-hsm-bridge"), "the program").unwrap();
    let args = |target| {
        [
            format!("CARGO_TARGET_DIR={}", built.display()),
            format!("DESTDIR={}", root.display()),
            "PREFIX=/opt/bridge".to_owned(),
            String::from(target),
        ]
    };
    let run = |target| {
        let args = args(target);
        make(&args.each_ref().map(String::as_str))
    };
    let Some(output) = run("install") else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let there = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    assert_eq!(there("opt/bridge/bin/cascade-hsm-bridge"), "the program");
    let unit = "opt/bridge/lib/systemd/system/cascade-hsm-bridge.service";
    assert!(there(unit).contains("\nExecStart=/opt/bridge/bin/cascade-hsm-bridge --config /etc/"));
    assert_eq!(fs::metadata(root.join(unit)).unwrap().permissions().mode() & 0o777, 0o644);
    for page in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("man")).unwrap() {
        let name = page.unwrap().file_name().into_string().unwrap();
        let section = name.rsplit('.').next().unwrap();
        there(&format!("opt/bridge/share/man/man{section}/{name}"));
    }
    for file in ["LICENSE", "README.md", "CHANGELOG.md", "SECURITY.md"] {
        there(&format!("opt/bridge/share/doc/cascade-hsm-bridge/{file}"));
    }

    let output = run("uninstall").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let left = Command::new("find").arg(&root).args(["-type", "f"]).output().unwrap().stdout;
    assert_eq!(
        String::from_utf8(left).unwrap().trim(),
        root.join("etc/cascade-hsm-bridge/config.toml").to_str().unwrap()
    );
    assert!(!root.join("opt/bridge/share/doc/cascade-hsm-bridge").exists());
}

#[test]
fn refuses_a_cargo_that_is_too_old() {
    let scratch = Scratch::new("cargo");
    let cargo = |version: &str| {
        let path = scratch.file("cargo", format!("#!/bin/sh\necho 'cargo {version} (abc 2026-01-01)'\n"));
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        // No package is to be missing, or it would be installed.
        make(&["deps", "NEEDED=", &format!("CARGO={}", Path::new(&path).display())])
    };
    for (version, fits) in [("1.63.0", false), ("1.84.1", false), ("1.85.0", true), ("1.100.0", true)] {
        let Some(output) = cargo(version) else { return };
        assert_eq!(output.status.success(), fits, "{version}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(said.contains(&format!("is version {version}: install Rust 1.85 or later")), !fits, "{said}");
    }
}
