//! What is on a token, as clients see it: pairs by their CKA_ID, with what is wrong with them.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::Arc;

use super::attribute::{self, USAGE_BITS, usage};
use super::dnskey::Dnskey;
use super::ident::{self, Identifier};
use super::object::{Object, algorithm};
use super::public_keys::PublicKeys;
use super::role::{Role, Source};
use crate::kmip::{Failure, Outcome};
use crate::pkcs11::{Class, Error, Filter, Key, KeyKind, Listed, PublicKey, Token};

/// The keys that share a CKA_ID: a pair, or what there is of one.
#[derive(Debug)]
pub struct Pair {
    /// CKA_ID; empty for the keys that have none, which are one by one.
    pub id: Vec<u8>,
    /// The private keys, as a rule one.
    pub private: Vec<Half>,
    /// The public keys, as a rule one.
    pub public: Vec<Half>,
    /// KMIP's name of the algorithm; none for a kind of key that is not served.
    pub algorithm: Option<String>,
    /// KMIP's length.
    pub length: Option<i32>,
    /// What the key is for in each of its zones, as far as can be known.
    pub roles: Vec<Role>,
    /// The algorithms that the DNSKEY record of such a key may state: several for RSA.
    pub dnskey_algorithms: Vec<u8>,
    /// What keeps clients from using it as others.
    pub oddities: Vec<String>,
}

/// A key.
#[derive(Clone, Debug)]
pub struct Half {
    /// What clients call it; none without CKA_ID.
    pub identifier: Option<String>,
    /// CKA_LABEL.
    pub label: Option<String>,
    /// Where it is.
    pub place: Place,
    /// What it may be used for, in KMIP's words.
    pub usage: Vec<String>,
    /// Its state, in KMIP's word; none for one that is not served.
    pub state: Option<String>,
}

/// Where a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// An object of its own.
    Object,
    /// What the private key's attributes tell.
    PrivateKey,
    /// A file.
    File,
}

/// What an operator names: a pair, or one half of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// CKA_ID.
    pub id: Vec<u8>,
    /// The half, if only one is meant.
    pub class: Option<Class>,
}

impl Named {
    /// Reads an identifier as clients write it, or a bare CKA_ID in hexadecimal.
    pub fn parse(text: &str) -> Option<Self> {
        let Identifier { id, class } = Identifier::parse(text).ok()?;
        (class != Some(Class::SecretKey)).then_some(Self { id, class })
    }

    /// How clients write it.
    pub fn identifier(&self) -> String {
        self.class.map_or_else(|| ident::bare(&self.id), |class| ident::format(class, &self.id))
    }
}

impl Pair {
    /// The pair in the form of clients; empty without CKA_ID.
    pub fn identifier(&self) -> String {
        ident::bare(&self.id)
    }

    /// The one private and the one public key; none where there are more or fewer.
    pub fn halves(&self) -> Option<(&Half, &Half)> {
        match (self.private.as_slice(), self.public.as_slice()) {
            ([private], [public]) => Some((private, public)),
            _ => None,
        }
    }

    /// Whether one half is missing, and cannot be told or found in a file either.
    pub fn is_orphan(&self) -> bool {
        self.private.is_empty() != self.public.is_empty()
    }

    /// Whether a half has a name of 64 hexadecimal digits, as dnst gives new keys until it knows their key tag.
    pub fn has_first_name(&self) -> bool {
        let is_first = |label: &String| label.len() == 64 && label.bytes().all(|byte| byte.is_ascii_hexdigit());
        self.private.iter().chain(&self.public).any(|half| half.label.as_ref().is_some_and(is_first))
    }
}

/// What is on the token, in the order of CKA_ID; keys without one come first.
///
/// Changes nothing. Where files may hold the public half of a key, that key signs once.
///
/// # Errors
/// The token does not list its objects.
pub fn pairs(token: &Token, files: &PublicKeys) -> Result<Vec<Pair>, Failure> {
    let mut by_id: BTreeMap<Vec<u8>, [Vec<Listed>; 2]> = BTreeMap::new();
    let mut pairs = Vec::new();
    for (index, class) in [Class::PrivateKey, Class::PublicKey].into_iter().enumerate() {
        for listed in token.list(&Filter { class: Some(class), ..Filter::default() })? {
            if listed.id.is_empty() {
                pairs.push(without_id(listed));
            } else if let Some(halves) = by_id.entry(listed.id.clone()).or_default().get_mut(index) {
                halves.push(listed);
            }
        }
    }
    for (id, [private, public]) in by_id {
        pairs.push(pair(token, files, id, &private, &public)?);
    }
    Ok(pairs)
}

fn without_id(listed: Listed) -> Pair {
    let half = Half { identifier: None, label: listed.label, place: Place::Object, usage: Vec::new(), state: None };
    let oddities = vec!["it has no CKA_ID, so clients cannot name it".to_owned()];
    let (private, public) = match listed.class {
        Class::PublicKey => (Vec::new(), vec![half]),
        _ => (vec![half], Vec::new()),
    };
    Pair {
        id: Vec::new(),
        private,
        public,
        algorithm: None,
        length: None,
        roles: Vec::new(),
        dnskey_algorithms: Vec::new(),
        oddities,
    }
}

fn pair(token: &Token, files: &PublicKeys, id: Vec<u8>, private: &[Listed], public: &[Listed]) -> Outcome<Pair> {
    let mut oddities = Vec::new();
    let private_key = only(token, Class::PrivateKey, &id, private, &mut oddities)?;
    let mut public_key = only(token, Class::PublicKey, &id, public, &mut oddities)?;
    let (mut private, mut public) = (halves(private, private_key.as_ref()), halves(public, public_key.as_ref()));
    if let (Some(private), true) = (&private_key, public.is_empty()) {
        let told = private.key.public.is_some();
        public_key = match Object::derived(token, files, &id) {
            Ok(derived) => derived,
            Err(failure) => {
                oddities.push(format!("its public key cannot be had: {failure}"));
                None
            }
        };
        public.extend(public_key.as_ref().map(|object| Half {
            identifier: Some(object.identifier()),
            label: None,
            place: if told { Place::PrivateKey } else { Place::File },
            usage: words(object),
            state: Some(attribute::state(object).to_string()),
        }));
    }
    if let (Some(one), Some(other)) = (&private_key, &public_key) {
        oddities.extend(mismatch(&one.key, &other.key));
    }
    let key = public_key.as_ref().or(private_key.as_ref()).map(|object| &object.key);
    let kind = key.map(|key| key.kind);
    let served = kind.and_then(algorithm);
    if kind.is_some() && served.is_none() {
        oddities.push("it is of a kind that is not served".to_owned());
    }
    // What the token lists twice is not one pair.
    private.truncate(MOST_SHOWN);
    public.truncate(MOST_SHOWN);
    let labels = private.iter().chain(&public).filter_map(|half| half.label.as_deref());
    let value = key.and_then(|key| key.public.as_ref());
    let roles = value.map(|value| roles(files, value, labels)).unwrap_or_default();
    Ok(Pair {
        id,
        private,
        public,
        algorithm: served.map(|(algorithm, _)| algorithm.to_string()),
        length: served.map(|(_, length)| length).filter(|length| *length > 0),
        roles,
        dnskey_algorithms: kind.map(Dnskey::algorithms_of).unwrap_or_default(),
        oddities,
    })
}

/// Keys of one class with one CKA_ID that are shown: more than two are a mistake anyway.
const MOST_SHOWN: usize = 16;

/// The key if it is the only one of its class with this CKA_ID, and can be made sense of.
fn only(
    token: &Token,
    class: Class,
    id: &[u8],
    listed: &[Listed],
    oddities: &mut Vec<String>,
) -> Outcome<Option<Object>> {
    if listed.is_empty() {
        return Ok(None);
    }
    match token.key(class, id) {
        Ok(key) => Ok(Some(Object { class, key })),
        Err(Error::Ambiguous { .. }) => {
            oddities.push(format!("{} {class} objects have this CKA_ID, so clients cannot use any", listed.len()));
            Ok(None)
        }
        Err(error @ (Error::NotFound { .. } | Error::Unsupported(_))) => {
            oddities.push(format!("its {class} object: {error}"));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn halves(listed: &[Listed], object: Option<&Object>) -> Vec<Half> {
    let half = |listed: &Listed| Half {
        identifier: Some(ident::format(listed.class, &listed.id)),
        label: listed.label.clone(),
        place: Place::Object,
        usage: object.map(words).unwrap_or_default(),
        state: object.map(|object| attribute::state(object).to_string()),
    };
    listed.iter().map(half).collect()
}

/// What a key may be used for, in KMIP's words.
fn words(object: &Object) -> Vec<String> {
    let mut usage = usage(object);
    USAGE_BITS.iter().filter(|(_, _, flag)| *flag(&mut usage)).map(|(bit, _, _)| bit.to_string()).collect()
}

/// Whether the two are no pair, though they share a CKA_ID.
fn mismatch(private: &Arc<Key>, public: &Arc<Key>) -> Option<String> {
    let differ = match (&private.public, &public.public) {
        (Some(told), Some(kept)) => told != kept,
        _ => match (private.kind, public.kind) {
            (KeyKind::Rsa { bits: 0 }, KeyKind::Rsa { .. }) => false,
            (one, other) => one != other,
        },
    };
    differ.then(|| "the public key is not that of the private key, though their CKA_ID is the same".to_owned())
}

/// What files say of the key, which several zones may share, else what dnst's name for it says.
fn roles<'l>(files: &PublicKeys, key: &PublicKey, mut labels: impl Iterator<Item = &'l str>) -> Vec<Role> {
    let mut roles: Vec<Role> = Vec::new();
    for record in files.records_of(key) {
        let zone_has_zsk = files.records().any(|other| other.owner == record.owner && !other.is_entry_point());
        let role = Role::of_record(record, zone_has_zsk, Source::File);
        if !roles.contains(&role) {
            roles.push(role);
        }
    }
    if roles.is_empty() {
        roles.extend(labels.find_map(|label| Role::of_label(label, key)));
    }
    roles
}
