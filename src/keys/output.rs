//! Keys as people and as programs read them.
#![forbid(unsafe_code)]

use std::fmt::Write;

use super::cascade;
use crate::bridge::inventory::{Half, Pair, Place};
use crate::bridge::{Role, RoleSource};
use crate::json::Value;
use crate::pkcs11::TokenInfo;

/// A paragraph for each pair.
pub fn lines(token: &TokenInfo, pairs: &[Pair]) -> String {
    let mut text = format!("token {}, serial {}, slot {}: ", token.name(), token.serial, token.slot_id);
    text.push_str(&match pairs.len() {
        0 => "no such keys\n".to_owned(),
        1 => "1 key\n".to_owned(),
        many => format!("{many} keys\n"),
    });
    for pair in pairs {
        let identifier = if pair.id.is_empty() { "no CKA_ID".to_owned() } else { pair.identifier() };
        let _ = write!(text, "\n{identifier}: {}", kind(pair));
        text.push('\n');
        for (name, halves) in [("private", &pair.private), ("public", &pair.public)] {
            halves.iter().for_each(|half| line(&mut text, name, &describe(half)));
            if halves.is_empty() && !pair.id.is_empty() {
                line(&mut text, name, "none");
            }
        }
        pair.roles.iter().for_each(|role| line(&mut text, "zone", &zone(role)));
        if pair.has_first_name() {
            line(
                &mut text,
                "unused",
                "it still has the name of a new key: nobody has named it, unless the token takes no other names",
            );
        }
        pair.oddities.iter().for_each(|oddity| line(&mut text, "odd", oddity));
    }
    text
}

fn line(text: &mut String, name: &str, what: &str) {
    // Writing to a String does not fail.
    let _ = writeln!(text, "  {name:<8} {what}");
}

fn kind(pair: &Pair) -> String {
    match (&pair.algorithm, pair.length) {
        (Some(algorithm), Some(length)) => format!("{algorithm}, {length} bits"),
        (Some(algorithm), None) => algorithm.clone(),
        (None, _) => "a key of another kind".to_owned(),
    }
}

fn describe(half: &Half) -> String {
    let mut words = Vec::new();
    words.extend(half.identifier.clone());
    words.extend(half.state.clone());
    words.extend(half.label.as_ref().map(|label| format!("\"{}\"", label.escape_debug())));
    words.push(if half.usage.is_empty() { "no use".to_owned() } else { half.usage.join(" and ") });
    words.extend(match half.place {
        Place::Object => None,
        Place::PrivateKey => Some("no object, the private key tells it".to_owned()),
        Place::File => Some("no object, a file has it".to_owned()),
    });
    words.join(", ")
}

fn zone(role: &Role) -> String {
    let Role { word, flags, algorithm, key_tag, zone, source } = role;
    let source = match source {
        RoleSource::File => "a file",
        RoleSource::Label => "its name",
    };
    format!("{word} of {}, flags {flags}, algorithm {algorithm}, key tag {key_tag}, says {source}", zone.escape_debug())
}

/// One object.
pub fn json(token: &TokenInfo, pairs: &[Pair], server: Option<&str>) -> String {
    let keys = pairs.iter().map(|pair| pair_value(pair, server)).collect();
    let token = Value::Object(vec![
        ("label", token.label.as_str().into()),
        ("serial", token.serial.as_str().into()),
        ("slot", token.slot_id.into()),
    ]);
    format!("{}\n", Value::Object(vec![("token", token), ("keys", Value::List(keys))]))
}

fn pair_value(pair: &Pair, server: Option<&str>) -> Value {
    let halves = |halves: &[Half]| Value::List(halves.iter().map(half_value).collect());
    let mut members = vec![
        ("id", pair.identifier().into()),
        ("algorithm", pair.algorithm.clone().into()),
        ("length", pair.length.and_then(|length| u32::try_from(length).ok()).into()),
        ("private", halves(&pair.private)),
        ("public", halves(&pair.public)),
        ("zones", Value::List(pair.roles.iter().map(role_value).collect())),
        ("orphan", pair.is_orphan().into()),
        ("unused", pair.has_first_name().into()),
        ("oddities", pair.oddities.clone().into()),
    ];
    if let Some(server) = server {
        members.push(("imports", cascade::arguments(pair, server).into()));
    }
    Value::Object(members)
}

fn half_value(half: &Half) -> Value {
    let place = match half.place {
        Place::Object => "object",
        Place::PrivateKey => "private key",
        Place::File => "file",
    };
    Value::Object(vec![
        ("identifier", half.identifier.clone().into()),
        ("label", half.label.clone().into()),
        ("state", half.state.clone().into()),
        ("usage", half.usage.clone().into()),
        ("place", place.into()),
    ])
}

fn role_value(role: &Role) -> Value {
    let source = match role.source {
        RoleSource::File => "file",
        RoleSource::Label => "label",
    };
    Value::Object(vec![
        ("name", role.zone.as_str().into()),
        ("role", role.word.into()),
        ("flags", u32::from(role.flags).into()),
        ("algorithm", u32::from(role.algorithm).into()),
        ("key-tag", u32::from(role.key_tag).into()),
        ("source", source.into()),
    ])
}
