//! Exhaustive check of the rules on small histories: a founder, one more admin, one member, one newcomer; every sequence
//! of up to [`DEPTH`] ops, each made either on all that exists or on what its author knew last, delivered in all orders.
//! `WALYTIS_MODEL_DEPTH=4` looks further (some minutes). Signatures are taken for granted here.

use std::collections::{BTreeMap, BTreeSet};

use walytis_core::clock::SeededEntropy;
use walytis_core::id::{BlockId, ChainId};
use walytis_core::secret::Secret;

use super::{AuthorityGraph, Builder, CreateOptions, IdentityState};
use crate::crypto::{DeviceKeys, KeyId};
use crate::id::{ControllerId, OpId, Role};
use crate::op::{Admit, EpochPart, Invite, Op, OpCore, Remove, RevokeInvite, SignedOp, Slot};
use crate::token::{InvitationKey, JoinRequest};

/// Ops in a row by default. Chosen: some seconds.
const DEPTH: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Action {
    Admit(usize, Role),
    Honour(usize),
    Remove(usize),
    Leave,
    Rekey,
    Revoke,
}

struct Model {
    devices: Vec<DeviceKeys>,
    /// By (newcomer, honouring device): proofs for the one invitation.
    requests: BTreeMap<(usize, usize), JoinRequest>,
    part: EpochPart,
    base: Vec<SignedOp>,
    /// The base and no more.
    empty: Option<AuthorityGraph>,
    invite: OpId,
    seen: BTreeSet<Vec<OpId>>,
    checked: usize,
    depth: usize,
}

#[derive(Clone)]
struct World {
    graph: AuthorityGraph,
    ops: Vec<SignedOp>,
    knows: Vec<Vec<OpId>>,
}

fn chain() -> ChainId {
    ChainId(BlockId::of_file(b"model"))
}

impl Model {
    fn new(depth: usize) -> (Self, World) {
        let entropy = SeededEntropy::new(1);
        let devices: Vec<_> = (0..4).map(|_| DeviceKeys::generate(&entropy)).collect();
        let create = Builder::create(&devices[0], &CreateOptions::default(), &entropy).unwrap().op;
        let part = create.core().op.epoch().unwrap().clone();
        let mut graph = AuthorityGraph::new(chain(), create.clone()).unwrap();
        graph.unsigned = true;
        let key = InvitationKey::from_seed(&Secret::new([7; 32]), &chain());
        let mut model = Self {
            devices,
            requests: BTreeMap::new(),
            part,
            base: vec![create],
            empty: None,
            invite: OpId([0; 32]),
            seen: BTreeSet::new(),
            checked: 0,
            depth,
        };
        let invite = Op::Invite(Invite { key: key.public(), role: Role::Member, uses: Some(1), expires_at_ms: None });
        let invite = model.sign(0, graph.heads(), invite);
        model.invite = invite.id();
        model.base.push(invite.clone());
        graph.insert(invite).unwrap();
        for newcomer in 0..4 {
            for by in (0..4).filter(|by| *by != newcomer) {
                let controller = model.id(by);
                let invitation = Some((&model.invite, &key));
                let request = JoinRequest::new(&model.devices[newcomer], &chain(), &controller, invitation, &entropy);
                model.requests.insert((newcomer, by), request);
            }
        }
        for (who, role) in [(1, Role::Admin), (2, Role::Member)] {
            let heads = graph.heads();
            let op = model.make(&mut graph, 0, &heads, Action::Admit(who, role));
            model.base.push(op.clone());
            graph.insert(op).unwrap();
        }
        let heads = graph.heads();
        model.empty = Some(graph.clone());
        (model, World { graph, ops: Vec::new(), knows: vec![heads; 4] })
    }

    fn id(&self, device: usize) -> ControllerId {
        ControllerId::Device(self.devices[device].id())
    }

    fn sign(&self, by: usize, auth_parents: Vec<OpId>, op: Op) -> SignedOp {
        let core =
            OpCore { chain: *chain().digest(), author: self.id(by), device: self.devices[by].id(), auth_parents, op };
        SignedOp::unsigned(core, self.base[0].signature().clone())
    }

    fn epoch(&self, to: BTreeSet<ControllerId>) -> EpochPart {
        let slot = |controller| Slot { controller, key: KeyId([0; 32]), sealed: Vec::new() };
        EpochPart { slots: to.into_iter().map(slot).collect(), ..self.part.clone() }
    }

    fn make(&self, graph: &mut AuthorityGraph, by: usize, heads: &[OpId], action: Action) -> SignedOp {
        let state = graph.state_at(heads).unwrap();
        let mut to: BTreeSet<ControllerId> = state.controllers.keys().copied().collect();
        let op = match action {
            Action::Rekey => Op::Rekey(Box::new(self.epoch(to))),
            Action::Leave => Op::Leave,
            Action::Revoke => Op::RevokeInvite(RevokeInvite { invite: self.invite }),
            Action::Remove(target) => {
                to.remove(&self.id(target));
                Op::Remove(Box::new(Remove {
                    targets: vec![self.id(target)],
                    cut: Vec::new(),
                    kept: Vec::new(),
                    co_signatures: Vec::new(),
                    epoch: self.epoch(to),
                }))
            }
            Action::Admit(who, role) => self.admit(who, role, by, false, to),
            Action::Honour(who) => self.admit(who, Role::Member, by, true, to),
        };
        self.sign(by, heads.to_vec(), op)
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

    fn actions(by: usize) -> Vec<Action> {
        let mut actions = vec![Action::Leave, Action::Rekey, Action::Revoke];
        for other in (0..4).filter(|other| *other != by) {
            actions.push(Action::Remove(other));
            actions.push(Action::Honour(other));
            actions.push(Action::Admit(other, Role::Member));
        }
        actions.push(Action::Admit((by + 3) % 4, Role::Admin));
        actions
    }

    fn explore(&mut self, world: &World) {
        if world.ops.len() == self.depth {
            return;
        }
        for by in 0..4 {
            let mut views = vec![world.graph.heads(), world.knows[by].clone()];
            views.dedup();
            for heads in views {
                for action in Self::actions(by) {
                    let mut next = world.clone();
                    let op = self.make(&mut next.graph, by, &heads, action);
                    let id = op.id();
                    if !matches!(next.graph.insert(op.clone()), Ok(super::Inserted::New(_))) {
                        continue;
                    }
                    next.ops.push(op);
                    next.knows[by] = vec![id];
                    let mut set: Vec<OpId> = next.ops.iter().map(SignedOp::id).collect();
                    set.sort_unstable();
                    if self.seen.insert(set) {
                        self.check(&mut next);
                        self.explore(&next);
                    }
                }
            }
        }
    }

    fn check(&mut self, world: &mut World) {
        self.checked += 1;
        let state = world.graph.state();
        self.same_in_all_orders(&world.ops, &state);
        let all = || self.base.iter().chain(&world.ops);
        let by_id: BTreeMap<OpId, &SignedOp> = all().map(|op| (op.id(), op)).collect();
        let history =
            || world.ops.iter().map(|op| format!("{op:?} on {:?}", op.core().auth_parents)).collect::<Vec<_>>();
        for controller in state.controllers.values() {
            let since = by_id[&controller.since];
            assert!(!state.void.contains_key(&since.id()), "{:#?}", history());
            for removal in state.removals.iter().filter(|removal| removal.target == controller.id) {
                assert!(is_before(&by_id, removal.op, since.id()), "removed, yet it stands: {:#?}", history());
            }
            let Op::Admit(admit) = &since.core().op else {
                assert!(matches!(since.core().op, Op::Create(_)));
                continue;
            };
            // Who let it in had the right to, as the rules of admission say in so many words.
            let past = world.graph.state_at(&since.core().auth_parents).unwrap();
            let role = past.role(&since.core().author).unwrap();
            let by_right = role == Role::Admin && admit.invitation.is_none();
            let by_invitation = role.writes() && admit.invitation.is_some() && admit.role == Role::Member;
            assert!(by_right || by_invitation, "{:#?}", history());
            assert!(controller.role != Role::Admin || by_right, "admin by invitation: {:#?}", history());
            assert_ne!(since.core().author, controller.id, "{:#?}", history());
        }
        let removes = world.ops.iter().any(|op| matches!(op.core().op, Op::Remove(_)));
        let governed = state.controllers.values().any(|controller| controller.role == Role::Admin);
        assert!(removes || governed, "leaves alone took the last admin: {:#?}", history());
        if let Some(epoch) = state.sending_epoch {
            assert!(state.epochs[&epoch].recipients.iter().eq(state.controllers.keys()), "{:#?}", history());
        }
        let used = &state.invitations.get(&self.invite).map(|found| found.used_by.len()).unwrap_or_default();
        assert!(*used <= 1, "used twice: {:#?}", history());
    }

    fn same_in_all_orders(&self, ops: &[SignedOp], expected: &IdentityState) {
        let mut order: Vec<usize> = (0..ops.len()).collect();
        loop {
            let Some(mut graph) = self.empty.clone() else { panic!("set at the beginning") };
            for at in &order {
                graph.insert(ops[*at].clone()).unwrap();
            }
            assert_eq!(*graph.state(), *expected, "{order:?} of {ops:#?}");
            if !next_permutation(&mut order) {
                return;
            }
        }
    }
}

fn is_before(ops: &BTreeMap<OpId, &SignedOp>, earlier: OpId, later: OpId) -> bool {
    let mut open = vec![later];
    while let Some(at) = open.pop() {
        let parents = &ops[&at].core().auth_parents;
        if parents.contains(&earlier) {
            return true;
        }
        open.extend(parents);
    }
    false
}

fn next_permutation(order: &mut [usize]) -> bool {
    let Some(at) = (1..order.len()).rev().find(|at| order[at - 1] < order[*at]) else { return false };
    let swap = (at..order.len()).rev().find(|other| order[*other] > order[at - 1]).unwrap();
    order.swap(at - 1, swap);
    order[at..].reverse();
    true
}

#[test]
fn every_small_history_keeps_the_rules() {
    let depth = std::env::var("WALYTIS_MODEL_DEPTH").ok().and_then(|depth| depth.parse().ok()).unwrap_or(DEPTH);
    let (mut model, world) = Model::new(depth);
    model.explore(&world);
    assert!(model.checked > 500, "{} sets", model.checked);
}
