//! Malformed and unlawful messages: the error that KMIP 1.2 names, the item's Operation and Unique Batch Item ID where they
//! could be read, and a connection that goes on wherever the frame was sound.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::net::Shutdown;
use std::time::Instant;

use support::key::unique_identifier;
use support::message::{Item, Response, protocol_version};
use support::tags::{self, operation, reason};
use support::ttlv::{Node, Value, boolean, bytes, enumeration, integer, malformed, structure, text};
use support::{Bridge, Client, KeySpec, Request, Token};

const ID: &[u8] = b"\x00item\xFF";

/// A connection to spoil messages on, with the bridge and token it belongs to.
struct Bench {
    client: Client,
    bridge: Bridge,
    token: Token,
}

impl Bench {
    fn set_up() -> Bench {
        let token = Token::create();
        let bridge = Bridge::start(&token);
        Bench { client: Client::connect(&bridge, &token), bridge, token }
    }

    fn reconnect(&mut self) {
        self.client = Client::connect(&self.bridge, &self.token);
    }

    /// A message whose payload is wrong: its item is refused, by name, and nothing else.
    fn item_is_refused(&mut self, payload: Vec<Node>, reason: u32) {
        let request = self.client.request(vec![Item::new(operation::LOCATE, payload.clone()).with_id(ID)]);
        let response = self.client.ask(&request);
        let answer = response.single();
        assert_eq!((answer.operation, answer.id.as_deref()), (Some(operation::LOCATE), Some(ID)), "{payload:?}");
        answer.is_refused(reason);
        self.still_in_step();
    }

    /// A message that is wrong as a whole, in a frame that is right.
    fn message_is_refused(&mut self, message: &Node, reason: u32) {
        let response = self.client.ask_node(message);
        response.single().is_refused_as_a_whole(reason);
        self.still_in_step();
    }

    /// The header of a good request with its fields changed, and one good item.
    fn with_header(&self, change: impl FnOnce(&mut Vec<Node>)) -> Node {
        let request = self.client.request(vec![query()]);
        let mut fields = request.header().children().to_vec();
        change(&mut fields);
        structure(tags::REQUEST_MESSAGE, vec![structure(tags::REQUEST_HEADER, fields), query().to_node()])
    }

    /// A good header, and a batch item of these fields.
    fn with_item(&self, fields: Vec<Node>) -> Node {
        let header = self.client.request(vec![query()]).header();
        structure(tags::REQUEST_MESSAGE, vec![header, structure(tags::BATCH_ITEM, fields)])
    }

    fn still_in_step(&mut self) {
        self.client.call(query()).payload();
    }
}

fn query() -> Item {
    Item::new(operation::QUERY, vec![enumeration(tags::QUERY_FUNCTION, tags::query::OPERATIONS)])
}

fn payload_of_query() -> Node {
    structure(tags::REQUEST_PAYLOAD, query().payload)
}

#[test]
fn refuses_lengths_beyond_the_limit_before_anything_is_read() {
    let mut bench = Bench::set_up();
    for length in [u32::MAX, 0x8000_0000, 0x7FFF_FFF8, (1 << 20) + 8] {
        let head = malformed(tags::REQUEST_MESSAGE, 1, length, &[]).encode();
        bench.client.send(&head);
        let answer = Response::read(&bench.client.receive().expect("an answer"));
        answer.single().is_refused_as_a_whole(reason::INVALID_MESSAGE);
        assert!(bench.client.is_closed());
        bench.reconnect();
    }
}

#[test]
fn refuses_what_does_not_begin_a_request() {
    let mut bench = Bench::set_up();
    let good = bench.client.request(vec![query()]).encode();
    let http = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
    let response_message = [&[0x42, 0x00, 0x7B], &good[3..]].concat();
    let other_tag = [&[0x42, 0x00, 0x0F], &good[3..]].concat();
    let foreign_tag = [&[0x00, 0x00, 0x78], &good[3..]].concat();
    let byte_string = [&good[..3], &[8], &good[4..]].concat();
    let odd_length = malformed(tags::REQUEST_MESSAGE, 1, 12, &[0; 16]).encode();
    for message in
        [http, response_message, other_tag, foreign_tag, byte_string, odd_length, vec![0; 64], vec![0xFF; 64]]
    {
        bench.client.send(&message);
        let answer = Response::read(&bench.client.receive().expect("an answer"));
        answer.single().is_refused_as_a_whole(reason::INVALID_MESSAGE);
        bench.reconnect();
    }
    bench.still_in_step();
}

#[test]
fn survives_every_truncation_of_a_request() {
    let mut bench = Bench::set_up();
    let whole = bench.client.request(vec![query()]).encode();
    for length in 0..whole.len() {
        bench.client.try_send(&whole[..length]);
        drop(bench.client.socket().shutdown(Shutdown::Write));
        // Nothing, or an error: never a success.
        if let Some(answer) = bench.client.receive() {
            Response::read(&answer).single().is_refused_as_a_whole(reason::INVALID_MESSAGE);
        }
        bench.reconnect();
    }
    bench.still_in_step();
}

#[test]
fn refuses_items_of_a_wrong_type_or_length() {
    let mut bench = Bench::set_up();
    let tag = tags::MAXIMUM_ITEMS;
    for (kind, length, bytes) in [
        // No such type.
        (0x00, 4, &[0_u8; 8][..]),
        (0x0B, 8, &[0; 8]),
        (0x42, 8, &[0; 8]),
        (0xFF, 0, &[]),
        // Integer
        (2, 0, &[]),
        (2, 1, &[0; 8]),
        (2, 3, &[0; 8]),
        (2, 5, &[0; 8]),
        (2, 8, &[0; 8]),
        // Long Integer
        (3, 4, &[0; 8]),
        (3, 16, &[0; 16]),
        // Big Integer
        (4, 0, &[]),
        (4, 4, &[0; 8]),
        (4, 12, &[0; 16]),
        // Enumeration
        (5, 0, &[]),
        (5, 8, &[0; 8]),
        // Boolean
        (6, 1, &[0; 8]),
        (6, 4, &[0; 8]),
        (6, 8, &[0, 0, 0, 0, 0, 0, 0, 2]),
        (6, 8, &[0xFF; 8]),
        (6, 8, &[1, 0, 0, 0, 0, 0, 0, 0]),
        // Date-Time
        (9, 4, &[0; 8]),
        // Interval
        (10, 8, &[0; 8]),
        // Padding that is not zero
        (2, 4, &[0, 0, 0, 1, 0, 0, 0, 1]),
        (8, 3, &[1, 2, 3, 0, 0, 0, 0, 9]),
    ] {
        bench.item_is_refused(vec![malformed(tag, kind, length, bytes)], reason::INVALID_MESSAGE);
    }
    // The right encoding of a wrong type.
    for value in [Value::LongInteger(1), Value::Enumeration(1), Value::TextString("1".into()), Value::Structure(vec![])]
    {
        bench.item_is_refused(vec![Node { tag, value }], reason::INVALID_MESSAGE);
    }
}

#[test]
fn refuses_text_that_is_not_utf_8_or_holds_a_nul() {
    let mut bench = Bench::set_up();
    for wrong in
        [&[0xC3, 0x28][..], &[0xC0, 0x80], &[0xED, 0xA0, 0x80], &[0xF4, 0x90, 0x80, 0x80], &[0xFF], b"a\0b", b"name\0"]
    {
        let mut padded = wrong.to_vec();
        padded.resize(8, 0);
        let name = malformed(tags::ATTRIBUTE_NAME, 7, u32::try_from(wrong.len()).unwrap(), &padded);
        let attribute = structure(tags::ATTRIBUTE, vec![name, integer(tags::ATTRIBUTE_VALUE, 1)]);
        bench.item_is_refused(vec![attribute], reason::INVALID_MESSAGE);
    }
}

#[test]
fn refuses_structures_whose_children_do_not_fill_them() {
    let mut bench = Bench::set_up();
    let inner = integer(tags::MAXIMUM_ITEMS, 1).encode();
    for (length, body) in [
        // A length that no structure has.
        (12, [&inner[..], &[0; 8]].concat()),
        (3, vec![0; 8]),
        // A child that ends beyond its parent.
        (8, malformed(tags::MAXIMUM_ITEMS, 2, 4, &[]).encode()),
        (16, malformed(tags::ATTRIBUTE_NAME, 7, 64, &[0x20; 8]).encode()),
        (16, malformed(tags::ATTRIBUTE_NAME, 7, u32::MAX, &[0x20; 8]).encode()),
        // A child right in length, its padding beyond the parent.
        (24, [&inner[..], &malformed(tags::ATTRIBUTE_NAME, 7, 1, &[]).encode()].concat()),
        // Spare bytes after the last child.
        (24, [&inner[..], &[0; 8]].concat()),
    ] {
        bench.item_is_refused(vec![malformed(tags::ATTRIBUTE, 1, length, &body)], reason::INVALID_MESSAGE);
    }
}

#[test]
fn refuses_tags_that_belong_to_nobody() {
    let mut bench = Bench::set_up();
    for tag in [0x00_0001, 0x41_FFFF, 0x43_0000, 0xFF_FFFF] {
        bench.item_is_refused(vec![integer(tag, 1)], reason::INVALID_MESSAGE);
    }
}

#[test]
fn a_vendor_extension_may_hold_any_tag() {
    let mut bench = Bench::set_up();
    let mut item = query();
    let vendor = vec![
        text(tags::VENDOR_IDENTIFICATION, "Acme"),
        boolean(tags::CRITICALITY_INDICATOR, false),
        structure(tags::VENDOR_EXTENSION, vec![integer(0x01_4242, 1)]),
    ];
    item.extension = Some(structure(tags::MESSAGE_EXTENSION, vendor));
    bench.client.call(item).payload();
}

#[test]
fn refuses_unknown_fields_at_every_level() {
    let mut bench = Bench::set_up();
    let unknown = integer(0x42_0FFF, 1);
    let in_header = bench.with_header(|fields| fields.insert(1, unknown.clone()));
    bench.message_is_refused(&in_header, reason::INVALID_FIELD);
    let header = bench.client.request(vec![query()]).header();
    let in_message = structure(tags::REQUEST_MESSAGE, vec![header, query().to_node(), unknown.clone()]);
    bench.message_is_refused(&in_message, reason::INVALID_FIELD);
    bench.item_is_refused(vec![unknown.clone()], reason::INVALID_FIELD);
    let in_attribute = structure(tags::ATTRIBUTE, vec![text(tags::ATTRIBUTE_NAME, "State"), unknown.clone()]);
    bench.item_is_refused(vec![in_attribute], reason::INVALID_FIELD);

    let operation = enumeration(tags::OPERATION, operation::QUERY);
    let in_item = bench.with_item(vec![operation, payload_of_query(), unknown]);
    let response = bench.client.ask_node(&in_item);
    assert_eq!(response.single().operation, Some(operation::QUERY));
    response.single().is_refused(reason::INVALID_FIELD);
    bench.still_in_step();
}

#[test]
fn ignores_unknown_fields_of_a_later_version() {
    let mut bench = Bench::set_up();
    let unknown = integer(0x42_0FFF, 1);
    let item = Item::new(operation::QUERY, vec![query().payload[0].clone(), unknown.clone()]);
    let mut request = bench.client.request(vec![item]);
    request.version = (1, 7);
    let mut fields = request.header().children().to_vec();
    fields.insert(1, unknown);
    let message =
        structure(tags::REQUEST_MESSAGE, vec![structure(tags::REQUEST_HEADER, fields), request.items[0].to_node()]);
    let response = bench.client.ask_node(&message);
    assert_eq!(response.version, (1, 4), "the latest that is spoken");
    response.single().payload();
}

#[test]
fn refuses_other_major_versions() {
    let mut bench = Bench::set_up();
    for version in [(0, 9), (2, 0), (2, 1), (-1, 0), (i32::MAX, i32::MAX)] {
        let message = bench.with_header(|fields| fields[0] = protocol_version(version));
        bench.message_is_refused(&message, reason::INVALID_MESSAGE);
    }
}

#[test]
fn refuses_headers_that_lack_or_repeat_or_misplace_a_field() {
    let mut bench = Bench::set_up();
    let count = integer(tags::BATCH_COUNT, 1);
    let messages = [
        bench.with_header(|fields| drop(fields.remove(0))),
        bench.with_header(|fields| drop(fields.pop())),
        bench.with_header(|fields| fields.push(count.clone())),
        bench.with_header(|fields| fields.swap(1, 2)),
        bench.with_header(|fields| fields.rotate_left(1)),
        bench.with_header(|fields| *fields.last_mut().unwrap() = enumeration(tags::BATCH_COUNT, 1)),
        bench.with_header(|fields| fields.last_mut().unwrap().value = Value::LongInteger(1)),
        bench.with_header(|fields| fields[0] = structure(tags::PROTOCOL_VERSION, vec![])),
        bench.with_header(|fields| fields[1] = text(tags::AUTHENTICATION, "trust me")),
        bench.with_header(|fields| fields.insert(1, integer(tags::ASYNCHRONOUS_INDICATOR, 1))),
        structure(tags::REQUEST_MESSAGE, vec![]),
        structure(tags::REQUEST_MESSAGE, vec![query().to_node()]),
        structure(tags::REQUEST_MESSAGE, vec![query().to_node(), bench.client.request(vec![query()]).header()]),
    ];
    for message in messages {
        bench.message_is_refused(&message, reason::INVALID_MESSAGE);
    }
}

#[test]
fn refuses_batch_items_that_lack_or_repeat_or_misplace_a_field() {
    let mut bench = Bench::set_up();
    let operation = || enumeration(tags::OPERATION, operation::QUERY);
    let id = || bytes(tags::UNIQUE_BATCH_ITEM_ID, ID);
    // What could be read is named in the answer.
    for (fields, named, echoed) in [
        (vec![], None, None),
        (vec![payload_of_query()], None, None),
        (vec![id(), payload_of_query()], None, Some(ID)),
        (vec![operation(), id()], Some(operation::QUERY), Some(ID)),
        (vec![operation(), operation(), payload_of_query()], Some(operation::QUERY), None),
        (vec![operation(), id(), id(), payload_of_query()], Some(operation::QUERY), Some(ID)),
        (vec![operation(), payload_of_query(), id()], Some(operation::QUERY), Some(ID)),
        (vec![integer(tags::OPERATION, 24), id(), payload_of_query()], None, Some(ID)),
        (vec![operation(), text(tags::UNIQUE_BATCH_ITEM_ID, "1"), payload_of_query()], Some(operation::QUERY), None),
        (vec![operation(), id(), bytes(tags::REQUEST_PAYLOAD, b"")], Some(operation::QUERY), Some(ID)),
    ] {
        let message = bench.with_item(fields.clone());
        let response = bench.client.ask_node(&message);
        let answer = response.single();
        answer.is_refused(reason::INVALID_MESSAGE);
        assert_eq!((answer.operation, answer.id.as_deref()), (named, echoed), "{fields:?}");
        bench.still_in_step();
    }
}

#[test]
fn refuses_payloads_that_repeat_or_misplace_a_field() {
    let mut bench = Bench::set_up();
    let items = || integer(tags::MAXIMUM_ITEMS, 1);
    bench.item_is_refused(vec![items(), items()], reason::INVALID_MESSAGE);
    let attribute = support::message::attribute("Object Type", Value::Enumeration(3));
    bench.item_is_refused(vec![attribute, items()], reason::INVALID_MESSAGE);
    // A field of another operation.
    bench.item_is_refused(vec![unique_identifier("00_pub")], reason::INVALID_FIELD);
    // Required fields.
    let empty = structure(tags::ATTRIBUTE, vec![]);
    bench.item_is_refused(vec![empty], reason::INVALID_MESSAGE);
    bench.client.call(Item::new(operation::QUERY, vec![])).is_refused(reason::INVALID_MESSAGE);
    bench.client.call(Item::new(operation::SIGN, vec![])).is_refused(reason::INVALID_MESSAGE);
    bench.client.call(Item::new(operation::RNG_RETRIEVE, vec![])).is_refused(reason::INVALID_MESSAGE);
}

#[test]
fn refuses_attributes_with_values_of_another_type() {
    let mut bench = Bench::set_up();
    bench.client.create_key_pair(&KeySpec::any(&bench.token));
    for (name, value) in [
        ("Object Type", Value::Integer(3)),
        ("Cryptographic Length", Value::Enumeration(256)),
        ("Cryptographic Algorithm", Value::TextString("RSA".into())),
        ("Unique Identifier", Value::ByteString(vec![1])),
        ("Name", Value::TextString("name".into())),
        ("Link", Value::TextString("00_pub".into())),
    ] {
        let attribute = support::message::attribute(name, value);
        let answer = bench.client.call(Item::new(operation::LOCATE, vec![attribute]));
        assert!(matches!(answer.reason, Some(reason::INVALID_MESSAGE | reason::INVALID_FIELD)), "{name}: {answer:?}");
    }
}

#[test]
fn refuses_nesting_without_end() {
    let mut bench = Bench::set_up();
    // Requests of this size are for those who have shown their PIN.
    bench.client.random(1);
    let mut nested = integer(tags::MAXIMUM_ITEMS, 1).encode();
    for _ in 0..10_000 {
        let length = u32::try_from(nested.len()).unwrap();
        nested = [&malformed(tags::ATTRIBUTE, 1, length, &[]).encode()[..], &nested].concat();
    }
    let length = u32::try_from(nested.len() - 8).unwrap();
    bench.item_is_refused(vec![malformed(tags::ATTRIBUTE, 1, length, &nested[8..])], reason::INVALID_MESSAGE);
}

#[test]
fn survives_a_request_of_many_tiny_items() {
    let mut bench = Bench::set_up();
    bench.client.random(1);
    let many = vec![enumeration(tags::QUERY_FUNCTION, tags::query::OPERATIONS); 50_000];
    let answer = bench.client.call(Item::new(operation::QUERY, many));
    assert!(answer.status == 0 || answer.reason.is_some_and(reason::is_known_to_cascade));
    bench.still_in_step();
}

#[test]
fn requests_may_come_together_or_in_single_bytes() {
    let mut bench = Bench::set_up();
    let request = bench.client.request(vec![query()]).encode();
    bench.client.send(&request.repeat(5));
    for _ in 0..5 {
        Response::read(&bench.client.receive().unwrap()).single().payload();
    }
    for byte in &request {
        bench.client.send(&[*byte]);
    }
    Response::read(&bench.client.receive().unwrap()).single().payload();
    // Garbage behind a good message spoils only itself.
    bench.client.send(&[&request[..], &[0x17; 16]].concat());
    Response::read(&bench.client.receive().unwrap()).single().payload();
    Response::read(&bench.client.receive().unwrap()).single().is_refused_as_a_whole(reason::INVALID_MESSAGE);
    assert!(bench.client.is_closed());
}

#[test]
fn other_credentials_than_a_password_do_not_open_the_token() {
    let mut bench = Bench::set_up();
    for kind in [2, 3, 0x8000_0001] {
        let credential = vec![enumeration(tags::CREDENTIAL_TYPE, kind), structure(tags::CREDENTIAL_VALUE, vec![])];
        let authentication = structure(tags::AUTHENTICATION, vec![structure(tags::CREDENTIAL, credential)]);
        let request = Request::new(vec![Item::new(operation::LOCATE, vec![])]);
        let mut fields = request.header().children().to_vec();
        fields.insert(1, authentication);
        let header = structure(tags::REQUEST_HEADER, fields);
        let message = structure(tags::REQUEST_MESSAGE, vec![header, request.items[0].to_node()]);
        let response = bench.client.ask_node(&message);
        response.single().is_refused(reason::AUTHENTICATION_NOT_SUCCESSFUL);
    }
}

/// Who has proved nothing learns nothing of how payloads are judged, and has no work done on them.
#[test]
fn a_payload_is_looked_at_only_after_its_sender_has_proved_itself() {
    let bench = Bench::set_up();
    let mut stranger = Client::connect_as(&bench.bridge, None);
    let unknown = || vec![integer(0x42_0FFF, 1)];
    for operation in operation::ALL {
        let answer = stranger.call(Item::new(operation, unknown()));
        let open = [operation::QUERY, operation::DISCOVER_VERSIONS].contains(&operation);
        answer.is_refused(if open { reason::INVALID_FIELD } else { reason::AUTHENTICATION_NOT_SUCCESSFUL });
    }
}

#[test]
fn a_flood_of_what_is_refused_does_not_fill_the_log() {
    let token = Token::create();
    let bridge = Bridge::start(&token);
    let since = Instant::now();
    for _ in 0..100 {
        let mut client = Client::connect_as(&bridge, None);
        client.send(b"no KMIP");
        client.send(&[0; 8]);
        client.receive().expect("an answer");
        assert!(client.is_closed());
    }
    let (_, log) = bridge.stop();
    let (told, all) = (log.matches("refused: ").count(), log.lines().filter(|line| line.contains("refused: ")));
    let plain = all.filter(|line| line.contains(" INFO ")).count();
    // Twenty a minute.
    let most = 20 * (1 + usize::try_from(since.elapsed().as_secs() / 60).unwrap());
    assert!(told >= 100 && (1..=most).contains(&plain), "{plain} of {told}");
}
