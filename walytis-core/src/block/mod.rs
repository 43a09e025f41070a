//! Blocks: immutable signed records. One block is one file; its id is the CID of that file.
//!
//! [`UnverifiedBlock`] is all that can be decoded, [`Block`] is all that can be used; only
//! [`UnverifiedBlock::verify`] turns one into the other. Rules that need the graph (generation, ancestors) are checked
//! where a block is admitted.

mod codec_v1;
mod rule;
mod signature;
mod write;

#[cfg(test)]
mod tests;

pub use codec_v1::{GenesisV1, Visibility};
pub use rule::{Rule, RuleViolation};
pub use write::{BlockDraft, DraftContent};

use bytes::Bytes;

use crate::id::{BlobId, BlockId, ChainId, Digest};
use crate::key::{PublicKey, Signature};
use crate::topic::Topic;

/// What a block says of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContentRef {
    /// The content stands in the block file, 0..=512 KiB.
    Inline {
        /// Bytes.
        len: u64,
        /// SHA-256 of the content.
        digest: Digest,
    },
    /// The content is a UnixFS file of its own.
    Blob {
        /// Its root.
        root: BlobId,
        /// Bytes, at least 1.
        len: u64,
    },
}

impl ContentRef {
    /// Returns the bytes of content.
    pub const fn len(&self) -> u64 {
        match self {
            Self::Inline { len, .. } | Self::Blob { len, .. } => *len,
        }
    }

    /// Says whether there is no content.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The signed part of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The chain; nothing in a genesis block.
    pub chain: Option<ChainId>,
    /// Parents, strictly ascending: none in a genesis block, else 1..=64.
    pub parents: Vec<BlockId>,
    /// 0 for genesis, otherwise 1 + the largest parent generation.
    pub generation: u64,
    /// The key that signed.
    pub creator: PublicKey,
    /// What the creator's clock showed, milliseconds since the Unix epoch. No rule reads it.
    pub created_at_ms: i64,
    /// At most 16, no two the same.
    pub topics: Vec<Topic>,
    /// The content.
    pub content: ContentRef,
}

impl Header {
    /// Encodes the header as it is signed.
    #[cfg(test)]
    pub(crate) fn encode(&self) -> Vec<u8> {
        codec_v1::encode_header(self)
    }

    /// Decodes a header that this node stored.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Rule> {
        codec_v1::decode_header(bytes)
    }
}

/// A block as it was decoded: nothing about it has been checked but its form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedBlock {
    id: BlockId,
    file: Bytes,
    header: Header,
    header_bytes: Bytes,
    signature: Signature,
    inline: Option<Bytes>,
}

/// A block whose every rule that needs no other block holds: form, limits, content digest, signature, chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    id: BlockId,
    file: Bytes,
    header: Header,
    header_bytes: Bytes,
    inline: Option<Bytes>,
}

impl UnverifiedBlock {
    /// Decodes a block file.
    ///
    /// # Errors
    /// [`RuleViolation`] of `V-BLOCK-01` to `V-BLOCK-03`.
    pub fn decode(file: Bytes) -> Result<Self, RuleViolation> {
        codec_v1::decode(file)
    }

    /// Returns the id.
    pub const fn id(&self) -> BlockId {
        self.id
    }

    /// Returns the header, unchecked.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the block file.
    pub const fn file(&self) -> &Bytes {
        &self.file
    }

    /// Checks every rule that needs no other block, the signature last.
    ///
    /// # Errors
    /// [`RuleViolation`] with the first rule broken.
    pub fn verify(self, chain: &ChainId) -> Result<Block, RuleViolation> {
        rule::check(&self, chain)?;
        signature::verify(self.claim()).map_err(|rule| RuleViolation { rule, block: self.id })?;
        Ok(self.into_block())
    }

    /// Checks many blocks like [`Self::verify`], their signatures together: several times faster. The outcomes stand in
    /// the order of `blocks`. `rng` must be unpredictable for whoever made the blocks.
    pub fn verify_all(
        blocks: Vec<Self>,
        chain: &ChainId,
        rng: impl rand_core::CryptoRng,
    ) -> Vec<Result<Block, RuleViolation>> {
        let checked: Vec<_> = blocks.iter().map(|block| rule::check(block, chain)).collect();
        let sound = || blocks.iter().zip(&checked).filter(|(_, checked)| checked.is_ok());
        let claims: Vec<_> = sound().map(|(block, _)| block.claim()).collect();
        let mut signatures = signature::verify_all(&claims, rng).into_iter();
        let outcome = |(block, checked): (Self, Result<(), RuleViolation>)| {
            checked?;
            // One outcome stands there for each sound block; none: not verified.
            let signature = signatures.next().unwrap_or(Err(Rule::Signature));
            signature.map_err(|rule| RuleViolation { rule, block: block.id })?;
            Ok(block.into_block())
        };
        drop(claims);
        blocks.into_iter().zip(checked).map(outcome).collect()
    }

    fn claim(&self) -> signature::Claim<'_> {
        signature::Claim { creator: &self.header.creator, header: &self.header_bytes, signature: &self.signature }
    }

    /// Turns a block that this node verified before it stored it back into a [`Block`]. Private to the crate: bytes
    /// from anywhere else go through [`Self::verify`].
    pub(crate) fn trust_stored(self) -> Block {
        self.into_block()
    }

    fn into_block(self) -> Block {
        let Self { id, file, header, header_bytes, inline, .. } = self;
        Block { id, file, header, header_bytes, inline }
    }
}

impl Block {
    /// Returns the id.
    pub const fn id(&self) -> BlockId {
        self.id
    }

    /// Returns the block file.
    pub const fn file(&self) -> &Bytes {
        &self.file
    }

    /// Returns the header.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the header as it is signed; the index of a chain keeps it in this form too.
    pub(crate) const fn header_bytes(&self) -> &Bytes {
        &self.header_bytes
    }

    /// Returns the content if it stands in the block.
    pub const fn inline(&self) -> Option<&Bytes> {
        self.inline.as_ref()
    }

    /// Returns the id of the chain that the block belongs to.
    pub fn chain(&self) -> ChainId {
        self.header.chain.unwrap_or(ChainId(self.id))
    }
}
