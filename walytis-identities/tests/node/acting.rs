//! A person with several devices acts in a team: whole nodes.

use std::time::Duration;

use walytis_core::net::MemoryHub;
use walytis_identities::id::{ControllerId, Did, Role};
use walytis_identities::identity::{EpochUse, Identity as _, Judgement, RecordRef};
use walytis_identities::node::{IdentitiesError, InviteOptions, JoinError, MembershipState};

use crate::rig::{Machine, pass, until};

/// A team of machine `t`, which the person of `a` and `b` has joined as itself, with this role.
pub(crate) struct Cast {
    pub(crate) hub: MemoryHub,
    pub(crate) t: Machine,
    pub(crate) a: Machine,
    pub(crate) b: Machine,
    pub(crate) team: Did,
    pub(crate) person: Did,
}

pub(crate) async fn cast(role: Role) -> Cast {
    let hub = MemoryHub::new();
    let (t, a, b) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await, Machine::start(&hub, 3).await);
    let (team, person) = (t.create().await, a.create().await);
    a.admit(&person, &b, Role::Member).await;
    let token = t.token(&team, InviteOptions { role, ..InviteOptions::default() }).await;
    assert_eq!(a.identities.join_as(&token, Some("team"), &person).await.unwrap(), team);
    until("b joins by itself", async || acts(&b, &team)).await;
    Cast { hub, t, a, b, team, person }
}

pub(crate) fn acts(machine: &Machine, team: &Did) -> bool {
    machine.identities.show(team).is_ok_and(|info| info.role.is_some())
}

pub(crate) fn devices(machine: &Machine, team: &Did, person: &Did) -> usize {
    let shown = machine.identities.show(team).unwrap();
    let nested = shown.controllers.iter().find(|one| one.id == ControllerId::Identity(*person));
    nested.map_or(0, |nested| nested.devices.len())
}

async fn reads(machine: &Machine, team: &Did) -> bool {
    let Ok(identity) = machine.identities.identity(team) else { return false };
    let Ok(epoch) = identity.sending_epoch().await else { return false };
    identity.derive(&epoch, EpochUse::ContentWrap).await.is_ok()
}

pub(crate) async fn judged(machine: &Machine, team: &Did, block: walytis_core::id::BlockId) -> Judgement {
    let identity = machine.identity(team);
    let stored = identity.chain().block(&block).await.unwrap().unwrap();
    let (claim, _) = walytis_identities::claim::Claim::split(stored.inline().unwrap()).unwrap();
    let creator = stored.header().creator;
    identity.judge(&RecordRef { block, creator, author: claim.author, auth_heads: claim.auth_heads }).await
}

#[tokio::test(start_paused = true)]
async fn every_device_of_a_person_acts_in_the_team_and_new_ones_join_by_themselves() {
    let Cast { hub, t, a, b, team, person } = cast(Role::Member).await;
    until("the team sees both devices", async || devices(&t, &team, &person) == 2).await;
    let early = t.write(&team, "before c came").await;
    let c = Machine::start(&hub, 4).await;
    a.admit(&person, &c, Role::Member).await;
    until("c joins by itself", async || acts(&c, &team)).await;
    until("c reads", async || reads(&c, &team).await).await;
    assert_eq!(c.identities.show(&team).unwrap().locked_epochs, [], "also what was written before");
    c.until_has(&team, &early).await;
    let written = [a.write(&team, "a").await, b.write(&team, "b").await, c.write(&team, "c").await];
    for block in written {
        for machine in [&t, &a, &b, &c] {
            machine.until_has(&team, &block).await;
            until("it counts", async || judged(machine, &team, block).await == Judgement::Valid).await;
        }
    }
    let shown = t.identities.show(&team).unwrap();
    assert_eq!(shown.controllers.len(), 2, "the founder and the person");
    let nested = shown.controllers.iter().find(|one| one.id == ControllerId::Identity(person)).unwrap();
    let mut names: Vec<_> = nested.devices.iter().map(|device| device.name.clone().unwrap_or_default()).collect();
    names.sort();
    assert_eq!(names, ["device 2", "device 3", "device 4"]);
    assert_eq!(c.identities.show(&team).unwrap().person, Some(person));
    let signature = c.identities.sign(&team, "test", b"as the team").unwrap();
    let verified = t.identities.verify(&signature, "test", b"as the team", &[]).await.unwrap().unwrap();
    assert_eq!(verified.controller, ControllerId::Identity(person));
}

#[tokio::test(start_paused = true)]
async fn acting_devices_start_again_in_any_order() {
    let Cast { t, a, b, team, person, .. } = cast(Role::Admin).await;
    let (a, b) = (a.restart().await, b.restart().await);
    for machine in [&a, &b] {
        until("it acts again", async || acts(machine, &team) && reads(machine, &team).await).await;
        assert_eq!(machine.identities.list().len(), 2);
    }
    let t = t.restart().await;
    let from_b = b.write(&team, "from b").await;
    t.until_has(&team, &from_b).await;
    // An admin of the team is the person, whichever device speaks.
    let invited = b.identities.invite(&team, InviteOptions::default()).await.unwrap();
    until("the invitation is known", async || {
        t.identities.invites(&team).unwrap().iter().any(|one| one.id == invited.id)
    })
    .await;
    assert_eq!(devices(&t, &team, &person), 2);
}

#[tokio::test(start_paused = true)]
async fn a_device_removed_from_the_person_loses_the_team_by_itself() {
    let Cast { t, a, b, team, person, .. } = cast(Role::Member).await;
    until("the team sees both devices", async || devices(&t, &team, &person) == 2).await;
    let before = b.write(&team, "b, while it was in").await;
    for machine in [&t, &a] {
        machine.until_has(&team, &before).await;
    }
    let epoch = t.identity(&team).sending_epoch().await.unwrap();
    a.identities.remove(&person, b.identity(&person).controller()).await.unwrap();
    until("the team is told", async || devices(&t, &team, &person) == 1).await;
    until("new keys", async || t.identity(&team).sending_epoch().await.is_ok_and(|now| now != epoch)).await;
    let renewed = t.identity(&team).sending_epoch().await.unwrap();
    until("a reads under them", async || reads(&a, &team).await).await;
    until("b notices", async || !acts(&b, &team)).await;
    let after = t.write(&team, "after the removal").await;
    a.until_has(&team, &after).await;
    pass(Duration::from_secs(120)).await;
    assert!(!b.has(&team, &after).await);
    assert!(b.identity(&team).derive(&renewed, EpochUse::ContentWrap).await.is_err());
    assert!(!t.identity(&team).may_read(&b.peer(), &renewed).await);
    assert_eq!(judged(&t, &team, before).await, Judgement::Valid, "what had been admitted stays");
    assert!(matches!(b.identities.rekey(&team).await, Err(IdentitiesError::Refused { .. })));
    assert!(b.identities.sign(&team, "test", b"x").is_err());
    assert_eq!(t.identity(&team).sending_epoch().await.unwrap(), renewed, "once per removal");
}

#[tokio::test(start_paused = true)]
async fn a_rekey_or_a_newcomer_inside_the_person_renews_nothing_above() {
    let Cast { hub, t, a, team, person, .. } = cast(Role::Member).await;
    let epoch = t.identity(&team).sending_epoch().await.unwrap();
    a.identities.rekey(&person).await.unwrap();
    let c = Machine::start(&hub, 4).await;
    a.admit(&person, &c, Role::Member).await;
    until("c acts", async || acts(&c, &team)).await;
    pass(Duration::from_secs(300)).await;
    assert_eq!(t.identity(&team).sending_epoch().await.unwrap(), epoch);
}

#[tokio::test(start_paused = true)]
async fn renewed_keys_of_a_device_are_shown_above_and_both_generations_count() {
    let Cast { t, a, team, person, .. } = cast(Role::Member).await;
    let before = a.write(&team, "under the old keys").await;
    a.identities.renew_keys(&person).await.unwrap();
    assert!(matches!(a.identities.renew_keys(&team).await, Err(IdentitiesError::Refused { .. })));
    let key = a.identity(&person).device_signer().public_key();
    until("the team knows the new key", async || a.identity(&team).device_signer().public_key() == key).await;
    let after = a.write(&team, "under the new keys").await;
    for block in [before, after] {
        t.until_has(&team, &block).await;
        until("it counts", async || judged(&t, &team, block).await == Judgement::Valid).await;
    }
    let a = a.restart().await;
    let again = a.write(&team, "after a restart").await;
    t.until_has(&team, &again).await;
}

#[tokio::test(start_paused = true)]
async fn a_removal_two_levels_below_is_told_all_the_way_up() {
    let Cast { hub, t, a, b, team, person } = cast(Role::Member).await;
    // The team is a member of a club as itself: a device of the person acts there for the person in the team.
    let x = Machine::start(&hub, 5).await;
    let club = x.create().await;
    let token = x.token(&club, InviteOptions::default()).await;
    assert_eq!(t.identities.join_as(&token, Some("club"), &team).await.unwrap(), club);
    for machine in [&a, &b] {
        until("the person's devices join the club", async || acts(machine, &club)).await;
    }
    until("the club sees all devices", async || devices(&x, &club, &team) == 3).await;
    let from_b = b.write(&club, "from b").await;
    x.until_has(&club, &from_b).await;
    let epoch = x.identity(&club).sending_epoch().await.unwrap();
    a.identities.remove(&person, b.identity(&person).controller()).await.unwrap();
    until("the club is told", async || devices(&x, &club, &team) == 2).await;
    until("new keys", async || x.identity(&club).sending_epoch().await.is_ok_and(|now| now != epoch)).await;
    until("b has lost it", async || !acts(&b, &club)).await;
    until("a reads", async || reads(&a, &club).await).await;
}

#[tokio::test(start_paused = true)]
async fn circles_and_too_many_levels_are_refused_with_the_reason() {
    let Cast { hub, t, a, team, person, .. } = cast(Role::Member).await;
    let nesting = |outcome| matches!(outcome, Err(IdentitiesError::Join(JoinError::Nesting)));
    let own = a.token(&person, InviteOptions::default()).await;
    assert!(nesting(t.identities.join_as(&own, Some("circle"), &team).await), "the person controls the team");
    assert!(matches!(a.identities.join_as(&own, None, &person).await, Err(IdentitiesError::AlreadyHere { .. })));
    assert_eq!(a.identities.show(&person).unwrap().controllers.len(), 2);

    let x = Machine::start(&hub, 7).await;
    let mut inner = x.create().await;
    for level in 2..=9 {
        let outer = t.identities.create(&format!("level {level}"), "t").await.unwrap().did;
        let token = t.token(&outer, InviteOptions::default()).await;
        let joined = x.identities.join_as(&token, Some(&format!("level {level}")), &inner).await;
        if level == 9 {
            assert!(nesting(joined), "eight levels are the most");
            assert!(x.identities.show(&outer).is_err());
            return;
        }
        assert_eq!(joined.unwrap(), outer, "level {level}");
        inner = outer;
    }
}

#[tokio::test(start_paused = true)]
async fn who_may_not_write_as_the_person_does_not_join_as_it() {
    let hub = MemoryHub::new();
    let (t, a, r) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await, Machine::start(&hub, 3).await);
    let (team, person) = (t.create().await, a.create().await);
    a.admit(&person, &r, Role::Reader).await;
    let token = t.token(&team, InviteOptions::default()).await;
    assert!(matches!(r.identities.join_as(&token, Some("team"), &person).await, Err(IdentitiesError::Refused { .. })));
    a.identities.join_as(&token, Some("team"), &person).await.unwrap();
    pass(Duration::from_secs(60)).await;
    assert!(r.identities.show(&team).is_err(), "a reader of the person is nobody in the team");
    assert_eq!(a.identities.memberships(&person).unwrap()[0].state, MembershipState::Active);
}
