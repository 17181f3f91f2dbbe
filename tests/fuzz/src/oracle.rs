//! What has to hold of every answer, whatever was asked. Panics where it does not.
#![forbid(unsafe_code)]

use cascade_hsm_bridge::kmip::{Continuation, Limits, Request, ResultStatus, Version, stated_version, tag};
use cascade_hsm_bridge::ttlv::{Item, Reader, Type};

/// Most bytes of the answer to an item: RNG Retrieve gives 64 KiB, and something is around it.
const MOST_OF_AN_ITEM: usize = 64 * 1024 + 1024;

/// A response.
struct Message<'a> {
    version: Version,
    correlation: Option<&'a str>,
    answered: Vec<Answered<'a>>,
}

/// An answered item.
struct Answered<'a> {
    operation: Option<u32>,
    id: Option<&'a [u8]>,
    failed: bool,
    /// Bytes of the response up to the end of this item.
    end: usize,
}

/// Holds `response` against the rules of KMIP, and against `request`. Returns how many of its items are failures.
pub fn judge(request: &[u8], response: &[u8]) -> usize {
    let Message { version, correlation, answered } = judge_message(response);
    let stated = stated_version(request);
    match Request::decode(request, Limits::default()) {
        Ok(decoded) => {
            let asked = &decoded.header;
            assert_eq!(Some(version), asked.version.answered_in(), "the request's version answers");
            assert_eq!(correlation, asked.client_correlation_value);
            compare(&decoded, &answered);
            if let Some(limit) = asked.max_response_size {
                let last = answered.iter().filter(|item| !item.failed).map(|item| item.end).max();
                assert!(last.is_none_or(|end| end <= limit), "an answer reaches to {last:?}, over {limit}");
                let len = response.len();
                assert!(answered.len() == 1 || len <= limit, "{len} bytes in several answers, over {limit}");
            }
        }
        Err(_) => {
            assert!(answered.len() == 1 && answered[0].failed, "a refused message has one answer, a failure");
            let wanted = stated.map_or(Version::V1_2, |stated| stated.answered_in().unwrap_or(Version::V1_4));
            assert_eq!(version, wanted);
        }
    }
    answered.iter().filter(|item| item.failed).count()
}

/// Holds `response` against the rules for the answer to what is no message at all.
pub fn judge_refusal(response: &[u8]) {
    let Message { version, answered, .. } = judge_message(response);
    assert_eq!(version, Version::V1_2);
    assert!(matches!(&answered[..], [Answered { operation: None, id: None, failed: true, .. }]));
}

fn judge_message(response: &[u8]) -> Message<'_> {
    let message = Reader::message(response).expect("a response is one TTLV item");
    message.validate().expect("a response is well-formed");
    assert_eq!((message.tag, message.ty), (tag::RESPONSE_MESSAGE, Type::Structure));
    let mut parts = children(&message).into_iter();
    let header = parts.next().expect("a response has a header");
    let (version, count, correlation) = judge_header(&header);
    let answered: Vec<_> = parts.map(|part| judge_item(&part)).collect();
    assert_eq!(usize::try_from(count), Ok(answered.len()), "Batch Count is the number of items");
    assert!(!answered.is_empty(), "a response has an item");
    assert!(response.len() <= 1024 + answered.len() * MOST_OF_AN_ITEM, "{} bytes are too many", response.len());
    Message { version, correlation, answered }
}

/// The items of the answer are those of the request, in their order, up to the one that stopped it.
fn compare(request: &Request<'_>, answered: &[Answered<'_>]) {
    let mut asked = request.items();
    for answer in answered {
        let item = asked.next().expect("no answer without an item");
        assert_eq!(item.operation.map(|operation| operation.0), answer.operation);
        assert_eq!(item.id, answer.id);
    }
    let stops = request.header.continuation == Continuation::Stop;
    let early = answered.iter().rev().skip(1).any(|answer| answer.failed);
    assert!(!(stops && early), "nothing is done after the failure that stops a batch");
    let last_failed = answered.last().is_some_and(|answer| answer.failed);
    // A response that is full ends the batch too.
    let limited = request.header.max_response_size.is_some();
    assert!(asked.next().is_none() || stops && last_failed || limited, "an item has no answer");
}

fn judge_header<'a>(header: &Item<'a>) -> (Version, i32, Option<&'a str>) {
    assert_eq!(header.tag, tag::RESPONSE_HEADER);
    let fields = children(header);
    let tags: Vec<_> = fields.iter().map(|field| field.tag).filter(|it| *it != tag::CLIENT_CORRELATION_VALUE).collect();
    assert_eq!(tags, [tag::PROTOCOL_VERSION, tag::TIME_STAMP, tag::BATCH_COUNT]);
    let numbers: Vec<_> = children(&fields[0]).iter().map(|number| number.integer().expect("an Integer")).collect();
    let [major, minor] = numbers[..] else { panic!("a version has two numbers") };
    assert!(fields[1].date_time().is_ok());
    let correlation = fields.iter().find(|field| field.tag == tag::CLIENT_CORRELATION_VALUE);
    let count = fields.last().map(|field| field.integer().expect("an Integer"));
    let version = Version { major, minor };
    assert!(Version::SPOKEN.contains(&version), "{version}");
    let correlation = correlation.map(|value| value.text().expect("a Text String"));
    (version, count.unwrap_or(-1), correlation)
}

fn judge_item<'a>(item: &Item<'a>) -> Answered<'a> {
    assert_eq!((item.tag, item.ty), (tag::BATCH_ITEM, Type::Structure));
    let mut fields = children(item).into_iter().peekable();
    let operation = fields.next_if(|field| field.tag == tag::OPERATION);
    let operation = operation.map(|field| field.enumeration().expect("an Enumeration"));
    let id = fields.next_if(|field| field.tag == tag::UNIQUE_BATCH_ITEM_ID);
    let id = id.map(|field| field.byte_string().expect("a Byte String"));
    let status = fields.next().expect("a Result Status");
    assert_eq!(status.tag, tag::RESULT_STATUS);
    let rest: Vec<_> = fields.collect();
    let tags: Vec<_> = rest.iter().map(|field| field.tag).collect();
    let failed = status.enumeration() != Ok(ResultStatus::SUCCESS.0);
    if failed {
        assert_eq!(status.enumeration(), Ok(ResultStatus::OPERATION_FAILED.0));
        assert_eq!(tags, [tag::RESULT_REASON, tag::RESULT_MESSAGE]);
        assert!(rest[0].enumeration().is_ok_and(|reason| reason != 0));
        let text = rest[1].text().expect("a Text String");
        assert!(!text.is_empty() && text.len() < 1000 && !text.contains('\n'), "{text}");
    } else {
        assert_eq!(tags, [tag::RESPONSE_PAYLOAD]);
        assert_eq!(rest[0].ty, Type::Structure);
    }
    Answered { operation, id, failed, end: item.offset + 8 + item.raw().len() }
}

fn children<'a>(item: &Item<'a>) -> Vec<Item<'a>> {
    let mut inside = item.open().expect("a Structure");
    std::iter::from_fn(|| inside.next_item().expect("an item")).collect()
}
