//! Identities between whole nodes, over a network in memory.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod contract;
mod epochs;
mod forget;
mod hostile;
mod join;
mod large;
mod lock;
mod remove;
mod resolve;
mod resolve_lies;
mod rig;
mod speak;
