//! The files and directories that the bridge's user needs.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

use super::report::{Line, Report};
use super::rights;
use super::vendor::{Place, Vendor};
use crate::bridge::PublicKeys;
use crate::bridge::access::{Login, Proof, Source};
use crate::config::Config;
use crate::sys::{self, May};

/// As whom this is, and what is read again when the bridge is told to.
pub fn look(config: &Config, report: &mut Report<'_>) {
    let name = sys::user_name(sys::effective_user());
    report.say(if sys::is_root() {
        // Whom the service unit names is not known here, but there may be one.
        let hint = match sys::user(env!("CARGO_PKG_NAME")) {
            Ok(Some(_)) => concat!("to see what the service meets, say --user ", env!("CARGO_PKG_NAME")),
            _ => "daemon.identity or --user names whom it becomes",
        };
        Line::warn("user", "this is root, and so would the module be").hint(hint)
    } else {
        Line::ok("user", &name).with("name", name.as_str())
    });
    for (subject, path) in read_again(config) {
        if let Err(obstacle) = rights::walk(&path, May::Read) {
            let line = obstacle.say(subject, &path, None).but_warn();
            report.say(line.hint(format!(
                "it is read at the start, before user {name} is become; a changed one wants a restart, as HUP cannot read it"
            )));
        }
    }
}

/// The public keys that the bridge is told by files.
pub fn public_keys(directory: &Path, report: &mut Report<'_>) {
    match PublicKeys::load(directory) {
        Ok((keys, odd)) => {
            for why in odd {
                report.say(Line::warn("public keys", why).hint("the bridge goes on without this file"));
            }
            report.say(Line::ok("public keys", format!("{} in {}", keys.len(), directory.display())));
        }
        Err(why) => report.say(Line::fail(
            "public keys",
            why,
            "the bridge's user has to read the directory; public-keys names it",
        )),
    }
}

/// The files that are read as root at the start, and by the bridge's user when it hears HUP.
fn read_again(config: &Config) -> Vec<(&'static str, PathBuf)> {
    let mut files = Vec::new();
    if let Some(identity) = &config.tls.identity {
        files.extend([("certificate", identity.cert_path.clone()), ("certificate", identity.key_path.clone())]);
    }
    if let Some(clients) = &config.tls.clients {
        files.push(("client-ca", clients.ca_path.clone()));
        files.extend(clients.crl_path.clone().map(|path| ("crl", path)));
    }
    for token in &config.access.tokens {
        if let Login::Kept(Source::File(path)) = &token.login {
            files.push(("pin-file", path.clone()));
        }
    }
    for client in &config.access.clients {
        if let Proof::Password(_, Source::File(path)) = &client.proof {
            files.push(("password-file", path.clone()));
        }
    }
    files
}

/// The library, and what its vendor's modules read.
pub fn of_module(path: &Path, vendor: Option<&Vendor>, report: &mut Report<'_>) {
    // A bare name is for the loader to find, and that nothing is there is for it to say.
    if path.is_absolute() {
        match rights::walk(path, May::Read) {
            Err(obstacle) if !obstacle.is_of_rights() => {}
            walked => {
                tell(&walked, path, vendor, report);
            }
        }
    }
    let Some(vendor) = vendor else { return };
    for place in vendor.places {
        let Some((path, _)) = place.here() else { continue };
        let can_be_read = of_place(place, &path, vendor, report);
        if can_be_read && vendor.name == "SoftHSM" {
            for directory in token_directories(&path) {
                let is_open = tell(&rights::walk(&directory, May::Fill), &directory, Some(vendor), report);
                if is_open {
                    of_tokens(&directory, vendor, report);
                }
            }
        }
    }
}

fn of_place(place: &Place, path: &Path, vendor: &Vendor, report: &mut Report<'_>) -> bool {
    let may = if place.is_filled { May::Fill } else { May::Read };
    tell(&rights::walk(path, may), path, Some(vendor), report)
}

fn tell(walked: &Result<(), rights::Obstacle>, path: &Path, vendor: Option<&Vendor>, report: &mut Report<'_>) -> bool {
    report.say(match walked {
        Ok(()) => Line::ok("rights", path.display()).with("path", path.display().to_string()),
        Err(obstacle) => obstacle.say("rights", path, vendor),
    });
    walked.is_ok()
}

/// Each token has a directory, which belongs to whoever initialised it: root, often enough.
fn of_tokens(directory: &Path, vendor: &Vendor, report: &mut Report<'_>) {
    let tokens = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    for token in tokens.filter(|path| path.is_dir()) {
        let description = token.join("token.object");
        let walked = rights::walk(&token, May::Fill).and_then(|()| rights::walk(&description, May::Read));
        if let Err(obstacle) = walked {
            report.say(obstacle.say("rights", &token, Some(vendor)));
        }
    }
}

/// Where SoftHSM keeps its tokens. softhsm2.conf(5)
fn token_directories(conf: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(conf).unwrap_or_default();
    let value = |line: &str| {
        let (key, value) = line.split('#').next()?.split_once('=')?;
        (key.trim() == "directories.tokendir").then(|| PathBuf::from(value.trim()))
    };
    text.lines().filter_map(value).filter(|path| path.is_absolute()).collect()
}
