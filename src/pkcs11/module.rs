//! The loaded and initialised module, and the rule that nobody is inside it when it is finalized.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::RvError;

use super::error::Error;
use super::load::{LoadError, load};
use super::slot::{self, TokenInfo};

/// A PKCS#11 module, loaded and initialised. C_Finalize is called when nothing uses it any more.
pub struct Module {
    pub(super) library: Arc<Library>,
}

/// What a module says of itself (CK_INFO).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModuleInfo {
    /// Where it was loaded from.
    pub path: PathBuf,
    /// Its manufacturer.
    pub manufacturer: String,
    /// What it is.
    pub description: String,
    /// Its own version, as `major.minor`.
    pub library_version: String,
    /// The version of PKCS#11 it speaks, as `major.minor`.
    pub cryptoki_version: String,
}

impl Module {
    /// Loads the library at `path` and initialises it. A bare file name is searched for by the system's loader.
    ///
    /// # Errors
    /// [`LoadError`], each with a hint of what to do.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let pkcs11 = load(path)?;
        let failed = |error| LoadError::Failed { path: path.to_path_buf(), error: Error::from(error) };
        let (ours, serial) = initialize(&pkcs11).map_err(failed)?;
        let mut library = Library {
            info: ModuleInfo { path: path.to_path_buf(), ..ModuleInfo::default() },
            inside: AtomicUsize::new(0),
            serial: serial.then(Mutex::default),
            unreadable: Mutex::default(),
            initialized: AtomicBool::new(ours),
            pkcs11,
        };
        match library.pkcs11.get_library_info().map_err(Error::from) {
            Ok(info) => {
                library.info.manufacturer = slot::trimmed(info.manufacturer_id());
                library.info.description = slot::trimmed(info.library_description());
                library.info.library_version = info.library_version().to_string();
                library.info.cryptoki_version = info.cryptoki_version().to_string();
            }
            Err(error @ Error::Call { .. }) => return Err(LoadError::Failed { path: path.to_path_buf(), error }),
            // Flags that the standard does not know are no reason to do without the module.
            Err(error) => log::warn!("PKCS#11 module {}: C_GetInfo: {error}", path.display()),
        }
        Ok(Self { library: Arc::new(library) })
    }

    /// What the module says of itself.
    pub fn info(&self) -> &ModuleInfo {
        &self.library.info
    }

    /// The tokens that are there now. One whose description cannot be read is left out, with a warning.
    ///
    /// # Errors
    /// If the module does not list its slots.
    pub fn tokens(&self) -> Result<Vec<TokenInfo>, Error> {
        let slots = slot::scan(&self.library.enter()?)?;
        Ok(slots.into_iter().filter_map(|(_, info)| info).collect())
    }
}

/// Calls C_Initialize. Whether it was this call that did it, and whether calls must come one at a time.
fn initialize(pkcs11: &Pkcs11) -> Result<(bool, bool), cryptoki::error::Error> {
    use cryptoki::error::Error::Pkcs11 as Refused;
    match pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) => Ok((true, false)),
        Err(Refused(RvError::CryptokiAlreadyInitialized, _)) => {
            log::warn!("the PKCS#11 module is initialised already; it will not be finalized");
            Ok((false, false))
        }
        Err(Refused(RvError::CantLock, _)) => {
            // Without locks of its own the module may be called by one thread at a time (PKCS#11 2.40, section 5.4).
            pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::empty()))?;
            log::warn!("the PKCS#11 module cannot lock; its calls are made one at a time");
            Ok((true, true))
        }
        Err(error) => Err(error),
    }
}

/// The module, shared by all who call it.
pub(super) struct Library {
    pub(super) info: ModuleInfo,
    /// How many are inside, and [`CLOSED`] once nobody else may come in.
    inside: AtomicUsize,
    /// Held by the one inside, where the module cannot lock.
    serial: Option<Mutex<()>>,
    /// Slots already warned of.
    pub(super) unreadable: Mutex<BTreeSet<u64>>,
    /// Whether C_Finalize is still to be called.
    initialized: AtomicBool,
    pkcs11: Pkcs11,
}

const CLOSED: usize = 1 << (usize::BITS - 1);

/// How often [`Library::is_left`] looks.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

impl Library {
    /// Comes in, to make calls until the guard is dropped.
    ///
    /// # Errors
    /// [`Error::Closed`] once [`Self::close`] was called.
    pub(super) fn enter(&self) -> Result<Inside<'_>, Error> {
        let before = self.inside.fetch_add(1, Ordering::AcqRel);
        let mut inside = Inside { library: self, _turn: None };
        if before & CLOSED == 0 {
            inside._turn = self.serial.as_ref().map(|serial| serial.lock().unwrap_or_else(PoisonError::into_inner));
            // Closed meanwhile, while waiting for the turn.
            if !self.is_closed() {
                return Ok(inside);
            }
        }
        Err(Error::Closed)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.inside.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Lets nobody else in. False if that was so already.
    pub(super) fn close(&self) -> bool {
        self.inside.fetch_or(CLOSED, Ordering::AcqRel) & CLOSED == 0
    }

    /// Whether all who are inside come out within `wait`. To be called after [`Self::close`].
    pub(super) fn is_left(&self, wait: Duration) -> bool {
        let started = Instant::now();
        while self.inside.load(Ordering::Acquire) != CLOSED {
            if started.elapsed() >= wait {
                return false;
            }
            thread::sleep(LOOK_AGAIN);
        }
        true
    }

    /// Calls C_Finalize, once. Nobody may be inside, and no session open.
    pub(super) fn finalize(&self) {
        if self.initialized.swap(false, Ordering::AcqRel) {
            match self.pkcs11.clone().finalize().map_err(Error::from) {
                Ok(()) => log::info!("PKCS#11 module {} is finalized", self.info.path.display()),
                Err(error) => log::warn!("PKCS#11 module {}: {error}", self.info.path.display()),
            }
        }
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // Whoever was inside held a reference to this, so nobody is.
        self.finalize();
    }
}

/// The right to call the module.
pub(super) struct Inside<'l> {
    pub(super) library: &'l Library,
    _turn: Option<MutexGuard<'l, ()>>,
}

impl Inside<'_> {
    pub(super) fn pkcs11(&self) -> &Pkcs11 {
        &self.library.pkcs11
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.library.inside.fetch_sub(1, Ordering::AcqRel);
    }
}
