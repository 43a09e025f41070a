//! Identities in identities: what one has joined, putting that away.

use walytis_identities::id::Did;
use walytis_identities::node::{Membership, MembershipState};

use super::App;
use super::chains::only;
use crate::failure::Failure;
use crate::view;

impl App {
    /// Lists what an identity has joined.
    ///
    /// # Errors
    /// [`Failure`].
    #[expect(clippy::unused_async, reason = "every operation of the node is called the same way")]
    pub async fn identity_memberships(&self, text: &str) -> Result<Vec<view::Membership>, Failure> {
        // Where the list cannot be read it would look as if there were nothing.
        if self.vault.is_locked() {
            return Err(walytis_identities::node::IdentitiesError::Locked.into());
        }
        Ok(self.identities.memberships(&self.identities.find(text)?)?.iter().map(membership).collect())
    }

    /// Puts away an identity that was joined as another one, or takes it up again.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn identity_archive(&self, text: &str, archived: bool) -> Result<view::Membership, Failure> {
        let did = match self.identities.find(text) {
            Ok(did) => did,
            // It may not be here yet.
            Err(unknown) => self.joined(text)?.ok_or(unknown)?,
        };
        self.identities.archive(&did, archived).await?;
        let found = self.joined_all().into_iter().find(|one| one.did == did);
        let name = found.as_ref().map_or_else(|| did.to_string(), |one| one.name.clone());
        let state = if archived { MembershipState::Archived } else { MembershipState::Active };
        let here = self.identities.identity(&did).is_ok();
        Ok(membership(&Membership { did, name, state, here }))
    }

    fn joined(&self, text: &str) -> Result<Option<Did>, Failure> {
        let all = self.joined_all();
        let means = |one: &&Membership| {
            let (did, id) = (one.did.to_string(), one.did.chain().to_string());
            one.name == text || (!text.is_empty() && (did.starts_with(text) || id.starts_with(text)))
        };
        let mut found: Vec<Did> = all.iter().filter(means).map(|one| one.did).collect();
        found.dedup();
        if found.is_empty() {
            return Ok(None);
        }
        let found: Vec<&Did> = found.iter().collect();
        only(&found, "membership", text).copied().map(Some)
    }

    /// Memberships of all identities of this node, by DID.
    fn joined_all(&self) -> Vec<Membership> {
        let of = |did: &Did| self.identities.memberships(did).unwrap_or_default();
        let mut all: Vec<Membership> = self.identities.list().iter().flat_map(|info| of(&info.did)).collect();
        all.sort_by_key(|one| one.did);
        all
    }
}

fn membership(one: &Membership) -> view::Membership {
    let state = match one.state {
        MembershipState::Active => "active",
        MembershipState::Archived => "archived",
        MembershipState::Left => "left",
        MembershipState::Removed => "removed",
        _ => "unknown",
    };
    view::Membership { did: one.did.to_string(), name: one.name.clone(), state: state.into(), here: one.here }
}
