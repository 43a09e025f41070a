//! Blocks whose rules hold and whose ancestors are all here, and to which the admission policy says "not yet".

use std::collections::{BTreeMap, BTreeSet};

use super::{CanonicalKey, PendingLimits};
use crate::block::Block;
use crate::id::{BlockId, PeerId};

/// What holding a block is counted as beyond its file, in bytes, and again per parent: the index entries.
/// Guess, on the high side.
const ENTRY_COST: usize = 512;

/// A block that waits for the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingBlock {
    /// The block.
    pub block: Block,
    /// Who sent it; nothing if it came from this machine.
    pub from: Option<PeerId>,
}

#[derive(Debug)]
struct Entry {
    held: WaitingBlock,
    age: u64,
    cost: usize,
    /// Waiting blocks that name this one as a parent.
    children: BTreeSet<BlockId>,
}

#[derive(Debug, Default)]
struct Share {
    bytes: usize,
    by_age: BTreeMap<u64, BlockId>,
    /// Those of them on which no waiting block rests, by age.
    leaves: BTreeMap<u64, BlockId>,
}

/// Blocks that wait for the policy: every parent is admitted or waits here too.
///
/// Bounded per peer and in total, like [`PendingBlocks`](super::PendingBlocks). When full, a block of the peer that
/// takes the most bytes goes: the oldest on which nothing rests, so that of many half-received lines one after the
/// other becomes whole. What rests on a dropped block goes with it, as its ancestors would no longer be here. Dropping
/// loses nothing: blocks can be asked for again. Each step costs the logarithm of what is held.
#[derive(Debug, Default)]
pub struct WaitingBlocks {
    limits: PendingLimits,
    entries: BTreeMap<BlockId, Entry>,
    shares: BTreeMap<Option<PeerId>, Share>,
    /// (bytes, peer), so that the most wasteful peer is found without a scan.
    by_waste: BTreeSet<(usize, Option<PeerId>)>,
    bytes: usize,
    counter: u64,
}

impl WaitingBlocks {
    /// Returns an empty set with these limits.
    pub fn new(limits: PendingLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Holds a block whose parents are all admitted or held here. Returns what was dropped to make room, possibly the
    /// block itself. Harmless when it is held.
    pub fn insert(&mut self, held: WaitingBlock) -> Vec<BlockId> {
        let (id, from) = (held.block.id(), held.from.clone());
        if self.entries.contains_key(&id) {
            return Vec::new();
        }
        self.counter += 1;
        let age = self.counter;
        let parents = held.block.header().parents.len();
        let cost = held.block.file().len().saturating_add(ENTRY_COST.saturating_mul(1 + parents));
        for parent in &held.block.header().parents {
            if let Some(entry) = self.entries.get_mut(parent)
                && entry.children.insert(id)
                && let Some(share) = self.shares.get_mut(&entry.held.from)
            {
                share.leaves.remove(&entry.age);
            }
        }
        self.entries.insert(id, Entry { held, age, cost, children: BTreeSet::new() });
        let share = self.shares.entry(from.clone()).or_default();
        self.by_waste.remove(&(share.bytes, from.clone()));
        share.bytes += cost;
        share.by_age.insert(age, id);
        share.leaves.insert(age, id);
        self.by_waste.insert((share.bytes, from.clone()));
        self.bytes += cost;
        self.make_room(&from)
    }

    /// Takes a block out that is admitted or refused. What rests on it stays: it is for the caller to see to.
    pub fn remove(&mut self, id: &BlockId) -> Option<WaitingBlock> {
        let Entry { held, age, cost, .. } = self.entries.remove(id)?;
        self.bytes -= cost;
        if let Some(share) = self.shares.get_mut(&held.from) {
            self.by_waste.remove(&(share.bytes, held.from.clone()));
            share.bytes -= cost;
            share.by_age.remove(&age);
            share.leaves.remove(&age);
            if share.by_age.is_empty() {
                self.shares.remove(&held.from);
            } else {
                self.by_waste.insert((share.bytes, held.from.clone()));
            }
        }
        for parent in &held.block.header().parents {
            let Some(entry) = self.entries.get_mut(parent) else { continue };
            entry.children.remove(id);
            if entry.children.is_empty()
                && let Some(share) = self.shares.get_mut(&entry.held.from)
            {
                share.leaves.insert(entry.age, *parent);
            }
        }
        Some(held)
    }

    /// Drops a block and everything that rests on it. Returns what was dropped, ascending.
    pub fn discard(&mut self, id: &BlockId) -> Vec<BlockId> {
        let mut todo = vec![*id];
        let mut gone = BTreeSet::new();
        while let Some(next) = todo.pop() {
            if let Some(entry) = self.entries.get(&next) {
                todo.extend(&entry.children);
            }
            if self.remove(&next).is_some() {
                gone.insert(next);
            }
        }
        gone.into_iter().collect()
    }

    /// Returns the waiting blocks among `parents` and their waiting ancestors, parents first: what enters with a child
    /// of `parents`.
    pub fn closure(&self, parents: &[BlockId]) -> Vec<BlockId> {
        let mut todo = parents.to_vec();
        let mut found = BTreeSet::new();
        while let Some(id) = todo.pop() {
            if let Some(entry) = self.entries.get(&id)
                && found.insert(CanonicalKey::of(&entry.held.block))
            {
                todo.extend(&entry.held.block.header().parents);
            }
        }
        found.into_iter().map(|key| key.id).collect()
    }

    /// Returns the ids in canonical order, in which they are to be judged again.
    pub fn canonical(&self) -> Vec<BlockId> {
        let keys: BTreeSet<_> = self.entries.values().map(|entry| CanonicalKey::of(&entry.held.block)).collect();
        keys.into_iter().map(|key| key.id).collect()
    }

    /// Returns a waiting block.
    pub fn get(&self, id: &BlockId) -> Option<&Block> {
        self.entries.get(id).map(|entry| &entry.held.block)
    }

    /// Says whether the block waits here.
    pub fn contains(&self, id: &BlockId) -> bool {
        self.entries.contains_key(id)
    }

    /// Returns how many blocks wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Says whether none waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the bytes held, bookkeeping included.
    pub const fn bytes(&self) -> usize {
        self.bytes
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
            // Where blocks of others rest on every block of the peer, its youngest takes the fewest along.
            let pick =
                |share: &Share| share.leaves.first_key_value().or(share.by_age.last_key_value()).map(|(_, id)| *id);
            let Some(id) = victim.and_then(pick) else { return dropped };
            dropped.extend(self.discard(&id));
        }
    }
}
