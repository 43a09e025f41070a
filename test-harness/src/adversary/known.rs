//! What somebody has of an identity: its own ops, and those of the identities below that its ops name.

#![expect(clippy::expect_used, reason = "helpers of tests fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use walytis_core::block::{Block, UnverifiedBlock};
use walytis_core::id::ChainId;
use walytis_identities::id::{Did, OpId};
use walytis_identities::op::{Op, SignedOp};
use walytis_identities::state::AuthorityGraph;

/// Ops with the genesis blocks that they begin with.
#[derive(Clone, Debug)]
pub struct Known {
    did: Did,
    genesis: BTreeMap<Did, Block>,
    /// All but creations, in the order in which they came.
    ops: Vec<SignedOp>,
}

impl Known {
    /// Puts together what came of an identity; nothing if its own genesis block is not among the files.
    pub(super) fn new(did: &Did, files: Vec<Vec<u8>>, ops: Vec<SignedOp>) -> Option<Self> {
        let genesis: BTreeMap<Did, Block> = files.into_iter().filter_map(genesis).collect();
        genesis.contains_key(did).then_some(Self { did: *did, genesis, ops })
    }

    /// Returns the identity.
    pub const fn did(&self) -> Did {
        self.did
    }

    /// Returns how many ops there are, creations aside.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Says whether there is no op but creations.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Returns the ops but for creations, in the order in which they came.
    pub fn ops(&self) -> &[SignedOp] {
        &self.ops
    }

    /// Returns the identities below.
    pub fn below(&self) -> impl Iterator<Item = Did> {
        self.genesis.keys().copied().filter(|did| *did != self.did)
    }

    /// Returns the files of all genesis blocks.
    pub fn files(&self) -> Vec<Vec<u8>> {
        self.genesis.values().map(|block| block.file().to_vec()).collect()
    }

    /// Returns the ops of one identity, its own or one below, parents first, beginning with the creation.
    pub fn of(&self, did: &Did) -> Vec<SignedOp> {
        let created = self.genesis.get(did).and_then(creation);
        let later = self.ops.iter().filter(|op| op.core().chain == *did.chain().digest()).cloned();
        created.into_iter().chain(later).collect()
    }

    /// Returns all ops, each by its id, without order.
    pub fn set(&self) -> BTreeSet<OpId> {
        self.ops.iter().map(SignedOp::id).collect()
    }

    /// Returns the same as of the moment when the identity had only so many ops of its own after the creation; of those
    /// below everything is left.
    #[must_use]
    pub fn earlier(&self, own: usize) -> Self {
        let mut left = own;
        let mut ops = self.ops.clone();
        ops.retain(|op| {
            let is_own = op.core().chain == *self.did.chain().digest();
            let later = is_own && left == 0;
            left = left.saturating_sub(usize::from(is_own));
            !later
        });
        Self { ops, ..self.clone() }
    }

    /// Returns it together with all that is known of another identity, named or not.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        let mut both = self.clone();
        let has = self.set();
        both.genesis.extend(other.genesis.iter().map(|(did, block)| (*did, block.clone())));
        both.ops.extend(other.ops.iter().filter(|op| !has.contains(&op.id())).cloned());
        both
    }

    /// Returns the graph of all that the rules let in.
    pub fn graph(&self) -> AuthorityGraph {
        self.graph_by(&self.ops)
    }

    /// The same with these ops, in this order.
    pub fn graph_by(&self, ops: &[SignedOp]) -> AuthorityGraph {
        let begin = |did: &Did| AuthorityGraph::from_genesis(self.genesis.get(did)?).ok();
        let mut graph = begin(&self.did).expect("it was put together with its genesis block");
        for below in self.below().filter_map(|did| begin(&did)) {
            drop(graph.learn_nested(&below));
        }
        let mut rest: Vec<&SignedOp> = ops.iter().collect();
        loop {
            let before = rest.len();
            rest.retain(|op| {
                if op.core().chain == *graph.chain().digest() {
                    drop(graph.insert((*op).clone()));
                } else {
                    drop(graph.insert_nested((*op).clone()));
                }
                graph.op(&op.id()).is_none() && !graph.is_below(&op.id())
            });
            // What is refused is refused again, and only what waited for others may come in later.
            if rest.is_empty() || rest.len() == before {
                return graph;
            }
        }
    }

    /// Returns the graph of one identity below, by what is here of it.
    pub fn graph_below(&self, did: &Did) -> AuthorityGraph {
        let genesis = self.genesis.iter().filter(|(other, _)| *other == did).map(|(did, block)| (*did, block.clone()));
        let ops = self.of(did).split_off(1);
        Self { did: *did, genesis: genesis.collect(), ops }.graph()
    }
}

/// Reads a genesis block file, with the identity that it begins.
fn genesis(file: Vec<u8>) -> Option<(Did, Block)> {
    let block = UnverifiedBlock::decode(file.into()).ok().filter(|block| block.header().chain.is_none())?;
    let chain = ChainId(block.id());
    let block = block.verify(&chain).ok()?;
    creation(&block).map(|_| (Did(chain), block))
}

/// Returns the `Create` that a genesis block carries.
fn creation(block: &Block) -> Option<SignedOp> {
    let created = AuthorityGraph::from_genesis(block).ok()?.ops().next().map(|op| (**op).clone());
    created.filter(|op| matches!(op.core().op, Op::Create(_)))
}
