//! Why a file is no export, or not whole.

use thiserror::Error;

use crate::block::RuleViolation;
use crate::fault::Fault;
use crate::id::{BlobId, BlockId, ChainId};
use crate::ledger::LedgerError;
use crate::node::NodeError;

/// An import failed. Nothing of a new chain was kept; of a chain that was here before, what was verified until then.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file could not be read.
    #[error("the file could not be read")]
    Read(#[source] std::io::Error),
    /// It is no export of a chain.
    #[error("this is no export of a chain: {reason}")]
    NotAnExport {
        /// What tells.
        reason: &'static str,
    },
    /// It was written by a newer version.
    #[error("the export has format {found}: use a newer version of walytis")]
    Newer {
        /// What the manifest says.
        found: String,
    },
    /// It ends within a section.
    #[error("the file ends within section {section}: it was cut off")]
    Truncated {
        /// Number of the section, from 1.
        section: u64,
    },
    /// A section is wrong.
    #[error("section {section} at byte {offset} is wrong: {problem}")]
    Section {
        /// Number of the section, from 1.
        section: u64,
        /// Where it begins in the file.
        offset: u64,
        /// What is wrong.
        #[source]
        problem: Problem,
    },
    /// It has fewer parts than its manifest says.
    #[error("the file is not whole: it says {expected} {what} and has {found}")]
    Incomplete {
        /// Blocks or contents.
        what: &'static str,
        /// How many the manifest says.
        expected: u64,
        /// How many there are.
        found: u64,
    },
    /// Its blocks lead to other heads than its header says.
    #[error("the file is not whole: its blocks do not lead to the heads that its header names")]
    Heads,
    /// An identity that is not on this node.
    #[error("{id} is the chain of an identity that is not on this node")]
    Identity {
        /// The chain.
        id: ChainId,
    },
    /// The import was stopped.
    #[error("the import was stopped")]
    Stopped,
    /// The node could not.
    #[error("the chain could not be taken in")]
    Node(#[from] NodeError),
}

/// What is wrong with a section.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum Problem {
    /// Its length is none.
    #[error("its length, {bytes} bytes, is not between 1 and {max}")]
    Length {
        /// Stated length.
        bytes: u64,
        /// Largest length.
        max: u64,
    },
    /// It does not begin with a CID that an export has.
    #[error("it does not begin with a CIDv1 of a block or of a part of a content")]
    Cid,
    /// Its bytes are others.
    #[error("its bytes do not have the digest of its CID")]
    Digest,
    /// Something else stands in this place.
    #[error("{expected} should stand here")]
    Misplaced {
        /// What should stand here.
        expected: &'static str,
    },
    /// A block or content stands there twice.
    #[error("{id} stands there twice")]
    Duplicate {
        /// The block.
        id: BlockId,
    },
    /// A block stands behind one that follows it.
    #[error("block {id} is out of canonical order")]
    Reordered {
        /// The block.
        id: BlockId,
    },
    /// A block breaks a rule.
    #[error("the block breaks a rule")]
    Rule(#[source] RuleViolation),
    /// An ancestor of a block is not in the file before it.
    #[error("block {id} names a parent that is not in the file before it")]
    MissingParent {
        /// The block.
        id: BlockId,
    },
    /// No block names the content.
    #[error("no block of the chain names content {blob}")]
    ExtraContent {
        /// The content.
        blob: BlobId,
    },
    /// The parts of a content do not make it up.
    #[error("the parts of content {blob} do not make it up")]
    Content {
        /// The content.
        blob: BlobId,
    },
}

impl ImportError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Read(_) => Fault::Local,
            Self::Node(error) => error.fault(),
            Self::Stopped | Self::Identity { .. } => Fault::Caller,
            _ => Fault::Peer,
        }
    }
}

impl From<LedgerError> for ImportError {
    fn from(error: LedgerError) -> Self {
        Self::Node(error.into())
    }
}
