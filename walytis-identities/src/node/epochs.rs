//! The epochs of an identity, as they are shown.

use std::time::Duration;

use super::error::IdentitiesResult;
use super::runtime::Identities;
use crate::id::{ControllerId, Did, EpochId};

/// One epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochStatus {
    /// Named by the op that begins it.
    pub id: EpochId,
    /// What that op does.
    pub begun_by: &'static str,
    /// Who published it.
    pub author: ControllerId,
    /// Who has a slot, ascending.
    pub recipients: Vec<ControllerId>,
    /// Whether it may be written under: its op counts and deals to exactly those who were controllers.
    pub counts: bool,
    /// Whether it is the one that is written under now.
    pub in_force: bool,
    /// Whether what is sealed under it can be read here.
    pub readable: bool,
    /// Of the one in force: for how long this node has known that it is.
    pub age: Option<Duration>,
}

impl Identities {
    /// Returns every epoch of an identity, older ones first, those that do not count too.
    ///
    /// # Errors
    /// [`IdentitiesError::Unknown`](super::IdentitiesError::Unknown).
    pub fn epochs(&self, did: &Did) -> IdentitiesResult<Vec<EpochStatus>> {
        let shared = self.entry(did)?.handle.shared;
        let mut known = shared.known();
        let state = known.graph.state();
        let clock = &*shared.tools.clock;
        let in_force = known.in_force.filter(|(id, _)| state.sending_epoch == Some(*id));
        let status = |op: &std::sync::Arc<crate::op::SignedOp>| {
            let (id, core) = (op.id(), op.core());
            let part = core.op.epoch()?;
            Some(EpochStatus {
                id,
                begun_by: core.op.name(),
                author: core.author,
                recipients: part.recipients().collect(),
                counts: state.epochs.get(&id).is_some_and(|epoch| epoch.counts),
                in_force: state.sending_epoch == Some(id),
                readable: known.ring.get(&id).is_some_and(|held| held.epoch.is_some()),
                age: in_force.filter(|(epoch, _)| *epoch == id).map(|(_, age)| age.now(clock)),
            })
        };
        Ok(known.graph.ops().filter_map(status).collect())
    }
}
