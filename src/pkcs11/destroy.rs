//! Destroying objects: never tried twice without having looked, and answered with what is known.
#![forbid(unsafe_code)]

use std::cell::Cell;

use super::error::Error;
use super::fault::Fault;
use super::key::{Class, Hex};
use super::object;
use super::token::Token;
use super::watch;

impl Token {
    /// Destroys an object. On some tokens the other half of a key pair goes with it.
    ///
    /// # Errors
    /// [`Error::NotFound`], also if it was gone before this could destroy it; [`Error::Ambiguous`];
    /// [`Error::Unsettled`] if the HSM failed meanwhile; a failure of the module.
    pub fn destroy(&self, class: Class, id: &[u8]) -> Result<(), Error> {
        let _stay = watch::stay();
        let _change = self.change()?;
        let mut again = true;
        let result = loop {
            let begun = Cell::new(false);
            let result = self.run_until(&begun, |seat| {
                // Found anew: with a stale handle another object might be destroyed.
                let object = object::find(&seat.session, class, id)?;
                begun.set(true);
                let _alone = self.alone();
                Ok(seat.session.destroy_object(object)?)
            });
            let why = match result {
                Err(error) if begun.get() => error,
                result => break result,
            };
            match (why.fault(), self.is_left(class, id)) {
                (Fault::Request | Fault::Busy, _) => break Err(why),
                (Fault::Handle, _) => break Err(Error::NotFound { class }),
                (_, Ok(false)) => {
                    log::info!(
                        "token {}: {why}: the {class} {} is destroyed all the same",
                        self.info().name(),
                        Hex(id)
                    );
                    break Ok(());
                }
                // It never began.
                (Fault::Session | Fault::Login, Ok(true)) if again => again = false,
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
