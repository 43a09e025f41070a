//! Blocks that are valid in themselves and cannot enter yet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::CanonicalKey;
use crate::block::Block;
use crate::id::{BlockId, PeerId};
use crate::limits::{PENDING_BLOCKS_MAX, PENDING_BLOCKS_PER_PEER_MAX, PENDING_BYTES_MAX, PENDING_BYTES_PER_PEER_MAX};

/// What holding a block is counted as beyond its file, in bytes, and again per missing ancestor: the index entries.
/// Guess, on the high side.
const ENTRY_COST: usize = 512;

/// How much may be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingLimits {
    /// Blocks of all peers together.
    pub blocks: usize,
    /// Bytes of all peers together, bookkeeping included.
    pub bytes: usize,
    /// Blocks of one peer.
    pub peer_blocks: usize,
    /// Bytes of one peer, bookkeeping included.
    pub peer_bytes: usize,
}

impl Default for PendingLimits {
    fn default() -> Self {
        Self {
            blocks: PENDING_BLOCKS_MAX,
            bytes: PENDING_BYTES_MAX,
            peer_blocks: PENDING_BLOCKS_PER_PEER_MAX,
            peer_bytes: PENDING_BYTES_PER_PEER_MAX,
        }
    }
}

/// A block that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingBlock {
    /// The block.
    pub block: Block,
    /// Who sent it; nothing if it came from this machine.
    pub from: Option<PeerId>,
    /// When it was first held, on the caller's clock.
    pub since: Duration,
}

/// What became of a block that was to be held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It is held; to make room, these (possibly the block itself) were dropped and can be asked for again.
    Held {
        /// Dropped blocks, in the order they were dropped.
        dropped: Vec<BlockId>,
    },
    /// It was held before; nothing changed.
    Known,
}

#[derive(Debug)]
struct Entry {
    pending: PendingBlock,
    /// Parents that are not admitted; empty when only the policy keeps the block out.
    missing: BTreeSet<BlockId>,
    age: Age,
    cost: usize,
}

/// Oldest first; the number tells apart what came at the same time.
type Age = (Duration, u64);

#[derive(Debug, Default)]
struct Share {
    bytes: usize,
    by_age: BTreeMap<Age, BlockId>,
}

/// Pending blocks: some ancestor is not admitted, or the admission policy said *wait*.
///
/// Bounded per peer and in total. When full, the oldest block of the peer that takes the most bytes goes first, so that
/// a flood displaces itself. Dropping loses nothing: the block can be asked for again. The bytes counted are those of
/// the file: the caller sees to it that a file is not a slice of a larger buffer, which would stay in memory with it.
#[derive(Debug, Default)]
pub struct PendingBlocks {
    limits: PendingLimits,
    entries: BTreeMap<BlockId, Entry>,
    /// Missing ancestor → pending children.
    children: BTreeMap<BlockId, BTreeSet<BlockId>>,
    /// Missing ancestors that are not themselves pending.
    unknown: BTreeSet<BlockId>,
    shares: BTreeMap<Option<PeerId>, Share>,
    /// (bytes, peer), so that the most wasteful peer is found without a scan.
    by_waste: BTreeSet<(usize, Option<PeerId>)>,
    by_age: BTreeMap<Age, BlockId>,
    bytes: usize,
    counter: u64,
}

impl PendingBlocks {
    /// Returns an empty set with these limits.
    pub fn new(limits: PendingLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Holds a block. `missing`: those of its parents that are not admitted, whether pending or unknown; empty when the
    /// policy said *wait*.
    pub fn insert(&mut self, pending: PendingBlock, missing: BTreeSet<BlockId>) -> Hold {
        let id = pending.block.id();
        if self.entries.contains_key(&id) {
            return Hold::Known;
        }
        self.counter += 1;
        let age = (pending.since, self.counter);
        let cost = pending.block.file().len().saturating_add(ENTRY_COST.saturating_mul(1 + missing.len()));
        self.take_share(&pending.from, age, id, cost);
        self.unknown.remove(&id);
        for parent in &missing {
            self.children.entry(*parent).or_default().insert(id);
            if !self.entries.contains_key(parent) {
                self.unknown.insert(*parent);
            }
        }
        let from = pending.from.clone();
        self.entries.insert(id, Entry { pending, missing, age, cost });
        Hold::Held { dropped: self.make_room(&from) }
    }

    /// Takes note that `id` was admitted and releases the blocks for which it was the last missing parent, in canonical
    /// order. The caller judges each and calls this again for what it admits, so parents always come first.
    pub fn resolve(&mut self, id: &BlockId) -> Vec<PendingBlock> {
        self.remove(id);
        self.unknown.remove(id);
        let mut ready: Vec<CanonicalKey> = Vec::new();
        for child in self.children.remove(id).unwrap_or_default() {
            if let Some(entry) = self.entries.get_mut(&child) {
                entry.missing.remove(id);
                if entry.missing.is_empty() {
                    ready.push(CanonicalKey::of(&entry.pending.block));
                }
            }
        }
        self.release(ready)
    }

    /// Releases all blocks that wait for the policy alone, in canonical order: to be judged again after it changed.
    /// What must wait on is inserted again as it is and keeps its age.
    pub fn take_waiting(&mut self) -> Vec<PendingBlock> {
        let waiting = self.entries.values().filter(|entry| entry.missing.is_empty());
        let ready = waiting.map(|entry| CanonicalKey::of(&entry.pending.block)).collect();
        self.release(ready)
    }

    /// Removes a block that was refused, and with it every pending descendant, which can never be admitted. Returns
    /// what was removed, ascending.
    pub fn discard(&mut self, id: &BlockId) -> Vec<BlockId> {
        let mut todo = vec![*id];
        let mut gone = BTreeSet::new();
        while let Some(next) = todo.pop() {
            todo.extend(self.children.get(&next).into_iter().flatten().filter(|child| !gone.contains(*child)));
            if self.remove(&next).is_some() {
                gone.insert(next);
            }
        }
        gone.into_iter().collect()
    }

    /// Drops what has been held for `age_max` or longer. Returns it, oldest first.
    pub fn expire(&mut self, now: Duration, age_max: Duration) -> Vec<BlockId> {
        let mut dropped = Vec::new();
        while let Some((&(since, _), &id)) = self.by_age.first_key_value() {
            if now.saturating_sub(since) < age_max {
                break;
            }
            self.remove(&id);
            dropped.push(id);
        }
        dropped
    }

    /// Returns the pending ancestors of a pending block and the block, parents first, if none of them lacks an unknown
    /// ancestor: what would enter with it if it were admitted.
    pub fn closure(&self, id: &BlockId) -> Option<Vec<BlockId>> {
        let mut todo = vec![*id];
        let mut closure = BTreeMap::new();
        while let Some(next) = todo.pop() {
            let entry = self.entries.get(&next)?;
            if closure.insert(CanonicalKey::of(&entry.pending.block), next).is_none() {
                todo.extend(entry.missing.iter().copied());
            }
        }
        Some(closure.into_values().collect())
    }

    /// Returns the ancestors to ask for: missing and not pending themselves.
    pub const fn missing(&self) -> &BTreeSet<BlockId> {
        &self.unknown
    }

    /// Returns a pending block.
    pub fn get(&self, id: &BlockId) -> Option<&PendingBlock> {
        self.entries.get(id).map(|entry| &entry.pending)
    }

    /// Says whether the block is pending.
    pub fn contains(&self, id: &BlockId) -> bool {
        self.entries.contains_key(id)
    }

    /// Returns the ids of all pending blocks, ascending.
    pub fn ids(&self) -> impl Iterator<Item = BlockId> + '_ {
        self.entries.keys().copied()
    }

    /// Returns how many blocks are pending.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Says whether none is pending.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the bytes held, bookkeeping included.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    fn release(&mut self, mut ready: Vec<CanonicalKey>) -> Vec<PendingBlock> {
        ready.sort_unstable();
        ready.iter().filter_map(|key| self.remove(&key.id)).collect()
    }

    fn make_room(&mut self, from: &Option<PeerId>) -> Vec<BlockId> {
        let mut dropped = Vec::new();
        loop {
            let share = self.shares.get(from);
            let peer_over = share.is_some_and(|share| {
                share.by_age.len() > self.limits.peer_blocks || share.bytes > self.limits.peer_bytes
            });
            let victim = if peer_over {
                share
            } else if self.entries.len() > self.limits.blocks || self.bytes > self.limits.bytes {
                self.by_waste.last().and_then(|(_, peer)| self.shares.get(peer))
            } else {
                None
            };
            let Some(oldest) = victim.and_then(|share| share.by_age.values().next().copied()) else {
                return dropped;
            };
            self.remove(&oldest);
            dropped.push(oldest);
        }
    }

    fn take_share(&mut self, from: &Option<PeerId>, age: Age, id: BlockId, cost: usize) {
        let share = self.shares.entry(from.clone()).or_default();
        self.by_waste.remove(&(share.bytes, from.clone()));
        share.bytes += cost;
        share.by_age.insert(age, id);
        self.by_waste.insert((share.bytes, from.clone()));
        self.by_age.insert(age, id);
        self.bytes += cost;
    }

    fn give_share(&mut self, from: &Option<PeerId>, age: &Age, cost: usize) {
        self.by_age.remove(age);
        self.bytes -= cost;
        let Some(share) = self.shares.get_mut(from) else { return };
        self.by_waste.remove(&(share.bytes, from.clone()));
        share.bytes -= cost;
        share.by_age.remove(age);
        if share.by_age.is_empty() {
            self.shares.remove(from);
        } else {
            self.by_waste.insert((share.bytes, from.clone()));
        }
    }

    fn remove(&mut self, id: &BlockId) -> Option<PendingBlock> {
        let Entry { pending, missing, age, cost } = self.entries.remove(id)?;
        self.give_share(&pending.from, &age, cost);
        for parent in &missing {
            let Some(children) = self.children.get_mut(parent) else { continue };
            children.remove(id);
            if children.is_empty() {
                self.children.remove(parent);
                self.unknown.remove(parent);
            }
        }
        // Its own children now lack an ancestor that is no longer here.
        if self.children.contains_key(id) {
            self.unknown.insert(*id);
        }
        Some(pending)
    }
}
