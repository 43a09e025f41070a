//! What admins decide beside who controls the identity: roles, the document, its end; and the renewal of a device's own
//! signing keys.

use std::sync::Arc;

use tokio::sync::oneshot;
use tracing::info;
use walytis_core::key::Signer;

use super::author::Draft;
use super::error::{IdentitiesError, IdentitiesResult};
use super::ring;
use super::runtime::{Identities, OpDone};
use super::task::{Command, Task};
use crate::id::{ControllerId, Did, Role};
use crate::state::Builder;

impl Identities {
    /// Changes a controller's role. A demotion below member says what of its writing still counts: what this node has
    /// admitted. New keys follow where somebody reads no more, or reads again.
    ///
    /// # Errors
    /// [`IdentitiesError::NoController`], [`IdentitiesError::Refused`].
    pub async fn set_role(&self, did: &Did, controller: ControllerId, role: Role) -> IdentitiesResult<OpDone> {
        self.publish(did, Draft::SetRole { controller, role }).await
    }

    /// Replaces the services of the DID document: (id, type, endpoint), at most 32 of at most 512 bytes each.
    ///
    /// # Errors
    /// [`IdentitiesError::Refused`].
    pub async fn set_services(&self, did: &Did, services: Vec<(String, String, String)>) -> IdentitiesResult<OpDone> {
        self.publish(did, Draft::Document { services }).await
    }

    /// Ends the identity: nobody acts in its name any more, unless it is recovered.
    ///
    /// # Errors
    /// [`IdentitiesError::Refused`].
    pub async fn deactivate(&self, did: &Did) -> IdentitiesResult<OpDone> {
        self.publish(did, Draft::Deactivate).await
    }

    /// Renews this device's signing and receiving keys. The device stays the same, and what it signed stays valid; what it
    /// signs from now on, it signs with the new keys.
    ///
    /// # Errors
    /// [`IdentitiesError::Refused`], [`IdentitiesError::Locked`].
    pub async fn renew_keys(&self, did: &Did) -> IdentitiesResult<OpDone> {
        let shared = self.entry(did)?.handle.shared;
        let (reply, done) = oneshot::channel();
        let command = Command::RenewKeys { reply };
        shared.commands.send(command).await.map_err(|_| IdentitiesError::Closed)?;
        let op = done.await.map_err(|_| IdentitiesError::Closed)??.id;
        Ok(OpDone { op, epoch: shared.state().sending_epoch })
    }
}

impl Task {
    /// The next keys stand in the vault before the op that names them is made, and take over when it is stored: a crash in
    /// between is settled by what the ops say ([`ring::load`]).
    pub(super) async fn renew_keys(&mut self) -> IdentitiesResult<super::author::Authored> {
        let shared = Arc::clone(&self.shared);
        if shared.person.is_some() {
            let reason =
                "this node acts here as another identity: renew the keys of that one, and they are renewed here";
            return Err(IdentitiesError::refused(reason));
        }
        if shared.my_role().is_none() {
            return Err(IdentitiesError::refused("this device is no controller of the identity any more"));
        }
        let keys = shared.keyring()?;
        let tools = &shared.tools;
        let next = keys.device.renew(&*tools.entropy);
        let built = {
            let mut known = shared.known();
            if known.graph.state().deactivated.is_some() {
                return Err(IdentitiesError::refused(super::author::DEACTIVATED));
            }
            let super::shared::Known { graph, ring, .. } = &mut *known;
            Builder::new(graph, &keys.device, ring, &*tools.entropy).update(&next)
        };
        let built = built.map_err(|error| IdentitiesError::refused(error.to_string()))?;
        tools.secrets.put(&ring::next_device_name(&shared.did), next.encode()).await?;
        let old: Arc<dyn Signer> = keys.device.clone();
        let id = self.admit_own(&built).await?;
        let renewed = keys.renewed_device(next, &*tools.clock);
        ring::store(&shared, &renewed).await?;
        shared.set_keys(renewed);
        tools.secrets.delete(&ring::next_device_name(&shared.did)).await?;
        info!(did = ?shared.did, "signing keys renewed");
        self.settle(None).await;
        // Its own block is the last thing that the old keys sign.
        self.publish_as(&built.op, old).await?;
        self.tell_all(None);
        Ok(super::author::Authored { id, seed: None })
    }
}
