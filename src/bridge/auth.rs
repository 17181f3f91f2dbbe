//! From a KMIP credential or a client certificate to a token and rights: every request proves itself.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use log::warn;

use super::access::{Clients, Known, Login, Rights};
use super::audit;
use super::{Bridge, Peer};
use crate::kmip::{Credential, Failure, Outcome, ResultReason};
use crate::pkcs11::{Pin, Refusal, Token};

/// Who a message comes from, found out at the first item that has to know, once a message.
#[derive(Clone)]
pub(super) struct Admission<'a> {
    credential: Option<&'a Credential<'a>>,
    verdict: Option<Outcome<Admitted>>,
}

/// A client that has proved to be allowed to use a token.
#[derive(Clone)]
pub(super) struct Admitted {
    pub(super) token: Arc<Token>,
    /// The client of the configuration; none for who knows the token's PIN, and may do everything.
    client: Option<Arc<Known>>,
}

impl Admitted {
    pub(super) fn rights(&self) -> &Rights {
        static ALL: Rights = Rights { operations: None, key_prefix: None };
        self.client.as_ref().map_or(&ALL, |client| &client.settings.rights)
    }

    /// For the log: the client's name, where it has one.
    pub(super) fn name(&self) -> Option<&str> {
        self.client.as_ref().map(|client| client.name.as_str())
    }
}

impl<'a> Admission<'a> {
    pub(super) fn new(credential: Option<&'a Credential<'a>>) -> Self {
        Self { credential, verdict: None }
    }

    /// Whether the message or its connection says who it comes from, truly or not.
    pub(super) fn is_claimed(&self, bridge: &Bridge, peer: &Peer) -> bool {
        self.credential.is_some()
            || peer.certificate().is_some_and(|it| bridge.access.clients().by_certificate(it).is_some())
    }

    /// Whether the client was admitted.
    pub(super) fn is_proven(&self) -> bool {
        matches!(self.verdict, Some(Ok(_)))
    }

    /// The client, and the token that it opens.
    pub(super) fn judge(&mut self, bridge: &Bridge, peer: &Peer) -> Outcome<&Admitted> {
        let credential = self.credential;
        let verdict = self.verdict.get_or_insert_with(|| admit(bridge, peer, credential));
        verdict.as_ref().map_err(Clone::clone)
    }
}

fn admit(bridge: &Bridge, peer: &Peer, credential: Option<&Credential<'_>>) -> Outcome<Admitted> {
    match credential {
        Some(Credential::UsernameAndPassword { username, password }) => judge(bridge, peer, username, password),
        Some(Credential::Other(kind)) => Err(refused(bridge, peer, &format!("credential of type {kind}"))),
        None => {
            let clients = bridge.access.clients();
            match peer.certificate().map(|certificate| clients.by_certificate(certificate)) {
                Some(Some(client)) => open(bridge, &clients, client).map_err(|refused| match refused {
                    Refused::Client(why) | Refused::Token(why) => unavailable(bridge, peer, &why),
                }),
                Some(None) => Err(refused(bridge, peer, "no credential, and no client has this certificate")),
                None => Err(refused(bridge, peer, "no credential")),
            }
        }
    }
}

/// Stands for all addresses together.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Bytes of the longest username and password that are looked at. Labels have 32, PINs at most some hundred; what is beyond them all
/// need not reach a C library.
const LONGEST: usize = 1024;

fn judge(bridge: &Bridge, peer: &Peer, username: &str, password: &str) -> Outcome<Admitted> {
    let (access, address) = (&bridge.access, peer.address.ip());
    // Whoever shares the address of a stranger is not disturbed on a connection that has proved itself.
    let is_known = || has_been_in(bridge, peer, username, password);
    let since = Instant::now();
    if !access.guesses.leave_room(address, since) && !is_known() {
        // Whoever has so many addresses is not to have a line for each.
        return Err(refused_from(
            bridge,
            peer,
            NOWHERE,
            "too many failed logins from addresses that nobody has logged in from",
        ));
    }
    let Some(turn) = access.throttle.turn(address, since, is_known) else {
        return Err(refused(bridge, peer, "too many failed logins from this address"));
    };
    let clients = access.clients();
    let too_long = username.len() > LONGEST || password.len() > LONGEST;
    let admitted = match clients.by_password(username, password) {
        _ if too_long => Err(Refused::Client("username or password is far too long".to_owned())),
        Some(Ok(client)) => open(bridge, &clients, client),
        Some(Err(())) => Err(Refused::Client("wrong password".to_owned())),
        None => by_pin(bridge, peer, &clients, username, password),
    };
    match admitted {
        Ok(admitted) => {
            access.throttle.give_back(address, turn, Instant::now());
            peer.admitted.get_or_init(|| {
                access.guesses.succeeded(address);
                access.fingerprints.of(username, password)
            });
            Ok(admitted)
        }
        Err(Refused::Client(why)) => {
            let now = Instant::now();
            if access.throttle.failed(address, access.fingerprints.of(username, password), now) {
                access.guesses.failed(address, now);
            }
            peer.hold_back(access.throttle.pause(since));
            Err(refused(bridge, peer, &why))
        }
        Err(Refused::Token(why)) => {
            access.throttle.give_back(address, turn, Instant::now());
            Err(unavailable(bridge, peer, &why))
        }
    }
}

/// Whether the connection has proved itself with this before.
fn has_been_in(bridge: &Bridge, peer: &Peer, username: &str, password: &str) -> bool {
    peer.admitted.get().is_some_and(|known| *known == bridge.access.fingerprints.of(username, password))
}

/// Whose fault it is that a client does not get in; the text is for the log.
enum Refused {
    Client(String),
    Token(String),
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unavailable(error) => Self::Token(error.to_string()),
            refusal => Self::Client(refusal.to_string()),
        }
    }
}

/// A client that knows the token's PIN.
fn by_pin(bridge: &Bridge, peer: &Peer, clients: &Clients, name: &str, pin: &str) -> Result<Admitted, Refused> {
    if clients.keep_a_pin() {
        // It comes first, so that strangers' PINs never get to the token, nor use up what it lets be tried.
        if let Ok(token) = bridge.tokens.find(name) {
            if let (_, Some(kept)) = clients.login(token.info()) {
                let _ = bridge.tokens.admit(name, &Pin::new(kept));
            }
        }
    }
    let token = match bridge.tokens.admit(name, &Pin::new(pin.as_bytes()).from(peer.address.ip())) {
        // A stranger must not learn from a token that is down that there is one of that name; who has been in with this PIN knows it.
        Err(Refusal::Unjudged(why)) if has_been_in(bridge, peer, name, pin) => {
            return Err(Refused::Token(why.to_string()));
        }
        Err(refusal @ Refusal::DoubtfulPin) if has_been_in(bridge, peer, name, pin) => {
            return Err(Refused::Token(refusal.to_string()));
        }
        judged => judged?,
    };
    Ok(Admitted { token, client: None })
}

/// The token of a client that has proved itself otherwise than with its PIN.
fn open(bridge: &Bridge, clients: &Clients, client: Arc<Known>) -> Result<Admitted, Refused> {
    let name = &client.settings.token;
    // Not the client's fault: it has no part in this.
    let refused = |refusal: Refusal| Refused::Token(format!("token '{}': {refusal}", name.escape_debug()));
    let token = bridge.tokens.find(name).map_err(refused)?;
    match clients.login(token.info()) {
        (Login::None | Login::ProtectedPath, _) => bridge.tokens.open(&token).map_err(refused)?,
        (_, Some(pin)) => {
            let token = bridge.tokens.admit(name, &Pin::new(pin)).map_err(refused)?;
            return Ok(Admitted { token, client: Some(client) });
        }
        (_, None) => return Err(Refused::Token(format!("no PIN is kept for token '{}'", name.escape_debug()))),
    }
    Ok(Admitted { token, client: Some(client) })
}

/// Tells the log, once a minute for each address: a stranger can ask as often as it likes while the HSM is away.
fn unavailable(bridge: &Bridge, peer: &Peer, why: &str) -> Failure {
    if bridge.access.outages.report(peer.address.ip(), Instant::now()).is_some() {
        warn!("{}: login not possible: {why}", peer.address);
    }
    Failure::new(ResultReason::GENERAL_FAILURE, "the HSM is not available")
}

/// Tells the log, once a minute for each address. The user name is not told: people put PINs there.
fn refused(bridge: &Bridge, peer: &Peer, why: &str) -> Failure {
    refused_from(bridge, peer, peer.address.ip(), why)
}

/// The same, once a minute for `address`.
fn refused_from(bridge: &Bridge, peer: &Peer, address: IpAddr, why: &str) -> Failure {
    if let Some(others) = bridge.access.throttle.report(address, Instant::now()) {
        audit::refused(peer, why, others);
    }
    not_successful()
}

/// One text for every cause: it must not tell whether a token of that name exists.
fn not_successful() -> Failure {
    Failure::new(ResultReason::AUTHENTICATION_NOT_SUCCESSFUL, "username or password is not right")
}
