//! From a key's value as written to the value as meant: in range, or a problem and the default.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::hidden::Hidden;
use super::keys::{Flag, Names, Number, Text, Unit, Variables, Word};
use super::written::{Written, quoted};
use crate::bridge::access::Secret;

impl Written<'_> {
    /// The number, or the default.
    pub fn number(&mut self, key: &Number) -> u32 {
        let Some(number) = self.value::<i128>(key.path, "a whole number") else { return key.default };
        match u32::try_from(number) {
            Ok(number) if (key.least..=key.most).contains(&number) => number,
            _ => {
                let unit = match key.unit {
                    Unit::Bytes => " bytes",
                    Unit::Plain => "",
                    Unit::Seconds => " seconds",
                };
                self.problem(key.path, format!("{number} is not between {} and {}{unit}", key.least, key.most));
                key.default
            }
        }
    }

    /// The number as a size in memory.
    pub fn size(&mut self, key: &Number) -> usize {
        usize::try_from(self.number(key)).unwrap_or(usize::MAX)
    }

    /// The number as a time in seconds.
    pub fn seconds(&mut self, key: &Number) -> Duration {
        Duration::from_secs(self.number(key).into())
    }

    /// Yes or no, or the default.
    pub fn flag(&mut self, key: &Flag) -> bool {
        self.value(key.path, "true or false").unwrap_or(key.default)
    }

    /// The meaning of the word, or of the default; none if there is no default.
    pub fn word<T: Copy>(&mut self, key: &Word<T>) -> Option<T> {
        let meaning = |word: &str| key.words.iter().find(|(known, _)| *known == word).map(|(_, meaning)| *meaning);
        let default = key.default.and_then(meaning);
        let Some(word) = self.value::<String>(key.path, "a word in quotes") else { return default };
        meaning(&word).or_else(|| {
            let known: Vec<_> = key.words.iter().map(|(word, _)| quoted(word)).collect();
            let among = if known.len() > 1 { "one of " } else { "" };
            self.problem(key.path, format!("{} is not {among}{}", quoted(&word), known.join(", ")));
            default
        })
    }

    /// The text, or the default.
    pub fn text(&mut self, key: &Text) -> Option<String> {
        self.value(key.path, "text in quotes").or_else(|| key.default.map(str::to_owned))
    }

    /// The path, or the default, from the root: the program may change its directory.
    pub fn path(&mut self, key: &Text) -> Option<PathBuf> {
        let path = PathBuf::from(self.text(key)?);
        if path.is_absolute() {
            return Some(path);
        }
        let shown = quoted(&path.to_string_lossy());
        match std::path::absolute(&path) {
            Ok(absolute) => {
                self.warning(key.path, format!("{shown} is not an absolute path, here it is {absolute:?}"));
                Some(absolute)
            }
            Err(why) => {
                self.problem(key.path, format!("{shown} is not an absolute path: {why}"));
                None
            }
        }
    }

    /// The same for a library, a bare name of which is left for the system's loader to find.
    pub fn module(&mut self, key: &Text) -> Option<PathBuf> {
        let name = self.text(key).filter(|name| !name.is_empty() && !name.contains('/'));
        let Some(name) = name else { return self.path(key) };
        let what = "is not an absolute path, the system's loader looks for it in its own directories";
        self.warning(key.path, format!("{} {what}", quoted(&name)));
        Some(name.into())
    }

    /// The variables of the table, which are not shown: vendors put passwords there.
    pub fn variables(&mut self, key: &Variables) -> Vec<(String, Secret)> {
        let wanted = "a table of names, each with text in quotes";
        let variables: BTreeMap<String, Hidden> = self.value(key.path, wanted).unwrap_or_default();
        let mut sound = Vec::new();
        for (name, Hidden(text)) in variables {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(is_name) {
                self.problem(key.path, format!("{} is no name of a variable", quoted(&name)));
            } else if text.expose().contains('\0') {
                self.problem(key.path, format!("the text of {name} holds a NUL"));
            } else {
                if name.starts_with("LD_") {
                    let what = format!("{name} has no effect here: the system's loader reads it when a program starts");
                    self.warning(key.path, what);
                }
                sound.push((name, text));
            }
        }
        sound
    }

    /// The host names and IP addresses of the list.
    pub fn names(&mut self, key: &Names) -> Vec<String> {
        let names: Vec<String> = self.value(key.path, "a list of names in quotes").unwrap_or_default();
        for name in names.iter().filter(|name| !is_host_name(name) && name.parse::<IpAddr>().is_err()) {
            self.problem(key.path, format!("{} is neither a host name nor an IP address", quoted(name)));
        }
        names
    }
}

/// Whether a certificate can hold `name` as a DNS name. RFC 1034, section 3.5; RFC 6125, section 6.4.3
fn is_host_name(name: &str) -> bool {
    let labels = name.strip_prefix("*.").unwrap_or(name);
    let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    name.len() <= 253
        && labels.split('.').all(|label| (1..=63).contains(&label.len()) && label.chars().all(is_letter))
        // A last label of digits only would be read as part of an IP address.
        && !labels.rsplit('.').next().unwrap_or_default().chars().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_host_names() {
        for name in ["localhost", "hsm.example.org", "*.example.org", "a_b", "xn--nxasmq6b", "1.example"] {
            assert!(is_host_name(name), "{name}");
        }
        for name in ["", ".", "a..b", "a b", "é", "*", "a.*", "1.2.3.4", "localhost.", &"x".repeat(64)] {
            assert!(!is_host_name(name), "{name}");
        }
    }
}
