//! Framing: how many bytes of a stream make one message, judged before they are read.
#![forbid(unsafe_code)]

use std::fmt;

/// Bytes of tag, type and length in front of every value.
pub const HEADER_LEN: usize = 8;

/// The tag of a Request Message (KMIP 1.2, section 9.1.3.1).
const REQUEST_MESSAGE: [u8; 3] = [0x42, 0x00, 0x78];
const STRUCTURE: u8 = 0x01;

/// Why the bytes at hand do not begin a request message. Nothing after them can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The first item is not a Request Message structure; `[tag, tag, tag, type]`.
    NotARequest([u8; 4]),
    /// A structure's length is a multiple of eight; this one, in bytes, is not.
    OddLength(u32),
    /// The message, of so many bytes with its header, is larger than the limit that follows.
    TooLarge(u64, u64),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Not with what it begins: after a message whose length was wrong, that is the middle of it.
            Self::NotARequest(_) => write!(f, "message does not begin with a Request Message structure"),
            Self::OddLength(len) => write!(f, "message length {len} is not a multiple of 8"),
            Self::TooLarge(len, limit) => write!(f, "message of {len} bytes is larger than the limit of {limit} bytes"),
        }
    }
}

impl std::error::Error for FrameError {}

/// How many bytes, header included, the message that begins `bytes` has: `None` while fewer than [`HEADER_LEN`] bytes
/// are there. `limit` is the largest message taken, in bytes with its header.
///
/// # Errors
/// What [`FrameError`] lists; each as soon as the bytes that show it are there, so that no peer makes the caller wait for,
/// or allocate, what will be refused.
pub fn frame_len(bytes: &[u8], limit: usize) -> Result<Option<usize>, FrameError> {
    let Some((&[a, b, c, ty, l0, l1, l2, l3], _)) = bytes.split_first_chunk::<HEADER_LEN>() else {
        return Ok(None);
    };
    if [a, b, c] != REQUEST_MESSAGE || ty != STRUCTURE {
        return Err(FrameError::NotARequest([a, b, c, ty]));
    }
    let body = u32::from_be_bytes([l0, l1, l2, l3]);
    let whole = u64::from(body).saturating_add(HEADER_LEN as u64);
    if whole > limit as u64 {
        return Err(FrameError::TooLarge(whole, limit as u64));
    }
    if body % 8 != 0 {
        return Err(FrameError::OddLength(body));
    }
    // Fits: `whole` is at most `limit`, which is a usize.
    Ok(usize::try_from(whole).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_for_the_whole_header_and_then_tells_the_length() {
        let head = [0x42, 0, 0x78, 1, 0, 0, 0, 16];
        for len in 0..HEADER_LEN {
            assert_eq!(frame_len(&head[..len], 64), Ok(None));
        }
        assert_eq!(frame_len(&head, 64), Ok(Some(24)));
        assert_eq!(frame_len(&head, 24), Ok(Some(24)));
    }

    #[test]
    fn refuses_what_cannot_be_a_request() {
        assert_eq!(frame_len(&[0x42, 0, 0x7b, 1, 0, 0, 0, 0], 64), Err(FrameError::NotARequest([0x42, 0, 0x7b, 1])));
        assert_eq!(frame_len(&[0x42, 0, 0x78, 8, 0, 0, 0, 0], 64), Err(FrameError::NotARequest([0x42, 0, 0x78, 8])));
        assert_eq!(frame_len(b"GET / HTTP/1.1", 64), Err(FrameError::NotARequest(*b"GET ")));
        assert_eq!(frame_len(&[0x42, 0, 0x78, 1, 0, 0, 0, 9], 64), Err(FrameError::OddLength(9)));
    }

    #[test]
    fn refuses_a_length_over_the_limit_whatever_it_is() {
        for length in [17_u32, 24, 0x8000_0000, 0xffff_ffff, 0xffff_fff8] {
            let [a, b, c, d] = length.to_be_bytes();
            let whole = u64::from(length) + 8;
            assert_eq!(frame_len(&[0x42, 0, 0x78, 1, a, b, c, d], 24), Err(FrameError::TooLarge(whole, 24)));
        }
    }
}
