//! One chain in the store: admission, queries, subscriptions, content.
//!
//! [`Chain`] is the handle that applications and overlays use (it is a [`Ledger`](crate::ledger::Ledger));
//! [`ChainCore`] is what replication needs of the same chain. One task per chain owns the heads, the pending blocks and
//! the counters; everything else is read from the store, where it is as the last commit left it.
//!
//! ```text
//!  add, append ──► Chain ─┐                                ┌─► admissions() ─► replication
//!                         ├─ commands ─► task ─► one batch ─┤
//!  offer ──► ChainCore ───┘   (bounded)  (heads, pending)   └─► summary() ───► subscriptions
//!     verified before, on all cores
//! ```
//!
//! A block is either *admitted*, *waiting* (its rules hold, its ancestors are known, the policy says "not yet"),
//! *pending* (an ancestor is unknown) or not here. Waiting and pending blocks live in memory only: losing them loses
//! nothing, they are asked for again.

mod admit;
mod author;
mod blob;
mod cache;
mod content;
mod core;
mod damage;
mod fresh;
mod handle;
mod heads;
mod inspect;
mod intake;
mod lookup;
mod place;
mod query;
mod reader;
mod repair;
mod rows;
mod schema;
mod skeletons;
mod stage;
mod subscribe;
mod sums;
mod table;
mod task;
mod verify;
mod write;

pub use blob::{BlobEntry, BlobFetch, ContentProgress};
pub use content::{BlobFetcher, FetchState, FetchTicket};
pub use core::{Admitted, ChainCore, ChainParts, ChainSettings, FetchMode, Node, Offered, Summary, WantedBlob};
pub use handle::{Append, Chain, LookupError};
pub use reader::ContentStream;
pub use repair::{REPORT_NAMES_MAX, RepairProgress, RepairReport};

pub(crate) use author::AuthorSlot;
pub(crate) use core::remove_chain;
pub(crate) use fresh::News;
pub(crate) use handle::ChainOwner;
pub(crate) use inspect::inspect;
pub(crate) use intake::digest as leaf_digest;
pub(crate) use repair::repair_closed;
pub(crate) use rows::OrderedBlock;
pub(crate) use write::{genesis_batch, sign};
