//! Making key pairs: down the ladder of templates, then read back, or removed again.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;

use super::destroy::unsettled;
use super::error::Error;
use super::fault::Fault;
use super::key::{Class, Hex, Key, KeyPair, KeyPairSpec};
use super::ladder::{Lesson, descend};
use super::object;
use super::template::{Family, is_as_asked, plan, templates};
use super::token::{Seat, Token};
use super::watch;

/// Ids of fewer bytes are looked for before they are used: chance may well have given them away already.
const SURELY_NEW: usize = 8;

/// What was there of a pair that failed.
enum Cleared {
    Nothing,
    Pair,
}

/// What a token has taught about its templates.
#[derive(Default)]
pub(super) struct Learnt(HashMap<Family, Lesson>);

impl Token {
    /// Makes a key pair and reads back what the token stored: the ids may differ from the one asked for, and the labels
    /// too, which the log then says. Nothing stays on the token if it fails, or the log says what.
    ///
    /// # Errors
    /// [`Error::IdTaken`] for a short id that is in use; [`Error::NotTaken`] if what was made is not what was asked for, or a
    /// private key that is neither sensitive nor bound to the token; [`Error::Unsettled`] if the HSM failed meanwhile; what the
    /// module says to the fullest template.
    pub fn generate_key_pair(&self, spec: &KeyPairSpec<'_>) -> Result<KeyPair, Error> {
        let _stay = watch::stay();
        let mut learnt = self.change()?;
        let mut again = true;
        loop {
            let begun = Cell::new(false);
            let why = match self.run_until(&begun, |seat| self.generate_on(seat, spec, &mut learnt, &begun)) {
                Err(error) if begun.get() => error,
                result => return result,
            };
            let fault = why.fault();
            if matches!(fault, Fault::Request | Fault::Busy) || spec.id.len() < SURELY_NEW {
                return Err(why);
            }
            match self.clear(spec) {
                // The call never began; and now that it is known that nothing is there, this is no second pair.
                Ok(Cleared::Nothing) if again && matches!(fault, Fault::Session | Fault::Login) => again = false,
                Ok(Cleared::Nothing) => return Err(unsettled("the key pair was not made", why)),
                Ok(Cleared::Pair) => return Err(unsettled("the key pair was removed again", why)),
                Err(error) => {
                    let name = self.info().name();
                    log::error!("token {name}: a key pair with the CKA_ID {} may be left: {error}", Hex(&spec.id));
                    return Err(unsettled("whether the key pair was made is not known: the HSM did not answer", why));
                }
            }
        }
    }

    fn generate_on(
        &self,
        seat: &mut Seat,
        spec: &KeyPairSpec<'_>,
        learnt: &mut Learnt,
        begun: &Cell<bool>,
    ) -> Result<KeyPair, Error> {
        if spec.id.len() < SURELY_NEW && !is_free(&seat.session, &spec.id)? {
            return Err(Error::IdTaken);
        }
        begun.set(true);
        let _alone = self.alone();
        let (public, private) = self.make(&seat.session, spec, learnt)?;
        self.read_back(seat, spec, public, private).inspect_err(|error| {
            if !error.is_loss() {
                for (class, handle) in [(Class::PrivateKey, private), (Class::PublicKey, public)] {
                    self.unmake(&seat.session, class, handle, &spec.id);
                }
            }
        })
    }

    /// Looks whether a pair that failed is there, and removes it. Its id is random: nobody else's has it.
    fn clear(&self, spec: &KeyPairSpec<'_>) -> Result<Cleared, Error> {
        let mut cleared = Cleared::Nothing;
        for class in [Class::PrivateKey, Class::PublicKey] {
            self.run(|seat| match object::find(&seat.session, class, &spec.id) {
                Ok(handle) => {
                    cleared = Cleared::Pair;
                    let _alone = self.alone();
                    match seat.session.destroy_object(handle).map_err(Error::from) {
                        // Gone with the other half.
                        Err(error) if error.is_stale_handle() => Ok(()),
                        other => other,
                    }
                }
                // Without a login private keys are not seen.
                Err(Error::NotFound { .. }) => self.check_login(&seat.session),
                Err(error) => Err(error),
            })?;
        }
        self.forget(&spec.id);
        Ok(cleared)
    }

    fn make(
        &self,
        session: &Session,
        spec: &KeyPairSpec<'_>,
        learnt: &mut Learnt,
    ) -> Result<(ObjectHandle, ObjectHandle), Error> {
        let plan = plan(spec.kind)?;
        let name = self.info().name();
        let before = learnt.0.get(&plan.family).copied().unwrap_or_default();
        let generate = |rung, form| {
            let (public, private) = templates(spec, rung, plan.params(form));
            let made = session.generate_key_pair(&plan.mechanism, &public, &private).map_err(Error::from);
            if let Err(error) = &made {
                log::debug!("token {name}: template {rung:?}: {error}");
            }
            made
        };
        let (pair, lesson) = descend(before, plan.forms(), generate, || self.left_nothing(session, spec))?;
        if lesson.rung != before.rung {
            log::info!("token {name}: key pairs are made with the template {:?}", lesson.rung);
        }
        learnt.0.insert(plan.family, lesson);
        Ok(pair)
    }

    /// Whether a refusal that may have been trouble left the token as it was. If not, a second try would make the id
    /// ambiguous; and what is there is not destroyed either, since nothing proves whose it is.
    fn left_nothing(&self, session: &Session, spec: &KeyPairSpec<'_>) -> bool {
        let free = is_free(session, &spec.id);
        if free == Ok(false) {
            let name = self.info().name();
            log::error!(
                "token {name}: C_GenerateKeyPair failed, but an object with the CKA_ID {} is there",
                Hex(&spec.id)
            );
        }
        free == Ok(true)
    }

    /// The facts of what was made, judged.
    fn read_back(
        &self,
        seat: &mut Seat,
        spec: &KeyPairSpec<'_>,
        public: ObjectHandle,
        private: ObjectHandle,
    ) -> Result<KeyPair, Error> {
        let generation = self.keys.generation();
        let pair = KeyPair {
            public: Arc::new(self.half(seat, spec, Class::PublicKey, public, spec.public_label)?),
            private: Arc::new(self.half(seat, spec, Class::PrivateKey, private, spec.private_label)?),
        };
        if !is_as_asked(spec.kind, pair.public.kind) {
            return Err(Error::NotTaken { attribute: "the algorithm" });
        }
        match (pair.private.sensitive, pair.private.extractable) {
            (Some(false), Some(true)) => return Err(Error::NotTaken { attribute: "CKA_SENSITIVE" }),
            (_, Some(true)) => {
                log::warn!("token {}: private key {} is extractable", self.info().name(), Hex(&pair.private.id));
            }
            _ => {}
        }
        for key in [&pair.public, &pair.private] {
            self.keys.remember(generation, key);
        }
        seat.handles.remember(Class::PublicKey, &pair.public.id, public);
        seat.handles.remember(Class::PrivateKey, &pair.private.id, private);
        Ok(pair)
    }

    fn half(
        &self,
        seat: &Seat,
        spec: &KeyPairSpec<'_>,
        class: Class,
        handle: ObjectHandle,
        label: Option<&str>,
    ) -> Result<Key, Error> {
        // Nothing is assumed of the id: the token may have chosen another.
        let key = object::facts(&seat.session, handle, class, &[])?;
        if key.id.is_empty() {
            return Err(Error::NotTaken { attribute: "CKA_ID" });
        }
        let name = self.info().name();
        if key.id != spec.id {
            log::warn!("token {name}: the {class} has the CKA_ID {} instead of {}", Hex(&key.id), Hex(&spec.id));
        }
        let stored = object::label(&seat.session, handle)?;
        if label.is_some_and(|label| stored.as_deref().unwrap_or_default() != label) {
            log::warn!(
                "token {name}: the {class} {} has the label {:?} instead of {:?}",
                Hex(&key.id),
                stored.unwrap_or_default(),
                label.unwrap_or_default()
            );
        }
        Ok(key)
    }

    /// Removes one half of a pair that could not be completed.
    fn unmake(&self, session: &Session, class: Class, handle: ObjectHandle, id: &[u8]) {
        match session.destroy_object(handle).map_err(Error::from) {
            Ok(()) => {}
            // Gone with the other half.
            Err(error) if error.is_stale_handle() => {}
            Err(error) => {
                log::error!(
                    "token {}: an unfinished {class}, CKA_ID {}, stays on the token: {error}",
                    self.info().name(),
                    Hex(id)
                );
            }
        }
    }
}

/// Whether neither half of a pair has this id.
fn is_free(session: &Session, id: &[u8]) -> Result<bool, Error> {
    for class in [Class::PublicKey, Class::PrivateKey] {
        match object::find(session, class, id) {
            Err(Error::NotFound { .. }) => {}
            Ok(_) | Err(Error::Ambiguous { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
