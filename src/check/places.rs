//! Whether the files that the daemon makes can be made where the configuration has them. Makes none of them.
#![forbid(unsafe_code)]

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::logging::{self, Target};
use crate::sys::{self, May};

/// Whether messages can be sent to `target`.
pub fn log(target: &Target) -> Result<(), String> {
    let judged = match target {
        Target::File(path) => file(path).map_err(|why| logging::Error::file(path, why)),
        Target::Syslog => logging::reach_syslog(),
        Target::Stderr => Ok(()),
    };
    judged.map_err(|error| error.to_string())
}

/// Whether the number of the process can be written to `path`.
pub fn pid_file(path: &Path) -> Result<(), String> {
    file(path).map_err(|why| format!("cannot take the pid-file {}: {why}", path.display()))
}

/// Whether root makes the directory `path` for the identity: the daemon makes no others above it.
pub fn can_be_made_here(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err() && path.parent().is_some_and(|parent| sys::may(parent, May::Fill).is_ok())
}

/// Whether files can be made in the directory `path`, once it and what is missing above it have been made.
pub fn directory(path: &Path) -> io::Result<()> {
    for place in path.ancestors() {
        match sys::may(place, May::Fill) {
            Err(why) if why.kind() == ErrorKind::NotFound => {}
            judged => return judged,
        }
    }
    Err(ErrorKind::NotFound.into())
}

/// Whether `path` can be written to, or made.
fn file(path: &Path) -> io::Result<()> {
    // What is there and is no file, a pipe say, must not have anybody wait.
    match OpenOptions::new().append(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Err(why) if why.kind() == ErrorKind::NotFound => sys::may(path.parent().unwrap_or(path), May::Fill),
        opened => opened.map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_places_without_making_anything() {
        let scratch = std::env::temp_dir().join(format!("chb-places-{}", std::process::id()));
        fs::create_dir(&scratch).unwrap();
        let there = scratch.join("there");
        fs::write(&there, "x").unwrap();
        let log_file = |path: &Path| log(&Target::File(path.into()));
        assert!(log_file(&there).is_ok() && log_file(&scratch.join("new")).is_ok());
        assert!(log_file(&scratch.join("none/new")).unwrap_err().starts_with("cannot log to /"));
        assert!(log_file(&scratch).is_err());
        assert!(pid_file(&scratch.join("new")).is_ok());
        assert!(pid_file(&there.join("new")).unwrap_err().starts_with("cannot take the pid-file /"));
        assert!(directory(&scratch).is_ok() && directory(&scratch.join("a/b")).is_ok());
        assert!(directory(&there).is_err() && directory(Path::new("/proc/nope")).is_err());
        assert!(can_be_made_here(&scratch.join("a")) && !can_be_made_here(&scratch.join("a/b")));
        assert!(!can_be_made_here(&scratch));
        assert_eq!(fs::read_dir(&scratch).unwrap().count(), 1);
        fs::remove_dir_all(&scratch).unwrap();
    }
}
