//! Admissions: by one's own right, or by an invitation.

use std::collections::BTreeSet;

use super::{BuildError, Builder, Built};
use crate::epoch::Recipient;
use crate::id::{OpId, Role};
use crate::op::{Admit, ControllerRecord, HistoryPolicy, Op};
use crate::token::JoinRequest;

impl Builder<'_> {
    /// Admits a newcomer by this author's own right: `role` as given.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn admit(mut self, request: JoinRequest, role: Role) -> Result<Built, BuildError> {
        let (parents, state) = self.base();
        let newcomer = request.newcomer.id();
        let key = match &request.newcomer {
            ControllerRecord::Device(public) => public.receiving.clone(),
            ControllerRecord::Identity { did, as_of, .. } => {
                self.graph.key_to_seal(did, as_of, &parents).ok_or(BuildError::NestedKey { did: *did })?
            }
        };
        let mut recipients = self.recipients(&state, &BTreeSet::new());
        recipients.retain(|recipient| recipient.controller != newcomer);
        recipients.push(Recipient {
            controller: newcomer,
            key,
            reads: role.reads(),
            history: role.reads() && state.history == HistoryPolicy::All,
        });
        self.with_epoch(parents, &recipients, |epoch| {
            Op::Admit(Box::new(Admit {
                controller: request.newcomer,
                role,
                possession: request.possession,
                invitation: request.invitation,
                epoch,
            }))
        })
    }

    /// Admits a newcomer by the invitation that its request proves, in the invitation's role.
    ///
    /// # Errors
    /// [`BuildError::NoInvitation`].
    pub fn honour(mut self, request: JoinRequest) -> Result<Built, BuildError> {
        let (_, state) = self.base();
        let invite = request.invitation.as_ref().map_or(OpId([0; 32]), |proof| proof.invite);
        let role = state.invitations.get(&invite).map(|found| found.role).ok_or(BuildError::NoInvitation { invite })?;
        self.admit(request, role)
    }
}
