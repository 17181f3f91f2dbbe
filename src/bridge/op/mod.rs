//! The operations. One table says which there are: dispatch and Query both read it, so that neither can claim what the other does not
//! do.
#![forbid(unsafe_code)]

mod activate;
mod create_key_pair;
mod destroy;
mod discover_versions;
mod get;
mod get_attribute_list;
mod get_attributes;
mod locate;
mod modify_attribute;
mod query;
mod revoke;
mod rng_retrieve;
mod sign;
mod signature_verify;
mod subject;

use std::sync::Arc;

use super::audit::{self, Deed};
use super::auth::{Admission, Admitted};
use super::object::{Bare, Object};
use super::{Bridge, Peer};
use super::{ident, mechanism};
use crate::kmip::{BatchItem, Failure, Operation, Outcome, RequestHeader, Response, ResultReason, Version};
use crate::pkcs11::{Token, Use};
use crate::ttlv::{Item, Writer};

pub(super) use subject::told;

/// An operation that this program carries out.
pub struct Offered {
    /// Which.
    pub operation: Operation,
    /// The first version that has it.
    pub since: Version,
    /// Whether it is for proven clients only: others get no further than their credential.
    proven: bool,
    /// Whether it makes, changes or destroys something: it is then begun only if its answer can be told.
    changes: bool,
    /// Whether it neither changes anything nor leaves an ID Placeholder, and waits for the token: several can be carried out at once.
    independent: bool,
    /// Whether the token can back it.
    backed: fn(&Token) -> bool,
    handle: Handler,
}

/// Reads the request payload, does what it asks, writes the response payload.
type Handler = fn(&mut Context<'_>, &Item<'_>, &mut Writer<'_>) -> Outcome<()>;

/// Every operation that is offered, in the order of their numbers.
pub const OPERATIONS: &[Offered] = &[
    Offered {
        changes: true,
        backed: create_key_pair::backed,
        ..always(Operation::CREATE_KEY_PAIR, Version::V1_0, create_key_pair::handle)
    },
    always(Operation::LOCATE, Version::V1_0, locate::handle),
    always(Operation::GET, Version::V1_0, get::handle),
    always(Operation::GET_ATTRIBUTES, Version::V1_0, get_attributes::handle),
    always(Operation::GET_ATTRIBUTE_LIST, Version::V1_0, get_attribute_list::handle),
    Offered { changes: true, ..always(Operation::MODIFY_ATTRIBUTE, Version::V1_0, modify_attribute::handle) },
    Offered { changes: true, ..always(Operation::ACTIVATE, Version::V1_0, activate::handle) },
    Offered { changes: true, ..always(Operation::REVOKE, Version::V1_0, revoke::handle) },
    Offered { changes: true, ..always(Operation::DESTROY, Version::V1_0, destroy::handle) },
    Offered { proven: false, ..always(Operation::QUERY, Version::V1_0, query::handle) },
    Offered { proven: false, ..always(Operation::DISCOVER_VERSIONS, Version::V1_1, discover_versions::handle) },
    Offered {
        independent: true,
        backed: |token| mechanism::any_signature(token.mechanisms(), Use::Sign),
        ..always(Operation::SIGN, Version::V1_2, sign::handle)
    },
    Offered {
        independent: true,
        backed: |token| mechanism::any_signature(token.mechanisms(), Use::Verify),
        ..always(Operation::SIGNATURE_VERIFY, Version::V1_2, signature_verify::handle)
    },
    Offered {
        backed: |token| token.info().rng,
        ..always(Operation::RNG_RETRIEVE, Version::V1_2, rng_retrieve::handle)
    },
];

const fn always(operation: Operation, since: Version, handle: Handler) -> Offered {
    Offered { operation, since, proven: true, changes: false, independent: false, backed: |_| true, handle }
}

impl Offered {
    /// Whether `token` can back the operation.
    pub fn is_backed_by(&self, token: &Token) -> bool {
        (self.backed)(token)
    }
}

/// What the items of one message share.
pub(super) struct Context<'a> {
    pub(super) bridge: &'a Bridge,
    pub(super) peer: &'a Peer,
    /// The version that the request states: what its payloads may hold.
    pub(super) stated: Version,
    /// The version that the response is in: what its payloads may hold.
    pub(super) version: Version,
    /// The largest response that the client takes, if it says so.
    pub(super) max_response_size: Option<usize>,
    admission: Admission<'a>,
    /// What the item at hand asks for.
    operation: Operation,
    /// The ID Placeholder (KMIP 1.2, section 4).
    placeholder: Option<String>,
}

impl<'a> Context<'a> {
    pub(super) fn new(bridge: &'a Bridge, peer: &'a Peer, header: &'a RequestHeader<'a>, version: Version) -> Self {
        Self {
            bridge,
            peer,
            stated: header.version,
            version,
            max_response_size: header.max_response_size,
            admission: Admission::new(header.credential.as_ref()),
            operation: Operation::DISCOVER_VERSIONS,
            placeholder: None,
        }
    }

    /// The same for an item that another thread carries out: of what it finds out, this one learns nothing.
    pub(super) fn alone(&self) -> Self {
        Self { admission: self.admission.clone(), placeholder: self.placeholder.clone(), ..*self }
    }

    /// Whether an item has found the client allowed to use a token.
    pub(super) fn is_proven(&self) -> bool {
        self.admission.is_proven()
    }

    /// The token that the client has proved to be allowed to use, for the operation at hand.
    ///
    /// # Errors
    /// Authentication Not Successful, Permission Denied.
    fn token(&mut self) -> Outcome<Arc<Token>> {
        let operation = self.operation;
        let client = self.client()?;
        client.rights().demand(operation)?;
        Ok(Arc::clone(&client.token))
    }

    /// The client and its rights.
    ///
    /// # Errors
    /// Authentication Not Successful.
    pub(super) fn client(&mut self) -> Outcome<&Admitted> {
        self.admission.judge(self.bridge, self.peer)
    }

    /// The client, if it says who it is at all; for operations that need nobody.
    ///
    /// # Errors
    /// Authentication Not Successful: a credential that is there has to be right.
    fn client_if_claimed(&mut self) -> Outcome<Option<&Admitted>> {
        if self.admission.is_claimed(self.bridge, self.peer) { self.client().map(Some) } else { Ok(None) }
    }

    /// Whether the object is one of the client's keys, by its name.
    fn is_theirs(&mut self, token: &Token, object: &Object) -> Outcome<bool> {
        let rights = self.client()?.rights();
        if rights.key_prefix.is_none() {
            return Ok(true);
        }
        // Of a public key that the token does not keep, the private one's name counts.
        let label = token.label(object.key.class, &object.key.id)?;
        Ok(rights.cover(label.as_deref()))
    }

    /// Tells the audit trail what was done.
    fn audit(&mut self, what: std::fmt::Arguments<'_>) {
        let peer = self.peer;
        if let Ok(client) = self.client() {
            audit::done(peer, client, what);
        }
    }

    /// How much the answer to such an item may repeat, in bytes: of what is there already the identifier, which can be as long as a
    /// CKA_ID, and a changed attribute. What is made gets short identifiers.
    fn repeated(&self, offered: &Offered, payload: &Item<'_>) -> usize {
        if offered.operation == Operation::CREATE_KEY_PAIR {
            return 0;
        }
        payload.raw().len().saturating_add(self.placeholder.as_deref().map_or(0, str::len))
    }

    /// What the client sets about with an item that changes something; once it is known who it is.
    fn deed(&mut self, item: &BatchItem<'_>) -> Option<Deed> {
        let operation = item.operation.filter(|operation| changes(*operation) && self.is_proven())?;
        let what = told(operation, item.payload.as_ref().ok(), self.placeholder.as_deref());
        self.client().ok().map(|client| Deed::of(client, what))
    }

    /// The object that the payload names or, where it names none, the ID Placeholder.
    ///
    /// # Errors
    /// Item Not Found.
    fn object(&mut self, token: &Token, named: Option<Item<'_>>, bare: Bare) -> Outcome<Object> {
        let text = match &named {
            Some(item) => item.text()?,
            None => self.placeholder.as_deref().ok_or_else(|| {
                Failure::not_found("no Unique Identifier, and no earlier item of the batch that left one")
            })?,
        };
        let object = Object::find(token, &self.bridge.public_keys(), text, bare)?;
        // What is not the client's is not there, so that it does not learn what others have.
        if self.is_theirs(token, &object)? { Ok(object) } else { Err(ident::no_such_object()) }
    }
}

/// Carries out one item and writes its answer. Returns the failure that was written, if it is one.
pub(super) fn dispatch(context: &mut Context<'_>, item: &BatchItem<'_>, response: &mut Response<'_>) -> Outcome<()> {
    let ready = ready(context, item).and_then(|(offered, payload)| {
        if offered.changes {
            response.room_for_change(item.id, context.repeated(offered, &payload))?;
        }
        Ok((offered, payload))
    });
    let deed = context.deed(item);
    // Should the module not return from it, another thread has to tell.
    if deed.is_some() {
        context.peer.progress.set_about(deed.clone());
    }
    let outcome = response.item(item.operation, item.id, |w| {
        let (offered, payload) = ready?;
        (offered.handle)(context, &payload, w)
    });
    if let Some(deed) = deed {
        context.peer.progress.set_about(None);
        if let Err(failure) = &outcome {
            audit::failed(context.peer, &deed, failure);
        }
    }
    outcome
}

/// Carries out one item that [is independent](is_independent), for [`tell`] to write the answer.
pub(super) fn carry_out(context: &mut Context<'_>, item: &BatchItem<'_>) -> Outcome<Vec<u8>> {
    let (offered, payload) = ready(context, item)?;
    let mut answer = Vec::new();
    (offered.handle)(context, &payload, &mut Writer::new(&mut answer))?;
    Ok(answer)
}

/// Writes the answer to an item that [`carry_out`] came to. Returns the failure that was written, if it is one.
pub(super) fn tell(item: &BatchItem<'_>, outcome: Outcome<Vec<u8>>, response: &mut Response<'_>) -> Outcome<()> {
    response.item(item.operation, item.id, |w| {
        w.append(&outcome?);
        Ok(())
    })
}

/// Whether an operation makes, changes or destroys something.
pub(super) fn changes(operation: Operation) -> bool {
    OPERATIONS.iter().any(|offered| offered.operation == operation && offered.changes)
}

/// Whether it makes no difference when an item is carried out, before others of its kind or after them.
pub(super) fn is_independent(item: &BatchItem<'_>) -> bool {
    OPERATIONS.iter().any(|offered| Some(offered.operation) == item.operation && offered.independent)
}

fn ready<'p>(context: &mut Context<'_>, item: &BatchItem<'p>) -> Outcome<(&'static Offered, Item<'p>)> {
    let payload = item.payload.clone()?;
    let operation = item.operation.ok_or_else(|| Failure::invalid_message("Operation is missing"))?;
    let offered = OPERATIONS.iter().find(|offered| offered.operation == operation && offered.since <= context.version);
    let offered = offered.ok_or_else(|| {
        let message = format!("operation {operation} is not supported in version {}", context.version);
        Failure::new(ResultReason::OPERATION_NOT_SUPPORTED, message)
    })?;
    context.operation = operation;
    if offered.proven {
        context.token()?;
    }
    Ok((offered, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first version of each against the table derived from the specifications, where that is at hand.
    #[test]
    fn operations_are_offered_from_the_version_on_that_has_them() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/kmip/operations.tsv");
        let Ok(table) = std::fs::read_to_string(path) else {
            eprintln!("skipped: no specification tables beside the project");
            return;
        };
        for Offered { operation, since, .. } in OPERATIONS {
            let code = format!("{:08X}", operation.0);
            let mut rows = table.lines().map(|line| line.split('\t').collect::<Vec<_>>());
            let row = rows.find(|row| row[0] == code).unwrap();
            assert_eq!(row[3], since.to_string(), "{operation}");
        }
    }

    #[test]
    fn operations_stand_in_the_order_of_their_numbers() {
        assert!(OPERATIONS.windows(2).all(|pair| pair[0].operation.0 < pair[1].operation.0));
    }
}
