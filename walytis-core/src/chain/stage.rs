//! Blocks on their way into one commit.

use std::collections::{BTreeMap, BTreeSet};

use super::core::{Inner, Node, Summary, WantedBlob};
use super::heads::Heads;
use super::schema::{self, Keys, Meta, NodeRecord, Tag};
use super::sums::{Added, Sums};
use crate::block::{Block, ContentRef};
use crate::id::BlockId;
use crate::ledger::LedgerError;
use crate::store::{Batch, Durability};

/// Heads and counters of a chain, as of the last commit and what is staged on it.
#[derive(Debug)]
pub(super) struct Tip {
    pub(super) meta: Meta,
    pub(super) heads: Heads,
    /// The arrival number given out last. Larger than the count once a skeleton became an ordinary block.
    pub(super) arrival: u64,
    pub(super) sums: Sums,
}

impl Tip {
    /// Returns what is told of it.
    pub(super) fn summary(&self) -> Summary {
        Summary { count: self.meta.count, generation: self.meta.generation, heads: self.heads.ids() }
    }
}

/// How a block enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// This node's own; its blob, if any, is here.
    Own,
    /// From a peer.
    Peer,
    /// From a peer; its blob is here already.
    PeerComplete,
    /// Kept only because an admissible block descends from it; its blob is never fetched.
    Skeleton,
}

/// Everything that one commit will change. Dropped without [`Stage::commit`] it must be undone with [`Stage::undo`].
#[derive(Debug)]
pub(super) struct Stage {
    before: (Meta, u64),
    batch: Batch,
    nodes: BTreeMap<BlockId, Node>,
    heads_added: BTreeSet<BlockId>,
    heads_removed: BTreeMap<BlockId, (u64, u64)>,
    added: Added,
    wanted: Vec<WantedBlob>,
}

impl Stage {
    pub(super) fn new(tip: &Tip) -> Self {
        Self {
            before: (tip.meta, tip.arrival),
            batch: Batch::new(),
            nodes: BTreeMap::new(),
            heads_added: BTreeSet::new(),
            heads_removed: BTreeMap::new(),
            added: Added::default(),
            wanted: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    pub(super) fn node(&self, id: &BlockId) -> Option<&Node> {
        self.nodes.get(id)
    }

    /// Returns staged ones of `ids` with their generations, in the order of `ids`.
    pub(super) fn generations(&self, ids: &[BlockId]) -> Vec<(BlockId, u64)> {
        ids.iter().filter_map(|id| self.nodes.get(id).map(|node| (*id, node.generation))).collect()
    }

    pub(super) fn batch(&mut self) -> &mut Batch {
        &mut self.batch
    }

    /// Adds a block whose parents are all admitted or staged: file, node, indices, head and arrival number, which is
    /// returned.
    pub(super) fn insert(&mut self, keys: &Keys, tip: &mut Tip, block: &Block, entry: Entry) -> u64 {
        let (id, header) = (block.id(), block.header());
        tip.meta.count += 1;
        tip.meta.generation = tip.meta.generation.max(header.generation);
        tip.arrival += 1;
        let arrival = tip.arrival;
        self.move_heads(tip, block, arrival);
        self.added.add(header.generation, &id);
        self.batch.put(keys.of_block(Tag::File, &id), block.file().clone());
        self.index(keys, block, arrival, entry);
        self.nodes.insert(id, Node::of(header, arrival));
        arrival
    }

    /// Makes a skeleton an ordinary block, which arrives now: subscribers did not see it before. `skeleton`: its arrival
    /// number as a skeleton. It stays where it is in the graph; a skeleton is never a head.
    pub(super) fn promote(&mut self, keys: &Keys, tip: &mut Tip, block: &Block, skeleton: u64, entry: Entry) {
        let (id, header) = (block.id(), block.header());
        tip.arrival += 1;
        let batch = &mut self.batch;
        batch.delete(keys.of_block(Tag::Skeleton, &id));
        batch.delete(keys.arrival(skeleton));
        batch.delete(keys.creator_arrival(&header.creator, skeleton));
        for topic in &header.topics {
            batch.delete(keys.topic_arrival(topic, skeleton));
        }
        self.index(keys, block, tip.arrival, entry);
        self.nodes.insert(id, Node::of(header, tip.arrival));
    }

    /// Writes everything by which a block is found.
    fn index(&mut self, keys: &Keys, block: &Block, arrival: u64, entry: Entry) {
        let (id, header) = (block.id(), block.header());
        let batch = &mut self.batch;
        let number = schema::number(arrival);
        let place = bytes::Bytes::copy_from_slice(id.digest());
        let skeleton = entry == Entry::Skeleton;
        batch.put(keys.of_block(Tag::Node, &id), NodeRecord::encode(arrival, skeleton, block.header_bytes()));
        batch.put(keys.canonical(header.generation, &id), number.clone());
        batch.put(keys.arrival(arrival), place.clone());
        for topic in &header.topics {
            batch.put(keys.topic(topic, header.generation, &id), number.clone());
            batch.put(keys.topic_arrival(topic, arrival), place.clone());
        }
        batch.put(keys.creator(&header.creator, header.generation, &id), number);
        batch.put(keys.creator_arrival(&header.creator, arrival), place);
        if let ContentRef::Blob { root, len } = &header.content {
            let value = schema::blob(root, *len);
            batch.put(keys.blob(root, &id), value.clone());
            if entry == Entry::Peer {
                batch.put(keys.of_block(Tag::Wanted, &id), value);
                self.wanted.push(WantedBlob { block: id, blob: *root, len: *len });
            }
        }
        if skeleton {
            batch.put(keys.of_block(Tag::Skeleton, &id), bytes::Bytes::new());
        }
    }

    fn move_heads(&mut self, tip: &mut Tip, block: &Block, arrival: u64) {
        for parent in &block.header().parents {
            if let Some(place) = tip.heads.remove(parent)
                && !self.heads_added.remove(parent)
            {
                self.heads_removed.insert(*parent, place);
            }
        }
        tip.heads.insert(block.id(), block.header().generation, arrival);
        self.heads_added.insert(block.id());
    }

    /// Commits everything and publishes it; if that fails, nothing has changed.
    pub(super) async fn commit(
        mut self,
        core: &Inner,
        tip: &mut Tip,
        durability: Durability,
    ) -> Result<(), LedgerError> {
        let mut batch = self.finish(&core.table.keys, tip);
        let committed = async {
            let sums = tip.sums.put(&core.table, &self.added, &mut batch).await?;
            core.table.commit(batch, durability).await.map(|()| sums)
        };
        match committed.await {
            Ok(sums) => tip.sums.keep(sums),
            Err(error) => {
                self.undo(tip);
                return Err(error);
            }
        }
        core.table.remember(self.nodes);
        core.fresh.add(self.wanted);
        Ok(())
    }

    /// Returns the batch of a chain that is not open yet.
    pub(super) fn into_batch(mut self, keys: &Keys, tip: &Tip) -> Batch {
        let mut batch = self.finish(keys, tip);
        self.added.put_first(keys, &mut batch);
        batch
    }

    fn finish(&mut self, keys: &Keys, tip: &Tip) -> Batch {
        for id in self.heads_removed.keys() {
            self.batch.delete(keys.of_block(Tag::Head, id));
        }
        for (id, node) in self.heads_added.iter().filter_map(|id| self.nodes.get(id).map(|node| (id, node))) {
            self.batch.put(keys.of_block(Tag::Head, id), schema::head(node.generation, node.arrival));
        }
        self.batch.put(keys.meta(), tip.meta.encode());
        std::mem::take(&mut self.batch)
    }

    /// Forgets everything that was staged.
    pub(super) fn take_back(&mut self, tip: &mut Tip) {
        std::mem::replace(self, Self::new(tip)).undo(tip);
        *self = Self::new(tip);
    }

    /// Puts heads and counters back as they were.
    pub(super) fn undo(self, tip: &mut Tip) {
        for id in &self.heads_added {
            tip.heads.remove(id);
        }
        for (id, (generation, arrival)) in self.heads_removed {
            tip.heads.insert(id, generation, arrival);
        }
        (tip.meta, tip.arrival) = self.before;
    }
}
