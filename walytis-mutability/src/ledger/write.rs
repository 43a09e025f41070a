//! Changing blocks: an op that names the heads this node knows, added to the ledger below.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use walytis_core::id::BlockId;
use walytis_core::ledger::{BlockInfo, Content, Ledger, LedgerError, NewBlock};
use walytis_core::limits::TOPICS_MAX;
use walytis_core::topic::{Topic, TopicError};

use super::Inner;
use super::apply::is_fixed;
use super::version::{Current, Erased};
use crate::error::MutableError;
use crate::graph::Right;
use crate::limits::{EDIT_TOPICS_MAX, INLINE_MAX, SUPERSEDES_MAX};
use crate::op::{Act, Op, Place, content_topic, op_topic};
use crate::rights::Request;
use crate::table::OriginalRow;

/// Content of an edit, as it goes into the ledger below.
enum Taken {
    Inline(Bytes),
    Beside(Content),
}

impl<L: Ledger + ?Sized + 'static> Inner<L> {
    pub(super) async fn edit(
        &self,
        id: &BlockId,
        content: Content,
        topics: Option<Vec<Topic>>,
    ) -> Result<Current, MutableError> {
        self.check_open()?;
        if let Some(topics) = &topics {
            check_topics(topics)?;
        }
        // Whatever can be refused is refused before content is read.
        self.may(id, Act::Edit).await?;
        let (place, bytes) = match take(content).await? {
            Taken::Inline(bytes) => (Place::Inline, bytes),
            Taken::Beside(content) => {
                let block = NewBlock { content, topics: vec![content_topic()] };
                let added = self.below.add_overlay(vec![block]).await?.pop().ok_or(LedgerError::Closed)?;
                (Place::Beside(added.id), Bytes::new())
            }
        };
        let _turn = self.turn.acquire().await.map_err(|_| LedgerError::Closed)?;
        let row = self.row(id).await?;
        if row.content.is_none() {
            return Err(MutableError::Deleted { id: *id });
        }
        let topics = match topics {
            Some(topics) => topics,
            None => self.current_of(id, &row).await?.info.topics,
        };
        check_topics(&topics)?;
        self.write(id, &row, Act::Edit, place, (topics, bytes)).await
    }

    pub(super) async fn delete_block(&self, id: &BlockId) -> Result<Current, MutableError> {
        self.check_open()?;
        let _turn = self.turn.acquire().await.map_err(|_| LedgerError::Closed)?;
        let row = self.may(id, Act::Delete).await?;
        if row.content.is_none() {
            return Err(MutableError::Deleted { id: *id });
        }
        self.write(id, &row, Act::Delete, Place::Inline, (Vec::new(), Bytes::new())).await
    }

    pub(super) async fn restore(&self, id: &BlockId, version: &BlockId) -> Result<Current, MutableError> {
        self.check_open()?;
        let _turn = self.turn.acquire().await.map_err(|_| LedgerError::Closed)?;
        let act = Act::Restore { version: self.content_of(id, version).await? };
        let row = self.may(id, act).await?;
        self.write(id, &row, act, Place::Inline, (Vec::new(), Bytes::new())).await
    }

    pub(super) async fn erase(&self, id: &BlockId) -> Result<Erased, MutableError> {
        self.check_open()?;
        let row = self.may(id, Act::Delete).await?;
        let current = match row.content {
            Some(_) => self.delete_block(id).await?,
            None => self.current_of(id, &row).await?,
        };
        let blocks = self.contents(&[*id]).await?;
        let forgetting = match self.below.forget(&blocks).await {
            Ok(()) => true,
            Err(LedgerError::Unsupported { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        Ok(Erased { current, forgetting, blocks })
    }

    pub(super) async fn forget(&self, ids: &[BlockId]) -> Result<(), LedgerError> {
        self.check_open()?;
        let blocks = self.contents(ids).await?;
        self.below.forget(&blocks).await
    }

    /// Returns every block that holds content of a version of these blocks.
    async fn contents(&self, ids: &[BlockId]) -> Result<Vec<BlockId>, LedgerError> {
        let mut blocks = Vec::new();
        for id in ids {
            blocks.push(*id);
            for (op, row) in self.table.versions(id).await? {
                if row.act == Act::Edit && row.right() == Right::Allowed {
                    blocks.push(op);
                    if let Place::Beside(beside) = row.place {
                        blocks.push(beside);
                    }
                }
            }
        }
        Ok(blocks)
    }

    /// Returns a block that this node may change now.
    async fn may(&self, id: &BlockId, act: Act) -> Result<OriginalRow, MutableError> {
        let row = self.row(id).await?;
        let original: BlockInfo = self.below.get(id).await?.ok_or(LedgerError::UnknownBlock { id: *id })?;
        if is_fixed(&original) {
            return Err(MutableError::Fixed { id: *id });
        }
        let author = self.below.author().await?;
        let policy = self.table.policy(None).await?;
        let request = Request { policy, act, author: &author, block: None, original: &original };
        if self.rights.judge(request).await != Right::Allowed {
            let what = match act {
                Act::Edit => "edit",
                Act::Delete => "delete",
                Act::Restore { .. } => "restore",
            };
            return Err(MutableError::NotAllowed { id: *id, what });
        }
        Ok(row)
    }

    /// Adds an op and waits until it is taken in.
    async fn write(
        &self,
        id: &BlockId,
        row: &OriginalRow,
        act: Act,
        place: Place,
        (mut topics, content): (Vec<Topic>, Bytes),
    ) -> Result<Current, MutableError> {
        let mut supersedes = vec![row.head];
        // One head is the common case, and costs no look at the history.
        if row.heads > 1 {
            // The current one first: with more heads than an op can name, the new version is still the deepest.
            supersedes.extend(self.table.graph(id, row.generation).await?.conflicts());
            supersedes.truncate(SUPERSEDES_MAX);
            supersedes.sort_unstable();
        }
        let op = Op { original: *id, supersedes, act, place };
        topics.insert(0, op_topic());
        let content = Bytes::from([&op.encode()[..], &content].concat());
        let block = NewBlock { content: content.into(), topics };
        let added = self.below.add_overlay(vec![block]).await?.pop().ok_or(LedgerError::Closed)?;
        self.wait_for(added.cursor.0).await?;
        let current = self.current(id).await?;
        Ok(current.ok_or(LedgerError::UnknownBlock { id: *id })?)
    }
}

fn check_topics(topics: &[Topic]) -> Result<(), LedgerError> {
    let unique: std::collections::BTreeSet<_> = topics.iter().collect();
    if topics.iter().any(Topic::is_reserved) {
        return Err(LedgerError::Topic(TopicError::Reserved));
    }
    if topics.len() > EDIT_TOPICS_MAX || unique.len() != topics.len() {
        return Err(LedgerError::Topics);
    }
    Ok(())
}

/// Reads as much as may stand inline; what is longer stays a stream.
async fn take(content: Content) -> Result<Taken, LedgerError> {
    let mut reader: Box<dyn AsyncRead + Send + Unpin> = match content {
        Content::Bytes(bytes) if bytes.len() <= INLINE_MAX => return Ok(Taken::Inline(bytes)),
        Content::Bytes(bytes) => return Ok(Taken::Beside(Content::Bytes(bytes))),
        Content::Reader(reader) => reader,
    };
    let mut front = Vec::new();
    let limit = INLINE_MAX as u64 + 1;
    (&mut reader).take(limit).read_to_end(&mut front).await.map_err(LedgerError::Read)?;
    if front.len() <= INLINE_MAX {
        return Ok(Taken::Inline(front.into()));
    }
    Ok(Taken::Beside(Content::Reader(Box::new(io::Cursor::new(front).chain(reader)))))
}

const _: () = assert!(EDIT_TOPICS_MAX < TOPICS_MAX, "an edit has room for the overlay's topic");
