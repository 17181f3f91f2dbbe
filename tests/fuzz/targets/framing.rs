//! Framing: the length of a message is judged alike however few of its bytes are there, and is within the limit.
#![no_main]

use cascade_hsm_bridge::ttlv::{HEADER_LEN, frame_len};
use libfuzzer_sys::fuzz_target;

fuzz::message_mutator!();

fuzz_target!(|data: &[u8]| {
    for limit in [0, HEADER_LEN, 64, 4096, 1 << 20, usize::MAX] {
        let whole = frame_len(data, limit);
        for len in 0..data.len().min(HEADER_LEN + 1) {
            let part = frame_len(&data[..len], limit);
            if len < HEADER_LEN {
                assert_eq!(part, Ok(None));
            } else {
                assert_eq!(part, whole, "with {len} bytes");
            }
        }
        match whole {
            Ok(Some(len)) => assert!(len >= HEADER_LEN && len <= limit && len % 8 == 0),
            Ok(None) => assert!(data.len() < HEADER_LEN),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
});
