//! Taking in large content whose length and digest are unknown until its end, in constant memory.
//!
//! Content is first a draft of the blob store, which is gone with its handle or with the process. Once its root is known
//! a *mark* in the store says that the blob is not named by a block yet; the commit of the block removes it. So what a
//! crash or a refusal leaves behind is found again: at once, or when the chain opens next.
//!
//! ```text
//! draft ─► leaf 0, leaf 1, … ─► mark(nonce, root), manifest ─► blob in its place ─► block committed, mark gone
//! ```

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;
use tracing::warn;

use super::content::{Input, Taken, key};
use super::core::Inner;
use super::schema::{self, Tag, read_blob};
use super::table::{Table, behind};
use crate::block::DraftContent;
use crate::id::{BlobId, ChainId, Digest};
use crate::ledger::LedgerError;
use crate::limits::BLOB_LEAF;
use crate::store::{Batch, BlobDraft, BlobStore, BlobStoreError, Direction, Durability, KeyRange};
use crate::unixfs::{BlobManifest, ManifestBuilder};

/// Marks read at once.
const MARKS_PAGE: usize = 1_024;

/// Names one content on its way in.
pub(super) type Nonce = [u8; 16];

/// Stores content as a blob and returns what a block says of it. If that fails nothing is left behind.
pub(super) async fn take_stream(core: &Inner, mut source: Input) -> Result<Taken, LedgerError> {
    let (draft, manifest) = tokio::select! {
        biased;
        () = core.stop.cancelled() => return Err(LedgerError::Closed),
        drafted = draft(core, &mut source) => drafted?,
    };
    let mut nonce = Nonce::default();
    core.entropy.fill(&mut nonce);
    match claim(core, &nonce, &manifest, draft).await {
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

/// Reads the content into a draft: while one leaf is read the one before it is hashed and written.
async fn draft(core: &Inner, source: &mut Input) -> Result<(Box<dyn BlobDraft>, BlobManifest), LedgerError> {
    let max = core.settings.content_max;
    let mut draft = core.blobs.draft().await?;
    let mut builder = ManifestBuilder::new();
    let mut leaf = read_leaf(source).await?;
    while !leaf.is_empty() {
        if builder.len().saturating_add(leaf.len() as u64) > max {
            return Err(LedgerError::TooLarge { max });
        }
        let last = leaf.len() < BLOB_LEAF;
        let next = async { if last { Ok(Bytes::new()) } else { read_leaf(source).await } };
        let (digest, written, next) = tokio::join!(digest(leaf.clone()), draft.append(leaf.clone()), next);
        written?;
        builder.leaf(digest?, leaf.len()).map_err(|_| LedgerError::TooLarge { max })?;
        leaf = next?;
    }
    let manifest = builder.finish().map_err(|_| LedgerError::TooLarge { max })?;
    Ok((draft, manifest))
}

/// Hashes a leaf, on another thread if there is one: it takes a millisecond.
pub(crate) async fn digest(leaf: Bytes) -> Result<Digest, LedgerError> {
    let runtime = tokio::runtime::Handle::current();
    if runtime.runtime_flavor() == tokio::runtime::RuntimeFlavor::CurrentThread {
        return Ok(Digest::of(&leaf));
    }
    runtime.spawn_blocking(move || Digest::of(&leaf)).await.map_err(|_| LedgerError::Closed)
}

/// Puts the draft where its root says.
async fn claim(
    core: &Inner,
    nonce: &Nonce,
    manifest: &BlobManifest,
    draft: Box<dyn BlobDraft>,
) -> Result<(BlobId, u64), LedgerError> {
    let (root, len) = (manifest.root(), manifest.len());
    // Under the turn: whoever gives up the same blob now sees that it is wanted here.
    let _turn = core.intake.acquire().await.map_err(|_| LedgerError::Closed)?;
    let mut batch = Batch::new();
    batch.put(core.table.keys.staged(nonce), schema::blob(&root, len));
    if let BlobId::DagPb(_) = root {
        batch.put(core.table.keys.manifest(&root), Bytes::from(manifest.encode()));
    }
    core.table.commit(batch, Durability::Flushed).await?;
    draft.finish(key(core.id, &root)).await?;
    core.blob_progress.send_modify(|count| *count = count.wrapping_add(1));
    Ok((root, len))
}

/// Reads until a leaf is full or the source ends.
async fn read_leaf(source: &mut Input) -> Result<Bytes, LedgerError> {
    let mut leaf = BytesMut::with_capacity(BLOB_LEAF);
    while leaf.len() < BLOB_LEAF {
        let left = (BLOB_LEAF - leaf.len()) as u64;
        if (&mut *source).take(left).read_buf(&mut leaf).await.map_err(LedgerError::Read)? == 0 {
            break;
        }
    }
    Ok(leaf.freeze())
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
    let mark = table.keys.staged(nonce);
    let mut batch = Batch::new();
    if value.is_empty() {
        // A mark of an earlier version, from before the root was known.
        batch.delete(mark);
        return table.commit(batch, Durability::Buffered).await;
    }
    let (root, _) = table.note(read_blob(&mark, value))?;
    let named = KeyRange::prefix(&table.keys.key(Tag::Blob, &[root.digest()]));
    let wanted = !table.scan(named, Direction::Forward, 1).await?.is_empty();
    if !wanted && !claimed_otherwise(table, &mark, value).await? {
        blobs.delete(key(chain, &root)).await?;
        batch.delete(table.keys.manifest(&root));
    }
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

/// Reads a whole blob of this chain and stores its manifest: only for one that came here in another way.
pub(super) async fn make_manifest(core: &Inner, blob: &BlobId, len: u64) -> Result<Option<BlobManifest>, LedgerError> {
    let place = key(core.id, blob);
    let mut builder = ManifestBuilder::new();
    while builder.len() < len {
        let leaf = match core.blobs.read(place, builder.len(), BLOB_LEAF).await {
            Err(BlobStoreError::Missing) => return Ok(None),
            other => other?,
        };
        if leaf.is_empty() {
            return Ok(None);
        }
        let digest = digest(leaf.clone()).await?;
        if builder.leaf(digest, leaf.len()).is_err() {
            return Ok(None);
        }
    }
    let Ok(manifest) = builder.finish() else { return Ok(None) };
    if manifest.root() != *blob {
        return Ok(None);
    }
    put_manifest(core, blob, &manifest).await?;
    Ok(Some(manifest))
}

/// Stores the manifest of a blob, which was checked against its root.
pub(super) async fn put_manifest(core: &Inner, blob: &BlobId, manifest: &BlobManifest) -> Result<(), LedgerError> {
    let mut batch = Batch::new();
    batch.put(core.table.keys.manifest(blob), Bytes::from(manifest.encode()));
    // Lost in a power cut it is asked for, or made, again.
    core.table.commit(batch, Durability::Buffered).await
}
