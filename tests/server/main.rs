//! The server over real sockets and TLS, with a service made of a function.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod harness;
mod hostile;
mod requests;
mod resting;
mod stopping;
mod tls;
mod unauthenticated;
