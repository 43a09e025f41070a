//! A hostile peer over real libp2p that knows an identity's DID and every id, and is no controller.
//!
//! It speaks the wire formats of `docs/formats/`, keeps no rule, and counts what comes back. Whether it can find
//! anything at all is shown by running it with the node key of a controller: see [`Keys::Of`].
//!
//! ```text
//! command ─► probe ─┬─► catch_up   heads, blocks by id, blobs, pushed blocks
//!                   ├─► authority  what whoever holds the DID may see
//!                   ├─► join       chain and identity, garbage and forged proofs
//!                   ├─► content    off-chain wants and pushes
//!                   └─► gossip     topics that can be derived from the DID
//! ```

mod authority;
mod catch_up;
mod command;
mod content;
mod frame;
mod gossip;
mod haul;
mod join;
mod peer;
mod probe;
mod scan;
mod token;

pub use command::run;
pub use haul::{Findings, Haul, named_envelope};
pub use peer::NoConnection;
pub use probe::{Attempt, Keys, Probe, Target};
pub use scan::{ScanError, scan};
pub use token::forge_token;
