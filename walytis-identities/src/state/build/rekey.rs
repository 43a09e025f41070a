//! New epochs without any other change.

use std::collections::BTreeSet;

use super::{BuildError, Builder, Built};
use crate::id::ControllerId;
use crate::op::Op;
use crate::state::Controller;

impl Builder<'_> {
    /// Starts a new epoch.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn rekey(mut self) -> Result<Built, BuildError> {
        let (parents, state) = self.base();
        let unsealable = |controller: &&Controller| self.receiving_key(controller).is_none();
        if let Some(ControllerId::Identity(did)) = state.controllers.values().find(unsealable).map(|found| found.id) {
            return Err(BuildError::NestedKey { did });
        }
        let recipients = self.recipients(&state, &BTreeSet::new());
        self.with_epoch(parents, &recipients, |epoch| Op::Rekey(Box::new(epoch)))
    }
}
