//! Strangers that take whatever they can of the exchange: members get what is theirs all the same.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use support::{Peer, World, add, pattern, read, until};
use walytis_core::ledger::BlockState;
use walytis_core::net::{MemoryNetwork, Network as _, Stream};
use walytis_core::secret::Secret;
use walytis_identities::id::Role;
use walytis_offchain::OFFCHAIN;

/// 64 strangers open four streams each and say on each what they are given.
async fn occupy(world: &World, victim: &Peer, says: &[u8]) -> (Vec<Arc<MemoryNetwork>>, Vec<Box<dyn Stream>>) {
    let (mut strangers, mut streams) = (Vec::new(), Vec::new());
    for seed in 100..164 {
        let stranger = Arc::new(world.hub.join(&Secret::new([seed; 32])));
        stranger.connect(Some(&victim.id()), &victim.network.addresses()).await.unwrap();
        for _ in 0..4 {
            let mut stream = stranger.open(&victim.id(), OFFCHAIN).await.unwrap();
            // One for which there is no place is ended at once.
            let _said = stream.write_all(says).await.is_ok() && stream.flush().await.is_ok();
            streams.push(stream);
        }
        strangers.push(stranger);
        // So that each is taken in before the next.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (strangers, streams)
}

/// Whether strangers say nothing, begin a frame and stop, or ask again and again: what a member asks for is there before
/// their streams have ended, and those end.
#[tokio::test(start_paused = true)]
async fn streams_of_strangers_keep_no_member_from_its_content() {
    let half = [&60_000_u32.to_be_bytes()[..], &[1; 50_000]].concat();
    for says in [&[][..], &[0], &half] {
        let world = World::new();
        let (mut peers, chain, group) = world.peers(2).await;
        let (b, a) = (peers.pop().unwrap(), peers.pop().unwrap());
        let (at_a, at_b) = (a.join(&group, Role::Admin), b.join(&group, Role::Member));
        let author = a.open(&chain, &at_a, "notes").await;
        let id = add(&author, pattern(100_000), &[]).await.id;
        let (strangers, streams) = occupy(&world, &a, says).await;
        let reader = b.open(&chain, &at_b, "notes").await;
        let wait = until(&reader, &id, BlockState::Available);
        tokio::time::timeout(Duration::from_secs(10), wait).await.expect("a member gets nothing");
        assert!(read(&reader, &id).await == pattern(100_000));
        let mut answered = Vec::new();
        for mut stream in streams {
            let end = tokio::time::timeout(Duration::from_secs(61), stream.read_to_end(&mut answered)).await;
            assert!(end.is_ok(), "a stream of a stranger lasts for ever");
        }
        assert!(answered.is_empty() && strangers.len() == 64);
        // Members may be silent as long as they like.
        tokio::time::sleep(Duration::from_secs(600)).await;
        let id = add(&author, pattern(200_000), &[]).await.id;
        until(&reader, &id, BlockState::Available).await;
        b.stop(&[&reader]).await;
        a.stop(&[&author]).await;
    }
}
