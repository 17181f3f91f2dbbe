//! Everything behind the network: a message in, one well-formed response out, with a token that answers from memory.
#![no_main]

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use cascade_hsm_bridge::bridge::Bridge;
use cascade_hsm_bridge::ttlv::frame_len;
use fuzz::{fake, oracle};
use libfuzzer_sys::fuzz_target;

fuzz::message_mutator!();

/// Bytes of the largest request, small enough to be exceeded.
const LARGEST: usize = 2048;

static BRIDGE: LazyLock<Bridge> = LazyLock::new(|| {
    fake::log_to_nowhere();
    fake::bridge(&fuzz::fake_module())
});
static CASE: AtomicU32 = AtomicU32::new(0);

fuzz_target!(|data: &[u8]| {
    let number = CASE.fetch_add(1, Ordering::Relaxed);
    let mut response = Vec::new();
    fake::answer(&BRIDGE, number, data, &mut response);
    oracle::judge(data, &response);
    response.clear();
    fake::give_up(&BRIDGE, number, data, &mut response);
    assert!(oracle::judge(data, &response) > 0);
    if let Err(error) = frame_len(data, LARGEST) {
        response.clear();
        fake::refuse(&BRIDGE, number, error, &mut response);
        oracle::judge_refusal(&response);
    }
});
