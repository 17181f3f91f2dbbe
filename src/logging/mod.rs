//! Messages to standard error, a file or syslog: `log` in front, env_logger to filter, lines of our own.
#![forbid(unsafe_code)]

mod file;
mod line;
pub mod stderr;
mod syslog;

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use log::{LevelFilter, Log, Metadata, Record};

use line::Form;
use stderr::Stderr;

/// What is logged, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The least important messages that are wanted.
    pub level: LevelFilter,
    /// Where they go.
    pub target: Target,
}

/// Where messages go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Appended to a file.
    File(PathBuf),
    /// Standard error.
    Stderr,
    /// The system's log, through /dev/log.
    Syslog,
}

/// Logs to standard error from now on, `info` and above. To be called once, as is [`start_plain`].
pub fn start() {
    begin(LevelFilter::Info, Form::of_stderr());
}

/// Prints messages of `level` and above to standard error from now on, as part of the answer to a command.
pub fn start_plain(level: LevelFilter) {
    begin(level, Form::Plain);
}

fn begin(level: LevelFilter, form: Form) {
    FRONT.install(build(level, form, Box::new(Stderr)));
    if log::set_logger(&FRONT).is_ok() {
        std::panic::set_hook(Box::new(log_panic));
    }
}

/// Logs as `settings` say from now on. A log file that has to be created is given to `owner`, user and group.
pub fn switch(settings: &Settings, owner: Option<(u32, u32)>) -> Result<(), Error> {
    let (form, out): (_, Box<dyn Write + Send>) = match &settings.target {
        Target::File(path) => (Form::Timed, Box::new(file::open(path, owner).map_err(|why| Error::file(path, why))?)),
        Target::Stderr => (Form::of_stderr(), Box::new(Stderr)),
        Target::Syslog => (Form::Syslog, Box::new(syslog::Socket::connect(Path::new(SYSLOG)).map_err(Error::syslog)?)),
    };
    FRONT.install(build(settings.level, form, out));
    Ok(())
}

/// Whether the system's log can be reached.
pub fn reach_syslog() -> Result<(), Error> {
    syslog::Socket::connect(Path::new(SYSLOG)).map(|_| ()).map_err(Error::syslog)
}

/// Where messages could not be sent to, and why.
#[derive(Debug)]
pub struct Error {
    target: String,
    why: io::Error,
}

impl Error {
    /// The file `path` cannot be used.
    pub fn file(path: &Path, why: io::Error) -> Self {
        Self { target: path.display().to_string(), why }
    }

    fn syslog(why: io::Error) -> Self {
        Self { target: SYSLOG.to_owned(), why }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot log to {}: {}\nhint: daemon.log-target or --log names another place", self.target, self.why)
    }
}

impl std::error::Error for Error {}

/// The logger that `log` knows for good, around the one that holds for now.
struct Front(RwLock<Option<env_logger::Logger>>);

static FRONT: Front = Front(RwLock::new(None));

impl Front {
    fn install(&self, logger: env_logger::Logger) {
        log::set_max_level(logger.filter());
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(logger);
    }
}

impl Log for Front {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let logger = self.0.read().unwrap_or_else(PoisonError::into_inner);
        logger.as_ref().is_some_and(|logger| logger.enabled(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        let logger = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(logger) = logger.as_ref() {
            logger.log(record);
        }
    }

    fn flush(&self) {}
}

fn build(level: LevelFilter, form: Form, out: Box<dyn Write + Send>) -> env_logger::Logger {
    let mut builder = env_logger::Builder::new();
    builder
        .filter_level(LevelFilter::Off)
        .filter_module(OURS, level)
        .filter_module(AUDIT, level.max(LevelFilter::Info))
        .filter_module(MODULE_STDERR, level.max(LevelFilter::Warn));
    if level >= LevelFilter::Debug {
        // Below this level rustls describes whole messages, and messages carry PINs. cryptoki calls what it does not know, such
        // as a vendor's mechanism, an error; what fails is reported by our own layer.
        builder.filter_module("rustls", LevelFilter::Warn);
    }
    builder
        .format(move |line, record| form.write(line, record))
        .target(env_logger::Target::Pipe(out))
        .write_style(env_logger::WriteStyle::Never)
        .build()
}

/// Logs where a thread panicked. What it said is left out unless it is part of the program text: it may hold values.
fn log_panic(info: &std::panic::PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let message = info.payload().downcast_ref::<&'static str>().copied().unwrap_or("no details");
    let name = thread.name().unwrap_or("without a name");
    log::error!("thread {name} panicked at {place}: {message}\nhint: this is a bug in the bridge, please report it");
}

/// The log target of the audit trail, which is logged at every level: who wants few messages still wants to know who did what.
pub const AUDIT: &str = "cascade_hsm_bridge::audit";

/// The log target of what the PKCS#11 module prints, of which nothing is lost at any level.
pub const MODULE_STDERR: &str = "module-stderr";

/// The log target of everything in this crate.
const OURS: &str = "cascade_hsm_bridge";
const SYSLOG: &str = "/dev/log";

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use log::Level;

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What a logger of `level` writes of one message each from this crate, its modules and libraries.
    fn logged(level: LevelFilter) -> String {
        let out = Shared::default();
        let logger = build(level, Form::Syslog, Box::new(out.clone()));
        for target in
            ["cascade_hsm_bridge", "cascade_hsm_bridge::server", AUDIT, "rustls::server", "cryptoki::object", "x"]
        {
            for at in Level::iter() {
                logger.log(&Record::builder().target(target).level(at).args(format_args!("{target} {at}")).build());
            }
        }
        let bytes = out.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn logs_its_own_messages_down_to_the_level() {
        let text = logged(LevelFilter::Info);
        assert!(text.contains("cascade_hsm_bridge::server INFO"));
        assert!(!text.contains("DEBUG"));
        assert!(!text.contains(" x ERROR"));
    }

    #[test]
    fn logs_the_audit_trail_at_every_level() {
        for level in LevelFilter::iter().skip(1) {
            let text = logged(level);
            assert!(text.contains("cascade_hsm_bridge::audit INFO"), "{level}");
            assert_eq!(text.contains("cascade_hsm_bridge::audit DEBUG"), level >= LevelFilter::Debug, "{level}");
            assert_eq!(text.contains("cascade_hsm_bridge::server INFO"), level >= LevelFilter::Info, "{level}");
        }
    }

    #[test]
    fn keeps_libraries_silent_above_debug() {
        let text = logged(LevelFilter::Info);
        assert!(!text.contains("rustls") && !text.contains("cryptoki"));
    }

    #[test]
    fn never_lets_a_library_say_more_than_a_warning() {
        for level in [LevelFilter::Debug, LevelFilter::Trace] {
            let text = logged(level);
            assert!(text.contains("rustls::server WARN") && !text.contains("cryptoki"));
            for at in ["INFO", "DEBUG", "TRACE"] {
                assert!(!text.contains(&format!("rustls::server {at}")));
            }
        }
    }
}
