//! How often a warm request asks for memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use crate::in_process::{InProcess, watched};
use crate::support::fake_module;

/// What a signature may ask for.
const MOST: usize = 4;

/// The system's allocator, with a count for each thread.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller vouches for the layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller vouches for place and layout.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, size) }
    }
}

fn count() {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
}

#[test]
fn a_warm_signature_asks_for_memory_four_times_at_most() {
    let mut bridge = InProcess::start(&fake_module());
    for ask in watched() {
        bridge.warm_up(&ask);
        let before = ALLOCATIONS.get();
        bridge.answer(&ask.message);
        let allocations = ALLOCATIONS.get() - before;
        println!("{:30} {allocations:5} allocations", ask.name);
        if ask.name.starts_with("Sign") && ask.items == 1 {
            assert!(allocations <= MOST, "{}: {allocations}", ask.name);
        }
    }
}
