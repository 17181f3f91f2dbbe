//! The profiles of the faulty module: each plays one vendor's module, as far as it is known.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use toml::{Table, Value};

use super::bridge::Options;
use super::faulty::Faulty;
use super::token::Token;

/// A profile as its file says.
pub struct Profile {
    pub name: String,
    own: Table,
    /// The one that it is like otherwise.
    below: Option<Box<Profile>>,
}

impl Profile {
    /// All that there are.
    pub fn all() -> Vec<Profile> {
        let files = fs::read_dir(Faulty::profiles()).expect("the profiles").map(|entry| entry.expect("a file").path());
        let mut names: Vec<String> = files
            .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
            .map(|path| path.file_stem().expect("a name").to_str().expect("UTF-8").to_string())
            .collect();
        names.sort();
        names.iter().map(|name| Profile::named(name)).collect()
    }

    pub fn named(name: &str) -> Profile {
        let text = fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("profile {name}: {error}"));
        let own: Table = toml::from_str(&text).unwrap_or_else(|error| panic!("profile {name}: {error}"));
        let below = own.get("like").map(|like| Box::new(Profile::named(like.as_str().expect("a name"))));
        Profile { name: name.to_string(), own, below }
    }

    /// What it says in one of its tables.
    fn value(&self, table: &str, key: &str) -> Option<&Value> {
        let own = self.own.get(table).and_then(|table| table.get(key));
        own.or_else(|| self.below.as_ref()?.value(table, key))
    }

    fn text(&self, table: &str, key: &str) -> Option<&str> {
        self.value(table, key)?.as_str()
    }

    fn texts(&self, table: &str, key: &str) -> Vec<&str> {
        let list = self.value(table, key).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// The rules of a list, the profile's own and those below.
    fn rules(&self, list: &str) -> Vec<&Value> {
        let own = self.own.get(list).and_then(Value::as_array).into_iter().flatten();
        own.chain(self.below.iter().flat_map(|below| below.rules(list))).collect()
    }

    /// Makes what it needs beside the token, and the module that plays it.
    pub fn set_stage(&self, token: &Token) -> Faulty {
        for label in self.texts("stage", "tokens") {
            token.add(label, &token.pin);
        }
        // The PIN that the module knows by itself is the token's.
        let own_pin = self.value("token", "own-pin").map(|_| format!("[token]\nown-pin = {:?}\n", token.pin));
        Faulty::with(&path(&self.name), &own_pin.unwrap_or_default())
    }

    /// Whether the bridge does not log in, but clients prove themselves to it.
    pub fn needs_no_login(&self) -> bool {
        self.value("stage", "username").is_some()
    }

    /// What the bridge has to be told of such a module, in its configuration and its environment.
    pub fn options(&self, faulty: &Faulty, token: &Token) -> Options {
        let mut options = faulty.options();
        // RSA keys are made one after another, and the machine may be busy.
        options.pkcs11 = "call-timeout = 120".to_string();
        let tables = self.text("stage", "configuration").unwrap_or_default();
        options.tables = tables.replace("{password-file}", password(token).to_str().expect("UTF-8"));
        for name in self.texts("module", "needs-env") {
            options.environment.push((name.to_string().leak(), token.directory().to_path_buf()));
        }
        options
    }

    /// The user name and the password by which a client names the token.
    pub fn login(&self, token: &Token) -> (String, String) {
        if let Some(username) = self.text("stage", "username") {
            return (username.to_string(), token.pin.clone());
        }
        // A token whose description cannot be read has no label that could be told.
        let readable = self.text("token", "utc-time").is_none_or(|time| time.len() == 16);
        let label = if readable {
            self.text("token", "label").unwrap_or(&token.label).to_string()
        } else {
            token.slot().to_string()
        };
        (label, format!("{}{}", self.text("token", "pin-prefix").unwrap_or_default(), token.pin))
    }

    /// Whether labels stay what they are.
    pub fn keeps_labels(&self) -> bool {
        let label = Value::from("CKA_LABEL");
        let has =
            |value: &Value, word: &Value| value == word || value.as_array().is_some_and(|list| list.contains(word));
        let refuses = |rule: &&Value| {
            let of_changes = rule.get("functions").is_some_and(|names| has(names, &Value::from("C_SetAttributeValue")));
            let of_labels = match (rule.get("attribute"), rule.get("only")) {
                (Some(attribute), _) => has(attribute, &label),
                (None, Some(spared)) => !has(spared, &label),
                (None, None) => true,
            };
            // A label that is short enough is another thing.
            of_changes && of_labels && rule.get("longer-than").is_none()
        };
        [self.rules("fault"), self.rules("template")].concat().iter().any(refuses)
    }

    /// The mechanisms that the token lists, in pkcs11-tool's spelling, and the sizes of their keys.
    pub fn mechanisms(&self, faulty: &Faulty, token: &Token) -> BTreeMap<String, RangeInclusive<u64>> {
        let options = self.options(faulty, token);
        let output = token
            .command("pkcs11-tool")
            .arg("--module")
            .arg(options.module.expect("the faulty module"))
            .args(["--slot", &token.slot().to_string(), "--list-mechanisms"])
            .envs(options.environment)
            .output()
            .expect("pkcs11-tool is installed (make deps)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        let mechanism = |line: &str| {
            let name = line.strip_prefix("  ")?.split(',').next()?.to_string();
            let sizes = line.split_once("keySize={").and_then(|(_, rest)| rest.split_once('}'));
            let sizes = sizes.and_then(|(sizes, _)| sizes.split_once(','));
            let sizes = sizes.and_then(|(least, most)| Some(least.parse().ok()?..=most.parse().ok()?));
            Some((name, sizes.unwrap_or(0..=u64::MAX)))
        };
        listed.lines().filter_map(mechanism).collect()
    }
}

/// A file for the bridge alone with the password of a client that knows no PIN.
fn password(token: &Token) -> PathBuf {
    let path = token.directory().join("password");
    fs::write(&path, &token.pin).expect("a password");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("rights of its own");
    path
}

fn path(name: &str) -> PathBuf {
    Faulty::profiles().join(format!("{name}.toml"))
}
