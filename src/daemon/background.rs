//! Going on in the background, and what passes between the process that was started and the one that stays.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Write};

use crate::sys::{self, Side, Stream};

/// Which process one is after [`enter`].
pub enum Place {
    /// The one that was started; it waits for the other and ends as it says.
    Foreground(Waiting),
    /// The one that stays; it has to say how its start went.
    Background(Starter),
}

/// Goes on in the background, in the root directory: a daemon keeps no file system in use.
///
/// To be called while there is only one thread.
pub fn enter() -> io::Result<Place> {
    Ok(match sys::fork_to_background()? {
        Side::Parent(pipe) => Place::Foreground(Waiting(pipe)),
        Side::Child(pipe) => {
            std::env::set_current_dir("/")?;
            Place::Background(Starter(pipe))
        }
    })
}

/// Takes the standard streams from the terminal; standard error stays as it is if `keep_stderr`. What a module prints does not go
/// there in any case.
pub fn leave_terminal(keep_stderr: bool) -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    sys::redirect(Stream::Input, &null)?;
    sys::redirect(Stream::Output, &null)?;
    if !keep_stderr {
        sys::redirect(Stream::Error, &null)?;
    }
    Ok(())
}

/// The other end of a [`Starter`].
pub struct Waiting(File);

impl Waiting {
    /// Waits until the background process serves.
    ///
    /// # Errors
    /// What it has to say instead; nothing if it has said so itself on the standard error that both have.
    pub fn wait(mut self) -> Result<(), String> {
        let mut said = Vec::new();
        match self.0.read_to_end(&mut said).map(|_| said.split_first()) {
            Ok(Some((&SERVES, _))) => Ok(()),
            Ok(Some((_, why))) => Err(String::from_utf8_lossy(why).into_owned()),
            Ok(None) => Err("the background process ended before it served\nhint: its log says more".to_owned()),
            Err(why) => Err(format!("cannot tell how the background process is: {why}")),
        }
    }
}

/// The background process's word to the process that was started.
pub struct Starter(File);

impl Starter {
    /// The same, for another thread. The process that was started goes on waiting until it is dropped too.
    pub fn another(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// It serves from now on. The other process may be gone, which is nobody's loss.
    pub fn serves(mut self) {
        let _ = self.0.write_all(&[SERVES]);
    }

    /// It will not serve.
    pub fn fails(mut self, why: &str) {
        let _ = self.0.write_all(&[&[FAILS], why.as_bytes()].concat());
    }
}

const SERVES: u8 = b'+';
const FAILS: u8 = b'-';

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, contents: &[u8]) -> File {
        let path = std::env::temp_dir().join(format!("chb-background-{}-{name}", std::process::id()));
        std::fs::write(&path, contents).unwrap();
        let file = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file
    }

    #[test]
    fn hears_whether_the_other_process_serves() {
        assert_eq!(Waiting(file("serves", b"+")).wait(), Ok(()));
        assert_eq!(Waiting(file("fails", b"-no\nhint: try")).wait(), Err("no\nhint: try".to_owned()));
        assert_eq!(Waiting(file("told", b"-")).wait(), Err(String::new()));
        assert!(Waiting(file("gone", b"")).wait().unwrap_err().starts_with("the background process ended"));
    }
}
