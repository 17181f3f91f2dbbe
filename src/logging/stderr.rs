//! Standard error as the program was given it, also when a module has another in its place.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;

static OWN: OnceLock<File> = OnceLock::new();

/// From now on messages go to what standard error is now, whatever is put in its place. Returns that.
///
/// # Errors
/// There is no standard error, or no descriptor left.
pub fn keep() -> io::Result<&'static File> {
    match OWN.get() {
        Some(file) => Ok(file),
        None => {
            let own = File::from(io::stderr().as_fd().try_clone_to_owned()?);
            Ok(OWN.get_or_init(|| own))
        }
    }
}

/// Where messages for standard error go.
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match OWN.get() {
            Some(mut file) => file.write(bytes),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What messages for standard error go to.
pub(super) fn place() -> io::Result<File> {
    match OWN.get() {
        Some(file) => file.try_clone(),
        None => Ok(File::from(io::stderr().as_fd().try_clone_to_owned()?)),
    }
}
