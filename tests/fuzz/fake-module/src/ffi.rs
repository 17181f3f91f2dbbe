//! What the application's pointers point to.

use cryptoki_sys::{CK_ATTRIBUTE, CK_ATTRIBUTE_TYPE, CK_RV, CK_ULONG, CKR_BUFFER_TOO_SMALL, CKR_OK};

/// Ends a function of the module with the return value of an `Err`.
macro_rules! attempt {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(rv) => return rv,
        }
    };
}

/// A length or handle of ours as PKCS#11 counts.
pub fn ulong(number: usize) -> CK_ULONG {
    number as CK_ULONG
}

/// # Safety
/// `start` points to `len` bytes that live as long as the result is used, or is null.
pub unsafe fn bytes<'a>(start: *const u8, len: usize) -> &'a [u8] {
    if start.is_null() || len == 0 {
        return &[];
    }
    // SAFETY: the caller vouches for pointer and length.
    unsafe { std::slice::from_raw_parts(start, len) }
}

/// The attributes of a template.
///
/// # Safety
/// `first` points to `count` attributes, and each of them to its value; or is null.
pub unsafe fn template(first: *const CK_ATTRIBUTE, count: CK_ULONG) -> Vec<(CK_ATTRIBUTE_TYPE, Vec<u8>)> {
    if first.is_null() || count == 0 {
        return Vec::new();
    }
    // SAFETY: the caller vouches for pointer and count.
    let attributes = unsafe { std::slice::from_raw_parts(first, count as usize) };
    let value = |attribute: &CK_ATTRIBUTE| {
        // SAFETY: and for each value.
        unsafe { bytes(attribute.pValue.cast(), attribute.ulValueLen as usize) }.to_vec()
    };
    attributes.iter().map(|attribute| (attribute.type_, value(attribute))).collect()
}

/// Hands out `values` the way that PKCS#11 does (section 5.2): their number alone without a buffer, an error with one too small.
///
/// # Safety
/// `len` points to the number of values that `buffer` has room for, and `buffer` to that room or is null.
pub unsafe fn give<T: Copy>(values: &[T], buffer: *mut T, len: *mut CK_ULONG) -> CK_RV {
    // SAFETY: the caller vouches for `len`.
    let room = unsafe { *len } as usize;
    // SAFETY: as above.
    unsafe { *len = ulong(values.len()) };
    if buffer.is_null() {
        return CKR_OK;
    }
    if room < values.len() {
        return CKR_BUFFER_TOO_SMALL;
    }
    // SAFETY: the buffer has room for that many, as the caller vouches.
    unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), buffer, values.len()) };
    CKR_OK
}

/// A field of fixed size, padded with blanks.
pub fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [b' '; N];
    field.iter_mut().zip(text.bytes()).for_each(|(place, byte)| *place = byte);
    field
}
