//! Op sequences out of byte strings: whatever is said in whatever order, nothing panics, what waits is bounded, and all
//! that hold the same ops agree.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use proptest::prelude::*;
use support::{Actor, chain, create_of, group};
use walytis_identities::id::{OpId, Role};
use walytis_identities::op::{Op, OpCore, SignedOp};
use walytis_identities::recovery::RecoveryCode;
use walytis_identities::state::{AuthorityGraph, Builder, OPS_MAX, PENDING_OPS_MAX, RecoveryPlan};

const ROLES: [Role; 4] = [Role::Keeper, Role::Reader, Role::Member, Role::Admin];

/// What one of the four says, drawn by three bytes; nothing if its own tools refuse.
fn said(actors: &mut [Actor], ops: &[SignedOp], who: usize, what: u8, with: usize) -> Option<SignedOp> {
    let other = actors[with % 4].id();
    let role = ROLES[with % 4];
    let request = actors[with % 4].request(&actors[who], None);
    let built = |actor: &mut Actor, make: &dyn Fn(Builder<'_>) -> Option<SignedOp>| actor.build(make);
    let actor = &mut actors[who];
    // Nobody keeps the renewed keys: whoever goes on with those before forks nothing but itself.
    let next = actor.keys.renew(&actor.entropy);
    let code = RecoveryCode::generate(&actor.entropy);
    match what % 14 {
        0 => built(actor, &|b| b.rekey().ok().map(|built| built.op)),
        1 => built(actor, &|b| b.remove(vec![other], vec![], vec![]).ok().map(|built| built.op)),
        2 => built(actor, &|b| b.leave().ok().map(|built| built.op)),
        3 => built(actor, &|b| b.invite(role, Some(1), None).ok().map(|made| made.op)),
        4 => built(actor, &|b| b.set_role(other, role, vec![]).ok().map(|built| built.op)),
        5 => built(actor, &|b| b.document(vec![]).ok().map(|built| built.op)),
        6 if with > 200 => built(actor, &|b| b.deactivate(vec![]).ok().map(|built| built.op)),
        7 => built(actor, &|b| b.admit(request.clone(), role).ok().map(|built| built.op)),
        8 => built(actor, &|b| b.revoke_invite(OpId([what; 32])).ok().map(|built| built.op)),
        // Somebody's word again, in its own name and on other heads: known, unknown or none.
        9 | 10 => {
            let core = ops.get(with % ops.len().max(1))?.core().clone();
            let auth_parents = match with % 3 {
                0 => vec![ops[with / 3 % ops.len()].id()],
                1 => vec![OpId([u8::try_from(with).unwrap(); 32])],
                _ => vec![],
            };
            OpCore { author: actor.id(), device: actor.keys.id(), auth_parents, ..core }
                .sign(&actor.keys, &actor.entropy)
                .ok()
        }
        12 => built(actor, &|b| b.update(&next).ok().map(|built| built.op)),
        13 => built(actor, &|b| b.recover(&code.key(), RecoveryPlan::default()).ok().map(|built| built.op)),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_ops_is_taken_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let (a, b, c) = group();
        let mut stranger = Actor::new(9);
        stranger.join(&a);
        let mut actors = [a, b, c, stranger];
        let create = create_of(&actors[0]);
        let mut ops: Vec<SignedOp> = actors[0].graph().ops().skip(1).map(|op| (**op).clone()).collect();
        for step in bytes.chunks_exact(3) {
            let (who, what, with) = (usize::from(step[0] % 4), step[1], usize::from(step[2]));
            if what % 14 == 11 {
                let from = usize::from(step[2] % 4);
                let theirs: Vec<SignedOp> = actors[from].graph().ops().map(|op| (**op).clone()).collect();
                theirs.into_iter().for_each(|op| drop(actors[who].graph().insert(op)));
                continue;
            }
            let Some(op) = said(&mut actors, &ops, who, what, with) else { continue };
            // What is refused is as good a case as what enters.
            drop(actors[who].graph().insert(op.clone()));
            ops.push(op);
        }
        let mut states = Vec::new();
        for reverse in [false, true] {
            let mut graph = AuthorityGraph::new(chain(), create.clone()).unwrap();
            let order: Vec<&SignedOp> = if reverse { ops.iter().rev().collect() } else { ops.iter().collect() };
            order.into_iter().for_each(|op| drop(graph.insert(op.clone())));
            prop_assert!(graph.len() <= ops.len() + 1 && graph.len() <= OPS_MAX);
            prop_assert!(graph.missing().len() <= PENDING_OPS_MAX);
            states.push(graph.state());
        }
        prop_assert_eq!(&states[0], &states[1]);
        let removed = states[0].removals.iter().filter(|one| states[0].role(&one.target).is_some());
        prop_assert_eq!(removed.filter(|one| !is_readmitted(&ops, &one.op)).count(), 0);
    }
}

/// Says whether somebody was let in after a removal.
fn is_readmitted(ops: &[SignedOp], removal: &OpId) -> bool {
    let mut after = vec![*removal];
    let mut found = false;
    while let Some(at) = after.pop() {
        for op in ops.iter().filter(|op| op.core().auth_parents.contains(&at)) {
            found |= matches!(op.core().op, Op::Admit(_));
            after.push(op.id());
        }
    }
    found
}
