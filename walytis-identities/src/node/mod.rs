//! The identities of one node: creating, inviting, joining, removing; signing, sealing, resolving.
//!
//! [`Identities`] is the runtime, one per node. Each identity has one task that owns what changes; sessions, admission
//! and readers see it through the traits [`ChainAccess`](walytis_core::access::ChainAccess),
//! [`AdmissionPolicy`](walytis_core::access::AdmissionPolicy) and [`Identity`](crate::identity::Identity).
//!
//! ```text
//!  Identities ── accepts ─► /walytis/authority/1      ops and cards, before every session and on every change
//!      │                    /walytis/identity/join/1  joiners with an invitation
//!      │                    /walytis/resolve/1        whoever resolves a DID
//!      │                    /walytis/recovery/1       whoever proves the recovery key, about what was written
//!      │                    /walytis/reseal/1         controllers that miss an epoch's secrets
//!      └── per identity: Shared ◄─ task ─► chain (blocks with ops)
//! ```
//!
//! What an outsider who knows the DID gets: the genesis block, the authority ops with their signatures, the public part
//! of device cards. No other block, no content.

mod access;
mod acting;
mod age;
mod author;
mod below_v1;
mod bound;
mod cards;
mod epochs;
mod error;
mod exchange;
mod forget;
mod found;
mod frame;
mod govern;
mod handle;
mod host;
mod info;
mod join;
mod keyring;
mod limiter;
mod members;
mod nested;
mod open;
mod places;
mod records;
mod recover;
mod reseal;
mod resolve;
mod ring;
mod rows;
mod runtime;
mod serve;
mod shared;
mod speak;
mod task;
mod upkeep;
mod wire_v1;

pub use crate::recovery::RecoveryCode;
pub use bound::BoundChain;
pub use epochs::EpochStatus;
pub use error::{IdentitiesError, IdentitiesResult, JoinError};
pub use handle::IdentityHandle;
pub use info::{ControllerInfo, DeviceInfo, IdentityInfo};
pub use members::{Membership, MembershipState};
pub use recover::{RecoverHere, Recovered};
pub use resolve::{AnswerFault, Reached, Resolved, UNASKED_BYTES_MAX};
pub use runtime::{
    Created, Identities, IdentitiesConfig, IdentitiesParts, IdentityTerms, InviteOptions, NewInvite, OpDone,
};
pub use speak::Opened;
