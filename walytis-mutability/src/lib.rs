//! Mutable blocks over any ledger: edit, delete and restore, with full history.
//!
//! A block never changes; an edit is another block that names it. [`MutableLedger`] wraps any
//! [`Ledger`](walytis_core::ledger::Ledger) and shows each block as it stands now. Every replica that holds the same
//! blocks shows the same; edits made apart stand beside each other until the next edit merges them. The rules are
//! numbered in `docs/mutability.md`.
//!
//! ```
//! use std::sync::Arc;
//!
//! use tokio::io::AsyncReadExt as _;
//! use walytis_core::block::Visibility;
//! use walytis_core::clock::{SeededEntropy, SystemClock};
//! use walytis_core::ledger::{Ledger as _, LedgerControl as _, LedgerRead as _, NewBlock};
//! use walytis_core::node::{Node, NodeConfig, NodeParts};
//! use walytis_core::store::{MemoryBlobs, MemorySecrets, MemoryStore};
//! use walytis_mutability::rights::PolicyRights;
//! use walytis_mutability::{MutableLedger, MutableParts};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let store = Arc::new(MemoryStore::new());
//! let node = Node::open(NodeParts {
//!     store: store.clone(),
//!     blobs: Arc::new(MemoryBlobs::new()),
//!     secrets: Arc::new(MemorySecrets::new()),
//!     replication: None, // no network
//!     clock: Arc::new(SystemClock),
//!     entropy: Arc::new(SeededEntropy::new(1)), // a program takes the operating system's
//!     config: NodeConfig::default(),
//! })
//! .await?;
//! let below = Arc::new(node.create_chain("notes", Visibility::Invited).await?);
//! let rights = Arc::new(PolicyRights::author());
//! let notes = MutableLedger::open(MutableParts { below, name: String::new(), rights, store }).await?;
//!
//! let note = notes.add(NewBlock { content: "buy milk".into(), topics: vec![] }).await?;
//! notes.edit(&note.id, "buy bread".into(), None).await?;
//! let mut text = String::new();
//! notes.content(&note.id).await?.read_to_string(&mut text).await?;
//! assert_eq!(text, "buy bread");
//!
//! notes.delete_block(&note.id).await?;
//! assert_eq!(notes.get(&note.id).await?, None);
//! assert_eq!(notes.versions(&note.id).await?.len(), 3);
//! notes.restore(&note.id, &note.id).await?; // the first version, by the block's own id
//! notes.shutdown().await;
//! node.shutdown().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`op`] | the format of ops |
//! | [`graph`] | the versions of one block: a pure value |
//! | [`rights`] | who may change which block |
//! | [`event`] | what subscribers are told |
//! | [`limits`] | every bound |

mod codec;
mod error;
pub mod event;
pub mod graph;
mod ledger;
pub mod limits;
pub mod op;
pub mod rights;
mod table;

pub use error::MutableError;
pub use ledger::{Current, CurrentPage, Erased, MutableLedger, MutableParts, Version, remove_index};
