//! The tables `[[token]]`: which tokens each is about, how the bridge logs in to them, and how else they are treated.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use serde::Deserialize;

use super::hidden::Hidden;
use super::key_template::{self, Template};
use super::keys;
use super::written::{Entry, Written, quoted};
use crate::bridge::access::{Login, Source, TokenSettings};
use crate::pkcs11::{Characters, EcParams, IdLength, LoginKind, Match, Pattern, Policy, Rung, Rungs, mechanism_named};

/// `[[token]]` as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Token {
    name: Option<String>,
    #[serde(rename = "match")]
    meant: Option<Meant>,
    login: Option<String>,
    pin: Option<Hidden>,
    pin_file: Option<PathBuf>,
    credential: Option<String>,
    max_sessions: Option<i64>,
    serialize: Option<bool>,
    id_length: Option<i64>,
    label_max: Option<i64>,
    label_characters: Option<String>,
    rename: Option<bool>,
    store_public_key: Option<bool>,
    data_objects: Option<bool>,
    template: Option<toml::Value>,
    ec_params: Option<String>,
    omit_mechanisms: Option<Vec<String>>,
    key_template: Option<Template>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Meant {
    label: Option<String>,
    serial: Option<String>,
    manufacturer: Option<String>,
    model: Option<String>,
}

/// What the tables say.
#[derive(Default)]
pub(super) struct Read {
    /// How to log in.
    pub(super) logins: Vec<TokenSettings>,
    /// How to treat them.
    pub(super) policies: Vec<(Match, Policy)>,
    /// Whether calls come one at a time.
    pub(super) serialize: bool,
}

/// Reads them all.
pub(super) fn read(w: &mut Written<'_>) -> Read {
    let mut read = Read::default();
    for Entry { subject, line, value } in w.tables::<Token>("token") {
        match token(value) {
            Ok(token) if read.policies.iter().any(|(other, _)| *other == token.meant) => {
                w.problem_at(&subject, line, format!("there is another token {}", of_which(&token.meant)));
            }
            Ok(Judged { meant, login, policy, serialize }) => {
                read.logins.extend(login.map(|login| TokenSettings { meant: meant.clone(), login }));
                read.policies.push((meant, policy));
                read.serialize |= serialize;
            }
            Err(what) => w.problem_at(&subject, line, what),
        }
    }
    read
}

/// One table, every value in range.
struct Judged {
    meant: Match,
    login: Option<Login>,
    policy: Policy,
    serialize: bool,
}

fn token(written: Token) -> Result<Judged, String> {
    let meant = meant(written.name, written.meant)?;
    let login = login(written.login.as_deref(), written.pin, written.pin_file, written.credential)?;
    let kind = login.as_ref().map(|login| match login {
        Login::None => LoginKind::None,
        Login::ProtectedPath => LoginKind::ProtectedPath,
        Login::Kept(_) | Login::Sent => LoginKind::User,
    });
    let words = |key: &str, words: &[&str]| {
        format!("{key} is not one of {}", words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", "))
    };
    let word = |key: &str, written: Option<String>, known: &[&'static str]| match written {
        None => Ok(None),
        Some(word) => match known.iter().find(|other| **other == word) {
            Some(word) => Ok(Some(*word)),
            None => Err(words(key, known)),
        },
    };
    let mechanisms = written.omit_mechanisms.unwrap_or_default();
    let policy = Policy {
        login: kind,
        max_sessions: number(
            "max-sessions",
            written.max_sessions,
            (keys::MAX_SESSIONS.least, keys::MAX_SESSIONS.most),
        )?,
        id_length: number("id-length", written.id_length, (0, keys::ID_LENGTH.most))?.map(|length| match length {
            0 => IdLength::Chosen,
            length => IdLength::Bytes(size(length)),
        }),
        label_max: number("label-max", written.label_max, (0, LONGEST_LABEL))?.map(size),
        label_characters: word("label-characters", written.label_characters, &["any", "plain"])?.map(
            |word| match word {
                "plain" => Characters::Plain,
                _ => Characters::Any,
            },
        ),
        rename: written.rename,
        store_public_key: written.store_public_key,
        template: written.template.map(|template| rungs(&template)).transpose()?.unwrap_or_default(),
        ec_params: word("ec-params", written.ec_params, &["name", "oid"])?.map(|word| match word {
            "name" => EcParams::Name,
            _ => EcParams::Oid,
        }),
        key_template: key_template::read(written.key_template.unwrap_or_default())?,
        omit_mechanisms: mechanisms
            .iter()
            .map(|name| {
                mechanism_named(name)
                    .ok_or_else(|| format!("omit-mechanisms: there is no mechanism {} here", quoted(name)))
            })
            .collect::<Result<_, _>>()?,
        data_objects: written.data_objects,
    };
    Ok(Judged { meant, login, policy, serialize: written.serialize.unwrap_or(false) })
}

/// `template`: a word, or one for each family of keys.
fn rungs(written: &toml::Value) -> Result<Rungs, String> {
    let rung = |key: &str, word: &toml::Value| {
        let found = Rung::WORDS.iter().find(|(known, _)| word.as_str() == Some(*known)).map(|(_, rung)| *rung);
        found.ok_or_else(|| {
            let known: Vec<_> = Rung::WORDS.iter().map(|(word, _)| quoted(word)).collect();
            format!("{key} is not one of {}", known.join(", "))
        })
    };
    let toml::Value::Table(families) = written else { return Ok(Rungs::all(rung("template", written)?)) };
    let mut rungs = Rungs::default();
    for (family, word) in families {
        let of_family = match family.as_str() {
            "rsa" => &mut rungs.rsa,
            "ec" => &mut rungs.ec,
            "edwards" => &mut rungs.edwards,
            _ => return Err(format!("template: {} is not one of \"rsa\", \"ec\", \"edwards\"", quoted(family))),
        };
        *of_family = Some(rung(&format!("template.{family}"), word)?);
    }
    Ok(rungs)
}

/// Bytes of the longest label that may be allowed: names have no more.
const LONGEST_LABEL: u32 = 1024;

fn meant(name: Option<String>, fields: Option<Meant>) -> Result<Match, String> {
    if name.as_ref().is_some_and(|name| name.trim().is_empty()) {
        return Err("name is empty".to_owned());
    }
    if name.is_none() && fields.is_none() {
        return Err("has to have a name or match".to_owned());
    }
    let pattern = |field: Option<String>| field.map(Pattern::new);
    Ok(match fields {
        None => Match { name, ..Match::default() },
        Some(Meant { label, serial, manufacturer, model }) => Match {
            name,
            label: pattern(label),
            serial: pattern(serial),
            manufacturer: pattern(manufacturer),
            model: pattern(model),
        },
    })
}

fn of_which(meant: &Match) -> String {
    match &meant.name {
        Some(name) => quoted(name),
        None => "with the same match".to_owned(),
    }
}

fn login(
    word: Option<&str>,
    pin: Option<Hidden>,
    pin_file: Option<PathBuf>,
    credential: Option<String>,
) -> Result<Option<Login>, String> {
    let source = match (pin, source(pin_file, credential, "pin-file")?) {
        (Some(_), Some(_)) => return Err("pin is there, and pin-file or credential too".to_owned()),
        (Some(Hidden(pin)), None) if pin.expose().is_empty() => return Err("pin is empty".to_owned()),
        (Some(Hidden(pin)), None) => Some(Source::Here(pin)),
        (None, source) => source,
    };
    match (word, source) {
        (None | Some("user"), Some(source)) => Ok(Some(Login::Kept(source))),
        (Some("user"), None) => Ok(Some(Login::Sent)),
        (None, None) => Ok(None),
        (Some("none"), None) => Ok(Some(Login::None)),
        (Some("protected-path"), None) => Ok(Some(Login::ProtectedPath)),
        (Some(word @ ("none" | "protected-path")), Some(_)) => Err(format!("login = \"{word}\" needs no PIN")),
        (Some(other), _) => {
            Err(format!("login: {} is not one of \"user\", \"none\", \"protected-path\"", quoted(other)))
        }
    }
}

/// Where a secret is that does not stand in the configuration itself.
pub(super) fn source(file: Option<PathBuf>, credential: Option<String>, name: &str) -> Result<Option<Source>, String> {
    match (file, credential) {
        (Some(_), Some(_)) => Err(format!("{name} and credential are both there")),
        (Some(path), None) if path.is_absolute() => Ok(Some(Source::File(path))),
        (Some(path), None) => Err(format!("{name}: {} is not an absolute path", quoted(&path.to_string_lossy()))),
        (None, Some(name)) if name.is_empty() || name.contains('/') || name.starts_with('.') => {
            Err(format!("credential: {} is not a name", quoted(&name)))
        }
        (None, Some(name)) => Ok(Some(Source::Credential(name))),
        (None, None) => Ok(None),
    }
}

fn number(key: &str, written: Option<i64>, (least, most): (u32, u32)) -> Result<Option<u32>, String> {
    let Some(number) = written else { return Ok(None) };
    let found = u32::try_from(number).ok().filter(|number| (least..=most).contains(number));
    found.map(Some).ok_or_else(|| format!("{key}: {number} is not between {least} and {most}"))
}

fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pkcs11::TokenInfo;

    fn read_all(text: &str) -> (Read, Vec<String>) {
        let mut written = Written::parse(text);
        let read = read(&mut written);
        (read, written.problems.iter().map(ToString::to_string).collect())
    }

    fn problem(text: &str) -> String {
        let (_, mut problems) = read_all(text);
        assert_eq!(problems.len(), 1, "{text}: {problems:?}");
        problems.remove(0)
    }

    #[test]
    fn reads_what_is_decided_for_tokens() {
        let (read, problems) = read_all(
            r#"
            [[token]]
            name = "signer"
            pin = "1234"
            max-sessions = 8
            id-length = 0
            serialize = true
            [[token]]
            match = { manufacturer = "Vendor*", model = "M?" }
            login = "protected-path"
            id-length = 2
            label-max = 40
            label-characters = "plain"
            rename = false
            store-public-key = false
            data-objects = true
            template = "granted"
            ec-params = "name"
            omit-mechanisms = ["CKM_SHA256_RSA_PKCS"]
            [token.key-template.private]
            add = { CKA_MODIFIABLE = false, CKA_START_DATE = "20260101", "0x80000001" = "0x0aff", CKA_DERIVE = true }
            omit = ["CKA_UNWRAP"]
            [token.key-template.ec.public]
            omit = ["CKA_ENCRYPT", "CKA_WRAP"]
            "#,
        );
        assert_eq!(problems, Vec::<String>::new());
        assert!(read.serialize);
        assert_eq!(read.logins.len(), 2);
        assert!(matches!(&read.logins[0].login, Login::Kept(Source::Here(pin)) if pin.expose() == "1234"));
        let token = |manufacturer: &str, label: &str| TokenInfo {
            manufacturer: manufacturer.into(),
            model: "M1".into(),
            label: label.into(),
            ..TokenInfo::default()
        };
        let one = Policy::of(&read.policies, &token("Vendor Inc", "signer"));
        assert_eq!(
            (one.login, one.max_sessions, one.id_length),
            (Some(LoginKind::User), Some(8), Some(IdLength::Chosen))
        );
        // What the first does not say, the second does.
        assert_eq!((one.label_max, one.rename), (Some(40), Some(false)));
        let other = Policy::of(&read.policies, &token("Vendor Inc", "x"));
        assert_eq!((other.login, other.id_length), (Some(LoginKind::ProtectedPath), Some(IdLength::Bytes(2))));
        assert_eq!((other.template, other.ec_params), (Rungs::all(Rung::Granted), Some(EcParams::Name)));
        let private = &other.key_template.all.private;
        let date = (0x110, b"20260101".to_vec());
        assert!(private.add.contains(&(0x170, vec![0])) && private.add.contains(&date), "{private:?}");
        assert!(private.add.contains(&(0x8000_0001, vec![0x0a, 0xff])));
        assert_eq!((private.omit.as_slice(), other.key_template.ec.public.omit.len()), (&[0x107][..], 2));
        assert_eq!(Policy::of(&read.policies, &token("Other", "x")), Policy::default());
    }

    #[test]
    fn a_template_is_for_all_keys_or_for_those_of_a_family() {
        let (read, problems) = read_all(
            "[[token]]\nname = 'signer'\ntemplate.rsa = 'granted'\n[[token]]\nmatch = {}\ntemplate = 'least'\n",
        );
        assert_eq!(problems, Vec::<String>::new());
        let of = |label: &str| Policy::of(&read.policies, &TokenInfo { label: label.into(), ..TokenInfo::default() });
        assert_eq!(of("signer").template, Rungs { rsa: Some(Rung::Granted), ..Rungs::all(Rung::Least) });
        assert_eq!(of("other").template, Rungs::all(Rung::Least));
    }

    #[test]
    fn refuses_what_contradicts_itself_or_means_nothing() {
        for (entry, expected) in [
            ("pin = '1'", "has to have a name or match"),
            ("name = ' '", "name is empty"),
            ("name = 'a'\npin = '1'\npin-file = '/p'", "pin is there, and pin-file or credential too"),
            ("name = 'a'\npin = ''", "pin is empty"),
            ("name = 'a'\nlogin = 'none'\npin = '1'", "login = \"none\" needs no PIN"),
            ("name = 'a'\nlogin = 'maybe'", "login: \"maybe\" is not one of \"user\", \"none\", \"protected-path\""),
            ("name = 'a'\nid-length = 65", "id-length: 65 is not between 0 and 64"),
            ("name = 'a'\nlabel-max = -1", "label-max: -1 is not between 0 and 1024"),
            ("name = 'a'\ntemplate = 1", "template is not one of \"full\", \"granted\", "),
            ("name = 'a'\ntemplate.rsa = 'x'", "template.rsa is not one of \"full\", \"granted\", "),
            ("name = 'a'\ntemplate.dsa = 'full'", "template: \"dsa\" is not one of \"rsa\", \"ec\", \"edwards\""),
            ("name = 'a'\nec-params = 'x'", "ec-params is not one of \"name\", \"oid\""),
            ("name = 'a'\nomit-mechanisms = ['CKM_X']", "omit-mechanisms: there is no mechanism \"CKM_X\" here"),
            (
                "name = 'a'\nkey-template.public.add.CKA_ID = '1'",
                "key-template: \"CKA_ID\" comes from the client or from other keys",
            ),
            ("name = 'a'\nkey-template.public.omit = ['CKA_X']", "key-template: there is no attribute \"CKA_X\" here"),
            (
                "name = 'a'\nkey-template.rsa.private.add.CKA_SUBJECT = '0xabc'",
                "key-template: the value of \"CKA_SUBJECT\" is no true or false, number or text",
            ),
            ("match = {}\n[[token]]\nmatch = {}", "there is another token with the same match"),
        ] {
            let found = problem(&format!("[[token]]\n{entry}\n"));
            assert!(found.contains(expected), "{entry}: {found}");
        }
    }

    #[test]
    fn a_pin_is_in_no_message_whatever_is_wrong_with_it() {
        for value in ["73915", "73915.5", "[73915]", "{ x = 73915 }", "0x120bb", "true"] {
            let found = problem(&format!("[[token]]\nname = 'a'\npin = {value}\n"));
            assert!(!found.contains("73915") && !found.contains("true"), "{found}");
        }
        let (read, _) = read_all("[[token]]\nname = 'a'\npin = '73915'\n");
        assert!(!format!("{:?}", read.logins).contains("73915"));
    }
}
