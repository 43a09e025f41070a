//! Blocks with an unknown ancestor, bounded.

use std::collections::{BTreeMap, BTreeSet};

use crate::block::Block;
use crate::id::{BlockId, PeerId};
use crate::limits::{PENDING_BLOCKS_MAX, PENDING_BLOCKS_PER_PEER_MAX, PENDING_BYTES_MAX};

/// Unknown ancestors named at once. Chosen: one request's worth.
const MISSING_MAX: usize = 1_024;

/// Verified blocks that wait for ancestors. Over a bound the oldest block of the peer that holds most bytes goes;
/// dropping one loses nothing, it can be asked for again.
#[derive(Debug, Default)]
pub(super) struct Pending {
    blocks: BTreeMap<BlockId, Held>,
    /// Which pending blocks wait for an unknown or pending parent.
    children: BTreeMap<BlockId, BTreeSet<BlockId>>,
    peers: BTreeMap<Option<PeerId>, Share>,
    bytes: usize,
    clock: u64,
}

#[derive(Debug)]
struct Held {
    block: Block,
    lacking: BTreeSet<BlockId>,
    from: Option<PeerId>,
    age: u64,
}

/// What one peer has us hold.
#[derive(Debug, Default)]
struct Share {
    bytes: usize,
    by_age: BTreeMap<u64, BlockId>,
}

impl Pending {
    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }

    pub(super) fn contains(&self, id: &BlockId) -> bool {
        self.blocks.contains_key(id)
    }

    /// Holds a block until none of `lacking` is unknown any more.
    pub(super) fn insert(&mut self, block: Block, lacking: BTreeSet<BlockId>, from: Option<PeerId>) {
        let id = block.id();
        if self.contains(&id) {
            return;
        }
        self.clock += 1;
        for parent in &lacking {
            self.children.entry(*parent).or_default().insert(id);
        }
        self.bytes += block.file().len();
        let share = self.peers.entry(from.clone()).or_default();
        share.bytes += block.file().len();
        share.by_age.insert(self.clock, id);
        self.blocks.insert(id, Held { block, lacking, from: from.clone(), age: self.clock });
        self.shrink(&from);
    }

    fn shrink(&mut self, from: &Option<PeerId>) {
        while self.peers.get(from).is_some_and(|share| share.by_age.len() > PENDING_BLOCKS_PER_PEER_MAX) {
            self.drop_oldest_of(&from.clone());
        }
        while self.blocks.len() > PENDING_BLOCKS_MAX || self.bytes > PENDING_BYTES_MAX {
            let most = self.peers.iter().max_by_key(|(_, share)| share.bytes).map(|(peer, _)| peer.clone());
            let Some(peer) = most else { return };
            self.drop_oldest_of(&peer);
        }
    }

    fn drop_oldest_of(&mut self, peer: &Option<PeerId>) {
        let oldest = self.peers.get(peer).and_then(|share| share.by_age.first_key_value()).map(|(_, id)| *id);
        if let Some(id) = oldest {
            self.remove(&id);
        }
    }

    fn remove(&mut self, id: &BlockId) -> Option<Block> {
        let held = self.blocks.remove(id)?;
        for parent in &held.lacking {
            if let Some(children) = self.children.get_mut(parent) {
                children.remove(id);
                if children.is_empty() {
                    self.children.remove(parent);
                }
            }
        }
        self.bytes = self.bytes.saturating_sub(held.block.file().len());
        if let Some(share) = self.peers.get_mut(&held.from) {
            share.bytes = share.bytes.saturating_sub(held.block.file().len());
            share.by_age.remove(&held.age);
            if share.by_age.is_empty() {
                self.peers.remove(&held.from);
            }
        }
        Some(held.block)
    }

    /// Says that `id` is known now; returns the blocks that lacked nothing else.
    pub(super) fn release(&mut self, id: &BlockId) -> Vec<Block> {
        let mut free = Vec::new();
        for child in self.children.remove(id).unwrap_or_default() {
            if let Some(held) = self.blocks.get_mut(&child) {
                held.lacking.remove(id);
                if held.lacking.is_empty() {
                    free.extend(self.remove(&child));
                }
            }
        }
        free
    }

    /// Drops everything that descends from `id`.
    pub(super) fn drop_descendants(&mut self, id: &BlockId) {
        let mut walk = vec![*id];
        while let Some(id) = walk.pop() {
            for child in self.children.get(&id).cloned().unwrap_or_default() {
                self.remove(&child);
                walk.push(child);
            }
        }
    }

    /// Returns the ancestors to ask for: unknown, not pending themselves, ascending, at most 1,024.
    pub(super) fn missing(&self) -> Vec<BlockId> {
        self.children.keys().filter(|id| !self.blocks.contains_key(id)).take(MISSING_MAX).copied().collect()
    }
}
