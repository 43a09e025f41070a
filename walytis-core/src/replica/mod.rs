//! Replication: what makes every block reach every replica that it can reach.
//!
//! ```text
//!   network events, streams ──► driver (links) ──► link, one per peer ──┬─► serve, one per peer and chain
//!                                                                       │      walks, missing blocks, leaves
//!   gossip ─────────────────► chain, one per chain ◄────────────────────┤
//!                              catch_up (pure), quiet (pure)            └─► blobs, one per chain
//! ```
//!
//! - `codec_v1`, `gossip_v1`: what travels; `docs/formats/sync.md` has the byte tables.
//! - `keys`: what is derived from a chain's secrets.
//! - `catch_up`: from whom to fetch next; retries and back-off. `quiet`: when to repeat the heads.
//! - `desk`: single parts asked for by name, for repair.
//! - `driver`, `link`, `line`, `chain`, `serve`, `blobs`, `gossip`: the tasks that own the machines and do the I/O.

mod blobs;
mod catch_up;
mod chain;
mod codec_v1;
mod desk;
mod driver;
mod gossip;
mod gossip_v1;
mod halves;
mod keys;
mod line;
mod link;
mod quiet;
mod serve;

pub(crate) use codec_v1::{read_body, write_body};
pub use driver::{CATCH_UP, ChainPeer, Replicator, SyncStatus};

#[cfg(test)]
mod hostile_tests;
