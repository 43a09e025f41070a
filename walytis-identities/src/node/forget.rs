//! Deleting an identity from this node: what lets a removed device come back as a new one.
//!
//! ```text
//! records gone, deletion noted (one commit) ─► chain gone ─► secrets gone ─► note gone
//! ```
//!
//! Interrupted, it is finished when the runtime opens next, or when the identity is joined again.

use tracing::{info, warn};
use walytis_core::node::Listing;
use walytis_core::store::{Batch, Durability};

use super::error::{IdentitiesError, IdentitiesResult};
use super::runtime::{Entry, Identities};
use super::{records, ring};
use crate::id::Did;

impl Identities {
    /// Deletes an identity from this node, with its chain, authority ops, cards, device keys and epoch secrets. Only a
    /// device that was removed or has left may; then it can join again with a new invitation, as a new device: the old
    /// device id stays removed. A leave that nobody has heard of yet is forgotten with the rest. Close overlays on the
    /// chain first; their own data is theirs to delete.
    ///
    /// # Errors
    /// [`IdentitiesError::Unknown`]; [`IdentitiesError::Refused`] while this device is a controller;
    /// [`IdentitiesError::Locked`]. Storage may fail halfway: then the identity is gone from the list, and the rest
    /// follows when the runtime opens next.
    pub async fn forget(&self, did: &Did) -> IdentitiesResult<()> {
        let _turn = self.inner.turn().await?;
        let shared = self.entry(did)?.handle.shared;
        if shared.my_role().is_some() {
            return Err(IdentitiesError::refused("this device still controls the identity: leave first"));
        }
        // The names of secrets are read through the vault: nothing is begun that could not be finished.
        shared.keys()?;
        // What this node does as that identity elsewhere goes with it, the outermost first.
        for did in self.acting_as(did).iter().rev() {
            self.forget_one(did).await?;
        }
        self.forget_one(did).await
    }

    /// Returns the identities in which this node acts for one, or for one of these, each behind the one it rests on.
    fn acting_as(&self, did: &Did) -> Vec<Did> {
        let here = self.inner.here();
        let mut found = vec![*did];
        let mut at = 0;
        while let Some(below) = found.get(at).copied() {
            let rests = |entry: &&Entry| entry.handle.shared.person.as_ref().is_some_and(|person| person.did == below);
            found.extend(here.values().filter(rests).map(|entry| entry.handle.shared.did));
            at += 1;
        }
        found.split_off(1)
    }

    async fn forget_one(&self, did: &Did) -> IdentitiesResult<()> {
        let entry = self.entry(did)?;
        let shared = &entry.handle.shared;
        self.inner.here().remove(did);
        self.inner.list_changed();
        entry.stop.cancel();
        // Its commands end with the task; from then on nobody writes.
        shared.commands.closed().await;
        let forget = records::forget(&did.chain(), &self.end_bound(&entry.handle).await?);
        self.inner.tools.store.commit(forget, Durability::Flushed).await?;
        shared.wipe();
        self.finish(did).await?;
        info!(?did, "identity deleted from this node");
        Ok(())
    }

    /// Finishes every deletion that was interrupted; one that cannot be finished now is left for later.
    pub(super) async fn finish_forgetting(&self) -> IdentitiesResult<()> {
        for (key, _) in records::all(&*self.inner.tools.store, &records::all_forgetting()).await? {
            let Some(did) = records::chain_of(&key).map(Did) else { continue };
            if let Err(error) = self.finish(&did).await {
                warn!(?did, %error, "a deletion could not be finished yet");
            }
        }
        Ok(())
    }

    /// Finishes the deletion of an identity, if one was begun. Idempotent.
    pub(super) async fn finish(&self, did: &Did) -> IdentitiesResult<()> {
        let tools = &self.inner.tools;
        let chain = did.chain();
        let Some(bound) = tools.store.get(&records::forgetting(&chain)).await? else { return Ok(()) };
        for chain in records::chains_in(&bound).into_iter().chain([chain]) {
            if self.inner.node.chains(Listing::All).iter().any(|entry| entry.id == chain) {
                self.inner.node.delete_chain(&chain).await?;
            }
        }
        for name in tools.secrets.list(&ring::epoch_prefix(did)).await? {
            tools.secrets.delete(&name).await?;
        }
        tools.secrets.delete(&ring::device_name(did)).await?;
        tools.secrets.delete(&ring::receiving_name(did)).await?;
        let mut batch = Batch::new();
        batch.delete(records::forgetting(&chain));
        Ok(tools.store.commit(batch, Durability::Flushed).await?)
    }
}
