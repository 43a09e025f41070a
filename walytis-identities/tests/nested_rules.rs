//! Rule 10: identities as controllers of identities, without any network.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod nested;

use std::collections::BTreeMap;

use nested::{Device, Held, Seen, bare};
use walytis_core::id::BlockId;
use walytis_identities::crypto::ReceivingKey;
use walytis_identities::id::{ControllerId, OpId, Role};
use walytis_identities::identity::RecordRef;
use walytis_identities::op::{ChainCut, SignedOp};
use walytis_identities::state::{
    BuildError, Builder, DutyKind, Inserted, LEVELS_MAX, RecordVerdict, Refusal, Rule, Subject, Travelling, VoidReason,
    WriteRight,
};
use walytis_identities::token::JoinRequest;

/// A team of device `t`; a person with devices `a` (admin) and `b`, which is a member of the team.
struct Rig {
    t: Device,
    a: Device,
    b: Device,
    team: Seen,
    /// The person, as `a` sees it.
    person: Seen,
    admit: OpId,
}

fn rig() -> Rig {
    let (t, a, b) = (Device::new(1), Device::new(2), Device::new(3));
    let (mut team, mut person) = (t.create("team"), a.create("person"));
    a.admit(&mut person, &b, Role::Member);
    let admit = t.admit_identity(&mut team, &person, &a, Role::Member);
    Rig { t, a, b, team, person, admit }
}

fn devices(seen: &mut Seen, person: &Seen) -> Vec<String> {
    let state = seen.graph.state();
    let nested = state.subject_of(&person.did()).expect("the person is a controller");
    nested.devices.keys().map(ToString::to_string).collect()
}

#[test]
fn every_device_of_a_person_acts_in_the_team_once_it_has_shown_itself() {
    let Rig { t, a, b, mut team, person, admit } = rig();
    assert_eq!(team.graph.state().role(&person.controller()), Some(Role::Member));
    assert_eq!(devices(&mut team, &person), [a.keys.id().to_string()], "the one that proved the admission");
    // The other one acts for nobody before it has introduced itself.
    let mut of_b = b.view(&team, person.controller());
    let built = b.build(&mut of_b, |builder| builder.rekey().unwrap());
    assert_eq!(of_b.graph.insert(built.op), Err(Refusal::Unauthorised { rule: Rule::NestedDevice }));
    b.introduce(&mut of_b, &person);
    let rekey = b.rekey(&mut of_b);
    team.sync(&of_b);
    assert_eq!(team.epoch(), Some(rekey));
    assert_eq!(devices(&mut team, &person).len(), 2);
    assert!(matches!(team.graph.state().controllers[&person.controller()].subject, Subject::Identity(_)));
    // Slots go to the person: each of its devices opens them with what it holds of the person's epochs.
    let key = person.receiving();
    let keys: Vec<&ReceivingKey> = key.iter().collect();
    let mine = a.view(&team, person.controller());
    assert!(mine.open(&admit, &keys).is_some() && mine.open(&rekey, &keys).is_some());
    assert!(mine.open(&rekey, &[t.keys.receiving()]).is_none());
}

#[test]
fn strangers_readers_and_wrong_proofs_do_not_act_for_a_person() {
    let Rig { t, a, b, mut team, mut person, .. } = rig();
    let (reader, stranger) = (Device::new(7), Device::new(8));
    a.admit(&mut person, &reader, Role::Reader);
    for other in [&reader, &stranger] {
        let mut view = other.view(&team, person.controller());
        view.graph.learn_nested(&person.graph).unwrap();
        let built = other.build(&mut view, |builder| builder.introduce().unwrap());
        assert_eq!(view.graph.insert(built.op), Err(Refusal::Unauthorised { rule: Rule::NestedDevice }));
    }
    // Admitted by the proof of a device that it does not have, or of another device than its record names.
    let mut fresh = t.create("other team");
    fresh.graph.learn_nested(&person.graph).unwrap();
    let (as_of, chain) = ((person.did(), person.graph.named_heads()), fresh.graph.chain());
    let mut request = JoinRequest::as_identity(as_of, &stranger.keys, &chain, &t.id(), None, &stranger.entropy);
    let built = t.build(&mut fresh, |builder| builder.admit(request.clone(), Role::Member).unwrap());
    assert_eq!(fresh.graph.insert(built.op), Err(Refusal::Unauthorised { rule: Rule::NestedDevice }));
    if let walytis_identities::op::ControllerRecord::Identity { device, .. } = &mut request.newcomer {
        *device = a.keys.id();
    }
    let built = t.build(&mut fresh, |builder| builder.admit(request, Role::Member).unwrap());
    assert!(matches!(fresh.graph.insert(built.op), Err(Refusal::Signature(_))));
    // A device cannot name heads, and does not act as a controller of its own.
    let mut of_b = b.view(&team, b.id());
    let built = b.build(&mut of_b, |builder| builder.rekey().unwrap());
    assert_eq!(of_b.graph.insert(built.op), Err(Refusal::UnknownDevice));
    team.graph.state();
}

#[test]
fn device_removed_from_the_person_loses_the_team_and_keys_are_renewed_once() {
    let Rig { t, a, b, mut team, mut person, .. } = rig();
    let mut of_b = b.view(&team, person.controller());
    b.introduce(&mut of_b, &person);
    let seen = b.rekey(&mut of_b);
    team.sync(&of_b);
    // Written beside the news, on what it knew before.
    let mut behind = b.view(&team, person.controller());
    let backdated = b.rekey(&mut behind);

    // A rekey of the person alone changes nothing above.
    a.rekey(&mut person);
    let mut of_a = a.view(&team, person.controller());
    a.update(&mut of_a, &person, Vec::new());
    assert_eq!(of_a.epoch(), Some(seen), "the person's new epoch is no reason for a new one above");
    assert_eq!(of_a.graph.unshown_removal(&person.did()), None);

    let removal = a.remove(&mut person, b.id());
    of_a.graph.learn_nested(&person.graph).unwrap();
    assert_eq!(of_a.graph.unshown_removal(&person.did()), Some(removal));
    assert_eq!(of_a.epoch(), Some(seen), "what is not named does not count yet");
    a.update(&mut of_a, &person, Vec::new());
    assert_eq!(of_a.graph.unshown_removal(&person.did()), None);
    assert_eq!(of_a.epoch(), None, "b could open every epoch so far");
    let state = of_a.graph.state();
    assert_eq!(state.duty_of(&person.controller(), &a.keys.id()).unwrap().kind, DutyKind::Rekey);
    assert!(state.duty_of(&person.controller(), &b.keys.id()).is_none());
    assert_eq!(state.duty(&t.id()).unwrap().kind, DutyKind::Rekey);
    let renewed = a.rekey(&mut of_a);
    assert_eq!(of_a.epoch(), Some(renewed));
    assert!(of_a.graph.state().duty(&t.id()).is_none(), "once per removal");

    // What b has of the person opens none of it, what a has does.
    let of_b_keys = b.view(&team, person.controller());
    let (held_by_a, all) = (person.receiving(), person.held.clone());
    let before = Seen { held: all.into_iter().filter(|(id, _)| *id != removal).collect(), ..a.view(&person, a.id()) };
    let old = before.receiving();
    assert!(of_a.open(&renewed, &old.iter().collect::<Vec<_>>()).is_none());
    assert!(of_a.open(&renewed, &held_by_a.iter().collect::<Vec<_>>()).is_some());
    drop(of_b_keys);

    // What came beside is void; what a had seen counts; nothing new enters.
    team.sync(&of_a);
    team.sync(&behind);
    let state = team.graph.state();
    assert_eq!(state.void.get(&backdated), Some(&VoidReason::NestedRemoved { removal }));
    assert!(!state.void.contains_key(&seen));
    assert_eq!(state.sending_epoch, Some(renewed));
    let mut after = b.view(&team, person.controller());
    let built = b.build(&mut after, |builder| builder.rekey().unwrap());
    assert_eq!(after.graph.insert(built.op), Err(Refusal::Unauthorised { rule: Rule::NestedDevice }));
    let built = b.build(&mut after, |builder| builder.introduce().unwrap());
    assert_eq!(after.graph.insert(built.op), Err(Refusal::Unauthorised { rule: Rule::NestedDevice }));
}

#[test]
fn records_of_a_removed_device_count_up_to_the_cut_of_the_update_that_shows_it() {
    let Rig { a, b, mut team, mut person, .. } = rig();
    let mut of_b = b.view(&team, person.controller());
    b.introduce(&mut of_b, &person);
    team.sync(&of_b);
    let (kept, lost) = (BlockId::of_file(b"kept"), BlockId::of_file(b"lost"));
    let record = |block| RecordRef {
        block,
        creator: b.keys.public().block_key(),
        author: person_of(&of_b),
        auth_heads: of_b.graph.named_heads(),
    };
    let (good, bad) = (record(kept), record(lost));
    let chain = team.graph.chain();
    let within = |block: &BlockId, heads: &[BlockId]| heads.contains(block);
    assert_eq!(team.graph.judge_with(&chain, &good, within), RecordVerdict::Valid);
    let other = RecordRef { creator: Device::new(9).keys.public().block_key(), ..good.clone() };
    assert_eq!(team.graph.judge_with(&chain, &other, within), RecordVerdict::Void(Rule::Creator));

    a.remove(&mut person, b.id());
    let mut of_a = a.view(&team, person.controller());
    a.update(&mut of_a, &person, vec![ChainCut { chain, heads: vec![kept] }]);
    team.sync(&of_a);
    assert_eq!(team.graph.judge_with(&chain, &good, within), RecordVerdict::Valid);
    assert_eq!(team.graph.judge_with(&chain, &bad, within), RecordVerdict::Void(Rule::BeyondCut));
    let heads = team.graph.named_heads();
    let right = team.graph.authorised_to_write(&heads, &good.author, &good.creator);
    assert_eq!(right, WriteRight::No(Rule::Creator), "it may write nothing new");
}

fn person_of(seen: &Seen) -> ControllerId {
    seen.me
}

#[test]
fn identity_does_not_control_itself() {
    let Rig { t, a, mut team, mut person, .. } = rig();
    // Directly.
    let own = bare(&team.graph);
    assert_eq!(team.graph.learn_nested(&own).unwrap_err(), Refusal::Unauthorised { rule: Rule::NestedPlace });
    // The person admits the team that it is a member of; in the team's eyes that edge is not there.
    let mut of_a = a.view(&person, a.id());
    let before = team.graph.state();
    let back = a.admit_identity(&mut of_a, &t.view(&team, t.id()), &t, Role::Admin);
    assert_eq!(of_a.graph.state().role(&team.controller()), Some(Role::Admin));
    team.graph.learn_nested(&of_a.graph).unwrap();
    let mut acting = a.view(&team, person.controller());
    a.update(&mut acting, &of_a, Vec::new());
    team.sync(&acting);
    let nested = team.graph.nested(&person.did()).unwrap();
    assert!(nested.op(&back).is_some(), "the op is there");
    let mut seen_from_team = Seen { graph: bare(nested), held: Held::new(), me: a.id() };
    seen_from_team.graph_sync(nested);
    let state = team.graph.state();
    assert_eq!(
        state.subject_of(&person.did()).unwrap().devices,
        before.subject_of(&person.did()).unwrap().devices,
        "the team's device does not act for the person in the team"
    );
    person.graph.state();
}

#[test]
fn nesting_ends_at_the_eighth_level() {
    let device = Device::new(1);
    let mut inner = device.create("level 0");
    for level in 1..LEVELS_MAX + 2 {
        let owner = Device::new(100 + level as u64);
        let mut outer = owner.create(&format!("level {level}"));
        let did = inner.did();
        outer.graph.learn_nested(&inner.graph).unwrap();
        let as_of = (did, inner.graph.named_heads());
        let chain = outer.graph.chain();
        let request = JoinRequest::as_identity(as_of, &device.keys, &chain, &outer.me, None, &device.entropy);
        let builder = Builder::new(&mut outer.graph, &owner.keys, &outer.held, &owner.entropy);
        let built = builder.admit(request, Role::Member);
        if level == LEVELS_MAX {
            // The innermost edge is not there for this one, nor what rests on it.
            assert_eq!(built.unwrap_err(), BuildError::NestedKey { did });
            return;
        }
        let entered = outer.graph.insert(built.unwrap().op);
        assert!(matches!(entered, Ok(Inserted::New(_))), "level {level}: {entered:?}");
        assert_eq!(outer.graph.state().devices().count(), 2, "the owner and the innermost device");
        inner = outer;
    }
    panic!("nested without end");
}

/// All orders in which the ops of a team and of a person in it may arrive end in one state.
#[test]
fn order_of_arrival_of_nested_ops_does_not_matter() {
    let Rig { t, a, b, mut team, mut person, .. } = rig();
    let mut of_b = b.view(&team, person.controller());
    b.introduce(&mut of_b, &person);
    team.sync(&of_b);
    let c = Device::new(4);
    // Concurrent: b rekeys and introduces nobody, a removes b and says so, t rekeys, c is added and shows itself.
    b.rekey(&mut of_b);
    a.admit(&mut person, &c, Role::Member);
    let mut of_c = c.view(&team, person.controller());
    c.introduce(&mut of_c, &person);
    a.remove(&mut person, b.id());
    let mut of_a = a.view(&team, person.controller());
    a.update(&mut of_a, &person, Vec::new());
    a.rekey(&mut of_a);
    t.rekey(&mut team);
    let late = b.rekey(&mut of_b);
    let all = [&team, &of_a, &of_b, &of_c];
    let mut ops: BTreeMap<OpId, SignedOp> = BTreeMap::new();
    for seen in all {
        for travelling in seen.graph.travelling(&[]) {
            if let Travelling::Op(op) = travelling {
                ops.insert(op.id(), (*op).clone());
            }
        }
    }
    let mut expected = None;
    for seed in 0..24u64 {
        let mut order: Vec<&SignedOp> = ops.values().collect();
        shuffle(&mut order, seed);
        let mut seen = Seen { graph: bare(&team.graph), held: Held::new(), me: t.id() };
        seen.graph.learn_nested(&bare(&person.graph)).unwrap();
        for op in order {
            seen.take(op.clone()).unwrap();
        }
        let state = seen.graph.state();
        assert_eq!(seen.graph.missing(), [], "seed {seed}");
        assert!(state.void.contains_key(&late));
        let expected = expected.get_or_insert_with(|| state.clone());
        assert_eq!(**expected, *state, "seed {seed}");
    }
}

fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for at in (1..items.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        items.swap(at, usize::try_from(state % (at as u64 + 1)).unwrap());
    }
}
