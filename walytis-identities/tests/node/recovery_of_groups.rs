//! Groups of persons that are recovered: by a node that acts as one of them, and by one that knows a contact card.

use std::time::Duration;

use walytis_core::net::MemoryHub;
use walytis_identities::id::{ControllerId, Did, Role};
use walytis_identities::identity::{EpochUse, Identity as _, Judgement};
use walytis_identities::node::{IdentitiesError, InviteOptions, MembershipState, RecoverHere, RecoveryCode};

use crate::acting::{acts, devices, judged};
use crate::rig::{Machine, pass, until};

/// A team whose only admins are devices that are going to be lost, `t`; the person of `a` and `b` is a member, `m` another.
struct Group {
    hub: MemoryHub,
    t: Machine,
    a: Machine,
    b: Machine,
    m: Machine,
    team: Did,
    person: Did,
    code: RecoveryCode,
}

async fn group() -> Group {
    let hub = MemoryHub::new();
    let (t, a) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await);
    let (b, m) = (Machine::start(&hub, 3).await, Machine::start(&hub, 4).await);
    let created = t.identities.create("team", "lost").await.unwrap();
    let (team, person) = (created.did, a.create().await);
    a.admit(&person, &b, Role::Member).await;
    let token = t.token(&team, InviteOptions::default()).await;
    a.identities.join_as(&token, Some("team"), &person).await.unwrap();
    t.admit(&team, &m, Role::Member).await;
    for machine in [&t, &a, &b, &m] {
        until("all take part", async || acts(machine, &team) && devices(machine, &team, &person) == 2).await;
    }
    Group { hub, t, a, b, m, team, person, code: created.recovery }
}

fn role_of(machine: &Machine, team: &Did, controller: &ControllerId) -> Option<Role> {
    let shown = machine.identities.show(team).unwrap();
    shown.controllers.iter().find(|one| one.id == *controller).map(|one| one.role)
}

fn options(person: &Did, keep: Vec<ControllerId>) -> RecoverHere {
    RecoverHere { person: Some(*person), keep, name: Some("team".to_owned()), ..RecoverHere::default() }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_acts_as_a_member_recovers_the_group_for_its_person() {
    let Group { t, a, b, m, team, person, code, hub } = group().await;
    let early = t.write(&team, "by the lost admin").await;
    for machine in [&a, &b, &m] {
        machine.until_has(&team, &early).await;
    }
    let old = t.identity(&team).sending_epoch().await.unwrap();
    let t = t.stop().await;
    let (me, other) = (ControllerId::Identity(person), m.identity(&team).controller());
    let wrong = RecoveryCode::generate(&walytis_core::clock::SeededEntropy::new(77));
    assert!(matches!(a.identities.recover(&team, &wrong, vec![]).await, Err(IdentitiesError::Refused { .. })));
    let recovered = a.identities.recover(&team, &code, vec![other]).await.unwrap();
    for machine in [&a, &b, &m] {
        until("all agree", async || machine.identity(&team).sending_epoch().await.ok() == recovered.epoch).await;
        assert_eq!(role_of(machine, &team, &me), Some(Role::Admin));
        assert_eq!(role_of(machine, &team, &other), Some(Role::Member));
        assert_eq!(machine.identities.show(&team).unwrap().controllers.len(), 2);
        assert_eq!(judged(machine, &team, early).await, Judgement::Valid, "what had been written counts");
    }
    // The other device of the person governs as well, and what was read can be read.
    let invited = b.identities.invite(&team, InviteOptions::default()).await.unwrap();
    until("the invitation is known", async || {
        a.identities.invites(&team).unwrap().iter().any(|one| one.id == invited.id)
    })
    .await;
    assert!(b.identity(&team).derive(&old, EpochUse::ContentWrap).await.is_ok());
    let after = b.write(&team, "by the second device").await;
    m.until_has(&team, &after).await;
    let t = t.start().await;
    until("the lost admin is out", async || t.identities.show(&team).unwrap().role.is_none()).await;
    // A new device of the person takes part by itself.
    let c = Machine::start(&hub, 5).await;
    a.admit(&person, &c, Role::Member).await;
    until("the new device governs", async || acts(&c, &team)).await;
    let a = a.restart().await;
    assert_eq!(a.identities.show(&team).unwrap().role, Some(Role::Admin));
    a.identities.recover(&team, &recovered.recovery, vec![]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_new_node_recovers_the_group_as_a_person_that_it_did_not_know() {
    let Group { hub, t, a, b, m, team, person, code } = group().await;
    let early = t.write(&team, "by the lost admin").await;
    for machine in [&a, &b, &m] {
        machine.until_has(&team, &early).await;
    }
    let old = t.identity(&team).sending_epoch().await.unwrap();
    drop(t.stop().await);
    let (x, y) = (Machine::start(&hub, 6).await, Machine::start(&hub, 7).await);
    let rescuer = x.create().await;
    x.admit(&rescuer, &y, Role::Member).await;
    let card = a.identities.contact_card(&team).unwrap();
    let kept = ControllerId::Identity(person);
    let wrong = RecoveryCode::generate(&walytis_core::clock::SeededEntropy::new(77));
    let refused = x.identities.recover_here(&card, &wrong, options(&rescuer, vec![kept])).await;
    assert!(matches!(refused, Err(IdentitiesError::Refused { .. })), "{refused:?}");
    assert_eq!(x.identities.list().len(), 1, "nothing is left behind");
    let recovered = x.identities.recover_here(&card, &code, options(&rescuer, vec![kept])).await.unwrap();
    until("the rescuer's other device joins by itself", async || acts(&y, &team)).await;
    for machine in [&x, &y, &a, &b] {
        until("all agree", async || machine.identity(&team).sending_epoch().await.ok() == recovered.epoch).await;
        assert_eq!(role_of(machine, &team, &ControllerId::Identity(rescuer)), Some(Role::Admin));
        assert_eq!(role_of(machine, &team, &kept), Some(Role::Member));
        machine.until_has(&team, &early).await;
        until("it counts", async || judged(machine, &team, early).await == Judgement::Valid).await;
    }
    until("the member that was not kept is out", async || !acts(&m, &team)).await;
    until("what was sealed before is handed over", async || {
        x.identity(&team).derive(&old, EpochUse::ContentWrap).await.is_ok()
    })
    .await;
    let noted = x.identities.memberships(&rescuer).unwrap().remove(0);
    assert_eq!((noted.did, noted.state), (team, MembershipState::Active));
    let (from_y, from_b) = (y.write(&team, "y").await, b.write(&team, "b").await);
    a.until_has(&team, &from_y).await;
    x.until_has(&team, &from_b).await;
    let x = x.restart().await;
    until("it acts again", async || acts(&x, &team)).await;
}

/// The device that published the recovery is removed inside its person, by one that had not heard of it: the recovery stands,
/// the person goes on with the others.
#[tokio::test(start_paused = true)]
async fn a_recovery_stands_whatever_becomes_of_the_device_that_published_it() {
    let Group { hub, t, a, b, m, team, person, code } = group().await;
    drop(t.stop().await);
    hub.cut(&a.peer(), &b.peer());
    hub.cut(&b.peer(), &m.peer());
    a.identities.recover(&team, &code, vec![]).await.unwrap();
    let first = a.identity(&person).controller();
    until("m knows that it is out", async || !acts(&m, &team)).await;
    // B is cut off, and made an admin of the person before.
    let epoch = a.identity(&team).sending_epoch().await.unwrap();
    hub.heal_all();
    a.identities.set_role(&person, b.identity(&person).controller(), Role::Admin).await.unwrap();
    until("b governs the person", async || b.identities.show(&person).unwrap().role == Some(Role::Admin)).await;
    a.stop().await;
    b.identities.remove(&person, first).await.unwrap();
    until("new keys without the removed device", async || {
        b.identity(&team).sending_epoch().await.is_ok_and(|now| now != epoch)
    })
    .await;
    let shown = b.identities.show(&team).unwrap();
    assert_eq!((shown.role, shown.controllers.len()), (Some(Role::Admin), 1));
    assert_eq!(devices(&b, &team, &person), 1);
}

#[tokio::test(start_paused = true)]
async fn who_may_not_write_as_the_person_recovers_nothing_as_it() {
    let Group { hub, t, a, team, person, code, m, .. } = group().await;
    let reader = Machine::start(&hub, 8).await;
    a.admit(&person, &reader, Role::Reader).await;
    let card = t.identities.contact_card(&team).unwrap();
    let refused = reader.identities.recover_here(&card, &code, options(&person, vec![])).await;
    assert!(matches!(refused, Err(IdentitiesError::Refused { .. })), "{refused:?}");
    // A circle is refused as a join would be.
    let own = a.identities.create("own", "a").await.unwrap();
    let circle = t
        .identities
        .recover_here(&a.identities.contact_card(&person).unwrap(), &own.recovery, options(&team, vec![]))
        .await;
    assert!(matches!(circle, Err(IdentitiesError::Join(_))), "{circle:?}");
    let stranger = ControllerId::Identity(own.did);
    let unknown = m.identities.recover(&team, &code, vec![stranger]).await;
    assert!(matches!(unknown, Err(IdentitiesError::NoController { .. })), "{unknown:?}");
    pass(Duration::from_secs(60)).await;
    assert_eq!(t.identities.show(&team).unwrap().controllers.len(), 3);
}
