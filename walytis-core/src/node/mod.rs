//! A node: the chains of one data folder, their names, invitations and the author key.
//!
//! [`Node`] opens every chain it can; one that is damaged, or whose secret the locked vault keeps back, is listed with
//! the reason and harms no other. Chains that an overlay governs wait until the overlay opens them
//! ([`Node::open_governed`]).
//!
//! Everything a node keeps of a chain beside the chain itself stands under
//! [`Space::Node`](crate::store::keys::Space::Node); see `docs/formats/core.md`.

mod error;
mod governed;
mod inspect;
mod invitation;
mod invitation_v1;
mod join_record;
mod lifecycle;
mod names;
mod opening;
mod records;
mod repairing;
mod shared;
mod transfer;

pub use error::{NodeError, NodeResult};
pub use governed::{Governance, GovernedGenesis};
pub use inspect::{ChainCheck, inspect_chains};
pub(crate) use join_record::JoinRecord;
pub use names::check_name;

pub use invitation::{Honoured, InvitationError, InvitationRecord, InviteOptions, NewInvitation};
pub use lifecycle::{
    ChainEntry, ChainState, GenesisImport, INVITATION_USES_MAX, Listing, Node, NodeConfig, NodeParts, Replication,
};
pub use transfer::{ImportRequest, Imported};
