//! Identities between whole nodes, over a network in memory.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod hostile;
mod join;
mod remove;
mod rig;
mod speak;
