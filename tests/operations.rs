//! Every operation on a token, its effect checked with pkcs11-tool and openssl.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use support::hsm::skipped_in_part;
use support::key::{public_key, rsa_sha_256, sign_item, unique_identifier};
use support::message::{Item, Request, attribute, name_attribute, protocol_version};
use support::tags::{self, algorithm, continuation, object_type, operation, query, reason, state, usage};
use support::ttlv::{Node, Value, bytes, enumeration, integer, structure, text};
use support::{Bridge, Client, Faulty, KeySpec, Token};

const NOT_THERE: &str = "00112233445566778899AABBCCDDEEFF00112233_priv";

fn versions_in(payload: &Node) -> Vec<(i32, i32)> {
    let version = |node: &&Node| {
        let part = |tag| node.child(tag).as_integer();
        (part(tags::PROTOCOL_VERSION_MAJOR), part(tags::PROTOCOL_VERSION_MINOR))
    };
    payload.all(tags::PROTOCOL_VERSION).iter().map(version).collect()
}

fn query_item(functions: &[u32]) -> Item {
    let functions = functions.iter().map(|&function| enumeration(tags::QUERY_FUNCTION, function)).collect();
    Item::new(operation::QUERY, functions)
}

fn operations_in(payload: &Node) -> Vec<u32> {
    let mut operations: Vec<u32> = payload.all(tags::OPERATION).iter().map(|node| node.as_enumeration()).collect();
    operations.sort_unstable();
    operations
}

#[test]
fn discover_versions_tells_all_versions_best_first() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect_as(&bridge, None);
    client.version = (1, 1);
    let answer = client.ok(operation::DISCOVER_VERSIONS, vec![]);
    assert_eq!(versions_in(&answer), [(1, 4), (1, 3), (1, 2), (1, 1), (1, 0)]);
}

#[test]
fn discover_versions_tells_only_the_versions_in_common() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect_as(&bridge, None);
    let asked = [(2, 0), (1, 2), (1, 0)].map(protocol_version).to_vec();
    assert_eq!(versions_in(&client.ok(operation::DISCOVER_VERSIONS, asked)), [(1, 2), (1, 0)]);
    assert_eq!(client.ok(operation::DISCOVER_VERSIONS, vec![protocol_version((9, 31))]).children(), []);
}

#[test]
fn query_without_login_names_operations_and_objects_but_no_token() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect_as(&bridge, None);
    let functions = [query::OPERATIONS, query::OBJECTS, query::SERVER_INFORMATION];
    let answer = client.call(query_item(&functions));
    assert_eq!(operations_in(answer.payload()), operation::ALL);
    let objects: Vec<u32> = answer.payload().all(tags::OBJECT_TYPE).iter().map(|node| node.as_enumeration()).collect();
    assert_eq!(objects, [object_type::PUBLIC_KEY, object_type::PRIVATE_KEY]);
    let vendor = answer.payload().child(tags::VENDOR_IDENTIFICATION).as_text();
    assert!(vendor.contains("cascade-hsm-bridge"), "{vendor}");
    assert!(!vendor.contains(&token.label), "{vendor}");
    assert!(answer.payload().find(tags::SERVER_INFORMATION).is_some());
}

#[test]
fn query_with_login_names_the_token_and_the_module() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let answer = client.call(query_item(&[query::OPERATIONS, query::OBJECTS, query::SERVER_INFORMATION]));
    assert_eq!(operations_in(answer.payload()), operation::ALL);
    let vendor = answer.payload().child(tags::VENDOR_IDENTIFICATION).as_text();
    let module = Token::module();
    let module = module.file_name().unwrap();
    for part in ["cascade-hsm-bridge", env!("CARGO_PKG_VERSION"), &token.label, module.to_str().unwrap()] {
        assert!(vendor.contains(part), "{part:?} is not in {vendor:?}");
    }
}

#[test]
fn query_tells_a_client_only_what_its_version_has() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    for (version, last) in [((1, 0), 0x1C), ((1, 1), 0x1E), ((1, 2), 0x29), ((1, 3), 0x29), ((1, 4), 0x2B)] {
        client.version = version;
        let answer = client.call(query_item(&[query::OPERATIONS]));
        let expected: Vec<u32> = operation::ALL.into_iter().filter(|&operation| operation <= last).collect();
        assert_eq!(operations_in(answer.payload()), expected, "version {version:?}");
    }
}

/// Holds that an object of pkcs11-tool's listing is for this use, and for no other, unless the bridge learnt that the token takes no
/// template that says so.
fn is_for(bridge: &Bridge, object: &str, usage: &str) {
    let uses = object.lines().find_map(|line| line.trim().strip_prefix("Usage:")).expect("its uses").trim();
    let others = uses.split(", ").filter(|other| *other != usage).count();
    let is_there = uses.split(", ").any(|other| other == usage);
    let is_added = others > 0 && bridge.meets_added_uses();
    let excused = skipped_in_part(is_added, "the token takes no uses that are set to false");
    assert!(is_there && (others == 0 || excused), "not for {usage} alone:\n{object}");
}

#[test]
fn create_key_pair_makes_what_pkcs11_tool_expects() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let specs = KeySpec::each(&token);
    let pairs = specs.len();
    for spec in specs {
        let kind = if spec.algorithm == algorithm::RSA { "RSA" } else { "EC" };
        let spec = spec.named(kind);
        let pair = client.create_key_pair(&spec);
        let private = token.object("Private Key", &spec.private_name);
        let public = token.object("Public Key", &spec.public_name);
        let id = pair.private.strip_suffix("_priv").expect("an identifier that ends in _priv");
        assert_eq!(pair.public, format!("{id}_pub"));
        assert!(id.len() == 40 && id.chars().all(|c| c.is_ascii_digit() || ('A'..='F').contains(&c)), "{id}");
        for object in [&private, &public] {
            assert!(object.contains(&format!("Object; {kind}")), "{object}");
            assert!(object.contains(&format!("ID:         {}\n", id.to_lowercase())), "{object}");
        }
        is_for(&bridge, &private, "sign");
        assert!(private.contains("sensitive, always sensitive, never extractable, local"), "{private}");
        is_for(&bridge, &public, "verify");
    }
    assert_eq!(token.objects().len(), 2 * pairs);
}

#[test]
fn create_key_pair_takes_templates_in_any_place() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let spec = KeySpec::any(&token);
    // Algorithm, length and one Name for both halves in the common part; what is said of a half wins over it.
    let common = vec![
        attribute("Cryptographic Algorithm", Value::Enumeration(spec.algorithm)),
        attribute("Cryptographic Length", Value::Integer(spec.length.unwrap())),
        attribute("Cryptographic Usage Mask", Value::Integer(usage::VERIFY)),
        name_attribute("common"),
    ];
    let private = vec![attribute("Cryptographic Usage Mask", Value::Integer(usage::SIGN))];
    let payload = vec![
        structure(tags::COMMON_TEMPLATE_ATTRIBUTE, common),
        structure(tags::PRIVATE_KEY_TEMPLATE_ATTRIBUTE, private),
    ];
    client.ok(operation::CREATE_KEY_PAIR, payload);
    is_for(&bridge, &token.object("Private Key", "common"), "sign");
    is_for(&bridge, &token.object("Public Key", "common"), "verify");
}

#[test]
fn create_key_pair_refuses_what_it_cannot_make_and_makes_nothing() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    for length in [512, 1023, 2047, 8200, 0, -1] {
        client.call(KeySpec::rsa(length).item()).is_refused(reason::INVALID_FIELD);
    }
    for length in [0, -256, 128, 224, 255, 257, 512] {
        client.call(KeySpec::ecdsa(length).item()).is_refused(reason::INVALID_FIELD);
    }
    client.call(KeySpec::new(algorithm::AES, Some(256), None).item()).is_refused(reason::INVALID_FIELD);
    client.call(KeySpec::new(0xBEEF, Some(256), None).item()).is_refused(reason::INVALID_FIELD);
    // secp256k1
    client.call(KeySpec::new(algorithm::ECDSA, None, Some(0x19)).item()).is_refused(reason::INVALID_FIELD);
    client.call(KeySpec::new(algorithm::RSA, None, None).item()).is_refused(reason::INVALID_MESSAGE);
    let named = text(tags::NAME_VALUE, "a template");
    let named = structure(tags::NAME, vec![named, enumeration(tags::NAME_TYPE, 1)]);
    let template = structure(tags::COMMON_TEMPLATE_ATTRIBUTE, vec![named]);
    client.call(Item::new(operation::CREATE_KEY_PAIR, vec![template])).is_refused(reason::ITEM_NOT_FOUND);
    // What the token has no place to keep, and a time before which the key should not be used.
    let mut with = |attribute: Node| {
        let mut item = KeySpec::any(&token).item();
        let Value::Structure(common) = &mut item.payload[0].value else { panic!("no template") };
        common.push(attribute);
        client.call(item)
    };
    with(attribute("Activation Date", Value::DateTime(i64::MAX))).is_refused(reason::INVALID_FIELD);
    with(attribute("Contact Information", Value::TextString("me".into()))).is_refused(reason::INVALID_FIELD);
    with(attribute("Cryptographic Length", Value::Integer(256))).is_refused(reason::INVALID_FIELD);
    assert_eq!(token.objects(), Vec::<String>::new());
}

#[test]
fn activate_and_revoke_succeed_on_what_is_there() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let pair = client.create_key_pair(&KeySpec::any(&token));
    for id in [&pair.private, &pair.public] {
        client.on_object(operation::ACTIVATE, id);
        client.revoke(id);
        assert_eq!(client.attribute(id, "State"), Value::Enumeration(state::ACTIVE));
    }
    client.call(Item::new(operation::ACTIVATE, vec![unique_identifier(NOT_THERE)])).is_refused(reason::ITEM_NOT_FOUND);
    let revoke = |id: &str, code| {
        let reason = structure(tags::REVOCATION_REASON, vec![enumeration(tags::REVOCATION_REASON_CODE, code)]);
        Item::new(operation::REVOKE, vec![unique_identifier(id), reason])
    };
    client.call(revoke(NOT_THERE, 1)).is_refused(reason::ITEM_NOT_FOUND);
    client.call(revoke(&pair.private, 99)).is_refused(reason::INVALID_FIELD);
}

#[test]
fn modify_attribute_renames_a_key_and_nothing_else() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let pair = client.create_key_pair(&KeySpec::any(&token));
    let answer = client.call(Client::rename_item(&pair.private, "example.org-12345-ksk-pri"));
    assert_eq!(
        answer.payload().children(),
        [unique_identifier(&pair.private), name_attribute("example.org-12345-ksk-pri")]
    );
    token.object("Private Key", "example.org-12345-ksk-pri");
    token.object("Public Key", "example-pub");
    assert_eq!(client.name_of(&pair.private), "example.org-12345-ksk-pri");
    assert_eq!(client.locate(vec![name_attribute("example-pri")]), Vec::<String>::new());
    client.sign(&pair.private, token.sign_parameters(), b"still the same key");

    let modify =
        |id: &str, attribute: Node| Item::new(operation::MODIFY_ATTRIBUTE, vec![unique_identifier(id), attribute]);
    let state = attribute("State", Value::Enumeration(1));
    client.call(modify(&pair.private, state)).is_refused(reason::PERMISSION_DENIED);
    for (name, value) in [
        ("Unique Identifier", Value::TextString("00_pub".into())),
        ("Object Type", Value::Enumeration(3)),
        ("Cryptographic Algorithm", Value::Enumeration(4)),
        ("Cryptographic Length", Value::Integer(4096)),
        ("Cryptographic Usage Mask", Value::Integer(usage::SIGN | usage::DECRYPT)),
        ("Activation Date", Value::DateTime(0)),
    ] {
        let answer = client.call(modify(&pair.private, attribute(name, value)));
        assert_eq!(answer.reason, Some(reason::PERMISSION_DENIED), "{name}");
    }
    client.call(modify(&pair.private, attribute("x-own", Value::Integer(1)))).is_refused(reason::INVALID_FIELD);
    client.call(Client::rename_item(NOT_THERE, "name")).is_refused(reason::ITEM_NOT_FOUND);
}

#[test]
fn destroy_removes_both_halves_in_either_order_whatever_their_state() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let first = client.create_key_pair(&KeySpec::rsa(2048).named("first"));
    let second = client.create_key_pair(&KeySpec::any(&token).named("second"));
    client.on_object(operation::ACTIVATE, &first.private);
    client.on_object(operation::DESTROY, &first.private);
    client.on_object(operation::DESTROY, &first.public);
    client.revoke(&second.private);
    client.on_object(operation::DESTROY, &second.public);
    client.on_object(operation::DESTROY, &second.private);
    assert_eq!(token.objects(), Vec::<String>::new());

    client.call(sign_item(&first.private, rsa_sha_256(), b"data")).is_refused(reason::ITEM_NOT_FOUND);
    let destroy = |id: &str| Item::new(operation::DESTROY, vec![unique_identifier(id)]);
    client.call(destroy(&second.private)).is_refused(reason::ITEM_NOT_FOUND);
    client.call(destroy(NOT_THERE)).is_refused(reason::ITEM_NOT_FOUND);
}

#[test]
fn only_what_was_there_is_told_to_be_destroyed() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let pair = client.create_key_pair(&KeySpec::rsa(2048));
    client.on_object(operation::DESTROY, &pair.public);
    // The private key tells it still: nothing of its own is there, and this changes nothing.
    client.on_object(operation::DESTROY, &pair.public);
    client.get_public(&pair.public, None);
    client.on_object(operation::DESTROY, &pair.private);
    let (_, log) = bridge.stop();
    let told = |id: &str| log.matches(&format!("destroyed {id} on token")).count();
    assert_eq!((told(&pair.public), told(&pair.private)), (1, 1), "{log}");
}

#[test]
fn rng_retrieve_gives_as_many_bytes_as_asked_for() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    for length in [1, 32, 1024, 1025, 5000] {
        let random = client.random(length);
        assert_eq!(i32::try_from(random.len()), Ok(length));
        assert!(length < 32 || random.iter().any(|&byte| byte != 0));
    }
    assert_ne!(client.random(32), client.random(32));
    for length in [-1, i32::MIN, 0, 64 * 1024 + 1, i32::MAX] {
        let item = Item::new(operation::RNG_RETRIEVE, vec![integer(tags::DATA_LENGTH, length)]);
        client.call(item).is_refused(reason::INVALID_FIELD);
    }
}

#[test]
fn refuses_operations_that_are_not_offered() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let offered = |number: &u32| operation::ALL.contains(number);
    for number in (1..=0x2B).filter(|number| !offered(number)).chain([0x30, 0x8000_0001]) {
        client.call(Item::new(number, vec![])).is_refused(reason::OPERATION_NOT_SUPPORTED);
    }
}

#[test]
fn a_batch_hands_its_key_on_through_the_id_placeholder() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let sign = vec![token.sign_parameters(), bytes(tags::DATA, b"data")];
    let items = vec![
        KeySpec::any(&token).item().with_id(b"1"),
        Item::new(operation::ACTIVATE, vec![]).with_id(b"2"),
        Item::new(operation::SIGN, sign).with_id(b"3"),
        Item::new(operation::LOCATE, vec![name_attribute("example-pub")]).with_id(b"4"),
        Item::new(operation::GET, vec![]).with_id(b"5"),
        Item::new(operation::LOCATE, vec![]).with_id(b"6"),
        Item::new(operation::GET, vec![]).with_id(b"7"),
    ];
    let request = Request { order: Some(true), continuation: Some(continuation::CONTINUE), ..client.request(items) };
    let response = client.ask(&request);
    assert_eq!(response.answers.len(), 7);
    let private = response.answers[0].payload().child(tags::PRIVATE_KEY_UNIQUE_IDENTIFIER).as_text();
    assert_eq!(response.answers[1].payload().child(tags::UNIQUE_IDENTIFIER).as_text(), private);
    let key = public_key(response.answers[4].payload().at(&[tags::PUBLIC_KEY, tags::KEY_BLOCK]));
    let signature = response.answers[2].payload().child(tags::SIGNATURE_DATA).as_bytes();
    assert!(key.verifies(support::openssl::Scheme::Digest("-sha256"), b"data", signature));
    // Two objects were located, so that none is meant.
    response.answers[6].is_refused(reason::ITEM_NOT_FOUND);
    client.call(Item::new(operation::GET, vec![])).is_refused(reason::ITEM_NOT_FOUND);
}

#[test]
fn two_tokens_are_kept_apart() {
    let token = Token::create();
    token.add("second", "pin-5520");
    let bridge = Bridge::start(&token);
    let mut first = Client::connect(&bridge, &token);
    let mut other = Client::connect_as(&bridge, Some(("second", "pin-5520")));
    let pair = first.create_key_pair(&KeySpec::any(&token));
    assert_eq!(other.locate(vec![]), Vec::<String>::new());
    other.call(sign_item(&pair.private, token.sign_parameters(), b"x")).is_refused(reason::ITEM_NOT_FOUND);
    let mut crossed = Client::connect_as(&bridge, Some(("second", &token.pin)));
    crossed.call(Item::new(operation::LOCATE, vec![])).is_refused(reason::AUTHENTICATION_NOT_SUCCESSFUL);
}

#[test]
fn a_token_goes_by_its_label_its_serial_number_or_its_slot() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let slot = token.slot();
    for name in [&token.label, &token.serial(), &slot.to_string(), &format!("{slot:#x}")] {
        Client::connect_as(&bridge, Some((name, &token.pin))).random(4);
    }
    for name in ["", "signer", "Signer 5117", &(slot + 1000).to_string()] {
        let mut client = Client::connect_as(&bridge, Some((name, &token.pin)));
        let answer = client.call(Item::new(operation::LOCATE, vec![]));
        assert_eq!(answer.reason, Some(reason::AUTHENTICATION_NOT_SUCCESSFUL), "{name:?}");
    }
}

/// A client that were told otherwise would take the key for one that is there.
#[test]
fn a_destruction_that_was_done_is_a_success_also_where_the_hsm_fails_right_after_it() {
    let (token, faulty) = (Token::create(), Faulty::new());
    let bridge = Bridge::start_with(&token, faulty.options());
    let mut client = Client::connect(&bridge, &token);
    let pair = client.create_key_pair(&KeySpec::any(&token));
    faulty.play(
        "[[fault]]\nfunction = \"C_DestroyObject\"\nafter = true\nevents = \"break\"\n\
         [[fault]]\nfunction = \"C_Initialize\"\nrv = \"CKR_DEVICE_ERROR\"\n",
    );
    client.on_object(operation::DESTROY, &pair.private);
    client.call(sign_item(&pair.private, token.sign_parameters(), b"data")).is_refused(reason::GENERAL_FAILURE);
    let (_, log) = bridge.stop();
    assert!(log.contains(&format!("destroyed {} on token", pair.private)), "{log}");
}
