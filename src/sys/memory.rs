//! Memory that is not needed at present, back to the system.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::ptr;

/// What is left below a stack's innermost frame, for the call that gives the rest back, in bytes.
const MARGIN: usize = 1024;

/// Gives back what was freed of the heap. glibc by itself does so at the end of a heap only; of other C libraries nothing is known.
pub fn give_back_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes a number, may be called by any thread, and leaves what is in use alone.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Gives back the pages of this thread's stack that no call in progress uses. Some were touched before the thread began: the C library
/// has stacks of threads that ended used again.
#[inline(never)]
pub fn give_back_stack() {
    let here = MaybeUninit::<u8>::uninit();
    // SAFETY: sysconf takes a number and no pointer.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(0);
    let (Some(low), true) = (stack(), page.is_power_of_two()) else { return };
    // A stack grows downward, so below this call's frame there is only that of the next call.
    let end = here.as_ptr().addr().saturating_sub(MARGIN) & !page.wrapping_sub(1);
    let start = low.addr().next_multiple_of(page);
    if start < end {
        // SAFETY: the pages belong to this thread's stack, above its guard, and end below all frames in use but that of this call
        // itself, for which the margin is left. They read as zero when they are used again.
        unsafe { libc::madvise(low.with_addr(start), end.saturating_sub(start), libc::MADV_DONTNEED) };
    }
}

/// The lowest address of this thread's stack.
fn stack() -> Option<*mut libc::c_void> {
    let mut attributes = MaybeUninit::uninit();
    // SAFETY: the thread is this one, and there is a place for its attributes, which the call initialises if it succeeds.
    if unsafe { libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) } != 0 {
        return None;
    }
    let (mut low, mut size) = (ptr::null_mut(), 0);
    // SAFETY: the attributes are initialised, there is a place for each answer, and they are destroyed once.
    let found = unsafe {
        let found = libc::pthread_attr_getstack(attributes.as_ptr(), &mut low, &mut size);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        found
    };
    (found == 0 && !low.is_null()).then_some(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Touches so many bytes of the stack.
    #[inline(never)]
    fn deep() -> u64 {
        let bytes = std::hint::black_box([1_u8; 256 * 1024]);
        bytes.iter().map(|byte| u64::from(*byte)).sum()
    }

    /// How much of the mapping that holds `address` is resident, in KiB.
    fn resident(address: usize) -> u64 {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut is_it = false;
        for line in maps.lines() {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            let range = range.and_then(|(from, to)| {
                Some(usize::from_str_radix(from, 16).ok()?..usize::from_str_radix(to, 16).ok()?)
            });
            if let Some(range) = range {
                is_it = range.contains(&address);
            } else if let (true, Some(rest)) = (is_it, line.strip_prefix("Rss:")) {
                return rest.trim().trim_end_matches(" kB").parse().unwrap();
            }
        }
        panic!("no such mapping");
    }

    #[test]
    fn a_stack_is_given_back_below_what_is_in_use() {
        let thread = std::thread::Builder::new().stack_size(1024 * 1024).spawn(|| {
            let kept = std::hint::black_box([7_u8; 5000]);
            assert_eq!(deep(), 256 * 1024);
            let before = resident(kept.as_ptr().addr());
            give_back_stack();
            let after = resident(kept.as_ptr().addr());
            assert!(before >= 256, "{before} KiB");
            assert!(after < 128, "{after} of {before} KiB are left");
            assert_eq!(kept, [7; 5000]);
            assert_eq!(deep(), 256 * 1024);
        });
        thread.unwrap().join().unwrap();
    }
}
