//! Command line in, exit code out.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    cascade_hsm_bridge::run(std::env::args_os().skip(1))
}
