//! The audit trail: who did what with which key of which token, and who was refused. Its lines have a log target of their own and
//! begin with `audit:`.
#![forbid(unsafe_code)]

use std::fmt;

use log::{info, warn};

use super::Peer;
use super::auth::Admitted;
use crate::kmip::Operation;
use crate::logging::AUDIT;

/// Something was done that changes what is on a token, or was tried and failed.
pub(super) fn done(peer: &Peer, client: &Admitted, what: fmt::Arguments<'_>) {
    info!(
        target: AUDIT,
        "audit: {}{}: {what} on token '{}'",
        peer.address,
        Who(client.name()),
        client.token.info().label.escape_debug()
    );
}

/// What becomes of an operation that changes something is not known yet: a line of its own tells, if the module ever does.
pub(super) fn given_up(peer: &Peer, operation: Operation) {
    warn!(target: AUDIT, "audit: {}: {operation}: the HSM has not answered in time, whether it was done is not known", peer.address);
}

/// A login was refused, as were `others` from the address that were not told of.
pub(super) fn refused(peer: &Peer, why: &str, others: u32) {
    match others {
        0 => warn!(target: AUDIT, "audit: {}: login refused: {why}", peer.address),
        others => {
            warn!(target: AUDIT, "audit: {}: login refused, as were {others} others from this address: {why}", peer.address);
        }
    }
}

struct Who<'a>(Option<&'a str>);

impl fmt::Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |name| write!(f, " ({name})"))
    }
}
