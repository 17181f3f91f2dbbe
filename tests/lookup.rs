//! Get, Get Attributes, Get Attribute List and Locate on a token; keys are read back by openssl.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use support::bridge::Options;
use support::hsm::skipped_in_part;
use support::key::{KeyPair, public_key, rsa_sha_256, unique_identifier};
use support::message::{Item, attribute, name_attribute};
use support::tags::{self, algorithm, format, link, object_type, operation, reason, state, usage};
use support::ttlv::{Node, Value, enumeration, integer, structure, text};
use support::{Bridge, Client, KeySpec, Token};

const NOT_THERE: &str = "00112233445566778899AABBCCDDEEFF00112233_priv";

/// Holds that Locate finds these objects and no others.
fn finds(client: &mut Client, criteria: Vec<Node>, expected: &[&String]) {
    let mut found = client.locate(criteria.clone());
    let mut expected: Vec<String> = expected.iter().map(|id| id.to_string()).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected, "{criteria:?}");
}

#[test]
fn get_answers_an_rsa_key_in_every_format() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let pair = client.create_key_pair(&KeySpec::rsa(2048));
    let default = public_key(&client.get_public(&pair.public, None)).description();
    assert!(default.contains("2048 bit"), "{default}");
    for format in [format::PKCS_1, format::X_509, format::TRANSPARENT_RSA_PUBLIC_KEY] {
        let block = client.get_public(&pair.public, Some(format));
        assert_eq!(block.child(tags::KEY_FORMAT_TYPE).as_enumeration(), format);
        assert_eq!(block.child(tags::CRYPTOGRAPHIC_ALGORITHM).as_enumeration(), algorithm::RSA);
        assert_eq!(block.child(tags::CRYPTOGRAPHIC_LENGTH).as_integer(), 2048);
        let key = public_key(&block);
        assert_eq!(key.description(), default);
        let material = block.at(&[tags::KEY_VALUE, tags::KEY_MATERIAL]);
        match format {
            format::PKCS_1 => assert_eq!(material.as_bytes(), key.pkcs1()),
            format::X_509 => assert_eq!(material.as_bytes(), key.subject_public_key_info()),
            _ => {}
        }
    }
}

#[test]
fn get_answers_an_ecdsa_key_in_every_format() {
    let token = Token::create();
    if token.cannot_make(&KeySpec::ecdsa(521)) {
        return;
    }
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    for (bits, curve, name) in
        [(256, tags::curve::P_256, "P-256"), (384, tags::curve::P_384, "P-384"), (521, tags::curve::P_521, "P-521")]
    {
        let pair = client.create_key_pair(&KeySpec::ecdsa(bits).named(name));
        let mut infos = Vec::new();
        for format in [None, Some(format::RAW), Some(format::X_509)] {
            let block = client.get_public(&pair.public, format);
            assert_eq!(block.child(tags::CRYPTOGRAPHIC_ALGORITHM).as_enumeration(), algorithm::ECDSA);
            assert_eq!(block.child(tags::CRYPTOGRAPHIC_LENGTH).as_integer(), bits);
            let key = public_key(&block);
            assert!(key.description().contains(&format!("NIST CURVE: {name}")), "{}", key.description());
            infos.push(block.at(&[tags::KEY_VALUE, tags::KEY_MATERIAL]).as_bytes().to_vec());
            assert_eq!(infos[0], key.subject_public_key_info());
            assert_eq!(infos[0], infos[infos.len() - 1]);
        }
        let point_length = 1 + 2 * usize::try_from(bits).unwrap().div_ceil(8);
        let point = &infos[0][infos[0].len() - point_length..];
        for (version, format) in
            [((1, 2), format::TRANSPARENT_ECDSA_PUBLIC_KEY), ((1, 3), format::TRANSPARENT_EC_PUBLIC_KEY)]
        {
            client.version = version;
            let block = client.get_public(&pair.public, Some(format));
            let material = block.at(&[tags::KEY_VALUE, tags::KEY_MATERIAL]);
            assert_eq!(material.child(tags::RECOMMENDED_CURVE).as_enumeration(), curve);
            assert_eq!(material.child(tags::Q_STRING).as_bytes(), point);
        }
        client.version = (1, 2);
    }
}

#[test]
fn get_refuses_private_keys_and_formats_that_do_not_fit() {
    let token = Token::create();
    if token.cannot_make(&KeySpec::ecdsa(256)) {
        return;
    }
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let rsa = client.create_key_pair(&KeySpec::rsa(2048));
    let ec = client.create_key_pair(&KeySpec::ecdsa(256).named("ec"));
    let get = |id: &str, format: Option<u32>| {
        let mut payload = vec![unique_identifier(id)];
        payload.extend(format.map(|format| enumeration(tags::KEY_FORMAT_TYPE, format)));
        Item::new(operation::GET, payload)
    };
    for format in [None, Some(format::RAW), Some(format::PKCS_1), Some(format::PKCS_8)] {
        client.call(get(&rsa.private, format)).is_refused(reason::PERMISSION_DENIED);
    }
    for (id, format) in [
        (&rsa.public, format::PKCS_8),
        (&rsa.public, format::TRANSPARENT_ECDSA_PUBLIC_KEY),
        (&ec.public, format::PKCS_1),
        (&ec.public, format::TRANSPARENT_RSA_PUBLIC_KEY),
        (&ec.public, 0x8000_0001),
    ] {
        client.call(get(id, Some(format))).is_refused(reason::KEY_FORMAT_TYPE_NOT_SUPPORTED);
    }
    client.call(get(NOT_THERE, None)).is_refused(reason::ITEM_NOT_FOUND);
    let also = |field: Node| Item::new(operation::GET, vec![unique_identifier(&ec.public), field]);
    client.call(also(enumeration(tags::KEY_COMPRESSION_TYPE, 1))).payload();
    let compressed = enumeration(tags::KEY_COMPRESSION_TYPE, 2);
    client.call(also(compressed)).is_refused(reason::KEY_COMPRESSION_TYPE_NOT_SUPPORTED);
    let wrapped = structure(tags::KEY_WRAPPING_SPECIFICATION, vec![]);
    client.call(also(wrapped)).is_refused(reason::FEATURE_NOT_SUPPORTED);
}

#[test]
fn get_derives_a_public_key_that_the_token_no_longer_keeps() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let pair = client.create_key_pair(&KeySpec::rsa(2048));
    let before = public_key(&client.get_public(&pair.public, None)).description();
    let id = pair.public.strip_suffix("_pub").unwrap();
    token.pkcs11_tool(&["--delete-object", "--type", "pubkey", "--id", id]);
    let after = public_key(&client.get_public(&pair.public, None)).description();
    assert_eq!(before, after);
    client.on_object(operation::DESTROY, &pair.private);
    client.on_object(operation::DESTROY, &pair.public);
    assert_eq!(token.objects(), Vec::<String>::new());
}

#[test]
fn get_attributes_tells_what_the_list_promises() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let KeyPair { private, public } = client.create_key_pair(&KeySpec::rsa(2048));
    for (id, object, mask, link, partner, name) in [
        (&private, object_type::PRIVATE_KEY, usage::SIGN, link::PUBLIC_KEY, &public, "example-pri"),
        (&public, object_type::PUBLIC_KEY, usage::VERIFY, link::PRIVATE_KEY, &private, "example-pub"),
    ] {
        assert_eq!(client.attribute(id, "Unique Identifier"), Value::TextString(id.to_string()));
        assert_eq!(client.attribute(id, "Object Type"), Value::Enumeration(object));
        assert_eq!(client.attribute(id, "Cryptographic Algorithm"), Value::Enumeration(algorithm::RSA));
        assert_eq!(client.attribute(id, "Cryptographic Length"), Value::Integer(2048));
        if !skipped_in_part(bridge.meets_added_uses(), "the token takes no uses that are set to false") {
            assert_eq!(client.attribute(id, "Cryptographic Usage Mask"), Value::Integer(mask));
        }
        assert_eq!(client.attribute(id, "State"), Value::Enumeration(state::ACTIVE));
        assert_eq!(client.name_of(id), name);
        let expected = vec![enumeration(tags::LINK_TYPE, link), text(tags::LINKED_OBJECT_IDENTIFIER, partner)];
        assert_eq!(client.attribute(id, "Link"), Value::Structure(expected));

        let all: Vec<String> = client.attributes(id, &[]).into_iter().map(|(name, _)| name).collect();
        let list = client.ok(operation::GET_ATTRIBUTE_LIST, vec![unique_identifier(id)]);
        let list: Vec<&str> = list.all(tags::ATTRIBUTE_NAME).iter().map(|name| name.as_text()).collect();
        assert_eq!(all, list);
        assert!(list.len() >= 8, "{list:?}");
    }
    assert_eq!(client.attributes(&private, &["Lease Time", "x-nothing"]), []);
    let twice =
        vec![unique_identifier(&private), text(tags::ATTRIBUTE_NAME, "State"), text(tags::ATTRIBUTE_NAME, "State")];
    client.call(Item::new(operation::GET_ATTRIBUTES, twice)).is_refused(reason::INVALID_MESSAGE);
    for operation in [operation::GET_ATTRIBUTES, operation::GET_ATTRIBUTE_LIST] {
        client.call(Item::new(operation, vec![unique_identifier(NOT_THERE)])).is_refused(reason::ITEM_NOT_FOUND);
    }
}

#[test]
fn locate_finds_by_every_criterion() {
    let token = Token::create();
    if token.cannot_make(&KeySpec::ecdsa(384)) {
        return;
    }
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let rsa = client.create_key_pair(&KeySpec::rsa(2048).named("rsa"));
    let p256 = client.create_key_pair(&KeySpec::ecdsa(256).named("p256"));
    let p384 = client.create_key_pair(&KeySpec::ecdsa(384).named("p384"));

    let object = |kind| attribute("Object Type", Value::Enumeration(kind));
    let of = |algorithm| attribute("Cryptographic Algorithm", Value::Enumeration(algorithm));
    let long = |length| attribute("Cryptographic Length", Value::Integer(length));
    let identified = |id: &str| attribute("Unique Identifier", Value::TextString(id.to_string()));
    let linked = |kind, id: &str| {
        let fields = vec![enumeration(tags::LINK_TYPE, kind), text(tags::LINKED_OBJECT_IDENTIFIER, id)];
        attribute("Link", Value::Structure(fields))
    };
    let pairs = [&rsa, &p256, &p384];
    finds(&mut client, vec![], &pairs.map(|pair| [&pair.private, &pair.public]).concat());
    finds(&mut client, vec![name_attribute("rsa-pri")], &[&rsa.private]);
    finds(&mut client, vec![identified(&p256.public)], &[&p256.public]);
    finds(&mut client, vec![identified(&p256.public.to_lowercase())], &[&p256.public]);
    let bare = p256.public.strip_suffix("_pub").unwrap();
    finds(&mut client, vec![identified(bare)], &[&p256.private, &p256.public]);
    finds(&mut client, vec![identified(&p256.public), identified(&p384.public)], &[]);
    finds(&mut client, vec![identified(&p256.public), object(object_type::PRIVATE_KEY)], &[]);
    finds(&mut client, vec![identified("nobody")], &[]);
    finds(&mut client, vec![object(object_type::PRIVATE_KEY)], &pairs.map(|pair| &pair.private));
    finds(&mut client, vec![of(algorithm::ECDSA), long(256)], &[&p256.private, &p256.public]);
    finds(&mut client, vec![object(object_type::PUBLIC_KEY), of(algorithm::RSA)], &[&rsa.public]);
    finds(&mut client, vec![linked(link::PUBLIC_KEY, &p384.public)], &[&p384.private]);
    finds(&mut client, vec![linked(link::PRIVATE_KEY, &p384.private)], &[&p384.public]);
    finds(&mut client, vec![name_attribute("rsa-pri"), object(object_type::PUBLIC_KEY)], &[]);
    // One value of an attribute and another one are asked for: no object has both.
    finds(&mut client, vec![name_attribute("rsa-pri"), name_attribute("p256-pri")], &[]);
    finds(&mut client, vec![object(object_type::PUBLIC_KEY), object(object_type::PRIVATE_KEY)], &[]);
    let may = |mask| attribute("Cryptographic Usage Mask", Value::Integer(mask));
    finds(&mut client, vec![may(usage::VERIFY), long(384)], &[&p384.public]);
    finds(&mut client, vec![may(usage::SIGN | usage::VERIFY)], &[]);
    finds(&mut client, vec![name_attribute("nobody")], &[]);
    finds(&mut client, vec![long(4096)], &[]);
    // On-line, archival.
    finds(&mut client, vec![integer(tags::STORAGE_STATUS_MASK, 3), name_attribute("rsa-pri")], &[&rsa.private]);
    finds(&mut client, vec![integer(tags::STORAGE_STATUS_MASK, 2)], &[]);

    let unknown = vec![attribute("No Such Attribute", Value::Integer(1))];
    client.call(Item::new(operation::LOCATE, unknown)).is_refused(reason::INVALID_FIELD);
    // Each may cost a call to the token for each object.
    let many = |count| Item::new(operation::LOCATE, vec![of(algorithm::RSA); count]);
    client.call(many(32)).payload();
    client.call(many(33)).is_refused(reason::INVALID_FIELD);
}

/// By the name that the key was given, though the token keeps another.
#[test]
fn locate_finds_by_a_name_that_the_token_cuts_or_changes() {
    for (limits, kept) in [("label-max = 9", "a_b/long-"), ("label-characters = \"plain\"", "a-b-long-name-pri")] {
        let token = Token::create();
        let tables = format!("[[token]]\nname = {:?}\n{limits}\n", token.label);
        let bridge = Bridge::start_with(&token, Options { tables, ..Options::default() });
        let mut client = Client::connect(&bridge, &token);
        let pair = client.create_key_pair(&KeySpec::any(&token).named("a_b/long-name"));
        let private = attribute("Object Type", Value::Enumeration(object_type::PRIVATE_KEY));
        finds(&mut client, vec![name_attribute("a_b/long-name-pri"), private.clone()], &[&pair.private]);
        finds(&mut client, vec![name_attribute(kept), private.clone()], &[&pair.private]);
        finds(&mut client, vec![name_attribute("a_b"), private], &[]);
    }
}

/// The first client never says how much it takes, and loses its place in the connection over more than 8192 bytes.
#[test]
fn locate_keeps_its_answer_small_unless_the_client_says_what_it_takes() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    if token.has_no_room_for(80) {
        return;
    }
    for number in 0..80 {
        client.create_key_pair(&KeySpec::any(&token).named(&number.to_string()));
    }
    let mut found = |criteria: Vec<Node>, takes: Option<i32>| {
        let request = client.request(vec![Item::new(operation::LOCATE, criteria)]);
        let response = client.ask(&support::Request { maximum_response_size: takes, ..request });
        (response.single().payload().all(tags::UNIQUE_IDENTIFIER).len(), response.size)
    };
    let (shown, size) = found(vec![], None);
    assert!((100..160).contains(&shown) && size <= 8192, "{shown} in {size} bytes");
    assert_eq!(found(vec![], None), (shown, size));
    assert_eq!(found(vec![], Some(1 << 20)).0, 160);
    assert_eq!(found(vec![integer(tags::MAXIMUM_ITEMS, 200)], None).0, 160);
    let (_, log) = bridge.stop();
    let warned = |line: &&str| line.contains(" WARN ") && line.contains("Locate answers");
    assert_eq!(log.lines().filter(warned).count(), 1, "{log}");
}

#[test]
fn locate_gives_out_its_finds_in_portions() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    for number in 0..3 {
        client.create_key_pair(&KeySpec::any(&token).named(&number.to_string()));
    }
    let all = client.locate(vec![]);
    assert_eq!(all.len(), 6);
    assert_eq!(client.locate(vec![integer(tags::MAXIMUM_ITEMS, 2)]), all[..2]);
    client.version = (1, 3);
    let portion = vec![integer(tags::MAXIMUM_ITEMS, 2), integer(tags::OFFSET_ITEMS, 3)];
    assert_eq!(client.locate(portion), all[3..5]);
    assert_eq!(client.locate(vec![integer(tags::OFFSET_ITEMS, 6)]), Vec::<String>::new());
    client.version = (1, 2);
    let early = Item::new(operation::LOCATE, vec![integer(tags::OFFSET_ITEMS, 3)]);
    client.call(early).is_refused(reason::INVALID_FIELD);
}

#[test]
fn identifiers_are_hex_in_either_case_and_bare_ones_mean_the_public_key() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let pair = client.create_key_pair(&KeySpec::any(&token));
    let block = client.get_public(&pair.public, None);
    let bare = pair.public.strip_suffix("_pub").unwrap();
    for spelling in [bare.to_string(), bare.to_lowercase(), format!("{}_pub", bare.to_lowercase())] {
        let answer = client.ok(operation::GET, vec![unique_identifier(&spelling)]);
        assert_eq!(*answer.at(&[tags::PUBLIC_KEY, tags::KEY_BLOCK]), block, "{spelling}");
    }
}

#[test]
fn keys_made_by_others_are_served_like_our_own() {
    let token = Token::create();
    token.pkcs11_tool(&["--keypairgen", "--key-type", "rsa:2048", "--label", "foreign", "--id", "0a0b"]);
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let mut found = client.locate(vec![name_attribute("foreign")]);
    found.sort();
    assert_eq!(found, ["0A0B_priv", "0A0B_pub"]);
    let key = public_key(&client.get_public("0A0B_pub", None));
    let signature = client.sign("0A0B_priv", rsa_sha_256(), b"data");
    assert!(key.verifies(support::openssl::Scheme::Digest("-sha256"), b"data", &signature));
    assert_eq!(client.attribute("0A0B_priv", "State"), Value::Enumeration(state::ACTIVE));
}

#[test]
fn keys_that_share_an_identifier_are_not_guessed_between() {
    let token = Token::create();
    for label in ["one", "two"] {
        token.pkcs11_tool(&["--keypairgen", "--key-type", token.any_kind(), "--label", label, "--id", "0c"]);
    }
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let answer = client.call(support::key::sign_item("0C_priv", token.sign_parameters(), b"data"));
    assert_eq!(answer.status, 1, "one of two keys has signed: {answer:?}");
    assert!(answer.reason.is_some_and(reason::is_known_to_cascade), "{answer:?}");
    let destroy = Item::new(operation::DESTROY, vec![unique_identifier("0C_priv")]);
    assert_eq!(client.call(destroy).status, 1);
    assert_eq!(token.objects().len(), 4);
}

#[test]
fn names_may_hold_what_labels_may() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let mut client = Client::connect(&bridge, &token);
    let pair = client.create_key_pair(&KeySpec::any(&token));
    for name in ["a", "x".repeat(200).as_str(), "zażółć gęślą jaźń", "with spaces, \"quotes\" and / slashes", "🔑"]
    {
        client.call(Client::rename_item(&pair.private, name)).payload();
        assert_eq!(client.name_of(&pair.private), name);
        finds(&mut client, vec![name_attribute(name)], &[&pair.private]);
    }
    for name in ["", "x".repeat(1025).as_str()] {
        client.call(Client::rename_item(&pair.private, name)).is_refused(reason::INVALID_FIELD);
        client
            .call(KeySpec { private_name: name.to_string(), ..KeySpec::any(&token) }.item())
            .is_refused(reason::INVALID_FIELD);
    }
    assert_eq!(client.name_of(&pair.private), "🔑");
}
