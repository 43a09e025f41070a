//! Adding own blocks and taking in those of others.

use std::time::Duration;

use bytes::Bytes;
use walytis_core::block::{BlockDraft, DraftContent, UnverifiedBlock};
use walytis_core::id::{BlockId, PeerId};
use walytis_core::ledger::Ledger as _;
use walytis_core::store::{Batch, Durability, KvStore as _, RocksStore, keys::Space};

use super::chain::{Open, block, key, topic};
use super::micros;

/// Rounds of each measurement.
const ROUNDS: u32 = 5;
/// Blocks of a round, one at a time.
const SINGLE: u32 = 200;
/// Blocks of a round where each may cost much.
const FEW: u32 = 20;
/// Blocks of one `add_many`, or of one offer of many.
const MANY: u32 = 2_000;

pub(crate) async fn measure(open: &Open, blocks: u32) {
    let bound = flushed_commits().await;
    let add = best!(ROUNDS, SINGLE, |n| {
        open.chain.add(block(n)).await.unwrap();
    });
    let add_many = best!(ROUNDS, 1, |n| {
        open.chain.add_many((n * MANY..(n + 1) * MANY).map(block).collect()).await.unwrap();
    });
    let peer = PeerId::from_bytes(&[7; 32]);
    let mut theirs = series(open, ROUNDS * SINGLE).into_iter();
    let insert = best!(ROUNDS, SINGLE, |_n| {
        let offered = open.core.offer(vec![theirs.next().unwrap()], peer.clone()).await.unwrap();
        assert_eq!(offered.admitted.len(), 1);
    });
    let mut theirs = series(open, ROUNDS * MANY).into_iter();
    let insert_many = best!(ROUNDS, 1, |_n| {
        let some = theirs.by_ref().take(MANY as usize).collect();
        assert_eq!(open.core.offer(some, peer.clone()).await.unwrap().admitted.len(), MANY as usize);
    });
    // Children of blocks far back, which stand on disk alone. Their order is that of a peer that was away.
    let mut late = Vec::new();
    for n in 0..ROUNDS * SINGLE {
        let generation = u64::from(n.wrapping_mul(2_654_435_761) % blocks);
        let parent = open.core.canonical_page(generation, None, 1).await.unwrap()[0];
        late.push(signed(open, parent, generation + 1, n));
    }
    let mut late = late.into_iter();
    let insert_late = best!(ROUNDS, SINGLE, |_n| {
        let offered = open.core.offer(vec![late.next().unwrap()], peer.clone()).await.unwrap();
        assert_eq!(offered.admitted.len(), 1);
    });
    let add_with_heads = best!(ROUNDS, FEW, |n| {
        open.chain.add(block(n)).await.unwrap();
    });
    let row = [
        ("add", add),
        ("bound_flushed_commit", bound),
        ("add_many_per_block", add_many / MANY),
        ("insert", insert),
        ("insert_many_per_block", insert_many / MANY),
        ("insert_late", insert_late),
        ("add_after_late", add_with_heads),
    ];
    let fields: String = row.iter().map(|(name, time)| format!(",\"{name}_us\":{:.1}", micros(*time))).collect();
    println!("{{\"bench\":\"growth\",\"work\":\"writes\",\"blocks\":{blocks}{fields}}}");
}

/// Blocks of another author, each a child of the one before.
fn series(open: &Open, count: u32) -> Vec<UnverifiedBlock> {
    let summary = open.core.summary();
    let (mut parent, mut generation) = (summary.heads[0], summary.generation);
    let mut series = Vec::new();
    for n in 0..count {
        generation += 1;
        let block = signed(open, parent, generation, n);
        parent = block.id();
        series.push(block);
    }
    series
}

fn signed(open: &Open, parent: BlockId, generation: u64, n: u32) -> UnverifiedBlock {
    let mut content = vec![8; 256];
    content[..4].copy_from_slice(&n.to_be_bytes());
    let draft = BlockDraft {
        chain: Some(open.core.id()),
        parents: vec![parent],
        generation,
        created_at_ms: i64::from(n),
        topics: vec![topic("theirs")],
        content: DraftContent::Inline(Bytes::from(content)),
    };
    draft.sign(&key(3)).unwrap()
}

/// Flushed commits of one small record each, on a store of their own.
async fn flushed_commits() -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let store = RocksStore::open(folder.path().join("db")).await.unwrap();
    let time = best!(ROUNDS, SINGLE, |n| {
        let mut batch = Batch::new();
        batch.put(Space::Program.key(&[&n.to_be_bytes()]), vec![7; 400]);
        store.commit(batch, Durability::Flushed).await.unwrap();
    });
    store.close().await.unwrap();
    time
}
