//! The certificate that clients are shown.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use super::places;
use super::report::{Line, Report};
use crate::config::{Config, Judged, keys};
use crate::server::look::{self, Seen};
use crate::server::tls;

const SUBJECT: &str = "certificate";

/// Whether the configuration of it can be gone by.
pub fn is_sound(judged: &Judged) -> bool {
    !["server.identity", "server.tls.c", keys::NAMES.path].into_iter().any(|part| judged.is_faulty(part))
}

/// Looks at it, as far as this process may. `made_by_root` says that the state directory is made by root first.
pub fn look(config: &Config, made_by_root: bool, report: &mut Report<'_>) {
    let listening = [config.server.addr];
    match look::at(&config.tls, &listening) {
        Ok(Some(seen)) => tell(&seen, report),
        Ok(None) => to_be_made(config, &listening, made_by_root, report),
        Err(error) => report.say(Line::fail(
            SUBJECT,
            error,
            "server.identity names certificate and key; without it the bridge makes its own",
        )),
    }
    // What cannot be read of them is told already.
    for remark in look::at_clients(&config.tls).unwrap_or_default() {
        report.say(Line::warn(SUBJECT, remark));
    }
}

fn tell(seen: &Seen, report: &mut Report<'_>) {
    let path = seen.certificate.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    let end = match seen.days_left {
        Some(days) => format!("expires in {days} days"),
        None if seen.is_expired => "expired".to_owned(),
        None => "its end cannot be read".to_owned(),
    };
    let names = if seen.names.is_empty() { "no name".to_owned() } else { seen.names.join(", ") };
    let text = format!("{path}, {} key, for {names}, {end}", seen.key);
    let line = if seen.is_expired {
        Line::fail(
            SUBJECT,
            text,
            "clients that verify it refuse it; put a new one there, and send HUP to a running bridge",
        )
    } else {
        Line::ok(SUBJECT, text)
    };
    report.say(
        line.with("path", path)
            .with("key", seen.key)
            .with("names", seen.names.clone())
            .with("days-left", seen.days_left)
            .with("fingerprint", seen.certificate.fingerprint.as_str()),
    );
    let is_told = |remark: &String| seen.is_expired && remark.starts_with("it expired");
    for remark in seen.remarks.iter().filter(|remark| !is_told(remark)) {
        report.say(Line::warn(SUBJECT, remark));
    }
}

fn to_be_made(config: &Config, listening: &[SocketAddr], made_by_root: bool, report: &mut Report<'_>) {
    let directory = &config.state_dir;
    let made = match places::directory(directory) {
        Err(why) if !made_by_root => Line::warn(SUBJECT, tls::unkept(directory, &why)),
        _ => Line::ok(SUBJECT, format!("will be made at the first start, in {}", directory.display())),
    };
    report.say(made.with("directory", directory.display().to_string()));
    if look::lacks_names(&config.tls, listening) {
        report.say(
            Line::warn(SUBJECT, "it will be for this host's own name and the loopback addresses only")
                .hint("server.tls.names holds the names and addresses that clients use"),
        );
    }
}
