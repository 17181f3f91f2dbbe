//! The file with the number of the process.
#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::sys;

/// The file, locked for as long as this process runs or one forked from it; it goes when this is dropped.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    file: File,
}

impl PidFile {
    /// Opens or creates `path` and locks it. What is in it stays until [`PidFile::write`].
    ///
    /// # Errors
    /// Another process has it locked, it cannot be written, or it is something else than a file that its name alone leads to: as
    /// root, the bridge would write to, open to everyone and remove whatever someone else has it be, or wait for ever at a FIFO.
    pub fn claim(path: &Path) -> io::Result<PidFile> {
        for _ in 0..TRIES {
            let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
            let file = OpenOptions::new().write(true).create(true).truncate(false).custom_flags(flags).open(path)?;
            let found = file.metadata()?;
            if !found.is_file() || found.nlink() > 1 {
                let why = "it is no plain file, or has another name too";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
            if !sys::lock(&file)? {
                let hint = "hint: stop it first, or give this one a pid-file of its own";
                let why = format!("it is held by another bridge\n{hint}");
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, why));
            }
            // Whoever had it locked until just now has removed it: the lock is on a file that nobody finds any more.
            if fs::symlink_metadata(path).is_ok_and(|there| there.ino() == found.ino()) {
                return Ok(PidFile { path: path.to_owned(), file });
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "it is replaced again and again"))
    }

    /// Writes the number of this process, for everyone to read.
    pub fn write(&mut self) -> io::Result<()> {
        self.file.set_permissions(PermissionsExt::from_mode(0o644))?;
        self.file.set_len(0)?;
        writeln!(self.file, "{}", std::process::id())
    }

    /// Leaves the file and its lock to a process that this one has forked.
    pub fn leave(self) {
        std::mem::forget(self);
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // After root has been given up its directory may be closed to us, but the file is still open.
        if fs::remove_file(&self.path).is_err() {
            let _ = self.file.set_len(0);
        }
    }
}

/// How often to look again whether a file that was locked has its name still.
const TRIES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("chb-pid-{}-{name}", std::process::id()));
        let _ = fs::remove_file(&path);
        path
    }

    #[test]
    fn holds_the_number_while_it_is_there() {
        let path = place("number");
        fs::write(&path, "an older and longer one").unwrap();
        let mut file = PidFile::claim(&path).unwrap();
        file.write().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o644);
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn refuses_to_write_through_a_symbolic_link() {
        let (path, aim) = (place("link"), place("aim"));
        std::os::unix::fs::symlink(&aim, &path).unwrap();
        assert!(PidFile::claim(&path).is_err());
        fs::remove_file(&path).unwrap();
        assert!(!aim.exists());
    }

    #[test]
    fn refuses_what_is_no_file_of_its_own_and_leaves_it_as_it_is() {
        let (path, other) = (place("hard"), place("other"));
        fs::write(&other, "secret").unwrap();
        fs::hard_link(&other, &path).unwrap();
        assert!(PidFile::claim(&path).is_err());
        assert_eq!(fs::read_to_string(&other).unwrap(), "secret");
        fs::remove_file(&path).unwrap();
        fs::remove_file(&other).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        // Also with somebody at its other end.
        let reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        assert!(PidFile::claim(&path).is_err());
        drop(reader);
        assert!(PidFile::claim(&path).is_err());
        fs::remove_file(&path).unwrap();
        assert!(PidFile::claim(Path::new("/dev/null")).is_err());
    }

    #[test]
    fn refuses_a_file_that_another_holds_and_leaves_it_as_it_is() {
        let path = place("held");
        let mut file = PidFile::claim(&path).unwrap();
        file.write().unwrap();
        let why = PidFile::claim(&path).unwrap_err().to_string();
        assert!(why.starts_with("it is held by another bridge\nhint: "), "{why}");
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(file);
        drop(PidFile::claim(&path).unwrap());
        assert!(!path.exists());
    }
}
