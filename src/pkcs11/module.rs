//! The loaded and initialised module, and the rule that nobody is inside it when it is finalized.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::RvError;
use cryptoki::session::Session;

use super::door::{Door, Shut};
use super::error::Error;
use super::fault::Fault;
use super::issued::Issued;
use super::load::{LoadError, load};
use super::slot::{self, TokenInfo};
use super::token::Token;
use super::watch;
use crate::sys::Functions;

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
        let module = Self { library: Arc::new(Library::new(path, load(path)?)) };
        let begun = module.library.begin();
        begun.map(|()| module).map_err(|error| LoadError::Failed { path: path.to_path_buf(), error })
    }

    /// As [`Self::load`], but for an HSM that is away: the module is initialised later, when somebody needs it and at most
    /// every 30 s. Why it could not be is returned too.
    ///
    /// # Errors
    /// [`LoadError`] for whatever no HSM that comes back will mend.
    pub fn load_early(path: &Path) -> Result<(Self, Option<Error>), LoadError> {
        let module = Self { library: Arc::new(Library::new(path, load(path)?)) };
        match module.library.begin() {
            Ok(()) => Ok((module, None)),
            Err(error) if matches!(error.fault(), Fault::Busy | Fault::Token | Fault::Module) => {
                module.library.door.stay_shut(error.clone());
                Ok((module, Some(error)))
            }
            Err(error) => Err(LoadError::Failed { path: path.to_path_buf(), error }),
        }
    }

    /// What the module says of itself.
    pub fn info(&self) -> &ModuleInfo {
        self.library.info()
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

/// Calls C_Initialize. Whether calls must come one at a time, or `None` if somebody did it before.
fn initialize(pkcs11: &Pkcs11) -> Result<Option<bool>, cryptoki::error::Error> {
    use cryptoki::error::Error::Pkcs11 as Refused;
    match pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) => Ok(Some(false)),
        Err(Refused(RvError::CryptokiAlreadyInitialized, _)) => Ok(None),
        Err(Refused(RvError::CantLock, _)) => {
            // Without locks of its own the module may be called by one thread at a time (PKCS#11 2.40, section 5.4).
            match pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::empty())) {
                Err(Refused(RvError::CryptokiAlreadyInitialized, _)) => return Ok(None),
                initialized => initialized?,
            }
            log::warn!("the PKCS#11 module cannot lock; its calls are made one at a time");
            Ok(Some(true))
        }
        Err(error) => Err(error),
    }
}

/// The module, shared by all who call it.
pub(super) struct Library {
    bare: ModuleInfo,
    described: OnceLock<ModuleInfo>,
    pub(super) door: Door,
    /// Whether calls have to come one at a time, since the module says so.
    cannot_lock: AtomicBool,
    /// The same, since the operator says so.
    wants_turns: AtomicBool,
    /// Held by the one inside, where calls come one at a time.
    serial: Mutex<()>,
    /// Slots already warned of.
    pub(super) unreadable: Mutex<BTreeSet<u64>>,
    /// Whose sessions end with the module.
    pub(super) tokens: Mutex<Vec<Weak<Token>>>,
    /// The handles of the sessions that are open.
    pub(super) issued: Arc<Issued<Session>>,
    /// Whether C_Finalize is still to be called.
    initialized: AtomicBool,
    functions: Option<Functions>,
    pkcs11: Pkcs11,
}

impl Library {
    fn new(path: &Path, pkcs11: Pkcs11) -> Self {
        Self {
            bare: ModuleInfo { path: path.to_path_buf(), ..ModuleInfo::default() },
            described: OnceLock::new(),
            door: Door::default(),
            cannot_lock: AtomicBool::new(false),
            wants_turns: AtomicBool::new(false),
            serial: Mutex::default(),
            unreadable: Mutex::default(),
            tokens: Mutex::default(),
            issued: Arc::default(),
            initialized: AtomicBool::new(false),
            functions: Functions::of(path),
            pkcs11,
        }
    }

    /// Calls come one at a time from now on. To be called before there are any.
    pub(super) fn serialize(&self) {
        self.wants_turns.store(true, Ordering::Release);
    }

    /// The binding, for whoever has a session, and so is inside already.
    pub(super) fn pkcs11_of(&self, _: &Session) -> &Pkcs11 {
        &self.pkcs11
    }

    /// What is called without the binding, where that can be.
    pub(super) fn functions(&self) -> Option<&Functions> {
        self.functions.as_ref()
    }

    /// What the module says of itself, as far as it could be asked.
    pub(super) fn info(&self) -> &ModuleInfo {
        self.described.get().unwrap_or(&self.bare)
    }

    /// Calls C_Initialize, and asks what the module is if that is not known yet.
    fn begin(&self) -> Result<(), Error> {
        match initialize(&self.pkcs11)? {
            Some(serial) => {
                self.initialized.store(true, Ordering::Release);
                self.cannot_lock.store(serial, Ordering::Release);
            }
            None if self.initialized.load(Ordering::Acquire) => {
                log::warn!("the PKCS#11 module did not let itself be finalized, and goes on as it was");
            }
            None => log::warn!("the PKCS#11 module is initialised already; it will not be finalized"),
        }
        if self.described.get().is_some() {
            return Ok(());
        }
        match self.pkcs11.get_library_info().map_err(Error::from) {
            Ok(info) => {
                let _ = self.described.set(ModuleInfo {
                    path: self.bare.path.clone(),
                    manufacturer: slot::trimmed(info.manufacturer_id()),
                    description: slot::trimmed(info.library_description()),
                    library_version: info.library_version().to_string(),
                    cryptoki_version: info.cryptoki_version().to_string(),
                });
            }
            Err(error @ Error::Call { .. }) => {
                self.end();
                return Err(error);
            }
            // Flags that the standard does not know are no reason to do without the module.
            Err(error) => log::warn!("PKCS#11 module {}: C_GetInfo: {error}", self.bare.path.display()),
        }
        Ok(())
    }

    /// Comes in, to make calls until the guard is dropped. Whoever is inside must not come in again.
    ///
    /// # Errors
    /// [`Error::Closed`] once [`Self::close`] was called; [`Error::Away`] while the module cannot be initialised.
    pub(super) fn enter(&self) -> Result<Inside<'_>, Error> {
        loop {
            if self.door.step_in() {
                // Made first, so that it is left again whatever follows.
                let mut inside = Inside { library: self, _turn: None };
                if self.is_serial() {
                    inside._turn = Some(self.serial.lock().unwrap_or_else(PoisonError::into_inner));
                }
                // Closed meanwhile, while waiting for the turn.
                if !self.is_closed() {
                    return Ok(inside);
                }
            }
            if self.is_closed() {
                return Err(Error::Closed);
            }
            if self.door.wait_until_open()? {
                self.renew()?;
            }
        }
    }

    /// Whether calls come one at a time.
    pub(super) fn is_serial(&self) -> bool {
        self.cannot_lock.load(Ordering::Acquire) || self.wants_turns.load(Ordering::Acquire)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.door.is_closed()
    }

    /// Lets nobody else in. False if that was so already.
    pub(super) fn close(&self) -> bool {
        self.door.close()
    }

    /// Whether all who are inside, or initialise it, have done within `wait`. To be called after [`Self::close`].
    pub(super) fn is_left(&self, wait: Duration) -> bool {
        self.door.is_deserted(wait)
    }

    /// Initialises the module anew, with nobody inside, unless that was done less than 30 s ago. Every session is gone after
    /// it. Returns whether it was done, by this call or by another at the same time. Not to be called from inside.
    ///
    /// # Errors
    /// [`Error::Away`] if the module does not let itself be initialised; the next who needs it tries again after 30 s.
    pub(super) fn renew(&self) -> Result<bool, Error> {
        let was_ours = self.initialized.load(Ordering::Acquire);
        // Another part of the process initialised it, and may be inside.
        if !was_ours && !self.door.is_away() {
            return Ok(false);
        }
        match self.door.shut()? {
            Shut::ByOther => return Ok(true),
            Shut::TooSoon => return Ok(false),
            Shut::Crowded => {
                log::warn!(
                    "PKCS#11 module {}: not initialised anew, it has calls that do not return",
                    self.bare.path.display()
                );
                return Ok(false);
            }
            Shut::Empty if self.is_closed() => {
                self.door.open();
                return Err(Error::Closed);
            }
            Shut::Empty => {}
        }
        let tokens: Vec<_> = {
            let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            tokens.retain(|token| token.strong_count() > 0);
            tokens.iter().filter_map(Weak::upgrade).collect()
        };
        tokens.iter().for_each(|token| token.abandon());
        let excuse = watch::initializes();
        if was_ours {
            self.end();
        }
        let begun = self.begin();
        drop(excuse);
        match begun {
            Ok(()) => {
                self.door.open();
                log::info!("PKCS#11 module {} is initialised anew", self.bare.path.display());
                Ok(true)
            }
            Err(error) => {
                log::warn!("PKCS#11 module {}: {error}: it is tried again every 30 s", self.bare.path.display());
                self.door.stay_shut(error.clone());
                Err(Error::Away(Box::new(error)))
            }
        }
    }

    /// Asks every token something, without waiting for the answers. One that hangs does not keep the others from being asked.
    pub(super) fn ask(&self) {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).clone();
        tokens.iter().filter_map(Weak::upgrade).for_each(|token| token.ask());
    }

    /// Calls C_Finalize. If that fails, it is still to be called.
    fn end(&self) {
        let ended = self.pkcs11.clone().finalize().map_err(Error::from);
        match ended {
            Err(error) if error.rv() != Some(RvError::CryptokiNotInitialized) => {
                log::debug!("PKCS#11 module {}: {error}", self.bare.path.display());
            }
            _ => self.initialized.store(false, Ordering::Release),
        }
    }

    /// Calls C_Finalize, once. Nobody may be inside, and no session open.
    pub(super) fn finalize(&self) {
        if self.initialized.swap(false, Ordering::AcqRel) {
            match self.pkcs11.clone().finalize().map_err(Error::from) {
                Ok(()) => log::info!("PKCS#11 module {} is finalized", self.bare.path.display()),
                Err(error) => log::warn!("PKCS#11 module {}: {error}", self.bare.path.display()),
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

    pub(super) fn functions(&self) -> Option<&Functions> {
        self.library.functions()
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.library.door.step_out();
    }
}
