//! What every [`BlobStore`] must do.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a contract suite fails by panicking")]

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use walytis_core::id::{BlockId, ChainId};
use walytis_core::limits::{BLOB_CHUNK_MAX, BLOB_CHUNKS_MAX};
use walytis_core::store::{BlobKey, BlobSpace, BlobStatus, BlobStore, BlobStoreError};

/// The object of most checks: 10 bytes in chunks of 4, so 4, 4 and 2.
const LEN: u64 = 10;
const CHUNK: u32 = 4;
const DATA: &[u8] = b"0123456789";

/// Makes the stores under test.
#[async_trait]
pub trait BlobFixture: Send + Sync {
    /// Opens one more empty store.
    async fn store(&self) -> Arc<dyn BlobStore>;
}

/// Makes stores that outlive their handle.
#[async_trait]
pub trait PersistentBlobFixture: BlobFixture {
    /// Opens the store again that [`BlobFixture::store`] returned last.
    async fn reopen(&self) -> Arc<dyn BlobStore>;
}

/// Runs the whole suite.
pub async fn blob_contract(fixture: &dyn BlobFixture) {
    an_object_grows_chunk_by_chunk(&*fixture.store().await).await;
    beginning_again_resumes(&*fixture.store().await).await;
    writing_again_changes_nothing(&*fixture.store().await).await;
    sizes_that_do_not_fit_are_refused(&*fixture.store().await).await;
    unknown_objects_are_missing(&*fixture.store().await).await;
    reads_cross_chunks_and_stop_at_the_end(&*fixture.store().await).await;
    a_partial_object_gives_what_it_has(&*fixture.store().await).await;
    deleted_objects_are_gone_and_can_begin_again(&*fixture.store().await).await;
    objects_of_other_kinds_and_chains_are_others(&*fixture.store().await).await;
    chunks_written_at_once_all_arrive(&*fixture.store().await).await;
    many_partial_objects_stand_side_by_side(&*fixture.store().await).await;
    a_draft_becomes_an_object_when_it_is_finished(&*fixture.store().await).await;
    a_draft_takes_the_place_of_a_part_and_leaves_the_whole_alone(&*fixture.store().await).await;
    a_draft_that_is_dropped_or_empty_is_nothing(&*fixture.store().await).await;
    a_sparse_object_is_like_any_other(&*fixture.store().await).await;
}

/// Runs what persistent stores must do beyond [`blob_contract`].
///
/// # Panics
/// If the store breaks the contract.
pub async fn blob_persistence_contract(fixture: &dyn PersistentBlobFixture) {
    let store = fixture.store().await;
    begin_with(&*store, key(1), &[0, 2]).await;
    begin_with(&*store, key(2), &[0, 1, 2]).await;
    begin_with(&*store, key(3), &[1]).await;
    store.delete(key(3)).await.expect("delete");
    drop(store);
    let store = fixture.reopen().await;
    assert_eq!(status(&*store, key(1)).await, partial(&[true, false, true]));
    assert_eq!(status(&*store, key(2)).await, BlobStatus::Complete { len: LEN });
    assert_eq!(status(&*store, key(3)).await, BlobStatus::Absent);
    assert_eq!(store.list(BlobSpace::Blob, chain(1)).await.expect("list"), [key(1), key(2)]);
    assert_eq!(store.begin(key(1), LEN, CHUNK).await.expect("resume"), partial(&[true, false, true]));
    assert_eq!(store.write(key(1), 1, chunk(1)).await.expect("write"), BlobStatus::Complete { len: LEN });
    drop(store);
    let store = fixture.reopen().await;
    for number in [1, 2] {
        assert_eq!(store.read(key(number), 0, 100).await.expect("read"), DATA);
    }
}

/// Chain number `number`.
fn chain(number: u8) -> ChainId {
    ChainId(BlockId::from_digest([number; 32]))
}

/// Blob number `number` of the first chain.
fn key(number: u8) -> BlobKey {
    BlobKey { space: BlobSpace::Blob, chain: chain(1), digest: [number; 32] }
}

fn chunk(index: u32) -> Bytes {
    let mut chunks = DATA.chunks(CHUNK as usize);
    Bytes::from_static(chunks.nth(index as usize).expect("a chunk of the example"))
}

fn partial(have: &[bool]) -> BlobStatus {
    BlobStatus::Partial { len: LEN, chunk: CHUNK, have: have.to_vec() }
}

async fn status(store: &dyn BlobStore, key: BlobKey) -> BlobStatus {
    store.status(key).await.expect("status")
}

/// Begins the example under `key` and writes these chunks of it.
async fn begin_with(store: &dyn BlobStore, key: BlobKey, chunks: &[u32]) {
    store.begin(key, LEN, CHUNK).await.expect("begin");
    for index in chunks {
        store.write(key, *index, chunk(*index)).await.expect("write");
    }
}

fn is_misfit<T>(result: &Result<T, BlobStoreError>) -> bool {
    matches!(result, Err(BlobStoreError::Misfit { .. }))
}

fn is_missing<T>(result: &Result<T, BlobStoreError>) -> bool {
    matches!(result, Err(BlobStoreError::Missing))
}

async fn an_object_grows_chunk_by_chunk(store: &dyn BlobStore) {
    let before = store.size_bytes().await.expect("size");
    assert_eq!(status(store, key(1)).await, BlobStatus::Absent);
    assert_eq!(store.begin(key(1), LEN, CHUNK).await.expect("begin"), partial(&[false; 3]));
    assert_eq!(store.write(key(1), 2, chunk(2)).await.expect("write"), partial(&[false, false, true]));
    assert_eq!(store.write(key(1), 0, chunk(0)).await.expect("write"), partial(&[true, false, true]));
    assert_eq!(status(store, key(1)).await, partial(&[true, false, true]));
    assert_eq!(store.write(key(1), 1, chunk(1)).await.expect("write"), BlobStatus::Complete { len: LEN });
    assert_eq!(status(store, key(1)).await, BlobStatus::Complete { len: LEN });
    assert_eq!(store.read(key(1), 0, 10).await.expect("read"), DATA);
    assert!(store.size_bytes().await.expect("size") >= before + LEN);
}

async fn beginning_again_resumes(store: &dyn BlobStore) {
    begin_with(store, key(1), &[1]).await;
    assert_eq!(store.begin(key(1), LEN, CHUNK).await.expect("again"), partial(&[false, true, false]));
    assert!(is_misfit(&store.begin(key(1), LEN + 1, CHUNK).await), "another length");
    assert!(is_misfit(&store.begin(key(1), LEN, CHUNK + 1).await), "other chunks");
    assert_eq!(status(store, key(1)).await, partial(&[false, true, false]), "a misfit changes nothing");
    begin_with(store, key(1), &[0, 2]).await;
    let complete = BlobStatus::Complete { len: LEN };
    assert_eq!(store.begin(key(1), LEN, CHUNK).await.expect("complete"), complete);
    assert_eq!(store.begin(key(1), LEN, CHUNK + 1).await.expect("chunks no longer matter"), complete);
    assert!(is_misfit(&store.begin(key(1), LEN + 1, CHUNK).await), "the length still does");
}

async fn writing_again_changes_nothing(store: &dyn BlobStore) {
    begin_with(store, key(1), &[0]).await;
    let other = Bytes::from_static(b"xxxx");
    assert_eq!(store.write(key(1), 0, other.clone()).await.expect("again"), partial(&[true, false, false]));
    assert_eq!(store.read(key(1), 0, 4).await.expect("read"), &DATA[..4]);
    begin_with(store, key(1), &[1, 2]).await;
    assert_eq!(store.write(key(1), 0, other).await.expect("again"), BlobStatus::Complete { len: LEN });
    assert_eq!(store.read(key(1), 0, 10).await.expect("read"), DATA);
}

async fn sizes_that_do_not_fit_are_refused(store: &dyn BlobStore) {
    let begun = [(0, CHUNK), (LEN, 0), (LEN, BLOB_CHUNK_MAX + 1), (u64::MAX, BLOB_CHUNK_MAX)];
    for (len, chunk) in begun.into_iter().chain([(u64::from(BLOB_CHUNKS_MAX) + 1, 1)]) {
        assert!(is_misfit(&store.begin(key(1), len, chunk).await), "{len} bytes in chunks of {chunk}");
    }
    assert_eq!(status(store, key(1)).await, BlobStatus::Absent, "nothing is left behind");
    begin_with(store, key(1), &[]).await;
    let written: [(u32, &[u8]); 7] =
        [(0, b""), (0, b"012"), (0, b"01234"), (2, b"8"), (2, b"8901"), (3, b""), (u32::MAX, b"0123")];
    for (index, bytes) in written {
        assert!(
            is_misfit(&store.write(key(1), index, Bytes::copy_from_slice(bytes)).await),
            "chunk {index}: {bytes:?}"
        );
    }
    assert_eq!(status(store, key(1)).await, partial(&[false; 3]));
}

async fn unknown_objects_are_missing(store: &dyn BlobStore) {
    assert!(is_missing(&store.write(key(1), 0, chunk(0)).await));
    assert!(is_missing(&store.read(key(1), 0, 1).await));
    assert!(is_missing(&store.read(key(1), 0, 0).await), "even for nothing of it");
    store.delete(key(1)).await.expect("deleting is idempotent");
    assert!(store.list(BlobSpace::Blob, chain(1)).await.expect("list").is_empty());
}

async fn reads_cross_chunks_and_stop_at_the_end(store: &dyn BlobStore) {
    begin_with(store, key(1), &[0, 1, 2]).await;
    begin_with(store, key(2), &[0, 1]).await;
    for (offset, len) in [(0, 4), (3, 2), (1, 6), (0, 8), (5, 0), (7, 1)] {
        let from = usize::try_from(offset).expect("small");
        for number in [1, 2] {
            let read = store.read(key(number), offset, len).await.expect("read");
            assert_eq!(read, &DATA[from..from + len], "{len} bytes from {offset}");
        }
    }
    assert_eq!(store.read(key(1), 8, 100).await.expect("read"), &DATA[8..], "fewer at the end");
    for offset in [LEN, LEN + 1, u64::MAX] {
        assert!(store.read(key(1), offset, 4).await.expect("read").is_empty(), "none behind it");
    }
    assert!(is_misfit(&store.read(key(1), 0, BLOB_CHUNK_MAX as usize + 1).await));
    assert_eq!(store.read(key(1), 0, BLOB_CHUNK_MAX as usize).await.expect("read"), DATA);
}

async fn a_partial_object_gives_what_it_has(store: &dyn BlobStore) {
    begin_with(store, key(1), &[0, 2]).await;
    assert_eq!(store.read(key(1), 1, 3).await.expect("read"), &DATA[1..4]);
    assert_eq!(store.read(key(1), 8, 9).await.expect("read"), &DATA[8..]);
    for (offset, len) in [(4, 4), (3, 2), (7, 2), (0, 10)] {
        assert!(is_missing(&store.read(key(1), offset, len).await), "{len} bytes from {offset}");
    }
}

async fn deleted_objects_are_gone_and_can_begin_again(store: &dyn BlobStore) {
    for chunks in [&[0, 2][..], &[0, 1, 2]] {
        begin_with(store, key(1), chunks).await;
        store.delete(key(1)).await.expect("delete");
        assert_eq!(status(store, key(1)).await, BlobStatus::Absent);
        assert!(is_missing(&store.read(key(1), 0, 1).await));
        assert!(is_missing(&store.write(key(1), 0, chunk(0)).await));
        assert!(store.list(BlobSpace::Blob, chain(1)).await.expect("list").is_empty());
        let begun = store.begin(key(1), LEN, CHUNK).await.expect("begin");
        assert_eq!(begun, partial(&[false; 3]), "nothing of the old object counts");
        store.delete(key(1)).await.expect("delete");
    }
    store.begin(key(1), 1, 1).await.expect("other sizes are fine after deleting");
}

async fn objects_of_other_kinds_and_chains_are_others(store: &dyn BlobStore) {
    let envelope = BlobKey { space: BlobSpace::Envelope, ..key(1) };
    let other_chain = BlobKey { chain: chain(2), ..key(1) };
    begin_with(store, key(9), &[]).await;
    begin_with(store, key(1), &[0, 1, 2]).await;
    assert_eq!(status(store, envelope).await, BlobStatus::Absent);
    assert_eq!(status(store, other_chain).await, BlobStatus::Absent);
    begin_with(store, envelope, &[0]).await;
    begin_with(store, other_chain, &[1]).await;
    store.delete(key(1)).await.expect("delete");
    assert_eq!(status(store, envelope).await, partial(&[true, false, false]));
    assert_eq!(status(store, other_chain).await, partial(&[false, true, false]));
    begin_with(store, key(1), &[]).await;
    let listed = |space, chain| async move { store.list(space, chain).await.expect("list") };
    assert_eq!(listed(BlobSpace::Blob, chain(1)).await, [key(1), key(9)], "in order, partial ones too");
    assert_eq!(listed(BlobSpace::Envelope, chain(1)).await, [envelope]);
    assert_eq!(listed(BlobSpace::Blob, chain(2)).await, [other_chain]);
    assert!(listed(BlobSpace::Envelope, chain(2)).await.is_empty());
}

async fn chunks_written_at_once_all_arrive(store: &dyn BlobStore) {
    const CHUNKS: u32 = 40;
    let content = |index: u32| Bytes::from(vec![index.to_be_bytes()[3]; 1000]);
    store.begin(key(1), u64::from(CHUNKS) * 1000, 1000).await.expect("begin");
    // Each chunk twice, as from two peers.
    let writes = (0..CHUNKS).chain(0..CHUNKS).map(|index| store.write(key(1), index, content(index)));
    let statuses = join_all(writes).await;
    assert!(statuses.iter().all(Result::is_ok));
    assert_eq!(status(store, key(1)).await, BlobStatus::Complete { len: u64::from(CHUNKS) * 1000 });
    for index in 0..CHUNKS {
        assert_eq!(store.read(key(1), u64::from(index) * 1000, 1000).await.expect("read"), content(index));
    }
}

/// More than an implementation would keep open.
async fn many_partial_objects_stand_side_by_side(store: &dyn BlobStore) {
    for round in 0..3 {
        join_all((0..100).map(|number| async move { begin_with(store, key(number), &[round]).await })).await;
    }
    for number in 0..100 {
        assert_eq!(store.read(key(number), 0, 10).await.expect("read"), DATA);
    }
}

async fn a_draft_becomes_an_object_when_it_is_finished(store: &dyn BlobStore) {
    let mut draft = store.draft().await.expect("draft");
    for part in [&b"01234"[..], b"", b"56789"] {
        draft.append(Bytes::copy_from_slice(part)).await.expect("append");
    }
    assert!(store.list(BlobSpace::Blob, chain(1)).await.expect("list").is_empty(), "it is no object yet");
    draft.finish(key(1)).await.expect("finish");
    assert_eq!(status(store, key(1)).await, BlobStatus::Complete { len: LEN });
    assert_eq!(store.read(key(1), 2, 8).await.expect("read"), &DATA[2..]);
    // Long ones, in parts that are no chunks.
    let long: Vec<u8> = (0..5_000_000u32).map(|n| n.to_be_bytes()[3]).collect();
    let mut draft = store.draft().await.expect("draft");
    for part in long.chunks(777_777) {
        draft.append(Bytes::copy_from_slice(part)).await.expect("append");
    }
    draft.finish(key(2)).await.expect("finish");
    assert_eq!(store.read(key(2), 4_000_000, 1_500_000).await.expect("read"), &long[4_000_000..]);
}

async fn a_draft_takes_the_place_of_a_part_and_leaves_the_whole_alone(store: &dyn BlobStore) {
    for begun in [&[][..], &[1], &[0, 1, 2]] {
        begin_with(store, key(1), begun).await;
        let mut draft = store.draft().await.expect("draft");
        draft.append(Bytes::from_static(DATA)).await.expect("append");
        draft.finish(key(1)).await.expect("finish");
        assert_eq!(store.write(key(1), 0, chunk(0)).await.expect("late"), BlobStatus::Complete { len: LEN });
        assert_eq!(store.read(key(1), 0, 10).await.expect("read"), DATA);
        assert_eq!(store.list(BlobSpace::Blob, chain(1)).await.expect("list"), [key(1)]);
        store.delete(key(1)).await.expect("delete");
        assert_eq!(status(store, key(1)).await, BlobStatus::Absent);
    }
}

async fn a_draft_that_is_dropped_or_empty_is_nothing(store: &dyn BlobStore) {
    let mut draft = store.draft().await.expect("draft");
    draft.append(Bytes::from_static(DATA)).await.expect("append");
    assert!(is_misfit(&draft.append(Bytes::from(vec![0; BLOB_CHUNK_MAX as usize + 1])).await));
    drop(draft);
    assert!(is_misfit(&store.draft().await.expect("draft").finish(key(1)).await));
    assert_eq!(status(store, key(1)).await, BlobStatus::Absent);
}

async fn a_sparse_object_is_like_any_other(store: &dyn BlobStore) {
    assert_eq!(store.begin_sparse(key(1), LEN, CHUNK).await.expect("begin"), partial(&[false; 3]));
    store.write(key(1), 2, chunk(2)).await.expect("write");
    assert_eq!(store.begin(key(1), LEN, CHUNK).await.expect("reserve"), partial(&[false, false, true]));
    assert_eq!(store.begin_sparse(key(1), LEN, CHUNK).await.expect("again"), partial(&[false, false, true]));
    begin_with(store, key(1), &[0, 1]).await;
    assert_eq!(store.read(key(1), 0, 10).await.expect("read"), DATA);
}
