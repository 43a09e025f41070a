//! Peers that speak the wire formats and keep no rule.
//!
//! Written from `docs/formats/`, not with the code under test: labels, derivations and encodings stand here a second
//! time, so that a change of the wire that is no new version fails a test.

#[cfg(feature = "identities")]
pub mod authority;
mod files;
#[cfg(feature = "identities")]
pub mod joiner;
#[cfg(feature = "identities")]
mod known;
#[cfg(feature = "offchain")]
mod old_keys;
#[cfg(feature = "offchain")]
mod opened;
mod peer;
pub(crate) mod wire;

pub use files::{HostileFile, hostile_files};
#[cfg(feature = "identities")]
pub use known::Known;
#[cfg(feature = "offchain")]
pub use old_keys::OldKeys;
#[cfg(feature = "offchain")]
pub use opened::opened_by;
pub use peer::{HostilePeer, Session};
pub use wire::{Frame, Gossip, Hello, Message, ShortId};
