//! Typed reading of a chain's part of the store, with the nodes used last in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tracing::{error, warn};

use super::cache::{LastAuthor, NodeCache};
use super::core::{FetchMode, Node};
use super::damage::{self, Damage};
use super::heads::Heads;
use super::schema::{Keys, Meta, NodeRecord, Tag, id_at_end, number_at_end, read_fetch_mode, read_head};
use super::stage::Tip;
use crate::block::{Block, UnverifiedBlock};
use crate::id::{BlockId, ChainId};
use crate::key::PublicKey;
use crate::ledger::{Author, LedgerError};
use crate::store::{Batch, Direction, Durability, KeyRange, KvStore, StoreError};

/// Heads read in one step while a chain opens.
const HEADS_PAGE: usize = 4_096;

/// The stored part of one chain.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) keys: Keys,
    chain: ChainId,
    store: Arc<dyn KvStore>,
    cache: Mutex<NodeCache>,
    author: Mutex<LastAuthor>,
    pub(super) damage: Damage,
}

impl Table {
    pub(super) fn new(chain: ChainId, store: Arc<dyn KvStore>) -> Self {
        Self {
            keys: Keys::new(&chain),
            chain,
            store,
            cache: Mutex::default(),
            author: Mutex::default(),
            damage: Damage::new(),
        }
    }

    /// Returns the store itself, whose errors are not noted and whose writes are not refused: for a repair, and for
    /// readings that note their errors themselves.
    pub(super) const fn store(&self) -> &Arc<dyn KvStore> {
        &self.store
    }

    /// Forgets the nodes in memory.
    pub(super) fn forget(&self) {
        *self.cache() = NodeCache::default();
    }

    /// Returns why the chain is damaged, if it is.
    pub(super) fn damage(&self) -> Option<String> {
        self.damage.reason()
    }

    /// Marks the chain damaged if the store holds what cannot be.
    pub(super) fn note<T>(&self, result: Result<T, StoreError>) -> Result<T, LedgerError> {
        result.map_err(|error| {
            if matches!(error, StoreError::Corrupt { .. } | StoreError::Damaged { .. }) {
                self.mark(error.to_string());
            }
            LedgerError::Store(error)
        })
    }

    /// Makes the chain read-only; the first reason stays.
    pub(super) fn mark(&self, reason: String) {
        if self.damage.set(reason.clone()) {
            error!(chain = ?self.chain, reason, "chain is damaged and read-only from now on");
        }
    }

    /// Takes over the mark that was stored, if any.
    pub(super) async fn load_mark(&self) -> Result<(), LedgerError> {
        let key = self.keys.damage();
        if let Some(bytes) = self.get(&key).await? {
            self.damage.set(damage::decode(&key, &bytes));
        }
        Ok(())
    }

    /// Stores the mark of a damaged chain, or removes that of a whole one. If that fails the mark stays in memory.
    pub(super) async fn keep_mark(&self) {
        let key = self.keys.damage();
        let mut batch = Batch::new();
        match self.damage() {
            Some(reason) => batch.put(key, damage::encode(&reason)),
            None => batch.delete(key),
        };
        if let Err(error) = self.store.commit(batch, Durability::Flushed).await {
            warn!(chain = ?self.chain, %error, "the mark of a damaged chain could not be stored");
        }
    }

    pub(super) async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, LedgerError> {
        self.note(self.store.get(key).await)
    }

    pub(super) async fn get_many(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, LedgerError> {
        self.note(self.store.get_many(keys).await)
    }

    pub(super) async fn scan(
        &self,
        range: KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, LedgerError> {
        self.note(self.store.scan(range, direction, limit).await)
    }

    pub(super) async fn commit(&self, batch: Batch, durability: Durability) -> Result<(), LedgerError> {
        if let Some(reason) = self.damage() {
            return Err(LedgerError::Damaged { reason });
        }
        self.note(self.store.commit(batch, durability).await)
    }

    /// Removes everything, damaged or not.
    pub(super) async fn clear(&self) -> Result<(), LedgerError> {
        let mut batch = Batch::new();
        batch.delete_range(self.keys.everything());
        Ok(self.store.commit(batch, Durability::Flushed).await?)
    }

    /// Reads heads and counters; what damage is met is noted for ever.
    pub(super) async fn tip(&self) -> Result<Tip, LedgerError> {
        match self.open().await {
            Ok(Some(opened)) => Ok(opened),
            Ok(None) => {
                let reason = "its counters are missing".to_owned();
                self.mark(reason.clone());
                self.keep_mark().await;
                Err(LedgerError::Damaged { reason })
            }
            Err(error) => {
                if self.damage.is_set() {
                    self.keep_mark().await;
                }
                Err(error)
            }
        }
    }

    /// Returns counters and heads: all that opening a chain reads.
    pub(super) async fn open(&self) -> Result<Option<Tip>, LedgerError> {
        let key = self.keys.meta();
        let Some(bytes) = self.get(&key).await? else { return Ok(None) };
        let meta = self.note(Meta::decode(&key, &bytes))?;
        let mut heads = Heads::default();
        let mut range = self.keys.all(Tag::Head);
        loop {
            let page = self.scan(range.clone(), Direction::Forward, HEADS_PAGE).await?;
            for (key, value) in &page {
                let id = self.note(id_at_end(key))?;
                let (generation, arrival) = self.note(read_head(key, value))?;
                heads.insert(id, generation, arrival);
            }
            match page.last() {
                Some((key, _)) if page.len() == HEADS_PAGE => range.start = behind(key),
                _ => break,
            }
        }
        let last = self.scan(self.keys.all(Tag::Arrival), Direction::Reverse, 1).await?;
        let arrival = last.first().map(|(key, _)| self.note(number_at_end(key))).transpose()?.unwrap_or(0);
        if heads.is_empty() || meta.count == 0 || arrival < meta.count {
            return self.note(Err(StoreError::corrupt(&key, "a chain without heads")));
        }
        Ok(Some(Tip { meta, heads, arrival, sums: super::sums::Sums::default() }))
    }

    /// Returns which blobs are fetched.
    pub(super) async fn fetch_mode(&self) -> Result<FetchMode, LedgerError> {
        let key = self.keys.fetch();
        let stored = self.get(&key).await?;
        self.note(stored.map_or(Ok(FetchMode::default()), |bytes| read_fetch_mode(&key, &bytes)))
    }

    /// Returns the records of blocks, in the order of `ids`.
    pub(super) async fn records(&self, ids: &[BlockId]) -> Result<Vec<Option<NodeRecord>>, LedgerError> {
        let keys: Vec<_> = ids.iter().map(|id| self.keys.of_block(Tag::Node, id)).collect();
        let values = self.get_many(&keys).await?;
        let decode =
            |(key, value): (&Vec<u8>, Option<Bytes>)| value.map(|value| NodeRecord::decode(key, &value)).transpose();
        self.note(keys.iter().zip(values).map(decode).collect())
    }

    /// Returns the nodes of admitted blocks, in the order of `ids`; from memory where they are there.
    pub(super) async fn nodes(&self, ids: &[BlockId]) -> Result<Vec<Option<Node>>, LedgerError> {
        let mut found: Vec<Option<Node>> = {
            let mut cache = self.cache();
            ids.iter().map(|id| cache.get(id)).collect()
        };
        let absent: Vec<BlockId> =
            ids.iter().zip(&found).filter(|(_, node)| node.is_none()).map(|(id, _)| *id).collect();
        if absent.is_empty() {
            return Ok(found);
        }
        let read = self.records(&absent).await?;
        let read: BTreeMap<BlockId, Node> = absent
            .into_iter()
            .zip(read)
            .filter_map(|(id, record)| record.map(|record| (id, Node::of(&record.header, record.arrival))))
            .collect();
        let mut cache = self.cache();
        for (id, slot) in ids.iter().zip(&mut found) {
            if let (None, Some(node)) = (&slot, read.get(id)) {
                cache.insert(*id, node.clone());
                *slot = Some(node.clone());
            }
        }
        Ok(found)
    }

    /// Keeps nodes that were just committed.
    pub(super) fn remember(&self, nodes: impl IntoIterator<Item = (BlockId, Node)>) {
        let mut cache = self.cache();
        nodes.into_iter().for_each(|(id, node)| cache.insert(id, node));
    }

    /// Says whether nodes are kept.
    pub(super) fn remembers(&self) -> bool {
        !self.cache().is_empty()
    }

    /// Forgets all nodes; they are read again when they are needed.
    pub(super) fn forget_nodes(&self) {
        *self.cache() = NodeCache::default();
    }

    /// Returns block files, in the order of `ids`; each is what its id names.
    pub(super) async fn files(&self, ids: &[BlockId]) -> Result<Vec<Option<Bytes>>, LedgerError> {
        let keys: Vec<_> = ids.iter().map(|id| self.keys.of_block(Tag::File, id)).collect();
        let values = self.get_many(&keys).await?;
        for ((key, value), id) in keys.iter().zip(&values).zip(ids) {
            if value.as_ref().is_some_and(|file| BlockId::of_file(file) != *id) {
                return self.note(Err(StoreError::corrupt(key, "the block file does not have the digest of its id")));
            }
        }
        Ok(values)
    }

    /// Returns a stored block.
    pub(super) async fn block(&self, id: &BlockId) -> Result<Option<Block>, LedgerError> {
        let Some(file) = self.files(&[*id]).await?.pop().flatten() else { return Ok(None) };
        let decoded = UnverifiedBlock::decode(file)
            .map_err(|violation| StoreError::corrupt(&self.keys.of_block(Tag::File, id), violation));
        self.note(decoded).map(|block| Some(block.trust_stored()))
    }

    /// Returns the author of blocks that this key signed.
    pub(super) fn author(&self, creator: &PublicKey) -> Author {
        self.author.lock().unwrap_or_else(PoisonError::into_inner).of(creator)
    }

    fn cache(&self) -> MutexGuard<'_, NodeCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the lowest key above `key`.
pub(super) fn behind(key: &[u8]) -> Vec<u8> {
    let mut next = key.to_vec();
    next.push(0);
    next
}
