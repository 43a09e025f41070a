//! The versions of one block: a pure value, the same for every order in which its ops arrive.
//!
//! ```text
//!   original ◄── edit ◄──┬── edit ◄──┐
//!                        └── delete ◄┴── restore        an arrow: "supersedes"
//! ```
//!
//! It holds what counts and what does not (V-MUT-05 to V-MUT-09), the heads (V-MUT-10) and the current version
//! (V-MUT-11). It knows ids, generations and acts; contents and authors stay outside. Arrows lead to a lower generation
//! only, so no claim can make a circle. Inserting costs a logarithm per superseded version; depths are counted when two
//! heads must be compared, in one pass over all versions. Nothing recurses.

use std::collections::{BTreeMap, BTreeSet, btree_map};

use walytis_core::id::BlockId;

use crate::op::{Act, Op};

/// Whether the author of an op may do it (V-MUT-07).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// It may.
    Allowed,
    /// It may not, or the ledger below says that the block does not count.
    Refused,
    /// What it depends on is not known here yet.
    Unknown,
}

/// Whether an op counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It counts.
    Counts,
    /// Something that it needs is not known yet.
    Waits,
    /// It does not count, by this rule of `docs/mutability.md`.
    Void(&'static str),
}

/// What the block shows now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Current {
    /// The head that stands for the block.
    pub head: BlockId,
    /// The version whose content is shown: the original or an edit. Of a deleted block nothing.
    pub content: Option<BlockId>,
    /// Heads, the current one among them.
    pub heads: usize,
}

impl Current {
    /// Says whether the block is deleted.
    pub const fn is_deleted(&self) -> bool {
        self.content.is_none()
    }
}

/// An op in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    generation: u64,
    act: Act,
    supersedes: Vec<BlockId>,
    right: Right,
    counts: bool,
    depth: u64,
}

/// All versions of one block.
#[derive(Clone, Debug)]
pub struct VersionGraph {
    original: BlockId,
    generation: u64,
    ops: BTreeMap<BlockId, Entry>,
    /// (generation, id) of every op that counts: canonical order.
    order: BTreeSet<(u64, BlockId)>,
    /// By version, known or not: what supersedes it and counts, with its generation.
    superseded: BTreeMap<BlockId, BTreeSet<(u64, BlockId)>>,
    /// By version, known or not: the restores that name it.
    restores: BTreeMap<BlockId, BTreeSet<BlockId>>,
    heads: BTreeSet<BlockId>,
    /// Whether the depths of all entries are right.
    measured: bool,
}

impl VersionGraph {
    /// Returns the graph of a block that nobody has changed.
    pub fn new(original: BlockId, generation: u64) -> Self {
        Self {
            original,
            generation,
            ops: BTreeMap::new(),
            order: BTreeSet::new(),
            superseded: BTreeMap::new(),
            restores: BTreeMap::new(),
            heads: BTreeSet::new(),
            measured: true,
        }
    }

    /// Returns how many ops are known, whether they count or not.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Says whether no op is known.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Takes in an op that stands in the block `id` of this generation; returns the ops that count since, or no longer
    /// do. The same op again changes only its right.
    pub fn insert(&mut self, id: BlockId, generation: u64, op: &Op, right: Right) -> Vec<BlockId> {
        if id == self.original || op.original != self.original {
            return Vec::new();
        }
        if let btree_map::Entry::Vacant(vacant) = self.ops.entry(id) {
            let supersedes = op.supersedes.clone();
            vacant.insert(Entry { generation, act: op.act, supersedes, right, counts: false, depth: 0 });
            if let Act::Restore { version } = op.act {
                self.restores.entry(version).or_default().insert(id);
            }
        }
        self.set_right(&id, right)
    }

    /// Says whether the author of an op may do it; returns the ops that count since, or no longer do.
    pub fn set_right(&mut self, id: &BlockId, right: Right) -> Vec<BlockId> {
        let Some(entry) = self.ops.get_mut(id) else { return Vec::new() };
        entry.right = right;
        if !self.settle(id) {
            return Vec::new();
        }
        // A restore never is what another restores, so this ends here.
        let restores = self.restores.get(id).cloned().unwrap_or_default();
        let settled = restores.into_iter().filter(|restore| self.settle(restore));
        std::iter::once(*id).chain(settled).collect()
    }

    /// Returns whether an op counts; nothing if it is unknown.
    pub fn standing(&self, id: &BlockId) -> Option<Standing> {
        let entry = self.ops.get(id)?;
        Some(match entry.right {
            _ if entry.generation <= self.generation => Standing::Void("V-MUT-05"),
            Right::Refused => Standing::Void("V-MUT-07"),
            Right::Unknown => Standing::Waits,
            Right::Allowed => match entry.act {
                Act::Restore { version } => self.target(&version, entry.generation),
                Act::Edit | Act::Delete => Standing::Counts,
            },
        })
    }

    /// Says whether a restore of that generation may name this version (V-MUT-08).
    fn target(&self, version: &BlockId, generation: u64) -> Standing {
        if *version == self.original {
            return Standing::Counts;
        }
        match self.ops.get(version) {
            None => Standing::Waits,
            Some(entry) if entry.act != Act::Edit || entry.generation >= generation => Standing::Void("V-MUT-08"),
            Some(_) => match self.standing_of_edit(version) {
                Standing::Void(_) => Standing::Void("V-MUT-08"),
                other => other,
            },
        }
    }

    fn standing_of_edit(&self, id: &BlockId) -> Standing {
        match self.ops.get(id) {
            Some(entry) if entry.counts => Standing::Counts,
            Some(entry) if entry.right == Right::Unknown => Standing::Waits,
            _ => Standing::Void("V-MUT-07"),
        }
    }

    /// Brings the graph in line with whether an op counts now.
    fn settle(&mut self, id: &BlockId) -> bool {
        let counts = self.standing(id) == Some(Standing::Counts);
        let Some(entry) = self.ops.get_mut(id).filter(|entry| entry.counts != counts) else { return false };
        entry.counts = counts;
        let (generation, supersedes) = (entry.generation, entry.supersedes.clone());
        if counts {
            self.count(*id, generation, &supersedes)
        } else {
            self.discount(*id, generation, &supersedes)
        }
        true
    }

    fn count(&mut self, id: BlockId, generation: u64, supersedes: &[BlockId]) {
        self.order.insert((generation, id));
        let mut depth = 1;
        for version in supersedes {
            self.superseded.entry(*version).or_default().insert((generation, id));
            if let Some(below) = self.counting(version).filter(|below| below.generation < generation) {
                depth = depth.max(below.depth + 1);
                self.heads.remove(version);
            }
        }
        if let Some(entry) = self.ops.get_mut(&id) {
            entry.depth = depth;
        }
        if self.is_superseded(&id, generation) {
            // Depths above were counted without it.
            self.measured = false;
        } else {
            self.heads.insert(id);
        }
    }

    fn discount(&mut self, id: BlockId, generation: u64, supersedes: &[BlockId]) {
        self.order.remove(&(generation, id));
        self.heads.remove(&id);
        self.measured &= !self.is_superseded(&id, generation);
        for version in supersedes {
            if let Some(above) = self.superseded.get_mut(version) {
                above.remove(&(generation, id));
                if above.is_empty() {
                    self.superseded.remove(version);
                }
            }
            let below = self.counting(version).map(|below| below.generation);
            if below.is_some_and(|below| !self.is_superseded(version, below)) {
                self.heads.insert(*version);
            }
        }
    }

    fn counting(&self, id: &BlockId) -> Option<&Entry> {
        self.ops.get(id).filter(|entry| entry.counts)
    }

    /// Only what has a higher generation supersedes (V-MUT-06).
    fn is_superseded(&self, id: &BlockId, generation: u64) -> bool {
        self.superseded.get(id).and_then(BTreeSet::last).is_some_and(|(above, _)| *above > generation)
    }

    /// Returns the heads, ascending: versions that count and that no op that counts supersedes (V-MUT-10).
    pub fn heads(&self) -> Vec<BlockId> {
        if self.heads.is_empty() { vec![self.original] } else { self.heads.iter().copied().collect() }
    }

    /// Returns how many heads there are, at least one.
    pub fn head_count(&self) -> usize {
        self.heads.len().max(1)
    }

    /// Returns what the block shows now (V-MUT-11): the deepest head, of equals the one with the lowest id; if a head
    /// deletes, only such heads are compared.
    pub fn current(&mut self) -> Current {
        if self.heads.len() > 1 {
            self.measure();
        }
        let deletes = |id: &BlockId| self.ops.get(id).is_some_and(|entry| entry.act == Act::Delete);
        let rank = |id: &BlockId| {
            let depth = self.ops.get(id).map_or(0, |entry| entry.depth);
            (!deletes(id), std::cmp::Reverse(depth), *id)
        };
        let head = self.heads.iter().copied().min_by_key(rank).unwrap_or(self.original);
        let content = match self.ops.get(&head).map(|entry| entry.act) {
            None => Some(self.original),
            Some(Act::Edit) => Some(head),
            Some(Act::Restore { version }) => Some(version),
            Some(Act::Delete) => None,
        };
        Current { head, content, heads: self.head_count() }
    }

    /// Returns the other heads, in the order in which they would be current.
    pub fn conflicts(&mut self) -> Vec<BlockId> {
        let current = self.current().head;
        let mut others: Vec<BlockId> = self.heads.iter().copied().filter(|id| *id != current).collect();
        others.sort_by_key(|id| (std::cmp::Reverse(self.ops.get(id).map_or(0, |entry| entry.depth)), *id));
        others
    }

    /// Returns every version that counts, the original first, in canonical order.
    pub fn versions(&self) -> Vec<BlockId> {
        std::iter::once(self.original).chain(self.order.iter().map(|(_, id)| *id)).collect()
    }

    /// Returns how many versions count, the original among them.
    pub fn version_count(&self) -> usize {
        self.order.len() + 1
    }

    /// Returns what an op that counts does.
    pub fn act(&self, id: &BlockId) -> Option<Act> {
        self.counting(id).map(|entry| entry.act)
    }

    /// Returns the graph of the versions that stand at or before a place of canonical order.
    #[must_use]
    pub fn until(&self, generation: u64, id: &BlockId) -> Self {
        let mut until = Self::new(self.original, self.generation);
        for (id, entry) in self.order.range(..=(generation, *id)).filter_map(|(_, id)| Some((id, self.ops.get(id)?))) {
            let op = Op {
                original: self.original,
                supersedes: entry.supersedes.clone(),
                act: entry.act,
                place: crate::op::Place::Inline,
            };
            until.insert(*id, entry.generation, &op, entry.right);
        }
        until
    }

    /// Counts the depth of every version that counts: 0 for the original, else 1 + the largest depth below.
    fn measure(&mut self) {
        if self.measured {
            return;
        }
        for (generation, id) in &self.order {
            let below = |version: &BlockId| {
                let entry = self.ops.get(version).filter(|entry| entry.counts && entry.generation < *generation);
                entry.map_or(0, |entry| entry.depth)
            };
            let supersedes = self.ops.get(id).map(|entry| entry.supersedes.as_slice()).unwrap_or_default();
            let depth = 1 + supersedes.iter().map(below).max().unwrap_or(0);
            if let Some(entry) = self.ops.get_mut(id) {
                entry.depth = depth;
            }
        }
        self.measured = true;
    }
}
