//! Nothing: this package is there for the modules that its dependencies are.
#![forbid(unsafe_code)]
