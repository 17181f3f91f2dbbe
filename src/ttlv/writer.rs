//! Writing TTLV: appends to a buffer that the caller keeps.
#![forbid(unsafe_code)]

use super::{Type, padded};

/// Appends items to a buffer.
///
/// A length on the wire has 32 bits: values are far smaller, and one that were not would be written with a length that no
/// reader accepts.
pub struct Writer<'b> {
    out: &'b mut Vec<u8>,
}

/// Where an open structure began. It must be given back to [`Writer::close`].
#[must_use]
pub struct Mark {
    start: usize,
}

impl<'b> Writer<'b> {
    /// Writes behind what `out` already holds.
    pub fn new(out: &'b mut Vec<u8>) -> Self {
        Self { out }
    }

    /// Begins a structure; what is written until [`Writer::close`] is inside it.
    ///
    /// Until then its length reads as the largest there is, so that a half-written buffer is no well-formed message.
    pub fn open(&mut self, tag: u32) -> Mark {
        self.header(tag, Type::Structure, u32::MAX);
        Mark { start: self.out.len() }
    }

    /// Ends the structure begun at `mark`.
    pub fn close(&mut self, mark: Mark) {
        let len = u32::try_from(self.out.len().saturating_sub(mark.start)).unwrap_or(u32::MAX);
        self.patch(mark.start.saturating_sub(4), len);
    }

    /// A structure whose items `inside` writes.
    pub fn structure(&mut self, tag: u32, inside: impl FnOnce(&mut Self)) {
        let mark = self.open(tag);
        inside(self);
        self.close(mark);
    }

    /// An Integer. Returns where its value stands, for [`Writer::patch`].
    pub fn integer(&mut self, tag: u32, value: i32) -> usize {
        self.header(tag, Type::Integer, 4);
        let at = self.out.len();
        self.push(&value.to_be_bytes());
        self.push(&[0; 4]);
        at
    }

    /// A Long Integer.
    pub fn long_integer(&mut self, tag: u32, value: i64) {
        self.header(tag, Type::LongInteger, 8);
        self.push(&value.to_be_bytes());
    }

    /// A Big Integer that is not negative: `magnitude` is big-endian, of any length.
    pub fn big_integer(&mut self, tag: u32, magnitude: &[u8]) {
        let first = magnitude.iter().position(|&byte| byte != 0).unwrap_or(magnitude.len());
        let digits = magnitude.get(first..).unwrap_or_default();
        // One more byte where the sign bit would be taken for a minus, and at least one for zero.
        let signed = digits.first().map_or(1, |byte| digits.len().saturating_add(usize::from(byte & 0x80 != 0)));
        let len = padded(signed).unwrap_or(signed);
        self.header(tag, Type::BigInteger, u32::try_from(len).unwrap_or(u32::MAX));
        make_room(self.out, len);
        self.out.resize(self.out.len().saturating_add(len.saturating_sub(digits.len())), 0);
        self.push(digits);
    }

    /// An Enumeration.
    pub fn enumeration(&mut self, tag: u32, value: u32) {
        self.header(tag, Type::Enumeration, 4);
        self.push(&value.to_be_bytes());
        self.push(&[0; 4]);
    }

    /// A Boolean.
    pub fn boolean(&mut self, tag: u32, value: bool) {
        self.header(tag, Type::Boolean, 8);
        self.push(&u64::from(value).to_be_bytes());
    }

    /// A Text String. NUL, which a reader refuses, becomes U+FFFD, as what is not UTF-8 has become before: tokens have either in
    /// their labels.
    pub fn text(&mut self, tag: u32, value: &str) {
        if value.contains('\0') {
            self.padded_value(tag, Type::TextString, value.replace('\0', "\u{fffd}").as_bytes());
        } else {
            self.padded_value(tag, Type::TextString, value.as_bytes());
        }
    }

    /// A Byte String.
    pub fn byte_string(&mut self, tag: u32, value: &[u8]) {
        self.padded_value(tag, Type::ByteString, value);
    }

    /// A Date-Time, in seconds since 1970-01-01T00:00:00Z.
    pub fn date_time(&mut self, tag: u32, seconds: i64) {
        self.header(tag, Type::DateTime, 8);
        self.push(&seconds.to_be_bytes());
    }

    /// An Interval, in seconds.
    pub fn interval(&mut self, tag: u32, seconds: u32) {
        self.header(tag, Type::Interval, 4);
        self.push(&seconds.to_be_bytes());
        self.push(&[0; 4]);
    }

    /// A copy of an item that was read, or of a structure whose inside `raw` is.
    pub fn copy(&mut self, tag: u32, ty: Type, raw: &[u8]) {
        self.padded_value(tag, ty, raw);
    }

    /// Whole items, as they were written before.
    pub fn append(&mut self, items: &[u8]) {
        self.push(items);
    }

    /// What was written since `position`.
    pub fn since(&self, position: usize) -> &[u8] {
        self.out.get(position..).unwrap_or_default()
    }

    /// Bytes written so far, with what the buffer held before.
    pub fn position(&self) -> usize {
        self.out.len()
    }

    /// Takes back everything written after `position`.
    pub fn rewind(&mut self, position: usize) {
        self.out.truncate(position);
    }

    /// Replaces the four bytes at `position`, where a value of 32 bits was written.
    pub fn patch(&mut self, position: usize, value: u32) {
        if let Some(field) = self.out.get_mut(position..).and_then(|rest| rest.first_chunk_mut::<4>()) {
            *field = value.to_be_bytes();
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        make_room(self.out, bytes.len());
        self.out.extend_from_slice(bytes);
    }

    fn header(&mut self, tag: u32, ty: Type, len: u32) {
        let [_, t0, t1, t2] = tag.to_be_bytes();
        let [l0, l1, l2, l3] = len.to_be_bytes();
        self.push(&[t0, t1, t2, ty.code(), l0, l1, l2, l3]);
    }

    fn padded_value(&mut self, tag: u32, ty: Type, value: &[u8]) {
        self.header(tag, ty, u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.push(value);
        let pad = padded(value.len()).unwrap_or(value.len()).saturating_sub(value.len());
        self.push([0; 8].get(..pad).unwrap_or_default());
    }
}

/// Makes room for `more` bytes. Where the buffer has to move for that, its old place is wiped: a buffer that grows by itself leaves
/// behind what it held, which may be random numbers that become keys.
pub fn make_room(buffer: &mut Vec<u8>, more: usize) {
    if buffer.capacity().saturating_sub(buffer.len()) < more {
        drop(moved(buffer, more));
    }
}

/// The old place of what `buffer` holds, wiped.
fn moved(buffer: &mut Vec<u8>, more: usize) -> Vec<u8> {
    let mut larger = Vec::with_capacity(buffer.len().saturating_add(more).max(buffer.capacity().saturating_mul(2)));
    larger.extend_from_slice(buffer);
    let mut old = std::mem::replace(buffer, larger);
    old.fill(0);
    // Or the compiler would leave out what nobody reads.
    std::hint::black_box(&mut old);
    old
}

#[cfg(test)]
mod tests {
    use super::super::{Item, Reader};
    use super::*;

    #[test]
    fn a_label_with_nul_in_it_leaves_the_message_well_formed() {
        let mut out = Vec::new();
        Writer::new(&mut out).text(0x42_0055, "\0key\0of\0");
        assert_eq!(Reader::message(&out).unwrap().text(), Ok("\u{fffd}key\u{fffd}of\u{fffd}"));
    }

    #[test]
    fn a_buffer_that_moves_leaves_nothing_behind() {
        let mut buffer = b"secret".to_vec();
        let old = moved(&mut buffer, 100);
        assert_eq!((&buffer[..], &old[..]), (&b"secret"[..], &[0; 6][..]));
        let place = buffer.as_ptr();
        make_room(&mut buffer, 100);
        assert_eq!(buffer.as_ptr(), place, "moved without need");
    }

    fn sample() -> Vec<u8> {
        let mut out = Vec::new();
        let mut w = Writer::new(&mut out);
        w.structure(0x42_0078, |w| {
            w.integer(0x42_000d, -1);
            w.long_integer(0x42_0096, i64::MIN);
            w.big_integer(0x42_0052, &[0x80, 1]);
            w.enumeration(0x42_005c, 0x8000_0001);
            w.boolean(0x42_0010, true);
            w.structure(0x42_000c, |w| {
                w.text(0x42_0099, "tøken");
                w.text(0x42_00a1, "");
                w.structure(0x42_0025, |_| {});
            });
            w.byte_string(0x42_0093, &[1, 2, 3, 4, 5, 6, 7, 8]);
            w.date_time(0x42_0092, -5);
            w.interval(0x42_0049, u32::MAX);
        });
        out
    }

    fn rewrite(item: &Item<'_>, w: &mut Writer<'_>) {
        match item.ty {
            Type::Structure => {
                let mark = w.open(item.tag);
                let mut inside = item.open().unwrap();
                while let Some(child) = inside.next_item().unwrap() {
                    rewrite(&child, w);
                }
                w.close(mark);
            }
            Type::Integer => {
                w.integer(item.tag, item.integer().unwrap());
            }
            Type::LongInteger => w.long_integer(item.tag, item.long_integer().unwrap()),
            Type::BigInteger => w.big_integer(item.tag, item.big_integer().unwrap()),
            Type::Enumeration => w.enumeration(item.tag, item.enumeration().unwrap()),
            Type::Boolean => w.boolean(item.tag, item.boolean().unwrap()),
            Type::TextString => w.text(item.tag, item.text().unwrap()),
            Type::ByteString => w.byte_string(item.tag, item.byte_string().unwrap()),
            Type::DateTime => w.date_time(item.tag, item.date_time().unwrap()),
            Type::Interval => w.interval(item.tag, item.interval().unwrap()),
        }
    }

    #[test]
    fn decoding_and_encoding_again_gives_the_same_bytes() {
        let first = sample();
        let item = Reader::message(&first).unwrap();
        item.validate().unwrap();
        let mut again = Vec::new();
        rewrite(&item, &mut Writer::new(&mut again));
        assert_eq!(first, again);
    }

    #[test]
    fn every_truncation_of_a_message_is_refused() {
        let whole = sample();
        for len in 0..whole.len() {
            let judged = Reader::message(&whole[..len]).and_then(|item| item.validate());
            assert!(judged.is_err(), "accepted {len} of {}", whole.len());
        }
    }

    #[test]
    fn a_half_written_message_is_refused() {
        let mut out = Vec::new();
        let mut w = Writer::new(&mut out);
        let outer = w.open(0x42_0078);
        w.integer(0x42_000d, 1);
        let half = w.position();
        w.close(outer);
        assert!(Reader::message(&out).is_ok());
        out[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(Reader::message(&out[..half]).is_err());
    }

    #[test]
    fn big_integers_get_their_sign_byte_and_their_padding() {
        for (magnitude, len) in [(&[][..], 8), (&[0], 8), (&[0x7f; 8], 8), (&[0x80; 8], 16), (&[0, 0, 1, 0, 1], 8)] {
            let mut out = Vec::new();
            Writer::new(&mut out).big_integer(0x42_0052, magnitude);
            assert_eq!(out.len(), 8 + len, "{magnitude:?}");
            assert_eq!(out[8] & 0x80, 0, "{magnitude:?} is not negative");
            Reader::message(&out).unwrap().big_integer().unwrap();
        }
    }

    #[test]
    fn rewinding_takes_back_what_was_written() {
        let mut out = vec![9];
        let mut w = Writer::new(&mut out);
        let start = w.position();
        w.text(0x42_0099, "gone");
        w.rewind(start);
        assert_eq!(out, [9]);
    }
}
