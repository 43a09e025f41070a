//! The versions of mutable blocks: what an edit, a deletion and a restore say, and what follows from a set of them.
//!
//! A block never changes; an edit is another block that names it. This crate has the format of such blocks, the graph of
//! one block's versions as a pure value, and the judgement of who may change a block. The ledger that applies them to the
//! blocks of another ledger stands above and is not built yet. The rules are numbered in `docs/mutability.md`.
//!
//! ```
//! use walytis_core::id::BlockId;
//! use walytis_mutability::graph::{Right, VersionGraph};
//! use walytis_mutability::op::{Act, Op, Place};
//!
//! let [note, edited, deleted] = [1, 2, 3].map(|byte| BlockId::from_digest([byte; 32]));
//! let op = |act, before| Op { original: note, supersedes: vec![before], act, place: Place::Inline };
//!
//! let mut versions = VersionGraph::new(note, 1);
//! versions.insert(edited, 2, &op(Act::Edit, note), Right::Allowed);
//! assert_eq!(versions.current().content, Some(edited));
//! versions.insert(deleted, 3, &op(Act::Delete, edited), Right::Allowed);
//! assert!(versions.current().is_deleted());
//! assert_eq!(versions.versions(), [note, edited, deleted]);
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`op`] | the format of ops |
//! | [`graph`] | the versions of one block: a pure value |
//! | [`rights`] | who may change which block |
//! | [`limits`] | every bound |

mod codec;
pub mod graph;
pub mod limits;
pub mod op;
pub mod rights;
