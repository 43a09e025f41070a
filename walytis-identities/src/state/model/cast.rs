//! Who takes part in the model, and how they make ops: well formed, with the slots that a rightful author would deal.

use std::collections::{BTreeMap, BTreeSet};

use walytis_core::clock::SeededEntropy;
use walytis_core::id::{BlockId, ChainId};
use walytis_core::key::{PublicKey, Signer as _};
use walytis_core::secret::Secret;

use crate::crypto::{DeviceKeys, HybridSignature, KeyId};
use crate::id::{ControllerId, DeviceId, OpId, Role};
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

/// A word for what is no [`Act`] of a family: the removal that is due after leaves.
const REMOVE_LEFT: u64 = u64::MAX;

impl Act {
    /// Whom it is about, if not its author.
    pub(super) const fn target(self) -> Option<usize> {
        match self {
            Self::Admit(who, _) | Self::Honour(who) | Self::Remove(who) | Self::RemoveKeeping(who) => Some(who),
            Self::Recover(staying) => staying,
            Self::SetRole(..) | Self::Leave | Self::Rekey | Self::Revoke | Self::Update | Self::Deactivate => None,
        }
    }

    /// A word for each.
    fn word(self) -> u64 {
        let word = |kind: u64, who: usize, role: Role| (kind << 16) | ((who as u64) << 8) | role as u64;
        match self {
            Self::Admit(who, role) => word(1, who, role),
            Self::Honour(who) => word(2, who, Role::Member),
            Self::Remove(who) => word(3, who, Role::Member),
            Self::RemoveKeeping(who) => word(4, who, Role::Member),
            Self::SetRole(who, role) => word(5, who, role),
            Self::Recover(who) => word(6, who.unwrap_or(PEOPLE), Role::Member),
            Self::Leave => 7,
            Self::Rekey => 8,
            Self::Revoke => 9,
            Self::Update => 10,
            Self::Deactivate => 11,
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
    ids: Vec<DeviceId>,
    /// With which they sign blocks.
    block_keys: Vec<PublicKey>,
    /// Some block.
    pub(super) record: BlockId,
    /// Which ids fall.
    draw: u64,
    /// By (newcomer, honouring device): proofs for the invitation of the beginning.
    requests: BTreeMap<(usize, usize), JoinRequest>,
    /// The recovery keys: each is followed by the next.
    recovery: Vec<RecoveryPublic>,
    part: EpochPart,
    signature: HybridSignature,
    pub(super) invite: OpId,
    /// What all histories begin with.
    pub(super) empty: AuthorityGraph,
    /// Its heads.
    pub(super) heads: Vec<OpId>,
}

pub(super) fn chain() -> ChainId {
    ChainId(BlockId::of_file(b"model"))
}

impl Cast {
    /// `draw`: which ids fall.
    pub(super) fn new(beginning: &Beginning, draw: u64) -> Self {
        let entropy = SeededEntropy::new(1);
        let devices: Vec<_> = (0..PEOPLE).map(|_| DeviceKeys::generate(&entropy)).collect();
        let recovery: Vec<_> = (0..3).map(|_| RecoveryCode::generate(&entropy).key().public()).collect();
        let options = CreateOptions { recovery: recovery.first().map(recovery_digest), ..CreateOptions::default() };
        let create = Builder::create(&devices[A], &options, &entropy).unwrap().op;
        let part = create.core().op.epoch().unwrap().clone();
        let mut empty = AuthorityGraph::new(chain(), create.clone()).unwrap();
        empty.unsigned = true;
        let signature = create.signature().clone();
        let ids = devices.iter().map(DeviceKeys::id).collect();
        let block_keys = devices.iter().map(DeviceKeys::public_key).collect();
        let (record, heads) = (BlockId::of_file(b"record"), empty.heads());
        let (requests, invite) = (BTreeMap::new(), OpId([0; 32]));
        let mut cast =
            Self { devices, ids, block_keys, record, draw, requests, recovery, part, signature, invite, empty, heads };
        let key = InvitationKey::from_seed(&Secret::new([7; 32]), &chain());
        let invite = Invite { key: key.public(), role: Role::Member, uses: beginning.uses, expires_at_ms: None };
        let id = drawn(draw, &[0, 0]);
        cast.begin_with(cast.sign(A, cast.heads.clone(), Op::Invite(invite), id));
        cast.invite = id;
        for (newcomer, by) in pairs() {
            let invitation = Some((&cast.invite, &key));
            let request = JoinRequest::new(&cast.devices[newcomer], &chain(), &cast.id(by), invitation, &entropy);
            cast.requests.insert((newcomer, by), request);
        }
        for (who, role) in beginning.admitted {
            let mut graph = cast.empty.clone();
            let act = Act::Admit(*who, *role);
            let id = cast.op_id(A, &cast.heads, act, None);
            let op = cast.make(&mut graph, A, &cast.heads, act, id);
            cast.begin_with(op);
        }
        cast.empty.nodes.proved = true;
        cast
    }

    fn begin_with(&mut self, op: SignedOp) {
        self.empty.insert(op).unwrap();
        self.heads = self.empty.heads();
    }

    pub(super) fn id(&self, device: usize) -> ControllerId {
        ControllerId::Device(self.ids[device])
    }

    pub(super) fn block_key(&self, device: usize) -> PublicKey {
        self.block_keys[device]
    }

    /// Returns the id of an op. `first_byte`: for an author that tries until the id suits it.
    pub(super) fn op_id(&self, by: usize, heads: &[OpId], act: Act, first_byte: Option<u8>) -> OpId {
        let mut id = self.drawn_id(by, heads, act.word());
        if let Some(chosen) = first_byte {
            id.0[0] = chosen;
        }
        id
    }

    fn drawn_id(&self, by: usize, heads: &[OpId], word: u64) -> OpId {
        let parents =
            heads.iter().flat_map(|id| id.0.chunks(8)).map(|part| part.try_into().map_or(0, u64::from_le_bytes));
        let words: Vec<u64> = [by as u64, word].into_iter().chain(parents).collect();
        drawn(self.draw, &words)
    }

    fn sign(&self, by: usize, auth_parents: Vec<OpId>, op: Op, id: OpId) -> SignedOp {
        let (author, device) = (self.id(by), self.ids[by]);
        let core = OpCore { chain: *self.empty.chain().digest(), author, device, auth_parents, op };
        SignedOp::modelled(core, self.signature.clone(), id)
    }

    fn epoch(&self, to: BTreeSet<ControllerId>) -> EpochPart {
        let slot = |controller| Slot { controller, key: KeyId([0; 32]), sealed: Vec::new() };
        EpochPart { slots: to.into_iter().map(slot).collect(), ..self.part.clone() }
    }

    /// Makes the op of one who knows `heads` and all before them; `id`: what [`Self::op_id`] says.
    pub(super) fn make(&self, graph: &mut AuthorityGraph, by: usize, heads: &[OpId], act: Act, id: OpId) -> SignedOp {
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
        self.sign(by, heads.to_vec(), op, id)
    }

    /// New keys for everybody that stands, on all there is.
    pub(super) fn rekey(&self, graph: &mut AuthorityGraph, by: usize) -> SignedOp {
        let heads = graph.heads();
        let id = self.op_id(by, &heads, Act::Rekey, None);
        self.make(graph, by, &heads, Act::Rekey, id)
    }

    /// Removes those who left, on all there is.
    pub(super) fn remove_all(&self, graph: &mut AuthorityGraph, by: usize, targets: Vec<ControllerId>) -> SignedOp {
        let to = graph.state().controllers.keys().copied().filter(|id| !targets.contains(id)).collect();
        let (epoch, cut, kept) = (self.epoch(to), Vec::new(), vec![self.invite]);
        let op = Op::Remove(Box::new(Remove { targets, cut, kept, co_signatures: Vec::new(), epoch }));
        let heads = graph.heads();
        let id = self.drawn_id(by, &heads, REMOVE_LEFT);
        self.sign(by, heads, op, id)
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

/// Returns an id that seems to have fallen. No digest of the op: that would take most of the time.
fn drawn(draw: u64, words: &[u64]) -> OpId {
    // SplitMix64.
    let mix = |state: u64, word: u64| {
        let z = (state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let mut state = words.iter().copied().fold(draw, mix);
    let mut id = [0; 32];
    for part in id.chunks_mut(8) {
        state = mix(state, 1);
        part.copy_from_slice(&state.to_le_bytes());
    }
    OpId(id)
}

fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..PEOPLE).flat_map(|newcomer| (0..PEOPLE).filter(move |by| *by != newcomer).map(move |by| (newcomer, by)))
}
