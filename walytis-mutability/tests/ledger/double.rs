//! A ledger in memory: any block by any author in any order, retractions, contents that come later or never.

use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;
use walytis_core::id::{BlockId, ChainId};
use walytis_core::key::PublicKey;
use walytis_core::ledger::subscriber::{Seat, Subscribers};
use walytis_core::ledger::{
    Ack, Author, BlockInfo, BlockState, Content, ContentReader, Cursor, Ledger, LedgerControl, LedgerError,
    LedgerEvent, LedgerRead, LedgerStatus, NewBlock, Order, Place, Query, SubscribeFrom, Subscriber, Subscription,
};
use walytis_core::limits::TOPICS_MAX;
use walytis_core::store::MemoryStore;
use walytis_core::topic::{Topic, TopicError};

#[derive(Debug)]
struct Stored {
    info: BlockInfo,
    content: Bytes,
}

#[derive(Debug, Default)]
struct Shelf {
    blocks: Vec<Stored>,
    /// Where each block stands.
    places: std::collections::BTreeMap<BlockId, usize>,
    events: Vec<(BlockId, bool)>,
    forgotten: Vec<BlockId>,
}

impl Shelf {
    fn find(&self, id: &BlockId) -> Option<&Stored> {
        self.places.get(id).map(|place| &self.blocks[*place])
    }

    fn find_mut(&mut self, id: &BlockId) -> &mut Stored {
        let place = self.places[id];
        &mut self.blocks[place]
    }
}

/// What stays when the ledger is closed.
#[derive(Clone, Debug)]
pub struct Kept {
    shelf: Arc<Mutex<Shelf>>,
    subscribers: Arc<Subscribers>,
    moved: Arc<watch::Sender<u64>>,
}

impl Default for Kept {
    fn default() -> Self {
        let subscribers = Arc::new(Subscribers::new(Arc::new(MemoryStore::new()), Vec::new()));
        Self { shelf: Arc::default(), subscribers, moved: Arc::new(watch::Sender::new(0)) }
    }
}

#[derive(Debug)]
pub struct Double {
    pub kept: Kept,
    pub me: &'static str,
    pub can_forget: bool,
    pub closed: watch::Sender<bool>,
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap()
    }

    pub fn open(&self, me: &'static str) -> Double {
        Double { kept: self.clone(), me, can_forget: false, closed: watch::Sender::new(false) }
    }

    /// Adds a block as if it had come from a peer, in any state.
    pub fn inject(
        &self,
        author: &str,
        generation: u64,
        topics: Vec<Topic>,
        content: &[u8],
        state: BlockState,
    ) -> BlockInfo {
        let mut shelf = self.lock();
        let number = shelf.blocks.len() as u64;
        let id = BlockId::of_file(&[author.as_bytes(), &number.to_be_bytes(), content].concat());
        let info = BlockInfo {
            id,
            generation,
            parents: vec![BlockId::from_digest([0; 32])],
            creator: PublicKey::Ed25519([author.as_bytes()[0]; 32]),
            author: Author(author.into()),
            created_at_ms: i64::try_from(number).unwrap() * 1_000,
            topics,
            size: content.len() as u64,
            cursor: Cursor(shelf.events.len() as u64 + 1),
            state,
        };
        shelf.events.push((id, false));
        let place = shelf.blocks.len();
        shelf.places.insert(id, place);
        shelf.blocks.push(Stored { info: info.clone(), content: Bytes::copy_from_slice(content) });
        drop(shelf);
        self.moved.send_modify(|moved| *moved += 1);
        info
    }

    /// Says that a block counts, or no longer does.
    pub fn retract(&self, id: &BlockId, retracted: bool) {
        let mut shelf = self.lock();
        shelf.events.push((*id, retracted));
        let cursor = Cursor(shelf.events.len() as u64);
        let stored = shelf.find_mut(id);
        stored.info.state = if retracted { BlockState::Void { reason: "test" } } else { BlockState::Available };
        if !retracted {
            stored.info.cursor = cursor;
        }
        drop(shelf);
        self.moved.send_modify(|moved| *moved += 1);
    }

    /// Adds a block whose content is on its way: it is shown, and nobody is told before [`Self::arrive_and_tell`].
    pub fn announce(&self, author: &str, content: &[u8]) -> BlockId {
        let id = self.inject(author, 1, vec![], content, BlockState::Wanted).id;
        let mut shelf = self.lock();
        shelf.events.retain(|(told, _)| *told != id);
        shelf.find_mut(&id).info.cursor = Cursor(0);
        id
    }

    /// Lets the content of an announced block arrive.
    pub fn arrive_and_tell(&self, id: &BlockId) {
        self.retract(id, false);
    }

    /// Lets a content arrive; nobody is told.
    pub fn arrive(&self, id: &BlockId) {
        let mut shelf = self.lock();
        shelf.find_mut(id).info.state = BlockState::Available;
    }

    pub fn forgotten(&self) -> Vec<BlockId> {
        self.lock().forgotten.clone()
    }

    pub fn all(&self) -> Vec<(BlockInfo, Bytes)> {
        self.lock().blocks.iter().map(|stored| (stored.info.clone(), stored.content.clone())).collect()
    }

    pub fn blocks(&self) -> usize {
        self.lock().blocks.len()
    }

    /// Puts a block of another ledger here, as sync does: same id, later arrival.
    pub fn take(&self, info: &BlockInfo, content: &Bytes) {
        let mut shelf = self.lock();
        if shelf.find(&info.id).is_some() {
            return;
        }
        let place = shelf.blocks.len();
        shelf.places.insert(info.id, place);
        shelf.events.push((info.id, false));
        let info = BlockInfo { cursor: Cursor(shelf.events.len() as u64), ..info.clone() };
        shelf.blocks.push(Stored { info, content: content.clone() });
        drop(shelf);
        self.moved.send_modify(|moved| *moved += 1);
    }

    pub fn generation(&self) -> u64 {
        self.lock().blocks.iter().map(|stored| stored.info.generation).max().unwrap_or(0)
    }
}

impl Double {
    fn open(&self) -> Result<(), LedgerError> {
        if *self.closed.borrow() { Err(LedgerError::Closed) } else { Ok(()) }
    }
}

async fn bytes(content: Content) -> Result<Vec<u8>, LedgerError> {
    match content {
        Content::Bytes(bytes) => Ok(bytes.to_vec()),
        Content::Reader(mut reader) => {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).await.map_err(LedgerError::Read)?;
            Ok(bytes)
        }
    }
}

#[async_trait]
impl LedgerRead for Double {
    fn id(&self) -> ChainId {
        ChainId(BlockId::from_digest([0; 32]))
    }

    async fn get(&self, id: &BlockId) -> Result<Option<BlockInfo>, LedgerError> {
        Ok(self.kept.lock().find(id).map(|stored| stored.info.clone()))
    }

    async fn content(&self, id: &BlockId) -> Result<ContentReader, LedgerError> {
        let shelf = self.kept.lock();
        let stored = shelf.find(id);
        let stored = stored.ok_or(LedgerError::UnknownBlock { id: *id })?;
        match stored.info.state {
            BlockState::Available => Ok(Box::new(std::io::Cursor::new(stored.content.clone()))),
            _ => Err(LedgerError::Unavailable { id: *id, reason: "it is not here" }),
        }
    }

    async fn count(&self) -> Result<u64, LedgerError> {
        Ok(self.kept.lock().blocks.len() as u64)
    }

    async fn heads(&self) -> Result<Vec<BlockId>, LedgerError> {
        Ok(self.kept.lock().blocks.last().map(|stored| stored.info.id).into_iter().collect())
    }

    async fn query(&self, query: Query) -> Result<BoxStream<'static, Result<BlockInfo, LedgerError>>, LedgerError> {
        let mut found: Vec<BlockInfo> = self.kept.lock().blocks.iter().map(|stored| stored.info.clone()).collect();
        found.retain(|info| query.matches(info));
        if let Some(after) = query.after {
            let after = after.place(&self.id(), "", &query)?;
            let behind = |place| if query.reverse { place < after } else { place > after };
            found.retain(|info| behind(Place::of(query.order, info)));
        }
        match query.order {
            Order::Canonical => found.sort_by_key(|info| (info.generation, info.id)),
            Order::Arrival => found.sort_by_key(|info| info.cursor),
        }
        if query.reverse {
            found.reverse();
        }
        found.truncate(query.limit.unwrap_or(usize::MAX));
        Ok(stream::iter(found.into_iter().map(Ok)).boxed())
    }

    async fn subscribe(&self, from: SubscribeFrom) -> Result<Box<dyn Subscription>, LedgerError> {
        let (seat, position) = match from {
            SubscribeFrom::Now => (None, self.kept.lock().events.len()),
            SubscribeFrom::Cursor(cursor) => (None, usize::try_from(cursor.0).unwrap()),
            SubscribeFrom::Name(name) => {
                let seat = self.kept.subscribers.open(&name).await?;
                let acked = usize::try_from(seat.acked()).unwrap();
                (Some(seat), acked)
            }
        };
        let (closed, moved) = (self.closed.subscribe(), self.kept.moved.subscribe());
        Ok(Box::new(Follower { kept: self.kept.clone(), seat, position, closed, moved }))
    }

    async fn subscribers(&self) -> Result<Vec<Subscriber>, LedgerError> {
        let end = self.kept.lock().events.len() as u64;
        self.kept.subscribers.list(end).await
    }

    async fn acknowledge(&self, name: &str, ack: Ack) -> Result<(), LedgerError> {
        self.kept.subscribers.acknowledge(name, ack).await
    }

    async fn unsubscribe(&self, name: &str) -> Result<(), LedgerError> {
        self.kept.subscribers.remove(name).await
    }
}

#[derive(Debug)]
struct Follower {
    kept: Kept,
    seat: Option<Seat>,
    position: usize,
    closed: watch::Receiver<bool>,
    moved: watch::Receiver<u64>,
}

#[async_trait]
impl Subscription for Follower {
    async fn next(&mut self) -> Result<Option<LedgerEvent>, LedgerError> {
        loop {
            if *self.closed.borrow() {
                return Ok(None);
            }
            self.moved.mark_unchanged();
            while self.seat.as_ref().is_some_and(|seat| seat.is_acked(self.position as u64 + 1)) {
                self.position += 1;
            }
            {
                let shelf = self.kept.lock();
                if let Some((id, retracted)) = shelf.events.get(self.position) {
                    self.position += 1;
                    let cursor = Cursor(self.position as u64);
                    self.seat.iter().for_each(|seat| seat.deliver(cursor.0));
                    if *retracted {
                        return Ok(Some(LedgerEvent::Retracted { id: *id, cursor }));
                    }
                    let stored = shelf.find(id).unwrap();
                    return Ok(Some(LedgerEvent::Block(BlockInfo { cursor, ..stored.info.clone() })));
                }
            }
            tokio::select! {
                biased;
                _ = self.closed.changed() => {}
                _ = self.moved.changed() => {}
            }
        }
    }

    async fn begin(&mut self, cursor: Cursor) -> Result<u32, LedgerError> {
        match &self.seat {
            Some(seat) => seat.begin(cursor).await,
            None => Ok(1),
        }
    }

    async fn ack(&mut self, cursor: Cursor) -> Result<(), LedgerError> {
        match &self.seat {
            Some(seat) => seat.acknowledge(Ack::UpTo(cursor)).await,
            None => Ok(()),
        }
    }

    async fn ack_one(&mut self, cursor: Cursor) -> Result<(), LedgerError> {
        match &self.seat {
            Some(seat) => seat.acknowledge(Ack::One(cursor)).await,
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Ledger for Double {
    async fn add(&self, block: NewBlock) -> Result<BlockInfo, LedgerError> {
        self.add_many(vec![block]).await?.pop().ok_or(LedgerError::Closed)
    }

    async fn add_many(&self, blocks: Vec<NewBlock>) -> Result<Vec<BlockInfo>, LedgerError> {
        if blocks.iter().flat_map(|block| &block.topics).any(Topic::is_reserved) {
            return Err(LedgerError::Topic(TopicError::Reserved));
        }
        self.add_overlay(blocks).await
    }

    async fn add_overlay(&self, blocks: Vec<NewBlock>) -> Result<Vec<BlockInfo>, LedgerError> {
        self.open()?;
        let mut taken = Vec::new();
        for block in blocks {
            let unique: std::collections::BTreeSet<_> = block.topics.iter().collect();
            if block.topics.len() > TOPICS_MAX || unique.len() != block.topics.len() {
                return Err(LedgerError::Topics);
            }
            taken.push((block.topics.clone(), bytes(block.content).await?));
        }
        let added = taken.into_iter().map(|(topics, content)| {
            let generation = self.kept.generation() + 1;
            self.kept.inject(self.me, generation, topics, &content, BlockState::Available)
        });
        Ok(added.collect())
    }

    async fn author(&self) -> Result<Author, LedgerError> {
        Ok(Author(self.me.into()))
    }

    async fn forget(&self, ids: &[BlockId]) -> Result<(), LedgerError> {
        if !self.can_forget {
            return Err(LedgerError::Unsupported { what: "forgetting" });
        }
        let mut shelf = self.kept.lock();
        for stored in shelf.blocks.iter_mut().filter(|stored| ids.contains(&stored.info.id)) {
            stored.info.state = BlockState::Forgotten;
        }
        shelf.forgotten.extend(ids);
        Ok(())
    }
}

#[async_trait]
impl LedgerControl for Double {
    async fn status(&self) -> Result<LedgerStatus, LedgerError> {
        Ok(LedgerStatus { blocks: self.count().await?, heads: self.heads().await?, ..LedgerStatus::default() })
    }

    async fn shutdown(&self) {
        self.closed.send_replace(true);
    }

    async fn delete(&self) -> Result<(), LedgerError> {
        self.shutdown().await;
        *self.kept.lock() = Shelf::default();
        Ok(())
    }
}
