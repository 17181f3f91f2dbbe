//! The tokens that are there, and which of them the check is for.
#![forbid(unsafe_code)]

use super::report::{Line, Report};
use crate::console::{Choice, Visit};
use crate::pkcs11::{TokenInfo, Tokens};

/// Lists the tokens; the one that the rest of the check is for.
pub fn look(tokens: &Tokens, visit: &Visit, report: &mut Report<'_>) -> Option<Choice> {
    let present = match tokens.present() {
        Ok(present) => present,
        Err(error) => {
            report.say(Line::fail("slots", error));
            return None;
        }
    };
    present.iter().for_each(|token| report.say(describe(token)));
    match visit.choose(&present) {
        Ok(choice) => Some(choice),
        Err(unclear) => {
            report.say(Line::fail("token", unclear));
            None
        }
    }
}

fn describe(token: &TokenInfo) -> Line {
    let subject = format!("token {}", token.name());
    let text = format!(
        "slot {}, serial {}, {} {}, firmware {}",
        token.slot_id, token.serial, token.manufacturer, token.model, token.firmware_version
    );
    let line = if token.initialized {
        Line::ok(subject, text)
    } else {
        Line::warn(subject, format!("{text}, not initialised"))
    };
    line.with("slot", token.slot_id)
        .with("label", token.label.as_str())
        .with("serial", token.serial.as_str())
        .with("manufacturer", token.manufacturer.as_str())
        .with("model", token.model.as_str())
        .with("firmware-version", token.firmware_version.as_str())
        .with("initialized", token.initialized)
}
