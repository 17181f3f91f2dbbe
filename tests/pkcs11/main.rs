//! The PKCS#11 layer on a real token.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod bench;
mod kept;
mod keys;
mod load;
mod login;
mod making;
mod midway;
mod objects;
mod one_session;
mod opening;
mod quirks;
mod renaming;
mod renewal;
mod repair;
mod searching;
mod sessions;
#[path = "../support/mod.rs"]
mod support;
mod watching;

#[test]
fn makes_keys_where_it_is_told_to() {
    support::others::maker();
}
