//! Making blocks.

use bytes::Bytes;

use super::{Block, ContentRef, Header, Rule, RuleViolation, UnverifiedBlock, codec_v1, signature};
use crate::id::{BlobId, BlockId, ChainId, Digest};
use crate::key::{SignError, Signer};
use crate::limits::BLOCK_FILE_MAX;
use crate::topic::Topic;

/// Content of a block to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DraftContent {
    /// Stands in the block, at most 512 KiB.
    Inline(Bytes),
    /// Stored beside the chain already.
    Blob {
        /// Its root.
        root: BlobId,
        /// Its bytes.
        len: u64,
    },
}

/// Everything of a block but its signature. The writer must keep the rules; what it signs is checked like a peer's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockDraft {
    /// The chain; nothing for genesis.
    pub chain: Option<ChainId>,
    /// Parents, in any order.
    pub parents: Vec<BlockId>,
    /// 1 + the largest parent generation, 0 for genesis.
    pub generation: u64,
    /// Milliseconds since the Unix epoch.
    pub created_at_ms: i64,
    /// Topics.
    pub topics: Vec<Topic>,
    /// Content.
    pub content: DraftContent,
}

impl BlockDraft {
    /// Signs the block and returns it unchecked: the writer runs [`UnverifiedBlock::verify`] like everybody else.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn sign(self, signer: &dyn Signer) -> Result<UnverifiedBlock, SignError> {
        let mut parents = self.parents;
        parents.sort_unstable();
        let (content, inline) = match self.content {
            DraftContent::Inline(bytes) => {
                let len = bytes.len() as u64;
                (ContentRef::Inline { len, digest: Digest::of(&bytes) }, Some(bytes))
            }
            DraftContent::Blob { root, len } => (ContentRef::Blob { root, len }, None),
        };
        let header = Header {
            chain: self.chain,
            parents,
            generation: self.generation,
            creator: signer.public_key(),
            created_at_ms: self.created_at_ms,
            topics: self.topics,
            content,
        };
        let header_bytes = codec_v1::encode_header(&header);
        let signature = signer.sign(&signature::message(&header_bytes))?;
        let file = Bytes::from(codec_v1::encode(&header_bytes, &signature, inline.as_deref()));
        let id = BlockId::of_file(&file);
        Ok(UnverifiedBlock { id, file, header, header_bytes: header_bytes.into(), signature, inline })
    }

    /// Signs a block of one's own and checks it; the signature itself was made here and is not verified again.
    ///
    /// # Errors
    /// [`SignError`]. The outer result is the signer's, the inner one says which rule the draft breaks.
    pub fn sign_checked(self, signer: &dyn Signer) -> Result<Result<Block, RuleViolation>, SignError> {
        let chain = self.chain;
        let unverified = self.sign(signer)?;
        let chain = chain.unwrap_or(ChainId(unverified.id));
        if unverified.file.len() > BLOCK_FILE_MAX {
            return Ok(Err(RuleViolation { rule: Rule::FileSize, block: unverified.id }));
        }
        debug_assert_eq!(UnverifiedBlock::decode(unverified.file.clone()).as_ref(), Ok(&unverified));
        Ok(super::rule::check(&unverified, &chain).map(|()| unverified.into_block()))
    }
}
