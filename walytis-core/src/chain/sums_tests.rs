//! Kept sums against plain sets.

use std::sync::Arc;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};

use super::*;
use crate::id::ChainId;
use crate::reconcile::tests::Plain;
use crate::store::MemoryStore;

fn table() -> Table {
    Table::new(ChainId(BlockId::from_digest([1; 32])), Arc::new(MemoryStore::new()))
}

fn set(table: &Table) -> ChainSet<'_> {
    ChainSet { table, stretches: None, pages: BTreeMap::new(), items: BTreeMap::new(), reads: 0 }
}

/// Commits blocks as a chain does: canonical keys and sums in one batch.
async fn commit(table: &Table, sums: &mut Sums, blocks: &[CanonicalKey]) {
    let (mut batch, mut added) = (Batch::new(), Added::default());
    for key in blocks {
        batch.put(table.keys.canonical(key.generation, &key.id), Bytes::new());
        added.add(key.generation, &key.id);
    }
    let parts = sums.put(table, &added, &mut batch).await.unwrap();
    table.commit(batch, Durability::Flushed).await.unwrap();
    sums.keep(parts);
}

async fn assert_same(set: &mut ChainSet<'_>, plain: &mut Plain, rng: &mut ChaCha20Rng) {
    let size = plain.size().await.unwrap();
    assert_eq!(set.size().await.unwrap(), size);
    for _ in 0..60 {
        let rank = rng.next_u64() % (size + 2);
        assert_eq!(set.prefix(rank.min(size)).await.unwrap(), plain.prefix(rank.min(size)).await.unwrap());
        let until = (rank + rng.next_u64() % 600).min(size);
        let rank = rank.min(until);
        assert_eq!(set.items(rank, until).await.unwrap(), plain.items(rank, until).await.unwrap());
        let generation = rng.next_u64() % 200_000;
        let mut id = [0; 32];
        id[0] = (rng.next_u32() & 0xff) as u8;
        let key = CanonicalKey { generation, id: BlockId::from_digest(id) };
        for bound in [Bound::generation(generation), Bound { key, id_len: 1 }, Bound::END, Bound::START] {
            assert_eq!(set.rank(&bound).await.unwrap(), plain.rank(&bound).await.unwrap(), "{bound:?}");
        }
    }
}

/// Blocks come in any order and in groups; records are forgotten by the writer and read again; nothing is lost.
#[tokio::test]
async fn sums_follow_what_was_committed() {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let table = table();
    let (mut sums, mut all) = (Sums::default(), Vec::new());
    for round in 0..80 {
        let count = 1 + rng.next_u32() % 40;
        let spread = [1, 300, 70_000, 199_000][round % 4];
        let key = |rng: &mut ChaCha20Rng| {
            let generation = rng.next_u64() % spread;
            CanonicalKey { generation, id: BlockId::of_file(&rng.next_u64().to_be_bytes()) }
        };
        let blocks: Vec<_> = (0..count).map(|_| key(&mut rng)).collect();
        commit(&table, &mut sums, &blocks).await;
        all.extend(blocks);
        if round % 10 == 0 {
            sums = Sums::default();
        }
    }
    all.sort_unstable();
    let mut plain = Plain(all);
    assert_same(&mut set(&table), &mut plain, &mut rng).await;
    // Made anew, they are the same; a chain from before there were sums gets them when it is opened.
    let records = async || {
        let all = table.scan(table.keys.all(Tag::Sum), Direction::Forward, usize::MAX).await.unwrap();
        all.iter().map(|(key, value)| (key.clone(), value.clone())).collect::<Vec<_>>()
    };
    let kept = records().await;
    let meta = Meta { count: plain.0.len() as u64, generation: 200_000 };
    ensure(&table, &meta).await.unwrap();
    assert_eq!(records().await, kept, "nothing to do");
    let mut batch = Batch::new();
    batch.delete_range(table.keys.all(Tag::Sum));
    table.commit(batch, Durability::Flushed).await.unwrap();
    assert_eq!(set(&table).size().await.unwrap(), 0);
    ensure(&table, &meta).await.unwrap();
    assert_eq!(records().await, kept);
}

#[tokio::test]
async fn what_one_answer_may_read_is_bounded() {
    let table = table();
    let mut sums = Sums::default();
    let wide: Vec<_> = (0..=PAGE_ITEMS_MAX as u64)
        .map(|n| CanonicalKey { generation: 7, id: BlockId::of_file(&n.to_be_bytes()) })
        .collect();
    commit(&table, &mut sums, &wide).await;
    let mut set = set(&table);
    assert_eq!(set.size().await.unwrap(), wide.len() as u64);
    assert!(matches!(set.items(0, 10).await, Err(SetError::TooCostly)), "a page that is too wide");
    set.reads = READS_MAX;
    assert!(matches!(set.prefix(1).await, Err(SetError::TooCostly)));
}
