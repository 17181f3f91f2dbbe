//! Discover Versions (KMIP 1.2, section 4.26): needs no credential.
#![forbid(unsafe_code)]

use super::Context;
use crate::kmip::{Outcome, Version, decode_version, read_fields, repeated, same_tag, tag};
use crate::ttlv::{Item, Writer};

pub(super) fn handle(context: &mut Context<'_>, payload: &Item<'_>, w: &mut Writer<'_>) -> Outcome<()> {
    let [first] = read_fields(payload, &[repeated(tag::PROTOCOL_VERSION)], context.stated)?;
    let asked =
        same_tag(payload, tag::PROTOCOL_VERSION).map(|item| decode_version(&item)).collect::<Outcome<Vec<_>>>()?;
    // Ranked as the server likes them; of those that the client lists only the common ones, none if there are none.
    for version in Version::SPOKEN.into_iter().filter(|version| first.is_none() || asked.contains(version)) {
        w.structure(tag::PROTOCOL_VERSION, |w| {
            w.integer(tag::PROTOCOL_VERSION_MAJOR, version.major);
            w.integer(tag::PROTOCOL_VERSION_MINOR, version.minor);
        });
    }
    Ok(())
}
