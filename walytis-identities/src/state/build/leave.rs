//! The author's own end.

use super::{BuildError, Builder, Built};
use crate::op::Op;

impl Builder<'_> {
    /// Leaves.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn leave(mut self) -> Result<Built, BuildError> {
        let (parents, _) = self.base();
        self.without_epoch(parents, Op::Leave)
    }
}
