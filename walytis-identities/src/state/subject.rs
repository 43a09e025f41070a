//! Who stands behind a controller: a device, or another identity with the devices that act for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use walytis_core::key::PublicKey;

use super::Controller;
use crate::crypto::{DevicePublic, KeyId, ReceivingPublic};
use crate::id::{ControllerId, DeviceId, Did, EpochId, OpId};

/// A device with the keys by which the state knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActingDevice {
    /// The keys it began with; they give its id.
    pub first: DevicePublic,
    /// The keys in force, unless a device card carries a newer receiving key.
    pub current: DevicePublic,
    /// Every key under which blocks of the device verify: its first one and all renewed ones, ascending.
    pub block_keys: Vec<PublicKey>,
}

impl ActingDevice {
    /// Returns a device that has not renewed its keys.
    pub fn new(keys: DevicePublic) -> Self {
        Self { first: keys.clone(), block_keys: vec![keys.block_key()], current: keys }
    }

    /// Returns the device with keys renewed by `updates`, of which `current` are in force.
    pub(super) fn renewed<'a>(&self, current: &DevicePublic, all: impl Iterator<Item = &'a DevicePublic>) -> Self {
        let mut block_keys = self.block_keys.clone();
        block_keys.extend(all.map(DevicePublic::block_key));
        block_keys.sort_unstable();
        block_keys.dedup();
        Self { first: self.first.clone(), current: current.clone(), block_keys }
    }

    /// Returns the id.
    pub fn id(&self) -> DeviceId {
        self.first.device_id()
    }

    /// Returns the key under which its blocks are signed now.
    pub const fn block_key(&self) -> PublicKey {
        self.current.block_key()
    }
}

/// Another identity that is a controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NestedIdentity {
    /// Which.
    pub did: Did,
    /// Its authority heads that count here, strictly ascending.
    pub as_of: Vec<OpId>,
    /// Its devices that act for it here, by id.
    pub devices: BTreeMap<DeviceId, Arc<ActingDevice>>,
    /// Its epoch to seal to, with the receiving key; none while nothing can be sealed to it without a device that was
    /// removed from it being able to open that.
    pub seal_to: Option<(EpochId, ReceivingPublic)>,
    /// Ids of all receiving keys that only its current readers can open.
    pub(super) receiving: BTreeSet<KeyId>,
}

/// What a controller is. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A device.
    Device(Arc<ActingDevice>),
    /// Another identity.
    Identity(Arc<NestedIdentity>),
}

impl Controller {
    /// Returns a device that acts for this controller.
    pub fn device(&self, device: &DeviceId) -> Option<&Arc<ActingDevice>> {
        match &self.subject {
            Subject::Device(own) => Some(own).filter(|_| self.id == ControllerId::Device(*device)),
            Subject::Identity(nested) => nested.devices.get(device),
        }
    }

    /// Returns every device that acts for this controller, by id: for a device itself.
    pub fn devices(&self) -> impl Iterator<Item = (DeviceId, &Arc<ActingDevice>)> {
        let (own, nested) = match (&self.subject, self.id) {
            (Subject::Device(own), ControllerId::Device(id)) => (Some((id, own)), None),
            (Subject::Identity(nested), _) => (None, Some(nested.devices.iter().map(|(id, device)| (*id, device)))),
            (Subject::Device(_), ControllerId::Identity(_)) => (None, None),
        };
        own.into_iter().chain(nested.into_iter().flatten())
    }

    /// Says whether a device that acts for this controller signs blocks with this key, or did before it renewed it.
    pub fn signs_with(&self, key: &PublicKey) -> bool {
        self.devices().any(|(_, device)| device.block_keys.contains(key))
    }
}
