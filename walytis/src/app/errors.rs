//! What the errors of the layers mean to a user: kind and hint.

use walytis_core::chain::LookupError;
use walytis_core::join::{JoinError, TokenError};
use walytis_core::net::NetworkError;
use walytis_core::node::{InvitationError, NodeError};
use walytis_core::store::StoreError;
use walytis_identities::node::{IdentitiesError, JoinError as IdentityJoinError};
use walytis_mutability::MutableError;

use super::vault::UNLOCK_HINT;
use crate::failure::{Failure, Kind, causes};

/// A text that is no usable invitation.
pub(super) fn token_failure(error: &TokenError) -> Failure {
    Failure::usage(error, "copy the invitation again, as one argument")
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let hint = match &error {
            StoreError::InUse { .. } => "stop the other process, or give this one another folder with --data-dir",
            StoreError::NewerSchema { .. } => "install the version of walytis that wrote this folder",
            StoreError::Full { .. } => "free some space and try again; nothing of it was written",
            StoreError::Corrupt { .. } | StoreError::Damaged { .. } => {
                "copy the data folder away before anything else; members hold the chains, so a new folder can join again"
            }
            _ => "check the disk, its free space and permissions",
        };
        Self::new(Kind::Failed, causes(&error), hint)
    }
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        let (kind, hint) = match &error {
            NodeError::UnknownChain { .. } => (Kind::NotFound, "see walytis chain list and walytis identity list"),
            NodeError::AmbiguousChain { .. } => (Kind::Usage, "give more of the name or id"),
            NodeError::NameTaken { .. } => (Kind::Usage, "choose another name"),
            NodeError::BadName { .. } => (Kind::Usage, "choose another name"),
            NodeError::AlreadyHere { .. } => (Kind::Refused, "see walytis chain list and walytis identity list"),
            NodeError::Governed { .. } | NodeError::NotGoverned { .. } => {
                (Kind::Refused, "use walytis identity and walytis offchain for identities, walytis chain for chains")
            }
            NodeError::Damaged { .. } => (
                Kind::Failed,
                "try walytis chain repair, with members connected; otherwise delete it with walytis chain delete and join it again",
            ),
            NodeError::Busy { .. } => (Kind::Refused, "wait until it is done, or stop it"),
            NodeError::NoAccess { .. } => {
                (Kind::Refused, "join the chain by an invitation, or import a file with access")
            }
            NodeError::Locked => (Kind::Locked, UNLOCK_HINT),
            NodeError::WrongChain { .. } | NodeError::Genesis(_) => (Kind::Refused, "ask for another invitation"),
            _ => (Kind::Failed, "check the disk, its free space and permissions"),
        };
        match error {
            NodeError::Ledger(error) => error.into(),
            NodeError::Store(error) => error.into(),
            error => Self::new(kind, causes(&error), hint),
        }
    }
}

impl From<LookupError> for Failure {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::Ledger(error) => error.into(),
            LookupError::Unknown { .. } => Self::not_found(&error, "list the blocks with log"),
            LookupError::Ambiguous { .. } => Self::usage(&error, "give more of the id"),
            error => Self::local(&error, ""),
        }
    }
}

impl From<MutableError> for Failure {
    fn from(error: MutableError) -> Self {
        let (kind, hint) = match &error {
            MutableError::Deleted { .. } => (Kind::Refused, "see its versions; restore shows one of them again"),
            MutableError::Fixed { .. } => (Kind::Refused, "only blocks that somebody added can be changed"),
            MutableError::NotAllowed { .. } => (Kind::Refused, "see who may change blocks: rights"),
            MutableError::PolicyNotAllowed => (Kind::Refused, "ask an admin"),
            MutableError::NoVersion { .. } => (Kind::NotFound, "list them with versions"),
            MutableError::NoContent { .. } => (Kind::Refused, "choose another version; list them with versions"),
            _ => (Kind::Failed, ""),
        };
        match error {
            MutableError::Ledger(error) => error.into(),
            error => Self::new(kind, causes(&error), hint),
        }
    }
}

impl From<InvitationError> for Failure {
    fn from(error: InvitationError) -> Self {
        match error {
            InvitationError::Node(error) => error.into(),
            InvitationError::Unknown => Self::not_found(&error, "see walytis chain invites"),
            InvitationError::NotIssuer => Self::new(Kind::Refused, &error, "revoke it where it was issued"),
            error => Self::new(Kind::Refused, &error, "ask for another invitation"),
        }
    }
}

impl From<JoinError> for Failure {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::Node(error) => error.into(),
            JoinError::Unreachable { .. } => Self::new(
                Kind::TimedOut,
                &error,
                "a member must be online and reachable; ask for an invitation with newer addresses",
            ),
            JoinError::Unable => Self::new(Kind::Failed, &error, "try again later"),
            error => Self::new(Kind::Refused, &error, "ask for another invitation"),
        }
    }
}

impl From<NetworkError> for Failure {
    fn from(error: NetworkError) -> Self {
        let (kind, hint) = match &error {
            NetworkError::BadAddress { .. } => (Kind::Usage, "write e.g. /ip4/192.0.2.1/udp/4001/quic-v1/p2p/PEER"),
            NetworkError::Unreachable { .. } => (Kind::TimedOut, "is the other node running and reachable?"),
            NetworkError::Down => (Kind::Failed, "start the daemon: walytis daemon"),
            _ => (Kind::Failed, ""),
        };
        Self::new(kind, causes(&error), hint)
    }
}

impl From<IdentitiesError> for Failure {
    fn from(error: IdentitiesError) -> Self {
        let (kind, hint) = match &error {
            IdentitiesError::Unknown { .. } => (Kind::NotFound, "see walytis identity list"),
            IdentitiesError::NoController { .. } => (Kind::NotFound, "see walytis identity controllers"),
            IdentitiesError::Ambiguous { .. } => (Kind::Usage, "give more of the name or DID"),
            IdentitiesError::BadName { .. } => (Kind::Usage, "choose another name"),
            IdentitiesError::BadToken { .. } => (Kind::Usage, "copy the invitation again, as one argument"),
            IdentitiesError::AlreadyHere { .. } => (Kind::Refused, "see walytis identity list"),
            IdentitiesError::Refused { .. } => (Kind::Refused, ""),
            IdentitiesError::BadSignature { .. } | IdentitiesError::CannotOpen { .. } => (Kind::Refused, ""),
            IdentitiesError::Locked => (Kind::Locked, UNLOCK_HINT),
            IdentitiesError::Unresolved { .. } => (
                Kind::TimedOut,
                "a controller of the identity must be online; connect to one with walytis peers connect",
            ),
            IdentitiesError::Join(error) => join_hint(error),
            _ => (Kind::Failed, "check the disk, its free space and permissions"),
        };
        match error {
            IdentitiesError::Node(error) => error.into(),
            IdentitiesError::Store(error) => error.into(),
            IdentitiesError::Network(error) => error.into(),
            IdentitiesError::Join(error) => Self::new(kind, &error, hint),
            error => Self::new(kind, causes(&error), hint),
        }
    }
}

fn join_hint(error: &IdentityJoinError) -> (Kind, &'static str) {
    match error {
        IdentityJoinError::Unreachable { .. } => {
            (Kind::TimedOut, "a controller must be online and reachable; ask for an invitation with newer addresses")
        }
        IdentityJoinError::Nesting => (Kind::Refused, "see walytis identity memberships and controllers of both"),
        IdentityJoinError::CannotAdmit => (Kind::Failed, "try again later, when another controller is online"),
        _ => (Kind::Refused, "ask for another invitation"),
    }
}
