//! The arguments of `cascade zone add` that import a key from this bridge.
#![forbid(unsafe_code)]

use std::fmt::Write;

use crate::bridge::Role;
use crate::bridge::inventory::Pair;

/// The arguments for a key in each of its zones, where all that they say is known.
pub fn arguments(pair: &Pair, server: &str) -> Vec<Vec<String>> {
    let Some((public, private)) = identifiers(pair) else { return Vec::new() };
    let of = |role: &Role| {
        let option = format!("--import-{}-kmip", role.word);
        let (algorithm, flags) = (role.algorithm.to_string(), role.flags.to_string());
        vec![option, server.to_owned(), public.clone(), private.clone(), algorithm, flags]
    };
    pair.roles.iter().map(of).collect()
}

/// A line for each key, which a shell splits into the arguments. What is not known makes a line a comment.
pub fn lines(pairs: &[Pair], server: &str) -> String {
    let mut text = String::new();
    for pair in pairs {
        // Writing to a String does not fail.
        let _ = match identifiers(pair) {
            Some((public, private)) if pair.roles.is_empty() => unknown(&mut text, pair, server, &public, &private),
            Some((public, _)) => known(&mut text, pair, server, &public),
            None => writeln!(text, "# {}: clients cannot use it as a pair: {}", name(pair), why(pair)),
        };
    }
    text
}

fn known(text: &mut String, pair: &Pair, server: &str, public: &str) -> std::fmt::Result {
    for (role, arguments) in pair.roles.iter().zip(arguments(pair, server)) {
        let Role { flags, algorithm, key_tag, zone, .. } = role;
        let zone = zone.escape_debug();
        writeln!(
            text,
            "# {zone}, key tag {key_tag}; in Cascade kmip://{}/keys/{public}?algorithm={algorithm}&flags={flags}",
            server.escape_debug()
        )?;
        let quoted: Vec<_> = arguments.iter().map(|argument| shell(argument)).collect();
        writeln!(text, "{}", quoted.join(" "))?;
    }
    Ok(())
}

/// The token does not know what a key is for, and for RSA not which hash its signatures have.
fn unknown(text: &mut String, pair: &Pair, server: &str, public: &str, private: &str) -> std::fmt::Result {
    let name = name(pair);
    let algorithms: Vec<_> = pair.dnskey_algorithms.iter().map(u8::to_string).collect();
    if algorithms.is_empty() {
        return writeln!(text, "# {name}: DNSSEC has no algorithm for such a key");
    }
    let algorithm = algorithms.join("|");
    let server = shell(server);
    writeln!(text, "# {name}: what it is for is not known here; one of")?;
    for (word, flags) in [("ksk", 257), ("zsk", 256), ("csk", 257)] {
        writeln!(text, "#   --import-{word}-kmip {server} {public} {private} {algorithm} {flags}")?;
    }
    Ok(())
}

fn identifiers(pair: &Pair) -> Option<(String, String)> {
    let (private, public) = pair.halves()?;
    let is_served = pair.algorithm.is_some() && private.usage.iter().any(|usage| usage == "Sign");
    Some((public.identifier.clone()?, private.identifier.clone()?)).filter(|_| is_served)
}

/// What the key is called, for a comment.
fn name(pair: &Pair) -> String {
    let label = pair.private.iter().chain(&pair.public).find_map(|half| half.label.as_ref());
    let label = label.map(|label| format!(" \"{}\"", label.escape_debug())).unwrap_or_default();
    if pair.id.is_empty() { format!("no CKA_ID{label}") } else { format!("{}{label}", pair.identifier()) }
}

fn why(pair: &Pair) -> String {
    match pair.oddities.first() {
        Some(oddity) => oddity.clone(),
        None if pair.private.is_empty() => "there is no private key".to_owned(),
        None if pair.public.is_empty() => "the public key is not to be had".to_owned(),
        None => "the private key does not sign".to_owned(),
    }
}

/// A word that a shell takes as it is.
fn shell(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_for_a_shell_what_needs_it() {
        assert_eq!(shell("hsm-1.example"), "hsm-1.example");
        assert_eq!(shell("it's"), "'it'\\''s'");
        assert_eq!(shell(""), "''");
        assert_eq!(shell("a b;c"), "'a b;c'");
    }
}
