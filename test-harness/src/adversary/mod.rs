//! Peers that speak the wire formats and keep no rule.
//!
//! Written from `docs/formats/`, not with the code under test: labels, derivations and encodings stand here a second
//! time, so that a change of the wire that is no new version fails a test.

#[cfg(feature = "identities")]
pub mod authority;
mod files;
#[cfg(feature = "offchain")]
mod old_keys;
mod peer;
pub(crate) mod wire;

pub use files::{HostileFile, hostile_files};
#[cfg(feature = "offchain")]
pub use old_keys::{OldKeys, graph, opened_by, set_of};
pub use peer::{HostilePeer, Session};
pub use wire::{Frame, Gossip, Hello, Message, ShortId};
