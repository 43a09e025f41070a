//! What hostile peers can make a node keep, counted by the allocator. One test: nothing else may allocate meanwhile.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::time::Duration;

use peak_alloc::PeakAlloc;
use test_harness::adversary::{Gossip, HostilePeer, Message};
use test_harness::sim::{LinkConditions, simulate};
use test_harness::world::World;
use walytis_core::block::{BlockDraft, DraftContent, Visibility};
use walytis_core::id::{BlockId, ChainId};
use walytis_core::key::SigningKey;
use walytis_core::limits::PENDING_BYTES_PER_PEER_MAX;
use walytis_core::secret::Secret;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What else may be allocated: queues of the simulated network, the trace, caches of the store. Measured: about 1 MB.
const SLACK: usize = 4 * 1024 * 1024;
/// Bytes of one orphan. Chosen: the most that fits a message that nobody asked for.
const ORPHAN: usize = 40 * 1024;

/// A valid block whose parent nobody has.
fn orphan(chain: ChainId, number: u64) -> Vec<u8> {
    let mut content = vec![0x66; ORPHAN];
    content.iter_mut().zip(number.to_be_bytes()).for_each(|(to, byte)| *to = byte);
    let draft = BlockDraft {
        chain: Some(chain),
        parents: vec![BlockId::of_file(&number.to_be_bytes())],
        generation: 1_000,
        created_at_ms: 0,
        topics: vec![],
        content: DraftContent::Inline(content.into()),
    };
    draft.sign(&SigningKey::from_seed(&Secret::new([0x66; 32]))).unwrap().file().to_vec()
}

/// 33 MB of orphans by one member, pushed and gossiped, and claims about a million blocks.
#[test]
fn a_flood_takes_no_more_memory_than_its_bound() {
    simulate("bounded_memory::a_flood_takes_no_more_memory_than_its_bound", &[1], async |seed| {
        let world = World::new(seed, LinkConditions::CALM);
        let victim = world.node("victim").await;
        let chain = victim.create("attacked", Visibility::Invited).await;
        let secrets = victim.chain(&chain).core().access();
        let mut attacker = HostilePeer::against(world.hub(), &victim, 1);
        attacker.meet(&victim).await;
        let mut session = attacker.session(&victim, &chain, &*secrets).await;
        world.pass(Duration::from_secs(5)).await;
        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        let mut sent = 0;
        for number in 0..800 {
            let file = orphan(chain, number);
            sent += file.len();
            if number % 10 == 0 {
                attacker.gossip(&chain, &*secrets, &Gossip::Block(file)).await;
                attacker.gossip(&chain, &*secrets, &Gossip::Ids(vec![BlockId::of_file(&[0x66]); 500])).await;
            } else {
                assert!(session.say(Message::Push { files: vec![file] }).await);
            }
            world.pass(Duration::from_millis(20)).await;
        }
        world.pass(Duration::from_secs(5)).await;
        let kept = MEMORY.current_usage().saturating_sub(before);
        let peak = MEMORY.peak_usage().saturating_sub(before);
        let bound = PENDING_BYTES_PER_PEER_MAX + SLACK;
        assert!(sent > 3 * bound / 2 && kept > PENDING_BYTES_PER_PEER_MAX / 2, "{sent} bytes sent, {kept} kept");
        assert!(kept <= bound && peak <= bound + 2 * SLACK, "{kept} bytes kept, {peak} at the peak, of {sent} sent");
        drop(session);
        attacker.vanish();
        // Nothing of it is left once the node has ended.
        world.stop(vec![victim]).await;
        let left = MEMORY.current_usage().saturating_sub(before);
        assert!(left < SLACK, "{left} bytes are left");
    });
}
