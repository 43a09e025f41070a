//! Why a block could not be changed.

use thiserror::Error;
use walytis_core::fault::Fault;
use walytis_core::id::BlockId;
use walytis_core::ledger::LedgerError;

/// A block could not be changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MutableError {
    /// The block is deleted.
    #[error("block {id} is deleted")]
    Deleted {
        /// The block.
        id: BlockId,
    },
    /// The block cannot be changed by anybody: it is a chain's first block, or belongs to another overlay.
    #[error("block {id} cannot be changed: it belongs to the ledger itself")]
    Fixed {
        /// The block.
        id: BlockId,
    },
    /// The author of this node may not change the block.
    #[error("only its author may {what} block {id}")]
    NotAllowed {
        /// The block.
        id: BlockId,
        /// `edit`, `delete` or `restore`.
        what: &'static str,
    },
    /// The author of this node may not say who changes blocks.
    #[error("only an admin may say who changes the blocks of this ledger")]
    PolicyNotAllowed,
    /// The block has no such version.
    #[error("block {id} has no version {version}")]
    NoVersion {
        /// The block.
        id: BlockId,
        /// What was asked for.
        version: BlockId,
    },
    /// The version is a deletion: it has no content.
    #[error("version {version} deleted the block: it has no content")]
    NoContent {
        /// The version.
        version: BlockId,
    },
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl MutableError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Ledger(error) => error.fault(),
            _ => Fault::Caller,
        }
    }
}

impl From<walytis_core::store::StoreError> for MutableError {
    fn from(error: walytis_core::store::StoreError) -> Self {
        Self::Ledger(error.into())
    }
}
