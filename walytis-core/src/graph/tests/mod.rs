mod convergence;
mod parents;
mod pending;
mod waiting;
mod walks;

use std::time::Duration;

use super::*;
use crate::block::{BlockDraft, DraftContent, Visibility};
use crate::id::ChainId;
use crate::key::SigningKey;
use crate::secret::Secret;

/// Makes blocks of one chain; `blocks[0]` is its genesis.
#[derive(Debug)]
struct Dag {
    key: SigningKey,
    blocks: Vec<Block>,
}

impl Dag {
    fn new() -> Self {
        let key = SigningKey::from_seed(&Secret::new([7; 32]));
        let genesis = crate::testing::genesis(&key, 9, Visibility::Public);
        Self { key, blocks: vec![genesis] }
    }

    fn chain(&self) -> ChainId {
        ChainId(self.blocks[0].id())
    }

    fn id(&self, at: usize) -> BlockId {
        self.blocks[at].id()
    }

    /// Makes a block over the blocks at these places, without asking whether the graph allows it.
    fn forge(&self, parents: &[usize], generation: u64, text: &str) -> Block {
        let draft = BlockDraft {
            chain: Some(self.chain()),
            parents: parents.iter().map(|at| self.id(*at)).collect(),
            generation,
            created_at_ms: 0,
            topics: vec![],
            content: DraftContent::Inline(text.to_owned().into()),
        };
        draft.sign_checked(&self.key).unwrap().unwrap()
    }

    /// Adds a block with the right generation; returns its place.
    fn add(&mut self, parents: &[usize]) -> usize {
        let generation = generation_after(parents.iter().map(|at| self.blocks[*at].header().generation)).unwrap();
        let block = self.forge(parents, generation, &self.blocks.len().to_string());
        self.blocks.push(block);
        self.blocks.len() - 1
    }

    fn line(&mut self, from: usize, len: usize) -> usize {
        (0..len).fold(from, |at, _| self.add(&[at]))
    }

    fn graph(&self) -> BlockGraph {
        let mut graph = BlockGraph::new(self.chain(), PendingLimits::default());
        for block in &self.blocks {
            graph.insert(block.clone(), None, Duration::ZERO).unwrap();
        }
        graph
    }
}

fn refused(graph: &mut BlockGraph, block: Block) -> Option<Rule> {
    let inserted = graph.insert(block, None, Duration::ZERO).unwrap();
    inserted.rejected.first().map(|violation| violation.rule)
}
