//! What the token can do of what KMIP offers here, and how.
#![forbid(unsafe_code)]

use super::fence::Outlet;
use super::inside::Patience;
use super::report::{Line, Report};
use crate::bridge::{How, Trial};
use crate::json::Value;
use crate::pkcs11::{Mechanisms, Token};

/// A line for each kind of key.
pub fn look(token: &Token, patience: Patience, outlet: Outlet<'_>, report: &mut Report<'_>) {
    outlet.calling("C_GetMechanismList or C_GetMechanismInfo", patience.call());
    match token.mechanisms_before_login() {
        Ok(mechanisms) => tell(&mechanisms, report),
        Err(error) => report.say(Line::fail("mechanisms", error, "look at the token with the vendor's tools")),
    }
}

fn tell(mechanisms: &Mechanisms, report: &mut Report<'_>) {
    let count = mechanisms.iter().count();
    report.say(Line::ok("mechanisms", format!("{count} listed")).with("listed", count));
    let trials = Trial::all();
    let lines: Vec<_> = trials.iter().map(|trial| of(trial, mechanisms)).collect();
    let serves = lines.iter().any(|(is_whole, _)| *is_whole);
    lines.into_iter().for_each(|(_, line)| report.say(line));
    if !serves {
        report.say(Line::fail(
            "mechanisms",
            "none with which a signer's keys could be made and used",
            "is it the right slot, and does the token's policy, such as FIPS mode, allow them?",
        ));
    }
}

/// Whether such keys can be made and used, and the line that says how.
fn of(trial: &Trial, mechanisms: &Mechanisms) -> (bool, Line) {
    let generator = trial.generator();
    let made = trial.is_made_with(mechanisms).then(|| mechanisms.info(generator)).flatten();
    let ways = trial.how(mechanisms);
    let able: Vec<&How> = ways.iter().filter(|way| way.mechanism.is_some()).collect();
    let make = match made {
        Some(offer) => format!("made by {generator} ({} to {})", offer.min_key, offer.max_key),
        None => format!("not made, as there is no {generator}"),
    };
    let mut texts = vec![make];
    texts.extend(ways.iter().map(say));
    let line = match (made.is_some(), able.is_empty()) {
        (true, false) => Line::ok(subject(trial), texts.join("; ")),
        _ => Line::warn(subject(trial), texts.join("; ")),
    };
    let values: Vec<Value> = ways.iter().map(value).collect();
    let line = line
        .with("generate", made.map(|_| generator.to_string()))
        .with("min", made.map(|offer| offer.min_key))
        .with("max", made.map(|offer| offer.max_key))
        .with("sign", Value::List(values));
    (made.is_some() && !able.is_empty(), line)
}

fn subject(trial: &Trial) -> String {
    // Its size is that of the key that is made to try it.
    format!("mechanism {}", trial.name.strip_suffix("-2048").unwrap_or(trial.name))
}

fn say(way: &How) -> String {
    match way.mechanism {
        Some(mechanism) => {
            let place = if way.hashed_here { " of a digest made here" } else { "" };
            format!("{} by {mechanism}{place}", way.scheme)
        }
        None => format!("no {}", way.scheme),
    }
}

fn value(way: &How) -> Value {
    Value::Object(vec![
        ("scheme", way.scheme.into()),
        ("mechanism", way.mechanism.map(|mechanism| mechanism.to_string()).into()),
        ("hashed-by-bridge", way.hashed_here.into()),
    ])
}
