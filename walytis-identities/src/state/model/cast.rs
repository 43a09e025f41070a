//! Who takes part in the model, and how they make ops: well formed, with the slots that a rightful author would deal.

use std::collections::{BTreeMap, BTreeSet};

use walytis_core::clock::SeededEntropy;
use walytis_core::id::{BlockId, ChainId};
use walytis_core::secret::Secret;

use crate::crypto::{DeviceKeys, HybridSignature, KeyId};
use crate::id::{ControllerId, OpId, Role};
use crate::op::{
    Admit, ControllerRecord, Deactivate, EpochPart, Invite, Op, OpCore, Recover, RecoveryPublic, Remove, RevokeInvite,
    SetRole, SignedOp, Slot, Update,
};
use crate::recovery::{RecoveryCode, recovery_digest};
use crate::state::{AuthorityGraph, Builder, CreateOptions};
use crate::token::{InvitationKey, JoinRequest};

/// Everybody: [`A`], [`B`], [`C`], [`D`].
pub(super) const PEOPLE: usize = 4;
/// The founder.
pub(super) const A: usize = 0;
/// The second to come.
pub(super) const B: usize = 1;
/// The third.
pub(super) const C: usize = 2;
/// Nobody yet in most beginnings.
pub(super) const D: usize = 3;

/// Something that one of them does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// By the author's own right.
    Admit(usize, Role),
    /// By the invitation of the beginning.
    Honour(usize),
    /// Revokes every invitation.
    Remove(usize),
    /// Keeps the invitation of the beginning.
    RemoveKeeping(usize),
    SetRole(usize, Role),
    Leave,
    Rekey,
    Revoke,
    /// New signing keys of its own.
    Update,
    /// Ends the identity.
    Deactivate,
    /// With the recovery key in force: its author, and perhaps one more as a member.
    Recover(Option<usize>),
}

impl Act {
    /// Whom it is about, if not its author.
    pub(super) const fn target(self) -> Option<usize> {
        match self {
            Self::Admit(who, _) | Self::Honour(who) | Self::Remove(who) | Self::RemoveKeeping(who) => Some(who),
            Self::Recover(staying) => staying,
            Self::SetRole(..) | Self::Leave | Self::Rekey | Self::Revoke | Self::Update | Self::Deactivate => None,
        }
    }
}

/// How a history begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beginning {
    /// Whom the founder lets in, in this order.
    pub(super) admitted: &'static [(usize, Role)],
    /// How many may use the founder's invitation to become a member.
    pub(super) uses: Option<u32>,
}

/// The devices, and what all their ops share.
pub(super) struct Cast {
    devices: Vec<DeviceKeys>,
    /// By (newcomer, honouring device): proofs for the invitation of the beginning.
    requests: BTreeMap<(usize, usize), JoinRequest>,
    /// The recovery keys: each is followed by the next.
    recovery: Vec<RecoveryPublic>,
    part: EpochPart,
    signature: HybridSignature,
    pub(super) invite: OpId,
    /// What all histories begin with.
    pub(super) base: Vec<SignedOp>,
    /// The base and no more.
    pub(super) empty: AuthorityGraph,
}

pub(super) fn chain() -> ChainId {
    ChainId(BlockId::of_file(b"model"))
}

impl Cast {
    pub(super) fn new(beginning: &Beginning) -> Self {
        let entropy = SeededEntropy::new(1);
        let devices: Vec<_> = (0..PEOPLE).map(|_| DeviceKeys::generate(&entropy)).collect();
        let recovery: Vec<_> = (0..3).map(|_| RecoveryCode::generate(&entropy).key().public()).collect();
        let options = CreateOptions { recovery: recovery.first().map(recovery_digest), ..CreateOptions::default() };
        let create = Builder::create(&devices[A], &options, &entropy).unwrap().op;
        let part = create.core().op.epoch().unwrap().clone();
        let mut empty = AuthorityGraph::new(chain(), create.clone()).unwrap();
        empty.unsigned = true;
        let signature = create.signature().clone();
        let (requests, invite) = (BTreeMap::new(), OpId([0; 32]));
        let mut cast = Self { devices, requests, recovery, part, signature, invite, base: vec![create], empty };
        let key = InvitationKey::from_seed(&Secret::new([7; 32]), &chain());
        let invite = Invite { key: key.public(), role: Role::Member, uses: beginning.uses, expires_at_ms: None };
        let invite = cast.sign(A, cast.empty.heads(), Op::Invite(invite), None);
        cast.invite = invite.id();
        cast.begin_with(invite);
        for (newcomer, by) in pairs() {
            let invitation = Some((&cast.invite, &key));
            let request = JoinRequest::new(&cast.devices[newcomer], &chain(), &cast.id(by), invitation, &entropy);
            cast.requests.insert((newcomer, by), request);
        }
        for (who, role) in beginning.admitted {
            let mut graph = cast.empty.clone();
            let heads = graph.heads();
            let op = cast.make(&mut graph, A, &heads, Act::Admit(*who, *role), None);
            cast.begin_with(op);
        }
        cast
    }

    fn begin_with(&mut self, op: SignedOp) {
        self.empty.insert(op.clone()).unwrap();
        self.base.push(op);
    }

    pub(super) fn id(&self, device: usize) -> ControllerId {
        ControllerId::Device(self.devices[device].id())
    }

    pub(super) fn keys(&self, device: usize) -> &DeviceKeys {
        &self.devices[device]
    }

    fn sign(&self, by: usize, auth_parents: Vec<OpId>, op: Op, first_byte: Option<u8>) -> SignedOp {
        let (author, device) = (self.id(by), self.devices[by].id());
        let core = OpCore { chain: *chain().digest(), author, device, auth_parents, op };
        SignedOp::unsigned(core, self.signature.clone(), first_byte)
    }

    fn epoch(&self, to: BTreeSet<ControllerId>) -> EpochPart {
        let slot = |controller| Slot { controller, key: KeyId([0; 32]), sealed: Vec::new() };
        EpochPart { slots: to.into_iter().map(slot).collect(), ..self.part.clone() }
    }

    /// Makes the op of one who knows `heads` and all before them. `first_byte`: of its id, for an author that tries
    /// until the id suits it.
    pub(super) fn make(
        &self,
        graph: &mut AuthorityGraph,
        by: usize,
        heads: &[OpId],
        act: Act,
        first_byte: Option<u8>,
    ) -> SignedOp {
        let state = graph.state_at(heads).unwrap();
        let mut to: BTreeSet<ControllerId> = state.controllers.keys().copied().collect();
        let op = match act {
            Act::Rekey => Op::Rekey(Box::new(self.epoch(to))),
            Act::Leave => Op::Leave,
            Act::Revoke => Op::RevokeInvite(RevokeInvite { invite: self.invite }),
            Act::SetRole(who, role) => Op::SetRole(SetRole { controller: self.id(who), role, cut: Vec::new() }),
            Act::Remove(who) | Act::RemoveKeeping(who) => {
                to.remove(&self.id(who));
                let kept = if matches!(act, Act::RemoveKeeping(_)) { vec![self.invite] } else { Vec::new() };
                let (targets, epoch) = (vec![self.id(who)], self.epoch(to));
                Op::Remove(Box::new(Remove { targets, cut: Vec::new(), kept, co_signatures: Vec::new(), epoch }))
            }
            Act::Admit(who, role) => self.admit(who, role, by, false, to),
            Act::Update => {
                let keys = (self.devices[by].public().clone(), self.signature.clone());
                Op::Update(Box::new(Update { keys: Some(keys), as_of: Vec::new(), cut: Vec::new() }))
            }
            Act::Deactivate => Op::Deactivate(Deactivate { cut: Vec::new() }),
            Act::Recover(staying) => self.recover(state.recovery, by, staying),
            Act::Honour(who) => self.admit(who, Role::Member, by, true, to),
        };
        self.sign(by, heads.to_vec(), op, first_byte)
    }

    /// New keys for everybody that stands, on all there is.
    pub(super) fn rekey(&self, graph: &mut AuthorityGraph, by: usize) -> SignedOp {
        let heads = graph.heads();
        self.make(graph, by, &heads, Act::Rekey, None)
    }

    /// Removes those who left, on all there is.
    pub(super) fn remove_all(&self, graph: &mut AuthorityGraph, by: usize, targets: Vec<ControllerId>) -> SignedOp {
        let to = graph.state().controllers.keys().copied().filter(|id| !targets.contains(id)).collect();
        let (epoch, cut, kept) = (self.epoch(to), Vec::new(), vec![self.invite]);
        let op = Op::Remove(Box::new(Remove { targets, cut, kept, co_signatures: Vec::new(), epoch }));
        self.sign(by, graph.heads(), op, None)
    }

    fn recover(&self, in_force: Option<[u8; 32]>, by: usize, staying: Option<usize>) -> Op {
        let record = |who: usize| ControllerRecord::Device(self.devices[who].public().clone());
        let mut controllers = vec![(record(by), Role::Admin)];
        controllers.extend(staying.map(|who| (record(who), Role::Member)));
        controllers.sort_by_key(|(record, _)| record.id());
        let to = controllers.iter().map(|(record, _)| record.id()).collect();
        let at = self.recovery.iter().position(|key| Some(recovery_digest(key)) == in_force).unwrap_or_default();
        Op::Recover(Box::new(Recover {
            controllers,
            cut: Vec::new(),
            kept: Vec::new(),
            recovery_key: self.recovery[at].clone(),
            recovery_signature: HybridSignature::zero(),
            next_recovery: self.recovery.get(at + 1).map(recovery_digest),
            epoch: self.epoch(to),
        }))
    }

    fn admit(&self, who: usize, role: Role, by: usize, invited: bool, mut to: BTreeSet<ControllerId>) -> Op {
        to.insert(self.id(who));
        let request = &self.requests[&(who, by)];
        Op::Admit(Box::new(Admit {
            controller: request.newcomer.clone(),
            role,
            possession: request.possession.clone(),
            invitation: request.invitation.clone().filter(|_| invited),
            epoch: self.epoch(to),
        }))
    }
}

fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..PEOPLE).flat_map(|newcomer| (0..PEOPLE).filter(move |by| *by != newcomer).map(move |by| (newcomer, by)))
}
