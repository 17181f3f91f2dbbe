//! The bridge, started on a token for clients that others have published.
#![forbid(unsafe_code)]
#![allow(dead_code)] // the shared files offer more than is used here

#[path = "../support/bridge.rs"]
pub mod bridge;
#[path = "../support/hsm.rs"]
pub mod hsm;
#[path = "../support/openssl.rs"]
pub mod openssl;
#[path = "../support/scratch.rs"]
pub mod scratch;
#[path = "../support/secrets.rs"]
pub mod secrets;
#[path = "../support/services.rs"]
pub mod services;
#[path = "../support/token.rs"]
pub mod token;
#[path = "../support/wait.rs"]
pub mod wait;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

pub use wait::until;

/// The program under test: what `CASCADE_HSM_BRIDGE` names, else a debug build of this source tree.
pub fn program() -> PathBuf {
    if let Some(path) = env::var_os("CASCADE_HSM_BRIDGE") {
        return path.into();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--locked", "--quiet"]).current_dir(&root);
    // What cargo tells this package must not reach the other: build scripts that see it change would run again.
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_") && name != "CARGO_HOME") {
            build.env_remove(name);
        }
    }
    assert!(build.status().expect("cargo runs").success(), "the bridge does not build");
    root.join("target/debug/cascade-hsm-bridge")
}
