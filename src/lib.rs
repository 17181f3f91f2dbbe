//! A KMIP server that executes its requests on a PKCS#11 module.
//!
//! The modules form layers, from the top: `cli`, `daemon`, `check`, `config`, `server`, `bridge`, then `kmip` (over
//! `ttlv`) and `pkcs11` side by side, then what stands alone: `logging`, `notify`, `sys`. A file uses only what is below it;
//! `tests/layering.rs` holds that.

pub mod bridge;
pub mod check;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod kmip;
pub mod logging;
pub mod notify;
pub mod pkcs11;
pub mod server;
pub mod sys;
pub mod ttlv;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the program: `args` is the command line without the program's name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let _ = args.into_iter();
    ExitCode::SUCCESS
}
