//! Reading, dumping and writing TTLV: what is well-formed comes out as it went in.
#![no_main]

use cascade_hsm_bridge::ttlv::{Dump, Item, Reader, Type, Writer};
use libfuzzer_sys::fuzz_target;

fuzz::message_mutator!();

fuzz_target!(|data: &[u8]| {
    let dump = Dump(data).to_string();
    assert!(dump.len() < 100_000, "a dump is bounded");
    let Ok(message) = Reader::message(data) else { return };
    match message.validate() {
        Ok(()) => {
            let mut out = Vec::new();
            write(&mut Writer::new(&mut out), &message);
            assert_eq!(out, data);
        }
        Err(error) => assert!(error.offset < data.len() && !error.to_string().is_empty()),
    }
});

fn write(w: &mut Writer<'_>, item: &Item<'_>) {
    let tag = item.tag;
    match item.ty {
        Type::Structure => {
            let mut inside = item.open().expect("it is valid");
            w.structure(tag, |w| {
                while let Some(item) = inside.next_item().expect("it is valid") {
                    write(w, &item);
                }
            });
        }
        Type::Integer => drop_place(w.integer(tag, item.integer().expect("its type"))),
        Type::LongInteger => w.long_integer(tag, item.long_integer().expect("its type")),
        // The writer takes numbers that are not negative, and writes them as short as they can be.
        Type::BigInteger => w.copy(tag, item.ty, item.big_integer().expect("its type")),
        Type::Enumeration => w.enumeration(tag, item.enumeration().expect("its type")),
        Type::Boolean => w.boolean(tag, item.boolean().expect("its type")),
        Type::TextString => w.text(tag, item.text().expect("its type")),
        Type::ByteString => w.byte_string(tag, item.byte_string().expect("its type")),
        Type::DateTime => w.date_time(tag, item.date_time().expect("its type")),
        Type::Interval => w.interval(tag, item.interval().expect("its type")),
    }
}

fn drop_place(_: usize) {}
