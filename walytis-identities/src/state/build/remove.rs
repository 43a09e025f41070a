//! Removals of others.

use super::base::sort_cut;
use super::{BuildError, Builder, Built};
use crate::id::{ControllerId, OpId};
use crate::op::{ChainCut, Op, Remove};

impl Builder<'_> {
    /// Removes controllers: `cut` = the heads this node has admitted, by chain; `kept` = invitations that stay good.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn remove(
        mut self,
        mut targets: Vec<ControllerId>,
        mut cut: Vec<ChainCut>,
        mut kept: Vec<OpId>,
    ) -> Result<Built, BuildError> {
        targets.sort_unstable();
        targets.dedup();
        sort_cut(&mut cut);
        kept.sort_unstable();
        kept.dedup();
        let (parents, state) = self.base();
        let recipients = self.recipients(&state, &targets.iter().copied().collect());
        self.with_epoch(parents, &recipients, |epoch| {
            Op::Remove(Box::new(Remove { targets, cut, kept, co_signatures: Vec::new(), epoch }))
        })
    }
}
