//! What a version of KMIP has and what it has not: operations, functions of Query, fields of requests, and fields and values of
//! answers. A client of an old version sees nothing of a later one.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use support::hsm::skipped_in_part;
use support::key::{public_key, unique_identifier};
use support::message::Item;
use support::openssl::Scheme;
use support::scratch::Scratch;
use support::tags::{self, format, operation, query, reason, validity};
use support::ttlv::{Node, Value, boolean, bytes, enumeration, integer, structure};
use support::{Bridge, Client, KeySpec, Token};

const MINORS: std::ops::RangeInclusive<i32> = 0..=4;

fn start() -> (Token, Bridge, Client) {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let client = Client::connect(&bridge, &token);
    (token, bridge, client)
}

fn is_there(answer: &Node, tag: u32) -> bool {
    answer.find(tag).is_some()
}

#[test]
fn operations_of_later_versions_are_not_supported() {
    let (_token, _bridge, mut client) = start();
    for (minor, later) in [
        (0, vec![operation::DISCOVER_VERSIONS, operation::SIGN, operation::SIGNATURE_VERIFY, operation::RNG_RETRIEVE]),
        (1, vec![operation::SIGN, operation::SIGNATURE_VERIFY, operation::RNG_RETRIEVE]),
    ] {
        client.version = (1, minor);
        for operation in later {
            client.call(Item::new(operation, vec![])).is_refused(reason::OPERATION_NOT_SUPPORTED);
        }
    }
}

#[test]
fn functions_of_query_are_known_from_their_version_on() {
    let (_token, _bridge, mut client) = start();
    for minor in MINORS {
        client.version = (1, minor);
        let last = [4, 6, 7, 12, 12][usize::try_from(minor).unwrap()];
        for function in 1..=last {
            client.ok(operation::QUERY, vec![enumeration(tags::QUERY_FUNCTION, function)]);
        }
        for function in [0, last + 1, 0x8000_0001] {
            let item = Item::new(operation::QUERY, vec![enumeration(tags::QUERY_FUNCTION, function)]);
            client.call(item).is_refused(reason::INVALID_FIELD);
        }
    }
}

#[test]
fn capabilities_are_those_of_the_version() {
    let (_token, _bridge, mut client) = start();
    for (minor, expected) in [(3, 3), (4, 5)] {
        client.version = (1, minor);
        let answer = client.ok(operation::QUERY, vec![enumeration(tags::QUERY_FUNCTION, query::CAPABILITIES)]);
        assert_eq!(answer.child(tags::CAPABILITY_INFORMATION).children().len(), expected);
    }
}

#[test]
fn answers_hold_nothing_of_a_later_version() {
    let (token, _bridge, mut client) = start();
    if token.cannot_make(&KeySpec::ecdsa(256)) {
        return;
    }
    let pair = client.create_key_pair(&KeySpec::ecdsa(256));
    for minor in MINORS {
        client.version = (1, minor);
        let digest = Node { tag: 0, value: client.attribute(&pair.public, "Digest") };
        assert_eq!(is_there(&digest, tags::KEY_FORMAT_TYPE), minor >= 1, "{minor}");
        let sensitive = client.attributes(&pair.private, &["Sensitive"]);
        assert_eq!(sensitive.len(), usize::from(minor >= 4), "{minor}");
        let located = client.ok(operation::LOCATE, vec![]);
        assert_eq!(is_there(&located, tags::LOCATED_ITEMS), minor >= 3, "{minor}");
        if minor >= 3 {
            assert_eq!(located.child(tags::LOCATED_ITEMS).as_integer(), 2);
        }
        let format = enumeration(tags::KEY_FORMAT_TYPE, format::TRANSPARENT_EC_PUBLIC_KEY);
        let answer = client.call(Item::new(operation::GET, vec![unique_identifier(&pair.public), format]));
        if minor >= 3 {
            answer.payload();
        } else {
            answer.is_refused(reason::KEY_FORMAT_TYPE_NOT_SUPPORTED);
        }
    }
}

#[test]
fn a_digest_is_signed_since_1_4_and_nothing_in_several_parts() {
    let (token, _bridge, mut client) = start();
    let pair = client.create_key_pair(&KeySpec::any(&token));
    let key = public_key(&client.get_public(&pair.public, None));
    let digest = ring::digest::digest(&ring::digest::SHA256, b"data");
    let with = |id: &str, more: Vec<Node>| {
        let mut fields = vec![unique_identifier(id), token.sign_parameters()];
        fields.extend(more);
        fields
    };
    let digested = bytes(tags::DIGESTED_DATA, digest.as_ref());
    client.version = (1, 3);
    let early = Item::new(operation::SIGN, with(&pair.private, vec![digested.clone()]));
    client.call(early).is_refused(reason::INVALID_FIELD);
    client.version = (1, 4);
    let signed = client.ok(operation::SIGN, with(&pair.private, vec![digested.clone()]));
    let signature = signed.child(tags::SIGNATURE_DATA);
    assert!(key.verifies(Scheme::Digest("-sha256"), b"data", signature.as_bytes()));
    let verified = client.ok(operation::SIGNATURE_VERIFY, with(&pair.public, vec![digested, signature.clone()]));
    assert_eq!(verified.child(tags::VALIDITY_INDICATOR).as_enumeration(), validity::VALID);
    let short = bytes(tags::DIGESTED_DATA, &digest.as_ref()[1..]);
    client.call(Item::new(operation::SIGN, with(&pair.private, vec![short]))).is_refused(reason::INVALID_FIELD);

    // The first of several parts, and another one.
    let data = || bytes(tags::DATA, b"data");
    let first = vec![data(), boolean(tags::INIT_INDICATOR, true)];
    let last = vec![data(), bytes(tags::CORRELATION_VALUE, b"1"), boolean(tags::FINAL_INDICATOR, true)];
    for parts in [first, last] {
        let item = Item::new(operation::SIGN, with(&pair.private, parts));
        client.call(item).is_refused(reason::FEATURE_NOT_SUPPORTED);
    }
    let whole = vec![data(), boolean(tags::INIT_INDICATOR, true), boolean(tags::FINAL_INDICATOR, true)];
    client.ok(operation::SIGN, with(&pair.private, whole));
    client.version = (1, 2);
    let early = vec![data(), boolean(tags::INIT_INDICATOR, true), boolean(tags::FINAL_INDICATOR, true)];
    client.call(Item::new(operation::SIGN, with(&pair.private, early))).is_refused(reason::INVALID_FIELD);
}

/// Whether the token signs with PSS and a salt of 20 bytes, as pkcs11-tool asks for it.
fn salts_with_20(token: &Token) -> bool {
    let directory = Scratch::new("salt");
    let data = directory.file("data", [7; 32]);
    token.pkcs11_tool(&["--keypairgen", "--key-type", "rsa:2048", "--id", "5a17", "--usage-sign"]);
    let sign = ["--sign", "-m", "SHA256-RSA-PKCS-PSS", "--salt-len", "20", "--id", "5a17", "--input-file"];
    token.try_pkcs11_tool(&[&sign[..], &[data.to_str().unwrap()]].concat()).is_some()
}

#[test]
fn parameters_of_later_versions_are_unknown_fields() {
    let (token, _bridge, mut client) = start();
    let pair = client.create_key_pair(&KeySpec::rsa(2048));
    let salt = if skipped_in_part(!salts_with_20(&token), "the token takes no salt but one of the digest's length") {
        32
    } else {
        20
    };
    let sign = |parameters: Vec<Node>| {
        let parameters = structure(tags::CRYPTOGRAPHIC_PARAMETERS, parameters);
        Item::new(operation::SIGN, vec![unique_identifier(&pair.private), parameters, bytes(tags::DATA, b"data")])
    };
    let pss = || {
        vec![
            enumeration(tags::PADDING_METHOD, tags::padding::PSS),
            enumeration(tags::HASHING_ALGORITHM, tags::hash::SHA_256),
            integer(tags::SALT_LENGTH, salt),
        ]
    };
    client.version = (1, 3);
    client.call(sign(pss())).is_refused(reason::INVALID_FIELD);
    client.version = (1, 4);
    client.call(sign(pss())).payload();
    for (field, fits) in [
        (enumeration(tags::MASK_GENERATOR, 1), true),
        (enumeration(tags::MASK_GENERATOR, 2), false),
        (integer(tags::TRAILER_FIELD, 1), true),
        (integer(tags::TRAILER_FIELD, 2), false),
    ] {
        let mut fields = pss();
        fields.push(field);
        let answer = client.call(sign(fields));
        assert_eq!(answer.reason, (!fits).then_some(reason::INVALID_FIELD), "{answer:?}");
    }
    assert_eq!(client.attribute(&pair.private, "Sensitive"), Value::Boolean(true));
}
