//! What a token turned out to need. It is learnt at first use and kept as long as the program runs; what the operator decides is
//! not learnt but holds.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::PoisonError;

use cryptoki::mechanism::MechanismType;

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
        for shape in [&mut self.shapes.rsa, &mut self.shapes.ec, &mut self.shapes.edwards].into_iter().flatten() {
            shape.rung = policy.template.unwrap_or(shape.rung);
            shape.form = policy.ec_params.unwrap_or(shape.form);
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
        let mut add = |what, value: String, key, is_fixed, is_usual| {
            traits.push(Trait { what, value, key, is_fixed, is_usual });
        };
        if let Some(login) = self.login {
            let value = match login {
                LoginKind::User => "by the user PIN",
                LoginKind::None => "none",
                LoginKind::ProtectedPath => "at the token itself",
            };
            add("login", value.to_owned(), Some("login"), policy.login.is_some(), login == LoginKind::User);
        }
        if let Some(tells) = self.tells_login {
            let value = if tells { "told by its sessions" } else { "not told by its sessions" };
            add("state of the login", value.to_owned(), None, false, tells);
        }
        if self.logs_in_each == Some(true) {
            add("sessions", "each with a login of its own".to_owned(), None, false, false);
        }
        for (what, shape) in [
            ("template of RSA keys", self.shapes.rsa),
            ("template of ECDSA keys", self.shapes.ec),
            ("template of Edwards keys", self.shapes.edwards),
        ] {
            if let Some(shape) = shape {
                let value = shape.rung.word().to_owned() + if shape.sure { "" } else { ", perhaps" };
                add(what, value, Some("template"), policy.template.is_some(), shape.rung == Rung::Full);
            }
        }
        if let Some(shape) = self.shapes.edwards {
            let (value, is_usual) = match shape.form {
                EcParams::Oid => ("by their object identifiers", true),
                EcParams::Name => ("by their names", false),
            };
            add("Edwards curves", value.to_owned(), Some("ec-params"), policy.ec_params.is_some(), is_usual);
        }
        if let Some(length) = self.id_length {
            // Whatever random length was taken at the first try is as good as another.
            let is_usual = matches!(length, IdLength::Bytes(16..));
            add("CKA_ID of new keys", length.to_string(), Some("id-length"), policy.id_length.is_some(), is_usual);
        }
        if let Some(labels) = self.labels {
            let value = match labels {
                Labels::AsGiven => "kept as given",
                Labels::Short => "taken if short and plain",
                Labels::Refused => "not taken with new keys",
                Labels::Own => "the token's own",
            };
            let is_fixed = policy.label_max.is_some() || policy.label_characters.is_some();
            add("labels", value.to_owned(), Some("label-max"), is_fixed, labels == Labels::AsGiven);
        }
        if let Some(rename) = self.rename {
            let value = if rename { "can be changed" } else { "cannot be changed" };
            add("labels of keys that are there", value.to_owned(), Some("rename"), policy.rename.is_some(), rename);
        }
        if let Some(stored) = self.public_objects {
            let value = if stored { "stored" } else { "not stored" };
            let is_fixed = policy.store_public_key.is_some();
            add("public keys", value.to_owned(), Some("store-public-key"), is_fixed, stored);
        }
        if let Some(work) = self.data_objects {
            let value = if work { "work" } else { "do not work" };
            add("data objects", value.to_owned(), Some("data-objects"), policy.data_objects.is_some(), work);
        }
        let refused: Vec<_> = policy.omit_mechanisms.iter().chain(&self.refused_mechanisms).copied().collect();
        if !refused.is_empty() {
            let names: Vec<_> = refused.iter().map(|mechanism| mechanism_name(*mechanism)).collect();
            let is_fixed = self.refused_mechanisms.is_empty();
            add("mechanisms not used", names.join(", "), Some("omit-mechanisms"), is_fixed, false);
        }
        traits
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
