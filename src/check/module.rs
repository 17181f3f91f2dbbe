//! The module: whether it loads and starts, who made it, what it speaks and what it lacks.
#![forbid(unsafe_code)]

use std::path::Path;

use super::fence::Outlet;
use super::inside::Patience;
use super::report::{Line, Report};
use super::vendor::{Topic, Vendor};
use crate::pkcs11::{LoadError, Module, ModuleInfo, Settings, Tokens};

/// Loads the module of `settings` and has it initialised.
///
/// # Errors
/// [`LoadError`].
pub fn load(settings: &Settings) -> Result<Tokens, LoadError> {
    Module::load(&settings.lib_path).map(|module| Tokens::new(module, settings))
}

/// Who made a module, as far as its name and its own words tell.
pub fn vendor(info: &ModuleInfo) -> Option<&'static Vendor> {
    let library = file_name(&info.path);
    // A library that stands before another's says so, whatever it is called.
    Vendor::of([info.manufacturer.as_str(), info.description.as_str(), library.as_str()])
}

/// Loads the module, and says what it is.
pub fn look(settings: &Settings, patience: Patience, outlet: Outlet<'_>, report: &mut Report<'_>) -> Option<Tokens> {
    if cfg!(target_feature = "crt-static") {
        report.say(Line::fail(
            "module",
            "this program is linked statically, and a static program loads no module",
            "take a build of it that is linked dynamically, for the C library of the module",
        ));
        return None;
    }
    outlet.calling("C_Initialize", patience.start());
    match load(settings) {
        Ok(tokens) => {
            describe(&tokens, report);
            Some(tokens)
        }
        Err(error) => {
            report.say(refused(&settings.lib_path, &error));
            None
        }
    }
}

fn describe(tokens: &Tokens, report: &mut Report<'_>) {
    let info = tokens.module();
    let text = format!(
        "{}, {}, version {}, PKCS#11 {}",
        info.manufacturer, info.description, info.library_version, info.cryptoki_version
    );
    report.say(
        Line::ok("module", text)
            .with("path", info.path.display().to_string())
            .with("manufacturer", info.manufacturer.as_str())
            .with("description", info.description.as_str())
            .with("library-version", info.library_version.as_str())
            .with("cryptoki-version", info.cryptoki_version.as_str()),
    );
    for (function, without) in tokens.lacks().unwrap_or_default() {
        let line = Line::warn("module", format!("it has no {function}: {without}"));
        report.say(line.with("function", function));
    }
}

fn refused(path: &Path, error: &LoadError) -> Line {
    let library = file_name(path);
    let vendor = Vendor::of([library.as_str()]);
    let line =
        Line::fail("module", error, "the vendor's manual names the library").with("path", path.display().to_string());
    match error {
        LoadError::Missing { .. } => line.advice(vendor, Topic::Missing),
        LoadError::Failed { .. } => line.advice(vendor, Topic::Initialize),
        LoadError::CannotLoad { reason, .. } => match why_not(reason) {
            Some(hint) => line.hint(hint),
            None => line,
        },
        _ => line,
    }
}

/// What the words of the system's loader mean.
fn why_not(reason: &str) -> Option<String> {
    let musl = ["libc.musl", "ld-musl"].iter().any(|part| reason.contains(part));
    let glibc =
        ["ld-linux", "libc.so.6", "gnu_get_libc", "_chk: symbol not found"].iter().any(|it| reason.contains(it));
    if musl {
        return Some(
            "the module is built for musl, as in Alpine, and this program for glibc: take the vendor's other build"
                .into(),
        );
    }
    if reason.contains("GLIBC_") && reason.contains("not found") {
        return Some("the module is built for a newer glibc: take the vendor's build for this system's release".into());
    }
    if glibc && cfg!(target_env = "musl") {
        return Some("the module is built for glibc, and this program for musl: run it on a glibc system".into());
    }
    if reason.contains("static TLS") {
        return Some("name the library in LD_PRELOAD, so that it is there from the beginning".into());
    }
    if reason.contains("noexec") || reason.contains("failed to map segment") {
        return Some(
            "the file system is mounted noexec, or the service unit forbids memory that is written and executed".into(),
        );
    }
    let (missing, _) = reason.split_once(": cannot open shared object file")?;
    let missing = missing.trim();
    Some(format!(
        "the module needs {missing}: install what brings it, or name its directory in /etc/ld.so.conf.d and run ldconfig"
    ))
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_words_of_the_loader() {
        for (reason, hint) in [
            ("libc.musl-x86_64.so.1: cannot open shared object file: No such file or directory", "musl"),
            ("/lib/libc.so.6: version `GLIBC_2.38' not found (required by /opt/m.so)", "newer glibc"),
            ("libfoo.so.3: cannot open shared object file: No such file or directory", "needs libfoo.so.3: install"),
            ("/opt/m.so: cannot allocate memory in static TLS block", "LD_PRELOAD"),
            ("/opt/m.so: failed to map segment from shared object", "noexec"),
        ] {
            let found = why_not(reason).unwrap_or_default();
            assert!(found.contains(hint), "{reason}: {found}");
        }
        assert_eq!(why_not("something else"), None);
    }
}
