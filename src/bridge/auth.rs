//! KMIP credential -> token (username = token, password = PIN): every request proves itself.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Instant;

use log::warn;

use super::{Bridge, Peer};
use crate::kmip::{Credential, Failure, Outcome, ResultReason};
use crate::pkcs11::{Pin, Refusal, Token};

/// Who a message comes from, found out at the first item that has to know, once a message.
pub(super) struct Admission<'a> {
    credential: Option<&'a Credential<'a>>,
    verdict: Option<Outcome<Arc<Token>>>,
}

impl<'a> Admission<'a> {
    pub(super) fn new(credential: Option<&'a Credential<'a>>) -> Self {
        Self { credential, verdict: None }
    }

    /// Whether the message carries a credential, good or bad.
    pub(super) fn is_claimed(&self) -> bool {
        self.credential.is_some()
    }

    /// The token that the credential opens.
    pub(super) fn token(&mut self, bridge: &Bridge, peer: &Peer) -> Outcome<Arc<Token>> {
        if self.verdict.is_none() {
            self.verdict = Some(admit(bridge, peer, self.credential));
        }
        self.verdict.clone().unwrap_or_else(|| Err(not_successful()))
    }
}

fn admit(bridge: &Bridge, peer: &Peer, credential: Option<&Credential<'_>>) -> Outcome<Arc<Token>> {
    match credential {
        Some(Credential::UsernameAndPassword { username, password }) => judge(bridge, peer, username, password),
        Some(Credential::Other(kind)) => Err(refused(bridge, peer, &format!("credential of type {kind}"))),
        None => Err(refused(bridge, peer, "no credential")),
    }
}

fn judge(bridge: &Bridge, peer: &Peer, username: &str, password: &str) -> Outcome<Arc<Token>> {
    let (access, address) = (&bridge.access, peer.address.ip());
    let fingerprint = || access.fingerprints.of(username, password);
    // Whoever shares the address of a stranger is not disturbed on a connection that has proved itself.
    let is_judged = access.throttle.allows(address, Instant::now())
        || peer.admitted.get().is_some_and(|known| *known == fingerprint());
    if !is_judged {
        return Err(refused(bridge, peer, "too many failed logins from this address"));
    }
    match bridge.tokens.admit(username, &Pin::new(password.as_bytes()).from(address)) {
        Ok(token) => {
            peer.admitted.get_or_init(fingerprint);
            Ok(token)
        }
        Err(Refusal::Unavailable(error)) => {
            warn!("{}: login not possible: {error}", peer.address);
            Err(Failure::new(ResultReason::GENERAL_FAILURE, "the HSM is not available"))
        }
        Err(refusal) => {
            access.throttle.failed(address, fingerprint(), Instant::now());
            Err(refused(bridge, peer, &refusal.to_string()))
        }
    }
}

/// Tells the log, once a minute for each address. The user name is not told: people put PINs there.
fn refused(bridge: &Bridge, peer: &Peer, why: &str) -> Failure {
    match bridge.access.throttle.report(peer.address.ip(), Instant::now()) {
        Some(0) => warn!("{}: login refused: {why}", peer.address),
        Some(more) => warn!("{}: login refused, as were {more} others from this address: {why}", peer.address),
        None => {}
    }
    not_successful()
}

/// One text for every cause: it must not tell whether a token of that name exists.
fn not_successful() -> Failure {
    Failure::new(ResultReason::AUTHENTICATION_NOT_SUCCESSFUL, "username or password is not right")
}
