//! The command `check`: what an operator reads of a set-up that is good, and of those that are not.
//!
//! What it prints for a good set-up is kept in a file for each module, `tests/check/NAME.txt`. Where it has changed, and is meant
//! to, `CHECK_OUTPUT=keep cargo test --test check` writes the file of the module that the tests run on anew; read the difference.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod faults;
mod good;
mod hints;
mod kept;
mod loading;
mod place;
mod rights;
#[path = "../support/mod.rs"]
mod support;
