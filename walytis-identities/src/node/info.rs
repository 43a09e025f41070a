//! What is shown of an identity.

use walytis_core::id::PeerId;

use super::runtime::Entry;
use crate::id::{ControllerId, DeviceId, Did, EpochId, OpId, Role};
use crate::state::Controller;

/// An identity as the list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityInfo {
    /// Its DID.
    pub did: Did,
    /// Its local name.
    pub name: String,
    /// This device's role; nothing once it has been removed or has left.
    pub role: Option<Role>,
    /// The identity of this node that the device acts for here; nothing if the device is a controller itself.
    pub person: Option<Did>,
    /// Put away: see [`Identities::archive`](super::Identities::archive).
    pub archived: bool,
    /// The epoch that is written under; nothing while the keys must be renewed first.
    pub epoch: Option<EpochId>,
    /// Counting epochs whose secret is not here.
    pub locked_epochs: Vec<EpochId>,
    /// Who controls it.
    pub controllers: Vec<ControllerInfo>,
    /// A removal in force can be contested by the removed, who is senior; the recovery code has the final word.
    pub provisional_removal: bool,
    /// Others hold newer things of this device than its own data folder held: the folder is an older copy (a backup that was
    /// restored), or there are two copies of it.
    pub older_copy: bool,
    /// Whether the identity was ended.
    pub deactivated: bool,
}

/// One who controls an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerInfo {
    /// Its id.
    pub id: ControllerId,
    /// The device's name, if its card can be read here.
    pub name: Option<String>,
    /// What it may do.
    pub role: Role,
    /// Its node, if its card is here.
    pub peer_id: Option<PeerId>,
    /// Its devices that act here: of an identity those that have shown themselves, of a device itself.
    pub devices: Vec<DeviceInfo>,
    /// The op that made it a controller.
    pub since: OpId,
}

/// A device that acts for a controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its id.
    pub id: DeviceId,
    /// Its name, if its card can be read here.
    pub name: Option<String>,
    /// Its node, if its card is here.
    pub peer_id: Option<PeerId>,
}

impl ControllerInfo {
    /// Returns what the state alone says.
    pub(super) fn without_cards(controller: &Controller) -> Self {
        let device = |(id, _)| DeviceInfo { id, name: None, peer_id: None };
        Self {
            id: controller.id,
            name: None,
            role: controller.role,
            peer_id: None,
            devices: controller.devices().map(device).collect(),
            since: controller.since,
        }
    }
}

impl Entry {
    pub(super) fn info(&self) -> IdentityInfo {
        let shared = &self.handle.shared;
        let mut known = shared.known();
        let state = known.graph.state();
        let card_keys = known.card_keys();
        let with_card = |device: DeviceInfo| DeviceInfo {
            name: known.cards.private(&device.id, &card_keys).map(|private| private.name),
            peer_id: known.cards.card(&device.id).map(|card| card.body().peer.clone()),
            ..device
        };
        let controllers = state.controllers.values().map(|controller| {
            let info = ControllerInfo::without_cards(controller);
            let devices: Vec<DeviceInfo> = info.devices.into_iter().map(&with_card).collect();
            // Of another identity that is a controller there is no single card.
            match (controller.id, devices.as_slice()) {
                (ControllerId::Device(_), [device]) => {
                    let (name, peer_id) = (device.name.clone(), device.peer_id.clone());
                    ControllerInfo { name, peer_id, devices, ..info }
                }
                _ => ControllerInfo { devices, ..info },
            }
        });
        let held = |epoch: &EpochId| known.ring.get(epoch).is_some_and(|secrets| secrets.epoch.is_some());
        IdentityInfo {
            did: shared.did,
            name: self.name.clone(),
            role: shared.role_in(&state),
            person: shared.person.as_ref().map(|person| person.did),
            archived: shared.is_archived(),
            epoch: state.sending_epoch,
            locked_epochs: state.epochs.keys().filter(|epoch| !held(epoch)).copied().collect(),
            controllers: controllers.collect(),
            provisional_removal: state.has_provisional_removal(),
            older_copy: known.older_copy,
            deactivated: state.deactivated.is_some(),
        }
    }
}
