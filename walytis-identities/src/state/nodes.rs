//! The admitted ops of one identity with everything about them that their own past decides, once and for all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::bits::Bits;
use super::nested::Named;
use super::room::Limits;
use super::subject::ActingDevice;
use crate::crypto::{DevicePublic, KeyId};
use crate::id::{ControllerId, DeviceId, Did, OpId, Role};
use crate::op::{ControllerRecord, Op, SignedOp};

/// Authority order of an op: (depth, id). Lower is earlier, as a rank: more senior.
pub(super) type Order = (u32, OpId);

/// One admitted op.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Node {
    pub(super) op: Arc<SignedOp>,
    /// All ancestors.
    pub(super) past: Bits,
    /// 1 + the largest depth of the parents.
    pub(super) depth: u32,
    /// Authority order of the op that entitled the author in this op's own past.
    pub(super) rank: Order,
    /// When a removal comes to its turn: by [`Self::rank`], but if all its targets had left, by the most senior of
    /// author and targets, so that who has left cannot contest it.
    pub(super) precedence: Order,
    /// Whether it removes nobody but those who had left in this op's own past.
    pub(super) concludes: bool,
    /// Whether its author was admin in this op's own past.
    pub(super) by_admin: bool,
    /// What was void in this op's own past.
    pub(super) void_in_past: Arc<Bits>,
    /// For an op with an epoch: to whom it had to be dealt.
    pub(super) dealt: Option<Dealt>,
    /// Whether it takes from somebody a part of the rights that it had in this op's own past.
    pub(super) demotes: bool,
    /// Whom it makes controllers.
    pub(super) admitted: Arc<[Admitted]>,
    /// For a `Recover`: how many recoveries it completes, itself included; otherwise 0.
    pub(super) recoveries: u32,
    /// The ops of nested identities that it or its past names.
    pub(super) named: Named,
    /// For an `Update` of an identity: the devices that are removed inside it by what it shows.
    pub(super) retires: BTreeSet<DeviceId>,
}

/// To whom an epoch had to be dealt by its own past after the op.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dealt {
    /// Whether its slots are for exactly the controllers, and none opens for somebody who was removed inside one.
    pub(super) fits: bool,
    /// For whom its slots are, ascending.
    pub(super) recipients: Arc<[ControllerId]>,
    /// Its receiving key.
    pub(super) key: KeyId,
    /// Those of them that get the epoch secret, ascending.
    pub(super) readers: Arc<[ControllerId]>,
}

/// One that an op makes a controller.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    pub(super) id: ControllerId,
    pub(super) role: Role,
    /// The device that it is, with the keys that the op carries.
    pub(super) device: Option<Arc<ActingDevice>>,
}

/// Returns whom an op makes controllers. To be asked once: an id is a digest of keys.
pub(super) fn admitted(op: &Op) -> Arc<[Admitted]> {
    let device = |public: &DevicePublic, role| Admitted {
        id: ControllerId::Device(public.device_id()),
        role,
        device: Some(Arc::new(ActingDevice::new(public.clone()))),
    };
    let one = |record: &ControllerRecord, role| match record {
        ControllerRecord::Device(public) => device(public, role),
        ControllerRecord::Identity { did, .. } => Admitted { id: ControllerId::Identity(*did), role, device: None },
    };
    match op {
        Op::Create(op) => [device(&op.device, Role::Admin)].into(),
        Op::Admit(op) => [one(&op.controller, op.role)].into(),
        Op::Recover(op) => op.controllers.iter().map(|(record, role)| one(record, *role)).collect(),
        _ => Arc::default(),
    }
}

impl Node {
    pub(super) fn id(&self) -> OpId {
        self.op.id()
    }

    pub(super) fn order(&self) -> Order {
        (self.depth, self.id())
    }

    pub(super) fn author(&self) -> ControllerId {
        self.op.core().author
    }

    pub(super) fn kind(&self) -> &Op {
        &self.op.core().op
    }

    /// Says whether an op takes rights from somebody else: a removal or a demotion.
    pub(super) fn takes_away(&self) -> bool {
        match self.kind() {
            Op::Remove(_) => true,
            Op::SetRole(op) => self.demotes && op.controller != self.author(),
            _ => false,
        }
    }

    /// Says whether its author gives up rights of its own.
    pub(super) fn gives_up(&self) -> bool {
        match self.kind() {
            Op::Leave => true,
            Op::SetRole(op) => op.controller == self.author(),
            _ => false,
        }
    }

    /// Returns the invitation that the op honours, and whom it lets in by it.
    pub(super) fn honours(&self) -> Option<(OpId, ControllerId)> {
        match self.kind() {
            Op::Admit(op) => Some((op.invitation.as_ref()?.invite, self.admitted.first()?.id)),
            _ => None,
        }
    }

    /// Returns the role that the op gives to one that it makes a controller.
    pub(super) fn role_of(&self, controller: &ControllerId) -> Option<Role> {
        self.admitted.iter().find(|one| one.id == *controller).map(|one| one.role)
    }

    /// Returns the device that the op makes this controller.
    pub(super) fn device_of(&self, controller: &ControllerId) -> Option<&Arc<ActingDevice>> {
        self.admitted.iter().find(|one| one.id == *controller)?.device.as_ref()
    }
}

/// All admitted ops, parents before children, with indices of what each is about.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Nodes {
    pub(super) limits: Limits,
    all: Vec<Node>,
    index: BTreeMap<OpId, usize>,
    /// Ops that make a controller of somebody.
    pub(super) admits: BTreeMap<ControllerId, Vec<usize>>,
    /// Ops that end somebody's control: removals and own leaves.
    pub(super) endings: BTreeMap<ControllerId, Vec<usize>>,
    /// Ops that change somebody's role.
    pub(super) roles: BTreeMap<ControllerId, Vec<usize>>,
    /// Ops that start over.
    pub(super) recoveries: Vec<usize>,
    /// Ops that renew a device's keys.
    pub(super) updates: BTreeMap<DeviceId, Vec<usize>>,
    /// Ops that replace the document's services.
    pub(super) documents: Vec<usize>,
    /// Ops that end the identity.
    pub(super) deactivations: Vec<usize>,
    /// Ops by author.
    pub(super) by_author: BTreeMap<ControllerId, Vec<usize>>,
    /// Ops by the device that made them.
    pub(super) by_device: BTreeMap<DeviceId, Vec<usize>>,
    /// Admissions by the invitation they use.
    pub(super) uses: BTreeMap<OpId, Vec<usize>>,
    /// Admissions that use an invitation.
    pub(super) honours: Vec<usize>,
    /// Ops that may revoke invitations: removals, recoveries, revocations, and `Update`s that show a removal.
    pub(super) revokers: Vec<usize>,
    /// Ops that take rights from others: removals and demotions.
    pub(super) takings: Vec<usize>,
    /// Ops by which their author gives up rights: leaves and self-demotions.
    pub(super) surrenders: Vec<usize>,
    /// Ops that start an epoch.
    pub(super) epochs: Vec<usize>,
    /// What is void in the own past of some op.
    pub(super) ever_void: Bits,
    /// Ops that carry the first keys of a device.
    pub(super) records: BTreeMap<DeviceId, Vec<usize>>,
    /// Ops that make a controller of an identity.
    pub(super) identities: BTreeMap<Did, Vec<usize>>,
    /// Ops by which a device of an identity shows itself, with the device.
    pub(super) introductions: BTreeMap<Did, Vec<(usize, DeviceId)>>,
    /// Ops by which an identity names newer heads of itself.
    pub(super) naming: BTreeMap<Did, Vec<usize>>,
    /// For the model: all proofs are sound, keys verify nothing. To ask would take longer than all the rest.
    #[cfg(test)]
    pub(super) proved: bool,
}

impl Nodes {
    pub(super) fn within(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn at(&self, index: usize) -> &Node {
        #[expect(clippy::indexing_slicing, reason = "indices come from `index` and the sets made of them")]
        &self.all[index]
    }

    pub(super) fn find(&self, id: &OpId) -> Option<usize> {
        self.index.get(id).copied()
    }

    /// Returns the ops in the order they were admitted: parents first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Node> {
        self.all.iter()
    }

    /// Returns the ops in the order they were admitted.
    pub(super) fn into_all(self) -> Vec<Node> {
        self.all
    }

    /// Says whether neither lies in the other's past and they are not the same.
    pub(super) fn concurrent(&self, one: usize, other: usize) -> bool {
        one != other && !self.at(one).past.has(other) && !self.at(other).past.has(one)
    }

    /// Returns the ops themselves and all their ancestors; the ids that are unknown as an error.
    pub(super) fn past_of(&self, ids: &[OpId]) -> Result<Bits, Vec<OpId>> {
        let mut missing = Vec::new();
        let mut set = Bits::default();
        for id in ids {
            match self.find(id) {
                Some(at) => {
                    set.union(&self.at(at).past);
                    set.insert(at);
                }
                None => missing.push(*id),
            }
        }
        if missing.is_empty() { Ok(set) } else { Err(missing) }
    }

    pub(super) fn push(&mut self, node: Node) {
        let at = self.all.len();
        let author = node.author();
        self.index.insert(node.id(), at);
        self.note(at, &node);
        for one in node.admitted.iter() {
            self.admits.entry(one.id).or_default().push(at);
            if let (ControllerId::Device(device), Some(_)) = (one.id, &one.device) {
                self.records.entry(device).or_default().push(at);
            }
        }
        match node.kind() {
            Op::Admit(op) => {
                self.push_identity(at, &op.controller);
                if let Some(proof) = &op.invitation {
                    self.uses.entry(proof.invite).or_default().push(at);
                    self.honours.push(at);
                }
            }
            Op::Remove(op) => {
                for target in &op.targets {
                    self.endings.entry(*target).or_default().push(at);
                }
                self.revokers.push(at);
            }
            Op::SetRole(op) => self.roles.entry(op.controller).or_default().push(at),
            Op::Recover(op) => {
                for (record, _) in &op.controllers {
                    self.push_identity(at, record);
                }
                self.recoveries.push(at);
                self.revokers.push(at);
            }
            Op::Introduce(_) => self.push_introduction(at, &node),
            Op::Update(op) if op.as_of.is_empty() => {
                self.updates.entry(node.op.core().device).or_default().push(at);
            }
            Op::Update(_) => {
                if let ControllerId::Identity(did) = author {
                    self.naming.entry(did).or_default().push(at);
                }
                if !node.retires.is_empty() {
                    self.revokers.push(at);
                }
            }
            Op::Document(_) => self.documents.push(at),
            Op::Deactivate(_) => self.deactivations.push(at),
            Op::Leave => self.endings.entry(author).or_default().push(at),
            Op::RevokeInvite(_) => self.revokers.push(at),
            _ => {}
        }
        self.all.push(node);
    }

    /// Takes the last op out again, as if it had never been in.
    #[cfg(test)]
    pub(super) fn pop(&mut self) -> Node {
        fn drop_last<K: Ord>(map: &mut BTreeMap<K, Vec<usize>>, at: usize) {
            map.retain(|_, list| {
                list.pop_if(|last| *last == at);
                !list.is_empty()
            });
        }
        let node = self.all.pop().unwrap();
        let at = self.all.len();
        self.index.remove(&node.id());
        for map in [&mut self.admits, &mut self.endings, &mut self.roles, &mut self.by_author] {
            drop_last(map, at);
        }
        for map in [&mut self.updates, &mut self.by_device, &mut self.records] {
            drop_last(map, at);
        }
        for map in [&mut self.identities, &mut self.naming] {
            drop_last(map, at);
        }
        drop_last(&mut self.uses, at);
        self.introductions.retain(|_, list| {
            list.pop_if(|(last, _)| *last == at);
            !list.is_empty()
        });
        let lists = [&mut self.recoveries, &mut self.documents, &mut self.deactivations, &mut self.honours];
        let more = [&mut self.revokers, &mut self.takings, &mut self.surrenders, &mut self.epochs];
        for list in lists.into_iter().chain(more) {
            list.pop_if(|last| *last == at);
        }
        self.ever_void = Bits::new();
        for node in &self.all {
            self.ever_void.union(&node.void_in_past);
        }
        node
    }

    fn note(&mut self, at: usize, node: &Node) {
        self.by_author.entry(node.author()).or_default().push(at);
        self.by_device.entry(node.op.core().device).or_default().push(at);
        self.ever_void.union(&node.void_in_past);
        if node.dealt.is_some() {
            self.epochs.push(at);
        }
        if node.takes_away() {
            self.takings.push(at);
        }
        if node.gives_up() {
            self.surrenders.push(at);
        }
    }

    fn push_identity(&mut self, at: usize, record: &ControllerRecord) {
        if let ControllerRecord::Identity { did, device, .. } = record {
            self.identities.entry(*did).or_default().push(at);
            self.introductions.entry(*did).or_default().push((at, *device));
        }
    }

    fn push_introduction(&mut self, at: usize, node: &Node) {
        if let ControllerId::Identity(did) = node.author() {
            self.introductions.entry(did).or_default().push((at, node.op.core().device));
        }
    }
}
