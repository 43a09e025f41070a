//! Identities that are created for a person.

use std::time::Duration;

use walytis_core::net::MemoryHub;
use walytis_core::store::SecretStore as _;
use walytis_identities::id::{ControllerId, Role};
use walytis_identities::identity::{Identity as _, Judgement};
use walytis_identities::node::{IdentitiesError, IdentityTerms, InviteOptions, MembershipState};
use walytis_identities::op::HistoryPolicy;

use crate::acting::{acts, judged};
use crate::rig::{Machine, pass, until};

async fn names(machine: &Machine) -> Vec<String> {
    machine.vault.list("").await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_identity_created_for_a_person_is_controlled_by_the_person_alone() {
    let hub = MemoryHub::new();
    let (a, b, m) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await, Machine::start(&hub, 3).await);
    let person = a.create().await;
    a.admit(&person, &b, Role::Member).await;
    let before = names(&a).await;
    let created = a.identities.create_as("club", &person, IdentityTerms::default()).await.unwrap();
    let club = created.did;
    let shown = a.identities.show(&club).unwrap();
    let ids: Vec<ControllerId> = shown.controllers.iter().map(|one| one.id).collect();
    assert_eq!(
        (ids, shown.role, shown.person),
        (vec![ControllerId::Identity(person)], Some(Role::Admin), Some(person))
    );
    assert!(!shown.provisional_removal, "whoever founded it has left, and can contest nothing");
    assert!(shown.epoch.is_some() && shown.locked_epochs.is_empty());
    let noted = a.identities.memberships(&person).unwrap().remove(0);
    assert_eq!((noted.did, noted.state), (club, MembershipState::Active));
    // No key of the device that founded it is kept.
    let fresh: Vec<String> = names(&a).await.into_iter().filter(|name| !before.contains(name)).collect();
    assert!(fresh.iter().all(|name| name.starts_with("identities/epoch/")), "{fresh:?}");

    until("the person's other device takes part by itself", async || acts(&b, &club)).await;
    m.join(&b.token(&club, InviteOptions::default()).await).await.unwrap();
    let written = m.write(&club, "by a member").await;
    for machine in [&a, &b] {
        machine.until_has(&club, &written).await;
        until("it counts", async || judged(machine, &club, written).await == Judgement::Valid).await;
    }
    // The ops of its foundation stand in blocks, as all do.
    assert_eq!(m.graph(&club).await.len(), a.graph(&club).await.len());
    let a = a.restart().await;
    let again = a.write(&club, "after a restart").await;
    m.until_has(&club, &again).await;
    a.identities.recover(&club, &created.recovery, vec![]).await.unwrap();
    until("the code works", async || !acts(&m, &club)).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_a_foundation_that_is_refused() {
    let hub = MemoryHub::new();
    let (a, r) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await);
    let person = a.create().await;
    a.admit(&person, &r, Role::Reader).await;
    let refused = r.identities.create_as("club", &person, IdentityTerms::default()).await;
    assert!(matches!(refused, Err(IdentitiesError::Refused { .. })), "{refused:?}");
    for age in [Duration::ZERO, Duration::from_secs(3_599), Duration::from_secs(u64::MAX)] {
        let terms = IdentityTerms { renew_after: Some(age), ..IdentityTerms::default() };
        assert!(matches!(a.identities.create_as("club", &person, terms).await, Err(IdentitiesError::Refused { .. })));
        assert!(matches!(a.identities.create_with("club", "a", terms).await, Err(IdentitiesError::Refused { .. })));
    }
    let taken = a.identities.create_as("home", &person, IdentityTerms::default()).await;
    assert!(matches!(taken, Err(IdentitiesError::Node(_))), "{taken:?}");
    assert_eq!((a.identities.list().len(), r.identities.list().len()), (1, 1));
}

/// The age at which keys are renewed is the identity's, on every device; other identities have the device's own.
#[tokio::test(start_paused = true)]
async fn keys_are_renewed_at_the_age_that_the_identity_was_created_with() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let hub = MemoryHub::new();
    let (a, b) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await);
    let terms = IdentityTerms { renew_after: Some(HOUR * 5), history: HistoryPolicy::None };
    let did = a.identities.create_with("hourly", "a", terms).await.unwrap().did;
    let usual = b.create().await;
    let token = a.token(&did, InviteOptions::default()).await;
    b.identities.join(&token, Some("hourly"), "b").await.unwrap();
    let (first, kept) =
        (b.identity(&did).sending_epoch().await.unwrap(), b.identity(&usual).sending_epoch().await.unwrap());
    pass(HOUR * 4).await;
    for machine in [&a, &b] {
        assert_eq!(machine.identity(&did).sending_epoch().await.unwrap(), first);
    }
    drop(a.stop().await);
    pass(HOUR * 2).await;
    until("the other device renews it", async || b.identity(&did).sending_epoch().await.unwrap() != first).await;
    assert_eq!(b.identity(&usual).sending_epoch().await.unwrap(), kept);
}
