//! RNG Retrieve (KMIP 1.2, section 4.35): random bytes of the token.
#![forbid(unsafe_code)]

use super::Context;
use crate::kmip::{Failure, Outcome, read_fields, required, tag};
use crate::ttlv::{Item, Writer};

/// Tokens are slow at random numbers, and a request holds a session while it waits.
const MOST: usize = 64 * 1024;

pub(super) fn handle(context: &mut Context<'_>, payload: &Item<'_>, w: &mut Writer<'_>) -> Outcome<()> {
    let [length] = read_fields(payload, &[required(tag::DATA_LENGTH)], context.stated)?;
    let length = length.map_or(Ok(0), |length| length.integer())?;
    let len = usize::try_from(length).ok().filter(|len| (1..=MOST).contains(len));
    let len = len.ok_or_else(|| Failure::invalid_field(format!("Data Length {length} is not between 1 and {MOST}")))?;
    let token = context.token()?;
    w.byte_string(tag::DATA, &token.random(len)?);
    Ok(())
}
