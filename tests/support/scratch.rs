//! Directories that live as long as the test that made them.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, io, process};

/// A directory of its own (mode 0700) under the system's one for temporary files; removed on drop by who made it.
pub struct Scratch {
    path: PathBuf,
    is_own: bool,
}

impl Scratch {
    pub fn new(purpose: &str) -> Scratch {
        Scratch::within(&env::temp_dir(), purpose).expect("a new directory for the test")
    }

    /// The same, in memory where there is a place for that: what waits for a disk at each change, as a database does, waits long on some.
    #[allow(dead_code)] // not every program of tests has a token of its own
    pub fn in_memory(purpose: &str) -> Scratch {
        Scratch::within(Path::new("/dev/shm"), purpose).unwrap_or_else(|_| Scratch::new(purpose))
    }

    fn within(parent: &Path, purpose: &str) -> io::Result<Scratch> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("cascade-hsm-bridge-{purpose}-{}-{number}", process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                // Of a test that was killed, whose process had the same number.
                Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made.map(|()| Scratch { path, is_own: true }),
            }
        }
    }

    /// The directory of another process, which removes it.
    #[allow(dead_code)] // not every program of tests is started by another
    pub fn of_another(path: PathBuf) -> Scratch {
        Scratch { path, is_own: false }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file into the directory and tells where it is.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path.join(name);
        fs::write(&path, content).expect("a file for the test");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.is_own {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
