//! Taking in large content whose length and digest are unknown until its end, in constant memory.
//!
//! Leaves are first stored one by one under names that follow from a nonce, then copied to the place that the root
//! names. A *mark* in the store says that a nonce is in use; the commit of the block removes it. So what a crash or a
//! refusal leaves behind is found again: at once, or when the chain opens next.
//!
//! ```text
//! mark(nonce) ─► leaf 0, leaf 1, … ─► mark(nonce, root) ─► copy ─► block committed, mark gone
//! ```

use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;
use tracing::warn;

use super::content::{Source, Taken, key};
use super::core::Inner;
use super::schema::{self, Tag, read_blob};
use super::table::{Table, behind};
use crate::block::DraftContent;
use crate::id::{BlobId, ChainId};
use crate::ledger::LedgerError;
use crate::limits::BLOB_LEAF;
use crate::store::{Batch, BlobKey, BlobSpace, BlobStatus, BlobStore, BlobStoreError, Direction, Durability, KeyRange};
use crate::unixfs::{BlobManifest, ManifestBuilder};

/// Label under which the names of staged leaves are derived.
const STAGE_LABEL: &[u8] = b"walytis/core/staged-leaf/v1";
/// Marks read at once.
const MARKS_PAGE: usize = 1_024;

/// Names one content on its way in.
pub(super) type Nonce = [u8; 16];

/// Stores content as a blob and returns what a block says of it. If that fails nothing is left behind.
pub(super) async fn take_stream(core: &Inner, mut source: Source) -> Result<Taken, LedgerError> {
    let mut nonce = Nonce::default();
    core.entropy.fill(&mut nonce);
    mark(core, &nonce, Bytes::new()).await?;
    match store(core, &mut source, &nonce).await {
        Ok((root, len)) => Ok(Taken { content: DraftContent::Blob { root, len }, mark: Some(nonce) }),
        Err(error) => {
            give_up(core, &nonce).await;
            Err(error)
        }
    }
}

/// Removes what was stored under a nonce whose block will not be.
pub(super) async fn give_up(core: &Inner, nonce: &Nonce) {
    let Ok(_turn) = core.intake.acquire().await else { return };
    let removed = match core.table.get(&core.table.keys.staged(nonce)).await {
        Ok(Some(value)) => remove(&core.table, &*core.blobs, core.id, nonce, &value).await,
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = removed {
        warn!(chain = ?core.id, %error, "content of a refused block is removed when the chain opens next");
    }
}

async fn mark(core: &Inner, nonce: &Nonce, value: Bytes) -> Result<(), LedgerError> {
    let mut batch = Batch::new();
    batch.put(core.table.keys.staged(nonce), value);
    core.table.commit(batch, Durability::Flushed).await
}

async fn store(core: &Inner, source: &mut Source, nonce: &Nonce) -> Result<(BlobId, u64), LedgerError> {
    let max = core.settings.content_max;
    let mut builder = ManifestBuilder::new();
    let mut staged: u32 = 0;
    let mut leaf = read_leaf(source).await?;
    // The last leaf never goes through the stage; a blob of one leaf needs none at all.
    loop {
        builder.push(&leaf).map_err(|_| LedgerError::TooLarge { max })?;
        if builder.len() > max {
            return Err(LedgerError::TooLarge { max });
        }
        let next = if leaf.len() < BLOB_LEAF { Bytes::new() } else { read_leaf(source).await? };
        if next.is_empty() {
            break;
        }
        let place = stage_key(core.id, nonce, staged);
        core.blobs.begin(place, leaf.len() as u64, leaf_size()).await?;
        core.blobs.write(place, 0, leaf).await?;
        staged = staged.checked_add(1).ok_or(LedgerError::TooLarge { max })?;
        leaf = next;
    }
    let manifest = builder.finish().map_err(|_| LedgerError::TooLarge { max })?;
    claim(core, nonce, &manifest, staged, leaf).await
}

/// Copies the staged leaves to the place that the root names.
async fn claim(
    core: &Inner,
    nonce: &Nonce,
    manifest: &BlobManifest,
    staged: u32,
    last: Bytes,
) -> Result<(BlobId, u64), LedgerError> {
    let (root, len) = (manifest.root(), manifest.len());
    let place = key(core.id, &root);
    let status = {
        // The mark first: whoever gives up the same blob now sees that it is wanted here.
        let _turn = core.intake.acquire().await.map_err(|_| LedgerError::Closed)?;
        mark(core, nonce, schema::blob(&root, len)).await?;
        core.blobs.begin(place, len, leaf_size()).await?
    };
    let complete = matches!(status, BlobStatus::Complete { .. });
    for index in (0..staged).filter(|_| !complete) {
        let leaf = core.blobs.read(stage_key(core.id, nonce, index), 0, BLOB_LEAF).await?;
        core.blobs.write(place, index, leaf).await?;
    }
    if !complete {
        core.blobs.write(place, staged, last).await?;
    }
    unstage(&*core.blobs, core.id, nonce, staged).await?;
    core.blob_progress.send_modify(|count| *count = count.wrapping_add(1));
    Ok((root, len))
}

/// Reads until a leaf is full or the source ends.
async fn read_leaf(source: &mut Source) -> Result<Bytes, LedgerError> {
    let mut leaf = BytesMut::with_capacity(BLOB_LEAF);
    while leaf.len() < BLOB_LEAF {
        let left = (BLOB_LEAF - leaf.len()) as u64;
        if (&mut *source).take(left).read_buf(&mut leaf).await.map_err(LedgerError::Read)? == 0 {
            break;
        }
    }
    Ok(leaf.freeze())
}

/// Bytes of a leaf as the blob store wants them.
fn leaf_size() -> u32 {
    u32::try_from(BLOB_LEAF).unwrap_or(u32::MAX)
}

fn stage_key(chain: ChainId, nonce: &Nonce, index: u32) -> BlobKey {
    let mut hash = Sha256::new();
    hash.update(STAGE_LABEL);
    hash.update(chain.digest());
    hash.update(nonce);
    hash.update(index.to_be_bytes());
    BlobKey { space: BlobSpace::Blob, chain, digest: hash.finalize().into() }
}

/// Removes staged leaves, the last one first: what remains after a crash is always a front part.
async fn unstage(blobs: &dyn BlobStore, chain: ChainId, nonce: &Nonce, count: u32) -> Result<(), BlobStoreError> {
    for index in (0..count).rev() {
        blobs.delete(stage_key(chain, nonce, index)).await?;
    }
    Ok(())
}

/// Removes contents that were stored for blocks which were never committed; called while a chain opens.
pub(super) async fn remove_orphans(table: &Table, blobs: &dyn BlobStore, chain: ChainId) -> Result<(), LedgerError> {
    loop {
        let marks = table.scan(table.keys.all(Tag::Staged), Direction::Forward, MARKS_PAGE).await?;
        for (key, value) in &marks {
            if let Some(nonce) = key.last_chunk() {
                remove(table, blobs, chain, nonce, value).await?;
            }
        }
        if marks.is_empty() || table.damage().is_some() {
            return Ok(());
        }
    }
}

async fn remove(
    table: &Table,
    blobs: &dyn BlobStore,
    chain: ChainId,
    nonce: &Nonce,
    value: &[u8],
) -> Result<(), LedgerError> {
    let mut count = 0;
    while blobs.status(stage_key(chain, nonce, count)).await? != BlobStatus::Absent {
        count += 1;
    }
    unstage(blobs, chain, nonce, count).await?;
    let mark = table.keys.staged(nonce);
    if !value.is_empty() {
        let (root, _) = table.note(read_blob(&mark, value))?;
        let named = KeyRange::prefix(&table.keys.key(Tag::Blob, &[root.digest()]));
        let wanted = !table.scan(named, Direction::Forward, 1).await?.is_empty();
        if !wanted && !claimed_otherwise(table, &mark, value).await? {
            blobs.delete(key(chain, &root)).await?;
        }
    }
    let mut batch = Batch::new();
    batch.delete(mark);
    table.commit(batch, Durability::Buffered).await
}

/// Says whether another content on its way in is the same blob.
async fn claimed_otherwise(table: &Table, mark: &[u8], value: &[u8]) -> Result<bool, LedgerError> {
    let mut range = table.keys.all(Tag::Staged);
    loop {
        let page = table.scan(range.clone(), Direction::Forward, MARKS_PAGE).await?;
        if page.iter().any(|(key, other)| key != mark && other == value) {
            return Ok(true);
        }
        match page.last() {
            Some((key, _)) if page.len() == MARKS_PAGE => range.start = behind(key),
            _ => return Ok(false),
        }
    }
}
