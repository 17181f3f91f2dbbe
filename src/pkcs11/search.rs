//! The handle of an object in a session that has not used it yet: the one under which another session saw it, where that means the same;
//! else what the token finds; and where searching takes longer than looking at everything once, then that.
#![forbid(unsafe_code)]

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;

use super::error::Error;
use super::key::{Class, Filter};
use super::object;
use super::token::{Seat, Token};

/// Searches before everything is looked at for the first time; each further time asks for twice as many. Who has few keys stays below.
const SEARCHES: u32 = 16;

/// Everything is not looked at for longer, as a client waits: a network HSM, where each look is a round trip, searches by itself.
const LONGEST: Duration = Duration::from_secs(1);

/// What searching has cost so far, by class.
///
/// SoftHSM looks through all of its objects for each search: ten thousand keys that are searched one by one take the better part of an
/// hour. To look at all of them takes no longer than a few searches, but elsewhere it may, and so it gets the time that searches have
/// taken already: at worst, that is as much again.
#[derive(Default)]
pub(super) struct Efforts(Mutex<[Effort; 3]>);

#[derive(Clone, Copy)]
struct Effort {
    searches: u32,
    spent: Duration,
    enough: u32,
}

impl Default for Effort {
    fn default() -> Self {
        Self { searches: 0, spent: Duration::ZERO, enough: SEARCHES }
    }
}

impl Efforts {
    /// Counts a search, and says how long everything may be looked at now, if it is time for that.
    fn count(&self, class: Class, took: Duration) -> Option<Duration> {
        let mut efforts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let [public, private, secret] = &mut *efforts;
        let effort = match class {
            Class::PublicKey => public,
            Class::PrivateKey => private,
            Class::SecretKey => secret,
        };
        effort.searches = effort.searches.saturating_add(1);
        effort.spent = effort.spent.saturating_add(took);
        if effort.searches < effort.enough {
            return None;
        }
        let spent = effort.spent;
        *effort = Effort { enough: effort.enough.saturating_mul(2), ..Effort::default() };
        Some(spent.min(LONGEST))
    }

    /// Begins anew, as nothing is known any more of where objects are.
    pub(super) fn reset(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Default::default();
    }
}

impl Token {
    /// The handle of the object in this session.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`], or a failure of the module.
    pub(super) fn locate(&self, seat: &mut Seat, class: Class, id: &[u8]) -> Result<ObjectHandle, Error> {
        if let Some(object) = seat.handles.handle(class, id) {
            return Ok(object);
        }
        let object = match self.sightings.known(class, id) {
            Some(object) if object::is(&seat.session, object, class, id)? => object,
            _ => self.search(seat, class, id)?,
        };
        seat.handles.remember(class, id, object);
        Ok(object)
    }

    /// The one object of this class with this CKA_ID. Where one may have got it from another process since, openCryptoki finds it only
    /// after its attributes were read.
    fn find(&self, session: &Session, class: Class, id: &[u8]) -> Result<ObjectHandle, Error> {
        let found = object::find(session, class, id);
        if !matches!(found, Err(Error::NotFound { .. })) || !self.nameless.has(class) {
            return found;
        }
        let of_class = Filter { class: Some(class), ..Filter::default() };
        let listed = object::list(session, &of_class, &self.at_once)?;
        self.nameless.note(&of_class, &listed);
        if listed.iter().any(|object| object.id == id) { object::find(session, class, id) } else { found }
    }

    fn search(&self, seat: &Seat, class: Class, id: &[u8]) -> Result<ObjectHandle, Error> {
        let generation = self.sightings.generation();
        let (found, took) = self.searching(|| {
            let begun = Instant::now();
            (self.find(&seat.session, class, id), begun.elapsed())
        });
        if found.as_ref().is_err_and(Error::is_loss) {
            return found;
        }
        if let Some(longest) = self.effort.count(class, took) {
            self.look_at_all(seat, class, generation, longest)?;
        }
        // Last, as a full cache starts again empty.
        if let Ok(object) = found {
            self.sightings.remember(generation, class, id, object);
        }
        found
    }

    fn look_at_all(&self, seat: &Seat, class: Class, generation: u64, longest: Duration) -> Result<(), Error> {
        match self.searching(|| object::all(&seat.session, class, longest, &self.at_once)) {
            Ok(Some(all)) => {
                log::debug!("token {}: looked at all {} objects of the class {class}", self.info().name(), all.len());
                let single = all.iter().filter_map(|(id, object)| object.map(|object| (id.as_slice(), object)));
                self.sightings.remember_all(generation, class, single);
            }
            Ok(None) => {
                log::debug!("token {}: each {class} is searched by itself, which is quicker", self.info().name());
            }
            Err(error) if error.is_loss() => return Err(error),
            // What was asked for is found all the same.
            Err(error) => log::debug!(
                "token {}: not all objects of the class {class} can be looked at: {error}",
                self.info().name()
            ),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn until_enough(efforts: &Efforts, class: Class, took: Duration) -> (u32, Duration) {
        let mut searches = 0;
        loop {
            searches += 1;
            if let Some(longest) = efforts.count(class, took) {
                return (searches, longest);
            }
        }
    }

    #[test]
    fn everything_is_looked_at_less_and_less_often_for_no_longer_than_was_searched() {
        let efforts = Efforts::default();
        assert_eq!(efforts.count(Class::PublicKey, MS), None);
        assert_eq!(until_enough(&efforts, Class::PrivateKey, MS), (SEARCHES, MS * SEARCHES));
        assert_eq!(until_enough(&efforts, Class::PrivateKey, MS), (2 * SEARCHES, MS * 2 * SEARCHES));
        assert_eq!(until_enough(&efforts, Class::PrivateKey, LONGEST), (4 * SEARCHES, LONGEST));
        efforts.reset();
        assert_eq!(until_enough(&efforts, Class::PrivateKey, MS), (SEARCHES, MS * SEARCHES));
    }
}
