//! An identity in memory: a group whose ops stand in one list, for tests and for overlays developed without a chain.
//!
//! Every [`MemoryIdentity`] of one [`MemoryGroup`] sees the same list, up to the op it knows; [`MemoryIdentity::hold`]
//! lets one lag behind. Nothing is stored and no key ever leaves the process: this is no security boundary.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;
use walytis_core::id::{BlockId, ChainId, PeerId};
use walytis_core::key::{PublicKey, Signer, SigningKey};
use walytis_core::secret::Secret;

use super::{EpochUse, Identity, IdentityError, Judgement, RecordRef};
use crate::bound::RecordRules;
use crate::crypto::provider::{CryptoProvider as _, Provider};
use crate::id::{ControllerId, DeviceId, Did, EpochId, OpId, Role};

/// A flat group of devices; cheap to clone.
#[derive(Clone)]
pub struct MemoryGroup(Arc<Mutex<Group>>);

struct Group {
    did: Did,
    bound: BTreeMap<ChainId, RecordRules>,
    ops: Vec<Op>,
    changes: watch::Sender<u64>,
}

struct Op {
    id: OpId,
    secret: Secret<32>,
    kind: Kind,
}

enum Kind {
    Admit { device: DeviceId, key: PublicKey, peer: PeerId, role: Role },
    Remove { device: DeviceId, accepted: BTreeSet<BlockId> },
    Rekey,
}

#[derive(Clone, Debug)]
struct Member {
    device: DeviceId,
    key: PublicKey,
    peer: PeerId,
    role: Role,
}

impl fmt::Debug for MemoryGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryGroup({:?})", self.lock().did)
    }
}

impl MemoryGroup {
    /// Returns a group without members.
    pub fn new(did: Did) -> Self {
        let (bound, ops, changes) = (BTreeMap::new(), Vec::new(), watch::Sender::new(0));
        Self(Arc::new(Mutex::new(Group { did, bound, ops, changes })))
    }

    /// Lets records of the group stand on another chain.
    pub fn bind(&self, chain: ChainId, rules: RecordRules) {
        self.lock().bound.insert(chain, rules);
    }

    /// Admits the device with this key seed; everybody who reads gets all epochs. Starts no new epoch but the first.
    pub fn admit(&self, key_seed: [u8; 32], peer: PeerId, role: Role) -> MemoryIdentity {
        let signer = SigningKey::from_seed(&Secret::new(key_seed));
        let device = DeviceId(Provider::sha256(&[signer.public_key().as_bytes()]));
        self.push(Kind::Admit { device, key: signer.public_key(), peer, role });
        let (held, locked) = (Arc::new(Mutex::new(None)), Arc::new(AtomicBool::new(false)));
        MemoryIdentity { group: self.clone(), device, signer: Arc::new(signer), held, locked }
    }

    /// Removes a device and starts a new epoch; of its records only `accepted` count from now on.
    pub fn remove(&self, device: DeviceId, accepted: impl IntoIterator<Item = BlockId>) {
        self.push(Kind::Remove { device, accepted: accepted.into_iter().collect() });
    }

    /// Starts a new epoch.
    pub fn rekey(&self) {
        self.push(Kind::Rekey);
    }

    fn push(&self, kind: Kind) {
        let mut group = self.lock();
        let number = (group.ops.len() as u64).to_be_bytes();
        let digest = |use_: &[u8]| -> [u8; 32] { Provider::sha256(&[use_, group.did.chain().digest(), &number]) };
        let (id, secret) = (OpId(digest(b"op")), Secret::new(digest(b"secret")));
        group.ops.push(Op { id, secret, kind });
        group.changes.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Group> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The members after the first ops, and the number of the op that named the epoch.
fn members(ops: &[Op]) -> (Vec<Member>, Option<usize>) {
    let (mut members, mut epoch) = (Vec::<Member>::new(), None);
    for (number, op) in ops.iter().enumerate() {
        match &op.kind {
            Kind::Admit { device, key, peer, role } => {
                epoch = epoch.or(Some(number));
                members.retain(|member| member.device != *device);
                members.push(Member { device: *device, key: *key, peer: peer.clone(), role: *role });
            }
            Kind::Remove { device, .. } => {
                epoch = Some(number);
                members.retain(|member| member.device != *device);
            }
            Kind::Rekey => epoch = Some(number),
        }
    }
    (members, epoch)
}

/// One device's view of a [`MemoryGroup`].
#[derive(Clone)]
pub struct MemoryIdentity {
    group: MemoryGroup,
    device: DeviceId,
    signer: Arc<SigningKey>,
    /// How many ops are known, if not all.
    held: Arc<Mutex<Option<usize>>>,
    locked: Arc<AtomicBool>,
}

impl fmt::Debug for MemoryIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryIdentity({:?})", self.device)
    }
}

impl MemoryIdentity {
    /// Learns of no further op until [`Self::release`].
    pub fn hold(&self) {
        let known = self.group.lock().ops.len();
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
    }

    /// Learns of everything that happened meanwhile.
    pub fn release(&self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.group.lock().changes.send_modify(|count| *count += 1);
    }

    /// Locks or unlocks the keys, as a key vault does at run time.
    pub fn lock(&self, locked: bool) {
        self.locked.store(locked, Ordering::SeqCst);
        self.group.lock().changes.send_modify(|count| *count += 1);
    }

    fn with<T>(&self, look: impl FnOnce(&[Op]) -> T) -> T {
        let held = *self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let group = self.group.lock();
        let known = held.unwrap_or(group.ops.len());
        look(group.ops.get(..known).unwrap_or(&group.ops))
    }

    fn me(&self, ops: &[Op]) -> Option<Member> {
        members(ops).0.into_iter().find(|member| member.device == self.device)
    }
}

#[async_trait]
impl Identity for MemoryIdentity {
    fn did(&self) -> Did {
        self.group.lock().did
    }

    fn device(&self) -> DeviceId {
        self.device
    }

    fn controller(&self) -> ControllerId {
        ControllerId::Device(self.device)
    }

    fn device_signer(&self) -> Arc<dyn Signer> {
        self.signer.clone()
    }

    fn rules(&self, chain: &ChainId) -> Option<RecordRules> {
        let group = self.group.lock();
        if *chain == group.did.chain() { Some(RecordRules::default()) } else { group.bound.get(chain).copied() }
    }

    async fn auth_heads(&self) -> Vec<OpId> {
        self.with(|ops| ops.last().map(|op| op.id).into_iter().collect())
    }

    async fn sending_epoch(&self) -> Result<EpochId, IdentityError> {
        self.with(|ops| {
            if !self.me(ops).is_some_and(|me| me.role.writes()) {
                return Err(IdentityError::Refused { reason: "this device may not write".to_owned() });
            }
            let epoch = members(ops).1.and_then(|number| ops.get(number));
            epoch.map(|op| op.id).ok_or(IdentityError::NoSendingEpoch)
        })
    }

    async fn derive(&self, epoch: &EpochId, purpose: EpochUse) -> Result<Secret<32>, IdentityError> {
        if self.locked.load(Ordering::SeqCst) {
            return Err(IdentityError::Locked);
        }
        self.with(|ops| {
            let number = ops.iter().position(|op| op.id == *epoch);
            // What a device read before it was removed it can read for ever.
            let read = number.is_some_and(|number| {
                let till = ops.get(..=number).and_then(|past| self.me(past));
                till.or_else(|| self.me(ops)).is_some_and(|me| me.role.reads())
            });
            let secret = number.filter(|_| read).and_then(|number| ops.get(number)).map(|op| &op.secret);
            let secret = secret.ok_or(IdentityError::NoEpochSecret { epoch: *epoch })?;
            Ok(Secret::new(Provider::sha256(&[purpose.label().as_bytes(), secret.expose()])))
        })
    }

    async fn judge(&self, record: &RecordRef) -> Judgement {
        let ControllerId::Device(author) = record.author else { return Judgement::Void("I-RECORD-01") };
        self.with(|ops| {
            let mut newest = None;
            for head in &record.auth_heads {
                match ops.iter().position(|op| op.id == *head) {
                    Some(number) => newest = newest.max(Some(number)),
                    None => return Judgement::Wait,
                }
            }
            let past = newest.and_then(|number| ops.get(..=number)).unwrap_or_default();
            let had = members(past).0.into_iter().find(|member| member.device == author);
            if !had.is_some_and(|member| member.role.writes() && member.key == record.creator) {
                return Judgement::Void("I-RECORD-02");
            }
            let cut_off = ops.iter().any(|op| match &op.kind {
                Kind::Remove { device, accepted } => *device == author && !accepted.contains(&record.block),
                _ => false,
            });
            if cut_off { Judgement::Void("I-RECORD-03") } else { Judgement::Valid }
        })
    }

    async fn controllers_at(&self, heads: Option<&[OpId]>) -> Option<Vec<(ControllerId, Role)>> {
        self.with(|ops| {
            let known = match heads {
                None => Some(ops.len()),
                Some(heads) => {
                    let places = heads.iter().map(|head| ops.iter().position(|op| op.id == *head));
                    places.collect::<Option<Vec<_>>>()?.into_iter().max().map(|last| last + 1)
                }
            };
            let past = known.and_then(|known| ops.get(..known))?;
            let mut controllers: Vec<_> =
                members(past).0.iter().map(|member| (ControllerId::Device(member.device), member.role)).collect();
            controllers.sort_unstable_by_key(|(controller, _)| *controller);
            Some(controllers)
        })
    }

    async fn may_read(&self, peer: &PeerId, epoch: &EpochId) -> bool {
        self.with(|ops| {
            ops.iter().any(|op| op.id == *epoch) && members(ops).0.iter().any(|member| member.peer == *peer)
        })
    }

    async fn peers(&self) -> Vec<PeerId> {
        let mut peers: Vec<_> = self.with(|ops| {
            let others = members(ops).0.into_iter().filter(|member| member.device != self.device);
            others.map(|member| member.peer).collect()
        });
        peers.sort_unstable();
        peers
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.group.lock().changes.subscribe()
    }
}
