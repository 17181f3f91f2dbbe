//! Messages that are larger, deeper and longer than anybody needs.

use std::time::Instant;

use crate::stage::{PATIENCE, Stage};
use crate::support::key::unique_identifier;
use crate::support::message::Item;
use crate::support::tags::{self, continuation, operation, reason};
use crate::support::ttlv::{boolean, integer, structure, text};
use crate::support::{Client, KeySpec, Response};

#[test]
fn declared_lengths_nesting_and_tiny_items_cost_little() {
    let mut stage = Stage::set("");
    stage.withstands(|stage| {
        let memory = stage.bridge.resident();
        for length in [0xffff_fff8_u32, 0x7fff_fff8, 0x0100_0000, 0x0001_0000] {
            let mut client = stage.stranger();
            client.send(&[&[0x42, 0, 0x78, 1], &length.to_be_bytes()[..]].concat());
            Response::read(&client.receive().unwrap()).single().is_refused_as_a_whole(reason::INVALID_MESSAGE);
            assert!(client.is_closed());
        }
        let mut client = Client::connect(&stage.bridge, &stage.token);
        client.random(1);
        let header = client.request(vec![]).header();
        let nested = (0..500).fold(integer(tags::BATCH_COUNT, 1), |inner, _| structure(tags::ATTRIBUTE, vec![inner]));
        let deep = structure(tags::REQUEST_MESSAGE, vec![header, nested]);
        client.ask_node(&deep).single().is_refused_as_a_whole(reason::INVALID_MESSAGE);
        // 100,000 items of eight bytes, counted right, too high and too low.
        let tiny = vec![structure(tags::BATCH_ITEM, vec![]); 100_000];
        for count in [100_000, i32::MAX, 1000, 1] {
            let mut request = client.request(vec![]);
            request.count = Some(count);
            let message = structure(tags::REQUEST_MESSAGE, [vec![request.header()], tiny.clone()].concat());
            let since = Instant::now();
            client.ask_node(&message).single().is_refused_as_a_whole(reason::INVALID_MESSAGE);
            assert!(since.elapsed() < PATIENCE / 6, "{:?}", since.elapsed());
        }
        let grown = stage.bridge.resident().saturating_sub(memory);
        assert!(grown < 32 * 1024, "{grown} KiB more");
    });
}

#[test]
fn structures_nest_as_deep_as_the_configuration_says() {
    let mut stage = Stage::set("max-nesting-depth = 64\n");
    stage.withstands(|stage| {
        let mut client = Client::connect(&stage.bridge, &stage.token);
        // The message, its item, the extension and the vendor's part of that are four levels.
        let mut nested = |depth: usize| {
            let inner = (0..depth - 4).fold(vec![], |inner, _| vec![structure(tags::ATTRIBUTE, inner)]);
            let extension = vec![
                text(tags::VENDOR_IDENTIFICATION, "nobody"),
                boolean(tags::CRITICALITY_INDICATOR, false),
                structure(tags::VENDOR_EXTENSION, inner),
            ];
            let extension = Some(structure(tags::MESSAGE_EXTENSION, extension));
            client.call(Item { extension, ..Item::new(operation::LOCATE, vec![]) })
        };
        for _ in 0..20 {
            nested(64).payload();
            let refused = nested(65);
            refused.is_refused(reason::INVALID_MESSAGE);
            let message = refused.message.unwrap();
            assert!(message.contains("structures are nested deeper than 64 "), "{message}");
        }
    });
}

#[test]
fn a_batch_whose_answers_would_fill_the_memory_is_cut_short() {
    let mut stage = Stage::set("");
    if stage.token.is_slow_at_random() {
        return;
    }
    stage.withstands(|stage| {
        let mut client = Client::connect(&stage.bridge, &stage.token);
        let item = |number: u32| {
            Item::new(operation::RNG_RETRIEVE, vec![integer(tags::DATA_LENGTH, 65_536)]).with_id(&number.to_be_bytes())
        };
        let mut request = client.request((0..200).map(item).collect());
        request.continuation = Some(continuation::CONTINUE);
        let response = client.ask(&request);
        assert!(response.size <= 1 << 20, "{} bytes", response.size);
        let good = response.answers.iter().take_while(|answer| answer.status == 0).count();
        assert_eq!(good, 15);
        assert!(response.answers[good..].iter().all(|answer| answer.reason == Some(reason::RESPONSE_TOO_LARGE)));
        // More items than a message may have: refused before the first of them is done.
        let mut items = vec![KeySpec::any(&stage.token).named("never-made").item().with_id(b"first")];
        items.extend((0..1000).map(|number: u32| {
            Item::new(operation::GET, vec![unique_identifier("00_pub")]).with_id(&number.to_be_bytes())
        }));
        let request = client.request(items);
        client.ask(&request).single().is_refused_as_a_whole(reason::INVALID_MESSAGE);
        assert_eq!(stage.token.objects().len(), 2);
    });
}
