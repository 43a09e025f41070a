//! What every [`KvStore`] must do.

#![expect(clippy::expect_used, reason = "a contract suite fails by panicking")]

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use walytis_core::store::{Batch, Direction, Durability, KeyRange, KvStore, StoreError};

/// Keys of the suite start here or above; what lies below belongs to the schema version.
const LOWEST: u8 = 0x01;

/// Makes the stores under test.
#[async_trait]
pub trait KvFixture: Send + Sync {
    /// Opens one more store, empty but for its schema version.
    async fn store(&self) -> Arc<dyn KvStore>;
}

/// Makes stores that outlive their closing.
#[async_trait]
pub trait PersistentKvFixture: KvFixture {
    /// Opens the store again that [`KvFixture::store`] returned last; nothing holds it any more.
    async fn reopen(&self) -> Arc<dyn KvStore>;
}

/// Runs the whole suite.
pub async fn kv_contract(fixture: &dyn KvFixture) {
    values_are_found_replaced_and_removed(&*fixture.store().await).await;
    empty_keys_and_values_are_ordinary(&*fixture.store().await).await;
    many_values_come_in_the_order_asked(&*fixture.store().await).await;
    scans_are_ordered_by_bytes_both_ways(&*fixture.store().await).await;
    scans_keep_to_their_range_and_limit(&*fixture.store().await).await;
    prefix_ranges_reach_their_last_key(&*fixture.store().await).await;
    a_batch_applies_in_order(&*fixture.store().await).await;
    ranges_are_deleted_whole_and_alone(&*fixture.store().await).await;
    open_and_inverted_ranges_are_deleted_as_they_read(&*fixture.store().await).await;
    large_values_come_back_whole(&*fixture.store().await).await;
    a_batch_is_seen_whole_or_not_at_all(&fixture.store().await).await;
    commits_made_at_once_all_arrive(&*fixture.store().await).await;
    commits_of_one_task_apply_in_the_order_of_the_calls(&*fixture.store().await).await;
    an_export_is_everything_as_of_one_moment(&fixture.store().await).await;
    size_grows_with_what_is_stored(&*fixture.store().await).await;
    a_closed_store_refuses_everything(&*fixture.store().await).await;
}

/// Runs what persistent stores must do beyond [`kv_contract`].
pub async fn kv_persistence_contract(fixture: &dyn PersistentKvFixture) {
    everything_is_there_after_closing(fixture).await;
    everything_is_there_after_dropping(fixture).await;
}

async fn commit(store: &dyn KvStore, batch: Batch) {
    store.commit(batch, Durability::Flushed).await.expect("commit");
}

async fn put(store: &dyn KvStore, key: &[u8], value: &[u8]) {
    let mut batch = Batch::new();
    batch.put(key.to_vec(), value.to_vec());
    commit(store, batch).await;
}

async fn get(store: &dyn KvStore, key: &[u8]) -> Option<Vec<u8>> {
    store.get(key).await.expect("get").map(|value| value.to_vec())
}

/// The keys of a range.
async fn keys(store: &dyn KvStore, range: KeyRange, direction: Direction, limit: usize) -> Vec<Vec<u8>> {
    let entries = store.scan(range, direction, limit).await.expect("scan");
    entries.into_iter().map(|(key, _)| key.to_vec()).collect()
}

fn everything() -> KeyRange {
    KeyRange { start: vec![LOWEST], end: None }
}

fn range(start: &[u8], end: &[u8]) -> KeyRange {
    KeyRange { start: start.to_vec(), end: Some(end.to_vec()) }
}

async fn fill(store: &dyn KvStore, keys: &[&[u8]]) {
    let mut batch = Batch::new();
    for key in keys {
        batch.put(key.to_vec(), key.to_vec());
    }
    commit(store, batch).await;
}

async fn values_are_found_replaced_and_removed(store: &dyn KvStore) {
    assert_eq!(get(store, b"a").await, None, "an absent key has no value");
    put(store, b"a", b"1").await;
    assert_eq!(get(store, b"a").await.as_deref(), Some(&b"1"[..]));
    put(store, b"a", b"2").await;
    assert_eq!(get(store, b"a").await.as_deref(), Some(&b"2"[..]), "a second put replaces the value");
    assert_eq!(get(store, b"aa").await, None, "a longer key is another key");
    for _ in 0..2 {
        let mut batch = Batch::new();
        batch.delete(b"a".to_vec());
        commit(store, batch).await;
        assert_eq!(get(store, b"a").await, None, "deleting is idempotent");
    }
}

async fn empty_keys_and_values_are_ordinary(store: &dyn KvStore) {
    put(store, b"", b"value of the empty key").await;
    put(store, b"k", b"").await;
    assert_eq!(get(store, b"").await.as_deref(), Some(&b"value of the empty key"[..]));
    assert_eq!(get(store, b"k").await.as_deref(), Some(&b""[..]), "an empty value is not an absent one");
    let first = keys(store, KeyRange { start: Vec::new(), end: None }, Direction::Forward, 1).await;
    assert_eq!(first, [b""], "the empty key is the lowest");
    commit(store, Batch::new()).await;
}

async fn many_values_come_in_the_order_asked(store: &dyn KvStore) {
    // Enough keys for an implementation that treats small and large groups differently.
    for count in [1u32, 3, 16, 17, 300] {
        let mut batch = Batch::new();
        for number in (0..count).step_by(2) {
            batch.put([b"many/", &number.to_be_bytes()[..]].concat(), number.to_be_bytes().to_vec());
        }
        commit(store, batch).await;
        let asked: Vec<u32> = (0..count).rev().chain([0]).collect();
        let keys: Vec<Vec<u8>> = asked.iter().map(|number| [b"many/", &number.to_be_bytes()[..]].concat()).collect();
        let found = store.get_many(&keys).await.expect("get_many");
        let wanted: Vec<Option<Bytes>> = asked
            .iter()
            .map(|number| (number % 2 == 0).then(|| Bytes::copy_from_slice(&number.to_be_bytes())))
            .collect();
        assert_eq!(found, wanted, "{count} keys, backwards, the last one twice");
    }
    assert!(store.get_many(&[]).await.expect("get_many").is_empty());
}

async fn scans_are_ordered_by_bytes_both_ways(store: &dyn KvStore) {
    let sorted: [&[u8]; 7] = [&[1], &[1, 0], &[1, 0, 0], &[1, 1], &[0x7f], &[0x80], &[0xff, 0xff]];
    let mut shuffled = sorted;
    shuffled.reverse();
    shuffled.swap(1, 4);
    fill(store, &shuffled).await;
    assert_eq!(keys(store, everything(), Direction::Forward, 100).await, sorted);
    let mut reversed = sorted;
    reversed.reverse();
    assert_eq!(keys(store, everything(), Direction::Reverse, 100).await, reversed);
    let entries = store.scan(everything(), Direction::Forward, 100).await.expect("scan");
    assert!(entries.iter().all(|(key, value)| key == value), "each key comes with its own value");
}

async fn scans_keep_to_their_range_and_limit(store: &dyn KvStore) {
    fill(store, &[b"a", b"b", b"c", b"d"]).await;
    let (forward, reverse) = (Direction::Forward, Direction::Reverse);
    assert_eq!(keys(store, range(b"b", b"d"), forward, 9).await, [b"b", b"c"], "the end is exclusive");
    assert_eq!(keys(store, range(b"b", b"d"), reverse, 9).await, [b"c", b"b"]);
    assert_eq!(keys(store, range(b"aa", b"cc"), forward, 9).await, [b"b", b"c"], "bounds need not exist");
    assert_eq!(keys(store, everything(), forward, 2).await, [b"a", b"b"]);
    assert_eq!(keys(store, everything(), reverse, 2).await, [b"d", b"c"], "a limited reverse scan gives the highest");
    for nothing in [range(b"b", b"b"), range(b"c", b"b"), range(b"x", b"z")] {
        assert!(keys(store, nothing.clone(), forward, 9).await.is_empty(), "{nothing:?}");
        assert!(keys(store, nothing, reverse, 9).await.is_empty());
    }
    assert!(keys(store, everything(), forward, 0).await.is_empty());
    assert_eq!(keys(store, everything(), forward, usize::MAX).await.len(), 4, "no memory is taken for the limit");
}

async fn prefix_ranges_reach_their_last_key(store: &dyn KvStore) {
    let inside: [&[u8]; 4] = [&[7, 0xff], &[7, 0xff, 0], &[7, 0xff, 0xff], &[7, 0xff, 0xff, 0xff]];
    fill(store, &inside).await;
    fill(store, &[&[7, 0xfe, 0xff], &[8], &[8, 0]]).await;
    assert_eq!(keys(store, KeyRange::prefix(&[7, 0xff]), Direction::Forward, 9).await, inside);
    let last = keys(store, KeyRange::prefix(&[7, 0xff]), Direction::Reverse, 1).await;
    assert_eq!(last, [[7, 0xff, 0xff, 0xff]]);

    fill(store, &[&[0xff], &[0xff, 0xff], &[0xff, 0xff, 3]]).await;
    let highest = keys(store, KeyRange::prefix(&[0xff, 0xff]), Direction::Forward, 9).await;
    assert_eq!(highest, [&[0xff, 0xff][..], &[0xff, 0xff, 3]], "a prefix without successor has no end");
}

async fn a_batch_applies_in_order(store: &dyn KvStore) {
    let mut batch = Batch::new();
    batch.put(b"put then delete".to_vec(), &b"1"[..]).delete(b"put then delete".to_vec());
    batch.delete(b"delete then put".to_vec()).put(b"delete then put".to_vec(), &b"2"[..]);
    batch.put(b"twice".to_vec(), &b"1"[..]).put(b"twice".to_vec(), &b"2"[..]);
    batch.put(b"r1".to_vec(), &b"1"[..]).delete_range(KeyRange::prefix(b"r")).put(b"r2".to_vec(), &b"2"[..]);
    commit(store, batch).await;
    assert_eq!(get(store, b"put then delete").await, None);
    assert_eq!(get(store, b"delete then put").await.as_deref(), Some(&b"2"[..]));
    assert_eq!(get(store, b"twice").await.as_deref(), Some(&b"2"[..]));
    assert_eq!(get(store, b"r1").await, None, "a range takes what was put before it in the batch");
    assert_eq!(get(store, b"r2").await.as_deref(), Some(&b"2"[..]), "and leaves what is put after it");
}

async fn ranges_are_deleted_whole_and_alone(store: &dyn KvStore) {
    fill(store, &[b"a", b"p/", b"p/1", b"p/\xff\xff", b"p0", b"q"]).await;
    let mut batch = Batch::new();
    batch.delete_range(KeyRange::prefix(b"p/"));
    commit(store, batch.clone()).await;
    assert_eq!(keys(store, everything(), Direction::Forward, 9).await, [&b"a"[..], b"p0", b"q"]);
    commit(store, batch).await;
    fill(store, &[b"p/2"]).await;
    assert_eq!(get(store, b"p/2").await.as_deref(), Some(&b"p/2"[..]), "a deleted range can be filled again");
}

async fn open_and_inverted_ranges_are_deleted_as_they_read(store: &dyn KvStore) {
    fill(store, &[b"a", b"b", b"c"]).await;
    let mut batch = Batch::new();
    batch.delete_range(range(b"c", b"a")).delete_range(range(b"b", b"b"));
    commit(store, batch).await;
    assert_eq!(
        keys(store, everything(), Direction::Forward, 9).await.len(),
        3,
        "inverted and empty ranges hold nothing"
    );
    let mut batch = Batch::new();
    batch.put(b"\xff\xff\xff".to_vec(), &b"1"[..]);
    batch.delete_range(KeyRange { start: b"b".to_vec(), end: None });
    commit(store, batch).await;
    assert_eq!(keys(store, everything(), Direction::Forward, 9).await, [b"a"], "an open range reaches the last key");
    let mut batch = Batch::new();
    batch.delete_range(KeyRange { start: b"b".to_vec(), end: None });
    commit(store, batch).await;
    assert_eq!(get(store, b"a").await.as_deref(), Some(&b"a"[..]), "above the last key there is nothing to delete");
}

async fn large_values_come_back_whole(store: &dyn KvStore) {
    let value: Vec<u8> =
        (0..1024 * 1024u32).map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let mut batch = Batch::new();
    for number in 0..12u8 {
        batch.put(vec![b'l', number], value.clone());
    }
    commit(store, batch).await;
    assert_eq!(get(store, &[b'l', 11]).await.expect("stored"), value);
    let entries = store.scan(KeyRange::prefix(b"l"), Direction::Reverse, 2).await.expect("scan");
    assert!(entries.len() == 2 && entries.iter().all(|(_, found)| found == &value));
}

/// One task moves a token between two keys, each move one batch; a reader must always see exactly one token.
async fn a_batch_is_seen_whole_or_not_at_all(store: &Arc<dyn KvStore>) {
    put(&**store, b"t/0", b"token").await;
    let mover = tokio::spawn({
        let store = Arc::clone(store);
        async move {
            for round in 0..200u32 {
                let (from, to) = if round % 2 == 0 { (b"t/0", b"t/1") } else { (b"t/1", b"t/0") };
                let mut batch = Batch::new();
                batch.delete(from.to_vec()).put(to.to_vec(), &b"token"[..]);
                store.commit(batch, Durability::Buffered).await.expect("commit");
            }
        }
    });
    while !mover.is_finished() {
        assert_eq!(keys(&**store, KeyRange::prefix(b"t/"), Direction::Forward, 9).await.len(), 1);
        tokio::task::yield_now().await;
    }
    mover.await.expect("the mover finishes");
}

async fn commits_made_at_once_all_arrive(store: &dyn KvStore) {
    let commits = (0..300u32).map(|number| async move {
        let mut batch = Batch::new();
        batch.put([b"n/", &number.to_be_bytes()[..]].concat(), number.to_be_bytes().to_vec());
        let durability = if number % 3 == 0 { Durability::Buffered } else { Durability::Flushed };
        store.commit(batch, durability).await.expect("commit");
        assert!(get(store, &[b"n/", &number.to_be_bytes()[..]].concat()).await.is_some(), "visible when acknowledged");
    });
    join_all(commits).await;
    assert_eq!(keys(store, KeyRange::prefix(b"n/"), Direction::Forward, 999).await.len(), 300);
}

async fn commits_of_one_task_apply_in_the_order_of_the_calls(store: &dyn KvStore) {
    let commits = (0..100u32).map(|number| {
        let mut batch = Batch::new();
        batch.put(b"last".to_vec(), number.to_be_bytes().to_vec());
        store.commit(batch, if number % 2 == 0 { Durability::Buffered } else { Durability::Flushed })
    });
    join_all(commits).await.into_iter().for_each(|done| done.expect("commit"));
    assert_eq!(get(store, b"last").await.as_deref(), Some(&99u32.to_be_bytes()[..]));
}

/// Nothing that is committed after the first piece was handed over shows, however slowly the pieces are taken.
async fn an_export_is_everything_as_of_one_moment(store: &Arc<dyn KvStore>) {
    let key = |number: u32| [&[LOWEST][..], &number.to_be_bytes()].concat();
    let mut batch = Batch::new();
    for number in 0..3_000 {
        batch.put(key(number), b"before".to_vec());
    }
    commit(&**store, batch).await;
    let (to, mut pieces) = tokio::sync::mpsc::channel(1);
    let exported = Arc::clone(store);
    let exporting = tokio::spawn(async move { exported.export(to).await });
    let mut entries = pieces.recv().await.expect("a piece");
    let mut batch = Batch::new();
    for number in 0..4_000 {
        batch.put(key(number), b"after".to_vec());
    }
    batch.delete(key(2_999));
    commit(&**store, batch).await;
    while let Some(piece) = pieces.recv().await {
        entries.extend(piece);
    }
    exporting.await.expect("no panic").expect("export");
    entries.retain(|(key, _)| key.first().is_some_and(|first| *first >= LOWEST));
    assert!(entries.is_sorted_by(|one, next| one.0 < next.0));
    assert_eq!(entries.len(), 3_000);
    assert!(entries.iter().all(|(_, value)| value.as_ref() == b"before"));
    // Whoever does not want the rest says so by going.
    let (to, pieces) = tokio::sync::mpsc::channel(1);
    drop(pieces);
    store.export(to).await.expect("nobody takes it");
}

async fn size_grows_with_what_is_stored(store: &dyn KvStore) {
    let before = store.size_bytes().await.expect("size");
    let noise: Vec<u8> = (0..200_000u32).map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    put(store, b"noise", &noise).await;
    assert!(store.size_bytes().await.expect("size") > before);
}

async fn a_closed_store_refuses_everything(store: &dyn KvStore) {
    put(store, b"a", b"1").await;
    store.close().await.expect("close");
    store.close().await.expect("closing is idempotent");
    let mut batch = Batch::new();
    batch.put(b"b".to_vec(), &b"1"[..]);
    assert!(matches!(store.commit(batch, Durability::Flushed).await, Err(StoreError::Closed)));
    assert!(matches!(store.commit(Batch::new(), Durability::Buffered).await, Err(StoreError::Closed)));
    assert!(matches!(store.get(b"a").await, Err(StoreError::Closed)));
    assert!(matches!(store.get_many(&[b"a".to_vec()]).await, Err(StoreError::Closed)));
    assert!(matches!(store.scan(everything(), Direction::Forward, 1).await, Err(StoreError::Closed)));
    let (to, _pieces) = tokio::sync::mpsc::channel(1);
    assert!(matches!(store.export(to).await, Err(StoreError::Closed)));
    assert!(matches!(store.scan(range(b"b", b"a"), Direction::Forward, 1).await, Err(StoreError::Closed)));
    assert!(matches!(store.size_bytes().await, Err(StoreError::Closed)));
}

async fn write_some(store: &dyn KvStore) {
    for number in 0..50u8 {
        let mut batch = Batch::new();
        batch.put(vec![b'p', number], vec![number; 1000]).delete(vec![b'p', number.wrapping_sub(10)]);
        let durability = if number % 2 == 0 { Durability::Flushed } else { Durability::Buffered };
        store.commit(batch, durability).await.expect("commit");
    }
}

async fn check_some(store: &dyn KvStore) {
    let entries = store.scan(KeyRange::prefix(b"p"), Direction::Forward, 99).await.expect("scan");
    let found: Vec<u8> = entries.iter().filter_map(|(key, _)| key.last().copied()).collect();
    assert_eq!(found, (40..50).collect::<Vec<u8>>());
    assert!(entries.iter().all(|(key, value)| value.len() == 1000 && value.last() == key.last()));
}

async fn everything_is_there_after_closing(fixture: &dyn PersistentKvFixture) {
    let store = fixture.store().await;
    write_some(&*store).await;
    store.close().await.expect("close");
    // Not dropped: closing alone gives the place free.
    let again = fixture.reopen().await;
    check_some(&*again).await;
    assert!(matches!(store.get(b"p").await, Err(StoreError::Closed)), "the old handle stays closed");
}

async fn everything_is_there_after_dropping(fixture: &dyn PersistentKvFixture) {
    let store = fixture.store().await;
    write_some(&*store).await;
    drop(store);
    let again = fixture.reopen().await;
    check_some(&*again).await;
    put(&*again, b"more", b"1").await;
    drop(again);
    assert!(get(&*fixture.reopen().await, b"more").await.is_some());
}
