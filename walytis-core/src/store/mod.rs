//! Where a node keeps its data: three small traits and their implementations.
//!
//! - [`KvStore`]: ordered keys, atomic batches. All layers share one per node, under the prefixes of [`keys`].
//! - [`BlobStore`]: large content, chunk by chunk, resumable.
//! - [`SecretStore`]: chain secrets, invitation seeds, the author key.

mod blob;
mod kv;
mod secret;

pub mod keys;

pub use blob::{BlobKey, BlobSpace, BlobStatus, BlobStore, BlobStoreError};
pub use kv::{Batch, Direction, Durability, KeyRange, KvStore, StoreError, Write};
pub use secret::{SecretError, SecretStore};
