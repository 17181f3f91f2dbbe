//! What a client certificate says of its owner. No part of a name can be taken for another, whatever is in it.
#![no_main]

use cascade_hsm_bridge::bridge::access::owner;
use libfuzzer_sys::fuzz_target;

/// What the names of attributes and alternative names are made of.
const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

fuzz_target!(|data: &[u8]| {
    let (subject, names) = owner(data);
    if let Some(subject) = &subject {
        judge_subject(subject);
    }
    for name in names {
        let (kind, value) = name.split_once(':').expect("a kind");
        assert!(["DNS", "IP", "URI", "email"].contains(&kind), "{name:?}");
        assert!(value.chars().all(|c| c.is_ascii_graphic()), "{name:?}");
    }
});

/// RFC 4514, section 3: parts between unescaped commas and plus signs, each a type, an equals sign and a value without anything
/// that would have to be escaped.
fn judge_subject(subject: &str) {
    if subject.is_empty() {
        return;
    }
    let mut part = String::new();
    let mut chars = subject.chars();
    loop {
        match chars.next() {
            Some('\\') => {
                let escaped = chars.next().expect("what is escaped");
                let is_nul = escaped == '0' && chars.next() == Some('0');
                assert!(is_nul || " #\"+,;<>\\".contains(escaped), "{subject:?}");
                // Something that is no special character.
                part.push('x');
            }
            Some(c @ ('"' | ';' | '<' | '>' | '\0')) => panic!("{c:?} is not escaped in {subject:?}"),
            end @ (Some(',' | '+') | None) => {
                let (kind, value) = part.split_once('=').expect("a type");
                assert!(!kind.is_empty() && kind.chars().all(|c| LETTERS.contains(c)), "{subject:?}");
                assert!(!value.starts_with([' ', '#']) && !value.ends_with(' '), "{subject:?}");
                part.clear();
                if end.is_none() {
                    return;
                }
            }
            Some(c) => part.push(c),
        }
    }
}
