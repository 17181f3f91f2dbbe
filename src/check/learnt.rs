//! What the token turned out to need, by what was done with it, and how the configuration says so.
#![forbid(unsafe_code)]

use super::report::{Line, Report};
use crate::json::Value;
use crate::pkcs11::{Token, TokenInfo, Trait};

/// A line for all that is as with most tokens, and one for each thing that is not, or that the configuration has decided; then what
/// to write into the configuration, so that it need not be learnt again.
pub fn tell(token: &Token, report: &mut Report<'_>) {
    let (usual, special): (Vec<_>, Vec<_>) =
        token.traits().into_iter().partition(|known| known.is_usual && !known.is_fixed);
    if !usual.is_empty() {
        let texts: Vec<_> = usual.iter().map(ToString::to_string).collect();
        report.say(Line::ok("learnt", texts.join("; ")).with("traits", usual.iter().map(value).collect::<Vec<_>>()));
    }
    for known in &special {
        let by = match (known.is_fixed, known.settings.as_slice()) {
            (true, _) => ", as the configuration says".to_owned(),
            (false, []) => String::new(),
            (false, settings) => format!("; {} in [[token]] says so beforehand", settings.join(" and ")),
        };
        report.say(Line::ok("learnt", format!("{known}{by}")).with("traits", vec![value(known)]));
    }
    let settings: Vec<_> = special.iter().filter(|known| !known.is_fixed).flat_map(|known| &known.settings).collect();
    if !settings.is_empty() {
        let text = "this in the configuration keeps it from having to be learnt again:";
        let lines = table(token.info()).into_iter().chain(settings.into_iter().cloned()).collect();
        report.say(Line::ok("learnt", text).copying("toml", lines));
    }
}

fn value(known: &Trait) -> Value {
    Value::Object(vec![
        ("what", known.what.into()),
        ("value", known.value.as_str().into()),
        ("key", known.key.into()),
        ("settings", known.settings.iter().map(String::as_str).collect::<Vec<_>>().into()),
        ("fixed", known.is_fixed.into()),
        ("usual", known.is_usual.into()),
    ])
}

/// The beginning of a table that is about this token.
fn table(token: &TokenInfo) -> [String; 2] {
    // What JSON writes of a text, TOML reads.
    let is = |key: &str, text: &str| format!("{key} = {}", Value::from(text));
    let fields = [("label", &token.label), ("serial", &token.serial)];
    let fields: Vec<_> =
        fields.into_iter().filter(|(_, text)| !text.is_empty()).map(|(key, text)| is(key, text)).collect();
    let meant = if fields.is_empty() {
        is("name", &token.slot_id.to_string())
    } else {
        format!("match = {{ {} }}", fields.join(", "))
    };
    ["[[token]]".to_owned(), meant]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pkcs11::{Match, Pattern};

    #[test]
    fn a_table_is_about_the_token_and_no_other() {
        let token = |label: &str, serial: &str| TokenInfo {
            slot_id: 7,
            label: label.into(),
            serial: serial.into(),
            ..TokenInfo::default()
        };
        assert_eq!(table(&token("", ""))[1], "name = \"7\"");
        assert_eq!(table(&token("signer", ""))[1], "match = { label = \"signer\" }");
        // A label may hold anything.
        let odd = token("a\"\\\u{1b}\u{9b}\u{e9}*", "00ff");
        let [_, meant] = table(&odd);
        assert!(!meant.chars().any(char::is_control), "{meant:?}");
        let read: toml::Table = toml::from_str(&meant).unwrap();
        let field = |key: &str| read["match"][key].as_str().map(Pattern::new);
        let fits = |token: &TokenInfo| {
            Match { label: field("label"), serial: field("serial"), ..Match::default() }.fits(token)
        };
        assert!(fits(&odd));
        assert!(!fits(&token("signer", "00ff")) && !fits(&token(&odd.label, "00fe")));
    }
}
