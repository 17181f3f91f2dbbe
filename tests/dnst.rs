//! What the Cascade signer and its helper dnst do, message by message, in the protocol versions that they use.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use support::key::{KeyPair, ecdsa_sha_256, public_key, sign_item, unique_identifier};
use support::message::{Item, name_attribute};
use support::openssl::Scheme;
use support::tags::{self, algorithm, format, operation, query, reason};
use support::ttlv::enumeration;
use support::{Bridge, Client, KeySpec, Token};

/// The largest response that the client takes.
const LARGEST_RESPONSE: usize = 8192;

/// The first names are 64 hex characters; the real ones need the key tag, which needs the public key.
fn first_names() -> (String, String) {
    ("5f".repeat(32), "a0".repeat(32))
}

/// dnst is one process a command, so each step is a connection of its own.
fn dnst(bridge: &Bridge, token: &Token) -> Client {
    let mut client = Client::connect(bridge, token);
    client.version = (1, 0);
    client
}

fn create(bridge: &Bridge, token: &Token, spec: KeySpec) -> KeyPair {
    let (private_name, public_name) = first_names();
    dnst(bridge, token).create_key_pair(&KeySpec { private_name, public_name, ..spec })
}

#[test]
fn adding_a_server_shows_the_operator_what_it_is() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut cascade = Client::connect(&bridge, &token);
    let functions = [query::OPERATIONS, query::OBJECTS, query::SERVER_INFORMATION];
    let payload = functions.iter().map(|&function| enumeration(tags::QUERY_FUNCTION, function)).collect();
    let request = cascade.request(vec![Item::new(operation::QUERY, payload)]);
    let response = cascade.ask(&request);
    assert!(response.size <= LARGEST_RESPONSE);
    let vendor = response.single().payload().child(tags::VENDOR_IDENTIFICATION).as_text();
    assert!(vendor.contains("cascade-hsm-bridge") && vendor.contains(&token.label), "{vendor}");
}

#[test]
fn a_zone_gets_its_key_signs_with_it_and_loses_it_again() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    for (spec, tag) in KeySpec::each(&token).into_iter().zip([4711, 815]) {
        let parameters = spec.parameters();
        let pair = create(&bridge, &token, spec);
        assert!(pair.private.len() + "kmip://server/keys/".len() < 256);

        let block = dnst(&bridge, &token).get_public(&pair.public, None);
        let key = public_key(&block);
        dnst(&bridge, &token).on_object(operation::ACTIVATE, &pair.private);

        // The public key first: where a token takes no new name, that is where dnst finds out.
        for (id, name) in [
            (&pair.public, format!("example.org-{tag}-ksk-pub")),
            (&pair.private, format!("example.org-{tag}-ksk-pri")),
        ] {
            let answer = dnst(&bridge, &token).call(Client::rename_item(id, &name));
            assert_eq!(answer.payload().children(), [unique_identifier(id), name_attribute(&name)]);
        }
        token.object("Public Key", &format!("example.org-{tag}-ksk-pub"));
        token.object("Private Key", &format!("example.org-{tag}-ksk-pri"));

        let mut cascade = Client::connect(&bridge, &token);
        for number in 0..20 {
            let data = format!("RRset number {number}");
            let signature = cascade.sign(&pair.private, parameters.clone(), data.as_bytes());
            assert!(key.verifies(Scheme::Digest("-sha256"), data.as_bytes(), &signature));
        }

        // No Revoke before, and the private half first.
        dnst(&bridge, &token).on_object(operation::DESTROY, &pair.private);
        dnst(&bridge, &token).on_object(operation::DESTROY, &pair.public);
        assert_eq!(token.objects(), Vec::<String>::new());
        cascade.call(sign_item(&pair.private, parameters, b"late")).is_refused(reason::ITEM_NOT_FOUND);
    }
}

#[test]
fn an_rsa_public_key_comes_in_a_format_that_the_client_knows() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let pair = create(&bridge, &token, KeySpec::rsa(2048));
    let block = dnst(&bridge, &token).get_public(&pair.public, None);
    let known = [format::TRANSPARENT_RSA_PUBLIC_KEY, format::PKCS_1, format::RAW];
    assert!(known.contains(&block.child(tags::KEY_FORMAT_TYPE).as_enumeration()), "{block:?}");
    assert_eq!(block.child(tags::CRYPTOGRAPHIC_ALGORITHM).as_enumeration(), algorithm::RSA);
    assert_eq!(block.child(tags::CRYPTOGRAPHIC_LENGTH).as_integer(), 2048);
    assert!(public_key(&block).description().contains("Exponent: 65537"));
}

#[test]
fn an_ecdsa_public_key_comes_raw_as_subject_public_key_info() {
    // SEQUENCE { SEQUENCE { id-ecPublicKey, prime256v1 }, BIT STRING { 0 unused bits, an uncompressed point } }
    const PREFIX: [u8; 27] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01, 0x06, 0x08, 0x2A, 0x86, 0x48,
        0xCE, 0x3D, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
    ];
    let token = Token::create();
    if token.cannot_make(&KeySpec::ecdsa(256)) {
        return;
    }
    let bridge = Bridge::start(&token);
    let pair = create(&bridge, &token, KeySpec::ecdsa(256));
    let block = dnst(&bridge, &token).get_public(&pair.public, None);
    assert_eq!(block.child(tags::KEY_FORMAT_TYPE).as_enumeration(), format::RAW);
    assert_eq!(block.child(tags::CRYPTOGRAPHIC_ALGORITHM).as_enumeration(), algorithm::ECDSA);
    assert_eq!(block.child(tags::CRYPTOGRAPHIC_LENGTH).as_integer(), 256);
    let material = block.at(&[tags::KEY_VALUE, tags::KEY_MATERIAL]).as_bytes().to_vec();
    assert_eq!(material.len(), PREFIX.len() + 64);
    assert_eq!(material[..PREFIX.len()], PREFIX);
    assert_eq!(material, public_key(&block).subject_public_key_info());
}

#[test]
fn ecdsa_signatures_are_minimal_der() {
    let token = Token::create();
    if token.cannot_make(&KeySpec::ecdsa(256)) {
        return;
    }
    let bridge = Bridge::start(&token);
    let pair = create(&bridge, &token, KeySpec::ecdsa(256));
    let mut cascade = Client::connect(&bridge, &token);
    let (mut shorter, mut extended) = (0, 0);
    // One number in 256 is shorter than 32 bytes, one in two needs a zero in front: 300 signatures hold plenty of both.
    for number in 0..300 {
        let signature = cascade.sign(&pair.private, ecdsa_sha_256(), format!("RRset number {number}").as_bytes());
        let (r, rest) = integer_of(&signature[2..]);
        let (s, rest) = integer_of(rest);
        assert_eq!((signature[0], usize::from(signature[1])), (0x30, signature.len() - 2), "{signature:02X?}");
        assert_eq!(rest, [0_u8; 0], "{signature:02X?}");
        for integer in [r, s] {
            assert!(integer[0] < 0x80, "negative: {signature:02X?}");
            assert!(integer[0] != 0 || integer[1] >= 0x80, "not minimal: {signature:02X?}");
            let digits = integer.len() - usize::from(integer[0] == 0);
            assert!(digits <= 32, "too long: {signature:02X?}");
            shorter += usize::from(digits < 32);
            extended += usize::from(integer[0] == 0);
        }
    }
    assert!(shorter > 0 || extended > 100, "{shorter} short numbers, {extended} with a zero in front");
}

#[test]
fn a_batch_of_signatures_keeps_its_order() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let pair = create(&bridge, &token, KeySpec::any(&token));
    let mut client = Client::connect(&bridge, &token);
    let key = public_key(&client.get_public(&pair.public, None));
    let data: Vec<String> = (0..25).map(|number| format!("RRset number {number}")).collect();
    let id = |number: usize| u128::try_from(number).unwrap().to_be_bytes();
    let items = data.iter().enumerate();
    let items = items
        .map(|(number, data)| sign_item(&pair.private, token.sign_parameters(), data.as_bytes()).with_id(&id(number)));
    let request = client.request(items.collect());
    let response = client.ask(&request);
    assert_eq!(response.answers.len(), data.len());
    for (number, (answer, data)) in response.answers.iter().zip(&data).enumerate() {
        assert_eq!((answer.operation, answer.id.as_deref()), (Some(operation::SIGN), Some(&id(number)[..])));
        let signature = answer.payload().child(tags::SIGNATURE_DATA).as_bytes();
        assert!(key.verifies(Scheme::Digest("-sha256"), data.as_bytes(), signature));
    }
}

#[test]
fn every_refusal_is_one_that_the_client_can_parse() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let pair = create(&bridge, &token, KeySpec::any(&token));
    let mut client = dnst(&bridge, &token);
    let mut refused = vec![
        Item::new(operation::GET, vec![unique_identifier(&pair.private)]),
        Item::new(operation::GET, vec![unique_identifier("nonsense")]),
        KeySpec::ecdsa(255).item(),
    ];
    refused
        .extend((1..=0x1C).filter(|number| !operation::ALL.contains(number)).map(|number| Item::new(number, vec![])));
    for item in refused {
        let answer = client.call(item);
        assert!(answer.reason.is_some_and(reason::is_known_to_cascade), "{answer:?}");
    }
}

fn integer_of(bytes: &[u8]) -> (&[u8], &[u8]) {
    assert_eq!(bytes[0], 0x02, "{bytes:02X?}");
    bytes[2..].split_at(usize::from(bytes[1]))
}
