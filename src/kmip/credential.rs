//! Credentials (KMIP 1.2, section 2.1.2).
#![forbid(unsafe_code)]

use super::fields::{Field, optional, read_fields, repeated, required, same_tag};
use super::{CredentialType, Outcome, Version, tag};
use crate::ttlv::Item;

const AUTHENTICATION: [Field; 1] = [repeated(tag::CREDENTIAL)];
const CREDENTIAL: [Field; 2] = [required(tag::CREDENTIAL_TYPE), required(tag::CREDENTIAL_VALUE)];
const USERNAME_AND_PASSWORD: [Field; 2] = [required(tag::USERNAME), optional(tag::PASSWORD)];

/// A credential. It has no Debug: it holds a password.
pub enum Credential<'a> {
    /// The only kind that this program can judge.
    UsernameAndPassword {
        /// Whose.
        username: &'a str,
        /// Empty if none was sent.
        password: &'a str,
    },
    /// Another kind.
    Other(CredentialType),
}

impl<'a> Credential<'a> {
    /// The credential that can be judged, if there is one among those sent; else the first.
    pub(super) fn decode(authentication: &Item<'a>, version: Version) -> Outcome<Option<Self>> {
        read_fields(authentication, &AUTHENTICATION, version)?;
        let mut chosen = None;
        for item in same_tag(authentication, tag::CREDENTIAL) {
            let [Some(kind), Some(value)] = read_fields(&item, &CREDENTIAL, version)? else { continue };
            let kind = CredentialType(kind.enumeration()?);
            if kind != CredentialType::USERNAME_AND_PASSWORD {
                value.open()?;
                chosen = chosen.or(Some(Self::Other(kind)));
                continue;
            }
            let [username, password] = read_fields(&value, &USERNAME_AND_PASSWORD, version)?;
            let text = |item: Option<Item<'a>>| item.map_or(Ok(""), |item| item.text());
            let found = Self::UsernameAndPassword { username: text(username)?, password: text(password)? };
            if !matches!(chosen, Some(Self::UsernameAndPassword { .. })) {
                chosen = Some(found);
            }
        }
        Ok(chosen)
    }
}
