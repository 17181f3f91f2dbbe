//! Response messages (KMIP 1.2, section 7.2 and 7.3), written straight into the buffer that goes out.
#![forbid(unsafe_code)]

use super::{Failure, Operation, Outcome, ResultReason, ResultStatus, Version, tag};
use crate::ttlv::{Mark, Writer};

/// Room that an answer to an operation that changes something has to have before the operation is begun, beside what it repeats of the
/// request: two identifiers of the usual kind and what is around them, so that no key is made that cannot be told of.
const CHANGE_ROOM: usize = 512;

/// A response that is being written.
pub struct Response<'b> {
    writer: Writer<'b>,
    message: Mark,
    start: usize,
    count_at: usize,
    answered: u32,
    full: bool,
    limit: usize,
}

impl<'b> Response<'b> {
    /// Begins a response behind what `out` holds: in `version`, at `now` (seconds since 1970), of at most `limit` bytes.
    pub fn begin(
        out: &'b mut Vec<u8>,
        version: Version,
        now: i64,
        client_correlation_value: Option<&str>,
        limit: Option<usize>,
    ) -> Self {
        let mut writer = Writer::new(out);
        let start = writer.position();
        let message = writer.open(tag::RESPONSE_MESSAGE);
        let header = writer.open(tag::RESPONSE_HEADER);
        writer.structure(tag::PROTOCOL_VERSION, |w| {
            w.integer(tag::PROTOCOL_VERSION_MAJOR, version.major);
            w.integer(tag::PROTOCOL_VERSION_MINOR, version.minor);
        });
        writer.date_time(tag::TIME_STAMP, now);
        if let Some(value) = client_correlation_value {
            writer.text(tag::CLIENT_CORRELATION_VALUE, value);
        }
        let count_at = writer.integer(tag::BATCH_COUNT, 0);
        writer.close(header);
        Self { writer, message, start, count_at, answered: 0, full: false, limit: limit.unwrap_or(usize::MAX) }
    }

    /// Writes the answer to one item: what `payload` writes, or the failure that it returns. Returns that failure.
    ///
    /// An answer that would make the response larger than its limit is replaced by Response Too Large. When not even that has
    /// room behind other answers, the item is left out and the response [is full](Self::is_full).
    pub fn item(
        &mut self,
        operation: Option<Operation>,
        id: Option<&[u8]>,
        payload: impl FnOnce(&mut Writer<'_>) -> Outcome<()>,
    ) -> Outcome<()> {
        let start = self.writer.position();
        let item = self.writer.open(tag::BATCH_ITEM);
        if let Some(operation) = operation {
            self.writer.enumeration(tag::OPERATION, operation.0);
        }
        if let Some(id) = id {
            self.writer.byte_string(tag::UNIQUE_BATCH_ITEM_ID, id);
        }
        let result_at = self.writer.position();
        self.writer.enumeration(tag::RESULT_STATUS, ResultStatus::SUCCESS.0);
        let mark = self.writer.open(tag::RESPONSE_PAYLOAD);
        let outcome = payload(&mut self.writer);
        self.writer.close(mark);
        let outcome = outcome.and_then(|()| self.fits());
        if let Err(failure) = &outcome {
            self.writer.rewind(result_at);
            self.failure(failure);
        }
        self.writer.close(item);
        if self.size() > self.limit && self.answered > 0 {
            self.writer.rewind(start);
            self.full = true;
        } else {
            self.answered = self.answered.saturating_add(1);
        }
        outcome
    }

    /// The answers to the first `count` items, as another response has them: what [`Self::since`] showed of it.
    pub fn repeat(&mut self, count: u32, answers: &[u8]) {
        self.writer.append(answers);
        self.answered = self.answered.saturating_add(count);
    }

    /// Where the next answer begins.
    pub fn position(&self) -> usize {
        self.writer.position()
    }

    /// The answers written since `position`.
    pub fn since(&self, position: usize) -> &[u8] {
        self.writer.since(position)
    }

    /// Whether an answer had to be left out: the items that follow cannot be answered either, so they must not be carried out.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Whether there is room for the answer of an operation that changes something, with its Unique Batch Item ID and as many bytes
    /// beside as it may repeat of the request.
    ///
    /// # Errors
    /// Response Too Large, before anything was done.
    pub fn room_for_change(&self, id: Option<&[u8]>, repeated: usize) -> Outcome<()> {
        let left = self.limit.saturating_sub(self.size());
        if left >= CHANGE_ROOM.saturating_add(id.map_or(0, <[u8]>::len)).saturating_add(repeated) {
            return Ok(());
        }
        let message =
            format!("not done: of the {} bytes that a response may have, {left} are left for the answer", self.limit);
        Err(Failure::new(ResultReason::RESPONSE_TOO_LARGE, message))
    }

    /// Ends the response.
    pub fn finish(mut self) {
        self.writer.patch(self.count_at, self.answered);
        self.writer.close(self.message);
    }

    fn failure(&mut self, failure: &Failure) {
        let w = &mut self.writer;
        w.enumeration(tag::RESULT_STATUS, ResultStatus::OPERATION_FAILED.0);
        w.enumeration(tag::RESULT_REASON, failure.reason.0);
        w.text(tag::RESULT_MESSAGE, &failure.message);
    }

    fn fits(&self) -> Outcome<()> {
        let size = self.size();
        if size <= self.limit {
            return Ok(());
        }
        let message = format!("done, but a response of {size} bytes is larger than the {} allowed", self.limit);
        Err(Failure::new(ResultReason::RESPONSE_TOO_LARGE, message))
    }

    fn size(&self) -> usize {
        self.writer.position().saturating_sub(self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ttlv::{Item, Reader};

    fn find<'a>(item: &Item<'a>, wanted: u32) -> Option<Item<'a>> {
        let mut inside = item.open().ok()?;
        while let Ok(Some(child)) = inside.next_item() {
            if child.tag == wanted {
                return Some(child);
            }
            if let Some(deeper) = find(&child, wanted) {
                return Some(deeper);
            }
        }
        None
    }

    #[test]
    fn counts_its_items_and_repeats_operation_and_id() {
        let mut out = b"before--".to_vec();
        let mut response = Response::begin(&mut out, Version::V1_1, 7, None, None);
        response
            .item(Some(Operation::GET), Some(b"1"), |w| {
                w.text(tag::UNIQUE_IDENTIFIER, "x");
                Ok(())
            })
            .unwrap();
        response.item(None, None, |_| Err(Failure::not_found("no x"))).unwrap_err();
        response.finish();
        let message = Reader::message(&out[8..]).unwrap();
        message.validate().unwrap();
        assert_eq!(find(&message, tag::BATCH_COUNT).unwrap().integer(), Ok(2));
        assert_eq!(find(&message, tag::PROTOCOL_VERSION_MINOR).unwrap().integer(), Ok(1));
        assert_eq!(find(&message, tag::OPERATION).unwrap().enumeration(), Ok(Operation::GET.0));
        assert_eq!(find(&message, tag::UNIQUE_BATCH_ITEM_ID).unwrap().byte_string(), Ok(&b"1"[..]));
        assert_eq!(find(&message, tag::RESULT_MESSAGE).unwrap().text(), Ok("no x"));
    }

    #[test]
    fn a_failed_item_has_no_payload_even_if_some_was_written() {
        let mut out = Vec::new();
        let mut response = Response::begin(&mut out, Version::V1_2, 7, None, None);
        let failed = response.item(Some(Operation::GET), None, |w| {
            w.text(tag::UNIQUE_IDENTIFIER, "half");
            Err(Failure::not_found("gone"))
        });
        response.finish();
        assert!(failed.is_err());
        assert!(find(&Reader::message(&out).unwrap(), tag::RESPONSE_PAYLOAD).is_none());
    }

    #[test]
    fn an_answer_over_the_limit_becomes_a_small_failure() {
        let mut out = Vec::new();
        let mut response = Response::begin(&mut out, Version::V1_2, 7, None, Some(256));
        let failed = response.item(Some(Operation::QUERY), None, |w| {
            w.byte_string(tag::DATA, &[7; 400]);
            Ok(())
        });
        assert_eq!(failed.unwrap_err().reason, ResultReason::RESPONSE_TOO_LARGE);
        assert_eq!(response.room_for_change(None, 0).unwrap_err().reason, ResultReason::RESPONSE_TOO_LARGE);
        response.finish();
        assert!(out.len() <= 256, "{}", out.len());
        let message = Reader::message(&out).unwrap();
        assert_eq!(find(&message, tag::RESULT_REASON).unwrap().enumeration(), Ok(ResultReason::RESPONSE_TOO_LARGE.0));
    }

    #[test]
    fn a_response_that_is_full_leaves_out_the_item_and_says_so() {
        let mut out = Vec::new();
        let mut response = Response::begin(&mut out, Version::V1_2, 7, None, Some(300));
        let mut items = 0;
        while !response.is_full() {
            response.item(Some(Operation::GET), Some(b"1"), |_| Err(Failure::not_found("no"))).unwrap_err();
            items += 1;
        }
        response.finish();
        assert!(out.len() <= 300, "{}", out.len());
        let message = Reader::message(&out).unwrap();
        assert_eq!(find(&message, tag::BATCH_COUNT).unwrap().integer(), Ok(items - 1));
    }
}
