//! Several replicas: whatever the order of arrival, all show the same.

use std::collections::BTreeMap;

use super::*;
use proptest::prelude::*;
use walytis_core::ledger::{ContentReader, Cursor, LedgerControl as _};
use walytis_mutability::MutableError;
use walytis_mutability::op::encode_policy;
use walytis_mutability::rights::Policy;

/// What a replica shows of everything.
async fn shown(ledger: &Over) -> Vec<(Current, Vec<BlockId>, Vec<BlockId>)> {
    let mut all = Vec::new();
    for mut current in list(ledger, Query::default(), true).await {
        // The only thing that is each replica's own.
        current.info.cursor = Cursor(0);
        let id = current.info.id;
        let versions = ledger.versions(&id).await.unwrap().iter().map(|version| version.id).collect();
        let conflicts = ledger.conflicts(&id).await.unwrap().iter().map(|version| version.id).collect();
        all.push((current, versions, conflicts));
    }
    all
}

#[tokio::test(start_paused = true)]
async fn edits_apart_are_listed_and_the_next_edit_merges_them_everywhere() {
    let (a, b) = (Kept::default(), Kept::default());
    let [left, right] =
        [open(&a, "me", Arc::new(MemoryStore::new())).await, open(&b, "me", Arc::new(MemoryStore::new())).await];
    let id = add(&left, "start", &[]).await;
    sync(&a, &b);
    settle(&right).await;
    let (l, r) = (edit(&left, &id, "left").await.version, edit(&right, &id, "right").await.version);
    sync(&a, &b);
    sync(&b, &a);
    settle(&left).await;
    settle(&right).await;
    assert_eq!(shown(&left).await, shown(&right).await);
    let current = left.current(&id).await.unwrap().unwrap();
    assert_eq!((current.version, current.conflicts), (l.min(r), 1));
    assert_eq!(left.conflicts(&id).await.unwrap()[0].id, l.max(r));
    let told = changes(&left).await;
    assert_eq!(told, [Change::Created, Change::Edited, Change::Edited, Change::Conflicted]);
    let merged = edit(&right, &id, "both").await;
    assert_eq!((merged.conflicts, merged.versions), (0, 4));
    sync(&b, &a);
    settle(&left).await;
    assert_eq!(shown(&left).await, shown(&right).await);
    // Delete beside edit: deleted, and the edit can be restored.
    left.delete_block(&id).await.unwrap();
    let kept_edit = edit(&right, &id, "kept").await.version;
    sync(&a, &b);
    sync(&b, &a);
    settle(&left).await;
    settle(&right).await;
    assert_eq!(shown(&left).await, shown(&right).await);
    assert!(left.current(&id).await.unwrap().unwrap().deleted);
    assert_eq!(right.conflicts(&id).await.unwrap()[0].id, kept_edit);
    right.restore(&id, &kept_edit).await.unwrap();
    sync(&b, &a);
    settle(&left).await;
    assert_eq!(read(&left, &id).await.unwrap(), "kept");
    assert_eq!(shown(&left).await, shown(&right).await);
}

fn sync(from: &Kept, to: &Kept) {
    for (info, content) in from.all() {
        to.take(&info, &content);
    }
}

/// Blocks and changes of them by two authors, some of it nonsense; the bytes decide.
fn story(bytes: &[u8]) -> Kept {
    let kept = Kept::default();
    let mut ids: Vec<(BlockId, u64, BlockId)> = Vec::new();
    for (number, step) in bytes.chunks_exact(4).enumerate() {
        let author = if step[0] & 1 == 0 { "me" } else { "them" };
        let generation = 1 + number as u64 / 3;
        let of = |byte: u8| ids.get(usize::from(byte) % ids.len().max(1)).copied();
        let (Some(one), Some(two), true) = (of(step[1]), of(step[2]), step[0] & 0x30 != 0) else {
            let text = number.to_string();
            let id = kept.inject(author, generation, vec![], text.as_bytes(), BlockState::Available).id;
            ids.push((id, generation, id));
            continue;
        };
        // Now and then an admin, or somebody else, says who may change blocks.
        if step[0] & 0x0e == 0x0e {
            let policy = [Policy::Anyone, Policy::Author, Policy::AdminsMayDelete][usize::from(step[3]) % 3];
            let topics = vec![Topic::parse("walytis.mutable/rights").unwrap()];
            kept.inject(author, generation, topics, &encode_policy(policy), BlockState::Available);
            continue;
        }
        let act = match step[3] % 8 {
            0..5 => Act::Edit,
            5 => Act::Delete,
            _ => Act::Restore { version: two.0 },
        };
        let mut supersedes = vec![one.0, two.0, one.2];
        supersedes.sort_unstable();
        supersedes.dedup();
        // Now and then the original is itself an op, or not here.
        let original = if step[3] & 0xf0 == 0xf0 { one.0 } else { one.2 };
        let text = if act == Act::Edit { number.to_string() } else { String::new() };
        let id = inject(&kept, author, generation, &op(original, act, &supersedes), &text);
        ids.push((id, generation, one.2));
    }
    kept
}

async fn text(content: Result<ContentReader, MutableError>) -> Result<String, String> {
    let mut text = String::new();
    content.map_err(|error| error.to_string())?.read_to_string(&mut text).await.unwrap();
    Ok(text)
}

/// What a version shows is looked up without the graph; it must be what the graph says.
async fn check_contents(ledger: &Over, kept: &Kept) {
    for current in list(ledger, Query::default(), true).await {
        let id = current.info.id;
        let versions = ledger.versions(&id).await.unwrap();
        let acts: BTreeMap<_, _> = versions.iter().map(|version| (version.id, version.act)).collect();
        for (block, _) in kept.all() {
            let shows = match acts.get(&block.id) {
                None => Err(MutableError::NoVersion { id, version: block.id }),
                Some(Some(Act::Delete)) => Err(MutableError::NoContent { version: block.id }),
                Some(Some(Act::Restore { version })) => Ok(*version),
                Some(_) => Ok(block.id),
            };
            let expected = match shows {
                Ok(ref version) => text(ledger.version_content(&id, version).await).await,
                Err(ref error) => Err(error.to_string()),
            };
            assert_eq!(expected.is_ok(), shows.is_ok(), "{expected:?}");
            assert_eq!(text(ledger.version_content(&id, &block.id).await).await, expected, "{:?}", block.id);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_order_of_arrival_shows_the_same(
        bytes in proptest::collection::vec(any::<u8>(), 16..400),
        seeds in proptest::collection::vec(any::<u64>(), 3),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let kept = story(&bytes);
            let ledger = open(&kept, "me", Arc::new(MemoryStore::new())).await;
            let expected = shown(&ledger).await;
            check_contents(&ledger, &kept).await;
            for seed in seeds {
                let mut blocks = kept.all();
                blocks.sort_by_key(|(info, _)| walytis_core::id::Digest::of(&[&info.id.digest()[..], &seed.to_be_bytes()].concat()));
                let other = Kept::default();
                let store = Arc::new(MemoryStore::new());
                let (first, rest) = blocks.split_at(usize::try_from(seed % (blocks.len() as u64 + 1)).unwrap());
                first.iter().for_each(|(info, content)| other.take(info, content));
                let replica = open(&other, "them", store.clone()).await;
                // Some come live, and after a restart.
                let (live, later) = rest.split_at(rest.len() / 2);
                live.iter().for_each(|(info, content)| other.take(info, content));
                settle(&replica).await;
                replica.shutdown().await;
                later.iter().for_each(|(info, content)| other.take(info, content));
                let replica = open(&other, "them", store).await;
                assert_eq!(shown(&replica).await, expected, "seed {seed}");
                // Told and taken back again, what is left is what is shown; nothing is told twice in between.
                let mut told = std::collections::BTreeSet::new();
                for event in events(&replica, SubscribeFrom::Cursor(Cursor(0))).await {
                    let changed = match event.change {
                        Change::Conflicted => true,
                        Change::Retracted => told.remove(&event.version),
                        _ => told.insert(event.version),
                    };
                    assert!(changed, "seed {seed}: {event:?}");
                }
                let versions = expected.iter().flat_map(|(_, versions, _)| versions.iter().copied());
                assert_eq!(told, versions.collect(), "seed {seed}");
            }
        });
    }
}
