//! A KMIP server that executes its requests on a PKCS#11 module.
//!
//! The modules form layers, from the top: `cli`, `daemon`, `check`, `keys`, `console`, `config`, `server`, `bridge`, then `kmip` (over
//! `ttlv`) and `pkcs11` side by side, then what stands alone: `logging`, `notify`, `json`, `der`, `sys`. A file uses only what is below it;
//! `tests/layering.rs` holds that.

pub mod bridge;
pub mod check;
pub mod cli;
pub mod config;
pub mod console;
pub mod daemon;
mod der;
pub mod json;
pub mod keys;
pub mod kmip;
pub mod logging;
pub mod notify;
pub mod pkcs11;
pub mod server;
pub mod sys;
pub mod ttlv;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use cli::{Action, Options};
use log::LevelFilter;

/// Runs the program: `args` is the command line without the program's name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    if let Some((_, rest)) = args.split_first().filter(|(first, _)| *first == pkcs11::PROVE_PIN) {
        prove_pin(rest);
    }
    match cli::parse(args) {
        Ok(Action::Check(options, questions, trials)) => {
            // What is odd is a line of the answer.
            logging::start_plain(options.overrides.log_level.unwrap_or(LevelFilter::Error));
            check::prove(&options.config, &options.overrides, &questions, &trials)
        }
        Ok(Action::CheckConfig(options)) => check(&options),
        Ok(Action::Help) => print(&cli::help()),
        Ok(Action::Keys(options, questions, wishes)) => {
            logging::start_plain(options.overrides.log_level.unwrap_or(LevelFilter::Warn));
            keys::run(&options.config, &options.overrides, &questions, &wishes)
        }
        Ok(Action::Run(options)) => daemon::run(&options.config, &options.overrides),
        Ok(Action::Version) => print(&cli::version()),
        Err(error) => complain(&error.to_string(), ExitCode::from(USAGE)),
    }
}

/// What the bridge starts itself as, to have a PIN proved by another process.
fn prove_pin(args: &[OsString]) -> ! {
    // It holds a PIN too.
    let code = sys::forbid_core_dumps().map_or(1, |()| pkcs11::prove_pin(args));
    // A module's exit handlers must not have the last word.
    sys::leave(code.into())
}

/// The exit code for a command line that cannot be followed.
const USAGE: u8 = 2;

fn check(options: &Options) -> ExitCode {
    logging::start_plain(options.overrides.log_level.unwrap_or(LevelFilter::Warn));
    match check::run(&options.config, &options.overrides) {
        Ok(()) => print("configuration OK\n"),
        Err(problems) => complain(&problems.join("\n"), ExitCode::FAILURE),
    }
}

/// Prints to standard output. A reader that has gone away, as in a pipe to `head`, is no failure.
fn print(text: &str) -> ExitCode {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(why) if why.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("cannot write to standard output: {why}"), ExitCode::FAILURE)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Prints to standard error, where there is nobody left to tell if that fails.
fn complain(text: &str, code: ExitCode) -> ExitCode {
    let _ = writeln!(io::stderr().lock(), "{text}");
    code
}
