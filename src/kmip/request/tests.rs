//! Request messages: what is read, and what is refused as a whole.
#![forbid(unsafe_code)]

use super::super::CredentialType;
use super::*;
use crate::ttlv::Writer;

/// Two items, and not too deep.
const TWO: Limits = Limits { batch_items: 2, depth: Limits::DEFAULT_DEPTH };

fn message(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    Writer::new(&mut out).structure(tag::REQUEST_MESSAGE, write);
    out
}

fn header(w: &mut Writer<'_>, minor: i32, count: i32, more: impl FnOnce(&mut Writer<'_>)) {
    w.structure(tag::REQUEST_HEADER, |w| {
        w.structure(tag::PROTOCOL_VERSION, |w| {
            w.integer(tag::PROTOCOL_VERSION_MAJOR, 1);
            w.integer(tag::PROTOCOL_VERSION_MINOR, minor);
        });
        more(w);
        w.integer(tag::BATCH_COUNT, count);
    });
}

fn item(w: &mut Writer<'_>, id: Option<&[u8]>) {
    w.structure(tag::BATCH_ITEM, |w| {
        w.enumeration(tag::OPERATION, Operation::QUERY.0);
        if let Some(id) = id {
            w.byte_string(tag::UNIQUE_BATCH_ITEM_ID, id);
        }
        w.structure(tag::REQUEST_PAYLOAD, |_| {});
    });
}

fn reason(bytes: &[u8]) -> ResultReason {
    Request::decode(bytes, TWO).err().map(|rejected| rejected.failure.reason).unwrap()
}

#[test]
fn reads_a_header_with_everything_in_it() {
    let bytes = message(|w| {
        header(w, 4, 1, |w| {
            w.integer(tag::MAXIMUM_RESPONSE_SIZE, 2048);
            w.text(tag::CLIENT_CORRELATION_VALUE, "c1");
            w.boolean(tag::ASYNCHRONOUS_INDICATOR, true);
            w.boolean(tag::ATTESTATION_CAPABLE_INDICATOR, false);
            w.structure(tag::AUTHENTICATION, |w| {
                w.structure(tag::CREDENTIAL, |w| {
                    w.enumeration(tag::CREDENTIAL_TYPE, CredentialType::DEVICE.0);
                    w.structure(tag::CREDENTIAL_VALUE, |_| {});
                });
                w.structure(tag::CREDENTIAL, |w| {
                    w.enumeration(tag::CREDENTIAL_TYPE, CredentialType::USERNAME_AND_PASSWORD.0);
                    w.structure(tag::CREDENTIAL_VALUE, |w| {
                        w.text(tag::USERNAME, "token");
                        w.text(tag::PASSWORD, "1234");
                    });
                });
            });
            w.enumeration(tag::BATCH_ERROR_CONTINUATION_OPTION, BatchErrorContinuation::UNDO.0);
            w.boolean(tag::BATCH_ORDER_OPTION, true);
            w.date_time(tag::TIME_STAMP, 1);
        });
        item(w, None);
    });
    let request = Request::decode(&bytes, TWO).map_err(|rejected| rejected.failure).unwrap();
    assert_eq!(request.header.version, Version::V1_4);
    assert_eq!(request.header.max_response_size, Some(2048));
    assert_eq!(request.header.client_correlation_value, Some("c1"));
    let credential = request.header.credential.as_ref();
    assert!(matches!(credential, Some(Credential::UsernameAndPassword { username: "token", password: "1234" })));
    assert_eq!(request.items().count(), 1);
}

#[test]
fn structures_nest_as_deep_as_is_allowed_and_no_deeper() {
    fn nest(w: &mut Writer<'_>, left: u8) {
        w.structure(tag::ATTRIBUTE, |w| {
            if left > 1 {
                nest(w, left - 1)
            }
        });
    }
    // The message, the item and its payload are three levels.
    let deep = |depth: u8| {
        message(|w| {
            header(w, 2, 1, |_| {});
            w.structure(tag::BATCH_ITEM, |w| {
                w.enumeration(tag::OPERATION, Operation::QUERY.0);
                w.structure(tag::REQUEST_PAYLOAD, |w| nest(w, depth - 3));
            });
        })
    };
    let judged = |bytes: &[u8], depth| {
        let request = Request::decode(bytes, Limits { depth, ..TWO }).map_err(|rejected| rejected.failure).unwrap();
        request.items().next().unwrap().payload.map(drop).map_err(|failure| (failure.reason, failure.to_string()))
    };
    for allowed in [9, Limits::DEFAULT_DEPTH, crate::ttlv::MAX_DEPTH] {
        assert_eq!(judged(&deep(allowed), allowed), Ok(()));
        let (reason, message) = judged(&deep(allowed + 1), allowed).unwrap_err();
        assert_eq!(reason, ResultReason::INVALID_MESSAGE);
        assert!(message.contains(&format!("nested deeper than {allowed} ")), "{message}");
    }
}

#[test]
fn refuses_every_truncation_of_a_request() {
    let bytes = message(|w| {
        header(w, 2, 1, |_| {});
        item(w, Some(b"1"));
    });
    for len in 0..bytes.len() {
        assert!(Request::decode(&bytes[..len], TWO).is_err());
    }
}

#[test]
fn refuses_a_batch_count_that_does_not_agree() {
    for count in [0, -1, 2, i32::MAX, i32::MIN] {
        let bytes = message(|w| {
            header(w, 2, count, |_| {});
            item(w, Some(b"1"));
        });
        assert_eq!(reason(&bytes), ResultReason::INVALID_MESSAGE, "{count}");
    }
}

#[test]
fn refuses_more_items_than_allowed_without_a_look_at_them() {
    for count in [3, 2] {
        let bytes = message(|w| {
            header(w, 2, count, |_| {});
            item(w, Some(b"1"));
            item(w, Some(b"2"));
            // Neither a Batch Item nor an item at all.
            w.integer(0x11_1111, 1);
        });
        assert_eq!(reason(&bytes), ResultReason::INVALID_MESSAGE, "{count}");
    }
    let bytes = message(|w| {
        header(w, 2, 1, |_| {});
        (0..3).for_each(|_| item(w, None));
    });
    assert_eq!(reason(&bytes), ResultReason::INVALID_MESSAGE);
}

#[test]
fn refuses_a_batch_without_ids_of_their_own() {
    for ids in [[None, None], [Some(&b"1"[..]), None], [Some(b"1"), Some(b"1")]] {
        let bytes = message(|w| {
            header(w, 2, 2, |_| {});
            ids.into_iter().for_each(|id| item(w, id));
        });
        assert_eq!(reason(&bytes), ResultReason::INVALID_MESSAGE);
    }
}

#[test]
fn refuses_undo_and_unknown_continuations_of_a_batch() {
    for (value, wanted) in [(3, ResultReason::FEATURE_NOT_SUPPORTED), (9, ResultReason::INVALID_FIELD)] {
        let bytes = message(|w| {
            header(w, 2, 2, |w| w.enumeration(tag::BATCH_ERROR_CONTINUATION_OPTION, value));
            item(w, Some(b"1"));
            item(w, Some(b"2"));
        });
        assert_eq!(reason(&bytes), wanted);
    }
}

#[test]
fn refuses_the_whole_message_for_one_critical_extension() {
    for critical in [true, false] {
        let bytes = message(|w| {
            header(w, 2, 2, |_| {});
            item(w, Some(b"1"));
            w.structure(tag::BATCH_ITEM, |w| {
                w.enumeration(tag::OPERATION, Operation::QUERY.0);
                w.byte_string(tag::UNIQUE_BATCH_ITEM_ID, b"2");
                w.structure(tag::REQUEST_PAYLOAD, |_| {});
                w.structure(tag::MESSAGE_EXTENSION, |w| {
                    w.text(tag::VENDOR_IDENTIFICATION, "v");
                    w.boolean(tag::CRITICALITY_INDICATOR, critical);
                    w.structure(tag::VENDOR_EXTENSION, |_| {});
                });
            });
        });
        let rejected = Request::decode(&bytes, TWO).err();
        let told = rejected.map(|it| (it.failure.reason, it.operation, it.id));
        let wanted = (ResultReason::FEATURE_NOT_SUPPORTED, Some(Operation::QUERY), Some(&b"2"[..]));
        assert_eq!(told, critical.then_some(wanted));
    }
}

#[test]
fn another_major_version_is_an_invalid_message_that_states_its_version() {
    let mut bytes = message(|w| {
        header(w, 2, 1, |_| {});
        item(w, None);
    });
    bytes[8 + 8 + 8 + 8 + 3] = 2;
    assert_eq!(reason(&bytes), ResultReason::INVALID_MESSAGE);
    assert_eq!(stated_version(&bytes), Some(Version { major: 2, minor: 2 }));
}

#[test]
fn a_malformed_item_keeps_its_operation_and_id() {
    let bytes = message(|w| {
        header(w, 2, 1, |_| {});
        w.structure(tag::BATCH_ITEM, |w| {
            w.enumeration(tag::OPERATION, Operation::GET.0);
            w.byte_string(tag::UNIQUE_BATCH_ITEM_ID, b"7");
            w.integer(tag::REQUEST_PAYLOAD, 1);
        });
    });
    let request = Request::decode(&bytes, TWO).map_err(|rejected| rejected.failure).unwrap();
    let item = request.items().next().unwrap();
    assert_eq!((item.operation, item.id), (Some(Operation::GET), Some(&b"7"[..])));
    assert_eq!(item.payload.err().map(|failure| failure.reason), Some(ResultReason::INVALID_MESSAGE));
}
