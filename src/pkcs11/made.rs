//! What C_GenerateKeyPair made: read back and judged, or removed again.
#![forbid(unsafe_code)]

use std::sync::Arc;

use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::Session;

use super::error::Error;
use super::generate::{Made, random_id};
use super::key::{Class, Hex, Key, KeyPair, KeyPairSpec, Usage};
use super::learnt::Labels;
use super::object;
use super::template::is_as_asked;
use super::token::{Seat, Token};

impl Token {
    /// Reads back what was made, or removes it again.
    pub(super) fn settle(
        &self,
        seat: &mut Seat,
        spec: &KeyPairSpec<'_>,
        made: &Made,
        id: Option<&[u8]>,
    ) -> Result<KeyPair, Error> {
        let settled = self.read_back(seat, spec, made, id);
        if !settled.as_ref().is_err_and(Error::is_loss) {
            // Another's key would be taken for the new one, or removed for it.
            self.is_undisturbed(seat, made)?;
        }
        settled.inspect_err(|error| {
            if !error.is_loss() {
                for (class, handle) in [(Class::PrivateKey, made.private), (Class::PublicKey, made.public)] {
                    self.unmake(&seat.session, class, handle, id);
                }
            }
        })
    }

    /// # Errors
    /// [`Error::Disturbed`] if what was made may have other handles by now.
    fn is_undisturbed(&self, seat: &Seat, made: &Made) -> Result<(), Error> {
        if self.may_be_stale(seat, made.dealt) { Err(Error::Disturbed) } else { Ok(()) }
    }

    /// The facts of what was made, judged.
    fn read_back(
        &self,
        seat: &mut Seat,
        spec: &KeyPairSpec<'_>,
        made: &Made,
        id: Option<&[u8]>,
    ) -> Result<KeyPair, Error> {
        let generations = (self.keys.generation(), self.sightings.generation());
        let given = self.name_it(seat, made, id)?;
        let wanted = id.or(given.as_deref());
        let private = self.half(seat, spec, Class::PrivateKey, made.private, wanted)?;
        let (public, is_stored) = match self.half(seat, spec, Class::PublicKey, made.public, wanted) {
            Ok(public) => (public, true),
            // There never was such an object: the private one is all there is.
            Err(error) if error.is_stale_handle() && private.public.is_some() => {
                self.learn(|learnt| learnt.public_objects = Some(false));
                (public_of(&private, spec), false)
            }
            Err(error) => return Err(error),
        };
        if !is_as_asked(spec.kind, public.kind) {
            return Err(Error::NotTaken { attribute: "the algorithm" });
        }
        match (private.sensitive, private.extractable) {
            (Some(false), Some(true)) => return Err(Error::NotTaken { attribute: "CKA_SENSITIVE" }),
            (_, Some(true)) => {
                log::warn!("token {}: private key {} is extractable", self.info().name(), Hex(&private.id));
            }
            _ => {}
        }
        let pair = KeyPair { public: Arc::new(public), private: Arc::new(private) };
        self.know(seat, generations, &pair.private, made.private);
        if is_stored && !self.drop_public(seat, &pair, made)? {
            self.know(seat, generations, &pair.public, made.public);
        }
        Ok(pair)
    }

    /// Remembers a key that was made, for every session.
    fn know(&self, seat: &mut Seat, (keys, sightings): (u64, u64), key: &Arc<Key>, handle: ObjectHandle) {
        self.keys.remember(keys, key.class, &key.id, Arc::clone(key));
        self.sightings.remember(sightings, key.class, &key.id, handle);
        seat.handles.remember(key.class, &key.id, handle);
    }

    /// Gives a pair that was made without a CKA_ID one, where the token gave it none.
    fn name_it(&self, seat: &Seat, made: &Made, id: Option<&[u8]>) -> Result<Option<Vec<u8>>, Error> {
        if id.is_some() || !object::id(&seat.session, made.private)?.is_empty() {
            return Ok(None);
        }
        let id = random_id(self.id_length)?;
        for half in [made.private, made.public] {
            self.is_undisturbed(seat, made)?;
            seat.session.update_attributes(half, &[Attribute::Id(id.clone())])?;
        }
        Ok(Some(id))
    }

    fn half(
        &self,
        seat: &Seat,
        spec: &KeyPairSpec<'_>,
        class: Class,
        handle: ObjectHandle,
        id: Option<&[u8]>,
    ) -> Result<Key, Error> {
        // Nothing is assumed of the id: the token may have chosen another.
        let key = object::facts(&seat.session, handle, class, &[])?;
        if key.id.is_empty() {
            return Err(Error::NotTaken { attribute: "CKA_ID" });
        }
        let name = self.info().name();
        if let Some(id) = id.filter(|id| key.id != *id) {
            match self.find_surely(seat, class, id) {
                // It has an id of the token's choice.
                Err(Error::NotFound { .. }) => {}
                // tpm2-pkcs11 gives the handle of an object that was there: the client would take another's key for the new one.
                Ok(_) | Err(Error::Ambiguous { .. }) => return Err(Error::NotTaken { attribute: "CKA_ID" }),
                Err(error) => return Err(error),
            }
            log::warn!("token {name}: the {class} has the CKA_ID {} instead of {}", Hex(&key.id), Hex(id));
        }
        let label = if class == Class::PublicKey { spec.public_label } else { spec.private_label };
        let Some(wanted) = label.and_then(|label| self.label_limit().fit(label)) else { return Ok(key) };
        let stored = object::label(&seat.session, handle)?.unwrap_or_default();
        if stored == wanted {
            self.learn(|learnt| {
                learnt.labels.get_or_insert(Labels::AsGiven);
            });
        } else if !matches!(self.learnt().labels, Some(Labels::Refused | Labels::Own)) {
            self.learn(|learnt| learnt.labels = Some(Labels::Own));
            log::warn!("token {name}: the {class} {} has the label {stored:?} instead of {wanted:?}", Hex(&key.id));
        }
        Ok(key)
    }

    /// Destroys the public key of a new pair where none is to be stored. Whether it did: not where the private key does not tell
    /// the public one, which would be lost.
    fn drop_public(&self, seat: &mut Seat, pair: &KeyPair, made: &Made) -> Result<bool, Error> {
        let name = self.info().name();
        let known = self.learnt().public_objects;
        if self.policy.store_public_key != Some(false) || known == Some(true) {
            if known.is_none() {
                self.learn(|learnt| learnt.public_objects = Some(true));
            }
            return Ok(false);
        }
        if pair.private.public != pair.public.public {
            log::warn!("token {name}: a private key does not tell its public key, which is stored therefore");
            return Ok(false);
        }
        self.is_undisturbed(seat, made)?;
        seat.session.destroy_object(made.public)?;
        // Some tokens keep both halves as one object.
        match object::find(&seat.session, Class::PrivateKey, &pair.private.id) {
            Ok(_) => {
                self.learn(|learnt| learnt.public_objects = Some(false));
                Ok(true)
            }
            Err(Error::NotFound { .. }) => {
                self.learn(|learnt| learnt.public_objects = Some(true));
                log::warn!(
                    "token {name}: the private key went with the public one, which is stored from now on\nhint: store-public-key cannot be false here"
                );
                Err(Error::NotTaken { attribute: "the key pair without its public key" })
            }
            Err(error) => Err(error),
        }
    }

    /// Removes one half of a pair that could not be completed, where its handle surely leads to it: tpm2-pkcs11 gives another object's
    /// after one was destroyed.
    fn unmake(&self, session: &Session, class: Class, handle: ObjectHandle, id: Option<&[u8]>) {
        let unfinished =
            |id: &[u8]| format!("token {}: an unfinished {class}, CKA_ID {},", self.info().name(), Hex(id));
        match (object::id(session, handle), id) {
            // Gone with the other half.
            (Err(error), _) if error.is_stale_handle() => return,
            (Ok(found), Some(id)) if found != id => {
                log::error!("{} may stay on the token: its handle leads to CKA_ID {}", unfinished(id), Hex(&found));
                return;
            }
            _ => {}
        }
        match session.destroy_object(handle).map_err(Error::from) {
            Ok(()) => {}
            Err(error) if error.is_stale_handle() => {}
            Err(error) => log::error!("{} stays on the token: {error}", unfinished(id.unwrap_or_default())),
        }
    }
}

/// What is known of a public key that is no object of its own.
fn public_of(private: &Key, spec: &KeyPairSpec<'_>) -> Key {
    let usage =
        Usage { verify: spec.usage.verify, encrypt: spec.usage.encrypt, wrap: spec.usage.wrap, ..Usage::default() };
    Key { usage, ..Key::new(Class::PublicKey, &private.id, private.kind, private.public.clone()) }
}
