//! Memberships: the identities that an identity is a controller of, kept where only its own readers can read them.
//!
//! They stand as sealed records on the identity's own chain ([`record_v1`]); the latest record about an identity counts, in
//! canonical order ([`list`]). The node follows them ([`follow`]): what is not here is joined, and what is put away or
//! taken up again by one device is so on all.
//!
//! | | archived | left |
//! |---|---|---|
//! | the identity | stays a controller | is one no more |
//! | content | neither fetched, served nor written; what is here stays readable | as far as it is here |
//! | what happens inside the identity | goes on being told above: who was removed loses the group | concerns nobody |

mod follow;
mod list;
mod record_v1;

use walytis_core::chain::Append;
use walytis_core::ledger::{Content, LedgerError};
use walytis_core::topic::Topic;

pub(super) use follow::run;
pub(super) use list::Memberships;
use record_v1::{Entry, NAME_MAX, TOPIC};

use super::error::{IdentitiesError, IdentitiesResult};
use super::handle::IdentityHandle;
use super::runtime::Identities;
use super::shared::{Known, Shared};
use crate::claim::Claim;
use crate::epoch::EpochView;
use crate::id::{ControllerId, Did, EpochId, OpId};
use crate::identity::Identity as _;

/// How an identity stands to one that it is a controller of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MembershipState {
    /// A controller.
    Active,
    /// A controller; put away on all devices.
    Archived,
    /// It has left.
    Left,
    /// It was removed, as far as this node knows.
    Removed,
}

/// One identity that another is a controller of, or was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The identity.
    pub did: Did,
    /// What it is called here; if it is not here yet, where it was joined.
    pub name: String,
    /// How things stand.
    pub state: MembershipState,
    /// Whether this node takes part in it already.
    pub here: bool,
}

impl Identities {
    /// Returns the identities that an identity of this node is a controller of, or was, as its devices have noted, by DID.
    /// Nothing where the notes cannot be read: while the vault is locked, or as a keeper.
    ///
    /// # Errors
    /// [`IdentitiesError::Unknown`].
    pub fn memberships(&self, did: &Did) -> IdentitiesResult<Vec<Membership>> {
        let person = self.entry(did)?.handle.shared;
        let noted = person.memberships().clone();
        let membership = |(did, noted): (Did, list::Noted)| {
            let here = self.entry(&did).ok();
            let shared = here.as_ref().map(|entry| &entry.handle.shared);
            let acting = shared.filter(|shared| shared.person.as_ref().is_some_and(|of| of.did == person.did));
            let removed = acting.is_some_and(|shared| shared.state().role(&shared.controller()).is_none());
            let state = match (noted.left, noted.archived) {
                (Some(_), _) => MembershipState::Left,
                _ if removed => MembershipState::Removed,
                (None, true) => MembershipState::Archived,
                (None, false) => MembershipState::Active,
            };
            let name = here.as_ref().map_or(noted.name, |entry| entry.name.clone());
            Membership { did, name, state, here: here.is_some() }
        };
        Ok(noted.into_iter().map(membership).collect())
    }

    /// Puts an identity away that was joined as another one, on all devices of that one, or takes it up again. The other one
    /// stays a controller; no content is sent, received or written meanwhile, and what is here stays readable. To give up
    /// control, leave.
    ///
    /// # Errors
    /// [`IdentitiesError::Refused`] if the identity was not joined as another one, or was left.
    pub async fn archive(&self, did: &Did, archived: bool) -> IdentitiesResult<()> {
        let person = self.member(did)?;
        let left = person.shared.memberships().get(did).is_some_and(|noted| noted.left.is_some());
        if left {
            return Err(IdentitiesError::refused("the identity was left, there is nothing to put away"));
        }
        note_down(&person, &Entry::Archived { did: *did, archived }).await?;
        if let Ok(entry) = self.entry(did) {
            self.set_archived(&entry.handle.shared, archived).await?;
        }
        Ok(())
    }

    /// Returns the identity of this node that is a controller of another one, which need not be here yet.
    fn member(&self, did: &Did) -> IdentitiesResult<IdentityHandle> {
        let of = match self.entry(did) {
            Ok(entry) => entry.handle.shared.person.as_ref().map(|person| person.did),
            Err(unknown) => {
                let all = self.inner.here();
                let knows = |shared: &Shared| shared.memberships().contains_key(did);
                let found = all.values().find(|entry| knows(&entry.handle.shared)).map(|entry| entry.handle.shared.did);
                Some(found.ok_or(unknown)?)
            }
        };
        let not_joined = "only an identity that was joined as another one is archived; to go, leave";
        let of = of.ok_or_else(|| IdentitiesError::refused(not_joined))?;
        Ok(self.entry(&of)?.handle)
    }

    /// Notes that an identity was joined.
    pub(super) async fn note_joined(&self, did: &Did, person: &IdentityHandle) -> IdentitiesResult<()> {
        note_down(person, &self.joined(did)?).await
    }

    /// Notes that an identity was left.
    pub(super) async fn note_left(&self, did: &Did, leave: OpId, person: &Did) -> IdentitiesResult<()> {
        note_down(&self.entry(person)?.handle, &Entry::Left { did: *did, leave }).await
    }

    fn joined(&self, did: &Did) -> IdentitiesResult<Entry> {
        let name = self.entry(did)?.name;
        let end = name.floor_char_boundary(NAME_MAX);
        let name = name.get(..end).unwrap_or_default().to_owned();
        Ok(Entry::Joined { did: *did, name, peers: self.token_peers(did)? })
    }
}

/// Adds a record to an identity's chain.
async fn note_down(handle: &IdentityHandle, entry: &Entry) -> IdentitiesResult<()> {
    let refused = |error: crate::identity::IdentityError| IdentitiesError::refused(error.to_string());
    let epoch = handle.sending_epoch().await.map_err(refused)?;
    let claim = Claim { author: handle.controller(), auth_heads: handle.auth_heads().await };
    let shared = &handle.shared;
    let key = shared.known().membership_key(&epoch).ok_or(IdentitiesError::Locked)?;
    let body = record_v1::seal(entry, &shared.did, &epoch, &key, &*shared.tools.entropy);
    let content = Content::Bytes([claim.encode(), body].concat().into());
    let append = Append { content, topics: vec![topic()?], signer: handle.device_signer() };
    handle.chain().append_inline(append).await.map_err(chain_failed)?;
    Ok(())
}

impl Known {
    fn membership_key(&self, epoch: &EpochId) -> Option<walytis_core::secret::Secret<32>> {
        EpochView::of(self.graph.op(epoch)?.core())?.membership_key(self.ring.get(epoch)?)
    }
}

impl Shared {
    /// Says whether this identity is a controller of another one, by the state of that one.
    fn stands_in(&self, other: &Self) -> bool {
        other.state().role(&ControllerId::Identity(self.did)).is_some()
    }
}

fn topic() -> IdentitiesResult<Topic> {
    Topic::overlay(TOPIC, "").map_err(|_| IdentitiesError::Internal { reason: "the topic of memberships" })
}

fn chain_failed(error: LedgerError) -> IdentitiesError {
    IdentitiesError::Node(error.into())
}
