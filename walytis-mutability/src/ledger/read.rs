//! Reading: blocks as they stand, their versions, contents.

use std::collections::BTreeMap;
use std::ops::Range;

use futures::StreamExt as _;
use walytis_core::id::BlockId;
use walytis_core::ledger::{BlockInfo, BlockState, ContentReader, Cursor, Ledger, LedgerError, Order, Query};
use walytis_core::topic::Topic;

use super::Inner;
use super::version::{Current, Version};
use crate::error::MutableError;
use crate::graph::Right;
use crate::limits::PAGE;
use crate::op::{Act, Part, Place, is_content, user_topics};
use crate::table::{OriginalRow, VersionRow};

/// What a version shows.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) topics: Vec<Topic>,
    pub(super) size: u64,
    pub(super) state: BlockState,
    /// The block that holds the content.
    pub(super) block: BlockId,
    /// Bytes in front of it.
    pub(super) skip: u64,
    /// Whether the block is not the author's own content, so that it is never shown.
    pub(super) foreign: bool,
}

impl<L: Ledger + ?Sized + 'static> Inner<L> {
    pub(super) async fn current(&self, id: &BlockId) -> Result<Option<Current>, LedgerError> {
        match self.table.original(id).await? {
            Some(row) if row.counts => Ok(Some(self.current_of(id, &row).await?)),
            Some(_) => Ok(None),
            None => Ok(self.below.get(id).await?.filter(not_arrived).map(Current::untouched)),
        }
    }

    /// Returns what a block shows by its row.
    pub(super) async fn current_of(&self, id: &BlockId, row: &OriginalRow) -> Result<Current, LedgerError> {
        let mut info = self.below.get(id).await?.ok_or(LedgerError::UnknownBlock { id: *id })?;
        info.cursor = Cursor(row.cursor);
        if let Some(content) = row.content.filter(|content| content != id)
            && let Some(version) = self.table.version(id, &content).await?
        {
            let shown = self.shown_by(&content, &version).await?;
            (info.topics, info.size, info.state) = (shown.topics, shown.size, shown.state);
        }
        Ok(Current {
            info,
            version: row.head,
            versions: row.versions,
            conflicts: row.heads.saturating_sub(1),
            deleted: row.content.is_none(),
        })
    }

    /// Returns what an edit shows.
    async fn shown_by(&self, id: &BlockId, row: &VersionRow) -> Result<Shown, LedgerError> {
        let block = self.below.get(id).await?.ok_or(LedgerError::UnknownBlock { id: *id })?;
        let topics = user_topics(&block.topics);
        let Place::Beside(beside) = row.place else {
            let skip = u64::from(row.op_bytes);
            let size = block.size.saturating_sub(skip);
            return Ok(Shown { topics, size, state: block.state, block: *id, skip, foreign: false });
        };
        // V-MUT-12: content of somebody else, or something else, is never shown as the author's own.
        let own = |found: &BlockInfo| is_content(&found.topics) && found.author == block.author;
        let (size, state, foreign) = match self.below.get(&beside).await? {
            Some(found) if own(&found) => (found.size, found.state, false),
            Some(_) => (0, BlockState::Unavailable, true),
            None => (0, BlockState::Wanted, false),
        };
        Ok(Shown { topics, size, state, block: beside, skip: 0, foreign })
    }

    /// Returns what the original itself shows.
    fn shown_by_original(info: &BlockInfo) -> Shown {
        let (topics, size, state) = (info.topics.clone(), info.size, info.state);
        Shown { topics, size, state, block: info.id, skip: 0, foreign: false }
    }

    /// Returns what a version shows whose content is that of the original or of an edit.
    async fn shown(&self, original: &BlockId, content: &BlockId) -> Result<Option<Shown>, LedgerError> {
        if content == original {
            return Ok(self.below.get(original).await?.as_ref().map(Self::shown_by_original));
        }
        match self.table.version(original, content).await? {
            Some(row) => Ok(Some(self.shown_by(content, &row).await?)),
            None => Ok(None),
        }
    }

    /// Streams what a version shows, or a part of it.
    async fn open(&self, shown: &Shown, part: Option<Range<u64>>) -> Result<ContentReader, LedgerError> {
        if shown.foreign {
            return Err(LedgerError::Unavailable { id: shown.block, reason: "it is not the author's own" });
        }
        // The op stands in front.
        match part {
            None if shown.skip == 0 => self.below.content(&shown.block).await,
            None => self.below.content_range(&shown.block, shown.skip..u64::MAX).await,
            Some(part) => {
                let range = part.start.saturating_add(shown.skip)..part.end.saturating_add(shown.skip);
                self.below.content_range(&shown.block, range).await
            }
        }
    }

    /// Streams what a block shows now, or what a version of it shows: all of it, or a part.
    pub(super) async fn content(&self, id: &BlockId, part: Option<Range<u64>>) -> Result<ContentReader, LedgerError> {
        self.check_open()?;
        let unknown = LedgerError::UnknownBlock { id: *id };
        if let Some(row) = self.table.original(id).await? {
            let content = row.content.filter(|_| row.counts);
            let content = content.ok_or(LedgerError::Unavailable { id: *id, reason: "the block is deleted" })?;
            let shown = self.shown(id, &content).await?.ok_or(unknown)?;
            return self.open(&shown, part).await;
        }
        if let Some(original) = self.table.original_of(id).await? {
            let read = self.version_content(&original, id, part).await;
            return read.map_err(|error| match error {
                MutableError::Ledger(error) => error,
                MutableError::NoContent { .. } => LedgerError::Unavailable { id: *id, reason: "it is a deletion" },
                _ => unknown,
            });
        }
        match self.below.get(id).await?.filter(not_arrived) {
            Some(_) => match part {
                Some(part) => self.below.content_range(id, part).await,
                None => self.below.content(id).await,
            },
            None => Err(unknown),
        }
    }

    pub(super) async fn version_content(
        &self,
        id: &BlockId,
        version: &BlockId,
        part: Option<Range<u64>>,
    ) -> Result<ContentReader, MutableError> {
        let content = self.content_of(id, version).await?;
        let missing = MutableError::NoVersion { id: *id, version: *version };
        let shown = self.shown(id, &content).await?.ok_or(missing)?;
        Ok(self.open(&shown, part).await?)
    }

    /// Returns the row of a block that counts.
    pub(super) async fn row(&self, id: &BlockId) -> Result<OriginalRow, LedgerError> {
        match self.table.original(id).await? {
            Some(row) if row.counts => Ok(row),
            None if self.below.get(id).await?.as_ref().is_some_and(not_arrived) => {
                Err(LedgerError::Unavailable { id: *id, reason: "it has not arrived yet" })
            }
            _ => Err(LedgerError::UnknownBlock { id: *id }),
        }
    }

    /// Returns the version whose content a version of a block shows: itself, or the one that it restores.
    ///
    /// Three rows say it, however long the history is; they say the same as the graph (V-MUT-05, V-MUT-07, V-MUT-08).
    pub(super) async fn content_of(&self, id: &BlockId, version: &BlockId) -> Result<BlockId, MutableError> {
        let original = self.row(id).await?;
        if version == id {
            return Ok(*id);
        }
        let missing = MutableError::NoVersion { id: *id, version: *version };
        let counts = |row: &VersionRow| row.generation > original.generation && row.effective() == Right::Allowed;
        let Some(row) = self.table.version(id, version).await?.filter(counts) else { return Err(missing) };
        match row.act {
            Act::Edit => Ok(*version),
            Act::Delete => Err(MutableError::NoContent { version: *version }),
            Act::Restore { version } if version == *id => Ok(version),
            Act::Restore { version } => {
                let edit =
                    |edit: &VersionRow| edit.act == Act::Edit && edit.generation < row.generation && counts(edit);
                self.table.version(id, &version).await?.filter(edit).map(|_| version).ok_or(missing)
            }
        }
    }

    pub(super) async fn versions(&self, id: &BlockId) -> Result<Vec<Version>, LedgerError> {
        let row = match self.table.original(id).await? {
            Some(row) if row.counts => row,
            Some(_) => return Ok(Vec::new()),
            None => {
                let only = |info: BlockInfo| {
                    let shown = Self::shown_by_original(&info);
                    version_of(info, None, Some(shown), (true, true))
                };
                return Ok(self.below.get(id).await?.filter(not_arrived).map(only).into_iter().collect());
            }
        };
        let rows = self.table.versions(id).await?;
        let mut graph = self.table.graph(id, row.generation).await?;
        let current = graph.current().head;
        let heads = graph.heads();
        let rows: BTreeMap<BlockId, VersionRow> = rows.into_iter().collect();
        let mut versions = Vec::with_capacity(graph.version_count());
        for version in graph.versions() {
            let info = self.below.get(&version).await?.ok_or(LedgerError::UnknownBlock { id: version })?;
            let row = rows.get(&version);
            let shown = match row.map(|row| row.act) {
                Some(Act::Delete) => None,
                Some(Act::Restore { version }) => self.shown(id, &version).await?,
                Some(Act::Edit) => self.shown(id, &version).await?,
                None => Some(Self::shown_by_original(&info)),
            };
            let is = (heads.binary_search(&version).is_ok(), version == current);
            versions.push(version_of(info, row, shown, is));
        }
        Ok(versions)
    }

    pub(super) async fn version_at(&self, id: &BlockId, block: &BlockId) -> Result<Option<Version>, LedgerError> {
        let Some(row) = self.table.original(id).await?.filter(|row| row.counts) else { return Ok(None) };
        let graph = self.table.graph(id, row.generation).await?;
        let version = if block == id || graph.act(block).is_some() {
            *block
        } else {
            let Some(info) = self.below.get(block).await? else { return Ok(None) };
            if (info.generation, info.id) < (row.generation, *id) {
                return Ok(None);
            }
            graph.until(info.generation, &info.id).current().head
        };
        Ok(self.versions(id).await?.into_iter().find(|one| one.id == version))
    }

    pub(super) async fn conflicts(&self, id: &BlockId) -> Result<Vec<Version>, LedgerError> {
        let Some(row) = self.table.original(id).await?.filter(|row| row.counts && row.heads > 1) else {
            return Ok(Vec::new());
        };
        let others = self.table.graph(id, row.generation).await?.conflicts();
        let versions = self.versions(id).await?;
        Ok(others.iter().filter_map(|other| versions.iter().find(|one| one.id == *other).cloned()).collect())
    }

    /// Returns the position of the last block of the ledger below, of whatever kind it is.
    pub(super) async fn end_below(&self) -> Result<u64, LedgerError> {
        let last = Query { order: Order::Arrival, reverse: true, limit: Some(1), ..Query::default() };
        let last = Query { include_void: true, include_overlays: true, ..last };
        let last = self.below.query(last).await?.next().await.transpose()?;
        Ok(last.map_or(0, |info| info.cursor.0))
    }

    /// Returns at most so many of the blocks that the ledger below shows though their contents have not arrived: it has
    /// told nobody of them yet.
    pub(super) async fn not_arrived(&self, most: usize) -> Result<Vec<BlockInfo>, LedgerError> {
        let query = Query { order: Order::Arrival, include_overlays: true, ..Query::default() };
        let first = self.below.query(Query { limit: Some(1), ..query.clone() }).await?.next().await.transpose()?;
        if first.is_none_or(|info| info.cursor != Cursor(0)) {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        let mut blocks = self.below.query(Query { limit: Some(most), ..query }).await?;
        while let Some(info) = blocks.next().await.transpose()?.filter(|info| info.cursor == Cursor(0)) {
            if not_arrived(&info) {
                found.push(info);
            }
        }
        Ok(found)
    }

    /// Returns how many ops could not be read yet, up to a page of them.
    pub(super) async fn unread(&self) -> Result<u64, LedgerError> {
        Ok(self.table.ids(self.table.all(b'u'), PAGE).await?.len() as u64)
    }
}

impl Current {
    /// A block that nobody has changed as far as is known.
    pub(super) fn untouched(info: BlockInfo) -> Self {
        Self { version: info.id, info, versions: 1, conflicts: 0, deleted: false }
    }
}

/// Says whether the ledger below shows this block though it has not told of it.
pub(super) fn not_arrived(info: &BlockInfo) -> bool {
    let counts = !matches!(info.state, BlockState::Void { .. });
    info.cursor == Cursor(0) && counts && Part::of(&info.topics) == Part::Block
}

/// Returns the version whose content a version shows.
fn version_of(info: BlockInfo, row: Option<&VersionRow>, shown: Option<Shown>, is: (bool, bool)) -> Version {
    let (topics, size, state) = match shown {
        Some(shown) => (shown.topics, shown.size, shown.state),
        None => (Vec::new(), 0, info.state),
    };
    Version {
        id: info.id,
        act: row.map(|row| row.act),
        author: info.author,
        created_at_ms: info.created_at_ms,
        generation: info.generation,
        topics,
        size,
        state,
        supersedes: row.map(|row| row.supersedes.clone()).unwrap_or_default(),
        head: is.0,
        current: is.1,
    }
}
