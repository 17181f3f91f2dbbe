//! What is wrong with a configuration, in the words of the operator.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// One thing that is wrong, or odd, in the configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, as `table.key`, or the place where there is no key.
    pub subject: String,
    /// What is wrong with it.
    pub what: String,
    /// The line of the file, from 1, where there is one.
    pub line: Option<usize>,
}

impl Problem {
    /// The problem after the name of the file that it is in; what an option says is in none.
    pub fn in_file(&self, path: &Path) -> String {
        if self.subject.starts_with("--") { self.to_string() } else { format!("{}: {self}", path.display()) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.what)?;
        match self.line {
            Some(line) => write!(f, " (line {line})"),
            None => Ok(()),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum Error {
    /// The file says things that it may not say.
    Faulty {
        /// The file.
        path: PathBuf,
        /// All that is wrong with it, at least one thing.
        problems: Vec<Problem>,
    },
    /// The file cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Faulty { path, problems } => {
                for (i, problem) in problems.iter().enumerate() {
                    let newline = if i == 0 { "" } else { "\n" };
                    write!(f, "{newline}{}", problem.in_file(path))?;
                }
                Ok(())
            }
            Error::Unreadable { path, why } => {
                write!(f, "cannot read the configuration file {}: {why}", path.display())?;
                match why.kind() {
                    io::ErrorKind::NotFound => write!(f, "\nhint: --config names another file"),
                    _ => Ok(()),
                }
            }
        }
    }
}

impl std::error::Error for Error {}
