//! Hostile and careless peers do what they do while a well-behaved client signs: it never sees an error, and nothing of theirs
//! is left behind.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod crowds;
mod ends;
mod messages;
mod slow;
mod stage;
#[path = "../support/mod.rs"]
mod support;
