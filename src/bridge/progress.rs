//! How far a batch has been answered: what can be told of it when a call to the module does not return.
#![forbid(unsafe_code)]

use std::sync::{Mutex, MutexGuard, PoisonError};

use zeroize::Zeroizing;

use super::audit::Deed;
use crate::ttlv::make_room;

/// Of the message that is being answered on a connection.
#[derive(Default)]
pub(super) struct Progress(Mutex<State>);

#[derive(Default)]
struct State {
    /// The answers to the first items, one behind the other; among them may be random numbers that become keys.
    answers: Zeroizing<Vec<u8>>,
    items: u32,
    /// No item has an answer beside these.
    ended: bool,
    /// What is being done that changes something.
    deed: Option<Deed>,
    /// For good: the connection closes.
    given_up: bool,
}

/// What is known of a batch.
pub(super) struct Known {
    /// How many items were answered, and their answers.
    pub(super) items: u32,
    pub(super) answers: Zeroizing<Vec<u8>>,
    /// Whether the batch ended with them.
    pub(super) ended: bool,
    /// What is under way, if it changes something and it is known for whom.
    pub(super) deed: Option<Deed>,
}

impl Progress {
    /// A batch begins, or its response has been taken.
    pub(super) fn clear(&self) {
        let mut state = self.lock();
        state.answers = Zeroizing::default();
        state.items = 0;
        state.ended = false;
    }

    /// Something begins that changes what is on a token, or has ended.
    pub(super) fn set_about(&self, deed: Option<Deed>) {
        self.lock().deed = deed;
    }

    /// The next item was answered by `answer`. Whether to go on to the one after it: not once the client was told that it is
    /// not begun.
    pub(super) fn answered(&self, answer: &[u8]) -> bool {
        let mut state = self.lock();
        if !state.given_up {
            make_room(&mut state.answers, answer.len());
            state.answers.extend_from_slice(answer);
            state.items = state.items.saturating_add(1);
        }
        !state.given_up
    }

    /// The last item that is to have an answer was answered, though calls for others may still be under way.
    pub(super) fn ended(&self) {
        self.lock().ended = true;
    }

    /// What was answered. None of the other items is begun from now on, unless it was already.
    pub(super) fn give_up(&self) -> Known {
        let mut state = self.lock();
        state.given_up = true;
        Known {
            items: state.items,
            answers: std::mem::take(&mut state.answers),
            ended: state.ended,
            deed: state.deed.take(),
        }
    }

    /// Whether the client was answered without waiting for the module, so that what comes of it now is told to nobody.
    pub(super) fn is_given_up(&self) -> bool {
        self.lock().given_up
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
