//! Reading a chain from a file, each section checked in its place before anything rests on it.

use std::collections::BTreeMap;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::dag;
use super::error::{ImportError, Problem};
use super::manifest_v1::{Header, Manifest};
use super::section::{Kind, Section, Sections};
use crate::block::{Block, GenesisV1, UnverifiedBlock, Visibility};
use crate::chain::{ChainCore, Offered};
use crate::id::{BlobId, BlockId, Digest};
use crate::ledger::LedgerError;
use crate::limits::{BLOB_LEAF, BLOB_LINKS, CONTENT_MAX};
use crate::store::{BlobKey, BlobStatus};
use crate::unixfs::BlobManifest;

/// Blocks verified and committed together. Chosen: fills the cores; with the bytes below it bounds the memory.
const BATCH_BLOCKS: usize = 1_024;
/// Bytes of such a batch.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Levels of inner nodes of the largest content. From 64 GiB in leaves of 1 MiB, 174 links a node.
const LEVELS_MAX: usize = 4;

/// How far an import is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CarrierProgress {
    /// Blocks read and verified.
    pub blocks: u64,
    /// Blocks in the file.
    pub blocks_total: u64,
    /// Bytes read.
    pub bytes: u64,
}

/// Where the blocks go.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    pub(crate) core: &'a ChainCore,
    /// The chain has nothing but its genesis block: it must end as the file says.
    pub(crate) fresh: bool,
    pub(crate) progress: &'a watch::Sender<CarrierProgress>,
    pub(crate) stop: &'a CancellationToken,
}

/// What came of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Blocks that were not here before.
    pub(crate) blocks: u64,
    /// Blocks that the overlay of the chain does not admit yet.
    pub(crate) waiting: u64,
    /// Contents that were not here before.
    pub(crate) blobs: u64,
}

/// The beginning of a file: what it says of itself, and the genesis block.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) manifest: Manifest,
    pub(crate) genesis: Block,
    heads: Vec<BlockId>,
    sections: Sections,
    place: (u64, BlockId),
}

impl Opening {
    /// Reads header, manifest and genesis block, and checks that they belong together.
    pub(crate) async fn read(mut sections: Sections) -> Result<Self, ImportError> {
        let header = Header::decode(&sections.header().await?)?;
        let first = sections.next().await?.ok_or(ImportError::NotAnExport { reason: "it has no blocks" })?;
        let manifest = Manifest::decode(&first.bytes)?;
        if first.kind != Kind::DagCbor || Manifest::cid(&first.bytes) != header.manifest {
            return Err(ImportError::NotAnExport { reason: "its first root is not its manifest" });
        }
        if manifest.chain.0 != header.genesis {
            return Err(ImportError::NotAnExport { reason: "its second root is not the genesis block" });
        }
        let expected = manifest.blocks;
        let incomplete = ImportError::Incomplete { what: "blocks", expected, found: 0 };
        let second = sections.next().await?.ok_or(incomplete)?;
        let genesis = decode(&second)?;
        if genesis.id() != header.genesis || genesis.header().chain.is_some() {
            return Err(second.fails(Problem::Misplaced { expected: "the genesis block" }));
        }
        let genesis = genesis.verify(&manifest.chain).map_err(|violation| second.fails(Problem::Rule(violation)))?;
        let stated = genesis.inline().and_then(|content| GenesisV1::decode(content));
        if stated.is_none_or(|stated| stated.visibility != manifest.visibility || stated.name != manifest.name) {
            return Err(ImportError::NotAnExport { reason: "its manifest says other things than the genesis block" });
        }
        if manifest.access.is_some() && manifest.visibility != Visibility::Invited {
            return Err(ImportError::NotAnExport { reason: "its manifest has a secret, and the chain has none" });
        }
        let place = (0, genesis.id());
        Ok(Self { manifest, genesis, heads: header.heads, sections, place })
    }
}

fn decode(section: &Section) -> Result<UnverifiedBlock, ImportError> {
    if section.kind != Kind::Raw {
        return Err(section.fails(Problem::Misplaced { expected: "a block" }));
    }
    UnverifiedBlock::decode(section.bytes.clone()).map_err(|violation| section.fails(Problem::Rule(violation)))
}

/// Takes blocks and contents in. What an error names was not kept, what came before it was.
pub(crate) async fn take_in(opening: Opening, target: &Target<'_>, taken: &mut Taken) -> Result<(), ImportError> {
    let Opening { manifest, heads, mut sections, mut place, .. } = opening;
    let mut read = 1;
    while read < manifest.blocks {
        let batch = read_batch(&mut sections, &mut place, manifest.blocks - read).await?;
        if batch.blocks.is_empty() {
            return Err(ImportError::Incomplete { what: "blocks", expected: manifest.blocks, found: read });
        }
        read += batch.blocks.len() as u64;
        offer(target.core, batch, taken).await?;
        report(target, &sections, read, manifest.blocks)?;
    }
    if target.fresh {
        let summary = target.core.summary();
        let leads = heads.iter().all(|head| summary.heads.binary_search(head).is_ok());
        let few =
            heads.is_empty() || heads.len() == summary.heads.len() || heads.len() >= crate::limits::EXPORT_HEADS_MAX;
        if summary.count != manifest.blocks || !leads || !few {
            return Err(ImportError::Heads);
        }
    }
    take_blobs(&mut sections, &manifest, target, taken).await
}

fn report(target: &Target<'_>, sections: &Sections, blocks: u64, blocks_total: u64) -> Result<(), ImportError> {
    target.progress.send_replace(CarrierProgress { blocks, blocks_total, bytes: sections.offset() });
    if target.stop.is_cancelled() { Err(ImportError::Stopped) } else { Ok(()) }
}

/// Blocks of a file that are judged together.
#[derive(Debug, Default)]
struct Batch {
    blocks: Vec<UnverifiedBlock>,
    /// Where each stands in the file, without its bytes.
    sections: BTreeMap<BlockId, Section>,
}

async fn read_batch(sections: &mut Sections, place: &mut (u64, BlockId), left: u64) -> Result<Batch, ImportError> {
    let mut batch = Batch::default();
    let mut bytes = 0;
    while batch.blocks.len() < BATCH_BLOCKS && bytes < BATCH_BYTES && (batch.blocks.len() as u64) < left {
        let Some(mut section) = sections.next().await? else { break };
        let block = decode(&section)?;
        bytes += section.bytes.len();
        section.bytes = bytes::Bytes::new();
        let here = (block.header().generation, block.id());
        if here == *place {
            return Err(section.fails(Problem::Duplicate { id: block.id() }));
        }
        if here < *place {
            return Err(section.fails(Problem::Reordered { id: block.id() }));
        }
        *place = here;
        batch.sections.insert(block.id(), section);
        batch.blocks.push(block);
    }
    Ok(batch)
}

async fn offer(core: &ChainCore, batch: Batch, taken: &mut Taken) -> Result<(), ImportError> {
    let Batch { blocks, sections } = batch;
    let Offered { admitted, pending, rejected, missing, .. } = core.offer(blocks, None).await?;
    taken.blocks += admitted.len() as u64;
    let fails = |id: &BlockId, problem: Problem| match sections.get(id) {
        Some(section) => section.fails(problem),
        None => ImportError::Heads,
    };
    let first = rejected.into_iter().min_by_key(|violation| sections.get(&violation.block).map(|at| at.number));
    if let Some(violation) = first {
        let id = violation.block;
        return Err(fails(&id, Problem::Rule(violation)));
    }
    if !missing.is_empty() {
        let first = pending.iter().min_by_key(|id| sections.get(id).map(|at| at.number));
        return Err(first.map_or(ImportError::Heads, |id| fails(id, Problem::MissingParent { id: *id })));
    }
    taken.waiting += pending.len() as u64;
    Ok(())
}

/// Takes the contents in, by digest.
async fn take_blobs(
    sections: &mut Sections,
    manifest: &Manifest,
    target: &Target<'_>,
    taken: &mut Taken,
) -> Result<(), ImportError> {
    let mut found = 0;
    let mut before: Option<[u8; 32]> = None;
    while let Some(section) = sections.next().await? {
        let Some(blob) = section.blob().filter(|_| found < manifest.blobs) else {
            return Err(section.fails(Problem::Misplaced { expected: "the end of the file" }));
        };
        if before.is_some_and(|before| before >= section.digest) {
            return Err(section.fails(Problem::Misplaced { expected: "a content with a higher digest" }));
        }
        before = Some(section.digest);
        found += 1;
        if take_blob(sections, section, blob, target).await? {
            taken.blobs += 1;
        }
        report(target, sections, manifest.blocks, manifest.blocks)?;
    }
    if found < manifest.blobs {
        return Err(ImportError::Incomplete { what: "contents", expected: manifest.blobs, found });
    }
    Ok(())
}

/// Takes one content in, whose first part is `root`; says whether it was not here before.
async fn take_blob(
    sections: &mut Sections,
    root: Section,
    blob: BlobId,
    target: &Target<'_>,
) -> Result<bool, ImportError> {
    let core = target.core;
    let at = Section { bytes: bytes::Bytes::new(), ..root.clone() };
    let known = core.blob_len(&blob).await?.filter(|len| (1..=CONTENT_MAX).contains(len));
    let len = known.ok_or_else(|| at.fails(Problem::ExtraContent { blob }))?;
    let key = core.blob_key(&blob);
    let before = core.blobs().status(key).await.map_err(LedgerError::from)?;
    let mut parts = Parts { core, key, blob, len, leaves: Vec::new(), at };
    if matches!(before, BlobStatus::Complete { .. }) {
        parts.read(sections, root, false, target.stop).await?;
        return Ok(false);
    }
    let chunk = u32::try_from(BLOB_LEAF).unwrap_or(u32::MAX);
    core.blobs().begin(key, len, chunk).await.map_err(LedgerError::from)?;
    if let Err(error) = parts.read(sections, root, true, target.stop).await {
        // Its leaves were checked one by one; but where they stand was not.
        core.blobs().delete(key).await.map_err(LedgerError::from)?;
        return Err(error);
    }
    core.blob_complete(&blob).await?;
    Ok(true)
}

/// The parts of one content as they come.
struct Parts<'a> {
    core: &'a ChainCore,
    key: BlobKey,
    blob: BlobId,
    len: u64,
    leaves: Vec<Digest>,
    /// Where the content begins in the file.
    at: Section,
}

impl Parts<'_> {
    /// Reads all parts: each must be the one that was named, and all together the content.
    async fn read(
        &mut self,
        sections: &mut Sections,
        root: Section,
        store: bool,
        stop: &CancellationToken,
    ) -> Result<(), ImportError> {
        let mut named: Vec<BlobId> = Vec::new();
        let mut part = root;
        loop {
            match part.kind {
                Kind::Raw => self.leaf(&part, store).await?,
                _ => {
                    let links = dag::links(&part.bytes).filter(|_| named.len() <= LEVELS_MAX * BLOB_LINKS);
                    let links = links.ok_or_else(|| part.fails(Problem::Content { blob: self.blob }))?;
                    named.extend(links.into_iter().rev());
                }
            }
            let Some(next) = named.pop() else { break };
            if stop.is_cancelled() {
                return Err(ImportError::Stopped);
            }
            let section = self.at.number;
            part = sections.next().await?.ok_or(ImportError::Truncated { section })?;
            if part.blob() != Some(next) {
                return Err(part.fails(Problem::Misplaced { expected: "the next part of a content" }));
            }
        }
        let leaves = std::mem::take(&mut self.leaves);
        let whole = BlobManifest::new(self.len, leaves).is_ok_and(|manifest| manifest.root() == self.blob);
        if whole { Ok(()) } else { Err(self.at.fails(Problem::Content { blob: self.blob })) }
    }

    async fn leaf(&mut self, part: &Section, store: bool) -> Result<(), ImportError> {
        let offset = self.leaves.len() as u64 * BLOB_LEAF as u64;
        let fits = self.len.saturating_sub(offset).min(BLOB_LEAF as u64) == part.bytes.len() as u64;
        if !fits || part.bytes.is_empty() {
            return Err(part.fails(Problem::Content { blob: self.blob }));
        }
        if store {
            let index = u32::try_from(self.leaves.len()).unwrap_or(u32::MAX);
            self.core.blobs().write(self.key, index, part.bytes.clone()).await.map_err(LedgerError::from)?;
        }
        self.leaves.push(Digest(part.digest));
        Ok(())
    }
}
