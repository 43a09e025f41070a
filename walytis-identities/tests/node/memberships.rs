//! The list of what a person takes part in: who reads it, leaving, putting away.

use std::time::Duration;

use walytis_core::net::MemoryHub;
use walytis_identities::id::{Did, Role};
use walytis_identities::identity::{Identity as _, IdentityError};
use walytis_identities::node::{IdentitiesError, InviteOptions, MembershipState};

use crate::acting::{Cast, acts, cast, devices};
use crate::rig::{Machine, pass, until};

fn states(machine: &Machine, person: &Did) -> Vec<MembershipState> {
    machine.identities.memberships(person).unwrap().iter().map(|one| one.state).collect()
}

#[tokio::test(start_paused = true)]
async fn the_list_is_read_by_the_persons_own_readers_only() {
    let Cast { hub, t, a, b, team, person } = cast(Role::Member).await;
    for machine in [&a, &b] {
        until("it is noted", async || states(machine, &person) == [MembershipState::Active]).await;
        let noted = machine.identities.memberships(&person).unwrap().remove(0);
        assert_eq!((noted.did, noted.name.as_str(), noted.here), (team, "team", true));
    }
    assert_eq!(states(&t, &team), []);
    // A keeper stores the records and learns nothing of them.
    let keeper = Machine::start(&hub, 4).await;
    a.admit(&person, &keeper, Role::Keeper).await;
    let last = a.write(&person, "last").await;
    keeper.until_has(&person, &last).await;
    pass(Duration::from_secs(30)).await;
    assert_eq!(states(&keeper, &person), []);
    let dump = keeper.dump().await;
    for secret in [&team.chain().digest()[..], b"team"] {
        assert!(!dump.windows(secret.len()).any(|window| window == secret), "in plain sight");
    }
    assert!(keeper.identities.show(&team).is_err());
    let a = a.restart().await;
    until("it is read again", async || states(&a, &person) == [MembershipState::Active]).await;
}

#[tokio::test(start_paused = true)]
async fn who_leaves_leaves_with_all_devices_and_may_be_invited_again() {
    let Cast { t, a, b, team, person, .. } = cast(Role::Member).await;
    b.identities.leave(&team).await.unwrap();
    for machine in [&a, &b] {
        until("it is noted", async || states(machine, &person) == [MembershipState::Left]).await;
        until("it acts no more", async || !acts(machine, &team)).await;
    }
    until("the team has removed the person", async || t.identities.show(&team).unwrap().controllers.len() == 1).await;
    pass(Duration::from_secs(400)).await;
    assert!(!acts(&a, &team) && !acts(&b, &team), "nobody comes back by itself");
    assert!(a.identities.archive(&team, true).await.is_err(), "there is nothing to put away");

    let token = t.token(&team, InviteOptions::default()).await;
    b.identities.forget(&team).await.unwrap();
    pass(Duration::from_secs(60)).await;
    assert!(b.identities.show(&team).is_err(), "what was left is not taken up again");
    a.identities.join_as(&token, None, &person).await.unwrap();
    until("a is back", async || acts(&a, &team)).await;
    until("b is back too", async || acts(&b, &team)).await;
    until("it is noted", async || states(&b, &person) == [MembershipState::Active]).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_put_away_stays_a_membership_without_content() {
    let Cast { hub, t, a, b, team, person } = cast(Role::Member).await;
    until("the team sees both devices", async || devices(&t, &team, &person) == 2).await;
    let before = t.write(&team, "before").await;
    for machine in [&a, &b] {
        machine.until_has(&team, &before).await;
    }
    a.identities.archive(&team, true).await.unwrap();
    until("b follows", async || b.identities.show(&team).unwrap().archived).await;
    assert_eq!(states(&a, &person), [MembershipState::Archived]);
    let meanwhile = t.write(&team, "meanwhile").await;
    pass(Duration::from_secs(120)).await;
    for machine in [&a, &b] {
        assert!(!machine.has(&team, &meanwhile).await && machine.has(&team, &before).await);
        assert!(matches!(machine.identity(&team).sending_epoch().await, Err(IdentityError::Refused { .. })));
        assert!(machine.identities.rekey(&team).await.is_ok(), "keys are renewed all the same");
    }
    assert!(matches!(a.identities.invite(&team, InviteOptions::default()).await, Err(IdentitiesError::Refused { .. })));
    assert_eq!(t.identities.show(&team).unwrap().controllers.len(), 2, "the person stays");
    // It stays put away after a restart and for a new device, which shows itself nevertheless.
    let a = a.restart().await;
    let c = Machine::start(&hub, 4).await;
    a.admit(&person, &c, Role::Member).await;
    until("c takes it up", async || acts(&c, &team)).await;
    assert!(c.identities.show(&team).unwrap().archived && a.identities.show(&team).unwrap().archived);
    pass(Duration::from_secs(60)).await;
    assert!(!c.has(&team, &meanwhile).await);

    c.identities.archive(&team, false).await.unwrap();
    for machine in [&a, &b, &c] {
        machine.until_has(&team, &meanwhile).await;
        until("it is active", async || states(machine, &person) == [MembershipState::Active]).await;
    }
    let from_c = c.write(&team, "from c").await;
    t.until_has(&team, &from_c).await;
}

#[tokio::test(start_paused = true)]
async fn a_removed_device_loses_what_was_put_away_too() {
    let Cast { t, a, b, team, person, .. } = cast(Role::Member).await;
    until("the team sees both devices", async || devices(&t, &team, &person) == 2).await;
    a.identities.archive(&team, true).await.unwrap();
    until("b follows", async || b.identities.show(&team).unwrap().archived).await;
    let epoch = t.identity(&team).sending_epoch().await.unwrap();
    a.identities.remove(&person, b.identity(&person).controller()).await.unwrap();
    until("the team is told", async || devices(&t, &team, &person) == 1).await;
    until("new keys", async || t.identity(&team).sending_epoch().await.is_ok_and(|now| now != epoch)).await;
}

#[tokio::test(start_paused = true)]
async fn only_what_was_joined_as_a_person_is_put_away() {
    let hub = MemoryHub::new();
    let (a, b) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await);
    let did = a.create().await;
    a.admit(&did, &b, Role::Member).await;
    assert!(matches!(b.identities.archive(&did, true).await, Err(IdentitiesError::Refused { .. })));
    let unknown = Did(walytis_core::id::ChainId(walytis_core::id::BlockId::of_file(b"unknown")));
    assert!(matches!(b.identities.archive(&unknown, true).await, Err(IdentitiesError::Unknown { .. })));
}
