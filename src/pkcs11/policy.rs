//! What the operator decides for single tokens: which ones an entry means, and how they are treated.
#![forbid(unsafe_code)]

use std::fmt;

use cryptoki::mechanism::MechanismType;

use super::slot::{TokenInfo, is_called};
use super::template::{Family, Rung};

/// Which tokens are meant: those for which all that is given holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Label, serial number or slot id, as clients name a token.
    pub name: Option<String>,
    /// CK_TOKEN_INFO's label.
    pub label: Option<Pattern>,
    /// Its serialNumber.
    pub serial: Option<Pattern>,
    /// Its manufacturerID.
    pub manufacturer: Option<Pattern>,
    /// Its model.
    pub model: Option<Pattern>,
}

impl Match {
    /// Whether the token is among those meant.
    pub fn fits(&self, token: &TokenInfo) -> bool {
        let fits = |pattern: &Option<Pattern>, field: &str| pattern.as_ref().is_none_or(|pattern| pattern.fits(field));
        self.name.as_deref().is_none_or(|name| is_called(token, name))
            && fits(&self.label, &token.label)
            && fits(&self.serial, &token.serial)
            && fits(&self.manufacturer, &token.manufacturer)
            && fits(&self.model, &token.model)
    }
}

/// Text with `*` for any characters and `?` for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// The pattern that is written so.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether the pattern describes the whole of `text`.
    pub fn fits(&self, text: &str) -> bool {
        let (pattern, text): (Vec<char>, Vec<char>) = (self.0.chars().collect(), text.chars().collect());
        let (mut at, mut from) = (0_usize, 0_usize);
        // The last star, and how much of the text it stands for: tried longer when what follows does not fit.
        let mut star: Option<(usize, usize)> = None;
        while let Some(c) = text.get(from) {
            match pattern.get(at) {
                Some('*') => {
                    star = Some((at, from));
                    at = at.saturating_add(1);
                }
                Some(p) if *p == '?' || p == c => {
                    at = at.saturating_add(1);
                    from = from.saturating_add(1);
                }
                _ => {
                    let Some((place, taken)) = star else { return false };
                    star = Some((place, taken.saturating_add(1)));
                    at = place.saturating_add(1);
                    from = taken.saturating_add(1);
                }
            }
        }
        pattern.iter().skip(at).all(|c| *c == '*')
    }
}

/// How a token is treated. What is `None` is learnt from the token, or the general setting holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// How to log in; by the PIN that a client sends or the operator keeps, unless this says otherwise.
    pub login: Option<LoginKind>,
    /// Most sessions open at once.
    pub max_sessions: Option<u32>,
    /// CKA_ID of new keys.
    pub id_length: Option<IdLength>,
    /// Bytes of the longest label; with 0, none are given.
    pub label_max: Option<usize>,
    /// Whether labels may hold more than letters, digits, dots and hyphens.
    pub label_characters: Option<Characters>,
    /// Whether labels can be changed.
    pub rename: Option<bool>,
    /// Whether the public key of a new pair is kept as an object of its own.
    pub store_public_key: Option<bool>,
    /// How much is said of new keys.
    pub template: Rungs,
    /// How an Edwards curve is named.
    pub ec_params: Option<EcParams>,
    /// What is said of new keys beside or instead of what is usual.
    pub key_template: KeyTemplate,
    /// Mechanisms that the token lists, but that are not to be used.
    pub omit_mechanisms: Vec<MechanismType>,
    /// Whether data objects work.
    pub data_objects: Option<bool>,
}

impl Policy {
    /// What `entries` say of a token: each setting from the first that fits it and has that setting.
    pub fn of(entries: &[(Match, Self)], token: &TokenInfo) -> Self {
        let fitting = entries.iter().filter(|(meant, _)| meant.fits(token));
        fitting.fold(Self::default(), |policy, (_, other)| policy.or(other.clone()))
    }

    fn or(self, other: Self) -> Self {
        Self {
            login: self.login.or(other.login),
            max_sessions: self.max_sessions.or(other.max_sessions),
            id_length: self.id_length.or(other.id_length),
            label_max: self.label_max.or(other.label_max),
            label_characters: self.label_characters.or(other.label_characters),
            rename: self.rename.or(other.rename),
            store_public_key: self.store_public_key.or(other.store_public_key),
            template: self.template.or(other.template),
            ec_params: self.ec_params.or(other.ec_params),
            key_template: if self.key_template.is_empty() { other.key_template } else { self.key_template },
            omit_mechanisms: if self.omit_mechanisms.is_empty() { other.omit_mechanisms } else { self.omit_mechanisms },
            data_objects: self.data_objects.or(other.data_objects),
        }
    }
}

/// How much is said of new keys of each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rungs {
    /// RSA.
    pub rsa: Option<Rung>,
    /// The NIST curves.
    pub ec: Option<Rung>,
    /// Edwards curves.
    pub edwards: Option<Rung>,
}

impl Rungs {
    /// The same for every kind of key.
    pub fn all(rung: Rung) -> Self {
        Self { rsa: Some(rung), ec: Some(rung), edwards: Some(rung) }
    }

    pub(super) fn of(self, family: Family) -> Option<Rung> {
        match family {
            Family::Rsa => self.rsa,
            Family::Ec => self.ec,
            Family::Edwards => self.edwards,
        }
    }

    fn or(self, other: Self) -> Self {
        Self { rsa: self.rsa.or(other.rsa), ec: self.ec.or(other.ec), edwards: self.edwards.or(other.edwards) }
    }
}

/// How a token is logged in to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoginKind {
    /// With the user PIN.
    #[default]
    User,
    /// Not at all: the module keeps the PIN, or there is none.
    None,
    /// With a PIN that is typed at the token itself (CKF_PROTECTED_AUTHENTICATION_PATH).
    ProtectedPath,
}

/// How the CKA_ID of a new key comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdLength {
    /// So many random bytes, 1 or more.
    Bytes(usize),
    /// The token chooses.
    Chosen,
}

impl fmt::Display for IdLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(length) => write!(f, "{length} bytes"),
            Self::Chosen => f.write_str("chosen by the token"),
        }
    }
}

/// What labels may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Characters {
    /// All of UTF-8.
    Any,
    /// ASCII letters, digits, dots and hyphens; others become hyphens.
    Plain,
}

/// How CKA_EC_PARAMS names an Edwards curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EcParams {
    /// By its name, in a PrintableString.
    Name,
    /// By its object identifier.
    Oid,
}

/// What is added to the templates of new keys, and what is left out of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyTemplate {
    /// For every kind of key.
    pub all: Halves,
    /// For RSA, after that.
    pub rsa: Halves,
    /// For the NIST curves, after that.
    pub ec: Halves,
    /// For Edwards curves, after that.
    pub edwards: Halves,
}

impl KeyTemplate {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What is said for every kind of key, then what is said for this one.
    pub(super) fn of(&self, family: Family) -> [&Halves; 2] {
        let own = match family {
            Family::Rsa => &self.rsa,
            Family::Ec => &self.ec,
            Family::Edwards => &self.edwards,
        };
        [&self.all, own]
    }
}

/// The same for each half of a pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Halves {
    /// The public key.
    pub public: Changed,
    /// The private key.
    pub private: Changed,
}

/// Attributes by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Added, or put in the place of what is usual, with the bytes of their values.
    pub add: Vec<(u64, Vec<u8>)>,
    /// Left out.
    pub omit: Vec<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, text: &str) -> bool {
        Pattern::new(pattern).fits(text)
    }

    #[test]
    fn a_star_is_any_text_and_a_question_mark_one_character() {
        for (pattern, text) in [
            ("", ""),
            ("*", ""),
            ("*", "all of it"),
            ("Nitrokey*", "Nitrokey GmbH"),
            ("*HSM*", "SmartCard-HSM (UserPIN)"),
            ("a*b*c", "abbbc"),
            ("a*bc", "abcbc"),
            ("?ey", "key"),
            ("\u{e9}?", "\u{e9}\u{e9}"),
            ("**x", "x"),
        ] {
            assert!(fits(pattern, text), "{pattern:?} {text:?}");
        }
        for (pattern, text) in [("", "a"), ("?", ""), ("a*b", "abc"), ("key", "Key"), ("a?c", "ac"), ("*?", "")] {
            assert!(!fits(pattern, text), "{pattern:?} {text:?}");
        }
    }

    #[test]
    fn many_stars_take_no_endless_time() {
        assert!(!fits(&"*a".repeat(50), &"a".repeat(2000).replace('a', "ab")));
    }

    fn token() -> TokenInfo {
        TokenInfo {
            slot_id: 7,
            label: "signer".into(),
            serial: "00ff".into(),
            manufacturer: "Vendor".into(),
            model: "M1".into(),
            ..TokenInfo::default()
        }
    }

    #[test]
    fn a_token_is_meant_by_all_that_is_said_of_it() {
        let named = |name: &str| Match { name: Some(name.into()), ..Match::default() };
        for name in ["signer", "00ff", "7", "0x7"] {
            assert!(named(name).fits(&token()), "{name}");
        }
        assert!(!named("8").fits(&token()) && Match::default().fits(&token()));
        let both = |model: &str| Match {
            label: Some(Pattern::new("sign*")),
            model: Some(Pattern::new(model)),
            ..Match::default()
        };
        assert!(both("M?").fits(&token()) && !both("M2").fits(&token()));
    }

    #[test]
    fn each_setting_comes_from_the_first_entry_that_has_it() {
        let entry = |name: &str, policy| (Match { name: Some(name.into()), ..Match::default() }, policy);
        let entries = [
            entry("other", Policy { label_max: Some(1), ..Policy::default() }),
            entry("signer", Policy { max_sessions: Some(2), ..Policy::default() }),
            (Match::default(), Policy { max_sessions: Some(3), label_max: Some(4), ..Policy::default() }),
        ];
        let policy = Policy::of(&entries, &token());
        assert_eq!((policy.max_sessions, policy.label_max, policy.rename), (Some(2), Some(4), None));
    }
}
