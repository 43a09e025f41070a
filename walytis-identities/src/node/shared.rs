//! What all who deal with one identity of this node share: the ops and cards known, the epoch secrets held.
//!
//! The identity's [task](super::task) alone writes; everybody else reads in short sections.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use walytis_core::clock::{Clock, Entropy};
use walytis_core::id::{Address, PeerId};
use walytis_core::key::PublicKey;
use walytis_core::net::Network;
use walytis_core::store::{KvStore, SecretStore};

use super::age::Age;
use super::bound::BoundChains;
use super::cards::Cards;
use super::error::ExchangeError;
use super::exchange::{Items, Received};
use super::keyring::Keyring;
use super::members::Memberships;
use super::places::Turns;
use super::rows::Rows;
use super::task::Command;
use super::wire_v1::{CARDS_MAX, Hello};
use super::{IdentitiesConfig, IdentitiesError, IdentitiesParts, IdentitiesResult, exchange};
use crate::crypto::{DeviceKeys, DevicePublic, ReceivingPublic};
use crate::epoch::{EpochSecrets, EpochView};
use crate::id::{ControllerId, DeviceId, Did, EpochId, Role};
use crate::state::{AuthorityGraph, Held, IdentityState};

/// What the runtime works with.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) store: Arc<dyn KvStore>,
    pub(super) secrets: Arc<dyn SecretStore>,
    pub(super) network: Arc<dyn Network>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) config: IdentitiesConfig,
    /// With whom this node has a stream open.
    pub(super) turns: Turns,
    /// One joiner that is an identity at a time: all that it shows of itself is in memory until it is decided about.
    pub(super) persons: Semaphore,
}

impl Tools {
    pub(super) fn new(parts: IdentitiesParts) -> Self {
        let IdentitiesParts { node: _, store, secrets, network, clock, entropy, config } = parts;
        Self { store, secrets, network, clock, entropy, config, turns: Turns::default(), persons: Semaphore::new(1) }
    }
}

/// One identity of this node.
pub(super) struct Shared {
    pub(super) did: Did,
    /// This node's device of the identity; where it acts for another identity, the device of that one.
    pub(super) me: DeviceId,
    /// The identity of this node that the device acts for here.
    pub(super) person: Option<Arc<Self>>,
    /// What this device is called.
    pub(super) device_name: String,
    /// Whether the person has put this identity away: it stays a controller, and no content is exchanged.
    archived: AtomicBool,
    /// Identities that this one is a controller of, as its own records say.
    memberships: Mutex<Memberships>,
    pub(super) tools: Arc<Tools>,
    /// Genesis block file.
    pub(super) genesis: Bytes,
    /// Empty while the vault is locked.
    keys: Mutex<Option<Keyring>>,
    /// The first key of the own device's blocks; known while the vault is locked, too.
    first_block_key: Option<PublicKey>,
    /// Whether the vault is locked; nothing if it never is.
    locked: Option<watch::Receiver<bool>>,
    known: Mutex<Known>,
    /// Chains bound to the identity.
    pub(super) bound: BoundChains,
    changes: watch::Sender<u64>,
    pub(super) commands: mpsc::Sender<Command>,
}

/// Who this node is in an identity.
#[derive(Debug)]
pub(super) struct Me {
    pub(super) device: DeviceId,
    /// What the device is called.
    pub(super) name: String,
    /// The identity of this node that the device acts for.
    pub(super) person: Option<Arc<Shared>>,
}

/// What changes.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) graph: AuthorityGraph,
    pub(super) cards: Cards,
    pub(super) ring: BTreeMap<EpochId, EpochSecrets>,
    /// Where its ops are stored.
    pub(super) rows: Rows,
    /// Since when each epoch that is or was written under has been known here; of the one in force now.
    pub(super) in_force: Option<(EpochId, Age)>,
    /// Others hold newer things of this device than its own store: the data folder is an older copy, or there are two.
    pub(super) older_copy: bool,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({:?})", self.did)
    }
}

impl Shared {
    pub(super) fn new(
        graph: AuthorityGraph,
        genesis: Bytes,
        me: Me,
        tools: Arc<Tools>,
        commands: mpsc::Sender<Command>,
    ) -> Self {
        let Me { device: me, name: device_name, person } = me;
        let did = graph.did();
        let own_key = || graph.device_record(&me).map(DevicePublic::block_key);
        let first_block_key = person.as_ref().map_or_else(own_key, |person| person.block_key());
        let locked = tools.secrets.locked_changes();
        let known = Known {
            graph,
            cards: Cards::default(),
            ring: BTreeMap::new(),
            rows: Rows::default(),
            in_force: None,
            older_copy: false,
        };
        Self {
            did,
            me,
            person,
            device_name,
            archived: AtomicBool::new(false),
            memberships: Mutex::default(),
            tools,
            genesis,
            keys: Mutex::default(),
            first_block_key,
            locked,
            known: Mutex::new(known),
            bound: BoundChains::default(),
            changes: watch::Sender::new(0),
            commands,
        }
    }

    /// For short sections; the task alone changes anything.
    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        // A poisoned map is still whole: the task inserts one finished thing at a time.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the state under everything known.
    pub(super) fn state(&self) -> Arc<IdentityState> {
        self.known().graph.state()
    }

    /// Returns the controller that this device acts for: itself, or another identity.
    pub(super) fn controller(&self) -> ControllerId {
        self.person.as_ref().map_or(ControllerId::Device(self.me), |person| ControllerId::Identity(person.did))
    }

    /// Returns the role in which this device acts, or nothing if it does not (any more).
    pub(super) fn my_role(&self) -> Option<Role> {
        self.role_in(&self.state())
    }

    /// As [`Self::my_role`], under a state.
    pub(super) fn role_in(&self, state: &IdentityState) -> Option<Role> {
        let controller = state.controllers.get(&self.controller())?;
        controller.device(&self.me).map(|_| controller.role)
    }

    pub(super) fn is_archived(&self) -> bool {
        self.archived.load(Ordering::Relaxed)
    }

    /// Puts the identity away or takes it up again; says whether that changed anything.
    pub(super) fn set_archived(&self, archived: bool) -> bool {
        let changed = self.archived.swap(archived, Ordering::Relaxed) != archived;
        if changed {
            self.bump();
        }
        changed
    }

    pub(super) fn memberships(&self) -> MutexGuard<'_, Memberships> {
        self.memberships.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the device keys; from the moment the vault is locked they are refused.
    pub(super) fn keys(&self) -> IdentitiesResult<Arc<DeviceKeys>> {
        if self.is_locked() {
            return Err(IdentitiesError::Locked);
        }
        if let Some(person) = &self.person {
            return person.keys();
        }
        self.held_keys().as_ref().map(|keys| Arc::clone(&keys.device)).ok_or(IdentitiesError::Locked)
    }

    /// Returns the device keys with all receiving keys; refused as [`Self::keys`].
    pub(super) fn keyring(&self) -> IdentitiesResult<Keyring> {
        if self.is_locked() {
            return Err(IdentitiesError::Locked);
        }
        if let Some(person) = &self.person {
            return person.keyring();
        }
        self.held_keys().clone().ok_or(IdentitiesError::Locked)
    }

    pub(super) fn set_keys(&self, keys: Keyring) {
        *self.held_keys() = Some(keys);
    }

    /// Forgets every secret; operations under way keep what they took until they end.
    pub(super) fn wipe(&self) {
        *self.held_keys() = None;
        self.known().ring.clear();
    }

    /// Keeps the secrets of an epoch, unless the vault was locked meanwhile.
    pub(super) fn hold(&self, epoch: EpochId, secrets: EpochSecrets) {
        if !self.is_locked() {
            self.known().ring.insert(epoch, secrets);
        }
    }

    pub(super) fn is_locked(&self) -> bool {
        self.locked.as_ref().is_some_and(|locked| *locked.borrow())
    }

    /// Returns a view of whether the vault is locked; nothing if it never is.
    pub(super) fn locked_changes(&self) -> Option<watch::Receiver<bool>> {
        self.locked.clone()
    }

    /// Returns the key that the own device's blocks verify under now.
    pub(super) fn block_key(&self) -> Option<PublicKey> {
        let now = self.state().device(&self.me).map(|device| device.block_key());
        now.or(self.first_block_key)
    }

    fn held_keys(&self) -> MutexGuard<'_, Option<Keyring>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(super) fn bump(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Returns what is told to others about what is known here.
    pub(super) fn hello(&self) -> Hello {
        let known = self.known();
        let mut cards: Vec<_> = known.cards.counters().collect();
        cards.truncate(CARDS_MAX);
        Hello::new(self.did, known.graph.held(), cards)
    }

    /// Returns how much is held: another value whenever something came in.
    pub(super) fn extent(&self) -> (usize, Held) {
        let known = self.known();
        (known.graph.len(), known.graph.held())
    }

    /// Returns what somebody who said `theirs` may lack, as much as goes at once.
    pub(super) fn items_for(&self, theirs: &Hello) -> Items {
        let mut known = self.known();
        let part = known.graph.part_with_news(&theirs.held(), exchange::bounds(&self.tools));
        let own = theirs.heads.is_empty().then(|| self.genesis.clone());
        Items::new(own, part, known.cards.newer_than(&theirs.cards).into_iter())
    }

    /// Hands what a peer sent to the task and waits until it is taken in.
    pub(super) async fn learn(&self, received: Received, from: Option<&PeerId>) -> Result<(), ExchangeError> {
        let Received { genesis, ops, cards, .. } = received;
        if ops.is_empty() && cards.is_empty() {
            return Ok(());
        }
        let (reply, done) = oneshot::channel();
        let command = Command::Learn { genesis, ops, cards, from: from.cloned(), reply: Some(reply) };
        self.commands.send(command).await.map_err(|_| ExchangeError::Closed)?;
        done.await.map_err(|_| ExchangeError::Closed)
    }

    /// Returns the device that a peer proved to be, if it is one of a current controller.
    pub(super) fn device_of(&self, peer: &PeerId) -> Option<DeviceId> {
        let mut known = self.known();
        let state = known.graph.state();
        known.cards.devices_of(peer).find(|device| state.controller_of(device).is_some())
    }

    /// Returns the peer ids of other devices of current controllers, ascending.
    pub(super) fn peers(&self) -> Vec<PeerId> {
        let mut known = self.known();
        let state = known.graph.state();
        let current = |device: &DeviceId| *device != self.me && state.controller_of(device).is_some();
        let mut peers: Vec<_> =
            known.cards.peers().filter(|(device, _)| current(device)).map(|(_, peer)| peer.clone()).collect();
        peers.sort_unstable();
        peers.dedup();
        peers
    }

    /// Returns the nodes of other current controllers with the addresses that can be read here, by device.
    pub(super) fn others(&self) -> Vec<(PeerId, Vec<Address>)> {
        let mut known = self.known();
        let state = known.graph.state();
        let keys = known.card_keys();
        let current = |device: &DeviceId| *device != self.me && state.controller_of(device).is_some();
        let others = known.cards.peers().filter(|(device, _)| current(device));
        others
            .map(|(device, peer)| {
                let private = known.cards.private(device, &keys);
                (peer.clone(), private.map(|private| private.addresses).unwrap_or_default())
            })
            .collect()
    }
}

impl Known {
    /// Returns the receiving keys that controllers' cards carry, to seal to: newer than the first ones.
    pub(super) fn receiving_keys(&self) -> BTreeMap<ControllerId, ReceivingPublic> {
        let of = |device: &DeviceId| {
            Some((ControllerId::Device(*device), self.cards.card(device)?.body().receiving.clone()))
        };
        self.cards.peers().filter_map(|(device, _)| of(device)).collect()
    }

    /// Returns the keys of cards' private parts: of every epoch whose transport secret is held, newest first.
    pub(super) fn card_keys(&self) -> BTreeMap<EpochId, walytis_core::secret::Secret<32>> {
        let of = |(id, secrets): (&EpochId, &EpochSecrets)| {
            let op = self.graph.op(id)?;
            Some((*id, EpochView::of(op.core())?.card_key(secrets)?))
        };
        self.ring.iter().filter_map(of).collect()
    }
}
