//! What a node could not do.

use thiserror::Error;

use crate::block::RuleViolation;
use crate::fault::Fault;
use crate::id::ChainId;
use crate::ledger::LedgerError;
use crate::store::{BlobStoreError, SecretError, StoreError};

/// Result of a node's operation.
pub type NodeResult<T> = Result<T, NodeError>;

/// A node could not do what was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NodeError {
    /// No chain has this name, id or prefix.
    #[error("no chain \"{text}\" on this node")]
    UnknownChain {
        /// What was asked for.
        text: String,
    },
    /// Several chains match.
    #[error("\"{text}\" is ambiguous: it begins the names or ids of {count} chains")]
    AmbiguousChain {
        /// What was asked for.
        text: String,
        /// How many match.
        count: usize,
    },
    /// The name is in use.
    #[error("a chain named \"{name}\" exists already")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The name cannot be one.
    #[error("not a usable chain name: {reason}")]
    BadName {
        /// Why.
        reason: &'static str,
    },
    /// The chain is on this node already.
    #[error("chain {id} is on this node already")]
    AlreadyHere {
        /// The chain.
        id: ChainId,
    },
    /// The block is not the genesis block of the chain that was expected.
    #[error("wrong chain: expected {expected}, got {got}")]
    WrongChain {
        /// The chain asked for.
        expected: ChainId,
        /// The chain that came.
        got: ChainId,
    },
    /// A genesis block breaks a rule.
    #[error("the genesis block is not valid")]
    Genesis(#[from] RuleViolation),
    /// The chain is governed by an overlay, which must open it.
    #[error("chain {id} belongs to an overlay and can be opened only by it")]
    Governed {
        /// The chain.
        id: ChainId,
    },
    /// The chain is not governed by an overlay.
    #[error("chain {id} is not governed by an overlay")]
    NotGoverned {
        /// The chain.
        id: ChainId,
    },
    /// The chain is damaged so far that it cannot be opened.
    #[error("chain {id} is damaged: {reason}")]
    Damaged {
        /// The chain.
        id: ChainId,
        /// What was found.
        reason: String,
    },
    /// Something else is being done with the chain.
    #[error("chain {id} is being {what}")]
    Busy {
        /// The chain.
        id: ChainId,
        /// What is being done.
        what: &'static str,
    },
    /// The secret of an invited chain is not here: the chain can be read, and no more.
    #[error("this node has no access to chain {id}: its secret is not here")]
    NoAccess {
        /// The chain.
        id: ChainId,
    },
    /// Keys are needed and the vault is locked.
    #[error("the key vault is locked")]
    Locked,
    /// The node has been shut down.
    #[error("the node is closed")]
    Closed,
    /// The chain could not.
    #[error("the chain failed")]
    Ledger(#[source] LedgerError),
    /// Storage failed.
    #[error("storage failed")]
    Store(#[from] StoreError),
    /// Blob storage failed.
    #[error("blob storage failed")]
    Blob(#[from] BlobStoreError),
    /// The storage of secrets failed.
    #[error("the storage of secrets failed")]
    Secret(#[source] SecretError),
}

impl NodeError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::WrongChain { .. } | Self::Genesis(_) => Fault::Peer,
            Self::Damaged { .. } | Self::Store(_) | Self::Blob(_) | Self::Secret(_) => Fault::Local,
            Self::Ledger(error) => error.fault(),
            _ => Fault::Caller,
        }
    }
}

impl From<LedgerError> for NodeError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Locked => Self::Locked,
            LedgerError::Store(error) => Self::Store(error),
            error => Self::Ledger(error),
        }
    }
}

impl From<SecretError> for NodeError {
    fn from(error: SecretError) -> Self {
        match error {
            SecretError::Locked => Self::Locked,
            error => Self::Secret(error),
        }
    }
}
