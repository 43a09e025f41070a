//! Large content in verified chunks.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use thiserror::Error;

use crate::fault::Fault;

/// A blob store failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BlobStoreError {
    /// The disk failed.
    #[error("blob storage failed: {reason}")]
    Io {
        /// What the operating system says.
        reason: String,
    },
    /// The disk has no room for it. Nothing of what was asked for is left behind.
    #[error("the disk is full: {reason}")]
    Full {
        /// What there was no room for.
        reason: String,
    },
    /// A chunk has the wrong index or length for its blob, or the blob was begun with another length.
    #[error("chunk does not fit its blob: {reason}")]
    Misfit {
        /// What does not fit.
        reason: &'static str,
    },
    /// The bytes asked for are not here.
    #[error("the bytes asked for are not stored here")]
    Missing,
}

impl BlobStoreError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Io { .. } | Self::Full { .. } => Fault::Local,
            Self::Misfit { .. } | Self::Missing => Fault::Caller,
        }
    }
}

/// What kind of large object it is; kinds never collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlobSpace {
    /// A blob of a chain, named by its UnixFS root digest.
    Blob,
    /// An off-chain envelope, named by its digest.
    Envelope,
}

/// The name of a large object: its kind, the chain it belongs to and its digest. The same bytes on two chains are
/// stored twice, so that deleting one chain never takes another's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobKey {
    /// Kind.
    pub space: BlobSpace,
    /// The chain.
    pub chain: crate::id::ChainId,
    /// Digest that commits to the whole object.
    pub digest: [u8; 32],
}

/// What is stored of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobStatus {
    /// Nothing.
    Absent,
    /// Some chunks.
    Partial {
        /// Length of the whole object in bytes.
        len: u64,
        /// Bytes per chunk; the last may be shorter.
        chunk: u32,
        /// One flag per chunk: stored and flushed.
        have: Vec<bool>,
    },
    /// Everything.
    Complete {
        /// Length in bytes.
        len: u64,
    },
}

/// Stores large objects chunk by chunk. The caller verifies a chunk before it writes it; a chunk that `write` has
/// acknowledged survives kill -9 and a power cut.
#[async_trait]
pub trait BlobStore: Send + Sync + fmt::Debug {
    /// Begins an object of `len` bytes (at least 1) in chunks of `chunk` bytes (1..=
    /// [`BLOB_CHUNK_MAX`](crate::limits::BLOB_CHUNK_MAX)), or resumes it; idempotent. Space is reserved, so that a full
    /// disk shows here.
    ///
    /// # Errors
    /// [`BlobStoreError::Misfit`] if it was begun with other sizes or the sizes are out of bounds,
    /// [`BlobStoreError::Full`], [`BlobStoreError::Io`].
    async fn begin(&self, key: BlobKey, len: u64, chunk: u32) -> Result<BlobStatus, BlobStoreError>;

    /// As [`Self::begin`], but space is taken as chunks come: for objects of which only a part may ever be wanted. A later
    /// [`Self::begin`] reserves the rest. By default the same as `begin`.
    ///
    /// # Errors
    /// As [`Self::begin`].
    async fn begin_sparse(&self, key: BlobKey, len: u64, chunk: u32) -> Result<BlobStatus, BlobStoreError> {
        self.begin(key, len, chunk).await
    }

    /// Begins an object whose length and name are known only at its end. It is no object yet: nothing lists it, and it is
    /// gone when its handle is dropped, at the latest when the store is opened again.
    ///
    /// # Errors
    /// [`BlobStoreError::Full`], [`BlobStoreError::Io`].
    async fn draft(&self) -> Result<Box<dyn BlobDraft>, BlobStoreError>;

    /// Writes chunk `index`, whose length must be exactly what its place demands. Idempotent: a chunk that is there
    /// stays as it is. When the last chunk is written the object becomes complete; from then on it has a length but no
    /// chunks, and further writes change nothing.
    ///
    /// # Errors
    /// [`BlobStoreError::Misfit`], [`BlobStoreError::Missing`] if it was not begun, [`BlobStoreError::Io`].
    async fn write(&self, key: BlobKey, index: u32, bytes: Bytes) -> Result<BlobStatus, BlobStoreError>;

    /// Returns what is stored of the object.
    ///
    /// # Errors
    /// [`BlobStoreError::Io`].
    async fn status(&self, key: BlobKey) -> Result<BlobStatus, BlobStoreError>;

    /// Returns `len` bytes from `offset`, fewer only at the end of the object, none behind it. `len` is at most
    /// [`BLOB_CHUNK_MAX`](crate::limits::BLOB_CHUNK_MAX).
    ///
    /// # Errors
    /// [`BlobStoreError::Missing`] if the object is unknown or any of the bytes lies in a chunk that is not stored,
    /// [`BlobStoreError::Misfit`] if `len` is too large, [`BlobStoreError::Io`].
    async fn read(&self, key: BlobKey, offset: u64, len: usize) -> Result<Bytes, BlobStoreError>;

    /// Removes the object, complete or not. Idempotent.
    ///
    /// # Errors
    /// [`BlobStoreError::Io`].
    async fn delete(&self, key: BlobKey) -> Result<(), BlobStoreError>;

    /// Returns the names of all objects of one kind and chain, in order.
    ///
    /// # Errors
    /// [`BlobStoreError::Io`].
    async fn list(&self, space: BlobSpace, chain: crate::id::ChainId) -> Result<Vec<BlobKey>, BlobStoreError>;

    /// Returns the bytes taken.
    ///
    /// # Errors
    /// [`BlobStoreError::Io`].
    async fn size_bytes(&self) -> Result<u64, BlobStoreError>;

    /// Returns the bytes that there is room for now, or nothing where that cannot be told (by default).
    ///
    /// # Errors
    /// [`BlobStoreError::Io`].
    async fn room_bytes(&self) -> Result<Option<u64>, BlobStoreError> {
        Ok(None)
    }
}

/// An object on its way into a [`BlobStore`]. Dropped, it leaves nothing behind.
#[async_trait]
pub trait BlobDraft: Send + fmt::Debug {
    /// Adds bytes at the end, at most [`BLOB_CHUNK_MAX`](crate::limits::BLOB_CHUNK_MAX); they are not flushed yet.
    /// Not cancel-safe: dropped half-way, the draft is of no more use.
    ///
    /// # Errors
    /// [`BlobStoreError::Misfit`] if they are too many, [`BlobStoreError::Full`], [`BlobStoreError::Io`].
    async fn append(&mut self, bytes: Bytes) -> Result<(), BlobStoreError>;

    /// Flushes everything and makes it the complete object `key`, in place of whatever part of that is here. An object
    /// that is complete already stays as it is.
    ///
    /// # Errors
    /// [`BlobStoreError::Misfit`] if nothing was added, [`BlobStoreError::Full`], [`BlobStoreError::Io`]; then the draft
    /// is gone and the object as it was.
    async fn finish(self: Box<Self>, key: BlobKey) -> Result<(), BlobStoreError>;
}
