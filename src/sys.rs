//! The system calls that std does not offer. All `unsafe` of this program is in this file.
#![allow(unsafe_code)]
