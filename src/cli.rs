//! The command line: arguments in, what to do out.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Write};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use lexopt::Arg;

use crate::config::{self, Overrides, nearest};
use crate::logging;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Judge the configuration and what it names.
    CheckConfig(Options),
    /// Say how the program is used.
    Help,
    /// Serve.
    Run(Options),
    /// Say which version this is.
    Version,
}

/// What the command line says to the actions that read the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// What holds instead of what the file says.
    pub overrides: Overrides,
}

/// An option of the command line.
#[derive(Debug)]
pub struct Opt {
    /// The letter after one hyphen, where it has one.
    pub short: Option<char>,
    /// The word after two hyphens.
    pub long: &'static str,
    /// What its value is called, where it takes one.
    pub value: Option<&'static str>,
    /// What it is for.
    pub help: &'static str,
    asks: Asks,
}

#[derive(Clone, Copy, Debug)]
enum Asks {
    CheckConfig,
    Config,
    Daemonize,
    Group,
    Help,
    LogLevel,
    LogTarget,
    StateDir,
    User,
    Version,
}

/// Every option, in the order of the help. Parsing, help and the tests of the manual read this table.
pub const OPTIONS: &[Opt] = &[
    opt(Some('c'), "config", Some("PATH"), "read this file (/etc/cascade-hsm-bridge/config.toml)", Asks::Config),
    opt(None, "check-config", None, "judge the configuration and what it names, then exit", Asks::CheckConfig),
    opt(None, "log-level", Some("LEVEL"), "trace, debug, info, warning or error", Asks::LogLevel),
    opt(Some('l'), "log", Some("TARGET"), "log to stderr, syslog or file:PATH", Asks::LogTarget),
    opt(Some('d'), "daemonize", None, "go on in the background", Asks::Daemonize),
    opt(None, "user", Some("USER"), "become USER, by name or number", Asks::User),
    opt(None, "group", Some("GROUP"), "become GROUP, by name or number", Asks::Group),
    opt(None, "state-dir", Some("PATH"), "directory for what the program keeps", Asks::StateDir),
    opt(Some('h'), "help", None, "print this and exit", Asks::Help),
    opt(Some('V'), "version", None, "print the version and exit", Asks::Version),
];

/// Reads `args`, the command line without the program's name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Action, UsageError> {
    let mut parser = lexopt::Parser::from_args(args);
    let mut options = Options { config: config::DEFAULT_PATH.into(), overrides: Overrides::default() };
    let overrides = &mut options.overrides;
    let mut check = false;
    while let Some(arg) = parser.next()? {
        let opt = find(&arg)?;
        // What an option that takes no value was given is an error of the parser's next step.
        let value = if opt.value.is_some() { parser.value()? } else { OsString::new() };
        match opt.asks {
            Asks::CheckConfig => check = true,
            Asks::Config => options.config = value.into(),
            Asks::Daemonize => overrides.daemonize = true,
            Asks::Group => overrides.group = Some(text(opt, value)?),
            Asks::Help => return Ok(Action::Help),
            Asks::LogLevel => overrides.log_level = Some(level(&value)?),
            Asks::LogTarget => overrides.log_target = Some(target(&value)?),
            Asks::StateDir => overrides.state_dir = Some(absolute(opt, Path::new(&value))?),
            Asks::User => overrides.user = Some(text(opt, value)?),
            Asks::Version => return Ok(Action::Version),
        }
    }
    Ok(if check { Action::CheckConfig(options) } else { Action::Run(options) })
}

/// How the program is used.
pub fn help() -> String {
    let mut help = format!("usage: {NAME} [option ...]\n\n{}.\n\n", env!("CARGO_PKG_DESCRIPTION"));
    for opt in OPTIONS {
        let short = opt.short.map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
        let long = format!("--{} {}", opt.long, opt.value.unwrap_or_default());
        let _ = writeln!(help, "  {short}{long:<19} {}", opt.help);
    }
    help.push_str("\nWhat an option says holds instead of what the file says.\n");
    let _ = writeln!(help, "See {NAME}(1) and {NAME}-config.toml(5).");
    help
}

/// Which version this is.
pub fn version() -> String {
    format!("{NAME} {}\n", env!("CARGO_PKG_VERSION"))
}

/// Why a command line cannot be followed.
#[derive(Debug, PartialEq, Eq)]
pub struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{NAME}: {}\nhint: {NAME} --help lists what there is", self.0)
    }
}

impl std::error::Error for UsageError {}

impl From<lexopt::Error> for UsageError {
    fn from(error: lexopt::Error) -> Self {
        UsageError(match error {
            lexopt::Error::MissingValue { option: Some(option) } => format!("{option} needs a value"),
            lexopt::Error::UnexpectedValue { option, .. } => format!("{option} takes no value"),
            other => other.to_string(),
        })
    }
}

fn find(arg: &Arg<'_>) -> Result<&'static Opt, UsageError> {
    let found = match arg {
        Arg::Short(short) => OPTIONS.iter().find(|opt| opt.short == Some(*short)),
        Arg::Long(long) => OPTIONS.iter().find(|opt| opt.long == *long),
        Arg::Value(_) => None,
    };
    found.ok_or_else(|| {
        UsageError(match arg {
            Arg::Short(short) => format!("unknown option -{}", short.escape_debug()),
            Arg::Long(long) => match nearest(long, OPTIONS.iter().map(|opt| opt.long)) {
                Some(known) => format!("unknown option --{}, the nearest is --{known}", long.escape_debug()),
                None => format!("unknown option --{}", long.escape_debug()),
            },
            Arg::Value(value) => format!("unexpected argument {value:?}"),
        })
    })
}

fn text(opt: &Opt, value: OsString) -> Result<String, UsageError> {
    value.into_string().map_err(|value| UsageError(format!("--{}: {value:?} is not UTF-8", opt.long)))
}

fn level(value: &OsStr) -> Result<log::LevelFilter, UsageError> {
    let known = config::LEVELS.iter().find(|(word, _)| *word == value);
    known
        .map(|(_, level)| *level)
        .ok_or_else(|| UsageError(format!("--log-level: {value:?} is none of trace, debug, info, warning, error")))
}

fn target(value: &OsStr) -> Result<logging::Target, UsageError> {
    match value.as_bytes() {
        b"stderr" => Ok(logging::Target::Stderr),
        b"syslog" => Ok(logging::Target::Syslog),
        [b'f', b'i', b'l', b'e', b':', path @ ..] if !path.is_empty() => {
            let path = std::path::absolute(OsStr::from_bytes(path));
            Ok(logging::Target::File(path.map_err(|why| UsageError(format!("--log: {why}")))?))
        }
        _ => Err(UsageError(format!("--log: {value:?} is none of stderr, syslog, file:PATH"))),
    }
}

/// The path from the root: the program may change its directory.
fn absolute(opt: &Opt, path: &Path) -> Result<PathBuf, UsageError> {
    std::path::absolute(path).map_err(|why: io::Error| UsageError(format!("--{}: {why}", opt.long)))
}

const fn opt(
    short: Option<char>,
    long: &'static str,
    value: Option<&'static str>,
    help: &'static str,
    asks: Asks,
) -> Opt {
    Opt { short, long, value, help, asks }
}

const NAME: &str = env!("CARGO_PKG_NAME");

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use log::LevelFilter;

    use super::*;

    fn parsed(line: &str) -> Result<Action, String> {
        parse(line.split_whitespace().map(OsString::from)).map_err(|error| error.to_string())
    }

    fn run(line: &str) -> Options {
        match parsed(line) {
            Ok(Action::Run(options)) => options,
            other => panic!("{other:?}"),
        }
    }

    fn refused(line: &str) -> String {
        parsed(line).unwrap_err().lines().next().unwrap().to_owned()
    }

    #[test]
    fn runs_with_the_default_file_when_nothing_is_said() {
        let options = run("");
        assert_eq!(options.config, Path::new("/etc/cascade-hsm-bridge/config.toml"));
        assert_eq!(options.overrides, Overrides::default());
    }

    #[test]
    fn takes_every_option_of_the_incumbent() {
        let options = run("-c x.toml --log-level debug -l syslog -d --user u --group g");
        assert_eq!(options.config, Path::new("x.toml"));
        let expected = Overrides {
            daemonize: true,
            group: Some("g".to_owned()),
            log_level: Some(LevelFilter::Debug),
            log_target: Some(logging::Target::Syslog),
            state_dir: None,
            user: Some("u".to_owned()),
        };
        assert_eq!(options.overrides, expected);
        let long = run("--config=x.toml --log-level=debug --log=syslog --daemonize --user=u --group=g");
        assert_eq!(long, options);
        assert!(
            matches!(parsed("--check-config -c x"), Ok(Action::CheckConfig(options)) if options.config == Path::new("x"))
        );
    }

    #[test]
    fn knows_the_log_targets() {
        let target = |line: &str| run(line).overrides.log_target.unwrap();
        assert_eq!(target("-l stderr"), logging::Target::Stderr);
        assert_eq!(target("-lfile:/x/y"), logging::Target::File("/x/y".into()));
        let here = std::env::current_dir().unwrap();
        assert_eq!(target("--log file:y"), logging::Target::File(here.join("y")));
        for bad in ["journal", "file:", "file", ""] {
            assert!(refused(&format!("--log={bad}")).ends_with("is none of stderr, syslog, file:PATH"));
        }
    }

    #[test]
    fn answers_help_and_version_whatever_else_is_said() {
        assert_eq!(parsed("-d -h --nonsense"), Ok(Action::Help));
        assert_eq!(parsed("--version"), Ok(Action::Version));
        assert_eq!(parsed("-dV"), Ok(Action::Version));
    }

    #[test]
    fn names_the_nearest_option_for_an_unknown_one() {
        assert_eq!(refused("--confg x"), "cascade-hsm-bridge: unknown option --confg, the nearest is --config");
        assert_eq!(
            refused("--deamonize"),
            "cascade-hsm-bridge: unknown option --deamonize, the nearest is --daemonize"
        );
        assert_eq!(refused("--xyzzy"), "cascade-hsm-bridge: unknown option --xyzzy");
        assert_eq!(refused("-x"), "cascade-hsm-bridge: unknown option -x");
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        assert_eq!(refused("serve"), "cascade-hsm-bridge: unexpected argument \"serve\"");
        assert_eq!(refused("-c"), "cascade-hsm-bridge: -c needs a value");
        assert_eq!(refused("--daemonize=yes"), "cascade-hsm-bridge: --daemonize takes no value");
        assert!(refused("--log-level loud").contains("\"loud\" is none of"));
        let bytes = [OsString::from("--user"), OsString::from_vec(vec![0xff])];
        assert!(parse(bytes).unwrap_err().to_string().contains("--user: \"\\xFF\" is not UTF-8"));
    }

    #[test]
    fn says_in_the_help_what_each_option_is() {
        let help = help();
        for opt in OPTIONS {
            assert!(help.contains(&format!("--{} {}", opt.long, opt.value.unwrap_or_default())), "{}", opt.long);
            assert!(help.contains(opt.help));
        }
        assert!(help.contains(config::DEFAULT_PATH));
        assert!(help.lines().all(|line| line.len() <= 80), "{help}");
    }
}
