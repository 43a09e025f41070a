//! What the runtime of identities could not do.

use thiserror::Error;
use walytis_core::fault::Fault;
use walytis_core::net::NetworkError;
use walytis_core::node::NodeError;
use walytis_core::store::{SecretError, StoreError};

use super::wire_v1::RefusalCode;

/// Result of an operation of the runtime.
pub type IdentitiesResult<T> = Result<T, IdentitiesError>;

/// The runtime of identities could not do what was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IdentitiesError {
    /// No identity has this name, DID or prefix.
    #[error("no identity \"{text}\" on this node")]
    Unknown {
        /// What was asked for.
        text: String,
    },
    /// Several identities match.
    #[error("\"{text}\" is ambiguous: it begins the names or DIDs of {count} identities")]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// How many match.
        count: usize,
    },
    /// The identity is on this node already.
    #[error("{did} is on this node already")]
    AlreadyHere {
        /// The identity.
        did: crate::id::Did,
    },
    /// The name of a device cannot be one.
    #[error("not a usable device name: {reason}")]
    BadName {
        /// Why.
        reason: &'static str,
    },
    /// This device may not do this, or it cannot be done now.
    #[error("refused: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// The controller is not among those of the identity.
    #[error("{controller} is no controller of this identity")]
    NoController {
        /// Who.
        controller: crate::id::ControllerId,
    },
    /// The invitation text cannot be read.
    #[error("not an invitation: {reason}")]
    BadToken {
        /// Why.
        reason: String,
    },
    /// Joining failed.
    #[error("joining failed: {0}")]
    Join(#[source] JoinError),
    /// Nobody could tell enough about the identity.
    #[error("{did} cannot be resolved: {reason}")]
    Unresolved {
        /// The identity.
        did: crate::id::Did,
        /// Why.
        reason: String,
    },
    /// The signature does not verify.
    #[error("the signature does not verify: {reason}")]
    BadSignature {
        /// Why.
        reason: &'static str,
    },
    /// The sealed message does not open.
    #[error("the sealed message does not open: {reason}")]
    CannotOpen {
        /// Why.
        reason: &'static str,
    },
    /// The key vault is locked.
    #[error("the key vault is locked")]
    Locked,
    /// The runtime has been shut down.
    #[error("the identities of this node are closed")]
    Closed,
    /// A chain could not.
    #[error("the identity's chain failed")]
    Node(#[from] NodeError),
    /// Storage failed, or a stored value is damaged.
    #[error("storage failed")]
    Store(#[from] StoreError),
    /// The storage of secrets failed.
    #[error("the storage of secrets failed")]
    Secret(#[source] SecretError),
    /// The network failed.
    #[error("the network failed")]
    Network(#[from] NetworkError),
    /// A broken invariant.
    #[error("internal error: {reason}")]
    Internal {
        /// What.
        reason: &'static str,
    },
}

impl IdentitiesError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Join(error) => error.fault(),
            Self::Node(error) => error.fault(),
            Self::Store(_) | Self::Secret(_) | Self::Unresolved { .. } => Fault::Local,
            Self::Network(error) => error.fault(),
            Self::Internal { .. } => Fault::Bug,
            _ => Fault::Caller,
        }
    }

    pub(super) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into() }
    }
}

impl From<SecretError> for IdentitiesError {
    fn from(error: SecretError) -> Self {
        match error {
            SecretError::Locked => Self::Locked,
            other => Self::Secret(other),
        }
    }
}

/// Why a join failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The invitation's time has passed.
    #[error("the invitation has expired")]
    Expired,
    /// The invitation has been used as often as it allows.
    #[error("the invitation is used up")]
    UsedUp,
    /// The invitation was taken back.
    #[error("the invitation was revoked")]
    Revoked,
    /// This device was removed from the identity.
    #[error("this device was removed from the identity")]
    Removed,
    /// Whoever was reached may not admit now.
    #[error("the controller that was reached cannot admit anybody now, try another or later")]
    CannotAdmit,
    /// The identity that wants in is the other one, is controlled by it, or has too many levels below.
    #[error(
        "an identity does not control itself, not with others in between, and at most {} levels of identities stand above \
         each other",
        crate::state::LEVELS_MAX
    )]
    Nesting,
    /// Nobody under the invitation's addresses recognised the invitation.
    #[error("nobody reached recognises this invitation")]
    NotRecognised,
    /// None of the invitation's addresses could be reached.
    #[error("nobody can be reached: {reason}")]
    Unreachable {
        /// What each attempt said.
        reason: String,
    },
    /// What came back is not what the invitation names.
    #[error("the controller that was reached sent something else than was asked for: {reason}")]
    Mismatch {
        /// What.
        reason: &'static str,
    },
}

impl JoinError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Mismatch { .. } => Fault::Peer,
            Self::Unreachable { .. } | Self::CannotAdmit => Fault::Local,
            _ => Fault::Caller,
        }
    }

    pub(super) const fn of(code: RefusalCode) -> Self {
        match code {
            RefusalCode::Expired => Self::Expired,
            RefusalCode::UsedUp => Self::UsedUp,
            RefusalCode::Revoked => Self::Revoked,
            RefusalCode::Removed => Self::Removed,
            RefusalCode::CannotAdmit => Self::CannotAdmit,
            RefusalCode::NotRecognised => Self::NotRecognised,
            RefusalCode::Nesting => Self::Nesting,
        }
    }

    /// Says whether another controller might answer otherwise.
    pub(super) const fn is_final(&self) -> bool {
        matches!(self, Self::Expired | Self::UsedUp | Self::Revoked | Self::Removed | Self::Nesting)
    }
}

/// An exchange with a peer failed.
#[derive(Debug, Error)]
pub(super) enum ExchangeError {
    #[error("the stream failed")]
    Stream(#[from] std::io::Error),
    #[error("the peer could not be reached")]
    Network(#[from] NetworkError),
    #[error("a frame is larger than allowed")]
    TooLarge,
    #[error("the peer sent something malformed: {what}")]
    Malformed { what: &'static str },
    #[error("the peer does not know the identity")]
    UnknownIdentity,
    #[error("the peer took too long")]
    TimedOut,
    #[error("the identity is closed")]
    Closed,
}

impl From<tokio::time::error::Elapsed> for ExchangeError {
    fn from(_: tokio::time::error::Elapsed) -> Self {
        Self::TimedOut
    }
}
