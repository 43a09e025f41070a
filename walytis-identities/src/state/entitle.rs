//! What a controller may hold of an epoch: what its slot gives, and what it may ask for if it has no slot or lost it.

use super::AuthorityGraph;
use crate::id::{ControllerId, EpochId, OpId};
use crate::op::{HistoryPolicy, Op};

/// What of an epoch's secrets a controller may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EpochShare {
    /// The transport secret.
    pub transport: bool,
    /// The epoch secret.
    pub epoch: bool,
    /// The history key, which opens every epoch before.
    pub history: bool,
}

impl EpochShare {
    /// Says whether it is nothing at all.
    pub const fn is_empty(&self) -> bool {
        !self.transport && !self.epoch && !self.history
    }
}

impl AuthorityGraph {
    /// Returns what `controller` may hold of `epoch` under everything known: of epochs that were dealt to it, or that do
    /// not lie before it came in, what its role allows; of those before, what the history policy says. Nothing for whoever
    /// is no controller now.
    pub fn share_of(&mut self, controller: &ControllerId, epoch: &EpochId) -> EpochShare {
        let state = self.state();
        // Void epochs too: others may have written under them before they knew.
        let part = self.op(epoch).and_then(|op| op.core().op.epoch());
        let (Some(standing), Some(part)) = (state.controllers.get(controller), part) else {
            return EpochShare::default();
        };
        let (reads, history) = (standing.role.reads(), standing.role.reads() && standing.history);
        let dealt = part.recipients().any(|recipient| recipient == *controller);
        let since = dealt || self.follows_entry(&standing.since, epoch);
        EpochShare { transport: since, epoch: reads && (since || history), history }
    }

    /// Says whether an epoch belongs to the time of a controller: it does not lie before its admission, or, where
    /// newcomers read from their invitation on, not before that. An epoch that an invitation names as the one right before
    /// it was begun for it.
    fn follows_entry(&self, since: &OpId, epoch: &EpochId) -> bool {
        let nodes = self.nodes();
        let Some(epoch_at) = nodes.find(epoch) else { return false };
        let Some(entry) = nodes.find(since) else { return false };
        let begins = match (nodes.at(entry).kind(), self.history()) {
            // The founder's time is all of it.
            (Op::Create(_), _) => return true,
            (Op::Admit(admit), HistoryPolicy::FromInvite) => {
                let invite = admit.invitation.as_ref().and_then(|proof| nodes.find(&proof.invite));
                invite.unwrap_or(entry)
            }
            _ => entry,
        };
        let invited_with = begins != entry && nodes.at(begins).op.core().auth_parents.contains(epoch);
        invited_with || !nodes.at(begins).past.has(epoch_at)
    }

    /// Returns what newcomers may read, as the identity was created.
    fn history(&self) -> HistoryPolicy {
        match self.nodes().iter().next().map(super::nodes::Node::kind) {
            Some(Op::Create(op)) => op.history,
            _ => HistoryPolicy::None,
        }
    }
}
