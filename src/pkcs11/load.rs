//! Loading a PKCS#11 library, and saying precisely why it cannot be.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use cryptoki::context::{Function, Pkcs11};

use super::error::Error;
use super::rv::function_name;

/// Why a module cannot be used. The text ends in a line that begins with `hint: `.
#[derive(Debug)]
pub enum LoadError {
    /// The system's loader refuses the file.
    CannotLoad {
        /// The module.
        path: PathBuf,
        /// What the loader says.
        reason: String,
    },
    /// The module was loaded, but one of its first calls failed.
    Failed {
        /// The module.
        path: PathBuf,
        /// The call and its return value.
        error: Error,
    },
    /// The module lacks functions without which nothing can be done.
    Incomplete {
        /// The module.
        path: PathBuf,
        /// Their names.
        missing: Vec<&'static str>,
    },
    /// There is no such file.
    Missing {
        /// The module.
        path: PathBuf,
    },
    /// The path names a directory, or something else that is no file.
    NotAFile {
        /// The module.
        path: PathBuf,
    },
    /// The file is no shared library, or one for other machines.
    NotALibrary {
        /// The module.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
    /// A shared library, but one without C_GetFunctionList.
    NotAModule {
        /// The module.
        path: PathBuf,
    },
    /// The file cannot be read.
    NotReadable {
        /// The module.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CannotLoad { path, reason } => write!(
                f,
                "cannot load PKCS#11 module {}: {reason}\nhint: a library that the module needs may be missing; ldd lists them",
                path.display()
            ),
            Self::Failed { path, error } => write!(
                f,
                "PKCS#11 module {}: {error}\nhint: the module's own configuration may be missing, wrong or not readable by this user; many are told where it is by an environment variable, such as SOFTHSM2_CONF",
                path.display()
            ),
            Self::Incomplete { path, missing } => write!(
                f,
                "PKCS#11 module {} lacks {}\nhint: a vendor may ship several modules; this one may be for other tasks, or for another version of PKCS#11",
                path.display(),
                missing.join(", ")
            ),
            Self::Missing { path } => write!(
                f,
                "cannot open PKCS#11 module {}: no such file\nhint: lib-path names the vendor's shared library, as a rule in /usr/lib or /opt",
                path.display()
            ),
            Self::NotAFile { path } => write!(
                f,
                "cannot load PKCS#11 module {}: not a file\nhint: lib-path names the vendor's shared library itself",
                path.display()
            ),
            Self::NotALibrary { path, what } => write!(
                f,
                "cannot load PKCS#11 module {}: {what}\nhint: lib-path names a shared library for this machine, as a rule *.so",
                path.display()
            ),
            Self::NotAModule { path } => write!(
                f,
                "{} is not a PKCS#11 module: it has no C_GetFunctionList\nhint: vendors ship other libraries beside it; their manual names the PKCS#11 one",
                path.display()
            ),
            Self::NotReadable { path, error } => write!(
                f,
                "cannot open PKCS#11 module {}: {error}\nhint: the file and the directories above it must be open to the user this program runs as",
                path.display()
            ),
        }
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed { error, .. } => Some(error),
            Self::NotReadable { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// Loads the library. Its functions are resolved; none but C_GetInterface or C_GetFunctionList is called.
pub(super) fn load(path: &Path) -> Result<Pkcs11, LoadError> {
    // A bare name is searched for by the system's loader, which alone can say what comes of it.
    if path.components().count() != 1 || path.is_absolute() {
        look_at(path)?;
    }
    warn_of_go_between(path);
    let owned = || path.to_path_buf();
    let pkcs11 = Pkcs11::new(path).map_err(|error| match error {
        cryptoki::error::Error::LibraryLoading(error) => {
            LoadError::CannotLoad { path: owned(), reason: error.to_string() }
        }
        cryptoki::error::Error::MissingSymbol(_) => LoadError::NotAModule { path: owned() },
        other => LoadError::Failed { path: owned(), error: other.into() },
    })?;
    let lacking = |wanted: &[Function]| -> Vec<&'static str> {
        let absent = wanted.iter().filter(|function| !pkcs11.is_fn_supported(**function));
        absent.map(|function| function_name(*function)).collect()
    };
    let missing = lacking(REQUIRED);
    if !missing.is_empty() {
        return Err(LoadError::Incomplete { path: owned(), missing });
    }
    let missing = lacking(OPTIONAL);
    if !missing.is_empty() {
        log::info!("PKCS#11 module {} lacks {}: what needs them is refused", path.display(), missing.join(", "));
    }
    Ok(pkcs11)
}

/// Modules that stand before others, and are there for other reasons than an operator's HSM.
fn warn_of_go_between(path: &Path) {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let module = path.display();
    if name.starts_with("pkcs11-spy") {
        log::warn!(
            "PKCS#11 module {module} writes PINs to its own log, in clear\nhint: it is for looking into faults, not for service"
        );
    } else if name.starts_with("p11-kit-proxy") {
        log::warn!(
            "PKCS#11 module {module} brings in every module that this system knows\nhint: lib-path can name the one that is meant"
        );
    }
}

/// What signing with a key takes.
const REQUIRED: &[Function] = &[
    Function::Initialize,
    Function::Finalize,
    Function::GetSlotList,
    Function::GetTokenInfo,
    Function::GetMechanismList,
    Function::GetMechanismInfo,
    Function::OpenSession,
    Function::CloseSession,
    Function::Login,
    Function::FindObjectsInit,
    Function::FindObjects,
    Function::FindObjectsFinal,
    Function::GetAttributeValue,
    Function::SignInit,
    Function::Sign,
];

/// What else is called. Where the module has a null pointer instead, the binding answers with an error and calls nothing.
const OPTIONAL: &[Function] = &[
    Function::GetInfo,
    Function::GetSessionInfo,
    Function::Logout,
    Function::CreateObject,
    Function::DestroyObject,
    Function::SetAttributeValue,
    Function::VerifyInit,
    Function::Verify,
    Function::GenerateKeyPair,
    Function::GenerateRandom,
];

/// Judges the file before the loader does, whose messages do not tell these cases apart.
fn look_at(path: &Path) -> Result<(), LoadError> {
    let owned = || path.to_path_buf();
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => LoadError::Missing { path: owned() },
        _ => LoadError::NotReadable { path: owned(), error },
    };
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(LoadError::NotAFile { path: owned() });
    }
    let mut file = File::open(path).map_err(unreadable)?;
    let theirs = header(&mut file).map_err(unreadable)?;
    let ours = std::env::current_exe().and_then(File::open).and_then(|mut file| header(&mut file));
    match ours.map(|ours| judge(&ours, &theirs)) {
        Ok(Some(what)) => Err(LoadError::NotALibrary { path: owned(), what }),
        // Unable to compare: the loader will.
        Ok(None) | Err(_) => Ok(()),
    }
}

/// Bytes of an ELF header up to and including `e_machine`.
const HEADER_LEN: usize = 20;
const ELF: &[u8] = b"\x7fELF";
const ET_DYN: u8 = 3;

/// The beginning of a file, zeros where it is shorter.
fn header(file: &mut File) -> io::Result<[u8; HEADER_LEN]> {
    let mut bytes = Vec::with_capacity(HEADER_LEN);
    file.take(HEADER_LEN as u64).read_to_end(&mut bytes)?;
    bytes.resize(HEADER_LEN, 0);
    bytes.try_into().map_err(|_| io::ErrorKind::UnexpectedEof.into())
}

/// What is wrong with a library of header `theirs`, where programs have the header `ours`.
fn judge(ours: &[u8; HEADER_LEN], theirs: &[u8; HEADER_LEN]) -> Option<&'static str> {
    // Magic, class and byte order, then the type in the file's byte order, then the machine.
    let [.., _, _, m0, m1] = *ours;
    let [_, _, _, _, class, order, .., t0, t1, n0, n1] = *theirs;
    let [_, _, _, _, our_class, our_order, ..] = *ours;
    if !ours.starts_with(ELF) {
        return None;
    }
    if !theirs.starts_with(ELF) {
        return Some("not a shared library");
    }
    if (class, order, n0, n1) != (our_class, our_order, m0, m1) {
        return Some("a library for another kind of processor");
    }
    if t0 != ET_DYN && t1 != ET_DYN {
        return Some("not a shared library");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(class: u8, kind: u8, machine: u8) -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        header[..4].copy_from_slice(ELF);
        header[4] = class;
        header[5] = 1;
        header[16] = kind;
        header[18] = machine;
        header
    }

    #[test]
    fn tells_what_a_file_is_from_its_header() {
        let ours = elf(2, 3, 62);
        assert_eq!(judge(&ours, &elf(2, 3, 62)), None);
        assert_eq!(judge(&ours, &elf(1, 3, 3)), Some("a library for another kind of processor"));
        assert_eq!(judge(&ours, &elf(2, 3, 183)), Some("a library for another kind of processor"));
        assert_eq!(judge(&ours, &elf(2, 1, 62)), Some("not a shared library"));
        assert_eq!(judge(&ours, b"#!/bin/sh\nexec true\n"), Some("not a shared library"));
        assert_eq!(judge(&ours, &[0; HEADER_LEN]), Some("not a shared library"));
        // Where programs are not ELF, nothing is known.
        assert_eq!(judge(&[1; HEADER_LEN], &[0; HEADER_LEN]), None);
    }

    #[test]
    fn every_message_ends_in_a_hint() {
        let path = || PathBuf::from("/opt/x.so");
        let error = Error::Closed;
        for error in [
            LoadError::CannotLoad { path: path(), reason: "why".into() },
            LoadError::Failed { path: path(), error },
            LoadError::Incomplete { path: path(), missing: vec!["C_Sign"] },
            LoadError::Missing { path: path() },
            LoadError::NotAFile { path: path() },
            LoadError::NotALibrary { path: path(), what: "text" },
            LoadError::NotAModule { path: path() },
            LoadError::NotReadable { path: path(), error: io::ErrorKind::PermissionDenied.into() },
        ] {
            let text = error.to_string();
            let (message, hint) = text.split_once('\n').unwrap();
            assert!(message.contains("/opt/x.so"), "{message}");
            assert!(hint.starts_with("hint: ") && !hint.contains('\n'), "{hint}");
        }
    }
}
