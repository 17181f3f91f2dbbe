//! Users and groups by name and number.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// A user as the system knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name, by which the supplementary groups are found; none for a bare number.
    pub name: Option<CString>,
    /// The number.
    pub uid: u32,
    /// The primary group; none for a bare number.
    pub gid: Option<u32>,
}

/// Finds a user by name, or by number, which needs no entry in the user database.
pub fn user(name: &str) -> io::Result<Option<User>> {
    let wanted = CString::new(name)?;
    let known = entry(|passwd: *mut libc::passwd, buffer, len, found| {
        // SAFETY: `entry` gives valid places for the record, its strings and the pointer to it; the name ends in NUL.
        unsafe { libc::getpwnam_r(wanted.as_ptr(), passwd, buffer, len, found) }
    })?;
    let known = match (known, number(name)) {
        (None, Some(uid)) => entry(|passwd: *mut libc::passwd, buffer, len, found| {
            // SAFETY: as above.
            unsafe { libc::getpwuid_r(uid, passwd, buffer, len, found) }
        })?,
        (known, _) => known,
    };
    Ok(match known {
        Some((passwd, _strings)) => {
            // SAFETY: the record's name points into `_strings`, which is still there, and ends in NUL.
            let name = unsafe { CStr::from_ptr(passwd.pw_name) }.to_owned();
            Some(User { name: Some(name), uid: passwd.pw_uid, gid: Some(passwd.pw_gid) })
        }
        None => number(name).map(|uid| User { name: None, uid, gid: None }),
    })
}

/// Finds a group's number by its name; a number stands for itself.
pub fn group(name: &str) -> io::Result<Option<u32>> {
    let wanted = CString::new(name)?;
    let known = entry(|group: *mut libc::group, buffer, len, found| {
        // SAFETY: `entry` gives valid places for the record, its strings and the pointer to it; the name ends in NUL.
        unsafe { libc::getgrnam_r(wanted.as_ptr(), group, buffer, len, found) }
    })?;
    Ok(known.map(|(group, _)| group.gr_gid).or_else(|| number(name)))
}

/// The name of a user; the number where there is none.
pub fn user_name(uid: u32) -> String {
    let known = entry(|passwd: *mut libc::passwd, buffer, len, found| {
        // SAFETY: as in `user`.
        unsafe { libc::getpwuid_r(uid, passwd, buffer, len, found) }
    });
    // SAFETY: as in `user`.
    let name =
        |(passwd, _strings): &(libc::passwd, _)| unsafe { CStr::from_ptr(passwd.pw_name) }.to_string_lossy().into();
    known.ok().flatten().as_ref().map_or_else(|| uid.to_string(), name)
}

/// The name of a group; the number where there is none.
pub fn group_name(gid: u32) -> String {
    let known = entry(|group: *mut libc::group, buffer, len, found| {
        // SAFETY: as in `user`.
        unsafe { libc::getgrgid_r(gid, group, buffer, len, found) }
    });
    // SAFETY: as in `user`.
    let name = |(group, _strings): &(libc::group, _)| unsafe { CStr::from_ptr(group.gr_name) }.to_string_lossy().into();
    known.ok().flatten().as_ref().map_or_else(|| gid.to_string(), name)
}

/// A user or group given by number. The largest is not one: to the system calls it means "as it is".
fn number(name: &str) -> Option<u32> {
    name.parse().ok().filter(|&number| number != u32::MAX)
}

/// Asks for a record of the user or group database, with a buffer for its strings that grows until they fit.
fn entry<T>(
    ask: impl Fn(*mut T, *mut libc::c_char, usize, *mut *mut T) -> libc::c_int,
) -> io::Result<Option<(T, Vec<libc::c_char>)>> {
    const MOST: usize = 1 << 20;
    let mut len = 1024;
    loop {
        let mut strings = vec![0; len];
        let mut record = MaybeUninit::<T>::uninit();
        let mut found = ptr::null_mut();
        match ask(record.as_mut_ptr(), strings.as_mut_ptr(), len, &mut found) {
            libc::EINTR => {}
            libc::ERANGE if len < MOST => len = len.saturating_mul(4),
            // Some databases answer these instead of an empty success for a name they do not know.
            0 | libc::ENOENT | libc::ESRCH if found.is_null() => return Ok(None),
            // SAFETY: success with `found` set says that the record has been filled in.
            0 => return Ok(Some((unsafe { record.assume_init() }, strings))),
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
}
