//! The file with the number of the process.
#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The file, which goes when this is dropped.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    file: File,
}

impl PidFile {
    /// Writes the number of this process to `path`, for everyone to read.
    ///
    /// # Errors
    /// It cannot be written, or is a symbolic link: as root, it would write wherever someone else has it point.
    pub fn write(path: &Path) -> io::Result<PidFile> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
        file.set_permissions(PermissionsExt::from_mode(0o644))?;
        writeln!(file, "{}", std::process::id())?;
        Ok(PidFile { path: path.to_owned(), file })
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
        let file = PidFile::write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o644);
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn refuses_to_write_through_a_symbolic_link() {
        let (path, aim) = (place("link"), place("aim"));
        std::os::unix::fs::symlink(&aim, &path).unwrap();
        assert!(PidFile::write(&path).is_err());
        fs::remove_file(&path).unwrap();
        assert!(!aim.exists());
    }
}
