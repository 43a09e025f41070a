//! The nonlinear blockchain: a graph of signed blocks, synced between peers, offline-first.
//!
//! ```
//! use std::sync::Arc;
//!
//! use futures::StreamExt as _;
//! use walytis_core::block::Visibility;
//! use walytis_core::clock::{SeededEntropy, SystemClock};
//! use walytis_core::ledger::{Ledger as _, LedgerRead as _, NewBlock, Query};
//! use walytis_core::node::{Node, NodeConfig, NodeParts};
//! use walytis_core::store::{MemoryBlobs, MemorySecrets, MemoryStore};
//! use walytis_core::topic::Topic;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let node = Node::open(NodeParts {
//!     store: Arc::new(MemoryStore::new()),
//!     blobs: Arc::new(MemoryBlobs::new()),
//!     secrets: Arc::new(MemorySecrets::new()),
//!     replication: None, // no network
//!     clock: Arc::new(SystemClock),
//!     entropy: Arc::new(SeededEntropy::new(1)), // a program takes the operating system's
//!     config: NodeConfig::default(),
//! })
//! .await?;
//!
//! let notes = node.create_chain("notes", Visibility::Invited).await?;
//! let added = notes.add(NewBlock { content: "buy milk".into(), topics: vec![Topic::user("todo")?] }).await?;
//!
//! let query = Query { topics_any: vec![Topic::user("todo")?], ..Query::default() };
//! let found: Vec<_> = notes.query(query).await?.collect().await;
//! assert_eq!(found.len(), 1);
//! assert_eq!(found[0].as_ref().map(|info| info.id).ok(), Some(added.id));
//! node.shutdown().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | module | what |
//! |---|---|
//! | `block`, `graph`, `unixfs` | formats and pure decisions: blocks, their rules, the block graph, blobs |
//! | `store` | where data stands: ordered keys, large content, secrets |
//! | `chain` | one chain: admission, queries, subscriptions, content |
//! | `node` | the chains of one data folder, their names and invitations |
//! | `net` | what is needed of a network, and one in memory |
//! | `ledger`, `access` | the interfaces that overlays build on and bring |
//!
//! Features: `rocksdb` (off by default) adds the RocksDB store.

pub mod access;
pub mod block;
pub mod carrier;
pub mod chain;
pub mod clock;
pub mod fault;
pub mod graph;
pub mod id;
pub mod join;
pub mod key;
pub mod ledger;
pub mod limits;
pub mod net;
pub mod node;
mod reconcile;
pub mod replica;
pub mod secret;
pub mod store;
#[cfg(test)]
mod testing;
pub mod topic;
pub mod unixfs;
