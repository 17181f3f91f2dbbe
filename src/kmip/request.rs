//! Request messages: header, credentials and batch items (KMIP 1.2, sections 6 and 7).
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::fields::{Field, optional, read_fields, repeated, required, same_tag};
use super::{BatchErrorContinuation, Credential, Failure, Operation, Outcome, ResultReason, Version, tag};
use crate::ttlv::{Item, Reader, Type};

const HEADER: [Field; 12] = [
    required(tag::PROTOCOL_VERSION),
    optional(tag::MAXIMUM_RESPONSE_SIZE),
    optional(tag::CLIENT_CORRELATION_VALUE).since(Version::V1_4),
    optional(tag::SERVER_CORRELATION_VALUE).since(Version::V1_4),
    optional(tag::ASYNCHRONOUS_INDICATOR),
    optional(tag::ATTESTATION_CAPABLE_INDICATOR).since(Version::V1_2),
    repeated(tag::ATTESTATION_TYPE).since(Version::V1_2),
    optional(tag::AUTHENTICATION),
    optional(tag::BATCH_ERROR_CONTINUATION_OPTION),
    optional(tag::BATCH_ORDER_OPTION),
    optional(tag::TIME_STAMP),
    required(tag::BATCH_COUNT),
];

const PROTOCOL_VERSION: [Field; 2] = [required(tag::PROTOCOL_VERSION_MAJOR), required(tag::PROTOCOL_VERSION_MINOR)];

const BATCH_ITEM: [Field; 4] = [
    required(tag::OPERATION),
    optional(tag::UNIQUE_BATCH_ITEM_ID),
    required(tag::REQUEST_PAYLOAD),
    optional(tag::MESSAGE_EXTENSION),
];

const MESSAGE_EXTENSION: [Field; 3] =
    [required(tag::VENDOR_IDENTIFICATION), required(tag::CRITICALITY_INDICATOR), required(tag::VENDOR_EXTENSION)];

/// A request message whose header and batch rules have been found right.
pub struct Request<'a> {
    /// What holds for all items.
    pub header: RequestHeader<'a>,
    message: Item<'a>,
}

/// The header of a request (section 7.2), without the fields that do not change what is answered: this program answers at once
/// whether or not the client could wait, asks for no attestation, and looks at no client's clock.
pub struct RequestHeader<'a> {
    /// As the client states it; not later than what it may be answered in.
    pub version: Version,
    /// The largest response that the client takes, in bytes.
    pub max_response_size: Option<usize>,
    /// To be repeated in the response (1.4).
    pub client_correlation_value: Option<&'a str>,
    /// Who asks.
    pub credential: Option<Credential<'a>>,
    /// What a failure does to the items after it.
    pub continuation: Continuation,
    /// Whether the items are to be carried out one after another, as the Batch Order Option can ask for.
    pub ordered: bool,
    /// Items in the message, at least one.
    pub batch_count: usize,
}

/// What becomes of the items after one that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuation {
    /// They are not looked at.
    Stop,
    /// They are carried out.
    Continue,
}

/// A batch item, as far as it could be read.
pub struct BatchItem<'a> {
    /// What it asks for.
    pub operation: Option<Operation>,
    /// What its answer has to carry.
    pub id: Option<&'a [u8]>,
    /// The payload, well-formed to the innermost item; else what is wrong.
    pub payload: Outcome<Item<'a>>,
}

/// How much a message may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Items in it.
    pub batch_items: usize,
    /// Structures within structures, the message itself included; at most [`crate::ttlv::MAX_DEPTH`].
    pub depth: u8,
}

impl Limits {
    /// 1000: what fits into a request of the default size when each item signs a digest, several times what clients send. Items
    /// cost more than their bytes: the shortest has a call to the module and an answer ten times its size.
    pub const DEFAULT_BATCH_ITEMS: usize = 1000;
    /// 16: KMIP's own messages reach nine (an attribute inside a wrapped key in a batch item), and a Vendor Extension may hold a
    /// few more.
    pub const DEFAULT_DEPTH: u8 = 16;
}

impl Default for Limits {
    fn default() -> Self {
        Self { batch_items: Self::DEFAULT_BATCH_ITEMS, depth: Self::DEFAULT_DEPTH }
    }
}

/// Why a message is refused as a whole, and the item at fault if there is one: its answer carries the item's Operation and
/// Unique Batch Item ID; else there is no item to answer, only a failure (section 11.1).
#[derive(Debug)]
pub struct Rejected<'a> {
    /// What is wrong.
    pub failure: Failure,
    /// What the item at fault asks for.
    pub operation: Option<Operation>,
    /// The id of the item at fault.
    pub id: Option<&'a [u8]>,
}

impl<E: Into<Failure>> From<E> for Rejected<'_> {
    fn from(failure: E) -> Self {
        Self { failure: failure.into(), operation: None, id: None }
    }
}

impl<'a> Request<'a> {
    /// Decodes the header and holds the message against the rules for messages, so that none of its items is carried out
    /// when the message as a whole is refused. One of more items than `limits` has is refused before they are looked at.
    ///
    /// # Errors
    /// What is wrong with the message as a whole.
    pub fn decode(bytes: &'a [u8], limits: Limits) -> Result<Self, Rejected<'a>> {
        let message = Reader::message_within(bytes, limits.depth)?;
        let mut inside = message.open()?;
        let header = match inside.next_item()? {
            Some(item) if item.tag == tag::REQUEST_HEADER => RequestHeader::decode(&item)?,
            _ => return Err(Failure::invalid_message("message does not begin with a Request Header").into()),
        };
        if header.batch_count > limits.batch_items {
            let message = format!("Batch Count is {}, the limit is {}", header.batch_count, limits.batch_items);
            return Err(Failure::invalid_message(message).into());
        }
        let request = Self { header, message };
        request.judge(inside)?;
        Ok(request)
    }

    /// The items in their order.
    pub fn items(&self) -> impl Iterator<Item = BatchItem<'a>> + use<'a> {
        let version = self.header.version;
        same_tag(&self.message, tag::BATCH_ITEM).map(move |item| BatchItem::decode(&item, version))
    }

    fn judge(&self, mut items: Reader<'a>) -> Result<(), Rejected<'a>> {
        let mut ids = BTreeSet::new();
        let mut count = 0_usize;
        while let Some(item) = items.next_item()? {
            if item.tag != tag::BATCH_ITEM || item.ty != Type::Structure {
                let found = tag::name(item.tag);
                let message = format!("{found} at byte {} where a Batch Item belongs", item.offset);
                return Err(Failure::invalid_field(message).into());
            }
            count = count.saturating_add(1);
            if count > self.header.batch_count {
                let message = format!("Batch Count is {} but there are more Batch Items", self.header.batch_count);
                return Err(Failure::invalid_message(message).into());
            }
            let envelope = Envelope::scan(&item);
            if envelope.critical {
                let message = "a critical Message Extension is not understood";
                let failure = Failure::new(ResultReason::FEATURE_NOT_SUPPORTED, message);
                return Err(Rejected { failure, operation: envelope.operation, id: envelope.id });
            }
            if self.header.batch_count > 1 && !envelope.id.is_some_and(|id| ids.insert(id)) {
                let message = format!("Batch Item at byte {} has no Unique Batch Item ID of its own", item.offset);
                return Err(Failure::invalid_message(message).into());
            }
        }
        if count != self.header.batch_count {
            let message = format!("Batch Count is {} but there are {count} Batch Items", self.header.batch_count);
            return Err(Failure::invalid_message(message).into());
        }
        Ok(())
    }
}

impl<'a> RequestHeader<'a> {
    fn decode(item: &Item<'a>) -> Outcome<Self> {
        item.validate()?;
        let version = version_in(item)?;
        if version.answered_in().is_none() {
            return Err(Failure::invalid_message(format!("protocol version {version} is not spoken here")));
        }
        let [_, max_size, correlation, _, asynchronous, capable, _, authentication, continuation, order, time, count] =
            read_fields(item, &HEADER, version)?;
        // Read for their types only.
        for flag in [asynchronous, capable].into_iter().flatten() {
            flag.boolean()?;
        }
        time.map(|time| time.date_time()).transpose()?;
        let count = count.ok_or_else(|| Failure::invalid_message("Batch Count is missing"))?.integer()?;
        let batch_count = usize::try_from(count).ok().filter(|&count| count > 0);
        let batch_count = batch_count.ok_or_else(|| Failure::invalid_message(format!("Batch Count is {count}")))?;
        Ok(Self {
            version,
            max_response_size: max_size.map(|item| max_response_size(&item)).transpose()?,
            client_correlation_value: correlation.map(|item| item.text()).transpose()?,
            credential: authentication.map(|item| Credential::decode(&item, version)).transpose()?.flatten(),
            continuation: continuation.map_or(Ok(Continuation::Stop), |item| continuation_of(&item, batch_count))?,
            ordered: order.map_or(Ok(false), |item| item.boolean())?,
            batch_count,
        })
    }
}

impl<'a> BatchItem<'a> {
    fn decode(item: &Item<'a>, version: Version) -> Self {
        match Self::decode_whole(item, version) {
            Ok(whole) => whole,
            Err(failure) => {
                let envelope = Envelope::scan(item);
                Self { operation: envelope.operation, id: envelope.id, payload: Err(failure) }
            }
        }
    }

    fn decode_whole(item: &Item<'a>, version: Version) -> Outcome<Self> {
        item.validate()?;
        let [operation, id, payload, extension] = read_fields(item, &BATCH_ITEM, version)?;
        if let Some(extension) = extension {
            let [vendor, critical, content] = read_fields(&extension, &MESSAGE_EXTENSION, version)?;
            vendor.map(|item| item.text()).transpose()?;
            critical.map(|item| item.boolean()).transpose()?;
            content.map(|item| item.open()).transpose()?;
        }
        let operation = operation.map(|item| item.enumeration()).transpose()?.map(Operation);
        let id = id.map(|item| item.byte_string()).transpose()?;
        let payload = payload.ok_or_else(|| Failure::invalid_message("Request Payload is missing"))?;
        payload.open()?;
        Ok(Self { operation, id, payload: Ok(payload) })
    }
}

/// What can be told of a batch item, even of a malformed one, without judging it.
#[derive(Default)]
struct Envelope<'a> {
    operation: Option<Operation>,
    id: Option<&'a [u8]>,
    critical: bool,
}

impl<'a> Envelope<'a> {
    fn scan(item: &Item<'a>) -> Self {
        let mut envelope = Self::default();
        let Ok(mut inside) = item.open() else { return envelope };
        while let Ok(Some(field)) = inside.next_item() {
            match field.tag {
                tag::OPERATION if envelope.operation.is_none() => {
                    envelope.operation = field.enumeration().ok().map(Operation);
                }
                tag::UNIQUE_BATCH_ITEM_ID if envelope.id.is_none() => envelope.id = field.byte_string().ok(),
                tag::MESSAGE_EXTENSION => {
                    let critical = same_tag(&field, tag::CRITICALITY_INDICATOR).next();
                    envelope.critical |= critical.is_some_and(|flag| flag.boolean() == Ok(true));
                }
                _ => {}
            }
        }
        envelope
    }
}

/// The version that `message` states, whatever else is wrong with it: for the answer to a message that is refused.
pub fn stated_version(message: &[u8]) -> Option<Version> {
    let message = Reader::message(message).ok()?;
    let header = message.open().ok()?.next_item().ok()??;
    version_in(&header).ok()
}

/// The version is read first: what else a header may hold depends on it.
fn version_in(header: &Item<'_>) -> Outcome<Version> {
    match header.open()?.next_item()? {
        Some(item) if item.tag == tag::PROTOCOL_VERSION => decode_version(&item),
        _ => Err(Failure::invalid_message("Request Header does not begin with a Protocol Version")),
    }
}

/// The version that a Protocol Version structure states.
///
/// # Errors
/// It is malformed.
pub fn decode_version(item: &Item<'_>) -> Outcome<Version> {
    // A Protocol Version has looked alike since 1.0.
    let [major, minor] = read_fields(item, &PROTOCOL_VERSION, Version::V1_0)?;
    let number = |item: Option<Item<'_>>| item.map_or(Ok(-1), |item| item.integer());
    Ok(Version { major: number(major)?, minor: number(minor)? })
}

fn max_response_size(item: &Item<'_>) -> Outcome<usize> {
    let size = item.integer()?;
    usize::try_from(size).map_err(|_| Failure::invalid_field(format!("Maximum Response Size is {size}")))
}

/// The option means nothing for a single item; clients send it all the same.
fn continuation_of(item: &Item<'_>, batch_count: usize) -> Outcome<Continuation> {
    match BatchErrorContinuation(item.enumeration()?) {
        BatchErrorContinuation::STOP => Ok(Continuation::Stop),
        BatchErrorContinuation::CONTINUE => Ok(Continuation::Continue),
        BatchErrorContinuation::UNDO if batch_count > 1 => {
            let message = "Batch Error Continuation Option Undo is not supported";
            Err(Failure::new(ResultReason::FEATURE_NOT_SUPPORTED, message))
        }
        BatchErrorContinuation::UNDO => Ok(Continuation::Stop),
        other => Err(Failure::invalid_field(format!("Batch Error Continuation Option is {other}"))),
    }
}

#[cfg(test)]
mod tests;
