//! Valid requests, changed in many ways, through everything but the network: each gets one well-formed response, and nothing
//! panics. The numbers are fixed, so that a failure comes back.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

#[path = "fuzz/src/fake.rs"]
mod fake;
#[path = "fuzz/src/mutate.rs"]
mod mutate;
#[path = "fuzz/src/oracle.rs"]
mod oracle;
#[path = "fuzz/src/seeds.rs"]
#[allow(dead_code)] // only the program that writes the seeds down asks for their names
mod seeds;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;

use cascade_hsm_bridge::bridge::{Bridge, OPERATIONS, Offered};
use cascade_hsm_bridge::kmip::{Limits, Request, Version};
use cascade_hsm_bridge::ttlv::frame_len;
use mutate::{Numbers, mutate};

const CASES: u32 = 200_000;

/// Bytes of the largest request, so small that there are larger ones among the cases.
const LARGEST: usize = 1000;

/// Builds the module that answers from memory (tests/fuzz/fake-module) where the fuzzer looks for it too.
fn fake_module() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/fake-module");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--locked", "--quiet", "--manifest-path"]).arg(package.join("Cargo.toml"));
    cargo.arg("--target-dir").arg(package.join("target"));
    // What `cargo test` says of its own target directory and flags is not meant for another package.
    cargo.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    let output = cargo.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    package.join("target/release/libfake_module.so")
}

/// Whether every item of the answer to `request` is a success.
fn succeeds(bridge: &Bridge, request: &[u8]) -> bool {
    let mut response = Vec::new();
    fake::answer(bridge, 0, request, &mut response);
    oracle::judge(request, &response) == 0
}

/// The call for its last item may return just when somebody begins to speak for a connection: then the batch is done, and told as such.
fn is_said_alike_by_who_speaks_for_it(bridge: &Bridge, request: &[u8]) -> bool {
    let (mut response, mut again) = (Vec::new(), Vec::new());
    fake::answer_twice(bridge, request, &mut response, &mut again);
    let are_several = Request::decode(request, Limits::default()).is_ok_and(|request| request.items().count() > 1);
    are_several && oracle::judge(request, &response) == 0 && {
        assert_eq!(oracle::judge(request, &again), 0, "what is done is told as done: {again:02x?}");
        assert_eq!(response.len(), again.len());
        true
    }
}

/// Holds that each operation has a seed that succeeds in each version, and tells how many succeed: mutations of what fails anyway would
/// find little.
fn well_seeded(bridge: &Bridge, seeds: &[Vec<u8>]) -> usize {
    let good: Vec<_> = seeds.iter().filter(|seed| succeeds(bridge, seed)).collect();
    let answered = |seed: &[u8], offered: &Offered, version| {
        let request = Request::decode(seed, Limits::default()).map_err(|rejected| rejected.failure).unwrap();
        request.header.version == version && request.items().any(|item| item.operation == Some(offered.operation))
    };
    for offered in OPERATIONS {
        for version in Version::SPOKEN.into_iter().filter(|version| offered.since <= *version) {
            let is_there = good.iter().any(|seed| answered(seed, offered, version));
            assert!(is_there, "no seed of {} {version} succeeds", offered.operation);
        }
    }
    good.len()
}

#[test]
fn every_mutated_request_gets_one_well_formed_response() {
    let module = fake_module();
    fake::log_to_nowhere();
    let bridge = fake::bridge(&module);
    let seeds: Vec<_> = seeds::all().into_iter().map(|seed| seed.message).collect();
    let good = well_seeded(&bridge, &seeds);
    let batches = seeds.iter().filter(|seed| is_said_alike_by_who_speaks_for_it(&bridge, seed)).count();
    assert!(batches > 5, "{batches}");

    let mut numbers = Numbers::new(1);
    let mut response = Vec::new();
    let mut decoded = 0_u32;
    for case in 0..CASES {
        let mut request = seeds[numbers.below(seeds.len())].clone();
        mutate(&mut request, &seeds, &mut numbers);
        response.clear();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            fake::answer(&bridge, case, &request, &mut response);
            oracle::judge(&request, &response);
            response.clear();
            fake::give_up(&bridge, case, &request, &mut response);
            assert!(oracle::judge(&request, &response) > 0, "whatever is given up fails");
            // What the server does not even hand on as a request.
            if let Err(error) = frame_len(&request, LARGEST) {
                response.clear();
                fake::refuse(&bridge, case, error, &mut response);
                oracle::judge_refusal(&response);
            }
        }));
        assert!(outcome.is_ok(), "case {case}: request {request:02x?} response {response:02x?}");
        decoded += u32::from(Request::decode(&request, Limits::default()).is_ok());
    }
    // Far enough in, too: most of the program is behind the decoding of the header.
    assert!(decoded > CASES / 4, "only {decoded} of {CASES} cases get past the header");
    // And the bridge still serves.
    assert_eq!(well_seeded(&bridge, &seeds), good);
}
