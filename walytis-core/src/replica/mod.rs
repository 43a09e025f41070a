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
//! - `catch_up`: from whom to fetch next, and what; retries and back-off. `quiet`: when to repeat the heads.
//! - `budget`: what a peer may make this node look up.
//! - `desk`: single parts asked for by name, for repair.
//! - `driver`, `link`, `line`, `post`, `chain`, `answers`, `serve`, `source`, `blobs`, `gossip`: the tasks that own the
//!   machines and do the I/O.

mod answers;
mod blobs;
mod budget;
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
mod post;
mod quiet;
mod serve;
mod source;

pub(crate) use codec_v1::{read_body, write_body};
pub use driver::{CATCH_UP, ChainPeer, Replicator, SyncStatus};

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod returning_tests;
