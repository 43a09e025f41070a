//! From an evaluated set to the state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::evaluate::Evaluation;
use super::nested::{NestedView, slots_are_sound};
use super::nodes::{Node, Nodes};
use super::view::{Standing, View, unfollowed};
use super::{
    ActingDevice, Controller, Deactivation, Demotion, EpochInfo, IdentityState, Invitation, Recovery, Removal, Subject,
};
use crate::crypto::KeyId;
use crate::id::{ControllerId, DeviceId, Did, EpochId, OpId};
use crate::op::{HistoryPolicy, Op};

/// What grows with the number of ops. Of a base it stays as it is, but for what of its invitations becomes.
#[derive(Clone, Debug, Default)]
struct Grown {
    removals: Arc<Vec<Removal>>,
    demotions: Arc<Vec<Demotion>>,
    invitations: Arc<BTreeMap<OpId, Invitation>>,
    epochs: Arc<BTreeMap<EpochId, EpochInfo>>,
    void: Arc<BTreeMap<OpId, super::VoidReason>>,
}

/// Returns the state of an evaluated set. `base`: the state of a base of it, if there is one; the outcome is the same.
/// `nested`: every identity that the set names.
pub(super) fn fold(
    nodes: &Nodes,
    base: Option<&IdentityState>,
    evaluation: Arc<Evaluation>,
    nested: &BTreeMap<Did, Arc<NestedView>>,
) -> IdentityState {
    let view = evaluation.view(nodes);
    let recovers = |at: usize| view.counts(at) && matches!(nodes.at(at).kind(), Op::Recover(_));
    let rest = |base: &IdentityState| evaluation.set.minus(&base.evaluation.set);
    // A recovery has the last word on removals that were provisional.
    let base = base.filter(|base| !rest(base).iter().any(recovers));
    let members: Vec<usize> = base.map_or_else(|| evaluation.set.clone(), rest).iter().collect();
    let Grown { removals, demotions, invitations, epochs, void } = grown(nodes, base, &evaluation, &members);
    let (history, renew_after_s) = match evaluation.set.iter().next().map(|at| nodes.at(at).kind()) {
        Some(Op::Create(op)) => (op.history, op.renew_after_s),
        _ => (HistoryPolicy::None, None),
    };
    let controllers: BTreeMap<_, _> = view
        .controllers()
        .into_iter()
        .filter_map(|(id, standing)| controller(&view, id, standing, history, nested).map(|found| (id, found)))
        .collect();
    let latest_epochs = latest(nodes, base, &view, &members);
    let deactivated = deactivated(&view);
    let opens = |did: &Did, key: &KeyId| nested.get(did).is_some_and(|view| view.is_sound(key));
    let is_sound = |id: &EpochId| nodes.find(id).is_some_and(|at| slots_are_sound(nodes.at(at).kind(), opens));
    let fitting = |id: &EpochId| is_sound(id) && epochs.get(id).is_some_and(|epoch| fits(epoch, &controllers));
    let sending_epoch = latest_epochs
        .iter()
        .copied()
        .filter(|_| deactivated.is_none())
        .find(|id| fitting(id) && !exposed(nodes, &evaluation, id, &controllers));
    IdentityState {
        heads: heads(nodes, base, &members),
        history,
        renew_after: renew_after_s.map(|age| Duration::from_secs(age.into())),
        recovery: view.recovery_digest(),
        recoveries: recoveries(&view),
        deactivated,
        services: services(&view),
        leaving: view.leaving().into_iter().map(|(id, at)| (id, nodes.at(at).id())).collect(),
        removals,
        demotions,
        invitations,
        void,
        controllers,
        epochs,
        latest_epochs,
        sending_epoch,
        evaluation: Arc::clone(&evaluation),
    }
}

fn grown(nodes: &Nodes, base: Option<&IdentityState>, evaluation: &Evaluation, members: &[usize]) -> Grown {
    let view = evaluation.view(nodes);
    let mut grown = base.map_or_else(Grown::default, |base| Grown {
        removals: Arc::clone(&base.removals),
        demotions: Arc::clone(&base.demotions),
        invitations: Arc::clone(&base.invitations),
        epochs: Arc::clone(&base.epochs),
        void: Arc::clone(&base.void),
    });
    let mut ordered: Vec<usize> = members.to_vec();
    // All of them lie deeper than the base.
    ordered.sort_by_cached_key(|at| nodes.at(*at).order());
    for at in ordered.iter().copied() {
        let node = nodes.at(at);
        if let Some(reason) = evaluation.void.reasons.get(&at) {
            Arc::make_mut(&mut grown.void).insert(node.id(), *reason);
            continue;
        }
        if let Some(info) = epoch_info(node) {
            Arc::make_mut(&mut grown.epochs).insert(node.id(), info);
        }
        match node.kind() {
            Op::Remove(_) => Arc::make_mut(&mut grown.removals).extend(removals(nodes, &view, at)),
            Op::SetRole(_) if node.demotes => Arc::make_mut(&mut grown.demotions).extend(demotion(nodes, &view, at)),
            Op::Invite(op) => {
                let made = Invitation {
                    id: node.id(),
                    author: node.author(),
                    key: op.key,
                    role: op.role,
                    uses: op.uses,
                    used_by: Vec::new(),
                    expires_at_ms: op.expires_at_ms,
                    revoked_by: None,
                };
                Arc::make_mut(&mut grown.invitations).insert(node.id(), made);
            }
            _ => {}
        }
    }
    let counting: Vec<usize> = ordered.into_iter().filter(|at| view.counts(*at)).collect();
    note_uses(nodes, &view, &counting, &mut grown);
    note_revocations(&view, &counting, &mut grown);
    grown
}

/// Notes who came by which invitation. `counting`: what counts beside the base.
fn note_uses(nodes: &Nodes, view: &View<'_>, counting: &[usize], grown: &mut Grown) {
    let used: BTreeSet<OpId> =
        counting.iter().filter_map(|at| nodes.at(*at).honours()).map(|(invite, _)| invite).collect();
    for invite in used.iter().filter(|invite| view.invite(invite).is_some()) {
        if let Some(found) = Arc::make_mut(&mut grown.invitations).get_mut(invite) {
            found.used_by = view.used_by(invite);
        }
    }
}

/// Notes by what invitations are revoked first. `counting`: what counts beside the base, in authority order.
fn note_revocations(view: &View<'_>, counting: &[usize], grown: &mut Grown) {
    let nodes = view.nodes;
    let may_revoke = |at: &usize| match nodes.at(*at).kind() {
        Op::RevokeInvite(_) | Op::Remove(_) | Op::Recover(_) => true,
        Op::Update(_) => !nodes.at(*at).retires.is_empty(),
        _ => false,
    };
    for by in counting.iter().copied().filter(may_revoke) {
        let revoked = |invite: &&Invitation| {
            invite.revoked_by.is_none() && nodes.find(&invite.id).is_some_and(|made| view.revokes(by, made))
        };
        let revoked: Vec<OpId> = grown.invitations.values().filter(revoked).map(|invite| invite.id).collect();
        for id in revoked {
            if let Some(found) = Arc::make_mut(&mut grown.invitations).get_mut(&id) {
                found.revoked_by = Some(nodes.at(by).id());
            }
        }
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
        ControllerId::Device(device) => Subject::Device(with_updates(view, &device, node.device_of(&id)?)),
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

/// Returns a device with the keys by which it replaced its first ones. The last that counts are in force; its blocks, as its
/// ops, verify by void renewals, too: they were signed by the keys before, and beside a recovery that keeps the device it has
/// no other ones any more.
fn with_updates(view: &View<'_>, id: &DeviceId, device: &Arc<ActingDevice>) -> Arc<ActingDevice> {
    let keys = |at: usize| match view.nodes.at(at).kind() {
        Op::Update(op) => op.keys.as_ref().map(|(public, _)| public),
        _ => None,
    };
    if view.updates(id).next().is_none() {
        return Arc::clone(device);
    }
    let current = view.update(id).and_then(keys).unwrap_or(&device.current);
    Arc::new(device.renewed(current, view.updates(id).filter_map(keys)))
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
    evaluation: &Evaluation,
    epoch: &EpochId,
    controllers: &BTreeMap<ControllerId, Controller>,
) -> bool {
    let Some(at) = nodes.find(epoch) else { return false };
    let reads = |id: &ControllerId| controllers.get(id).is_some_and(|controller| controller.role.reads());
    // Nobody else could open it: without this, one who is removed could have the keys renewed again and again.
    let by_reader = |node: &&Node| node.past.has(at) && reads(&node.author());
    let later = nodes.epochs.iter().rev().copied().take_while(|later| *later > at);
    let later = later.filter(|later| evaluation.set.has(*later)).map(|later| nodes.at(later)).filter(by_reader);
    later.filter_map(|node| node.dealt.as_ref()).any(|dealt| !dealt.readers.iter().all(reads))
}

fn heads(nodes: &Nodes, base: Option<&IdentityState>, members: &[usize]) -> Vec<OpId> {
    let before = base.iter().flat_map(|base| &base.heads).filter_map(|id| nodes.find(id));
    let mut heads: Vec<OpId> = unfollowed(nodes, before.chain(members.iter().copied()).collect())
        .into_iter()
        .map(|at| nodes.at(at).id())
        .collect();
    heads.sort_unstable();
    heads
}

fn epoch_info(node: &Node) -> Option<EpochInfo> {
    let dealt = node.dealt.as_ref()?;
    Some(EpochInfo {
        id: node.id(),
        depth: node.depth,
        recipients: Arc::clone(&dealt.recipients),
        readers: Arc::clone(&dealt.readers),
        counts: dealt.fits,
        key: dealt.key,
    })
}

/// Returns the counting epochs that no counting epoch follows.
fn latest(nodes: &Nodes, base: Option<&IdentityState>, view: &View<'_>, members: &[usize]) -> BTreeSet<EpochId> {
    let before = base.iter().flat_map(|base| &base.latest_epochs).filter_map(|id| nodes.find(id));
    let fits = |at: &usize| view.counts(*at) && nodes.at(*at).dealt.as_ref().is_some_and(|dealt| dealt.fits);
    let latest = unfollowed(nodes, before.chain(members.iter().copied().filter(fits)).collect());
    latest.into_iter().map(|at| nodes.at(at).id()).collect()
}

/// Returns what one op removes, by target.
fn removals(nodes: &Nodes, view: &View<'_>, at: usize) -> Vec<Removal> {
    let node = nodes.at(at);
    let Op::Remove(op) = node.kind() else { return Vec::new() };
    let removal = |target: &ControllerId| Removal {
        op: node.id(),
        by: node.author(),
        target: *target,
        cut: op.cut.clone(),
        // What only puts a leave on record nobody can contest that has left.
        provisional: !node.concludes && is_contestable(nodes, view, at, target) && !confirmed(nodes, view, at),
    };
    let mut removals: Vec<Removal> = op.targets.iter().map(removal).collect();
    removals.sort_by_key(|removal| removal.target);
    removals
}

/// Says whether a recovery knows the op: nothing beside it can undo it any more.
fn confirmed(nodes: &Nodes, view: &View<'_>, at: usize) -> bool {
    nodes.recoveries.iter().any(|recovery| view.counts(*recovery) && nodes.at(*recovery).past.has(at))
}

/// Returns what one op takes from somebody.
fn demotion(nodes: &Nodes, view: &View<'_>, at: usize) -> Option<Demotion> {
    let node = nodes.at(at);
    let Op::SetRole(op) = node.kind() else { return None };
    let provisional = op.controller != node.author() && is_contestable(nodes, view, at, &op.controller);
    Some(Demotion {
        op: node.id(),
        by: node.author(),
        target: op.controller,
        role: op.role,
        cut: op.cut.clone(),
        provisional: provisional && !confirmed(nodes, view, at),
    })
}

/// Says whether whom an op is about was ever senior to its author: with its keys it can still speak as what it was, beside
/// the op and beside whatever made it junior, unless that was a recovery or a removal by a senior.
fn is_contestable(nodes: &Nodes, view: &View<'_>, at: usize, target: &ControllerId) -> bool {
    let node = nodes.at(at);
    let past = View { set: &node.past, ..*view };
    past.ranks(target).any(|(given, rank)| rank < node.rank && !past.is_cut_off(target, given, rank))
}
