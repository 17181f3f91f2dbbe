//! What the token turned out to need, by what was done with it.
#![forbid(unsafe_code)]

use super::report::{Line, Report};
use crate::json::Value;
use crate::pkcs11::{Token, Trait};

/// A line for all that is as with most tokens, and one for each thing that is not, or that the configuration has decided.
pub fn tell(token: &Token, report: &mut Report<'_>) {
    let (usual, special): (Vec<_>, Vec<_>) =
        token.traits().into_iter().partition(|known| known.is_usual && !known.is_fixed);
    if !usual.is_empty() {
        let texts: Vec<_> = usual.iter().map(ToString::to_string).collect();
        report.say(Line::ok("learnt", texts.join("; ")).with("traits", usual.iter().map(value).collect::<Vec<_>>()));
    }
    for known in special {
        let by = match (known.is_fixed, known.key) {
            (true, _) => ", as the configuration says".to_owned(),
            (false, Some(key)) => format!("; {key} in [[token]] can say so beforehand"),
            (false, None) => String::new(),
        };
        report.say(Line::ok("learnt", format!("{known}{by}")).with("traits", vec![value(&known)]));
    }
}

fn value(known: &Trait) -> Value {
    Value::Object(vec![
        ("what", known.what.into()),
        ("value", known.value.as_str().into()),
        ("key", known.key.into()),
        ("fixed", known.is_fixed.into()),
        ("usual", known.is_usual.into()),
    ])
}
