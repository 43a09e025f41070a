//! What catching up costs on the wire: bytes and round trips, counted from the frames that travelled.
//!
//! The chain has 10,000 blocks; `WALYTIS_WIRE_BLOCKS=100000` makes it as long as the marks say (some minutes).

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "tests fail by panicking; the figures are of interest"
)]

use std::time::Duration;

use test_harness::adversary::{Frame, Message};
use test_harness::sim::{LinkConditions, simulate};
use test_harness::world::{SimNode, World};
use walytis_core::block::{BlockDraft, DraftContent, Visibility};
use walytis_core::id::{BlockId, ChainId};
use walytis_core::key::SigningKey;
use walytis_core::secret::Secret;

/// What travelled between two peers.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    /// Blocks, and the bytes of their files.
    blocks: usize,
    block_bytes: usize,
    /// All other bytes of the streams, frames and all.
    other_bytes: usize,
    /// Questions that waited for an answer, on the side that asked more.
    round_trips: usize,
    /// How many of them compared ranges.
    compared: usize,
}

fn count(pieces: &[Vec<u8>]) -> Cost {
    let mut cost = Cost::default();
    for piece in pieces {
        let mut rest = piece.as_slice();
        let mut asked = 0;
        let mut hello = false;
        while let Some((length, tail)) = rest.split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            // Gossip has no frames.
            let Some((body, tail)) = tail.split_at_checked(length) else { break };
            rest = tail;
            cost.other_bytes += 4 + length;
            let Some(Frame::Chain { message, .. }) = Frame::decode(body) else { continue };
            match message {
                Message::Blocks { files, .. } | Message::Push { files } => {
                    let bytes: usize = files.iter().map(Vec::len).sum();
                    cost.blocks += files.len();
                    cost.block_bytes += bytes;
                    cost.other_bytes -= bytes;
                }
                // Everybody asks once how the other stands.
                Message::Hello(_) => hello = true,
                Message::RangeAsk { .. } => {
                    asked += 1;
                    cost.compared += 1;
                }
                Message::Walk { .. } | Message::ListAsk { .. } | Message::Want { .. } | Message::Fetch { .. } => {
                    asked += 1;
                }
                _ => {}
            }
        }
        cost.round_trips = cost.round_trips.max(asked + usize::from(hello));
    }
    cost
}

/// Keeps two replicas apart while `work` is done, and counts what it takes until both know that they have the same.
async fn apart(world: &World, [a, b]: [&SimNode; 2], chain: &ChainId, what: &str, work: impl AsyncFnOnce()) -> Cost {
    world.hub().cut(&a.peer(), &b.peer());
    work().await;
    world.pass(Duration::from_secs(10)).await;
    let before = world.hub().tapped().len();
    world.hub().heal(&a.peer(), &b.peer());
    let level = |node: &SimNode| node.sync(chain).is_some_and(|status| status.peers.iter().any(|peer| peer.in_sync));
    world.until(what, async || a.summary(chain) == b.summary(chain) && level(a) && level(b)).await;
    world.pass(Duration::from_secs(5)).await;
    let cost = count(&world.hub().tapped()[before..]);
    println!("{what}: {cost:?}");
    cost
}

/// Puts blocks with these parents into a replica.
async fn offer(node: &SimNode, chain: &ChainId, writer: u8, parents: impl Iterator<Item = (BlockId, u64)>) {
    let key = SigningKey::from_seed(&Secret::new([writer; 32]));
    let blocks: Vec<_> = parents
        .map(|(parent, generation)| {
            let draft = BlockDraft {
                chain: Some(*chain),
                parents: vec![parent],
                generation: generation + 1,
                created_at_ms: 0,
                topics: vec![],
                content: DraftContent::Inline(format!("{writer} on {generation}").into()),
            };
            draft.sign(&key).unwrap()
        })
        .collect();
    let count = blocks.len();
    let offered = node.chain(chain).core().offer(blocks, None).await.unwrap();
    assert_eq!(offered.admitted.len(), count);
}

async fn tails(nodes: [&SimNode; 2], chain: &ChainId, each: usize) {
    for node in nodes {
        node.add_many(chain, (0..each).map(|n| format!("{} {n} of {each}", node.name()))).await;
    }
}

#[test]
fn catching_up_costs_what_the_marks_say() {
    let blocks: usize = std::env::var("WALYTIS_WIRE_BLOCKS").map_or(10_000, |text| text.parse().unwrap());
    simulate("wire::catching_up_costs_what_the_marks_say", &[1], async |seed| {
        let world = World::new(seed, LinkConditions::CALM);
        let a = world.node("a").await;
        let chain = a.create("chain", Visibility::Invited).await;
        // Ids by generation, the first at 1.
        let mut ids = Vec::new();
        while ids.len() < blocks {
            let part = (ids.len()..blocks.min(ids.len() + 5_000)).map(|n| format!("block {n}"));
            ids.extend(a.add_many(&chain, part).await);
        }
        let b = world.node("b").await;
        b.join(&a, &chain).await;
        world.until("joined", async || a.summary(&chain) == b.summary(&chain)).await;
        world.hub().tap();
        let pair = [&a, &b];
        let spread = |count: usize, first: usize| {
            // Within reach of the antichain rule, so that the branches can be merged again.
            let span = blocks.min(50_000);
            let step = span / count;
            (0..count)
                .map(move |n| blocks - span + first + n * step)
                .map(|at| (ids[at], at as u64 + 1))
                .collect::<Vec<_>>()
        };

        let cost = apart(&world, pair, &chain, "in sync", async || {}).await;
        assert!(cost.round_trips <= 1 && cost.blocks == 0, "{cost:?}");
        assert!(cost.other_bytes <= 400, "{cost:?}");

        let cost = apart(&world, pair, &chain, "50 here, 50 there, at the end", async || {
            tails(pair, &chain, 50).await;
        });
        let cost = cost.await;
        assert!(cost.round_trips <= 3 && cost.blocks == 100, "{cost:?}");
        assert!(cost.other_bytes <= 6_000, "{cost:?}");

        let cost = apart(&world, pair, &chain, "100 missing on one side, scattered", async || {
            offer(&a, &chain, 1, spread(100, 3).into_iter()).await;
        });
        let cost = cost.await;
        assert!(cost.round_trips <= 3 && cost.blocks == 100, "{cost:?}");
        assert!(cost.other_bytes <= 6_000, "{cost:?}");
        // As members do in the course of time.
        for _ in 0..3 {
            a.add(&chain, "merge").await;
        }
        world.until("merged", async || a.summary(&chain) == b.summary(&chain)).await;
        assert_eq!(a.summary(&chain).heads.len(), 1);

        let cost = apart(&world, pair, &chain, "50 here, 50 there, scattered", async || {
            offer(&a, &chain, 2, spread(50, 20).into_iter()).await;
            offer(&b, &chain, 3, spread(50, 40).into_iter()).await;
        });
        let cost = cost.await;
        assert!(cost.round_trips <= 3 && cost.blocks == 100, "{cost:?}");
        assert!(cost.other_bytes <= 6_000, "{cost:?}");
        for _ in 0..3 {
            a.add(&chain, "merge").await;
        }
        world.until("merged", async || a.summary(&chain) == b.summary(&chain)).await;

        // More than a walk is good for: ranges are compared, and still nothing comes twice.
        let cost = apart(&world, pair, &chain, "2,000 here, 2,000 there", async || tails(pair, &chain, 2_000).await);
        let cost = cost.await;
        assert!(cost.compared > 0 && cost.blocks == 4_000, "{cost:?}");
        assert!(cost.round_trips <= 10 && cost.other_bytes <= 4_000 * 100, "{cost:?}");
        world.until_level(&pair, &chain).await;
        world.stop(vec![a, b]).await;
    });
}
