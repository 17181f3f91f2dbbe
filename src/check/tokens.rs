//! The slots and tokens that are there, and the one that the rest of the check is for.
#![forbid(unsafe_code)]

use super::fence::Outlet;
use super::inside::Patience;
use super::report::{Line, Report};
use super::vendor::{Topic, Vendor};
use crate::console::{Choice, Unclear, Visit};
use crate::pkcs11::{Policy, Settings, SlotInfo, TokenInfo, Tokens};

/// Lists slots and tokens; the one that was asked for, or is the only one.
pub fn look(
    tokens: &Tokens,
    visit: &Visit,
    vendor: Option<&Vendor>,
    patience: Patience,
    outlet: Outlet<'_>,
    report: &mut Report<'_>,
) -> Option<Choice> {
    outlet.calling("C_GetSlotList or C_GetTokenInfo", patience.call());
    let slots = match tokens.slots() {
        Ok(slots) => slots,
        Err(error) => {
            report.say(
                Line::fail("slots", error, "the vendor's tools show whether the HSM can be reached")
                    .advice(vendor, Topic::NoToken),
            );
            return None;
        }
    };
    let with_token = slots.iter().filter(|slot| slot.token.is_some()).count();
    let text = format!("{} there, {with_token} with a token", slots.len());
    report.say(Line::ok("slots", text).with("slots", slots.len()).with("tokens", with_token));
    slots.iter().filter_map(of_slot).for_each(|line| report.say(line));
    let is_unreadable = |slot: &&SlotInfo| matches!(slot.token, Some(Err(_)));
    let unreadable: Vec<u64> = slots.iter().filter(is_unreadable).map(|slot| slot.id).collect();
    let present: Vec<_> = slots.into_iter().filter_map(|slot| slot.token?.ok()).collect();
    match visit.choose(&present) {
        Ok(choice) => Some(choice),
        Err(Unclear::None) if !unreadable.is_empty() => {
            let slots: Vec<_> = unreadable.iter().map(u64::to_string).collect();
            let text = format!("none describes itself, though there is one in slot {}", slots.join(", "));
            report.say(Line::fail("token", text, "--token names it by the number of the slot"));
            None
        }
        Err(unclear) => {
            let line = Line::fail("token", &unclear, "--token names one by its label, serial number or slot");
            report.say(if unclear == Unclear::None { line.advice(vendor, Topic::NoToken) } else { line });
            None
        }
    }
}

/// Who made a token, if it is known better than who made the module.
pub fn vendor(choice: &Choice, module: Option<&'static Vendor>) -> Option<&'static Vendor> {
    let of_token = choice.info.as_ref().and_then(|info| Vendor::of([info.model.as_str(), info.manufacturer.as_str()]));
    module.or(of_token)
}

fn of_slot(slot: &SlotInfo) -> Option<Line> {
    let SlotInfo { id, description, token } = slot;
    match token.as_ref()? {
        Ok(token) => Some(of_token(token)),
        Err(error) => Some(
            Line::warn(format!("slot {id}"), format!("{description}: its token does not describe itself: {error}"))
                .hint(format!("it can be named by its slot only: {id}"))
                .with("slot", *id),
        ),
    }
}

fn of_token(token: &TokenInfo) -> Line {
    let (slot, serial) = (format!("slot {}", token.slot_id), format!("serial {}", token.serial));
    let kind = format!("{} {}", token.manufacturer, token.model);
    let firmware = format!("firmware {}", token.firmware_version);
    let line = if !token.initialized {
        Line::ok(format!("token in {slot}"), [kind, firmware, "not initialised".to_owned()].join(", "))
    } else {
        let (subject, text) = (format!("token {}", token.name()), [slot, serial, kind, firmware].join(", "));
        if !token.user_pin_initialized && token.login_required {
            let hint = "pkcs11-tool --login --login-type so --init-pin sets it";
            Line::warn(subject, format!("{text}, its user PIN is not set")).hint(hint)
        } else {
            Line::ok(subject, text)
        }
    };
    line.with("slot", token.slot_id)
        .with("label", token.label.as_str())
        .with("serial", token.serial.as_str())
        .with("manufacturer", token.manufacturer.as_str())
        .with("model", token.model.as_str())
        .with("firmware-version", token.firmware_version.as_str())
        .with("initialized", token.initialized)
        .with("user-pin-initialized", token.user_pin_initialized)
}

/// What the chosen token says of itself beside its name.
pub fn describe(choice: &Choice, settings: &Settings, report: &mut Report<'_>) {
    let Some(token) = &choice.info else { return };
    let flags = [
        (token.login_required, "login required"),
        (token.protected_authentication_path, "PIN typed at the token"),
        (token.write_protected, "write-protected"),
        (token.rng, "random numbers"),
        (token.user_pin_count_low, "wrong PINs were tried"),
        (token.user_pin_final_try, "one more wrong PIN locks it"),
        (token.user_pin_locked, "PIN locked"),
    ];
    let flags: Vec<&str> = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, word)| *word).collect();
    let text = if flags.is_empty() { "none".to_owned() } else { flags.join(", ") };
    report.say(if token.write_protected {
        Line::warn("flags", text).hint("keys on it can be used, but not made, renamed or destroyed")
    } else {
        Line::ok("flags", text).with("flags", flags)
    });
    sessions(token, settings, report);
    if token.free_public_memory.is_some() || token.free_private_memory.is_some() {
        let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), |bytes| format!("{bytes} bytes"));
        let (public, private) = (token.free_public_memory, token.free_private_memory);
        let text = format!("free for public objects {}, for private ones {}", bytes(public), bytes(private));
        let line =
            if public == Some(0) || private == Some(0) { Line::warn("memory", text) } else { Line::ok("memory", text) };
        report.say(line.with("free-public", public).with("free-private", private));
    }
}

fn sessions(token: &TokenInfo, settings: &Settings, report: &mut Report<'_>) {
    // The bridge's sessions are read/write ones, which count in both.
    // openCryptoki allows all but one of 2^64, which is no limit.
    let is_limit = |most: &u64| *most < u64::from(u32::MAX);
    let limit = [token.max_sessions, token.max_rw_sessions].into_iter().flatten().filter(is_limit).min();
    let ours = Policy::of(&settings.policies, token).max_sessions.unwrap_or(settings.max_sessions);
    let line = match limit {
        None => Line::ok("sessions", format!("the token names no limit; the bridge opens up to {ours}")),
        // One keeps the login, and serves only where there is no other.
        Some(most @ 0..=2) => {
            Line::warn("sessions", format!("the token allows {most}: one request is served at a time"))
        }
        Some(most) if most < u64::from(ours) => {
            Line::ok("sessions", format!("the token allows {most}, which the bridge keeps to"))
        }
        Some(most) => Line::ok("sessions", format!("the token allows {most}; the bridge opens up to {ours}")),
    };
    report.say(line.with("token", limit).with("bridge", ours));
}
