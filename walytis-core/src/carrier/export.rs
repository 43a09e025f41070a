//! Writing a chain as a file, streamed.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

use super::dag::{DepthFirst, Part};
use super::manifest_v1::{Header, Manifest};
use super::section;
use crate::block::GenesisV1;
use crate::chain::{ChainCore, OrderedBlock};
use crate::id::{BlobId, BlockId};
use crate::ledger::LedgerError;
use crate::limits::{BLOB_LEAF, EXPORT_HEADS_MAX};
use crate::secret::Secret;
use crate::store::{BlobStatus, StoreError};
use crate::unixfs::{BlobManifest, ManifestBuilder};

/// Block files read at once. Chosen: at most 16 MiB, usually some kilobytes.
const PAGE: usize = 16;
/// Index rows read at once.
const ROWS: usize = 1_024;

/// What an export holds beside the blocks.
#[derive(Clone, Copy, Debug)]
pub struct ExportOptions {
    /// Contents that stand beside their blocks, as far as they are here.
    pub blobs: bool,
    /// The chain secret: whoever has the file can then take part in the chain. Without it the file is for reading.
    pub with_access: bool,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self { blobs: true, with_access: false }
    }
}

/// A chain on its way into a file.
pub struct Export {
    /// Blocks in it.
    pub blocks: u64,
    /// Contents in it.
    pub blobs: u64,
    /// Contents that are not here, or were not asked for.
    pub blobs_missing: u64,
    /// The bytes of the file. An error within means that the file is not whole.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
}

impl std::fmt::Debug for Export {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Export({} blocks, {} contents)", self.blocks, self.blobs)
    }
}

/// Begins an export of what the chain holds now; what is added meanwhile is not in it.
pub(crate) async fn export(core: &ChainCore, blobs: bool, access: Option<Secret<32>>) -> Result<Export, LedgerError> {
    let summary = core.summary();
    let (present, absent) = contents(core, summary.count, blobs).await?;
    let genesis = core.block(&core.id().0).await?.ok_or(LedgerError::UnknownBlock { id: core.id().0 })?;
    let name = genesis.inline().and_then(|content| GenesisV1::decode(content)).and_then(|content| content.name);
    let manifest = Manifest {
        chain: core.id(),
        visibility: core.visibility(),
        name,
        blocks: summary.count,
        blobs: present.len() as u64,
        blobs_missing: absent,
        access,
    };
    let bytes = manifest.encode();
    let cid = Manifest::cid(&bytes);
    let heads = summary.heads.into_iter().filter(|head| *head != core.id().0).take(EXPORT_HEADS_MAX).collect();
    let header = Header { manifest: cid, genesis: core.id().0, heads };
    let ready = VecDeque::from([section::encode_header(&header.encode()), section::encode(&cid, &bytes)]);
    let writer =
        Writer { core: core.clone(), count: summary.count, ready, stage: Stage::Blocks { after: None }, present };
    let reader = Box::new(StreamReader::new(writer.stream()));
    Ok(Export { blocks: manifest.blocks, blobs: manifest.blobs, blobs_missing: absent, reader })
}

/// Returns the contents that the first `count` blocks name and that are here, by digest, and how many are not.
async fn contents(core: &ChainCore, count: u64, wanted: bool) -> Result<(VecDeque<(BlobId, u64)>, u64), LedgerError> {
    let (mut present, mut absent) = (VecDeque::new(), 0);
    let mut named: BTreeMap<[u8; 32], (BlobId, u64)> = BTreeMap::new();
    let mut after = None;
    loop {
        let rows = core.blob_rows(after, ROWS).await?;
        let ids: Vec<BlockId> = rows.iter().map(|row| row.block).collect();
        for (row, node) in rows.iter().zip(core.nodes(&ids).await?) {
            if node.is_some_and(|node| node.arrival <= count) {
                named.insert(*row.blob.digest(), (row.blob, row.len));
            }
        }
        let last = rows.last().map(|row| (*row.blob.digest(), row.block)).filter(|_| rows.len() == ROWS);
        // The rows of the last digest may go on in the next page.
        let rest = last.map(|(digest, _)| named.split_off(&digest)).unwrap_or_default();
        let done = std::mem::replace(&mut named, rest);
        for (blob, len) in done.into_values() {
            let status = core.blobs().status(core.blob_key(&blob)).await?;
            match status {
                BlobStatus::Complete { .. } if wanted => present.push_back((blob, len)),
                _ => absent += 1,
            }
        }
        match last {
            Some(last) => after = Some(last),
            None => return Ok((present, absent)),
        }
    }
}

#[derive(Debug)]
enum Stage {
    Blocks { after: Option<(u64, BlockId)> },
    Blobs,
    Blob { blob: BlobId, parts: DepthFirst },
}

/// Makes the bytes of a file, a few sections at a time.
#[derive(Debug)]
struct Writer {
    core: ChainCore,
    /// Blocks with a higher arrival number came later.
    count: u64,
    ready: VecDeque<Bytes>,
    stage: Stage,
    present: VecDeque<(BlobId, u64)>,
}

impl Writer {
    fn stream(self) -> BoxStream<'static, io::Result<Bytes>> {
        stream::try_unfold(self, |mut writer| async move {
            let next = writer.next().await.map_err(io::Error::other)?;
            Ok(next.map(|bytes| (bytes, writer)))
        })
        .boxed()
    }

    async fn next(&mut self) -> Result<Option<Bytes>, LedgerError> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Ok(Some(bytes));
            }
            match &mut self.stage {
                Stage::Blocks { after } => {
                    let after = *after;
                    self.stage = self.read_blocks(after).await?;
                }
                Stage::Blobs => match self.present.pop_front() {
                    None => return Ok(None),
                    Some((blob, len)) => {
                        let manifest = self.verify(&blob, len).await?;
                        self.stage = Stage::Blob { blob, parts: DepthFirst::new(&manifest) };
                    }
                },
                Stage::Blob { blob, parts } => match parts.next() {
                    None => self.stage = Stage::Blobs,
                    Some(Part::Node { id, bytes }) => return Ok(Some(section::encode(&id.to_cid(), &bytes))),
                    Some(Part::Leaf { id, index }) => {
                        let offset = u64::from(index) * BLOB_LEAF as u64;
                        let leaf = self.core.blobs().read(self.core.blob_key(blob), offset, BLOB_LEAF).await?;
                        return Ok(Some(section::encode(&id.to_cid(), &leaf)));
                    }
                },
            }
        }
    }

    /// Reads the next blocks in canonical order.
    async fn read_blocks(&mut self, after: Option<(u64, BlockId)>) -> Result<Stage, LedgerError> {
        let page = self.core.ordered_page(after, PAGE).await?;
        let ids: Vec<BlockId> = page.iter().filter(|row| row.arrival <= self.count).map(|row| row.id).collect();
        for (id, file) in ids.iter().zip(self.core.files(&ids).await?) {
            let Some(file) = file else {
                return Err(self
                    .core
                    .note_damage(StoreError::corrupt(&self.core.file_key(id), "the block file is missing")));
            };
            self.ready.push_back(section::encode(&id.to_cid(), &file));
        }
        Ok(match page.last() {
            Some(OrderedBlock { generation, id, .. }) if page.len() == PAGE => {
                Stage::Blocks { after: Some((*generation, *id)) }
            }
            _ => Stage::Blobs,
        })
    }

    /// Reads a content once for the digests of its leaves: its inner nodes stand before them.
    async fn verify(&self, blob: &BlobId, len: u64) -> Result<BlobManifest, LedgerError> {
        let key = self.core.blob_key(blob);
        let mut builder = ManifestBuilder::new();
        let mut offset = 0;
        while offset < len {
            let leaf = self.core.blobs().read(key, offset, BLOB_LEAF).await?;
            if leaf.is_empty() || builder.push(&leaf).is_err() {
                break;
            }
            offset += leaf.len() as u64;
            tokio::task::yield_now().await;
        }
        let whole = builder.finish().ok().filter(|manifest| manifest.verify(blob, len).is_ok());
        let damaged = || StoreError::corrupt(blob.digest(), format_args!("content {blob} is not what its id names"));
        whole.ok_or_else(|| self.core.note_damage(damaged()))
    }
}
