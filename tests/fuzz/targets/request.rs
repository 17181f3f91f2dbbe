//! Decoding of a whole request: header, credential, batch items, templates and parameters in their payloads.
#![no_main]

use cascade_hsm_bridge::kmip::{
    Attribute, CryptographicParameters, Limits, Request, TemplateAttribute, Version, decode_version, stated_version,
    tag,
};
use cascade_hsm_bridge::ttlv::Item;
use libfuzzer_sys::fuzz_target;

fuzz::message_mutator!();

fuzz_target!(|data: &[u8]| {
    let stated = stated_version(data);
    let request = match Request::decode(data, Limits::default()) {
        Ok(request) => request,
        Err(rejected) => {
            assert!(!rejected.failure.to_string().is_empty());
            return;
        }
    };
    assert_eq!(stated, Some(request.header.version));
    assert_eq!(request.items().count(), request.header.batch_count);
    for item in request.items() {
        match item.payload {
            Ok(payload) => {
                assert!(item.operation.is_some());
                payload.validate().expect("a payload is judged to its innermost item");
                decode(&payload, request.header.version);
            }
            Err(failure) => assert!(!failure.to_string().is_empty()),
        }
    }
});

/// Decodes whatever there is a decoder for.
fn decode(item: &Item<'_>, version: Version) {
    let Ok(mut inside) = item.open() else { return };
    while let Ok(Some(item)) = inside.next_item() {
        match item.tag {
            tag::ATTRIBUTE => drop(Attribute::decode(&item, version).map(|it| it.index)),
            tag::COMMON_TEMPLATE_ATTRIBUTE | tag::PRIVATE_KEY_TEMPLATE_ATTRIBUTE => {
                drop(TemplateAttribute::decode(&item, version).map(|it| it.attributes.len()));
            }
            tag::CRYPTOGRAPHIC_PARAMETERS => drop(CryptographicParameters::decode(&item, version)),
            tag::PROTOCOL_VERSION => drop(decode_version(&item)),
            _ => {}
        }
        decode(&item, version);
    }
}
