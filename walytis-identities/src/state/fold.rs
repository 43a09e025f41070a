//! From an evaluated set to the state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::evaluate::Evaluation;
use super::nested::{NestedView, slots_are_sound};
use super::nodes::{Node, Nodes};
use super::view::{Standing, View};
use super::{
    ActingDevice, Controller, Deactivation, Demotion, EpochInfo, IdentityState, Invitation, Recovery, Removal, Subject,
};
use crate::crypto::KeyId;
use crate::id::{ControllerId, Did, EpochId, OpId};
use crate::op::{HistoryPolicy, Op};

/// Returns the state of an evaluated set.
/// `nested`: every identity that the set names.
pub(super) fn fold(
    nodes: &Nodes,
    evaluation: Arc<Evaluation>,
    nested: &BTreeMap<Did, Arc<NestedView>>,
) -> IdentityState {
    let view = evaluation.view(nodes);
    let members: Vec<usize> = evaluation.set.iter().collect();
    let history = match members.first().map(|at| nodes.at(*at).kind()) {
        Some(Op::Create(op)) => op.history,
        _ => HistoryPolicy::None,
    };
    let controllers: BTreeMap<_, _> = view
        .controllers()
        .into_iter()
        .filter_map(|(id, standing)| controller(&view, id, standing, history, nested).map(|found| (id, found)))
        .collect();
    let epochs = epochs(nodes, &view, &members);
    let latest_epochs = latest(nodes, &epochs);
    let deactivated = deactivated(&view);
    let opens = |did: &Did, key: &KeyId| nested.get(did).is_some_and(|view| view.is_sound(key));
    let is_sound = |id: &EpochId| nodes.find(id).is_some_and(|at| slots_are_sound(nodes.at(at).kind(), opens));
    let fitting = |id: &EpochId| is_sound(id) && epochs.get(id).is_some_and(|epoch| fits(epoch, &controllers));
    let sending_epoch = latest_epochs
        .iter()
        .copied()
        .filter(|_| deactivated.is_none())
        .find(|id| fitting(id) && !exposed(nodes, &members, id, &controllers));
    let void = members.iter().filter_map(|at| {
        let reason = evaluation.void.get(*at).copied().flatten()?;
        Some((nodes.at(*at).id(), reason))
    });
    IdentityState {
        heads: heads(nodes, &members),
        history,
        recovery: view.recovery_digest(),
        recoveries: recoveries(&view),
        deactivated,
        services: services(&view),
        leaving: view.leaving().into_iter().map(|(id, at)| (id, nodes.at(at).id())).collect(),
        removals: removals(nodes, &view, &members),
        demotions: demotions(nodes, &view, &members),
        invitations: invitations(nodes, &view, &members),
        void: void.collect(),
        controllers,
        epochs,
        latest_epochs,
        sending_epoch,
        evaluation: evaluation.clone(),
    }
}

fn controller(
    view: &View<'_>,
    id: ControllerId,
    standing: Standing,
    policy: HistoryPolicy,
    nested: &BTreeMap<Did, Arc<NestedView>>,
) -> Option<Controller> {
    let node = view.nodes.at(standing.since);
    let founder = matches!(node.kind(), Op::Create(_));
    let subject = match id {
        ControllerId::Device(_) => {
            Subject::Device(Arc::new(with_updates(view, ActingDevice::new(node.device_of(&id)?.clone()))))
        }
        ControllerId::Identity(did) => {
            let introduced = view.introductions(&did).map(|(_, device)| device).collect();
            Subject::Identity(Arc::new(nested.get(&did)?.acting(did, &introduced)))
        }
    };
    Some(Controller {
        id,
        role: standing.role,
        since: node.id(),
        rank: standing.rank,
        subject,
        history: standing.role.reads() && (founder || policy == HistoryPolicy::All),
    })
}

/// Returns a device with the keys by which it replaced its first ones.
fn with_updates(view: &View<'_>, device: ActingDevice) -> ActingDevice {
    let id = device.id();
    let keys = |at: usize| match view.nodes.at(at).kind() {
        Op::Update(op) => op.keys.as_ref().map(|(public, _)| public),
        _ => None,
    };
    match view.update(&id).and_then(keys) {
        Some(current) => device.renewed(current, view.updates(&id).filter_map(keys)),
        None => device,
    }
}

fn recoveries(view: &View<'_>) -> Vec<Recovery> {
    let mut counting: Vec<usize> = view.nodes.recoveries.iter().copied().filter(|at| view.counts(*at)).collect();
    counting.sort_by_key(|at| view.nodes.at(*at).order());
    let recovery = |at: usize| match view.nodes.at(at).kind() {
        Op::Recover(op) => {
            Some(Recovery { op: view.nodes.at(at).id(), by: view.nodes.at(at).author(), cut: op.cut.clone() })
        }
        _ => None,
    };
    counting.into_iter().filter_map(recovery).collect()
}

fn deactivated(view: &View<'_>) -> Option<Deactivation> {
    let node = view.nodes.at(view.deactivated()?);
    match node.kind() {
        Op::Deactivate(op) => Some(Deactivation { op: node.id(), by: node.author(), cut: op.cut.clone() }),
        _ => None,
    }
}

fn services(view: &View<'_>) -> Vec<(String, String, String)> {
    match view.document().map(|at| view.nodes.at(at).kind()) {
        Some(Op::Document(op)) => op.services.clone(),
        _ => Vec::new(),
    }
}

/// Says whether exactly those who control the identity can open the epoch, and exactly those who read hold its secret.
fn fits(epoch: &EpochInfo, controllers: &BTreeMap<ControllerId, Controller>) -> bool {
    let readers = controllers.values().filter(|controller| controller.role.reads()).map(|controller| &controller.id);
    epoch.recipients.iter().eq(controllers.keys()) && epoch.readers.iter().eq(readers)
}

/// Says whether a later op, void or not, carried the epoch's secret on to somebody who is no reader now: an op starts an
/// epoch whose history holds those before it, and what was dealt cannot be taken back.
fn exposed(
    nodes: &Nodes,
    members: &[usize],
    epoch: &EpochId,
    controllers: &BTreeMap<ControllerId, Controller>,
) -> bool {
    let Some(at) = nodes.find(epoch) else { return false };
    let reads = |id: &ControllerId| controllers.get(id).is_some_and(|controller| controller.role.reads());
    // Nobody else could open it: without this, one who is removed could have the keys renewed again and again.
    let by_reader = |node: &&Node| node.past.has(at) && reads(&node.author());
    let later = members.iter().map(|member| nodes.at(*member)).filter(by_reader);
    later.filter_map(|node| node.dealt.as_ref()).any(|dealt| !dealt.readers.iter().all(reads))
}

fn heads(nodes: &Nodes, members: &[usize]) -> Vec<OpId> {
    let mut heads: BTreeSet<OpId> = members.iter().map(|at| nodes.at(*at).id()).collect();
    for at in members {
        for parent in &nodes.at(*at).op.core().auth_parents {
            heads.remove(parent);
        }
    }
    heads.into_iter().collect()
}

fn epochs(nodes: &Nodes, view: &View<'_>, members: &[usize]) -> BTreeMap<EpochId, EpochInfo> {
    let info = |at: usize| {
        let node = nodes.at(at);
        let (part, dealt) = (node.kind().epoch()?, node.dealt.as_ref()?);
        let info = EpochInfo {
            id: node.id(),
            depth: node.depth,
            recipients: part.recipients().collect(),
            readers: dealt.readers.to_vec(),
            counts: dealt.fits,
            key: KeyId::of(&part.receiving),
        };
        Some((node.id(), info))
    };
    members.iter().copied().filter(|at| view.counts(*at)).filter_map(info).collect()
}

fn latest(nodes: &Nodes, epochs: &BTreeMap<EpochId, EpochInfo>) -> BTreeSet<EpochId> {
    let counting: Vec<usize> =
        epochs.values().filter(|epoch| epoch.counts).filter_map(|epoch| nodes.find(&epoch.id)).collect();
    let followed = |at: usize| counting.iter().any(|other| nodes.at(*other).past.has(at));
    counting.iter().copied().filter(|at| !followed(*at)).map(|at| nodes.at(at).id()).collect()
}

fn removals(nodes: &Nodes, view: &View<'_>, members: &[usize]) -> Vec<Removal> {
    let mut removals = Vec::new();
    for at in members.iter().copied().filter(|at| view.counts(*at)) {
        let node = nodes.at(at);
        let Op::Remove(op) = node.kind() else { continue };
        for target in &op.targets {
            let rank = rank_before(nodes, view, at, target);
            let left = nodes.endings.get(target).into_iter().flatten().any(|ending| {
                node.past.has(*ending) && view.counts(*ending) && matches!(nodes.at(*ending).kind(), Op::Leave)
            });
            removals.push(Removal {
                op: node.id(),
                by: node.author(),
                target: *target,
                cut: op.cut.clone(),
                provisional: !left && rank.is_some_and(|rank| rank < node.rank) && !confirmed(nodes, view, at),
            });
        }
    }
    removals.sort_by_key(|removal| (nodes.find(&removal.op).map(|at| nodes.at(at).order()), removal.target));
    removals
}

/// Says whether a recovery knows the op: nothing beside it can undo it any more.
fn confirmed(nodes: &Nodes, view: &View<'_>, at: usize) -> bool {
    nodes.recoveries.iter().any(|recovery| view.counts(*recovery) && nodes.at(*recovery).past.has(at))
}

/// Returns the demotions that count; in canonical order of their ops.
fn demotions(nodes: &Nodes, view: &View<'_>, members: &[usize]) -> Vec<Demotion> {
    let demotion = |at: usize| {
        let node = nodes.at(at);
        let Op::SetRole(op) = node.kind() else { return None };
        let senior = rank_before(nodes, view, at, &op.controller).is_some_and(|rank| rank < node.rank);
        Some(Demotion {
            op: node.id(),
            by: node.author(),
            target: op.controller,
            role: op.role,
            cut: op.cut.clone(),
            provisional: op.controller != node.author() && senior && !confirmed(nodes, view, at),
        })
    };
    let mut counting: Vec<usize> =
        members.iter().copied().filter(|at| nodes.at(*at).demotes && view.counts(*at)).collect();
    counting.sort_by_key(|at| nodes.at(*at).order());
    counting.into_iter().filter_map(demotion).collect()
}

/// Returns the rank that a removal's target had before it.
fn rank_before(nodes: &Nodes, view: &View<'_>, removal: usize, target: &ControllerId) -> Option<(u32, OpId)> {
    let past = View { set: &nodes.at(removal).past, ..*view };
    past.standing(target).map(|standing| standing.rank)
}

fn invitations(nodes: &Nodes, view: &View<'_>, members: &[usize]) -> BTreeMap<OpId, Invitation> {
    let found = |at: usize| {
        let node = nodes.at(at);
        let Op::Invite(op) = node.kind() else { return None };
        let invitation = Invitation {
            id: node.id(),
            author: node.author(),
            key: op.key,
            role: op.role,
            uses: op.uses,
            used_by: view.used_by(&node.id()),
            expires_at_ms: op.expires_at_ms,
            revoked_by: revoker(nodes, view, at),
        };
        Some((node.id(), invitation))
    };
    members.iter().copied().filter(|at| view.counts(*at)).filter_map(found).collect()
}

/// Returns the earliest op in authority order that revokes the invitation.
fn revoker(nodes: &Nodes, view: &View<'_>, invite: usize) -> Option<OpId> {
    let revoking = |at: &usize| view.counts(*at) && super::view::revokes(nodes, *at, invite);
    nodes.revokers.iter().copied().filter(revoking).map(|at| nodes.at(at).order()).min().map(|order| order.1)
}
