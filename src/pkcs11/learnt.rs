//! What a token turned out to need. It is learnt at first use and kept as long as the program runs; what the operator decides is
//! not learnt but holds.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::PoisonError;

use cryptoki::mechanism::MechanismType;

use super::label::SHORT;
use super::ladder::Shape;
use super::names::mechanism_name;
use super::policy::{EcParams, IdLength, LoginKind, Policy};
use super::template::{Family, Rung};
use super::token::Token;

/// What is known of a token's ways; `None` for what has not shown yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learnt {
    /// The templates by which key pairs are made.
    pub shapes: Shapes,
    /// CKA_ID of new keys.
    pub id_length: Option<IdLength>,
    /// One that was taken where it may as well have been trouble that passed that made a better one fail.
    pub likely_id_length: Option<IdLength>,
    /// What becomes of labels.
    pub labels: Option<Labels>,
    /// Whether labels can be changed.
    pub rename: Option<bool>,
    /// Whether a new pair's public key is an object of its own.
    pub public_objects: Option<bool>,
    /// Whether data objects work.
    pub data_objects: Option<bool>,
    /// How the token was logged in to.
    pub login: Option<LoginKind>,
    /// Whether the state of a session tells that it is logged in.
    pub tells_login: Option<bool>,
    /// Whether another login succeeds where there is one.
    pub takes_every_login: Option<bool>,
    /// Whether a session has to be logged in whatever the others are.
    pub logs_in_each: Option<bool>,
    /// Mechanisms that the token lists but refuses, where another serves instead.
    pub refused_mechanisms: Vec<MechanismType>,
}

/// The shape of templates for each family of keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shapes {
    /// RSA.
    pub rsa: Option<Shape>,
    /// The NIST curves.
    pub ec: Option<Shape>,
    /// Edwards curves.
    pub edwards: Option<Shape>,
}

impl Shapes {
    /// The shape for one family.
    pub fn of(&mut self, family: Family) -> &mut Option<Shape> {
        match family {
            Family::Rsa => &mut self.rsa,
            Family::Ec => &mut self.ec,
            Family::Edwards => &mut self.edwards,
        }
    }
}

/// What becomes of the label of a new key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labels {
    /// It is kept as it is given.
    AsGiven,
    /// It is taken if it is short and plain.
    Short,
    /// It is not taken with a new key.
    Refused,
    /// The token has labels of its own making.
    Own,
}

/// One thing that is known of a token, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trait {
    /// What it is about.
    pub what: &'static str,
    /// What is known.
    pub value: String,
    /// The key of the configuration that decides it, where there is one.
    pub key: Option<&'static str>,
    /// What `[[token]]` says to have it so, a line for each key; none where it cannot say it.
    pub settings: Vec<String>,
    /// Whether the configuration has decided it.
    pub is_fixed: bool,
    /// Whether it is so with most tokens.
    pub is_usual: bool,
}

impl fmt::Display for Trait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, value, .. } = self;
        write!(f, "{what}: {value}")
    }
}

impl Learnt {
    /// With what the operator decides.
    pub(super) fn fixed(mut self, policy: &Policy) -> Self {
        for family in [Family::Rsa, Family::Ec, Family::Edwards] {
            if let Some(shape) = self.shapes.of(family) {
                shape.rung = policy.template.of(family).unwrap_or(shape.rung);
                shape.form = policy.ec_params.unwrap_or(shape.form);
            }
        }
        self.id_length = policy.id_length.or(self.id_length);
        self.rename = policy.rename.or(self.rename);
        self.data_objects = policy.data_objects.or(self.data_objects);
        if policy.store_public_key == Some(true) {
            self.public_objects = Some(true);
        }
        self
    }

    /// All that is known, one thing after the other.
    pub(super) fn traits(&self, policy: &Policy) -> Vec<Trait> {
        let mut traits = Vec::new();
        let mut add = |what, value: String, setting: Setting, is_fixed, is_usual| {
            let Setting { key, lines: settings } = setting;
            traits.push(Trait { what, value, key, settings, is_fixed, is_usual });
        };
        if let Some(login) = self.login {
            let value = match login {
                LoginKind::User => "by the user PIN",
                LoginKind::None => "none",
                LoginKind::ProtectedPath => "at the token itself",
            };
            // It is what the configuration says, or does not: no token is asked for another one.
            add("login", value.to_owned(), Setting::by("login"), policy.login.is_some(), login == LoginKind::User);
        }
        if let Some(tells) = self.tells_login {
            let value = if tells { "told by its sessions" } else { "not told by its sessions" };
            add("state of the login", value.to_owned(), Setting::default(), false, tells);
        }
        if self.logs_in_each == Some(true) {
            add("sessions", "each with a login of its own".to_owned(), Setting::default(), false, false);
        }
        for (what, key, shape, fixed) in [
            ("template of RSA keys", "template.rsa", self.shapes.rsa, policy.template.rsa),
            ("template of ECDSA keys", "template.ec", self.shapes.ec, policy.template.ec),
            ("template of Edwards keys", "template.edwards", self.shapes.edwards, policy.template.edwards),
        ] {
            if let Some(shape) = shape {
                let value = shape.rung.word().to_owned() + if shape.sure { "" } else { ", perhaps" };
                let setting = Setting::by("template").says(key, &quoted(shape.rung.word()));
                add(what, value, setting, fixed.is_some(), shape.rung == Rung::Full);
            }
        }
        if let Some(shape) = self.shapes.edwards {
            let (value, word, is_usual) = match shape.form {
                EcParams::Oid => ("by their object identifiers", "oid", true),
                EcParams::Name => ("by their names", "name", false),
            };
            let setting = Setting::by("ec-params").says("ec-params", &quoted(word));
            add("Edwards curves", value.to_owned(), setting, policy.ec_params.is_some(), is_usual);
        }
        if let Some(length) = self.id_length {
            // Whatever random length was taken at the first try is as good as another.
            let is_usual = matches!(length, IdLength::Bytes(16..));
            let bytes = match length {
                IdLength::Bytes(bytes) => bytes,
                IdLength::Chosen => 0,
            };
            let setting = Setting::by("id-length").says("id-length", &bytes);
            add("CKA_ID of new keys", length.to_string(), setting, policy.id_length.is_some(), is_usual);
        }
        if let Some(labels) = self.labels {
            let (value, setting, is_fixed) = of_labels(labels, policy);
            add("labels", value.to_owned(), setting, is_fixed, labels == Labels::AsGiven);
        }
        if let Some(rename) = self.rename {
            let value = if rename { "can be changed" } else { "cannot be changed" };
            let setting = Setting::by("rename").says("rename", &rename);
            add("labels of keys that are there", value.to_owned(), setting, policy.rename.is_some(), rename);
        }
        if let Some(stored) = self.public_objects {
            let value = if stored { "stored" } else { "not stored" };
            let setting = Setting::by("store-public-key").says("store-public-key", &stored);
            add("public keys", value.to_owned(), setting, policy.store_public_key.is_some(), stored);
        }
        if let Some(work) = self.data_objects {
            let value = if work { "work" } else { "do not work" };
            let setting = Setting::by("data-objects").says("data-objects", &work);
            add("data objects", value.to_owned(), setting, policy.data_objects.is_some(), work);
        }
        let refused: Vec<_> = policy.omit_mechanisms.iter().chain(&self.refused_mechanisms).copied().collect();
        if !refused.is_empty() {
            let names: Vec<_> = refused.iter().map(|mechanism| mechanism_name(*mechanism)).collect();
            let list: Vec<_> = names.iter().map(|name| quoted(name)).collect();
            let setting = Setting::by("omit-mechanisms").says("omit-mechanisms", &format!("[{}]", list.join(", ")));
            add("mechanisms not used", names.join(", "), setting, self.refused_mechanisms.is_empty(), false);
        }
        traits
    }
}

/// How the configuration says a thing.
#[derive(Default)]
struct Setting {
    key: Option<&'static str>,
    lines: Vec<String>,
}

impl Setting {
    fn by(key: &'static str) -> Self {
        Self { key: Some(key), lines: Vec::new() }
    }

    fn says(mut self, key: &str, value: &dyn fmt::Display) -> Self {
        self.lines.push(format!("{key} = {value}"));
        self
    }
}

/// A word as TOML has it; no word of ours has to be escaped.
fn quoted(word: &str) -> String {
    format!("\"{word}\"")
}

/// What becomes of labels, how that is said, and whether it is.
fn of_labels(labels: Labels, policy: &Policy) -> (&'static str, Setting, bool) {
    let key = Setting::by("label-max");
    match labels {
        Labels::AsGiven => ("kept as given", key, false),
        Labels::Short => {
            let is_fixed = policy.label_max.is_some() && policy.label_characters.is_some();
            let setting = key.says("label-max", &SHORT).says("label-characters", &quoted("plain"));
            ("taken if short and plain", setting, is_fixed)
        }
        Labels::Refused => ("not taken with new keys", key.says("label-max", &0), policy.label_max == Some(0)),
        // Whatever is said of them, they are others.
        Labels::Own => ("the token's own", Setting::default(), false),
    }
}

impl Token {
    /// What is known of the token's ways, by now.
    pub fn learnt(&self) -> Learnt {
        self.learnt.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same for people, with what the configuration decides.
    pub fn traits(&self) -> Vec<Trait> {
        self.learnt().traits(&self.policy)
    }

    /// Data objects were tried out.
    pub fn learn_data_objects(&self, work: bool) {
        self.learn(|learnt| learnt.data_objects = Some(work));
    }

    /// Takes a lesson, unless the operator has decided otherwise; what is new in it is logged.
    pub(super) fn learn(&self, lesson: impl FnOnce(&mut Learnt)) {
        let mut learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
        let mut after = learnt.clone();
        lesson(&mut after);
        let after = after.fixed(&self.policy);
        if *learnt == after {
            return;
        }
        let before = learnt.traits(&self.policy);
        for known in after.traits(&self.policy).into_iter().filter(|known| !before.contains(known)) {
            let level = if known.is_usual || known.is_fixed { log::Level::Debug } else { log::Level::Info };
            log::log!(level, "token {}: {known}", self.info().name());
        }
        *learnt = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pkcs11::Characters;

    #[test]
    fn what_the_operator_decides_holds_whatever_is_learnt() {
        let policy = Policy { rename: Some(true), id_length: Some(IdLength::Bytes(2)), ..Policy::default() };
        let learnt = Learnt { rename: Some(false), id_length: Some(IdLength::Bytes(20)), ..Learnt::default() };
        let fixed = learnt.fixed(&policy);
        assert_eq!((fixed.rename, fixed.id_length), (Some(true), Some(IdLength::Bytes(2))));
        let traits = fixed.traits(&policy);
        assert!(traits.iter().all(|known| known.is_fixed), "{traits:?}");
    }

    #[test]
    fn tells_how_the_configuration_says_it_where_it_can() {
        let settings = |learnt: Learnt| -> Vec<String> {
            learnt.traits(&Policy::default()).into_iter().flat_map(|known| known.settings).collect()
        };
        for (labels, expected) in [
            (Labels::AsGiven, &[][..]),
            (Labels::Short, &["label-max = 32", "label-characters = \"plain\""]),
            (Labels::Refused, &["label-max = 0"]),
            (Labels::Own, &[]),
        ] {
            assert_eq!(settings(Learnt { labels: Some(labels), ..Learnt::default() }), expected, "{labels:?}");
        }
        let edwards = Some(Shape { rung: Rung::Granted, form: EcParams::Name, sure: true });
        let learnt = Learnt {
            shapes: Shapes { edwards, ..Shapes::default() },
            id_length: Some(IdLength::Chosen),
            rename: Some(false),
            public_objects: Some(false),
            login: Some(LoginKind::None),
            tells_login: Some(false),
            refused_mechanisms: vec![MechanismType::SHA256_RSA_PKCS],
            ..Learnt::default()
        };
        let expected = [
            "template.edwards = \"granted\"",
            "ec-params = \"name\"",
            "id-length = 0",
            "rename = false",
            "store-public-key = false",
            "omit-mechanisms = [\"CKM_SHA256_RSA_PKCS\"]",
        ];
        assert_eq!(settings(learnt), expected);
    }

    #[test]
    fn labels_that_are_the_tokens_own_are_fixed_by_nothing() {
        let policy = Policy { label_max: Some(40), label_characters: Some(Characters::Plain), ..Policy::default() };
        for (labels, is_fixed) in [(Labels::Own, false), (Labels::Short, true)] {
            let learnt = Learnt { labels: Some(labels), ..Learnt::default() };
            let traits = learnt.traits(&policy);
            assert_eq!((traits.len(), traits[0].is_fixed), (1, is_fixed), "{traits:?}");
            assert_eq!(traits[0].key, is_fixed.then_some("label-max"));
        }
    }

    #[test]
    fn tells_only_what_has_shown() {
        assert_eq!(Learnt::default().traits(&Policy::default()), []);
        let mut learnt = Learnt { refused_mechanisms: vec![MechanismType::SHA256_RSA_PKCS], ..Learnt::default() };
        *learnt.shapes.of(Family::Edwards) = Some(Shape { rung: Rung::Granted, form: EcParams::Name, sure: true });
        let told: Vec<_> = learnt.traits(&Policy::default()).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "template of Edwards keys: granted",
                "Edwards curves: by their names",
                "mechanisms not used: CKM_SHA256_RSA_PKCS"
            ]
        );
    }
}
