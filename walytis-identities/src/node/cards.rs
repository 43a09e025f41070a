//! Device cards of one identity: which peer is which device, and where it is reached.

use std::collections::BTreeMap;

use walytis_core::id::PeerId;
use walytis_core::net::Network;
use walytis_core::secret::Secret;

use super::access::newest_epochs;
use super::error::{IdentitiesError, IdentitiesResult};
use super::records::IdentityRecord;
use super::shared::{Known, Shared};
use crate::card::{CARD_ADDRESSES_MAX, CARD_COUNTER_MAX, CardBody, CardPrivate, DeviceCard, peer_proof_message};
use crate::crypto::receiving_is_valid;
use crate::id::{DeviceId, EpochId};

/// The newest card of each device.
#[derive(Debug, Default)]
pub(super) struct Cards(BTreeMap<DeviceId, DeviceCard>);

impl Cards {
    pub(super) fn insert(&mut self, card: DeviceCard) {
        self.0.insert(card.body().device, card);
    }

    /// Returns the counters, by device.
    pub(super) fn counters(&self) -> impl Iterator<Item = (DeviceId, u64)> {
        self.0.iter().map(|(device, card)| (*device, card.body().counter))
    }

    /// Returns the encoded cards that somebody with these counters (by device) lacks.
    pub(super) fn newer_than(&self, counters: &[(DeviceId, u64)]) -> Vec<Vec<u8>> {
        let has = |card: &DeviceCard| {
            let at = counters.binary_search_by_key(&card.body().device, |(device, _)| *device).ok();
            at.and_then(|at| counters.get(at)).is_some_and(|(_, counter)| *counter >= card.body().counter)
        };
        self.0.values().filter(|card| !has(card)).map(DeviceCard::encode).collect()
    }

    /// Returns the devices that say they are on this node (each proved the peer key).
    pub(super) fn devices_of<'a>(&'a self, peer: &'a PeerId) -> impl Iterator<Item = DeviceId> + 'a {
        self.peers().filter(move |(_, theirs)| *theirs == peer).map(|(device, _)| *device)
    }

    /// Returns each device's peer id.
    pub(super) fn peers(&self) -> impl Iterator<Item = (&DeviceId, &PeerId)> {
        self.0.iter().map(|(device, card)| (device, &card.body().peer))
    }

    pub(super) fn card(&self, device: &DeviceId) -> Option<&DeviceCard> {
        self.0.get(device)
    }

    /// Opens the private part of a device's card with whichever key it is sealed under.
    pub(super) fn private(&self, device: &DeviceId, keys: &BTreeMap<EpochId, Secret<32>>) -> Option<CardPrivate> {
        let card = self.0.get(device)?;
        let (epoch, _) = card.body().private.as_ref()?;
        CardPrivate::open(card, keys.get(epoch)?)
    }
}

impl Known {
    /// Takes in a card if it is of a device of the identity, proves its peer key and replaces the one known.
    pub(super) fn take_in_card(&mut self, network: &dyn Network, encoded: &[u8]) -> Option<DeviceId> {
        let device = DeviceCard::claimed_device(encoded)?;
        let keys = self.graph.device_keys(&device)?;
        let card = DeviceCard::verify(encoded, &self.graph.chain(), &keys).ok()?;
        if self.cards.card(&device).is_some_and(|known| !card.replaces(known)) {
            return None;
        }
        let body = card.body();
        // Sealing to it would fail, and with it every new epoch.
        if !receiving_is_valid(&body.receiving) {
            return None;
        }
        let message = peer_proof_message(&body.chain, &device, &body.peer);
        if !network.verify_peer(&body.peer, &message, &body.peer_proof) {
            return None;
        }
        self.cards.insert(card);
        Some(device)
    }
}

/// Returns a new card for this device if anything that stands in it has changed.
pub(super) fn renew(shared: &Shared, record: &IdentityRecord) -> IdentitiesResult<Option<DeviceCard>> {
    let Ok(keys) = shared.keys() else { return Ok(None) };
    let mut known = shared.known();
    let state = known.graph.state();
    if shared.role_in(&state).is_none() {
        return Ok(None);
    }
    let card_keys = known.card_keys();
    let newest = newest_epochs(&state).into_iter().find(|epoch| card_keys.contains_key(epoch));
    let mut addresses = shared.tools.network.addresses();
    addresses.truncate(CARD_ADDRESSES_MAX);
    let private = CardPrivate { name: record.device_name.clone(), addresses };
    let peer = shared.tools.network.local_peer();
    let current = known.cards.card(&shared.me).is_some_and(|card| {
        let body = card.body();
        let epoch = body.private.as_ref().map(|(epoch, _)| *epoch);
        let same = known.cards.private(&shared.me, &card_keys).as_ref() == Some(&private);
        body.peer == peer
            && body.receiving == *keys.receiving().public()
            && epoch == newest
            && (same || newest.is_none())
    });
    if current {
        return Ok(None);
    }
    let chain = shared.did.chain();
    let entropy = &*shared.tools.entropy;
    let sealed = newest.and_then(|epoch| {
        let key = card_keys.get(&epoch)?;
        Some((epoch, private.seal(key, &chain, &shared.me, entropy)))
    });
    let peer_proof = shared.tools.network.sign_as_peer(&peer_proof_message(&chain, &shared.me, &peer));
    // Never behind what others have seen of this device.
    let seen = known.cards.card(&shared.me).map_or(0, |card| card.body().counter);
    let counter = record.card_counter.max(seen).checked_add(1).filter(|counter| *counter <= CARD_COUNTER_MAX);
    let counter = counter.ok_or(IdentitiesError::Internal { reason: "a device card with the highest counter" })?;
    let body = CardBody {
        chain,
        device: shared.me,
        counter,
        receiving: keys.receiving().public().clone(),
        peer,
        peer_proof,
        private: sealed,
    };
    Ok(Some(DeviceCard::sign(body, &keys, entropy)))
}
