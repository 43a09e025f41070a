//! Invitations, and taking them back.

use super::{BuildError, Builder, Built, NewInvitation};
use crate::crypto::random;
use crate::id::{OpId, Role};
use crate::op::{Invite, Op, RevokeInvite};
use crate::token::InvitationKey;

impl Builder<'_> {
    /// Makes an invitation.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn invite(
        mut self,
        role: Role,
        uses: Option<u32>,
        expires_at_ms: Option<i64>,
    ) -> Result<NewInvitation, BuildError> {
        let (parents, _) = self.base();
        let seed = random(self.entropy);
        let key = InvitationKey::from_seed(&seed, &self.graph.chain()).public();
        let op = self.core(parents, Op::Invite(Invite { key, role, uses, expires_at_ms }));
        Ok(NewInvitation { op: op.sign(self.keys, self.entropy)?, seed })
    }

    /// Takes an invitation back.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn revoke_invite(mut self, invite: OpId) -> Result<Built, BuildError> {
        let (parents, _) = self.base();
        self.without_epoch(parents, Op::RevokeInvite(RevokeInvite { invite }))
    }
}
