//! Large content: added here, fetched from others.

use std::ops::Range;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use test_harness::sim::LinkConditions;
use test_harness::world::{SimNode, World};
use walytis_core::block::Visibility;
use walytis_core::id::{BlockId, ChainId};
use walytis_core::ledger::{Content, Ledger as _, NewBlock};
use walytis_core::store::{BlobSpace, BlobStore as _};

use crate::plan::{Plan, at_every_step};

/// Three leaves, the last one short.
fn large() -> Bytes {
    static BYTES: OnceLock<Bytes> = OnceLock::new();
    let make = || (0..2_300_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<_>>().into();
    BYTES.get_or_init(make).clone()
}

async fn objects(node: &SimNode, chain: &ChainId) -> usize {
    node.stored_blobs().list(BlobSpace::Blob, *chain).await.unwrap().len()
}

/// Content comes in from a reader, whose length nobody knows before its end.
async fn add(seed: u64, plan: Plan) -> Range<u64> {
    let world = World::new(seed, LinkConditions::CALM);
    let disk = {
        let node = world.node("n").await;
        node.create("notes", Visibility::Invited).await;
        node.stop().await
    };
    let power = plan.power();
    let node = world.start_with(disk, power.clone()).await;
    let chain = node.node().find("notes").unwrap().id;
    let opened = power.steps();
    let content = || NewBlock { content: Content::Reader(Box::new(std::io::Cursor::new(large()))), topics: vec![] };
    let added: Option<BlockId> = plan.bounded("add", node.chain(&chain).add(content())).await.ok().map(|info| info.id);
    let steps = opened..power.steps();
    let node = plan.come_back(&world, node).await;
    if let Some(id) = &added {
        assert!(node.read(&chain, id).await.unwrap() == large(), "the content differs: {plan:?}");
    }
    // What a failure left behind is gone after the next start, and the content can be added again.
    let node = world.start(node.stop().await).await;
    let blocks = usize::try_from(node.summary(&chain).count).unwrap();
    assert_eq!(objects(&node, &chain).await, blocks - 1, "content that no block names is left: {plan:?}");
    let again = node.chain(&chain).add(content()).await.unwrap().id;
    assert!(node.read(&chain, &again).await.unwrap() == large(), "the content differs: {plan:?}");
    assert_eq!(objects(&node, &chain).await, 1, "the same content stands twice: {plan:?}");
    world.stop(vec![node]).await;
    steps
}

#[test]
fn no_crash_point_of_large_content_leaves_any_of_it_behind() {
    at_every_step("crash_points::no_crash_point_of_large_content_leaves_any_of_it_behind", 5, add);
}

/// `b` fetches what `a` has and fails on the way: it goes on where it was, by itself where its process lives on.
async fn fetch(seed: u64, plan: Plan) -> Range<u64> {
    let world = World::new(seed, LinkConditions::CALM);
    let a = world.node("a").await;
    let chain = a.create("notes", Visibility::Invited).await;
    let b = world.node("b").await;
    b.join(&a, &chain).await;
    world.until_level(&[&a, &b], &chain).await;
    let disk = b.stop().await;
    let id = a.add(&chain, large()).await;
    let power = plan.power();
    let b = world.start_with(disk, power.clone()).await;
    let opened = power.steps();
    // Ends by an error where the store fails, by the content where it does not.
    let _read = plan.bounded("reading", b.read(&chain, &id)).await;
    world.pass(Duration::from_secs(20)).await;
    let steps = opened..power.steps();
    let b = plan.come_back(&world, b).await;
    world
        .until(&format!("the content comes: {plan:?}"), async || {
            objects(&b, &chain).await == 1 && b.read(&chain, &id).await.is_ok_and(|read| read == large())
        })
        .await;
    let b = plan.level(&world, b, &a, &chain).await;
    assert!(b.read(&chain, &id).await.unwrap() == large(), "the content differs: {plan:?}");
    world.stop(vec![a, b]).await;
    steps
}

#[test]
fn no_crash_point_of_a_fetch_keeps_the_content_from_coming() {
    at_every_step("crash_points::no_crash_point_of_a_fetch_keeps_the_content_from_coming", 5, fetch);
}

/// A chain with large content is removed while its node fails: it is there whole, or gone with all it had.
async fn delete(seed: u64, plan: Plan) -> Range<u64> {
    let world = World::new(seed, LinkConditions::CALM);
    let node = world.node("n").await;
    let chain = node.create("notes", Visibility::Invited).await;
    node.add(&chain, large()).await;
    let kept = node.create("kept", Visibility::Invited).await;
    node.add(&kept, large()).await;
    let power = plan.power();
    let node = world.start_with(node.stop().await, power.clone()).await;
    let opened = power.steps();
    let deleted = plan.bounded("delete", node.node().delete_chain(&chain)).await.is_ok();
    let steps = opened..power.steps();
    let node = plan.come_back(&world, node).await;
    if node.node().find("notes").is_ok() {
        assert!(!deleted, "a removed chain came back: {plan:?}");
        node.node().delete_chain(&chain).await.unwrap_or_else(|error| panic!("{error}: {plan:?}"));
    }
    assert_eq!(objects(&node, &chain).await, 0, "content of a removed chain is left: {plan:?}");
    assert_eq!(objects(&node, &kept).await, 1, "content of another chain is gone: {plan:?}");
    let node = world.start(node.stop().await).await;
    assert!(node.node().find("notes").is_err(), "a removed chain came back: {plan:?}");
    let again = node.create("notes", Visibility::Public).await;
    assert_ne!(again, chain);
    world.stop(vec![node]).await;
    steps
}

#[test]
fn no_crash_point_of_a_removal_leaves_half_a_chain() {
    at_every_step("crash_points::no_crash_point_of_a_removal_leaves_half_a_chain", 4, delete);
}
