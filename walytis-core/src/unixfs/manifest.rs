//! The digests of a blob's leaves.

use thiserror::Error;

use super::dag_pb::{self, Child};
use crate::fault::Fault;
use crate::id::{BlobId, Digest};
use crate::limits::{BLOB_LEAF, CONTENT_MAX};

/// First byte of an encoded manifest of this version.
const VERSION: u8 = 0x01;
/// Version and length.
const HEADER_LEN: usize = 9;
const DIGEST_LEN: usize = 32;
const LEAF: u64 = BLOB_LEAF as u64;

/// A manifest is not one, or not the one that was asked for.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ManifestError {
    /// The version is unknown.
    #[error("unknown version of a blob manifest")]
    Version,
    /// The bytes do not decode.
    #[error("malformed blob manifest")]
    Malformed,
    /// The length is 0 or more than `CONTENT_MAX`.
    #[error("a blob has 1 to {CONTENT_MAX} bytes")]
    Length,
    /// There are not as many leaves as the length demands.
    #[error("the number of leaves does not fit the length of the blob")]
    LeafCount,
    /// The manifest describes another blob.
    #[error("the manifest is not that of the blob")]
    OtherBlob,
}

impl ManifestError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        Fault::Peer
    }
}

/// A leaf is not the one its manifest names.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeafError {
    /// The blob has no leaf of this index.
    #[error("the blob has no leaf {index}")]
    Index {
        /// The index.
        index: u32,
    },
    /// The leaf has the wrong length or digest.
    #[error("leaf {index} does not match its manifest")]
    Mismatch {
        /// The index.
        index: u32,
    },
}

impl LeafError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Index { .. } => Fault::Caller,
            Self::Mismatch { .. } => Fault::Peer,
        }
    }
}

/// The length of a blob, 1..=[`CONTENT_MAX`] bytes, and the SHA-256 digests of its leaves: as many as the length
/// demands, each of 1 MiB, the last one of the rest. At most 65,536 leaves, 2 MiB encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobManifest {
    len: u64,
    leaves: Vec<Digest>,
}

impl BlobManifest {
    /// Returns the manifest with these parts.
    ///
    /// # Errors
    /// [`ManifestError::Length`], [`ManifestError::LeafCount`].
    pub fn new(len: u64, leaves: Vec<Digest>) -> Result<Self, ManifestError> {
        if leaf_count(len)? != leaves.len() as u64 {
            return Err(ManifestError::LeafCount);
        }
        Ok(Self { len, leaves })
    }

    /// Returns the largest encoding of a manifest for a blob of `len` bytes: what a frame must hold.
    ///
    /// # Errors
    /// [`ManifestError::Length`].
    pub fn encoded_len(len: u64) -> Result<u64, ManifestError> {
        Ok(HEADER_LEN as u64 + DIGEST_LEN as u64 * leaf_count(len)?)
    }

    /// Encodes it: version byte, length as 8 bytes big-endian, the digests one after the other.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LEN + DIGEST_LEN * self.leaves.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.len.to_be_bytes());
        self.leaves.iter().for_each(|leaf| bytes.extend_from_slice(&leaf.0));
        bytes
    }

    /// Decodes it. There is one encoding per manifest. Allocates no more than the bytes given.
    ///
    /// # Errors
    /// [`ManifestError`], never [`ManifestError::OtherBlob`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let (&version, rest) = bytes.split_first().ok_or(ManifestError::Malformed)?;
        if version != VERSION {
            return Err(ManifestError::Version);
        }
        let (len, rest) = rest.split_first_chunk().ok_or(ManifestError::Malformed)?;
        let (digests, rest) = rest.as_chunks::<DIGEST_LEN>();
        if !rest.is_empty() {
            return Err(ManifestError::Malformed);
        }
        let len = u64::from_be_bytes(*len);
        if leaf_count(len)? != digests.len() as u64 {
            return Err(ManifestError::LeafCount);
        }
        Self::new(len, digests.iter().map(|digest| Digest(*digest)).collect())
    }

    /// Computes the root: the CID that IPFS gives the file.
    ///
    /// # Panics
    /// Never: a manifest has at least one leaf.
    pub fn root(&self) -> BlobId {
        let leaves = self.leaves.iter().zip(0..).map(|(digest, index)| {
            let len = self.leaf_len(index).unwrap_or(0) as u64;
            Child { id: BlobId::Raw(digest.0), content_len: len, dag_len: len }
        });
        #[expect(clippy::expect_used, reason = "a manifest has at least one leaf")]
        dag_pb::root(leaves.collect()).expect("at least one leaf").id
    }

    /// Checks that this is the manifest of blob `root` of `len` bytes, so that its leaves can be trusted.
    ///
    /// # Errors
    /// [`ManifestError::OtherBlob`].
    pub fn verify(&self, root: &BlobId, len: u64) -> Result<(), ManifestError> {
        if self.len == len && self.root() == *root { Ok(()) } else { Err(ManifestError::OtherBlob) }
    }

    /// Returns the bytes of the blob.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Says whether the blob has no bytes: never.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the digests of the leaves.
    pub fn leaves(&self) -> &[Digest] {
        &self.leaves
    }

    /// Returns the bytes of leaf `index`, or nothing if there is none: 1 MiB, for the last one the rest.
    pub fn leaf_len(&self, index: u32) -> Option<usize> {
        let rest = self.len.checked_sub(u64::from(index) * LEAF).filter(|rest| *rest > 0)?;
        usize::try_from(rest.min(LEAF)).ok()
    }

    /// Checks that `bytes` are leaf `index`.
    ///
    /// # Errors
    /// [`LeafError`].
    pub fn check_leaf(&self, index: u32, bytes: &[u8]) -> Result<(), LeafError> {
        let (Some(len), Some(digest)) =
            (self.leaf_len(index), usize::try_from(index).ok().and_then(|index| self.leaves.get(index)))
        else {
            return Err(LeafError::Index { index });
        };
        // The length first: what is too long is not even hashed.
        if bytes.len() == len && Digest::of(bytes) == *digest { Ok(()) } else { Err(LeafError::Mismatch { index }) }
    }
}

const fn leaf_count(len: u64) -> Result<u64, ManifestError> {
    if len == 0 || len > CONTENT_MAX { Err(ManifestError::Length) } else { Ok(len.div_ceil(LEAF)) }
}
