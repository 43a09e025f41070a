//! DID documents: what stands in them, and that they keep to DID Core.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod document;
#[path = "../support/mod.rs"]
mod support;
mod validator;
