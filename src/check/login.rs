//! The login: never where a wrong PIN would lock the token.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use super::fence::Outlet;
use super::inside::{Inside, Patience};
use super::report::{Line, Report};
use super::vendor::{Topic, Vendor};
use crate::console::{Choice, Denied, Way};
use crate::pkcs11::{Refusal, Token, TokenInfo, Tokens};

const SUBJECT: &str = "login";

/// What to do unless it is known better.
const OFFICER: &str = "the vendor's tools show the tries that are left, and let the security officer set a new PIN";

/// Opens a session, and logs in if that can do no harm.
pub fn look(
    tokens: &Tokens,
    choice: &Choice,
    vendor: Option<&Vendor>,
    inside: &Inside<'_>,
    outlet: Outlet<'_>,
    report: &mut Report<'_>,
) -> Option<Arc<Token>> {
    let patience = inside.patience();
    if let Some(info) = &choice.info {
        outlet.calling("C_OpenSession", patience.call());
        if let Err(error) = tokens.try_session(info.slot_id) {
            report.say(
                Line::fail("session", error, "other programs may hold all sessions of the token")
                    .advice(vendor, Topic::Session),
            );
            return None;
        }
        if let Some(line) = forbids(info, inside.trials.low_pin) {
            report.say(line);
            return None;
        }
    }
    // For as long as it takes to type it.
    outlet.calling("", None);
    let found = tokens.find(&choice.name).map_err(Denied::Refused);
    let way = match found.and_then(|token| inside.visit.way_into(&token)) {
        Ok(way) => way,
        Err(denied) => {
            let line = Line::fail(SUBJECT, format!("not tried: {denied}"), "--pin-file names a file with the PIN");
            // To look at what can be seen without it is a check too.
            let asked = inside.trials.sign || inside.trials.data_objects;
            report.say(if asked { line } else { line.but_warn() });
            return None;
        }
    };
    if matches!(way, Way::Typed) {
        report.say(Line::ok(SUBJECT, "waiting for the PIN to be typed at the token"));
    }
    outlet.calling("C_Login", self::patience(&way, patience));
    match way.enter(tokens, choice) {
        Ok(token) => {
            outlet.entered(if let Way::Asked(pin) = &way { Some(pin) } else { None });
            report.say(Line::ok(SUBJECT, format!("done {}", words(&way))).with("pin", source(&way)));
            Some(token)
        }
        Err(denied) => {
            report.say(refused(&denied, &way, vendor));
            None
        }
    }
}

/// How long a login may take: where somebody has to type at the token, as long as it takes.
pub fn patience(way: &Way, patience: Patience) -> Option<Duration> {
    if matches!(way, Way::Typed) { None } else { patience.call() }
}

/// Why no login is tried.
fn forbids(info: &TokenInfo, low_pin: bool) -> Option<Line> {
    if info.user_pin_locked {
        return Some(Line::fail(SUBJECT, format!("not tried: {}", Refusal::PinLocked), OFFICER));
    }
    if info.user_pin_final_try {
        return Some(Line::fail(SUBJECT, format!("not tried: {}", Refusal::FinalTry), OFFICER));
    }
    if info.user_pin_count_low && !low_pin {
        return Some(
            Line::warn(
                SUBJECT,
                "not tried: wrong PINs were tried since the last right one, and another may lock the token",
            )
            .hint("where you are sure of the PIN, --try-low-pin logs in"),
        );
    }
    None
}

fn refused(denied: &Denied, way: &Way, vendor: Option<&Vendor>) -> Line {
    let line = Line::fail(SUBJECT, format!("{}: {denied}", words(way)), OFFICER).with("pin", source(way));
    match denied {
        Denied::Refused(Refusal::PinLocked | Refusal::FinalTry | Refusal::AmbiguousToken) => line,
        _ => line.advice(vendor, Topic::Login),
    }
}

fn words(way: &Way) -> &'static str {
    match way {
        Way::Asked(_) => "with the PIN typed",
        Way::Kept(_) => "with the PIN of the configuration",
        Way::Named(_) => "with the PIN of --pin-file",
        Way::Open => "without a PIN, as configured",
        Way::Typed => "with the PIN typed at the token",
    }
}

fn source(way: &Way) -> &'static str {
    match way {
        Way::Asked(_) => "typed",
        Way::Kept(_) => "configuration",
        Way::Named(_) => "pin-file",
        Way::Open => "none",
        Way::Typed => "typed at the token",
    }
}
