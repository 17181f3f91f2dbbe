//! The log file.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
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
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists => open_existing(path, owner.is_some()),
        Err(why) => Err(why),
    }
}

/// Opens a file that is there. As root for somebody else, only a file that its name alone leads to: whoever may write to the directory
/// could else have root write to any file, or wait for ever at a FIFO.
fn open_existing(path: &Path, for_another: bool) -> io::Result<File> {
    if !for_another {
        return File::options().append(true).open(path);
    }
    let file = File::options().append(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let found = file.metadata()?;
    if found.is_file() && found.nlink() == 1 {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file, or has another name too"))
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
    fn follows_no_link_as_root_for_somebody_else() {
        let path = std::env::temp_dir().join(format!("chb-log-link-{}", std::process::id()));
        let (target, hard) = (path.with_extension("target"), path.with_extension("hard"));
        std::fs::write(&target, "secret\n").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        std::fs::hard_link(&target, &hard).unwrap();
        let (linked, hard_linked) = (open(&path, Some((0, 0))).is_err(), open(&hard, Some((0, 0))).is_err());
        let for_itself = open(&path, None).is_ok();
        [path, target, hard].iter().for_each(|file| std::fs::remove_file(file).unwrap());
        assert!(linked && hard_linked && for_itself);
    }

    #[test]
    fn fails_where_there_is_no_directory() {
        assert!(open(Path::new("/nonexistent/log"), None).is_err());
    }
}
