//! The token, the bridge started on it and the KMIP messages, as the program's tests have them.
#![allow(dead_code)] // the shared files offer more than is used here

#[path = "../../support/bridge.rs"]
pub mod bridge;
#[path = "../../support/client.rs"]
pub mod client;
#[path = "../../support/hsm.rs"]
pub mod hsm;
#[path = "../../support/key.rs"]
pub mod key;
#[path = "../../support/message.rs"]
pub mod message;
#[path = "../../support/openssl.rs"]
pub mod openssl;
#[path = "../../support/scratch.rs"]
pub mod scratch;
#[path = "../../support/secrets.rs"]
pub mod secrets;
#[path = "../../support/services.rs"]
pub mod services;
#[path = "../../support/tags.rs"]
pub mod tags;
#[path = "../../support/token.rs"]
pub mod token;
#[path = "../../support/ttlv.rs"]
pub mod ttlv;
#[path = "../../support/wait.rs"]
pub mod wait;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

pub use bridge::{Bridge, Options};
pub use client::Client;
pub use key::KeySpec;
pub use message::{Item, Request};
pub use token::Token;
pub use wait::until;

/// A bridge that says as much as one in use, and no more.
pub fn start(token: &Token, options: Options) -> Bridge {
    Bridge::start_with(token, Options { log_level: Some("info"), ..options })
}

/// The program that is measured: what `CASCADE_HSM_BRIDGE` names, else this source tree's release build.
pub fn program() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/release/cascade-hsm-bridge");
    let program = env::var_os("CASCADE_HSM_BRIDGE").map_or(built, PathBuf::from);
    fs::canonicalize(&program).unwrap_or_else(|error| panic!("{}: {error}: see 'make bench'", program.display()))
}

/// The module that takes its time, passing every call on to SoftHSM.
pub fn faulty_module() -> PathBuf {
    built("../faulty-module", &[], "target/debug/libfaulty_module.so")
}

/// The module that answers from memory.
pub fn fake_module() -> PathBuf {
    built("../fuzz/fake-module", &["--release"], "target/release/libfake_module.so")
}

/// What another package builds, built where it is not.
fn built(package: &str, options: &[&str], file: &str) -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join(package);
    let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--locked", "--quiet"]).args(options).current_dir(&package);
    // What cargo tells this package must not reach the other: build scripts that see it change would run again.
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_") && name != "CARGO_HOME") {
            build.env_remove(name);
        }
    }
    assert!(build.status().expect("cargo runs").success(), "{} does not build", package.display());
    package.join(file)
}
