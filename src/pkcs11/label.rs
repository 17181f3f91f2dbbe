//! Labels: cut to what a token keeps, and changed on both halves of a pair or on none.
#![forbid(unsafe_code)]

use std::cell::Cell;

use cryptoki::error::RvError;
use cryptoki::object::{Attribute, AttributeType, ObjectHandle};

use super::error::Error;
use super::key::{Class, Filter, Hex, Listed};
use super::learnt::Labels;
use super::object;
use super::policy::Characters;
use super::token::{Seat, Token};
use super::watch;

/// Bytes of a label that is short: what tokens have that are particular about it.
pub(super) const SHORT: usize = 32;

/// How labels have to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    max: Option<usize>,
    characters: Characters,
}

impl Limit {
    /// What fits every token that takes labels at all.
    pub(super) const SHORT: Self = Self { max: Some(SHORT), characters: Characters::Plain };

    /// The label as the token is to keep it; `None` where it keeps none.
    pub(super) fn fit(self, label: &str) -> Option<String> {
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '-' };
        let mut fitted: String = match self.characters {
            Characters::Any => label.to_owned(),
            Characters::Plain => label.chars().map(plain).collect(),
        };
        if let Some(max) = self.max.filter(|max| fitted.len() > *max) {
            let end = (0..=max).rev().find(|end| fitted.is_char_boundary(*end)).unwrap_or_default();
            fitted.truncate(end);
        }
        (!fitted.is_empty()).then_some(fitted)
    }
}

impl Token {
    /// How this token's labels have to be, as far as is known.
    pub(super) fn label_limit(&self) -> Limit {
        let is_short = self.learnt().labels == Some(Labels::Short);
        Limit {
            max: self.policy.label_max.or(Limit::SHORT.max.filter(|_| is_short)),
            characters: self.policy.label_characters.unwrap_or(if is_short {
                Characters::Plain
            } else {
                Characters::Any
            }),
        }
    }

    /// The label as this token is to keep it, as far as is known; `None` where that leaves nothing of it.
    pub fn fitted(&self, label: &str) -> Option<String> {
        self.label_limit().fit(label)
    }

    /// The label of an object; `None` if it is empty.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`], or a failure of the module.
    pub fn label(&self, class: Class, id: &[u8]) -> Result<Option<String>, Error> {
        self.on_object(class, id, object::label)
    }

    /// The objects that `filter` lets through, in the token's order. A label in it is cut as those of the objects are.
    ///
    /// # Errors
    /// A failure of the module; one object that cannot be read is no failure, but left out.
    pub fn list(&self, filter: &Filter<'_>) -> Result<Vec<Listed>, Error> {
        let label = match filter.label.map(|label| self.label_limit().fit(label)) {
            // An empty label would be every object's.
            Some(None) => return self.library.enter().map(|_| Vec::new()),
            label => label.flatten(),
        };
        let filter = Filter { label: label.as_deref(), ..filter.clone() };
        self.run(|seat| {
            let list = || self.searching(|| object::list(&seat.session, &filter, &self.at_once));
            let listed = list()?;
            // Without a login only public objects are seen.
            let is_public = listed.iter().all(|object| object.class == Class::PublicKey);
            let listed = if is_public && self.check_login(&seat.session)? { list()? } else { listed };
            self.nameless.note(&filter, &listed);
            Ok(listed)
        })
    }

    /// Gives an object another label, cut to what the token keeps, and reads it back. Clients rename one half of a pair after the
    /// other, and give the key up if the second fails: so the first is left as it is if the second could not follow.
    ///
    /// # Errors
    /// [`Error::Fixed`] if the token lets no label be changed, [`Error::NotTaken`] if it keeps another label than this one;
    /// else as [`Self::label`].
    pub fn rename(&self, class: Class, id: &[u8], label: &str) -> Result<(), Error> {
        let _stay = watch::stay();
        let _change = self.change()?;
        if self.learnt().rename == Some(false) {
            return Err(FIXED);
        }
        let label = self.label_limit().fit(label).ok_or(FIXED)?;
        let refused = Cell::new(false);
        let renamed = self.run(|seat| {
            // Found anew: with a stale handle another object might be renamed.
            let dealt = self.health.deals().so_far();
            let object = object::find(&seat.session, class, id)?;
            let partner = self.partner_to_try(seat, class, id)?;
            if let Some(partner) = partner {
                let own = object::label(&seat.session, partner)?.unwrap_or_default();
                self.set(seat, dealt, partner, &own, &refused)?;
            }
            let before = object::label(&seat.session, object)?.unwrap_or_default();
            self.set(seat, dealt, object, &label, &refused)?;
            if object::label(&seat.session, object)?.unwrap_or_default() != label {
                if let Err(error) = self.set(seat, dealt, object, &before, &refused) {
                    let name = self.info().name();
                    log::warn!(
                        "token {name}: the {class} {} keeps neither its old label nor the new one: {error}",
                        Hex(id)
                    );
                }
                return Err(Error::NotTaken { attribute: LABEL });
            }
            if partner.is_some() {
                self.learn(|learnt| learnt.rename = Some(true));
            }
            Ok(())
        });
        if refused.get() {
            self.learn(|learnt| learnt.rename = Some(false));
            return renamed.map_err(|_| FIXED);
        }
        renamed
    }

    /// The other half of a pair, where it is not known yet that labels can be changed.
    fn partner_to_try(&self, seat: &Seat, class: Class, id: &[u8]) -> Result<Option<ObjectHandle>, Error> {
        let other = match class {
            Class::PublicKey => Class::PrivateKey,
            Class::PrivateKey => Class::PublicKey,
            Class::SecretKey => return Ok(None),
        };
        if self.learnt().rename == Some(true) {
            return Ok(None);
        }
        match object::find(&seat.session, other, id) {
            Ok(partner) => Ok(Some(partner)),
            Err(Error::NotFound { .. } | Error::Ambiguous { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets a label; whether it is the token, and not this one object, that lets none be set is noted in `refused`.
    /// The handle was had after there had been `dealt` [deals](super::deals::Deals::so_far).
    fn set(
        &self,
        seat: &Seat,
        dealt: u64,
        object: ObjectHandle,
        label: &str,
        refused: &Cell<bool>,
    ) -> Result<(), Error> {
        let session = &seat.session;
        let _alone = self.alone();
        if self.may_be_stale(seat, dealt) {
            return Err(Error::Disturbed);
        }
        let set =
            session.update_attributes(object, &[Attribute::Label(label.as_bytes().to_vec())]).map_err(Error::from);
        let Err(error) = set else { return Ok(()) };
        if error.rv().is_some_and(is_never) || matches!(error, Error::Binding { .. }) {
            let modifiable = object::read(session, object, &[AttributeType::Modifiable]).unwrap_or_default();
            refused.set(!modifiable.contains(&Attribute::Modifiable(false)));
        }
        Err(error)
    }
}

const LABEL: &str = "CKA_LABEL";
const FIXED: Error = Error::Fixed { attribute: LABEL };

/// Whether a token that answers this to a new label has no better answer to another.
fn is_never(rv: RvError) -> bool {
    matches!(
        rv,
        RvError::ActionProhibited
            | RvError::AttributeReadOnly
            | RvError::AttributeTypeInvalid
            | RvError::FunctionNotSupported
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_labels_between_characters_and_replaces_what_is_not_plain() {
        let fit = |max, characters, label: &str| Limit { max, characters }.fit(label);
        assert_eq!(fit(None, Characters::Any, "a_b\u{e9}").as_deref(), Some("a_b\u{e9}"));
        assert_eq!(fit(Some(4), Characters::Any, "a_b\u{e9}").as_deref(), Some("a_b"));
        assert_eq!(fit(Some(5), Characters::Any, "a_b\u{e9}").as_deref(), Some("a_b\u{e9}"));
        assert_eq!(fit(None, Characters::Plain, "a_b\u{e9}/x.y-1").as_deref(), Some("a-b--x.y-1"));
        assert_eq!(fit(Some(0), Characters::Any, "a"), None);
        assert_eq!(fit(None, Characters::Any, ""), None);
        assert_eq!(fit(Some(1), Characters::Any, "\u{e9}"), None);
        assert_eq!(Limit::SHORT.fit(&"f".repeat(64)), Some("f".repeat(32)));
    }
}
