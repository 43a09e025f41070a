//! Forgetting and sending messages.

use std::ops::Range;
use std::time::Duration;

use futures::TryStreamExt as _;
use test_harness::sim::LinkConditions;
use test_harness::world::{PrivateNode, World};
use walytis_core::id::BlockId;
use walytis_core::ledger::{BlockState, LedgerRead as _};
use walytis_core::store::BlobSpace;
use walytis_identities::id::Did;
use walytis_offchain::inbox::{OutgoingState, Received};

use crate::plan::{Plan, at_every_step_in_short};
use crate::private::{come_back, end, large, restart, until_reads};

async fn is_forgotten(node: &PrivateNode, did: &Did, id: &BlockId) -> bool {
    let Ok(ledger) = node.try_ledger(did).await else { return false };
    matches!(ledger.get(id).await, Ok(Some(info)) if info.state == BlockState::Forgotten)
}

/// Forgets a small content on the device alone and a large one by proposal, while the device fails. What was acknowledged stays
/// forgotten; done again it is finished; then no object of either is left, and what was not named is there.
async fn forget(seed: u64, plan: Plan) -> Range<u64> {
    let world = World::new(seed, LinkConditions::CALM);
    let node = world.private_node("a").await;
    let did = node.create("home").await;
    let kept = vec![(node.add(&did, "kept", &["t"]).await.unwrap(), "kept")];
    let small = node.add(&did, "small", &["t"]).await.unwrap();
    let large = node.add(&did, large(), &["t"]).await.unwrap();
    let power = plan.power();
    let node = world.start_private_with(node.stop().await, power.clone()).await;
    let opened = power.steps();
    let ledger = node.ledger(&did).await;
    let alone = plan.bounded("forgetting", ledger.forget_local(&small)).await.is_ok();
    let proposed = plan.bounded("proposing", ledger.propose_forget(&[large], "why")).await.is_ok();
    drop(ledger);
    world.pass(Duration::from_secs(20)).await;
    let steps = opened..power.steps();
    let node = come_back(plan, &world, node).await;
    until_reads(&world, plan, &node, &did, &kept).await;
    for (id, acknowledged) in [(&small, alone), (&large, proposed)] {
        if acknowledged {
            world.until(&format!("it is forgotten: {plan:?}"), async || is_forgotten(&node, &did, id).await).await;
        }
    }
    let ledger = node.ledger(&did).await;
    ledger.forget_local(&small).await.unwrap_or_else(|error| panic!("{error:?}: {plan:?}"));
    if !is_forgotten(&node, &did, &large).await {
        ledger.propose_forget(&[large], "").await.unwrap_or_else(|error| panic!("{error:?}: {plan:?}"));
    }
    drop(ledger);
    let node = restart(&world, plan, node, &did, &kept).await;
    for id in [&small, &large] {
        assert!(is_forgotten(&node, &did, id).await, "{plan:?}");
        assert!(node.read(&did, id).await.is_err());
    }
    let left = node.base().blobs().list(BlobSpace::Envelope, did.chain()).await.unwrap();
    assert_eq!(left, [], "objects are left: {plan:?}");
    end(world, [node]).await;
    steps
}

#[test]
fn no_crash_point_of_forgetting_brings_a_content_back_or_leaves_some_of_it() {
    at_every_step_in_short(
        "crash_points::no_crash_point_of_forgetting_brings_a_content_back_or_leaves_some_of_it",
        8,
        forget,
    );
}

async fn received(node: &PrivateNode, did: &Did) -> Vec<String> {
    let found: Vec<Received> = node.inbox().messages(did).await.unwrap().try_collect().await.unwrap();
    found.iter().map(|one| String::from_utf8_lossy(&one.message).into_owned()).collect()
}

const TEXTS: [&str; 5] = ["one", "two", "three", "four", "five"];

/// Sends messages while the sender fails: what was acknowledged arrives, once.
async fn send(seed: u64, plan: Plan) -> Range<u64> {
    let world = World::new(seed, LinkConditions::CALM);
    let (a, s) = (world.private_node("a").await, world.private_node("s").await);
    let (home, stranger) = (a.create("home").await, s.create("stranger").await);
    let to = a.identities().contact_card(&home).unwrap();
    s.identities().resolve_card(&to).await.unwrap();
    let power = plan.power();
    let s = world.start_private_with(s.stop().await, power.clone()).await;
    let opened = power.steps();
    let mut sent = Vec::new();
    for text in TEXTS {
        if plan.bounded("sending", s.inbox().send(&stranger, &to, text.as_bytes())).await.is_ok() {
            sent.push(text.to_owned());
        }
    }
    world.pass(Duration::from_secs(20)).await;
    let steps = opened..power.steps();
    let s = come_back(plan, &world, s).await;
    let arrived = async || {
        let got = received(&a, &home).await;
        sent.iter().all(|text| got.contains(text))
    };
    world.until(&format!("what was sent arrives: {plan:?}"), arrived).await;
    let told = async || {
        let all = s.inbox().outbox().await;
        all.is_ok_and(|all| all.iter().all(|one| one.state != OutgoingState::Waiting))
    };
    world.until(&format!("the outbox knows: {plan:?}"), told).await;
    let got = received(&a, &home).await;
    for text in TEXTS {
        assert!(got.iter().filter(|one| *one == text).count() <= 1, "{got:?}: {plan:?}");
    }
    end(world, [a, s]).await;
    steps
}

#[test]
fn no_crash_point_of_a_sender_loses_or_doubles_a_message() {
    at_every_step_in_short("crash_points::no_crash_point_of_a_sender_loses_or_doubles_a_message", 8, send);
}
