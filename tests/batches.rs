//! Rules for messages of several items (KMIP 1.2, sections 4 and 6): counts, identifiers, order, what an error does to the rest, and
//! what fits into an answer.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use support::bridge::Options;
use support::key::{KeyPair, sign_item, unique_identifier};
use support::message::{Item, Request};
use support::tags::{self, continuation, operation, query, reason};
use support::ttlv::{boolean, bytes, enumeration, integer, structure, text};
use support::{Bridge, Client, Faulty, KeySpec, Response, Token, until};

fn random(id: &[u8]) -> Item {
    Item::new(operation::RNG_RETRIEVE, vec![integer(tags::DATA_LENGTH, 8)]).with_id(id)
}

fn missing(id: &[u8]) -> Item {
    Item::new(operation::GET, vec![unique_identifier("00_pub")]).with_id(id)
}

fn query_item() -> Item {
    let functions = [query::OPERATIONS, query::OBJECTS];
    Item::new(operation::QUERY, functions.map(|function| enumeration(tags::QUERY_FUNCTION, function)).to_vec())
}

fn start() -> (Token, Bridge, Client) {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let client = Client::connect(&bridge, &token);
    (token, bridge, client)
}

#[test]
fn answers_come_in_the_order_of_the_items_with_their_ids() {
    let (_token, _bridge, mut client) = start();
    let ids: [&[u8]; 4] = [b"", b"b", &[0; 16], b"a"];
    for order in [None, Some(false), Some(true)] {
        let request = Request { order, ..client.request(ids.map(random).to_vec()) };
        let response = client.ask(&request);
        let answered: Vec<_> = response.answers.iter().map(|answer| answer.id.clone().unwrap()).collect();
        assert_eq!(answered, ids);
        assert!(response.answers.iter().all(|answer| answer.status == 0));
    }
}

#[test]
fn refuses_a_batch_count_that_is_not_the_number_of_items() {
    let (_token, _bridge, mut client) = start();
    for (items, count) in [(1, 0), (1, -1), (1, 2), (1, i32::MAX), (2, 1), (2, 3), (0, 0), (0, 1)] {
        let items = (0..items).map(|number: u8| random(&[number])).collect();
        let request = Request { count: Some(count), ..client.request(items) };
        client.ask(&request).single().is_refused_as_a_whole(reason::INVALID_MESSAGE);
    }
    client.random(1);
}

#[test]
fn refuses_several_items_without_ids_of_their_own() {
    let (_token, _bridge, mut client) = start();
    let bare = || Item::new(operation::RNG_RETRIEVE, vec![integer(tags::DATA_LENGTH, 8)]);
    for items in [vec![bare(), bare()], vec![random(b"1"), bare()], vec![random(b"1"), random(b"2"), random(b"1")]] {
        let request = client.request(items);
        client.ask(&request).single().is_refused_as_a_whole(reason::INVALID_MESSAGE);
    }
    // Alone, an item may have one.
    let request = client.request(vec![random(b"only")]);
    assert_eq!(client.ask(&request).single().id.as_deref(), Some(&b"only"[..]));
}

#[test]
fn an_error_stops_the_batch_unless_it_shall_go_on() {
    let (token, _bridge, mut client) = start();
    let items = || vec![random(b"1"), missing(b"2"), KeySpec::any(&token).item().with_id(b"3"), missing(b"4")];
    for option in [None, Some(continuation::STOP)] {
        let request = Request { continuation: option, ..client.request(items()) };
        let response = client.ask(&request);
        assert_eq!(response.answers.len(), 2);
        response.answers[0].payload();
        response.answers[1].is_refused(reason::ITEM_NOT_FOUND);
        assert_eq!(token.objects(), Vec::<String>::new(), "an item after the error was carried out");
    }
    let request = Request { continuation: Some(continuation::CONTINUE), ..client.request(items()) };
    let response = client.ask(&request);
    assert_eq!(response.answers.len(), 4);
    response.answers[1].is_refused(reason::ITEM_NOT_FOUND);
    response.answers[2].payload();
    response.answers[3].is_refused(reason::ITEM_NOT_FOUND);
    assert_eq!(token.objects().len(), 2);
}

#[test]
fn an_item_that_fails_leaves_no_object_to_those_after_it() {
    let (token, _bridge, mut client) = start();
    let unknown = structure(
        tags::ATTRIBUTE,
        vec![text(tags::ATTRIBUTE_NAME, "No Such Attribute"), integer(tags::ATTRIBUTE_VALUE, 1)],
    );
    for fails in [Item::new(operation::LOCATE, vec![unknown]), KeySpec::ecdsa(255).item()] {
        let items = vec![
            KeySpec::any(&token).item().with_id(b"1"),
            fails.with_id(b"2"),
            Item::new(operation::DESTROY, vec![]).with_id(b"3"),
        ];
        let request = Request { continuation: Some(continuation::CONTINUE), ..client.request(items) };
        let response = client.ask(&request);
        response.answers[0].payload();
        response.answers[1].is_refused(reason::INVALID_FIELD);
        response.answers[2].is_refused(reason::ITEM_NOT_FOUND);
    }
    assert_eq!(token.objects().len(), 4, "an object was destroyed that nobody meant");
}

#[test]
fn undo_is_refused_before_anything_is_done() {
    let (token, _bridge, mut client) = start();
    let items = vec![KeySpec::any(&token).item().with_id(b"1"), missing(b"2")];
    let request = Request { continuation: Some(continuation::UNDO), ..client.request(items) };
    client.ask(&request).single().is_refused_as_a_whole(reason::FEATURE_NOT_SUPPORTED);
    assert_eq!(token.objects(), Vec::<String>::new());
    let unknown = Request { continuation: Some(9), ..client.request(vec![random(b"1"), random(b"2")]) };
    client.ask(&unknown).single().is_refused_as_a_whole(reason::INVALID_FIELD);
}

#[test]
fn a_single_item_may_state_a_continuation_option() {
    let (_token, _bridge, mut client) = start();
    for option in [continuation::CONTINUE, continuation::STOP] {
        let request = Request { continuation: Some(option), ..client.request(vec![random(b"1")]) };
        client.ask(&request).single().payload();
    }
}

#[test]
fn a_critical_extension_refuses_the_batch_before_anything_is_done() {
    let (token, _bridge, mut client) = start();
    let extension = |critical| {
        let fields = vec![
            text(tags::VENDOR_IDENTIFICATION, "somebody"),
            boolean(tags::CRITICALITY_INDICATOR, critical),
            structure(tags::VENDOR_EXTENSION, vec![]),
        ];
        Some(structure(tags::MESSAGE_EXTENSION, fields))
    };
    let second = |critical| Item { extension: extension(critical), ..random(b"2") };
    let request = client.request(vec![KeySpec::any(&token).item().with_id(b"1"), second(true)]);
    let refused = client.ask(&request);
    refused.single().is_refused(reason::FEATURE_NOT_SUPPORTED);
    assert_eq!(refused.single().id.as_deref(), Some(&b"2"[..]), "the item at fault is named");
    assert_eq!(token.objects(), Vec::<String>::new());
    let request = client.request(vec![random(b"1"), second(false)]);
    assert!(client.ask(&request).answers.iter().all(|answer| answer.status == 0));
}

#[test]
fn an_answer_larger_than_the_client_takes_becomes_a_small_error() {
    let (_token, _bridge, mut client) = start();
    let request = |size| Request { maximum_response_size: Some(size), ..Request::new(vec![query_item()]) };
    let small = client.ask(&request(256));
    small.single().is_refused(reason::RESPONSE_TOO_LARGE);
    assert_eq!(small.single().operation, Some(operation::QUERY));
    assert!(small.size <= 256, "{} bytes", small.size);
    client.ask(&request(2048)).single().payload();
    client.ask(&request(8192)).single().payload();
}

#[test]
fn nothing_is_made_for_an_answer_that_cannot_be_given() {
    let (token, _bridge, mut client) = start();
    let request = Request { maximum_response_size: Some(150), ..client.request(vec![KeySpec::any(&token).item()]) };
    client.ask(&request).single().is_refused(reason::RESPONSE_TOO_LARGE);
    assert_eq!(token.objects(), Vec::<String>::new());
}

#[test]
fn nothing_is_renamed_for_an_answer_that_repeats_too_much() {
    let (token, _bridge, mut client) = start();
    let pair = client.create_key_pair(&KeySpec::any(&token));
    let before = token.objects();
    // The answer repeats the attribute.
    let rename = Client::rename_item(&pair.private, &"n".repeat(1000));
    let request = Request { maximum_response_size: Some(800), ..client.request(vec![rename]) };
    let answer = client.ask(&request).single().clone();
    answer.is_refused(reason::RESPONSE_TOO_LARGE);
    assert!(answer.message.as_deref().unwrap().starts_with("not done: "), "{answer:?}");
    assert_eq!(token.objects(), before);
}

#[test]
fn an_asynchronous_client_is_answered_at_once() {
    let (_token, _bridge, mut client) = start();
    let request = client.request(vec![random(b"1")]);
    let mut fields = request.header().children().to_vec();
    fields.insert(1, boolean(tags::ASYNCHRONOUS_INDICATOR, true));
    let header = structure(tags::REQUEST_HEADER, fields);
    let message = structure(tags::REQUEST_MESSAGE, vec![header, request.items[0].to_node()]);
    client.ask_node(&message).single().payload();
}

/// What makes C_Sign take a time that is worth a thread.
const SLOW: &str = "[[fault]]\nfunction = \"C_Sign\"\nquery = false\ndelay-ms = 5\n";

/// A bridge on a module that takes its time for signatures, and knows it.
fn start_slow(settings: &str) -> (Token, Faulty, Bridge, Client, KeyPair) {
    let (token, faulty) = (Token::create(), Faulty::new());
    let tables = format!("[[token]]\nname = {:?}\n{settings}\n", token.label);
    let options = Options { tables, ..faulty.options() };
    let bridge = Bridge::start_with(&token, options);
    let mut client = Client::connect(&bridge, &token);
    let pair = client.create_key_pair(&KeySpec::any(&token));
    faulty.play(SLOW);
    let request = client.request(signatures(&token, &[&pair.private; 2]));
    assert_eq!(client.ask(&request).answers.len(), 2);
    (token, faulty, bridge, client, pair)
}

/// An item for each key, with data and an id of its own.
fn signatures(token: &Token, keys: &[&String]) -> Vec<Item> {
    let item = |(number, key): (usize, &&String)| {
        let data = format!("data {number}");
        sign_item(key, token.sign_parameters(), data.as_bytes()).with_id(&[u8::try_from(number).unwrap()])
    };
    keys.iter().enumerate().map(item).collect()
}

#[test]
fn signatures_of_a_batch_wait_together_for_a_token_that_takes_its_time() {
    let (token, faulty, bridge, mut client, pair) = start_slow("");
    let hang = "[[fault]]\nfunction = \"C_Sign\"\nquery = false\nhang = true\n";
    faulty.play(hang);
    let request = client.request(signatures(&token, &[&pair.private; 8]));
    client.send(&request.encode());
    until("all are under way", || faulty.count("calls-hanging") == 8);
    faulty.play("");
    let response = Response::read(&client.receive().expect("an answer"));
    assert_eq!(response.answers.len(), 8);
    for (number, answer) in response.answers.iter().enumerate() {
        assert_eq!(answer.id.as_deref(), Some(&[u8::try_from(number).unwrap()][..]));
        let signature = answer.payload().child(tags::SIGNATURE_DATA).clone();
        let data = bytes(tags::DATA, format!("data {number}").as_bytes());
        let payload = vec![unique_identifier(&pair.public), token.sign_parameters(), data, signature];
        let verified = client.ok(operation::SIGNATURE_VERIFY, payload);
        assert_eq!(verified.child(tags::VALIDITY_INDICATOR).as_enumeration(), 1, "the signature of its own data");
    }
    // Their threads are gone, and so are the sessions that were lent.
    until("its threads end", || !bridge.thread_names().iter().any(|name| name.starts_with("batch-")));
    client.random(8);
}

#[test]
fn a_batch_takes_no_more_sessions_than_there_are() {
    let (token, faulty, _bridge, mut client, pair) = start_slow("max-sessions = 4");
    let before = faulty.count("peak-sessions");
    assert!(before <= 4);
    let request = client.request(signatures(&token, &[&pair.private; 32]));
    assert!(client.ask(&request).answers.iter().all(|answer| answer.status == 0));
    assert_eq!(faulty.count("peak-sessions"), 4);
}

#[test]
fn a_module_that_is_called_by_one_thread_at_a_time_is_so_in_a_batch() {
    let (token, faulty, _bridge, mut client, pair) = start_slow("serialize = true");
    let request = client.request(signatures(&token, &[&pair.private; 8]));
    assert!(client.ask(&request).answers.iter().all(|answer| answer.status == 0));
    assert_eq!(faulty.count("peak-calls-under-way"), 1);
}

#[test]
fn a_batch_that_wants_its_order_kept_begins_nothing_after_a_failure() {
    let (token, faulty, _bridge, mut client, pair) = start_slow("");
    let (nobody, count) = ("00_priv".to_owned(), faulty.count("C_Sign"));
    let mut keys = vec![&pair.private; 8];
    keys[1] = &nobody;
    let request = Request { order: Some(true), ..client.request(signatures(&token, &keys)) };
    assert_eq!(client.ask(&request).answers.len(), 2);
    assert_eq!(faulty.count("C_Sign"), count + 1);
}

#[test]
fn a_signature_that_fails_among_others_ends_the_batch_or_does_not_as_the_client_says() {
    let (token, _faulty, _bridge, mut client, pair) = start_slow("");
    let nobody = "00_priv".to_owned();
    let mut keys = vec![&pair.private; 8];
    keys[3] = &nobody;
    for (option, count) in [(None, 4), (Some(continuation::STOP), 4), (Some(continuation::CONTINUE), 8)] {
        let request = Request { continuation: option, ..client.request(signatures(&token, &keys)) };
        let response = client.ask(&request);
        assert_eq!(response.answers.len(), count);
        for (number, answer) in response.answers.iter().enumerate() {
            assert_eq!(answer.id.as_deref(), Some(&[u8::try_from(number).unwrap()][..]));
            if number == 3 {
                answer.is_refused(reason::ITEM_NOT_FOUND);
            } else {
                answer.payload();
            }
        }
    }
}

#[test]
fn what_comes_between_signatures_waits_for_those_before_it() {
    let (token, faulty, _bridge, mut client, pair) = start_slow("");
    let mut items = signatures(&token, &[&pair.private; 4]);
    // After it, the key is not there any more.
    items.push(Item::new(operation::DESTROY, vec![unique_identifier(&pair.private)]).with_id(b"gone"));
    let late = signatures(&token, &[&pair.private; 8]);
    items.extend(late.into_iter().skip(4));
    let request = Request { continuation: Some(continuation::CONTINUE), ..client.request(items) };
    client.revoke(&pair.private);
    let count = faulty.count("C_Sign");
    let response = client.ask(&request);
    assert_eq!(response.answers.len(), 9);
    let worked: Vec<_> = response.answers.iter().map(|answer| answer.status == 0).collect();
    assert_eq!(worked, [true, true, true, true, true, false, false, false, false]);
    assert_eq!(faulty.count("C_Sign"), count + 4);
}

#[test]
fn a_batch_whose_client_has_gone_goes_no_further() {
    let (token, faulty) = (Token::create(), Faulty::new());
    let bridge = Bridge::start_with(&token, faulty.options());
    let mut client = Client::connect(&bridge, &token);
    client.random(8);
    faulty.play("[[fault]]\nfunction = \"C_GenerateRandom\"\ndelay-ms = 100\n");
    let (count, items) = (faulty.count("C_GenerateRandom"), 100_u8);
    client.send(&client.request((0..items).map(|number| random(&[number])).collect()).encode());
    until("it is begun", || faulty.count("C_GenerateRandom") > count);
    drop(client);
    until("the connection ends", || bridge.log().contains(" requests answered"));
    assert!(faulty.count("C_GenerateRandom") < count + u64::from(items));
}

#[test]
fn a_batch_that_has_ended_does_not_wait_for_a_call_that_hangs() {
    let (token, faulty) = (Token::create(), Faulty::new());
    let options = Options { pkcs11: "call-timeout = 4".to_owned(), ..faulty.options() };
    let bridge = Bridge::start_with(&token, options);
    let mut good = Client::connect(&bridge, &token);
    let pair = good.create_key_pair(&KeySpec::any(&token));
    faulty.play(SLOW);
    good.ask(&good.request(signatures(&token, &[&pair.private; 2])));
    // The first fails only when others hang.
    let search = "[[fault]]\nfunction = \"C_FindObjectsInit\"\ndelay-ms = 200\n";
    faulty.play(&format!("{search}[[fault]]\nfunction = \"C_Sign\"\nquery = false\nhang = true\n"));
    let nobody = "00_priv".to_owned();
    let mut client = Client::connect(&bridge, &token);
    let mut keys = vec![&pair.private; 8];
    keys[0] = &nobody;
    client.send(&client.request(signatures(&token, &keys)).encode());
    until("others hang", || faulty.count("calls-hanging") > 0);
    let response = Response::read(&client.receive().expect("an answer at the deadline"));
    response.single().is_refused(reason::ITEM_NOT_FOUND);
    assert!(client.is_closed());
    faulty.play("");
    until("the threads end", || !bridge.thread_names().iter().any(|name| name.starts_with("batch-")));
    good.random(8);
}
