//! The command line: arguments in, what to do out.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Write};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use lexopt::Arg;

use crate::bridge::inventory::Named;
use crate::check::Trials;
use crate::config::{self, Overrides, nearest};
use crate::console::Questions;
use crate::keys::Wishes;
use crate::logging;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Prove the set-up: configuration, module, tokens, certificate and port.
    Check(Options, Questions, Trials),
    /// Judge the configuration and what it names.
    CheckConfig(Options),
    /// Say how the program is used.
    Help,
    /// Show what is on a token, or destroy some of it.
    Keys(Options, Questions, Wishes),
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

/// A word that may come before the options, and has something else done than to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Prove the set-up.
    Check,
    /// Show what is on a token, or destroy some of it.
    Keys,
}

impl Command {
    /// Every command, in the order of the help.
    pub const ALL: [Self; 2] = [Self::Check, Self::Keys];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Keys => "keys",
        }
    }

    /// What it does.
    pub fn help(self) -> &'static str {
        match self {
            Self::Check => "try out configuration, module, tokens and certificate",
            Self::Keys => "list the keys on a token, all or [id ...]",
        }
    }
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
    /// The commands it is for; `None` is to serve.
    pub commands: &'static [Option<Command>],
    asks: Asks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asks {
    Cascade,
    CheckConfig,
    Config,
    Daemonize,
    DataObjects,
    Destroy,
    Group,
    Help,
    Json,
    LogLevel,
    LogTarget,
    Orphans,
    PinFile,
    Sign,
    StateDir,
    Token,
    TryLowPin,
    Unused,
    User,
    Version,
    Yes,
}

/// Options that make sense whatever is to be done.
const ANYTHING: &[Option<Command>] = &[None, Some(Command::Check), Some(Command::Keys)];
/// Options of the server only.
const SERVING: &[Option<Command>] = &[None];
/// Options of the commands that look at tokens.
const LOOKING: &[Option<Command>] = &[Some(Command::Check), Some(Command::Keys)];
/// Options of `check` only.
const CHECKING: &[Option<Command>] = &[Some(Command::Check)];
/// Options of `keys` only.
const LISTING: &[Option<Command>] = &[Some(Command::Keys)];

/// Every option, in the order of the help. Parsing, help and the tests of the manual read this table.
pub const OPTIONS: &[Opt] = &[
    opt(
        Some('c'),
        "config",
        Some("PATH"),
        "read this file (/etc/cascade-hsm-bridge/config.toml)",
        ANYTHING,
        Asks::Config,
    ),
    opt(None, "check-config", None, "judge the configuration and what it names, then exit", SERVING, Asks::CheckConfig),
    opt(None, "log-level", Some("LEVEL"), "trace, debug, info, warning or error", ANYTHING, Asks::LogLevel),
    opt(Some('l'), "log", Some("TARGET"), "log to stderr, syslog or file:PATH", SERVING, Asks::LogTarget),
    opt(Some('d'), "daemonize", None, "go on in the background", SERVING, Asks::Daemonize),
    opt(None, "user", Some("USER"), "become USER, by name or number", ANYTHING, Asks::User),
    opt(None, "group", Some("GROUP"), "become GROUP, by name or number", ANYTHING, Asks::Group),
    opt(None, "state-dir", Some("PATH"), "directory for what the program keeps", ANYTHING, Asks::StateDir),
    opt(None, "token", Some("TOKEN"), "its label, serial number or slot", LOOKING, Asks::Token),
    opt(None, "pin-file", Some("PATH"), "the PIN is this file's first line", LOOKING, Asks::PinFile),
    opt(None, "json", None, "answer in JSON", LOOKING, Asks::Json),
    opt(None, "sign", None, "make keys, sign with them, destroy them", CHECKING, Asks::Sign),
    opt(None, "data-objects", None, "try data objects, which some modules hang on", CHECKING, Asks::DataObjects),
    opt(None, "try-low-pin", None, "log in although wrong PINs came before", CHECKING, Asks::TryLowPin),
    opt(None, "cascade", Some("SERVER"), "how Cascade imports them from SERVER", LISTING, Asks::Cascade),
    opt(None, "unused", None, "only keys with a new key's name", LISTING, Asks::Unused),
    opt(None, "orphans", None, "only keys that lack a half", LISTING, Asks::Orphans),
    opt(None, "destroy", None, "destroy these keys, after asking", LISTING, Asks::Destroy),
    opt(None, "yes", None, "do not ask", LISTING, Asks::Yes),
    opt(Some('h'), "help", None, "print this and exit", ANYTHING, Asks::Help),
    opt(Some('V'), "version", None, "print the version and exit", ANYTHING, Asks::Version),
];

/// Reads `args`, the command line without the program's name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Action, UsageError> {
    let mut parser = lexopt::Parser::from_args(args);
    let mut options = Options { config: config::DEFAULT_PATH.into(), overrides: Overrides::default() };
    let overrides = &mut options.overrides;
    let mut questions = Questions::default();
    let mut trials = Trials::default();
    let mut wishes = Wishes::default();
    let mut command = None;
    let mut given = Vec::new();
    while let Some(arg) = parser.next()? {
        if let (Arg::Value(word), Some(Command::Keys)) = (&arg, command) {
            wishes.named.push(word.to_str().and_then(Named::parse).ok_or_else(|| unnamed(word))?);
            continue;
        }
        if let Arg::Value(word) = &arg {
            command = Some(find_command(word).filter(|_| command.is_none()).ok_or_else(|| unexpected(word))?);
            continue;
        }
        let opt = find(&arg)?;
        given.push(opt);
        // What an option that takes no value was given is an error of the parser's next step.
        let value = if opt.value.is_some() { parser.value()? } else { OsString::new() };
        match opt.asks {
            Asks::Cascade => wishes.cascade = Some(text(opt, value)?),
            Asks::CheckConfig | Asks::Daemonize => {}
            Asks::Config => options.config = value.into(),
            Asks::DataObjects => trials.data_objects = true,
            Asks::Destroy => wishes.destroy = true,
            Asks::Group => overrides.group = Some(text(opt, value)?),
            Asks::Help => return Ok(Action::Help),
            Asks::Json => questions.json = true,
            Asks::LogLevel => overrides.log_level = Some(level(&value)?),
            Asks::LogTarget => overrides.log_target = Some(target(&value)?),
            Asks::Orphans => wishes.orphans = true,
            Asks::PinFile => questions.pin_file = Some(absolute(opt, Path::new(&value))?),
            Asks::Sign => trials.sign = true,
            Asks::StateDir => overrides.state_dir = Some(absolute(opt, Path::new(&value))?),
            Asks::Token => questions.token = Some(text(opt, value)?),
            Asks::TryLowPin => trials.low_pin = true,
            Asks::Unused => wishes.unused = true,
            Asks::User => overrides.user = Some(text(opt, value)?),
            Asks::Version => return Ok(Action::Version),
            Asks::Yes => wishes.yes = true,
        }
    }
    if let Some(opt) = given.iter().find(|opt| !opt.commands.contains(&command)) {
        return Err(misplaced(opt, command));
    }
    let is_given = |asks| given.iter().any(|opt| opt.asks == asks);
    overrides.daemonize = is_given(Asks::Daemonize);
    Ok(match command {
        Some(Command::Check) => Action::Check(options, questions, trials),
        Some(Command::Keys) => {
            judge(&wishes, &questions)?;
            Action::Keys(options, questions, wishes)
        }
        None if is_given(Asks::CheckConfig) => Action::CheckConfig(options),
        None => Action::Run(options),
    })
}

/// Refuses wishes that do not go together.
fn judge(wishes: &Wishes, questions: &Questions) -> Result<(), UsageError> {
    let refuse = |why: &str| Err(UsageError(why.to_owned()));
    if wishes.yes && !wishes.destroy {
        return refuse("--yes is for --destroy only");
    }
    if wishes.destroy && (questions.json || wishes.cascade.is_some()) {
        return refuse("--destroy goes with neither --json nor --cascade");
    }
    if wishes.destroy && wishes.named.is_empty() && !wishes.orphans && !wishes.unused {
        return refuse("--destroy needs to be told what: identifiers, --orphans or --unused");
    }
    Ok(())
}

/// How the program is used.
pub fn help() -> String {
    let mut help = format!("usage: {NAME} [command] [option ...]\n\n{}.\n\n", env!("CARGO_PKG_DESCRIPTION"));
    help.push_str("Without a command it serves. Commands:\n");
    for command in Command::ALL {
        let _ = writeln!(help, "  {:<23} {}", command.word(), command.help());
    }
    help.push_str("\nOptions:\n");
    for opt in OPTIONS {
        let short = opt.short.map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
        let long = format!("--{} {}", opt.long, opt.value.unwrap_or_default());
        let _ = writeln!(help, "  {short}{long:<19} {}{}", opt.help, with(opt));
    }
    help.push_str("\nWhat an option says holds instead of what the file says.\n");
    let _ = writeln!(help, "See {NAME}(1) and {NAME}-config.toml(5).");
    help
}

/// The commands that an option is only for.
fn with(opt: &Opt) -> String {
    let words: Option<Vec<_>> = opt.commands.iter().map(|command| command.map(Command::word)).collect();
    words.map_or_else(String::new, |words| format!(" ({})", words.join(", ")))
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
            Arg::Value(_) => String::new(),
        })
    })
}

fn find_command(word: &OsStr) -> Option<Command> {
    Command::ALL.into_iter().find(|command| command.word() == word)
}

fn unexpected(word: &OsStr) -> UsageError {
    let words = Command::ALL.into_iter().map(Command::word);
    UsageError(match word.to_str().and_then(|word| nearest(word, words)) {
        Some(known) if word != known => format!("there is no command {word:?}, the nearest is {known}"),
        _ => format!("unexpected argument {word:?}"),
    })
}

fn unnamed(word: &OsStr) -> UsageError {
    UsageError(format!("{word:?} is no identifier of a key, such as 0A0B, 0A0B_pub or 0A0B_priv"))
}

fn misplaced(opt: &Opt, command: Option<Command>) -> UsageError {
    UsageError(match command {
        Some(command) => format!("--{} is not for the command {}", opt.long, command.word()),
        None => format!("--{} is for a command only{}", opt.long, with(opt)),
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
    commands: &'static [Option<Command>],
    asks: Asks,
) -> Opt {
    Opt { short, long, value, help, commands, asks }
}

const NAME: &str = env!("CARGO_PKG_NAME");

#[cfg(test)]
mod tests;
