//! What devices say in the name of an identity that controls another.

use super::base::sort_cut;
use super::{BuildError, Builder, Built};
use crate::id::{ControllerId, OpId};
use crate::op::{ChainCut, Introduce, Op, Update};

impl Builder<'_> {
    /// Shows this device as one that acts for the identity that is the author, as of all that is known of it here.
    ///
    /// # Errors
    /// [`BuildError::Op`] if nothing is known of it.
    pub fn introduce(mut self) -> Result<Built, BuildError> {
        let (parents, as_of) = (self.base().0, self.own_heads());
        self.without_epoch(parents, Op::Introduce(Introduce { as_of }))
    }

    /// Names all that is known here of the identity that is the author. `cut`: the heads that this node has admitted, by
    /// chain: of what devices wrote whose removal is shown first by this, the rest does not count.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn name_heads(mut self, mut cut: Vec<ChainCut>) -> Result<Built, BuildError> {
        sort_cut(&mut cut);
        let (parents, as_of) = (self.base().0, self.own_heads());
        self.without_epoch(parents, Op::Update(Box::new(Update { keys: None, as_of, cut })))
    }

    fn own_heads(&self) -> Vec<OpId> {
        match &self.author {
            ControllerId::Identity(did) => self.graph.nested_heads(did),
            ControllerId::Device(_) => Vec::new(),
        }
    }
}
