//! The tokens of the module, by the names clients give them.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use cryptoki::slot::Slot;
use ring::hmac;

use super::Settings;
use super::error::Error;
use super::gate::{Pin, Refusal};
use super::module::{Library, Module, ModuleInfo};
use super::prover::Prover;
use super::slot::{self, Ambiguous, TokenInfo};
use super::token::Token;
use super::watch::{self, Watch};

/// How long the end waits for calls that are still inside the module.
const FINALIZE_WAIT: Duration = Duration::from_secs(5);

/// The tokens of one module, shared by every connection.
pub struct Tokens {
    settings: Settings,
    /// The names under which clients were admitted.
    names: RwLock<HashMap<String, Arc<Token>>>,
    /// Held while the slots are searched, so that each token is made once.
    search: Mutex<Option<Seen>>,
    /// What a PIN for a token that is not there is compared with.
    decoy: hmac::Key,
    /// What proves PINs of tokens that are logged in.
    prover: Option<Prover>,
    /// Never held during a call to the module, so that the end does not wait for one that hangs.
    found: Mutex<Found>,
    /// Since when no call comes back, though some should have.
    stuck: Arc<Mutex<Option<Instant>>>,
    pub(super) library: Arc<Library>,
}

#[derive(Default)]
struct Found {
    by_slot: HashMap<u64, Arc<Token>>,
    /// Tokens that made way for another in their slot; kept, so that their sessions are closed before the end.
    gone: Vec<Arc<Token>>,
}

/// What was in the slots a moment ago. Names that mean nothing are looked for in it, so that they cost the module no more than
/// one look a second, however many come.
struct Seen {
    /// The second that is under way, and how often the module was asked in it.
    since: Instant,
    looks: u32,
    /// When the last look was over, and what it came to.
    ended: Instant,
    slots: Result<Vec<(Slot, Option<TokenInfo>)>, Error>,
}

/// The time for a few looks at the slots: who puts a token in does not notice, and who makes up names gets no work done.
const LOOK: Duration = Duration::from_secs(1);

/// Looks within that time; the next ones are at what the last one saw.
const LOOKS: u32 = 4;

/// Names remembered; `0x1` and `0x01` are two of them. Beyond it, all are looked up again.
const NAMES: usize = 256;

impl Tokens {
    /// Serves the tokens of `module`.
    pub fn new(module: Module, settings: &Settings) -> Self {
        if settings.serialize {
            module.library.serialize();
        }
        let stuck = Arc::new(Mutex::new(None));
        let (known, library) = (Arc::downgrade(&stuck), Arc::downgrade(&module.library));
        let mut watch = Watch::new(settings.call_timeout, settings.generate_timeout, settings.start_timeout());
        watch::every_tick(move || {
            let Some(known) = known.upgrade() else { return false };
            let stuck = watch.look();
            *known.lock().unwrap_or_else(PoisonError::into_inner) = stuck;
            let Some(library) = library.upgrade().filter(|library| !library.is_closed()) else { return false };
            if stuck.is_some_and(|since| since.elapsed() >= watch::ASK_AFTER) {
                library.ask();
            }
            true
        });
        Self {
            stuck,
            settings: settings.clone(),
            names: RwLock::default(),
            search: Mutex::default(),
            decoy: hmac::Key::new(hmac::HMAC_SHA256, &[]),
            prover: None,
            found: Mutex::default(),
            library: module.library,
        }
    }

    /// Has PINs that differ from the one in force proved by processes of `program`, which has to hand its command line to
    /// [`super::prove_pin`] if it begins with [`super::PROVE_PIN`]. Without it, a token's PIN cannot change while it is in use.
    #[must_use]
    pub fn proving_with(mut self, program: &Path) -> Self {
        self.prover = Some(Prover { program: program.to_owned(), lib_path: self.module().path.clone() });
        self
    }

    /// Forgets which PINs were wrong, and has one that differs from the one in force tried wherever it comes from: for an
    /// operator who has changed a token's PIN. Waits for no call to the module.
    pub fn reconsider_pins(&self) {
        let tokens: Vec<_> = self.found().by_slot.values().cloned().collect();
        for token in tokens {
            token.gate.forget_wrong();
            token.changes.begin_anew();
        }
    }

    /// What the module says of itself.
    pub fn module(&self) -> &ModuleInfo {
        self.library.info()
    }

    /// For how long calls have been overdue without a single other one coming back; `None` while the module answers, or nobody
    /// asks it.
    pub fn stuck_for(&self) -> Option<Duration> {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner).map(|since| since.elapsed())
    }

    /// The tokens that are there now. One whose description cannot be read is left out, with a warning.
    ///
    /// # Errors
    /// If the module does not list its slots.
    pub fn present(&self) -> Result<Vec<TokenInfo>, Error> {
        let slots = slot::scan(&self.library.enter()?)?;
        Ok(slots.into_iter().filter_map(|(_, info)| info).collect())
    }

    /// The token called `name`, a label, serial number or slot id, to a client who knows its PIN.
    ///
    /// The first right PIN is proved by C_Login. After that no PIN reaches the module: right and wrong ones are told apart here.
    ///
    /// # Errors
    /// [`Refusal`], whose text is for the log only.
    pub fn admit(&self, name: &str, pin: &Pin<'_>) -> Result<Arc<Token>, Refusal> {
        if self.library.is_closed() {
            return Err(Refusal::Unavailable(Error::Closed));
        }
        let _stay = watch::stay();
        let known = self.names.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if let Some(token) = known.filter(|token| !token.is_replaced()) {
            return match self.judge(&token, pin) {
                Ok(()) => Ok(token),
                // The work that a name which means nothing gives, and what comes of it while the HSM is away, so that neither time
                // nor answer tells the two apart.
                Err(refusal) => {
                    let came = Instant::now();
                    Err(self.look(&mut self.searching(), came).err().map_or(refusal, Refusal::Unavailable))
                }
            };
        }
        let token = match self.search(name) {
            Ok(token) => token,
            Err(refusal) => {
                // The work that a wrong PIN gives; that it is not the right one is sure.
                let _ = hmac::verify(&self.decoy, pin.bytes(), &[0; 32]);
                return Err(refusal);
            }
        };
        self.judge(&token, pin)?;
        // Only now: a name that a stranger made up is not worth remembering.
        self.remember(name, &token);
        Ok(token)
    }

    /// The token called `name`, as it is: for a client that has proved itself to the caller, who then sees to the login by
    /// [`Self::admit`] or [`Self::open`].
    ///
    /// # Errors
    /// [`Refusal`], whose text is for the log only.
    pub fn find(&self, name: &str) -> Result<Arc<Token>, Refusal> {
        if self.library.is_closed() {
            return Err(Refusal::Unavailable(Error::Closed));
        }
        let known = self.names.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if let Some(token) = known.filter(|token| !token.is_replaced()) {
            return Ok(token);
        }
        let _stay = watch::stay();
        let token = self.search(name)?;
        self.remember(name, &token);
        Ok(token)
    }

    /// Makes a token ready that knows no PIN of its clients, for one that has proved itself to the caller. Where somebody has to
    /// type the PIN at the token, this waits for him.
    ///
    /// # Errors
    /// [`Refusal`], whose text is for the log only; [`Refusal::NoJudge`] if it is a PIN that opens the token.
    pub fn open(&self, token: &Token) -> Result<(), Refusal> {
        token.open_up()
    }

    /// Closes all sessions, logs out and calls C_Finalize, after waiting up to 5 s for whoever is inside the module. If
    /// they do not come out, the module is left as it is, and the log says so.
    ///
    /// From the beginning of this on, [`Self::admit`] and every operation on a token answer [`Error::Closed`].
    pub fn finalize(&self) {
        if !self.library.close() {
            return;
        }
        let tokens: Vec<_> = {
            let found = self.found();
            found.by_slot.values().chain(&found.gone).cloned().collect()
        };
        tokens.iter().for_each(|token| token.close());
        if !self.library.is_left(FINALIZE_WAIT) {
            log::warn!(
                "PKCS#11 module {} has calls that do not return; it is not finalized",
                self.library.info().path.display()
            );
            tokens.iter().for_each(|token| token.abandon());
            return;
        }
        tokens.iter().for_each(|token| token.release());
        self.library.finalize();
    }

    fn remember(&self, name: &str, token: &Arc<Token>) {
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= NAMES {
            names.clear();
        }
        names.insert(name.to_string(), Arc::clone(token));
    }

    fn judge(&self, token: &Token, pin: &Pin<'_>) -> Result<(), Refusal> {
        match token.admit(pin) {
            Err(Refusal::WrongPin) if self.prover.as_ref().is_some_and(|it| token.has_changed_to(pin, it)) => Ok(()),
            verdict => verdict,
        }
    }

    fn searching(&self) -> MutexGuard<'_, Option<Seen>> {
        self.search.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is in the slots, as of a moment ago, to who `came` then and may have waited since: what somebody else saw meanwhile is as good,
    /// so that many who come at once do not wait for a look each. A look that fails counts like others.
    fn look<'s>(&self, seen: &'s mut Option<Seen>, came: Instant) -> Result<&'s [(Slot, Option<TokenInfo>)], Error> {
        let (since, looks) = match seen {
            Some(seen) if seen.since.elapsed() < LOOK => (seen.since, seen.looks),
            _ => (Instant::now(), 0),
        };
        if looks < LOOKS && seen.as_ref().is_none_or(|seen| seen.ended < came) {
            let slots = self.library.enter().and_then(|inside| slot::scan(&inside));
            // Whatever it says: it does answer.
            if slots.as_ref().err().is_none_or(Error::is_failed_call) {
                watch::answered();
            }
            *seen = Some(Seen { since, looks: looks.saturating_add(1), ended: Instant::now(), slots });
        }
        match seen.as_ref().map(|seen| &seen.slots) {
            Some(Ok(slots)) => Ok(slots),
            Some(Err(error)) => Err(error.clone()),
            None => Ok(&[]),
        }
    }

    /// Looks for the token among those present now, so that one that appeared later is found.
    fn search(&self, name: &str) -> Result<Arc<Token>, Refusal> {
        let came = Instant::now();
        let mut searching = self.searching();
        let is_old = searching.as_ref().is_some_and(|seen| seen.ended < came);
        if is_old && self.found().by_slot.values().any(|token| token.is_replaced()) {
            // What was seen a moment ago may be the token that is gone.
            *searching = None;
        }
        let slots = self.look(&mut searching, came).map_err(Refusal::Unavailable)?;
        let candidates: Vec<_> = slots.iter().map(|(slot, info)| (slot.id(), info.as_ref())).collect();
        let index = match slot::select(&candidates, name) {
            Ok(index) => index.ok_or(Refusal::UnknownToken)?,
            Err(Ambiguous) => return Err(Refusal::AmbiguousToken),
        };
        let (slot, info) = slots.get(index).cloned().ok_or(Refusal::UnknownToken)?;
        let mut found = self.found();
        if let Some(token) = found.by_slot.get(&slot.id()) {
            // One that does not describe itself just now is taken for the one that was there.
            if info.as_ref().is_none_or(|info| token.info().is_same(info)) && !token.is_replaced() {
                token.note_namesakes(slots);
                return Ok(Arc::clone(token));
            }
        }
        let info = info.unwrap_or_else(|| TokenInfo::unreadable(slot));
        let token = Token::new(Arc::clone(&self.library), slot, info, &self.settings);
        let token = token.map_err(Refusal::Unjudged)?;
        token.note_namesakes(slots);
        if let Some(gone) = found.by_slot.insert(slot.id(), Arc::clone(&token)) {
            // Another token in the same slot, whose PIN has to be proved anew.
            log::info!("slot {}: token {} made way for token {}", slot.id(), gone.info().name(), token.info().name());
            gone.close();
            self.names.write().unwrap_or_else(PoisonError::into_inner).retain(|_, known| !Arc::ptr_eq(known, &gone));
            found.gone.push(gone);
        }
        Ok(token)
    }

    /// Whole whenever the lock is free, even after a panic elsewhere.
    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
