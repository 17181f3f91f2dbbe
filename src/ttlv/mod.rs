//! TTLV, the binary encoding of KMIP messages (KMIP 1.2, section 9.1): bytes only, nothing of KMIP's meaning.
#![forbid(unsafe_code)]

mod frame;

pub use frame::{FrameError, HEADER_LEN, frame_len};
