//! The nodes of the graph, and the author, that were used last.

use std::collections::BTreeMap;

use super::core::Node;
use crate::id::BlockId;
use crate::key::PublicKey;
use crate::ledger::Author;

/// Nodes kept in memory. Chosen: 16,384 nodes of about 250 bytes are 4 MB per busy chain, and cover the ancestors
/// that a block of an active chain names. A chain that rests keeps none.
const NODES_MAX: usize = 16_384;

/// A bounded map of nodes; the one unused for longest goes first.
#[derive(Debug, Default)]
pub(super) struct NodeCache {
    nodes: BTreeMap<BlockId, (Node, u64)>,
    ages: BTreeMap<u64, BlockId>,
    clock: u64,
}

impl NodeCache {
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub(super) fn get(&mut self, id: &BlockId) -> Option<Node> {
        self.clock += 1;
        let (node, age) = self.nodes.get_mut(id)?;
        self.ages.remove(age);
        *age = self.clock;
        self.ages.insert(self.clock, *id);
        Some(node.clone())
    }

    pub(super) fn insert(&mut self, id: BlockId, node: Node) {
        self.clock += 1;
        if let Some((_, age)) = self.nodes.insert(id, (node, self.clock)) {
            self.ages.remove(&age);
        }
        self.ages.insert(self.clock, id);
        while self.nodes.len() > NODES_MAX {
            let Some((_, oldest)) = self.ages.pop_first() else { return };
            self.nodes.remove(&oldest);
        }
    }
}

/// The author named last, as text: making it costs as much as the rest of reading a header, and few write in turns.
#[derive(Debug, Default)]
pub(super) struct LastAuthor(Option<(PublicKey, Author)>);

impl LastAuthor {
    /// Returns the author of blocks that this key signed.
    pub(super) fn of(&mut self, creator: &PublicKey) -> Author {
        match &self.0 {
            Some((last, author)) if last == creator => author.clone(),
            _ => {
                let author = Author(creator.to_string().into());
                self.0 = Some((*creator, author.clone()));
                author
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> BlockId {
        BlockId::of_file(&n.to_be_bytes())
    }

    fn node(generation: u64) -> Node {
        Node { generation, arrival: generation, parents: Vec::new().into() }
    }

    #[test]
    fn authors_that_take_turns_keep_their_names() {
        let keys = [PublicKey::Ed25519([1; 32]), PublicKey::Ed25519([2; 32])];
        let mut last = LastAuthor::default();
        for key in [0, 0, 1, 0].map(|n: usize| keys[n]) {
            assert_eq!(last.of(&key), Author(key.to_string().into()));
        }
    }

    #[test]
    fn the_node_unused_for_longest_is_dropped_first() {
        let mut cache = NodeCache::default();
        (0..NODES_MAX).for_each(|n| cache.insert(id(n), node(n as u64)));
        assert!(cache.get(&id(0)).is_some());
        cache.insert(id(NODES_MAX), node(0));
        assert!(cache.get(&id(1)).is_none());
        assert!(cache.get(&id(0)).is_some());
        assert_eq!((cache.nodes.len(), cache.ages.len()), (NODES_MAX, NODES_MAX));
    }
}
