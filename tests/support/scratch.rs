//! Directories that live as long as the test that made them.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process};

/// A directory of its own (mode 0700) under the system's one for temporary files; removed on drop by who made it.
pub struct Scratch {
    path: PathBuf,
    is_own: bool,
}

impl Scratch {
    pub fn new(purpose: &str) -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("cascade-hsm-bridge-{purpose}-{}-{number}", process::id()));
        DirBuilder::new().mode(0o700).create(&path).expect("a new directory for the test");
        Scratch { path, is_own: true }
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
