//! Changes of role.

use super::base::sort_cut;
use super::{BuildError, Builder, Built};
use crate::id::{ControllerId, Role};
use crate::op::{ChainCut, Op, SetRole};

impl Builder<'_> {
    /// Changes a role. `cut` = the heads this node has admitted, by chain: needed below the role member, where it says
    /// what of the controller's writing still counts; left out otherwise. A role that reads no more, or reads again, makes
    /// new keys due (see [`IdentityState::duty`](crate::state::IdentityState::duty)).
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn set_role(
        mut self,
        controller: ControllerId,
        role: Role,
        mut cut: Vec<ChainCut>,
    ) -> Result<Built, BuildError> {
        sort_cut(&mut cut);
        cut.retain(|_| !role.writes());
        let (parents, _) = self.base();
        self.without_epoch(parents, Op::SetRole(SetRole { controller, role, cut }))
    }
}
