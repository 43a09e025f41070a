//! The identity's end.

use super::base::sort_cut;
use super::{BuildError, Builder, Built};
use crate::op::{ChainCut, Deactivate, Op};

impl Builder<'_> {
    /// Ends the identity. `cut` = the heads this node has admitted, by chain.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn deactivate(mut self, mut cut: Vec<ChainCut>) -> Result<Built, BuildError> {
        sort_cut(&mut cut);
        let (parents, _) = self.base();
        self.without_epoch(parents, Op::Deactivate(Deactivate { cut }))
    }
}
