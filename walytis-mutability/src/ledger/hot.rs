//! Graphs kept in memory between ops of the same block, so that the next op costs no reading of all before.

use std::collections::BTreeMap;

use walytis_core::id::BlockId;
use walytis_core::ledger::BlockInfo;

use crate::graph::VersionGraph;
use crate::limits::CACHED_VERSIONS_MAX;

/// A block that is being changed.
#[derive(Debug)]
pub(super) struct Hot {
    pub(super) graph: VersionGraph,
    /// The original, as the ledger below shows it.
    pub(super) info: BlockInfo,
    used: u64,
}

/// The graphs in memory.
#[derive(Debug, Default)]
pub(super) struct HotGraphs {
    graphs: BTreeMap<BlockId, Hot>,
    clock: u64,
}

impl HotGraphs {
    pub(super) fn get(&mut self, id: &BlockId) -> Option<&mut Hot> {
        self.clock += 1;
        let hot = self.graphs.get_mut(id)?;
        hot.used = self.clock;
        Some(hot)
    }

    pub(super) fn put(&mut self, graph: VersionGraph, info: BlockInfo) {
        self.clock += 1;
        self.graphs.insert(info.id, Hot { graph, info, used: self.clock });
    }

    pub(super) fn clear(&mut self) {
        self.graphs.clear();
    }

    /// Drops those used longest ago until the rest is within bounds. Only between commits: what stands in memory must
    /// stand in the store.
    pub(super) fn shrink(&mut self) {
        let mut size: usize = self.graphs.values().map(|hot| hot.graph.len() + 1).sum();
        if size <= CACHED_VERSIONS_MAX {
            return;
        }
        let mut by_use: Vec<(u64, BlockId)> = self.graphs.iter().map(|(id, hot)| (hot.used, *id)).collect();
        by_use.sort_unstable();
        // Halved at once: the next commits need not look again.
        for (_, id) in by_use {
            if size <= CACHED_VERSIONS_MAX / 2 {
                return;
            }
            size -= self.graphs.remove(&id).map_or(0, |hot| hot.graph.len() + 1);
        }
    }
}
