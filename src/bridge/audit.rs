//! The audit trail: who did what with which key of which token, and who was refused. Its lines have a log target of their own and
//! begin with `audit:`.
#![forbid(unsafe_code)]

use std::fmt;

use log::{info, warn};

use super::Peer;
use super::auth::Admitted;
use crate::kmip::Failure;
use crate::logging::AUDIT;

/// What a client sets about that changes what is on a token, for the line that tells how it ended: text, as it may be another thread
/// that has to tell.
#[derive(Clone)]
pub(super) struct Deed {
    who: Option<String>,
    what: String,
    token: Option<String>,
}

impl Deed {
    pub(super) fn of(client: &Admitted, what: String) -> Self {
        Self { who: client.name().map(str::to_owned), what, token: Some(client.token.info().label.clone()) }
    }

    /// Whose login the HSM has not judged yet.
    pub(super) fn of_nobody_yet(what: String) -> Self {
        Self { who: None, what, token: None }
    }
}

/// Something was done that changes what is on a token.
pub(super) fn done(peer: &Peer, client: &Admitted, what: fmt::Arguments<'_>) {
    info!(
        target: AUDIT,
        "audit: {}{}: {what}{}",
        peer.address,
        Who(client.name()),
        On(Some(&client.token.info().label))
    );
}

/// It was tried and failed.
pub(super) fn failed(peer: &Peer, deed: &Deed, why: &Failure) {
    let Deed { who, what, token } = deed;
    info!(target: AUDIT, "audit: {}{}: {what} failed: {why}{}", peer.address, Who(who.as_deref()), On(token.as_deref()));
}

/// What becomes of it is not known yet: a line of its own tells, if the module ever does.
pub(super) fn given_up(peer: &Peer, deed: &Deed) {
    let Deed { who, what, token } = deed;
    warn!(
        target: AUDIT,
        "audit: {}{}: {what}: the HSM has not answered in time, whether it was done is not known{}",
        peer.address,
        Who(who.as_deref()),
        On(token.as_deref())
    );
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

struct On<'a>(Option<&'a str>);

impl fmt::Display for On<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |label| write!(f, " on token '{}'", label.escape_debug()))
    }
}
