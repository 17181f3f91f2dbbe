//! What the module prints, kept apart from the bridge's own messages: its standard output and standard error are a pipe, the lines
//! of which are logged under a target of their own.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use log::warn;

use crate::logging;
use crate::sys::{self, Stream};

/// Bytes of the longest line; a longer one is logged in several.
const LONGEST: u64 = 8192;

/// How long the end waits for lines under way: programs that the module has started may keep the pipe open.
const ENDING: Duration = Duration::from_secs(1);

/// While it is there, what is printed is logged.
pub struct ModuleOutput {
    own: &'static File,
    ended: Receiver<()>,
}

impl ModuleOutput {
    /// Puts a pipe in the place of standard output and standard error. The bridge's own messages go on going where they went.
    ///
    /// # Errors
    /// There are no descriptors left, or no thread to read the pipe.
    pub fn begin() -> io::Result<Self> {
        let own = logging::stderr::keep()?;
        let [read, write] = sys::pipe()?;
        let (tell, ended) = channel::<()>();
        let pipe = read.try_clone()?;
        thread::Builder::new().name("module-output".to_owned()).spawn(move || {
            copy(read);
            drop(tell);
        })?;
        for stream in [Stream::Output, Stream::Error] {
            sys::redirect(stream, &write)?;
        }
        // The last words of a library that ends the process are the ones that tell why.
        sys::hear_out_before_abort(pipe);
        Ok(Self { own, ended })
    }
}

impl Drop for ModuleOutput {
    fn drop(&mut self) {
        for stream in [Stream::Output, Stream::Error] {
            // The pipe stays in its place then, and is read on.
            let _ = sys::redirect(stream, self.own);
        }
        let _ = self.ended.recv_timeout(ENDING);
    }
}

/// Logs the lines of `output` until nobody can write to it any more.
fn copy(output: File) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        match output.by_ref().take(LONGEST).read_until(b'\n', &mut line) {
            Ok(0) => return,
            Err(why) if why.kind() != io::ErrorKind::Interrupted => return,
            _ => {}
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if !text.is_empty() {
            warn!(target: logging::MODULE_STDERR, "{}: {text}", logging::MODULE_STDERR);
        }
    }
}
