//! Who may sync an identity's chain, and which blocks may enter it.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;
use walytis_core::access::{Access, AccessError, Admission, AdmissionPolicy, ChainAccess, GossipKey};
use walytis_core::block::Block;
use walytis_core::id::PeerId;
use walytis_core::key::PublicKey;
use walytis_core::secret::Secret;

use super::exchange;
use super::shared::{Known, Shared};
use super::task::Command;
use crate::claim::Claim;
use crate::crypto::{Label, derive};
use crate::epoch::EpochView;
use crate::id::EpochId;
use crate::op::{OP_TOPIC, SignedOp};
use crate::state::{IdentityState, WriteRight};

/// Epochs whose gossip is listened to. From the design: the newest and the two before.
const GOSSIP_EPOCHS: usize = 3;

/// Access and admission of one identity's chain.
#[derive(Debug)]
pub(super) struct Gate(pub(super) Arc<Shared>);

#[async_trait]
impl ChainAccess for Gate {
    fn session_secret(&self) -> Secret<32> {
        // Whoever knows the DID may know that two peers talk about it; the right is judged by peer id.
        derive(Label::TransportSession, &Secret::new(*self.0.did.chain().digest()), &[0; 32], &[])
    }

    fn gossip_keys(&self) -> Vec<GossipKey> {
        let mut known = self.0.known();
        if self.0.is_archived() || self.0.role_in(&known.graph.state()).is_none() {
            return Vec::new();
        }
        let state = known.graph.state();
        let newest = newest_epochs(&state);
        newest.iter().filter_map(|id| known.gossip_key(id)).take(GOSSIP_EPOCHS).collect()
    }

    async fn prepare(&self, peer: &PeerId) -> Result<(), AccessError> {
        exchange::with_peer(&self.0, peer).await.map_err(|error| AccessError::Exchange { reason: error.to_string() })
    }

    async fn may_sync(&self, peer: &PeerId) -> Access {
        // A removed device has nothing to give and nothing to ask for.
        let inside = !self.0.is_archived() && self.0.my_role().is_some() && self.0.device_of(peer).is_some();
        if inside { Access::Granted } else { Access::Refused }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes()
    }
}

#[async_trait]
impl AdmissionPolicy for Gate {
    async fn judge(&self, block: &Block) -> Admission {
        let is_op = block.header().topics.iter().any(|topic| topic.as_str() == OP_TOPIC);
        // Content of such blocks always stands in them; without it nobody can ever be entitled.
        let Some(content) = block.inline() else { return Admission::Wait };
        let entitled = if is_op { self.judge_op(block, content) } else { self.judge_record(block, content) };
        // Never refused for good, so that replicas cannot differ by the order in which they learn.
        if entitled { Admission::Admit } else { Admission::Wait }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes()
    }
}

impl Gate {
    /// An op's block enters with an op that was authorised in its own past: that is fixed for ever.
    fn judge_op(&self, block: &Block, content: &[u8]) -> bool {
        let Ok(op) = SignedOp::decode(content) else { return false };
        let creator = block.header().creator;
        {
            let known = self.0.known();
            if known.graph.op(&op.id()).is_some() {
                return known.wrote(&op, &creator);
            }
        }
        // The op first; the block is judged again when it is in. A full queue loses nothing: the exchange brings it.
        let learn = Command::Learn { genesis: Vec::new(), ops: vec![op], cards: Vec::new(), from: None, reply: None };
        drop(self.0.commands.try_send(learn));
        false
    }

    /// Says whether a content record may enter, on whatever chain of the identity.
    pub(super) fn judge_record(&self, block: &Block, content: &[u8]) -> bool {
        let Some((claim, _)) = Claim::split(content) else { return false };
        let mut known = self.0.known();
        let right = known.graph.authorised_to_write(&claim.auth_heads, &claim.author, &block.header().creator);
        right == WriteRight::Yes
    }
}

impl Known {
    /// Says whether `creator` is a block key of the device that signed the op: its first one, or one that it renewed; a
    /// renewal may be put into its block by the new keys, a recovery by a device that it brings in.
    fn wrote(&self, op: &SignedOp, creator: &PublicKey) -> bool {
        self.graph.signs_blocks(&op.core().device, creator)
    }

    fn gossip_key(&self, id: &EpochId) -> Option<GossipKey> {
        let op = self.graph.op(id)?;
        let secret = EpochView::of(op.core())?.gossip_secret(self.ring.get(id)?)?;
        Some(GossipKey { secret })
    }
}

/// Returns the epochs that count, the one to send under first, then by depth, newest first.
pub(super) fn newest_epochs(state: &IdentityState) -> Vec<EpochId> {
    let mut epochs: Vec<_> = state.epochs.values().filter(|epoch| epoch.counts).collect();
    epochs.sort_by_key(|epoch| (state.sending_epoch != Some(epoch.id), std::cmp::Reverse(epoch.depth), epoch.id));
    epochs.iter().map(|epoch| epoch.id).collect()
}
