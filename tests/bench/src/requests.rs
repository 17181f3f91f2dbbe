//! The requests, made once and sent over and over, and what a good answer to one looks like.

use crate::direct::Operation;
use crate::support::key::{ecdsa_sha_256, parameters, rsa_sha_256, sign_item, unique_identifier};
use crate::support::tags::{self, algorithm, hash, operation};
use crate::support::ttlv::{Node, enumeration};
use crate::support::{Bridge, Client, Item, KeySpec, Request, Token};

/// A Result Status of Success as it stands in an answer.
const SUCCESS: [u8; 16] = [0x42, 0, 0x7f, 5, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0];

/// Bytes that are signed: a small RRset in its signed form.
const DATA: [u8; 64] = [0x5a; 64];

/// A request and its counterpart in PKCS#11.
#[derive(Clone)]
pub struct Ask {
    pub name: String,
    pub message: Vec<u8>,
    /// Batch items in it.
    pub items: usize,
    pub direct: Option<Operation>,
}

/// A key on the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    P256,
    P384,
    Rsa2048,
    Ed25519,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::P256, Kind::P384, Kind::Rsa2048, Kind::Ed25519];

    pub fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::Rsa2048 => "RSA-2048",
            Self::Ed25519 => "Ed25519",
        }
    }

    fn spec(self) -> KeySpec {
        match self {
            Self::P256 => KeySpec::ecdsa(256),
            Self::P384 => KeySpec::ecdsa(384),
            Self::Rsa2048 => KeySpec::rsa(2048),
            Self::Ed25519 => KeySpec::new(algorithm::ED25519, None, None),
        }
    }

    fn parameters(self) -> Node {
        match self {
            Self::P256 => ecdsa_sha_256(),
            Self::P384 => parameters(None, Some(hash::SHA_384), Some(algorithm::ECDSA)),
            Self::Rsa2048 => rsa_sha_256(),
            Self::Ed25519 => parameters(None, None, Some(algorithm::ED25519)),
        }
    }
}

/// Keys on the token, one of each kind, with what their requests have in common.
pub struct Asks {
    login: (String, String),
    keys: Vec<(Kind, String, String)>,
}

impl Asks {
    /// Without keys.
    pub fn without_keys(token: &Token) -> Asks {
        Asks { login: (token.label.clone(), token.pin.clone()), keys: Vec::new() }
    }

    /// Has the bridge make the keys.
    pub fn make(bridge: &Bridge, token: &Token, kinds: &[Kind]) -> Asks {
        let mut client = Client::connect(bridge, token);
        let make = |kind: &Kind| {
            let pair = client.create_key_pair(&kind.spec().named(kind.name()));
            (*kind, pair.private, pair.public)
        };
        Asks { keys: kinds.iter().map(make).collect(), ..Asks::without_keys(token) }
    }

    /// The keys that the fake module always has.
    pub fn of_fake_module() -> Asks {
        let key = |kind, id: &str| (kind, format!("{id}_priv"), format!("{id}_pub"));
        let keys =
            vec![key(Kind::Rsa2048, "01"), key(Kind::P256, "02"), key(Kind::P384, "03"), key(Kind::Ed25519, "04")];
        Asks { login: ("fake".to_owned(), "1234".to_owned()), keys }
    }

    /// A batch of so many signatures.
    pub fn sign(&self, kind: Kind, items: usize) -> Ask {
        let (private, _) = self.key(kind);
        let item = sign_item(private, kind.parameters(), &DATA);
        let id = private.trim_end_matches("_priv").to_owned();
        let direct = match kind {
            Kind::P256 => Operation::Ecdsa256(id),
            Kind::P384 => Operation::Ecdsa384(id),
            Kind::Rsa2048 => Operation::Rsa(id),
            Kind::Ed25519 => Operation::Eddsa(id),
        };
        let name = format!("Sign {}", kind.name());
        self.ask(if items == 1 { name } else { format!("{name}, batch of {items}") }, item, items, Some(direct))
    }

    /// A signature with the P-256 key that has this CKA_ID.
    pub fn sign_with(&self, id: &[u8]) -> Ask {
        let id: String = id.iter().map(|byte| format!("{byte:02X}")).collect();
        let item = sign_item(&format!("{id}_priv"), ecdsa_sha_256(), &DATA);
        self.ask("Sign P-256".to_owned(), item, 1, Some(Operation::Ecdsa256(id)))
    }

    /// Get of a public key.
    pub fn get(&self, kind: Kind) -> Ask {
        let (private, public) = self.key(kind);
        let id = private.trim_end_matches("_priv").to_owned();
        let item = Item::new(operation::GET, vec![unique_identifier(public)]);
        self.ask("Get".to_owned(), item, 1, Some(Operation::Attributes(id)))
    }

    /// What Cascade asks for first.
    pub fn query(&self) -> Ask {
        let functions = [1, 2, 3].map(|function| enumeration(tags::QUERY_FUNCTION, function));
        self.ask("Query".to_owned(), Item::new(operation::QUERY, functions.to_vec()), 1, None)
    }

    /// A P-256 key pair.
    pub fn create_key_pair(&self) -> Ask {
        let item = KeySpec::ecdsa(256).named("made").item();
        self.ask("Create Key Pair".to_owned(), item, 1, Some(Operation::Generate))
    }

    fn key(&self, kind: Kind) -> (&str, &str) {
        let (_, private, public) = self.keys.iter().find(|(known, ..)| *known == kind).expect("a key of the kind");
        (private, public)
    }

    fn ask(&self, name: String, item: Item, items: usize, direct: Option<Operation>) -> Ask {
        let number = |at: usize| u128::try_from(at).expect("a number").to_be_bytes();
        let batch = match items {
            1 => vec![item],
            _ => (0..items).map(|at| item.clone().with_id(&number(at))).collect(),
        };
        let mut request = Request::new(batch);
        request.login = Some(self.login.clone());
        Ask { name, message: request.encode(), items, direct }
    }
}

/// Whether each of so many items succeeded.
pub fn is_success(answer: &[u8], items: usize) -> bool {
    // Items begin at multiples of eight bytes.
    let words = answer.chunks_exact(8);
    let pairs = words.clone().zip(words.skip(1));
    pairs.filter(|(first, second)| *first == &SUCCESS[..8] && *second == &SUCCESS[8..]).count() == items
}
