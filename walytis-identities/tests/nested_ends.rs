//! Rule 10: what ends in a group when a device is removed inside a person of it, and what must be told so that the others
//! go on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod nested;

use nested::{Device, Seen};
use walytis_core::id::BlockId;
use walytis_identities::id::{ControllerId, OpId, Role};
use walytis_identities::identity::RecordRef;
use walytis_identities::op::ChainCut;
use walytis_identities::state::{
    BuildError, DutyKind, Inserted, NewInvitation, RecordVerdict, Refusal, Rule, Subject, VoidReason,
};
use walytis_identities::token::{InvitationKey, JoinRequest};

/// A team of device `t`, and a person with the devices `a` and `b`, both admins of it, that is an admin of the team; both
/// act there.
struct Rig {
    t: Device,
    a: Device,
    b: Device,
    team: Seen,
    person: Seen,
    of_a: Seen,
    of_b: Seen,
}

fn rig() -> Rig {
    let (t, a, b) = (Device::new(1), Device::new(2), Device::new(3));
    let (mut team, mut person) = (t.create("team"), a.create("person"));
    a.admit(&mut person, &b, Role::Admin);
    t.admit_identity(&mut team, &person, &a, Role::Admin);
    let mut of_b = b.view(&team, person.controller());
    b.introduce(&mut of_b, &person);
    team.sync(&of_b);
    let of_a = a.view(&team, person.controller());
    Rig { t, a, b, team, person, of_a, of_b }
}

fn invite(device: &Device, seen: &mut Seen, uses: Option<u32>) -> (OpId, InvitationKey) {
    let chain = seen.graph.chain();
    let NewInvitation { op, seed } = device.make(seen, |builder| builder.invite(Role::Member, uses, None).unwrap());
    let id = op.id();
    seen.graph.insert(op).unwrap();
    (id, InvitationKey::from_seed(&seed, &chain))
}

/// Has `by` let a new device in by an invitation.
fn honour(by: &Device, seen: &mut Seen, new: u64, (id, key): (&OpId, &InvitationKey)) -> Result<OpId, Refusal> {
    let new = Device::new(new);
    let request = JoinRequest::new(&new.keys, &seen.graph.chain(), &seen.me, Some((id, key)), &new.entropy);
    let op = by.build(seen, |builder| builder.honour(request).unwrap()).op;
    let id = op.id();
    seen.graph.insert(op).map(|_| id)
}

/// A device knows the seeds of the invitations that it made. When it is removed inside the person they end, and what they
/// let in beside that is void; invitations that other devices made stay.
#[test]
fn rule_10_invitations_that_a_removed_device_made_end_with_it() {
    let Rig { t, a, b, mut team, mut person, mut of_a, mut of_b } = rig();
    let (by_b, by_a) = (invite(&b, &mut of_b, None), invite(&a, &mut of_a, None));
    for seen in [&of_a, &of_b] {
        team.sync(seen);
    }
    of_a.sync(&team);
    let mut beside = t.view(&team, t.id());
    let admitted = honour(&t, &mut beside, 8, (&by_b.0, &by_b.1)).unwrap();
    a.remove(&mut person, b.id());
    let update = a.update(&mut of_a, &person, Vec::new());
    team.sync(&of_a);

    let state = team.graph.state();
    assert_eq!(state.invitations[&by_b.0].revoked_by, Some(update));
    assert_eq!(state.invitations[&by_a.0].revoked_by, None);
    let revoked = Refusal::Unauthorised { rule: Rule::InvitationRevoked };
    assert_eq!(honour(&t, &mut team, 9, (&by_b.0, &by_b.1)), Err(revoked));
    team.sync(&beside);
    let state = team.graph.state();
    assert_eq!(state.void.get(&admitted), Some(&VoidReason::RevokedBeside { invite: by_b.0 }));
    assert!(state.role(&Device::new(8).id()).is_none());
    honour(&t, &mut team, 10, (&by_a.0, &by_a.1)).unwrap();
    assert_eq!(team.graph.state().role(&Device::new(10).id()), Some(Role::Member));
    // Whichever is known first.
    let mut other = t.view(&beside, t.id());
    other.sync(&team);
    assert_eq!(*other.graph.state(), *team.graph.state());
}

/// It also knows the seed of the invitation by which it brought the person in, if that has uses left.
#[test]
fn rule_10_an_invitation_that_a_removed_device_used_ends_with_it() {
    let (t, a, b) = (Device::new(1), Device::new(2), Device::new(3));
    let (mut team, mut person) = (t.create("team"), a.create("person"));
    a.admit(&mut person, &b, Role::Admin);
    let (shared, other) = (invite(&t, &mut team, None), invite(&t, &mut team, None));
    team.graph.learn_nested(&person.graph).unwrap();
    let (as_of, chain) = ((person.did(), person.graph.named_heads()), team.graph.chain());
    let with = Some((&shared.0, &shared.1));
    let request = JoinRequest::as_identity(as_of, &b.keys, &chain, &t.id(), with, &b.entropy);
    t.act(&mut team, |builder| builder.honour(request).unwrap());
    let mut of_a = a.view(&team, person.controller());
    a.introduce(&mut of_a, &person);
    a.remove(&mut person, b.id());
    let update = a.update(&mut of_a, &person, Vec::new());
    team.sync(&of_a);
    let state = team.graph.state();
    assert_eq!(state.invitations[&shared.0].revoked_by, Some(update));
    assert_eq!(state.invitations[&other.0].revoked_by, None);
    let revoked = Refusal::Unauthorised { rule: Rule::InvitationRevoked };
    assert_eq!(honour(&t, &mut team, 9, (&shared.0, &shared.1)), Err(revoked));
}

/// Two removals at the same moment leave the person without keys that the team could be sealed to. Once it has made some,
/// a device of it tells the team, which waits for nothing else.
#[test]
fn rule_10_keys_that_can_be_sealed_to_again_are_told() {
    let Rig { t, a, b, mut team, mut person, mut of_a, .. } = rig();
    let (c, d) = (Device::new(4), Device::new(5));
    for device in [&c, &d] {
        a.admit(&mut person, device, Role::Member);
    }
    let mut beside = b.view(&person, b.id());
    a.remove(&mut person, c.id());
    b.remove(&mut beside, d.id());
    person.sync(&beside);
    a.update(&mut of_a, &person, Vec::new());
    assert_eq!(of_a.epoch(), None, "c and d could open every epoch so far");
    let unsealable = |seen: &mut Seen| match &seen.graph.state().controllers[&person.controller()].subject {
        Subject::Identity(nested) => nested.seal_to.is_none(),
        Subject::Device(_) => false,
    };
    assert!(unsealable(&mut of_a), "either epoch was dealt to somebody who is out");
    let did = person.did();
    let refused = a.make(&mut of_a, |builder| builder.rekey().map(|built| built.op));
    assert_eq!(refused, Err(BuildError::NestedKey { did }));
    assert_eq!(of_a.graph.nested_duty(&did, &a.keys.id()), None, "there is nothing to tell yet");

    let epoch = a.rekey(&mut person);
    of_a.graph.learn_nested(&person.graph).unwrap();
    let duty = of_a.graph.nested_duty(&did, &a.keys.id()).expect("the team waits for it");
    assert_eq!((duty.kind, duty.about), (DutyKind::Update, epoch));
    let turns: std::collections::BTreeSet<usize> =
        [&a, &b].into_iter().map(|device| of_a.graph.nested_duty(&did, &device.keys.id()).unwrap().rank).collect();
    assert_eq!(turns, [0, 1].into(), "one after the other");
    a.update(&mut of_a, &person, Vec::new());
    assert_eq!(of_a.graph.nested_duty(&did, &a.keys.id()), None, "told once");
    team.sync(&of_a);
    let rekey = t.make(&mut team, |builder| builder.rekey().unwrap()).op;
    let id = rekey.id();
    assert!(matches!(team.graph.insert(rekey), Ok(Inserted::New(_))));
    assert_eq!(team.epoch(), Some(id));
    assert_eq!(person.controller(), ControllerId::Identity(did));
}

/// Beside its own removal inside the person b lets c in there. What entitles c is void then: whatever of it others had seen, it
/// never acted, and what it wrote does not count, not even within the cut.
#[test]
fn rule_10_a_device_that_a_removed_one_let_in_never_was() {
    for seen in [false, true] {
        let Rig { t, a, b, mut team, mut person, mut of_a, .. } = rig();
        let c = Device::new(6);
        let mut beside = b.view(&person, b.id());
        b.admit(&mut beside, &c, Role::Member);
        let mut of_c = c.view(&team, person.controller());
        let said = [c.introduce(&mut of_c, &beside), c.rekey(&mut of_c)];
        team.sync(&of_c);
        assert!(team.graph.state().void.is_empty() && team.epoch() == Some(said[1]));
        let (chain, block) = (team.graph.chain(), BlockId::of_file(b"by c"));
        let (creator, author) = (c.keys.public().block_key(), person.controller());
        let record = RecordRef { block, creator, author, auth_heads: team.graph.named_heads() };
        assert_eq!(team.graph.judge(&chain, &record), RecordVerdict::Valid);

        if seen {
            of_a.sync(&team);
        }
        a.remove(&mut person, b.id());
        a.update(&mut of_a, &person, vec![ChainCut { chain, heads: vec![block] }]);
        team.sync(&of_a);
        let state = team.graph.state();
        for op in &said {
            assert_eq!(state.void.get(op), Some(&VoidReason::NestedUnfounded), "seen: {seen}");
        }
        assert!(state.device(&c.keys.id()).is_none() && state.device(&a.keys.id()).is_some());
        assert_eq!(state.sending_epoch, None, "c could open every epoch so far");
        assert_eq!(team.graph.judge(&chain, &record), RecordVerdict::Void(Rule::EntitlementVoid));
        let mut after = c.view(&team, person.controller());
        let more = c.build(&mut after, |builder| builder.introduce().unwrap()).op;
        assert_eq!(after.graph.insert(more), Err(Refusal::Unauthorised { rule: Rule::NestedDevice }));
        // Whichever is known first.
        let mut other = t.view(&of_a, t.id());
        other.sync(&of_c);
        assert_eq!(*other.graph.state(), *state);
    }
}
