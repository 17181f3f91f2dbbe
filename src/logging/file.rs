//! The log file.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

/// Opens `path` to append to it. A new file is readable by owner and group only, and is given to `owner`.
pub fn open(path: &Path, owner: Option<(u32, u32)>) -> io::Result<File> {
    match File::options().append(true).create_new(true).mode(MODE).open(path) {
        Ok(file) => {
            // The creation mask of the process is stricter than what a reader of logs needs.
            file.set_permissions(PermissionsExt::from_mode(MODE))?;
            if let Some((user, group)) = owner {
                fchown(&file, Some(user), Some(group))?;
            }
            Ok(file)
        }
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists => File::options().append(true).open(path),
        Err(why) => Err(why),
    }
}

const MODE: u32 = 0o640;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn appends_and_keeps_others_from_reading() {
        let path = std::env::temp_dir().join(format!("chb-log-{}", std::process::id()));
        open(&path, None).unwrap().write_all(b"one\n").unwrap();
        open(&path, None).unwrap().write_all(b"two\n").unwrap();
        let (text, mode) = (std::fs::read_to_string(&path).unwrap(), path.metadata().unwrap().permissions().mode());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(text, "one\ntwo\n");
        assert_eq!(mode & 0o777, 0o640);
    }

    #[test]
    fn fails_where_there_is_no_directory() {
        assert!(open(Path::new("/nonexistent/log"), None).is_err());
    }
}
