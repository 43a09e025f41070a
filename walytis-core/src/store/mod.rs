//! Where a node keeps its data: three small traits and their implementations.
//!
//! - [`KvStore`]: ordered keys, atomic batches. All layers share one per node, under the prefixes of [`keys`].
//! - [`BlobStore`]: large content, chunk by chunk, resumable.
//! - [`SecretStore`]: chain secrets, invitation seeds, the author key.

mod blob;
mod chunks;
mod files;
mod folder;
pub mod join;
mod kv;
mod memory_blob;
mod memory_kv;
mod memory_secret;
#[cfg(feature = "rocksdb")]
mod rocks;
mod schema;
mod secret;

pub mod keys;

pub use blob::{BlobDraft, BlobKey, BlobSpace, BlobStatus, BlobStore, BlobStoreError};
pub use files::FileBlobs;
pub use kv::{Batch, Direction, Durability, KeyRange, KvStore, StoreError, Write};
pub use memory_blob::MemoryBlobs;
pub use memory_kv::MemoryStore;
pub use memory_secret::MemorySecrets;
#[cfg(feature = "rocksdb")]
pub use rocks::RocksStore;
pub use schema::{SCHEMA_VERSION, open_schema};
pub use secret::{SECRET_BYTES_MAX, SECRET_NAME_MAX, SecretError, SecretStore, check_secret, check_secret_name};
