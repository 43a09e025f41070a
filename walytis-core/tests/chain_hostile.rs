//! Hostile and damaged input: refused with its number, bounded, harmless.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

mod chain_parts;

use bytes::Bytes;
use chain_parts::{Bench, check, key};
use walytis_core::block::{BlockDraft, DraftContent, Rule, UnverifiedBlock};
use walytis_core::id::{BlockId, ChainId, PeerId};
use walytis_core::ledger::{Ledger as _, LedgerControl as _, LedgerError, LedgerRead as _, NewBlock};
use walytis_core::limits::{PENDING_BLOCKS_MAX, PENDING_BLOCKS_PER_PEER_MAX};
use walytis_core::store::{Batch, Durability, KvStore as _, StoreError};

fn text(text: &str) -> NewBlock {
    NewBlock { content: text.to_owned().into(), topics: Vec::new() }
}

#[tokio::test]
async fn blocks_of_another_chain_are_refused() {
    let bench = Bench::new();
    let chain = bench.chain(1).await;
    let foreign = BlockDraft {
        chain: Some(ChainId(BlockId::from_digest([8; 32]))),
        parents: vec![bench.genesis.id()],
        generation: 1,
        created_at_ms: 0,
        topics: Vec::new(),
        content: DraftContent::Inline(Bytes::new()),
    };
    let offered = chain.core.offer(vec![foreign.sign(&key(5)).unwrap()], None).await.unwrap();
    assert_eq!(offered.rejected[0].rule, Rule::Chain);
    assert_eq!(chain.core.summary().count, 1);
}

#[tokio::test]
async fn a_forged_signature_is_refused_among_good_blocks() {
    let bench = Bench::new();
    let chain = bench.chain(1).await;
    let genesis = bench.genesis.id();
    let mut offered: Vec<_> = (0..40_u8).map(|n| bench.block(7, vec![genesis], 1, &[n])).collect();
    let mut file = bench.block(7, vec![genesis], 1, b"forged").file().to_vec();
    let signature_end = file.len() - b"forged".len() - 2;
    file[signature_end - 40] ^= 1;
    let forged = UnverifiedBlock::decode(file.into()).unwrap();
    offered.insert(20, forged.clone());
    let outcome = chain.core.offer(offered, None).await.unwrap();
    assert_eq!(
        outcome.rejected.iter().map(|v| (v.rule, v.block)).collect::<Vec<_>>(),
        [(Rule::Signature, forged.id())]
    );
    assert_eq!(outcome.admitted.len(), 40);
    check(&chain).await;
}

#[tokio::test]
async fn more_than_64_heads_are_merged_and_survive_a_restart() {
    let bench = Bench::new();
    let chain = bench.chain(1).await;
    let genesis = bench.genesis.id();
    let blocks: Vec<_> = (0..150_u8).map(|n| bench.block(7, vec![genesis], 1, &[n])).collect();
    chain.core.offer(blocks, None).await.unwrap();
    chain.core.shutdown().await;
    let chain = bench.reopen(1, &chain).await;
    assert_eq!(chain.core.summary().heads.len(), 150);
    let first = chain.chain.add(text("merges 64")).await.unwrap();
    assert_eq!((first.parents.len(), chain.core.summary().heads.len()), (64, 87));
    chain.chain.add(text("merges 64 more")).await.unwrap();
    let last = chain.chain.add(text("merges the rest")).await.unwrap();
    assert_eq!(chain.core.summary().heads, [last.id]);
    check(&chain).await;
}

#[tokio::test]
async fn a_flood_of_pending_blocks_is_bounded_and_hurts_the_flooder_only() {
    let bench = Bench::new();
    let chain = bench.chain(1).await;
    let (flooder, honest) = (PeerId::from_bytes(&[1]).unwrap(), PeerId::from_bytes(&[2]).unwrap());
    let parent = bench.block(7, vec![bench.genesis.id()], 1, b"late");
    let child = bench.block(7, vec![parent.id()], 2, b"waits for the late one");
    chain.core.offer(vec![child.clone()], Some(honest)).await.unwrap();
    for round in 0..10_u32 {
        let block = |n: u32| {
            let unknown = BlockId::of_file(&(round * 1_000 + n).to_be_bytes());
            bench.block(9, vec![unknown], 2, b"flood")
        };
        chain.core.offer((0..1_000).map(block).collect(), Some(flooder.clone())).await.unwrap();
        assert!(chain.core.pending() <= PENDING_BLOCKS_PER_PEER_MAX + 1);
    }
    assert!(chain.core.pending() <= PENDING_BLOCKS_MAX);
    assert!(chain.core.missing().len() <= 1_024);
    let offered = chain.core.offer(vec![parent.clone()], None).await.unwrap();
    assert_eq!(offered.admitted, [parent.id(), child.id()]);
}

#[tokio::test]
async fn a_damaged_value_is_named_and_makes_the_chain_read_only() {
    let bench = Bench::new();
    let chain = bench.chain(1).await;
    let (one, two) = (chain.chain.add(text("one")).await.unwrap(), chain.chain.add(text("two")).await.unwrap());
    let mut key = vec![1];
    key.extend_from_slice(bench.id().digest());
    key.push(2);
    key.extend_from_slice(one.id.digest());
    let mut file = chain.core.file(&one.id).await.unwrap().unwrap().to_vec();
    *file.last_mut().unwrap() ^= 1;
    let mut batch = Batch::new();
    batch.put(key.clone(), file);
    chain.store.commit(batch, Durability::Flushed).await.unwrap();
    let Err(LedgerError::Store(StoreError::Corrupt { key: named, .. })) = chain.chain.content(&one.id).await.map(drop)
    else {
        panic!("the damage is not seen")
    };
    assert_eq!(named, key.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    assert!(matches!(chain.chain.add(text("three")).await.unwrap_err(), LedgerError::Damaged { .. }));
    let foreign = bench.block(7, vec![two.id], 3, b"foreign");
    assert!(matches!(chain.core.offer(vec![foreign], None).await.unwrap_err(), LedgerError::Damaged { .. }));
    assert!(chain.chain.status().await.unwrap().damaged.is_some_and(|reason| reason.contains(&named)));
    assert_eq!(chain_parts::content(&chain, &two.id).await, b"two");
    chain.chain.shutdown().await;
}

#[tokio::test]
async fn blocks_are_found_by_prefix_and_by_place_from_either_end() {
    let bench = Bench::new();
    let chain = bench.chain(1).await;
    for n in 0..40 {
        chain.chain.add(text(&n.to_string())).await.unwrap();
    }
    let last = chain.chain.at(-1).await.unwrap();
    assert_eq!(chain.chain.at(40).await.unwrap(), last);
    assert_eq!(chain.chain.at(0).await.unwrap().id, bench.genesis.id());
    assert_eq!(chain.chain.at(-41).await.unwrap().id, bench.genesis.id());
    for beyond in [41, -42, i64::MAX, i64::MIN] {
        chain.chain.at(beyond).await.unwrap_err();
    }
    let whole = last.id.to_string();
    for len in [20, 40, whole.len()] {
        assert_eq!(chain.chain.find(&whole[..len]).await.unwrap(), last.id);
    }
    assert_eq!(chain.chain.find(&last.id.short()).await.unwrap(), last.id);
    for beginning in ["bafk", "bafkre", "bafkrei"] {
        let ambiguous = chain.chain.find(beginning).await.unwrap_err();
        assert!(ambiguous.to_string().contains("ambiguous"), "{beginning}: {ambiguous}");
    }
    for other in ["bafkra", "bafkrej", "Bafk"] {
        let unknown = chain.chain.find(other).await.unwrap_err();
        assert!(!unknown.to_string().contains("ambiguous"), "{other}: {unknown}");
    }
    for unknown in ["", "!", "bafkrei!", &"a".repeat(500), "bafkrei7777777777", "ä"] {
        let found = chain.chain.find(unknown).await;
        assert!(found.is_err(), "{unknown} is {found:?}");
    }
    assert_eq!(chain.chain.count().await.unwrap(), 41);
}

/// With more heads than a block may have parents, the own block before is always one of them.
#[tokio::test]
async fn own_blocks_follow_each_other_among_more_than_64_heads() {
    let bench = Bench::new();
    let chain = bench.chain(1).await;
    let genesis = bench.genesis.id();
    let low: Vec<_> = (0..70_u8).map(|n| bench.block(7, vec![genesis], 1, &[n])).collect();
    chain.core.offer(low, None).await.unwrap();
    let added = chain.chain.add(text("merges 64")).await.unwrap();
    let next = chain.chain.add(text("the rest and the own one before")).await.unwrap();
    assert!(next.parents.contains(&added.id), "own blocks follow each other");
    assert_eq!(chain.core.summary().heads, [next.id]);
    check(&chain).await;
}
