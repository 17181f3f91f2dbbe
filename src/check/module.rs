//! The module: who made it, and what it speaks.
#![forbid(unsafe_code)]

use super::report::{Line, Report};
use crate::pkcs11::ModuleInfo;

/// What the module says of itself.
pub fn describe(info: &ModuleInfo, report: &mut Report<'_>) {
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
}
