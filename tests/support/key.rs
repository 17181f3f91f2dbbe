//! Key pairs through KMIP: what is asked for, what is done with them.

use super::client::Client;
use super::hsm::{Hsm, skipped};
use super::message::{Item, attribute, name_attribute};
use super::openssl::PublicKey;
use super::scratch::Scratch;
use super::tags::{self, algorithm, format, hash, operation, padding, usage};
use super::token::Token;
use super::ttlv::{Node, Value, bytes, enumeration, integer, structure, text};

/// What to ask of Create Key Pair.
pub struct KeySpec {
    pub algorithm: u32,
    pub length: Option<i32>,
    pub curve: Option<u32>,
    pub private_name: String,
    pub public_name: String,
}

/// The identifiers of the two halves.
#[derive(Clone, Debug)]
pub struct KeyPair {
    pub private: String,
    pub public: String,
}

impl KeySpec {
    pub fn rsa(bits: i32) -> KeySpec {
        KeySpec::new(algorithm::RSA, Some(bits), None)
    }

    pub fn ecdsa(bits: i32) -> KeySpec {
        KeySpec::new(algorithm::ECDSA, Some(bits), None)
    }

    pub fn new(algorithm: u32, length: Option<i32>, curve: Option<u32>) -> KeySpec {
        let (private_name, public_name) = ("example-pri".to_string(), "example-pub".to_string());
        KeySpec { algorithm, length, curve, private_name, public_name }
    }

    pub fn named(mut self, name: &str) -> KeySpec {
        self.private_name = format!("{name}-pri");
        self.public_name = format!("{name}-pub");
        self
    }

    /// A key of the kind that a token makes fastest, where the kind does not matter.
    pub fn any(token: &Token) -> KeySpec {
        let spec = KeySpec::ecdsa(256);
        if token.makes(&spec) { spec } else { KeySpec::rsa(1024) }
    }

    /// Keys of every algorithm of Cascade's that the token has, small ones.
    pub fn each(token: &Token) -> Vec<KeySpec> {
        let mut specs = vec![KeySpec::rsa(2048), KeySpec::ecdsa(256)];
        specs.retain(|spec| token.makes(spec));
        specs
    }

    /// What Cascade sends with such a key.
    pub fn parameters(&self) -> Node {
        if self.algorithm == algorithm::RSA { rsa_sha_256() } else { ecdsa_sha_256() }
    }

    /// The mechanism that makes such keys, in pkcs11-tool's spelling, and their size.
    fn mechanism(&self) -> (&'static str, i32) {
        match self.algorithm {
            algorithm::RSA => ("RSA-PKCS-KEY-PAIR-GEN", self.length.unwrap_or(2048)),
            algorithm::ECDSA => ("ECDSA-KEY-PAIR-GEN", self.length.unwrap_or(384)),
            other => panic!("no mechanism for keys of algorithm {other:#x}"),
        }
    }

    pub fn item(&self) -> Item {
        let mut common = vec![attribute("Cryptographic Algorithm", Value::Enumeration(self.algorithm))];
        common.extend(self.length.map(|length| attribute("Cryptographic Length", Value::Integer(length))));
        common.extend(self.curve.map(|curve| {
            let domain = vec![enumeration(tags::RECOMMENDED_CURVE, curve)];
            attribute("Cryptographic Domain Parameters", Value::Structure(domain))
        }));
        let half =
            |name: &str, mask| vec![name_attribute(name), attribute("Cryptographic Usage Mask", Value::Integer(mask))];
        let payload = vec![
            structure(tags::COMMON_TEMPLATE_ATTRIBUTE, common),
            structure(tags::PRIVATE_KEY_TEMPLATE_ATTRIBUTE, half(&self.private_name, usage::SIGN)),
            structure(tags::PUBLIC_KEY_TEMPLATE_ATTRIBUTE, half(&self.public_name, usage::VERIFY)),
        ];
        Item::new(operation::CREATE_KEY_PAIR, payload)
    }
}

pub fn unique_identifier(id: &str) -> Node {
    text(tags::UNIQUE_IDENTIFIER, id)
}

/// Cryptographic Parameters for a signature, in the order of the standard.
pub fn parameters(padding: Option<u32>, hash: Option<u32>, algorithm: Option<u32>) -> Node {
    let mut fields = Vec::new();
    fields.extend(padding.map(|value| enumeration(tags::PADDING_METHOD, value)));
    fields.extend(hash.map(|value| enumeration(tags::HASHING_ALGORITHM, value)));
    fields.extend(algorithm.map(|value| enumeration(tags::CRYPTOGRAPHIC_ALGORITHM, value)));
    structure(tags::CRYPTOGRAPHIC_PARAMETERS, fields)
}

/// What Cascade sends with an RSA key.
pub fn rsa_sha_256() -> Node {
    parameters(Some(padding::PKCS1_V1_5), Some(hash::SHA_256), Some(algorithm::RSA))
}

/// What Cascade sends with an ECDSA key.
pub fn ecdsa_sha_256() -> Node {
    parameters(None, Some(hash::SHA_256), Some(algorithm::ECDSA))
}

pub fn sign_item(id: &str, parameters: Node, data: &[u8]) -> Item {
    Item::new(operation::SIGN, vec![unique_identifier(id), parameters, bytes(tags::DATA, data)])
}

/// The public key of a Key Block, in whatever format it came.
pub fn public_key(block: &Node) -> PublicKey {
    let material = block.at(&[tags::KEY_VALUE, tags::KEY_MATERIAL]);
    match block.child(tags::KEY_FORMAT_TYPE).as_enumeration() {
        format::PKCS_1 => PublicKey::from_pkcs1(material.as_bytes()),
        format::RAW | format::X_509 => PublicKey::from_subject_public_key_info(material.as_bytes()),
        format::TRANSPARENT_RSA_PUBLIC_KEY => {
            let exponent = material.child(tags::PUBLIC_EXPONENT);
            PublicKey::from_rsa(material.child(tags::MODULUS).as_bytes(), exponent.as_bytes())
        }
        other => panic!("Key Format Type {other:#x}"),
    }
}

impl Token {
    /// Whether the module lists what makes such a key.
    pub fn makes(&self, spec: &KeySpec) -> bool {
        let (mechanism, bits) = spec.mechanism();
        self.offers_bits(mechanism, bits)
    }

    /// The kind of [`KeySpec::any`] in pkcs11-tool's spelling.
    pub fn any_kind(&self) -> &'static str {
        if KeySpec::any(self).algorithm == algorithm::RSA { "rsa:1024" } else { "EC:prime256v1" }
    }

    /// What a signature by [`KeySpec::any`] is asked for with.
    pub fn sign_parameters(&self) -> Node {
        KeySpec::any(self).parameters()
    }

    /// Whether it does not, which then is why the test is left out. A range of sizes does not tell which curves are in it: the one that
    /// not everybody has is tried.
    pub fn cannot_make(&self, spec: &KeySpec) -> bool {
        let (mechanism, bits) = spec.mechanism();
        let tries = spec.algorithm == algorithm::ECDSA && bits == 521;
        skipped(!self.makes(spec), format!("{} does not list {mechanism} with {bits} bits", self.hsm()))
            || skipped(tries && !self.signs_on("EC:secp521r1"), format!("{} does not sign on P-521", self.hsm()))
    }

    fn signs_on(&self, curve: &str) -> bool {
        let (id, directory) = (["--id", "5219"], Scratch::new("curve"));
        let data = directory.file("data", [7; 32]);
        let sign = ["--sign", "-m", "ECDSA", "--input-file", data.to_str().expect("UTF-8")];
        let made = self.try_pkcs11_tool(&[&["--keypairgen", "--key-type", curve, "--usage-sign"], &id[..]].concat());
        let signs = made.is_some() && self.try_pkcs11_tool(&[&sign[..], &id[..]].concat()).is_some();
        for half in ["privkey", "pubkey"] {
            self.try_pkcs11_tool(&[&["--delete-object", "--type", half], &id[..]].concat());
        }
        assert!(signs || self.hsm() != Hsm::SoftHsm2);
        signs
    }
}

impl Client {
    pub fn create_key_pair(&mut self, spec: &KeySpec) -> KeyPair {
        let answer = self.call(spec.item());
        let payload = answer.payload();
        KeyPair {
            private: payload.child(tags::PRIVATE_KEY_UNIQUE_IDENTIFIER).as_text().to_string(),
            public: payload.child(tags::PUBLIC_KEY_UNIQUE_IDENTIFIER).as_text().to_string(),
        }
    }

    /// The signature over `data`.
    pub fn sign(&mut self, id: &str, parameters: Node, data: &[u8]) -> Vec<u8> {
        let answer = self.call(sign_item(id, parameters, data));
        let payload = answer.payload();
        assert_eq!(payload.child(tags::UNIQUE_IDENTIFIER).as_text(), id);
        payload.child(tags::SIGNATURE_DATA).as_bytes().to_vec()
    }

    /// The Key Block of a public key, in the format asked for.
    pub fn get_public(&mut self, id: &str, format: Option<u32>) -> Node {
        let mut payload = vec![unique_identifier(id)];
        payload.extend(format.map(|format| enumeration(tags::KEY_FORMAT_TYPE, format)));
        let answer = self.ok(operation::GET, payload);
        assert_eq!(answer.child(tags::OBJECT_TYPE).as_enumeration(), tags::object_type::PUBLIC_KEY);
        assert_eq!(answer.child(tags::UNIQUE_IDENTIFIER).as_text(), id);
        answer.at(&[tags::PUBLIC_KEY, tags::KEY_BLOCK]).clone()
    }

    /// Activate, Destroy and the like: an identifier in, the same identifier out.
    pub fn on_object(&mut self, operation: u32, id: &str) {
        let payload = self.ok(operation, vec![unique_identifier(id)]);
        assert_eq!(payload.child(tags::UNIQUE_IDENTIFIER).as_text(), id);
    }

    pub fn rename_item(id: &str, name: &str) -> Item {
        Item::new(operation::MODIFY_ATTRIBUTE, vec![unique_identifier(id), name_attribute(name)])
    }

    pub fn locate(&mut self, criteria: Vec<Node>) -> Vec<String> {
        let payload = self.ok(operation::LOCATE, criteria);
        payload.all(tags::UNIQUE_IDENTIFIER).iter().map(|id| id.as_text().to_string()).collect()
    }

    /// The attributes of that name, or all without one.
    pub fn attributes(&mut self, id: &str, names: &[&str]) -> Vec<(String, Value)> {
        let mut payload = vec![unique_identifier(id)];
        payload.extend(names.iter().map(|name| text(tags::ATTRIBUTE_NAME, name)));
        let answer = self.ok(operation::GET_ATTRIBUTES, payload);
        assert_eq!(answer.child(tags::UNIQUE_IDENTIFIER).as_text(), id);
        let pair = |node: &&Node| {
            let name = node.child(tags::ATTRIBUTE_NAME).as_text().to_string();
            (name, node.child(tags::ATTRIBUTE_VALUE).value.clone())
        };
        answer.all(tags::ATTRIBUTE).iter().map(pair).collect()
    }

    /// The value of an attribute that the object has once.
    pub fn attribute(&mut self, id: &str, name: &str) -> Value {
        let mut found = self.attributes(id, &[name]);
        assert_eq!(found.len(), 1, "{name} of {id}: {found:?}");
        assert_eq!(found[0].0, name);
        found.remove(0).1
    }

    pub fn name_of(&mut self, id: &str) -> String {
        match self.attribute(id, "Name") {
            Value::Structure(fields) => fields[0].as_text().to_string(),
            other => panic!("a Name that is no structure: {other:?}"),
        }
    }

    pub fn revoke(&mut self, id: &str) {
        let reason = structure(tags::REVOCATION_REASON, vec![enumeration(tags::REVOCATION_REASON_CODE, 6)]);
        let payload = self.ok(operation::REVOKE, vec![unique_identifier(id), reason]);
        assert_eq!(payload.child(tags::UNIQUE_IDENTIFIER).as_text(), id);
    }

    pub fn random(&mut self, length: i32) -> Vec<u8> {
        let payload = self.ok(operation::RNG_RETRIEVE, vec![integer(tags::DATA_LENGTH, length)]);
        payload.child(tags::DATA).as_bytes().to_vec()
    }
}
