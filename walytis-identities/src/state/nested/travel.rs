//! What goes to somebody who lacks it: ops, each followed by those of identities below that it names, in parts of bounded
//! size. Whoever got one part says what it holds now, below too, and gets the next.
//!
//! ```text
//!  part 1:  Admit(I)  i1 … i40                    the other holds i1 … i40 of I; Admit(I) waits for the rest
//!  part 2:  Admit(I)  i41 … i52  Rekey …          what waits comes again, what is held does not
//! ```

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use walytis_core::block::Block;

use super::super::AuthorityGraph;
use super::super::bits::Bits;
use crate::id::{ControllerId, Did, OpId};
use crate::op::SignedOp;

/// What goes to somebody who lacks it.
#[derive(Clone, Debug)]
pub enum Travelling {
    /// The genesis block of an identity below.
    Genesis(Box<Block>),
    /// An op of the identity or of one below.
    Op(Arc<SignedOp>),
}

/// What somebody holds of an identity, and of those below it, each in its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Heads of what is held: all before them is held, too. Ascending, at most 64.
    pub heads: Vec<OpId>,
    /// The identities below whose genesis blocks are held.
    pub below: BTreeMap<Did, Self>,
}

/// How much goes at once. One op of each level of identities, and one more, always go, so that every part brings something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartBounds {
    /// Ops.
    pub ops: usize,
    /// Bytes of encoded ops and genesis blocks; the last of these may go beyond.
    pub bytes: usize,
}

impl PartBounds {
    /// Everything.
    pub const NONE: Self = Self { ops: usize::MAX, bytes: usize::MAX };
}

/// What goes at once.
#[derive(Clone, Debug)]
pub struct Part {
    /// Parents first; each op is followed by what it names and the other does not hold.
    pub items: Vec<Travelling>,
    /// There is more.
    pub more: bool,
    bounds: PartBounds,
    ops: usize,
    bytes: usize,
    /// Whether an op is among them that waits for nothing that is not.
    has_whole: bool,
    genesis: BTreeSet<Did>,
}

/// No room in the part.
#[derive(Debug)]
struct Full;

/// What the other holds of one graph, and will hold with what goes.
#[derive(Debug, Default)]
struct Has {
    ops: Bits,
    /// Those whose genesis blocks it has.
    below: BTreeMap<Did, Self>,
}

impl Part {
    const fn within(bounds: PartBounds) -> Self {
        Self { items: Vec::new(), more: false, bounds, ops: 0, bytes: 0, has_whole: false, genesis: BTreeSet::new() }
    }

    fn push_op(&mut self, op: &Arc<SignedOp>) -> Result<(), Full> {
        let (ops, bytes) = (self.ops + 1, self.bytes + op.encoded_len());
        if self.has_whole && (ops > self.bounds.ops || bytes > self.bounds.bytes) {
            self.more = true;
            return Err(Full);
        }
        (self.ops, self.bytes) = (ops, bytes);
        self.items.push(Travelling::Op(Arc::clone(op)));
        Ok(())
    }

    /// Once each, in however many places the identity stands.
    fn push_genesis(&mut self, genesis: Option<&Block>) {
        if let Some(block) = genesis
            && self.genesis.insert(Did(block.chain()))
        {
            self.bytes += block.file().len();
            self.items.push(Travelling::Genesis(Box::new(block.clone())));
        }
    }
}

impl AuthorityGraph {
    /// Returns what is held here.
    pub fn held(&self) -> Held {
        let below = self.nested.iter().map(|(did, graph)| (*did, graph.held()));
        Held { heads: self.named_heads(), below: below.collect() }
    }

    /// Returns the ops that somebody who has `known` and all before it lacks, each followed by what it names and the
    /// other does not have. Of an identity that the other may not have heard of the genesis block comes first. A `Create`
    /// never comes alone: it stands in the genesis block. Of void ops without consequence, if there are many, nobody is
    /// told (rule 9).
    pub fn travelling(&self, known: &[OpId]) -> Vec<Travelling> {
        self.part(&Held { heads: known.to_vec(), below: BTreeMap::new() }, PartBounds::NONE).items
    }

    /// As [`Self::travelling`], for somebody who holds this much, below too: as much as `bounds` lets.
    pub fn part(&self, held: &Held, bounds: PartBounds) -> Part {
        let (mut part, mut has) = (Part::within(bounds), self.has(Some(held), Bits::new()));
        // Full: it says so itself.
        let _full = self.fill(&mut has, &mut part);
        part
    }

    /// As [`Self::part`], and then what is here of identities that are controllers now, named or not, where the other holds
    /// some of it: so that news of what happens inside one reach all of its devices, whoever of those is away.
    pub fn part_with_news(&mut self, held: &Held, bounds: PartBounds) -> Part {
        self.evaluate_everywhere();
        let (mut part, mut has) = (Part::within(bounds), self.has(Some(held), Bits::new()));
        let _full = self.fill(&mut has, &mut part).and_then(|()| self.fill_news(&mut has, &mut part));
        part
    }

    fn fill(&self, has: &mut Has, part: &mut Part) -> Result<(), Full> {
        let lacking = self.everything().minus(&has.ops).minus(&self.untold());
        self.travel(&lacking, has, part)
    }

    /// At most [`LEVELS_MAX`](super::LEVELS_MAX) deep.
    fn travel(&self, ops: &Bits, has: &mut Has, part: &mut Part) -> Result<(), Full> {
        for at in ops.iter().filter(|at| *at > 0) {
            let node = self.nodes().at(at);
            part.push_op(&node.op)?;
            for (did, named) in node.named.iter() {
                let Some(graph) = self.nested.get(did) else { continue };
                let theirs = match has.below.entry(*did) {
                    Entry::Occupied(entry) => entry.into_mut(),
                    Entry::Vacant(entry) => {
                        part.push_genesis(graph.genesis.as_ref());
                        entry.insert(Has::default())
                    }
                };
                if !theirs.ops.holds(named) {
                    let lacking = named.minus(&theirs.ops);
                    graph.travel(&lacking, theirs, part)?;
                    theirs.ops.union(named);
                }
            }
            has.ops.insert(at);
            part.has_whole = true;
        }
        Ok(())
    }

    fn fill_news(&self, has: &mut Has, part: &mut Part) -> Result<(), Full> {
        let Some(evaluation) = &self.evaluated else { return Ok(()) };
        let view = evaluation.view(self.nodes());
        for (did, theirs) in &mut has.below {
            let stands = view.role(&ControllerId::Identity(*did)).is_some();
            let Some(graph) = self.nested.get(did).filter(|_| stands) else { continue };
            let Some(within) = &graph.evaluated else { continue };
            // What the removed go on saying without consequence is nobody's news.
            let lacking = graph.everything().minus(&theirs.ops).minus(&graph.loose_of(within));
            graph.travel(&lacking, theirs, part)?;
            graph.fill_news(theirs, part)?;
        }
        Ok(())
    }

    fn evaluate_everywhere(&mut self) {
        self.evaluation();
        self.nested.values_mut().for_each(Self::evaluate_everywhere);
    }

    /// Returns what somebody holds who holds this much, and was told of `named`. Heads that are not here say nothing.
    fn has(&self, held: Option<&Held>, named: Bits) -> Has {
        let mut ops = named;
        let heads = held.iter().flat_map(|held| &held.heads).copied();
        let known: Vec<OpId> = heads.filter(|id| self.op(id).is_some()).collect();
        ops.union(&self.nodes().past_of(&known).unwrap_or_default());
        let named = self.named_in(&ops);
        let mut below = BTreeMap::new();
        for (did, graph) in &self.nested {
            let (theirs, told) = (held.and_then(|held| held.below.get(did)), named.of(did));
            if theirs.is_some() || told.is_some() {
                below.insert(*did, graph.has(theirs, told.cloned().unwrap_or_default()));
            }
        }
        Has { ops, below }
    }
}
