//! KMIP credential -> token (username = token, password = PIN): every request proves itself.
#![forbid(unsafe_code)]

use std::sync::Arc;

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

    /// Whether the credential has been found to open a token.
    pub(super) fn is_proven(&self) -> bool {
        matches!(self.verdict, Some(Ok(_)))
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
    let refused = |why: &str| {
        warn!("{}: login refused: {why}", peer.address);
        not_successful()
    };
    match credential {
        // The user name is not logged: people put PINs there.
        Some(Credential::UsernameAndPassword { username, password }) => {
            match bridge.tokens.admit(username, &Pin::new(password.as_bytes())) {
                Ok(token) => Ok(token),
                Err(Refusal::Unavailable(error)) => {
                    warn!("{}: login not possible: {error}", peer.address);
                    Err(Failure::new(ResultReason::GENERAL_FAILURE, "the HSM is not available"))
                }
                Err(refusal) => Err(refused(&refusal.to_string())),
            }
        }
        Some(Credential::Other(kind)) => Err(refused(&format!("credential of type {kind}"))),
        None => Err(refused("no credential")),
    }
}

/// One text for every cause: it must not tell whether a token of that name exists.
fn not_successful() -> Failure {
    Failure::new(ResultReason::AUTHENTICATION_NOT_SUCCESSFUL, "username or password is not right")
}
