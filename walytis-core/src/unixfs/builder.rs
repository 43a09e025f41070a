//! Manifests of content that streams by.

use sha2::{Digest as _, Sha256};

use super::{BlobManifest, ManifestError};
use crate::id::Digest;
use crate::limits::{BLOB_LEAF, CONTENT_MAX};

/// Builds a manifest while content streams by; holds 32 bytes per MiB seen.
#[derive(Clone, Debug, Default)]
pub struct ManifestBuilder {
    leaf: Sha256,
    leaf_len: usize,
    len: u64,
    leaves: Vec<Digest>,
}

impl ManifestBuilder {
    /// Returns a builder that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes, any number.
    ///
    /// # Errors
    /// [`ManifestError::Length`] if the content grows beyond [`CONTENT_MAX`]; then these bytes were not taken.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), ManifestError> {
        let len = self.len.saturating_add(bytes.len() as u64);
        if len > CONTENT_MAX {
            return Err(ManifestError::Length);
        }
        self.len = len;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOB_LEAF - self.leaf_len));
            self.leaf.update(now);
            self.leaf_len += now.len();
            bytes = later;
            if self.leaf_len == BLOB_LEAF {
                self.end_leaf();
            }
        }
        Ok(())
    }

    /// Takes a whole leaf that was hashed elsewhere: 1 MiB, the last one the rest.
    ///
    /// # Errors
    /// [`ManifestError::Length`] if the content grows beyond [`CONTENT_MAX`]; [`ManifestError::LeafCount`] if a leaf was
    /// begun with [`Self::push`], was shorter than 1 MiB, or this one is empty or longer. Then it was not taken.
    pub fn leaf(&mut self, digest: Digest, len: usize) -> Result<(), ManifestError> {
        if self.leaf_len > 0 || len == 0 || len > BLOB_LEAF || !self.len.is_multiple_of(BLOB_LEAF as u64) {
            return Err(ManifestError::LeafCount);
        }
        let whole = self.len.saturating_add(len as u64);
        if whole > CONTENT_MAX {
            return Err(ManifestError::Length);
        }
        self.len = whole;
        self.leaves.push(digest);
        Ok(())
    }

    /// Returns the bytes taken so far.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Says whether nothing was taken so far.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the manifest of all that was taken.
    ///
    /// # Errors
    /// [`ManifestError::Length`] if that was nothing.
    pub fn finish(mut self) -> Result<BlobManifest, ManifestError> {
        if self.leaf_len > 0 {
            self.end_leaf();
        }
        BlobManifest::new(self.len, self.leaves)
    }

    fn end_leaf(&mut self) {
        self.leaves.push(Digest(std::mem::take(&mut self.leaf).finalize().into()));
        self.leaf_len = 0;
    }
}
