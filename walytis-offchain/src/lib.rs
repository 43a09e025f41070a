//! Private blocks: metadata on the chain, content encrypted at each authorised peer.
//!
//! The content of a private block stands encrypted at each authorised peer and travels only between them; the chain carries a record
//! that it exists, who wrote it and under which authority. The authorised peers are the controllers of one identity.
//!
//! ```
//! use std::sync::Arc;
//!
//! use tokio::io::AsyncReadExt as _;
//! use walytis_core::block::Visibility;
//! use walytis_core::clock::{SeededEntropy, SystemClock};
//! use walytis_core::id::PeerId;
//! use walytis_core::ledger::{Ledger as _, LedgerControl as _, LedgerRead as _, NewBlock};
//! use walytis_core::node::{Node, NodeConfig, NodeParts};
//! use walytis_core::store::{MemoryBlobs, MemorySecrets, MemoryStore};
//! use walytis_core::topic::Topic;
//! use walytis_identities::id::{Did, Role};
//! use walytis_identities::identity::MemoryGroup;
//! use walytis_offchain::{PrivateLedger, PrivateParts};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let (store, blobs) = (Arc::new(MemoryStore::new()), Arc::new(MemoryBlobs::new()));
//! let entropy = Arc::new(SeededEntropy::new(1)); // a program takes the operating system's
//! let node = Node::open(NodeParts {
//!     store: store.clone(),
//!     blobs: blobs.clone(),
//!     secrets: Arc::new(MemorySecrets::new()),
//!     replication: None,
//!     clock: Arc::new(SystemClock),
//!     entropy: entropy.clone(),
//!     config: NodeConfig::default(),
//! })
//! .await?;
//! let chain = node.create_chain("team", Visibility::Invited).await?;
//!
//! // A program takes an identity of walytis-identities.
//! let group = MemoryGroup::new(Did(chain.id()));
//! let me = group.admit([1; 32], PeerId::from_bytes(&[1; 38]).ok_or("a peer id")?, Role::Admin);
//!
//! let notes = PrivateLedger::open(PrivateParts {
//!     identity: Arc::new(me),
//!     chain,
//!     layer: "notes".to_owned(),
//!     store,
//!     blobs,
//!     exchange: None, // an OffchainExchange, started once per node, moves contents between peers
//!     clock: Arc::new(SystemClock),
//!     entropy,
//! })
//! .await?;
//! let added = notes.add(NewBlock { content: "for us alone".into(), topics: vec![Topic::user("plan")?] }).await?;
//!
//! let mut text = String::new();
//! notes.content(&added.id).await?.read_to_string(&mut text).await?;
//! assert_eq!(text, "for us alone");
//! notes.shutdown().await;
//! node.shutdown().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod checkpoint;
pub mod context;
pub mod envelope;
mod exchange;
mod forget;
pub mod hybrid;
pub mod inbox;
mod ledger;
pub mod padding;
pub mod record;

pub use exchange::{ExchangeConfig, ExchangeStatus, OFFCHAIN, OffchainExchange};
pub use forget::{Consent, FORGET_BLOCKS_MAX, ForgetRule, REASON_MAX};
pub use ledger::{
    Authorship, BlockStatus, ContentState, LAYER_MAX, PrivateLedger, PrivateParts, Progress, Proposal, ProposalState,
    UnopenedRecord,
};
