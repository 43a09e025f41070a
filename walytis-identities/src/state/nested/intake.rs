//! Taking in ops of nested identities.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use walytis_core::block::Block;

use super::super::{AuthorityGraph, Inserted, Refusal, Rule};
use super::travel::{PartBounds, Travelling};
use super::{NESTED_MAX, Named, names};
use crate::id::{Did, OpId};
use crate::op::{OpCore, SignedOp};

/// What a nested op brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NestedTaken {
    /// Ops of identities below that entered, parents first.
    pub nested: Vec<Arc<SignedOp>>,
    /// Ops of the identity itself that waited for them and entered, parents first.
    pub entered: Vec<OpId>,
}

impl AuthorityGraph {
    /// Returns the identities below whose genesis blocks are missing: an op that is otherwise right names them.
    pub fn wanted(&self) -> BTreeSet<Did> {
        let mut wanted: BTreeSet<Did> = self.nested.values().flat_map(Self::wanted).collect();
        let ready = self.pending.values().filter(|op| self.unknown_parents(op).is_empty());
        for (did, _) in ready.flat_map(|op| names(op.core())) {
            if !self.ignores(&did) && !self.nested.contains_key(&did) {
                wanted.insert(did);
            }
        }
        wanted
    }

    /// Takes in the genesis block of an identity below, wherever in the tree it is [wanted](Self::wanted). Says whether
    /// it was.
    pub fn add_nested(&mut self, genesis: &Block) -> bool {
        let did = Did(genesis.chain());
        let mut added = false;
        for graph in self.nested.values_mut() {
            added |= graph.add_nested(genesis);
        }
        let here = self.pending.values().any(|op| names(op.core()).iter().any(|(named, _)| *named == did));
        let fits = !self.ignores(&did) && !self.nested.contains_key(&did) && self.nested.len() < 2 * NESTED_MAX;
        if here
            && fits
            && let Ok(mut graph) = Self::from_genesis(genesis)
        {
            graph.above = self.above.iter().copied().chain([self.did()]).collect();
            #[cfg(test)]
            {
                graph.unsigned = self.unsigned;
            }
            self.nested.insert(did, graph);
            added = true;
        }
        added
    }

    /// Takes in what another graph holds of an identity below, its genesis and ops, for an op of one's own that is going
    /// to name it. Returns what entered; ops that this place in the tree does not allow are passed over.
    ///
    /// # Errors
    /// [`Refusal`] if the identity is this one or stands above.
    pub fn learn_nested(&mut self, theirs: &Self) -> Result<Vec<Arc<SignedOp>>, Refusal> {
        let did = theirs.did();
        if self.ignores(&did) {
            return Err(Refusal::Unauthorised { rule: Rule::NestedPlace });
        }
        let place: Vec<Did> = self.above.iter().copied().chain([self.did()]).collect();
        let graph = match self.nested.entry(did) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let mut graph = theirs.bare()?;
                graph.above = place;
                entry.insert(graph)
            }
        };
        graph.take_shape(theirs)?;
        let mut entered = Vec::new();
        // What it has of the identity it has whole, with what stands below.
        for travelling in theirs.part(&graph.held(), PartBounds::NONE).items {
            let op = match travelling {
                Travelling::Genesis(_) => continue,
                Travelling::Op(op) => op,
            };
            let taken = if op.core().chain == *graph.chain().digest() {
                graph.insert((*op).clone()).map(|inserted| graph.entered(&inserted))
            } else {
                graph.insert_nested((*op).clone()).map(|taken| {
                    let own = taken.entered.iter().filter_map(|id| graph.op(id).cloned());
                    taken.nested.iter().cloned().chain(own).collect()
                })
            };
            // What is refused here has a place elsewhere.
            entered.extend(taken.unwrap_or_default());
        }
        Ok(entered)
    }

    /// Begins the graphs of all identities below that another graph of this identity has, where this place allows them.
    fn take_shape(&mut self, theirs: &Self) -> Result<(), Refusal> {
        let place: Vec<Did> = self.above.iter().copied().chain([self.did()]).collect();
        for (did, below) in theirs.nested.iter().filter(|(did, _)| !self.ignores(did)).collect::<Vec<_>>() {
            if !self.nested.contains_key(did) {
                let mut graph = below.bare()?;
                graph.above.clone_from(&place);
                self.nested.insert(*did, graph);
            }
            if let Some(graph) = self.nested.get_mut(did) {
                graph.take_shape(below)?;
            }
        }
        Ok(())
    }

    /// Offers an op of an identity below.
    ///
    /// # Errors
    /// [`Refusal::OtherChain`] if no identity below has that chain, otherwise as [`Self::insert`].
    pub fn insert_nested(&mut self, op: SignedOp) -> Result<NestedTaken, Refusal> {
        let mut nested = Vec::new();
        self.insert_below(&op, &mut nested)?;
        let entered = if nested.is_empty() { Vec::new() } else { self.admit_ready() };
        Ok(NestedTaken { nested, entered })
    }

    fn insert_below(&mut self, op: &SignedOp, entered: &mut Vec<Arc<SignedOp>>) -> Result<(), Refusal> {
        let mut outcome = Err(Refusal::OtherChain);
        for graph in self.nested.values_mut() {
            if op.core().chain == *graph.chain().digest() {
                match graph.insert(op.clone()) {
                    Ok(inserted) => {
                        entered.extend(graph.entered(&inserted));
                        outcome = Ok(());
                    }
                    Err(refusal) => outcome = outcome.or(Err(refusal)),
                }
                continue;
            }
            let before = entered.len();
            match graph.insert_below(op, entered) {
                Ok(()) => outcome = Ok(()),
                Err(Refusal::OtherChain) => {}
                Err(refusal) => outcome = outcome.or(Err(refusal)),
            }
            if entered.len() > before {
                let ready = graph.admit_ready();
                entered.extend(ready.iter().filter_map(|id| graph.op(id).cloned()));
            }
        }
        outcome
    }

    /// Admits what waited for a genesis block, at every level, the innermost first.
    pub(crate) fn admit_ready_everywhere(&mut self) -> NestedTaken {
        let mut nested = Vec::new();
        for graph in self.nested.values_mut() {
            let below = graph.admit_ready_everywhere();
            nested.extend(below.nested);
            nested.extend(below.entered.iter().filter_map(|id| graph.op(id).cloned()));
        }
        NestedTaken { nested, entered: self.admit_ready() }
    }

    fn entered(&self, inserted: &Inserted) -> Vec<Arc<SignedOp>> {
        match inserted {
            Inserted::New(ids) => ids.iter().filter_map(|id| self.op(id).cloned()).collect(),
            Inserted::Known | Inserted::Pending(_) => Vec::new(),
        }
    }

    /// Returns the genesis blocks of all identities below, by DID.
    pub fn nested_genesis(&self) -> BTreeMap<Did, Block> {
        let mut all = BTreeMap::new();
        for (did, graph) in &self.nested {
            all.extend(graph.genesis.clone().map(|genesis| (*did, genesis)));
            all.extend(graph.nested_genesis());
        }
        all
    }

    /// Returns the graph of an identity that is a controller here, or was.
    pub fn nested(&self, did: &Did) -> Option<&Self> {
        self.nested.get(did)
    }

    /// Says whether an identity stands anywhere below.
    pub fn has_below(&self, did: &Did) -> bool {
        self.nested.contains_key(did) || self.nested.values().any(|graph| graph.has_below(did))
    }

    /// Returns how many levels of identities there are, this one included: 1 if none stands below.
    pub fn levels(&self) -> usize {
        1 + self.nested.values().map(Self::levels).max().unwrap_or(0)
    }

    /// Forgets identities below that no op names (any more): left by an op that did not enter after all.
    pub fn drop_unnamed(&mut self) {
        let waiting: BTreeSet<Did> =
            self.pending.values().flat_map(|op| names(op.core())).map(|(did, _)| did).collect();
        let nodes = &self.nodes;
        self.nested.retain(|did, _| nodes.identities.contains_key(did) || waiting.contains(did));
    }

    /// Returns all that an op names, with what its past names.
    ///
    /// # Errors
    /// The heads that are not here yet; of an identity that is not here all.
    pub(in crate::state) fn naming(&self, core: &OpCore) -> Result<Named, Vec<OpId>> {
        let mut named = self.named_at(&core.auth_parents);
        for (did, heads) in names(core) {
            if self.ignores(&did) {
                continue;
            }
            let past = match self.nested.get(&did) {
                Some(graph) => graph.nodes().past_of(heads)?,
                None => return Err(heads.to_vec()),
            };
            named.add(did, &past);
        }
        Ok(named)
    }

    /// Returns a graph with the same `Create` and nothing else.
    fn bare(&self) -> Result<Self, Refusal> {
        let create = self.ops().next().ok_or(Refusal::Genesis)?;
        let mut graph = Self::new(self.chain(), (**create).clone())?;
        graph.genesis.clone_from(&self.genesis);
        #[cfg(test)]
        {
            graph.unsigned = self.unsigned;
        }
        Ok(graph)
    }

    /// Says whether an op of an identity below is in.
    pub fn is_below(&self, op: &OpId) -> bool {
        self.nested.values().any(|graph| graph.op(op).is_some() || graph.is_below(op))
    }
}
