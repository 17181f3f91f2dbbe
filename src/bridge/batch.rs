//! The items of a message, one after another, or several at once where that is the same to the client.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Instant;

use log::debug;

use super::op::{self, Context};
use super::service::not_begun;
use super::{Bridge, Peer};
use crate::kmip::{BatchItem, Continuation, Outcome, Request, RequestHeader, Response, Version};
use crate::pkcs11::Token;

/// A message that is being answered.
pub(super) struct Batch<'a, 'b> {
    peer: &'a Peer,
    header: &'a RequestHeader<'a>,
    context: Context<'a>,
    response: Response<'b>,
    begun: Instant,
}

impl<'a, 'b> Batch<'a, 'b> {
    pub(super) fn new(
        bridge: &'a Bridge,
        peer: &'a Peer,
        header: &'a RequestHeader<'a>,
        version: Version,
        response: Response<'b>,
    ) -> Self {
        Self { peer, header, context: Context::new(bridge, peer, header, version), response, begun: Instant::now() }
    }

    /// Carries out the items and ends the response. Whether the client was admitted to a token.
    pub(super) fn carry_out(mut self, request: &Request<'_>) -> bool {
        if self.header.batch_count > 1 {
            self.peer.progress.clear();
            let items: Vec<_> = request.items().collect();
            let mut left = items.as_slice();
            while let Some(answered) = self.next_of(left) {
                left = left.get(answered..).unwrap_or_default();
            }
            // Kept until the connection has the response: whoever speaks for it before that has to say the same.
            self.peer.progress.ended();
        } else if let Some(item) = request.items().next() {
            self.answer(&item, |context, response| op::dispatch(context, &item, response));
        }
        self.response.finish();
        self.context.is_proven()
    }

    /// Answers the first of the items that are left, or several that can be carried out at once. How many that were; none once the
    /// batch has ended.
    fn next_of(&mut self, left: &[BatchItem<'_>]) -> Option<usize> {
        let first = left.first()?;
        let one = |batch: &mut Self| batch.answer(first, |context, response| op::dispatch(context, first, response));
        // Only for those that could be several: the run is counted no further than it has to be, as each item but the first looks again.
        let are_several = left.get(..2).is_some_and(|two| two.iter().all(op::is_independent));
        // Whoever is not admitted is told so for each item.
        let token = if are_several { self.context.client().ok().map(|client| Arc::clone(&client.token)) } else { None };
        let goes_on = match token {
            Some(token) => {
                // As the client asked for it.
                let threads = if self.header.ordered { 1 } else { token.threads() };
                if threads > 1 {
                    let independent = left.iter().take_while(|item| op::is_independent(item)).count();
                    return self.at_once(&token, threads.min(independent), left.get(..independent)?);
                }
                token.observed(|| one(self))
            }
            None => one(self),
        };
        goes_on.then_some(1)
    }

    /// Answers all of these items, which do not depend on one another, in their order.
    fn at_once(&mut self, token: &Token, threads: usize, items: &[BatchItem<'_>]) -> Option<usize> {
        let (shared, peer) = (self.context.alone(), self.peer);
        let work = |number: usize| match items.get(number) {
            Some(item) if !peer.progress.is_given_up() => op::carry_out(&mut shared.alone(), item),
            _ => Err(not_begun()),
        };
        let mut answered = 0_usize;
        token.spread(threads, items.len(), work, |number, outcome| {
            let goes_on = items
                .get(number)
                .is_some_and(|item| self.answer(item, |_, response| op::tell(item, outcome, response)));
            answered = answered.saturating_add(usize::from(goes_on));
            goes_on
        });
        (answered == items.len()).then_some(answered)
    }

    /// Writes the answer to one item. Whether there is to be one to the next.
    fn answer(
        &mut self,
        item: &BatchItem<'_>,
        write: impl FnOnce(&mut Context<'a>, &mut Response<'b>) -> Outcome<()>,
    ) -> bool {
        let start = self.response.position();
        let outcome = write(&mut self.context, &mut self.response);
        if let Err(failure) = &outcome {
            let operation = item.operation.map(|operation| operation.to_string());
            debug!("{}: {}: {failure}", self.peer.address, operation.as_deref().unwrap_or("batch item"));
        }
        if self.header.batch_count == 1 {
            return false;
        }
        // What was done is done; but nobody wants the rest any more.
        let has_left = self.peer.has_left(self.begun);
        if has_left {
            debug!("{}: the client has gone, the rest of its batch is not begun", self.peer.address);
        }
        let is_failure = outcome.is_err() && self.header.continuation == Continuation::Stop;
        let is_last = is_failure || has_left || self.response.is_full();
        let goes_on = self.peer.progress.answered(self.response.since(start)) && !is_last;
        if is_last {
            self.peer.progress.ended();
        }
        goes_on
    }
}
