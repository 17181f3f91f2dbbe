//! Destroying objects: never tried twice without having looked, and answered with what is known.
#![forbid(unsafe_code)]

use std::cell::Cell;

use super::error::Error;
use super::fault::Fault;
use super::key::{Class, Hex, KeyPair};
use super::object;
use super::token::Token;
use super::trouble::Trouble;
use super::watch;

/// How often it is tried to remove what nobody asked for.
const TRIES: u32 = 3;

impl Token {
    /// Destroys an object. On some tokens the other half of a key pair goes with it.
    ///
    /// # Errors
    /// [`Error::NotFound`], also if it was gone before this could destroy it; [`Error::Ambiguous`];
    /// [`Error::Unsettled`] if the HSM failed meanwhile; a failure of the module.
    pub fn destroy(&self, class: Class, id: &[u8]) -> Result<(), Error> {
        let _stay = watch::stay();
        let _change = self.change()?;
        self.destroy_alone(class, id)
    }

    /// Removes a key pair whose client will never hear of it. There is nobody for whom it could be too late, so it is tried until it is
    /// done, or has failed a few times.
    ///
    /// # Errors
    /// Those of [`Self::destroy`]: the pair stays.
    pub fn withdraw(&self, pair: &KeyPair) -> Result<(), Error> {
        let _stay = watch::stay();
        let _change = self.change_however_late();
        [&pair.private, &pair.public].into_iter().try_for_each(|key| {
            let mut left = TRIES;
            loop {
                left = left.saturating_sub(1);
                match self.destroy_alone(key.class, &key.id) {
                    // It went with the other half.
                    Ok(()) | Err(Error::NotFound { .. }) => return Ok(()),
                    Err(error) if left == 0 => return Err(error),
                    Err(_) => {}
                }
            }
        })
    }

    /// With nobody else making, changing or destroying objects.
    fn destroy_alone(&self, class: Class, id: &[u8]) -> Result<(), Error> {
        let (mut again, mut trouble) = (true, Trouble::default());
        let result = loop {
            let repairs = self.health.repairs();
            let begun = Cell::new(false);
            let result = self.run_until(&begun, |seat| {
                // Found anew: with a stale handle another object might be destroyed.
                let dealt = self.health.deals().so_far();
                let object = object::find(&seat.session, class, id)?;
                let _alone = self.alone();
                if self.may_be_stale(seat, dealt) {
                    return Err(Error::Disturbed);
                }
                begun.set(true);
                Ok(seat.session.destroy_object(object)?)
            });
            let why = match result {
                Err(error) if begun.get() => error,
                result => break result,
            };
            match (why.fault(), self.is_left(class, id)) {
                (Fault::Request, _) => break Err(why),
                (Fault::Handle, Ok(false)) => break Err(Error::NotFound { class }),
                (_, Ok(false)) => {
                    log::info!(
                        "token {}: {why}: the {class} {} is destroyed all the same",
                        self.info().name(),
                        Hex(id)
                    );
                    break Ok(());
                }
                // It never began: handles go with the session and the login.
                (Fault::Handle | Fault::Session, Ok(true)) if again => again = false,
                // Nor has anything made the login anew: a public object is found without one.
                (Fault::Login, Ok(true)) if again => {
                    again = false;
                    if let Err(why) = self.mend(why, repairs, &mut trouble) {
                        break Err(unsettled("the object was not destroyed", why));
                    }
                }
                // Something was lost, though that is not what the module says, and has been made anew since: kryoptic says
                // CKR_GENERAL_ERROR where the login is lost.
                (_, Ok(true)) if again && self.health.repairs() != repairs => again = false,
                (Fault::Busy, Ok(true)) => break Err(why),
                (_, Ok(true)) => break Err(unsettled("the object was not destroyed", why)),
                (_, Err(_)) => {
                    break Err(unsettled("whether the object was destroyed is not known: the HSM did not answer", why));
                }
            }
        };
        // Whatever the answer is, it says nothing sure of what is left.
        self.forget(id);
        result
    }

    fn is_left(&self, class: Class, id: &[u8]) -> Result<bool, Error> {
        match self.run(|seat| object::find(&seat.session, class, id)) {
            Ok(_) | Err(Error::Ambiguous { .. }) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The answer to a change that was begun when the HSM failed.
pub(super) fn unsettled(outcome: &'static str, why: Error) -> Error {
    Error::Unsettled { outcome, why: Box::new(why) }
}
