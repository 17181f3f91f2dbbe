//! Reading TTLV: a cursor that shrinks a slice, borrows every value and judges each item before it hands it out.
#![forbid(unsafe_code)]

use super::{Error, Fault, HEADER_LEN, Type, padded};

/// How deep structures may nest, whatever else is allowed: what judges and shows them goes in by recursion, and a hostile message is
/// not to use up a thread's stack.
pub const MAX_DEPTH: u8 = 64;

/// The tag whose content belongs to a vendor: its items may have tags outside 42xxxx and 54xxxx.
const VENDOR_EXTENSION: u32 = 0x42_009c;

/// The items of a structure, or of a message, one after another.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
    depth: u8,
    deepest: u8,
    any_tag: bool,
}

/// One item: its header has been judged, and its value if that is not a structure.
#[derive(Clone, Copy)]
pub struct Item<'a> {
    /// The tag, 24 bits.
    pub tag: u32,
    /// The type as written.
    pub ty: Type,
    /// Bytes from the start of the message to the first byte of this item.
    pub offset: usize,
    value: &'a [u8],
    depth: u8,
    deepest: u8,
    any_tag: bool,
}

impl<'a> Reader<'a> {
    /// Reads `bytes` as items from offset 0, which nest no deeper than [`MAX_DEPTH`].
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, offset: 0, depth: 0, deepest: MAX_DEPTH, any_tag: false }
    }

    /// The one item that `message` consists of.
    ///
    /// # Errors
    /// A malformed item, none at all, or bytes after it.
    pub fn message(message: &'a [u8]) -> Result<Item<'a>, Error> {
        Self::message_within(message, MAX_DEPTH)
    }

    /// The same, where structures may nest no deeper than `deepest`, itself included.
    ///
    /// # Errors
    /// As [`Self::message`]. What is deeper is found when it is opened.
    pub fn message_within(message: &'a [u8], deepest: u8) -> Result<Item<'a>, Error> {
        let mut reader = Self { deepest: deepest.min(MAX_DEPTH), ..Self::new(message) };
        match reader.next_item()? {
            Some(item) => reader.end().map(|()| item),
            None => Err(reader.error(Fault::TruncatedHeader)),
        }
    }

    /// The next item, or `None` at the end.
    ///
    /// # Errors
    /// The item is malformed. The reader then stays where it is.
    pub fn next_item(&mut self) -> Result<Option<Item<'a>>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let Some((&[t0, t1, t2, code, l0, l1, l2, l3], body)) = self.rest.split_first_chunk::<HEADER_LEN>() else {
            return Err(self.error(Fault::TruncatedHeader));
        };
        let tag = u32::from_be_bytes([0, t0, t1, t2]);
        if !matches!(t0, 0x42 | 0x54) && !self.any_tag {
            return Err(self.error(Fault::Tag(tag)));
        }
        let ty = Type::from_code(code).ok_or_else(|| self.error(Fault::Type(code)))?;
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        if !length_fits(ty, length) {
            return Err(self.error(Fault::Length(ty, length)));
        }
        let cut = || self.error(Fault::TruncatedValue(length));
        let len = usize::try_from(length).map_err(|_| cut())?;
        let (value, after) = body.split_at_checked(len).ok_or_else(cut)?;
        let pad = padded(len).ok_or_else(cut)?.saturating_sub(len);
        let (padding, rest) = after.split_at_checked(pad).ok_or_else(|| self.error(Fault::TruncatedPadding))?;
        if padding.iter().any(|&byte| byte != 0) {
            return Err(self.error(Fault::Padding));
        }
        let any_tag = self.any_tag || tag == VENDOR_EXTENSION;
        let Self { offset, depth, deepest, .. } = *self;
        let item = Item { tag, ty, offset, value, depth, deepest, any_tag };
        item.judge_value()?;
        self.offset = self.offset.saturating_add(self.rest.len().saturating_sub(rest.len()));
        self.rest = rest;
        Ok(Some(item))
    }

    /// Nothing may follow.
    ///
    /// # Errors
    /// [`Fault::Trailing`] if something does.
    pub fn end(&self) -> Result<(), Error> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.error(Fault::Trailing(self.rest.len()))) }
    }

    /// Bytes from the start of the message to the next item.
    pub fn offset(&self) -> usize {
        self.offset
    }

    fn error(&self, fault: Fault) -> Error {
        Error { offset: self.offset, fault }
    }
}

impl<'a> Item<'a> {
    /// The items inside this structure.
    ///
    /// # Errors
    /// It is no structure, or nested deeper than was allowed.
    pub fn open(&self) -> Result<Reader<'a>, Error> {
        self.want(Type::Structure)?;
        let depth = self.depth.saturating_add(1);
        if depth > self.deepest {
            return Err(self.error(Fault::TooDeep(self.deepest)));
        }
        let offset = self.offset.saturating_add(HEADER_LEN);
        Ok(Reader { rest: self.value, offset, depth, deepest: self.deepest, any_tag: self.any_tag })
    }

    /// Judges everything inside, to the innermost item. The recursion ends where nesting has to.
    ///
    /// # Errors
    /// The first malformed item.
    pub fn validate(&self) -> Result<(), Error> {
        if self.ty == Type::Structure {
            let mut inside = self.open()?;
            while let Some(item) = inside.next_item()? {
                item.validate()?;
            }
        }
        Ok(())
    }

    /// The value of an Integer.
    ///
    /// # Errors
    /// It is none; so for each of the following.
    pub fn integer(&self) -> Result<i32, Error> {
        self.want(Type::Integer)?;
        self.array().map(i32::from_be_bytes)
    }

    /// The value of a Long Integer.
    #[allow(clippy::missing_errors_doc)]
    pub fn long_integer(&self) -> Result<i64, Error> {
        self.want(Type::LongInteger)?;
        self.array().map(i64::from_be_bytes)
    }

    /// The two's complement bytes of a Big Integer, a multiple of eight.
    #[allow(clippy::missing_errors_doc)]
    pub fn big_integer(&self) -> Result<&'a [u8], Error> {
        self.want(Type::BigInteger)?;
        Ok(self.value)
    }

    /// The number of an Enumeration.
    #[allow(clippy::missing_errors_doc)]
    pub fn enumeration(&self) -> Result<u32, Error> {
        self.want(Type::Enumeration)?;
        self.array().map(u32::from_be_bytes)
    }

    /// The value of a Boolean.
    #[allow(clippy::missing_errors_doc)]
    pub fn boolean(&self) -> Result<bool, Error> {
        self.want(Type::Boolean)?;
        self.array().map(|bytes| u64::from_be_bytes(bytes) == 1)
    }

    /// The value of a Text String.
    #[allow(clippy::missing_errors_doc)]
    pub fn text(&self) -> Result<&'a str, Error> {
        self.want(Type::TextString)?;
        std::str::from_utf8(self.value).map_err(|_| self.error(Fault::Utf8))
    }

    /// The value of a Byte String.
    #[allow(clippy::missing_errors_doc)]
    pub fn byte_string(&self) -> Result<&'a [u8], Error> {
        self.want(Type::ByteString)?;
        Ok(self.value)
    }

    /// The value of a Date-Time, in seconds since 1970-01-01T00:00:00Z.
    #[allow(clippy::missing_errors_doc)]
    pub fn date_time(&self) -> Result<i64, Error> {
        self.want(Type::DateTime)?;
        self.array().map(i64::from_be_bytes)
    }

    /// The value of an Interval, in seconds.
    #[allow(clippy::missing_errors_doc)]
    pub fn interval(&self) -> Result<u32, Error> {
        self.want(Type::Interval)?;
        self.array().map(u32::from_be_bytes)
    }

    /// The bytes of the value as they stand, without padding.
    pub fn raw(&self) -> &'a [u8] {
        self.value
    }

    /// `fault` as an error of this item.
    pub fn error(&self, fault: Fault) -> Error {
        Error { offset: self.offset, fault }
    }

    fn want(&self, ty: Type) -> Result<(), Error> {
        if self.ty == ty { Ok(()) } else { Err(self.error(Fault::WrongType(ty, self.ty))) }
    }

    fn array<const N: usize>(&self) -> Result<[u8; N], Error> {
        let len = u32::try_from(self.value.len()).unwrap_or(u32::MAX);
        self.value.try_into().map_err(|_| self.error(Fault::Length(self.ty, len)))
    }

    fn judge_value(&self) -> Result<(), Error> {
        match self.ty {
            Type::Boolean if !matches!(self.value, [0, 0, 0, 0, 0, 0, 0, 0 | 1]) => Err(self.error(Fault::Boolean)),
            Type::TextString if std::str::from_utf8(self.value).is_err() => Err(self.error(Fault::Utf8)),
            Type::TextString if self.value.contains(&0) => Err(self.error(Fault::Nul)),
            _ => Ok(()),
        }
    }
}

/// The lengths of section 9.1.1.3. A Big Integer has at least one byte, hence eight.
fn length_fits(ty: Type, length: u32) -> bool {
    match ty {
        Type::Integer | Type::Enumeration | Type::Interval => length == 4,
        Type::LongInteger | Type::Boolean | Type::DateTime => length == 8,
        Type::Structure => length % 8 == 0,
        Type::BigInteger => length % 8 == 0 && length != 0,
        Type::TextString | Type::ByteString => true,
    }
}

#[cfg(test)]
mod tests {
    use super::super::FrameError;
    use super::*;

    fn only(bytes: &[u8]) -> Result<Item<'_>, Error> {
        Reader::message(bytes)
    }

    fn fault(bytes: &[u8]) -> Fault {
        only(bytes).and_then(|item| item.validate()).unwrap_err().fault
    }

    #[test]
    fn reads_the_examples_of_section_9_1_2() {
        let item = only(&[0x42, 0, 0x20, 2, 0, 0, 0, 4, 0, 0, 0, 8, 0, 0, 0, 0]).unwrap();
        assert_eq!((item.tag, item.integer()), (0x42_0020, Ok(8)));
        let long = [0x42, 0, 0x20, 3, 0, 0, 0, 8, 0x01, 0xb6, 0x9b, 0x4b, 0xa5, 0x74, 0x92, 0];
        assert_eq!(only(&long).unwrap().long_integer(), Ok(123_456_789_000_000_000));
        assert_eq!(only(&[0x42, 0, 0x20, 5, 0, 0, 0, 4, 0, 0, 0, 255, 0, 0, 0, 0]).unwrap().enumeration(), Ok(255));
        assert_eq!(only(&[0x42, 0, 0x20, 6, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1]).unwrap().boolean(), Ok(true));
        let text = *b"\x42\0\x20\x07\0\0\0\x0bHello World\0\0\0\0\0";
        assert_eq!(only(&text).unwrap().text(), Ok("Hello World"));
        assert_eq!(
            only(&[0x42, 0, 0x20, 8, 0, 0, 0, 3, 1, 2, 3, 0, 0, 0, 0, 0]).unwrap().byte_string(),
            Ok(&[1, 2, 3][..])
        );
        let date = [0x42, 0, 0x20, 9, 0, 0, 0, 8, 0, 0, 0, 0, 0x47, 0xda, 0x67, 0xf8];
        assert_eq!(only(&date).unwrap().date_time(), Ok(1_205_495_800));
        assert_eq!(
            only(&[0x42, 0, 0x20, 10, 0, 0, 0, 4, 0, 0x0d, 0x2f, 0, 0, 0, 0, 0]).unwrap().interval(),
            Ok(864_000)
        );
        let big =
            [0x42, 0, 0x20, 4, 0, 0, 0, 16, 0, 0, 0, 0, 3, 0xfd, 0x35, 0xeb, 0x6b, 0xc2, 0xdf, 0x46, 0x18, 8, 0, 0];
        assert_eq!(only(&big).unwrap().big_integer().unwrap().len(), 16);
    }

    #[test]
    fn refuses_a_type_that_does_not_exist() {
        for code in [0, 0x0b, 0x0c, 0x7f, 0xff] {
            assert_eq!(fault(&[0x42, 0, 0x20, code, 0, 0, 0, 0]), Fault::Type(code));
        }
    }

    #[test]
    fn refuses_lengths_that_do_not_fit_the_type() {
        for (code, lengths) in [
            (2, &[0u32, 1, 3, 5, 8][..]),
            (3, &[0, 4, 7, 16]),
            (4, &[0, 1, 7, 12]),
            (5, &[0, 8]),
            (6, &[0, 1, 4]),
            (9, &[0, 4]),
            (10, &[0, 8]),
            (1, &[1, 4, 12]),
        ] {
            for length in lengths {
                let [a, b, c, d] = length.to_be_bytes();
                let mut bytes = vec![0x42, 0, 0x20, code, a, b, c, d];
                bytes.resize(40, 0);
                assert_eq!(fault(&bytes), Fault::Length(Type::from_code(code).unwrap(), *length));
            }
        }
    }

    #[test]
    fn refuses_lengths_past_the_end_whatever_they_are() {
        for length in [8u32, 0x8000_0000, 0xffff_ffff] {
            let [a, b, c, d] = length.to_be_bytes();
            assert_eq!(fault(&[0x42, 0, 0x20, 8, a, b, c, d, 1, 2]), Fault::TruncatedValue(length));
        }
    }

    #[test]
    fn refuses_padding_that_is_cut_off_or_not_zero() {
        assert_eq!(fault(&[0x42, 0, 0x20, 8, 0, 0, 0, 1, 1, 0]), Fault::TruncatedPadding);
        assert_eq!(fault(&[0x42, 0, 0x20, 8, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 9]), Fault::Padding);
        assert_eq!(fault(&[0x42, 0, 0x20, 2, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 1]), Fault::Padding);
    }

    #[test]
    fn refuses_a_boolean_that_is_neither_zero_nor_one() {
        assert_eq!(fault(&[0x42, 0, 0x20, 6, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 2]), Fault::Boolean);
        assert_eq!(fault(&[0x42, 0, 0x20, 6, 0, 0, 0, 8, 255, 255, 255, 255, 255, 255, 255, 255]), Fault::Boolean);
        assert_eq!(fault(&[0x42, 0, 0x20, 6, 0, 0, 0, 8, 1, 0, 0, 0, 0, 0, 0, 1]), Fault::Boolean);
    }

    #[test]
    fn refuses_text_that_is_not_utf_8_or_holds_nul() {
        for text in [&[0xff_u8][..], &[0xc0, 0x80], &[0xed, 0xa0, 0x80], &[0xf5, 0x80, 0x80, 0x80], &[0xe2, 0x82]] {
            let mut bytes = vec![0x42, 0, 0x20, 7, 0, 0, 0, u8::try_from(text.len()).unwrap()];
            bytes.extend_from_slice(text);
            bytes.resize(16, 0);
            assert_eq!(fault(&bytes), Fault::Utf8);
        }
        assert_eq!(fault(b"\x42\0\x20\x07\0\0\0\x03a\0b\0\0\0\0\0"), Fault::Nul);
        assert_eq!(fault(b"\x42\0\x20\x07\0\0\0\x02a\0\0\0\0\0\0\0"), Fault::Nul);
    }

    #[test]
    fn refuses_a_foreign_tag_except_inside_a_vendor_extension() {
        let foreign = [0x01, 0x42, 0x42, 2, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0];
        assert_eq!(fault(&foreign), Fault::Tag(0x01_4242));
        let mut vendor = vec![0x42, 0, 0x9c, 1, 0, 0, 0, 16];
        vendor.extend_from_slice(&foreign);
        only(&vendor).unwrap().validate().unwrap();
        let extension = [0x54, 0, 1, 2, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0];
        assert_eq!(only(&extension).unwrap().integer(), Ok(1));
    }

    #[test]
    fn refuses_children_that_overrun_or_underrun_their_structure() {
        let overrun = [0x42, 0, 0x78, 1, 0, 0, 0, 8, 0x42, 0, 0x20, 2, 0, 0, 0, 4];
        assert_eq!(fault(&overrun), Fault::TruncatedValue(4));
        let nested = [0x42, 0, 0x78, 1, 0, 0, 0, 16, 0x42, 0, 0x20, 1, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(fault(&nested), Fault::TruncatedValue(16));
        let spare = [0x42, 0, 0x78, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(fault(&spare), Fault::Tag(0));
    }

    #[test]
    fn an_error_tells_nothing_of_the_bytes_that_a_wrong_length_has_made_a_header() {
        // A length of 8 where 16 bytes follow: the second half is a PIN.
        let message = b"\x42\0\x78\x01\0\0\0\x18\x42\0\x99\x07\0\0\0\x08username4711-pin";
        let error = only(message).unwrap().validate().unwrap_err();
        assert_eq!(error.fault, Fault::Tag(0x34_3731));
        assert_eq!(error.to_string(), "tag does not begin with 42 or 54 at byte 24");
        assert_eq!(
            FrameError::NotARequest(*b"4711").to_string(),
            "message does not begin with a Request Message structure"
        );
        let with_type = b"\x42\0\x78\x01\0\0\0\x08\x42\0\x994\0\0\0\0";
        assert_eq!(only(with_type).unwrap().validate().unwrap_err().to_string(), "there is no such type at byte 8");
    }

    #[test]
    fn refuses_bytes_after_the_message() {
        let bytes = [0x42, 0, 0x78, 1, 0, 0, 0, 0, 0x42];
        assert_eq!(fault(&bytes), Fault::Trailing(1));
        assert_eq!(fault(&[]), Fault::TruncatedHeader);
    }

    #[test]
    fn refuses_nesting_by_the_thousand_without_recursing_into_it() {
        let deep = 5_000u32;
        let mut bytes = Vec::new();
        for level in 0..deep {
            bytes.extend_from_slice(&[0x42, 0, 0x78, 1]);
            bytes.extend_from_slice(&((deep - level - 1) * 8).to_be_bytes());
        }
        for (asked, deepest) in [(1, 1), (16, 16), (MAX_DEPTH, MAX_DEPTH), (u8::MAX, MAX_DEPTH)] {
            let error = Reader::message_within(&bytes, asked).unwrap().validate().unwrap_err();
            assert_eq!(error, Error { offset: usize::from(deepest) * 8, fault: Fault::TooDeep(deepest) });
        }
        assert_eq!(fault(&bytes), Fault::TooDeep(MAX_DEPTH));
    }

    #[test]
    fn tells_the_offset_of_a_fault_deep_inside() {
        let mut bytes = vec![0x42, 0, 0x78, 1, 0, 0, 0, 40];
        bytes.extend_from_slice(&[0x42, 0, 0x20, 2, 0, 0, 0, 4, 0, 0, 0, 8, 0, 0, 0, 0]);
        bytes.extend_from_slice(&[0x42, 0, 0x77, 1, 0, 0, 0, 16, 0x42, 0, 0x20, 6, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(only(&bytes).unwrap().validate(), Err(Error { offset: 32, fault: Fault::Boolean }));
    }

    #[test]
    fn tells_a_wrong_type_from_a_wrong_value() {
        let item = only(&[0x42, 0, 0x20, 2, 0, 0, 0, 4, 0, 0, 0, 8, 0, 0, 0, 0]).unwrap();
        assert_eq!(item.text().unwrap_err().fault, Fault::WrongType(Type::TextString, Type::Integer));
        assert!(item.open().is_err() && item.boolean().is_err() && item.enumeration().is_err());
    }
}
