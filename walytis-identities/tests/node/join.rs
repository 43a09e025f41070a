//! Creating, inviting, joining, restarting.

use walytis_core::id::ChainId;
use walytis_core::net::{MemoryHub, Network as _};
use walytis_core::secret::Secret;
use walytis_identities::id::{Did, Role};
use walytis_identities::identity::Identity as _;
use walytis_identities::node::{IdentitiesError, InviteOptions, JoinError};
use walytis_identities::token::IdentityToken;

use crate::rig::{Machine, until};

#[tokio::test(start_paused = true)]
async fn an_identity_is_created_listed_and_reopened() {
    let a = Machine::start(&MemoryHub::new(), 1).await;
    let created = a.identities.create("home", "laptop").await.unwrap();
    assert!(created.recovery.text().starts_with("walytisrecovery1"));
    let before = a.identities.list();
    assert_eq!(before.len(), 1);
    assert_eq!((before[0].did, before[0].name.as_str(), before[0].role), (created.did, "home", Some(Role::Admin)));
    assert_eq!(a.identities.find("home").unwrap(), created.did);
    until("the card is there", async || a.names(&created.did) == [Some("laptop".to_owned())]).await;
    assert!(a.identities.create("home", "laptop").await.is_err(), "a name is given once");
    let before = a.identities.list();

    let a = a.restart().await;
    assert_eq!(a.identities.list(), before);
    let identity = a.identity(&created.did);
    let epoch = identity.sending_epoch().await.unwrap();
    identity.derive(&epoch, walytis_identities::identity::EpochUse::ContentWrap).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_joiner_and_its_inviter_list_each_other_and_exchange_blocks() {
    let hub = MemoryHub::new();
    let (a, b) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await);
    let did = a.create().await;
    let early = a.write(&did, "before b came").await;
    a.admit(&did, &b, Role::Member).await;
    let both = vec![Some("device 1".to_owned()), Some("device 2".to_owned())];
    until("both list both", async || a.names(&did) == both && b.names(&did) == both).await;
    b.until_has(&did, &early).await;
    let (from_a, from_b) = (a.write(&did, "from a").await, b.write(&did, "from b").await);
    a.until_has(&did, &from_b).await;
    b.until_has(&did, &from_a).await;

    let (ours, theirs) = (a.identity(&did), b.identity(&did));
    assert_eq!(ours.peers().await, [b.peer()]);
    assert_eq!(theirs.peers().await, [a.peer()]);
    let epoch = ours.sending_epoch().await.unwrap();
    assert_eq!(theirs.sending_epoch().await.unwrap(), epoch);
    let wrap = walytis_identities::identity::EpochUse::ContentWrap;
    assert_eq!(ours.derive(&epoch, wrap).await.unwrap(), theirs.derive(&epoch, wrap).await.unwrap());
    assert!(ours.may_read(&b.peer(), &epoch).await);
    assert_eq!(b.identities.show(&did).unwrap().locked_epochs, [], "the past opens by the history");
}

#[tokio::test(start_paused = true)]
async fn a_member_admits_while_the_issuer_is_off() {
    let hub = MemoryHub::new();
    let (a, b, c) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await, Machine::start(&hub, 3).await);
    let did = a.create().await;
    a.admit(&did, &b, Role::Member).await;
    until("b is known", async || !a.identity(&did).peers().await.is_empty()).await;
    let token = a.token(&did, InviteOptions::default()).await;
    let token: IdentityToken = token.parse().unwrap();
    assert_eq!(token.peers.len(), 2, "the token names every controller that is known");
    let heads = a.identity(&did).auth_heads().await;
    until("b knows the invitation", async || b.identity(&did).auth_heads().await == heads).await;
    let a = a.stop().await;
    assert_eq!(c.join(&token.to_text()).await.unwrap(), did);
    let from_c = c.write(&did, "from c").await;
    b.until_has(&did, &from_c).await;
    let a = a.start().await;
    a.until_has(&did, &from_c).await;
    assert_eq!(a.identities.show(&did).unwrap().controllers.len(), 3);
}

fn join_error(outcome: Result<Did, IdentitiesError>) -> JoinError {
    match outcome {
        Err(IdentitiesError::Join(error)) => error,
        other => panic!("not a failed join: {other:?}"),
    }
}

async fn assert_nothing_left(machine: &Machine, before: usize) {
    assert!(machine.identities.list().is_empty());
    assert_eq!(machine.dump().await.len(), before, "something was left behind");
}

#[tokio::test(start_paused = true)]
async fn used_up_expired_and_revoked_invitations_are_refused_with_the_reason() {
    let hub = MemoryHub::new();
    let (a, b, c) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await, Machine::start(&hub, 3).await);
    let did = a.create().await;
    let empty = c.dump().await.len();

    let used = a.token(&did, InviteOptions::default()).await;
    b.join(&used).await.unwrap();
    assert!(matches!(join_error(c.join(&used).await), JoinError::UsedUp));
    assert_nothing_left(&c, empty).await;

    let expires_at_ms = Some(2_000_000);
    let expiring = a.token(&did, InviteOptions { expires_at_ms, ..InviteOptions::default() }).await;
    a.clock.set_ms(2_000_001);
    assert!(matches!(join_error(c.join(&expiring).await), JoinError::Expired));

    let revoked = a.identities.invite(&did, InviteOptions::default()).await.unwrap();
    a.identities.revoke(&did, revoked.id).await.unwrap();
    assert!(matches!(join_error(c.join(&revoked.token.to_text()).await), JoinError::Revoked));
    assert!(a.identities.revoke(&did, revoked.id).await.is_err(), "revoked once");
    assert_nothing_left(&c, empty).await;
    assert_eq!(a.identities.show(&did).unwrap().controllers.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_seed_or_did_learns_one_flat_refusal() {
    let hub = MemoryHub::new();
    let (a, c) = (Machine::start(&hub, 1).await, Machine::start(&hub, 3).await);
    let did = a.create().await;
    let good: IdentityToken = a.token(&did, InviteOptions::default()).await.parse().unwrap();
    let empty = c.dump().await.len();
    let other = Did(ChainId(walytis_core::id::BlockId::of_file(b"another")));
    let wrong_seed = IdentityToken { seed: Secret::new([9; 32]), ..good.clone() };
    let wrong_did = IdentityToken { did: other, ..good.clone() };
    let wrong_invite = IdentityToken { invite: walytis_identities::id::OpId([7; 32]), ..good.clone() };
    for token in [wrong_seed, wrong_did, wrong_invite] {
        assert!(matches!(join_error(c.join(&token.to_text()).await), JoinError::NotRecognised));
        assert_nothing_left(&c, empty).await;
    }
    assert_eq!(a.identities.show(&did).unwrap().controllers.len(), 1);
    let nowhere = IdentityToken { peers: vec![], ..good.clone() };
    assert!(matches!(join_error(c.join(&nowhere.to_text()).await), JoinError::Unreachable { .. }));
    assert!(matches!(c.join("walytisid1abc").await, Err(IdentitiesError::BadToken { .. })));
    // The invitation itself is untouched.
    assert_eq!(c.join(&good.to_text()).await.unwrap(), did);
}

#[tokio::test(start_paused = true)]
async fn both_sides_may_restart_at_every_step() {
    let hub = MemoryHub::new();
    let (a, b) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await);
    let did = a.create().await;
    let a = a.restart().await;
    let token = a.token(&did, InviteOptions::default()).await;
    let (a, b) = (a.restart().await, b.restart().await);
    b.join(&token).await.unwrap();
    let (a, b) = (a.restart().await, b.restart().await);
    let from_b = b.write(&did, "from b").await;
    let b = b.restart().await;
    a.until_has(&did, &from_b).await;
    let from_a = a.write(&did, "from a").await;
    b.until_has(&did, &from_a).await;
    assert_eq!(a.identities.show(&did).unwrap().controllers.len(), 2);
}

/// The joiner is killed after any number of steps, restarts and repeats: it is the same device, no second use is counted.
#[tokio::test(start_paused = true)]
async fn a_join_interrupted_anywhere_is_repeated_with_the_same_keys_at_no_cost() {
    for steps in (1..).step_by(4) {
        let hub = MemoryHub::new();
        let (a, b) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await);
        let did = a.create().await;
        let token = a.token(&did, InviteOptions::default()).await;
        let mut finished = false;
        {
            let join = b.join(&token);
            tokio::pin!(join);
            for _ in 0..steps {
                tokio::select! {
                    biased;
                    joined = &mut join => {
                        assert_eq!(joined.unwrap(), did);
                        finished = true;
                        break;
                    }
                    () = tokio::task::yield_now() => {}
                }
            }
        }
        let b = b.restart().await;
        if b.identities.list().is_empty() {
            assert_eq!(b.join(&token).await.unwrap(), did, "after {steps} steps");
        }
        let shown = a.identities.show(&did).unwrap();
        assert_eq!(shown.controllers.len(), 2, "after {steps} steps");
        let device = b.identity(&did).controller();
        assert!(shown.controllers.iter().any(|controller| controller.id == device), "after {steps} steps");
        if finished {
            return;
        }
        a.stop().await;
        b.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_leaves_no_task_behind() {
    let a = Machine::start(&MemoryHub::new(), 1).await;
    a.create().await;
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert!(before > 0);
    let network = a.network.clone();
    drop(a.stop().await);
    assert!(network.peers().is_empty());
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}
