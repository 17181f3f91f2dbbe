//! A module whose answers are wrong: attributes of odd lengths and contents, handles of nothing, failures in every place. The input is
//! the number of a seed, two bytes, then the script that the fake module goes by.
#![no_main]

use std::sync::LazyLock;

use fuzz::{SEEDS, fake, fake_module, oracle};
use libfuzzer_sys::fuzz_target;
use libloading::Library;

type SetScript = unsafe extern "C" fn(*const u8, usize);

/// Kept open, so that the library is not loaded anew for each case.
static MODULE: LazyLock<Library> = LazyLock::new(|| {
    fake::log_to_nowhere();
    // SAFETY: loading the fake module runs no code.
    unsafe { Library::new(fake_module()) }.expect("the fake module is built")
});

/// Any request that makes the bridge log in.
static LOGIN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut seeds = fuzz::seeds::all().into_iter();
    seeds.find(|seed| seed.name == "rng-retrieve-1.2").expect("there is such a seed").message
});

fuzz_target!(|data: &[u8]| {
    let Some((number, script)) = data.split_first_chunk::<2>() else { return };
    let request = &SEEDS[usize::from(u16::from_be_bytes(*number)) % SEEDS.len()];
    // SAFETY: the fake module declares the symbol so.
    let set_script = unsafe { MODULE.get::<SetScript>(b"fake_module_script\0") }.expect("the fake module's symbol");
    // Made anew, so that a case depends on nothing that was before it.
    let bridge = fake::bridge(&fake_module());
    ask(&bridge, &LOGIN);
    // SAFETY: pointer and length are those of a slice.
    unsafe { set_script(script.as_ptr(), script.len()) };
    // A second time, with what the bridge remembers of the first.
    ask(&bridge, request);
    ask(&bridge, request);
});

fn ask(bridge: &cascade_hsm_bridge::bridge::Bridge, request: &[u8]) {
    let mut response = Vec::new();
    fake::answer(bridge, 0, request, &mut response);
    oracle::judge(request, &response);
}
