//! What the fuzz targets share: seeds, mutations, the bridge on a module that answers from memory, and what has to hold of answers.
#![forbid(unsafe_code)]

pub mod fake;
pub mod mutate;
pub mod oracle;
pub mod seeds;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The fake module, built with `cargo build --release`.
pub fn fake_module() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fake-module/target/release/libfake_module.so")
}

/// The messages of all seeds.
pub static SEEDS: LazyLock<Vec<Vec<u8>>> =
    LazyLock::new(|| seeds::all().into_iter().map(|seed| seed.message).collect());

/// A mutator for targets whose input is a message: half of the time one that knows TTLV, else libFuzzer's own.
#[macro_export]
macro_rules! message_mutator {
    () => {
        libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, most: usize, seed: u32| {
            if seed % 2 == 0 {
                return libfuzzer_sys::fuzzer_mutate(data, size, most);
            }
            let mut message = data[..size].to_vec();
            let mut numbers = $crate::mutate::Numbers::new(u64::from(seed) + 1);
            $crate::mutate::mutate(&mut message, &$crate::SEEDS, &mut numbers);
            let len = message.len().min(most);
            data[..len].copy_from_slice(&message[..len]);
            len
        });
    };
}
