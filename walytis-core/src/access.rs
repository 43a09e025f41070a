//! Who may take part in a chain, and which blocks may enter it.

use std::fmt;

use async_trait::async_trait;
use thiserror::Error;
use tokio::sync::watch;

use crate::block::Block;
use crate::id::{ChainId, PeerId};
use crate::secret::Secret;

/// Whether a peer may sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It may receive blocks and blobs and send some.
    Granted,
    /// It gets one flat refusal.
    Refused,
}

/// What the access of a chain could not do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AccessError {
    /// The exchange that must precede a session failed; it is tried again later.
    #[error("the exchange before the session failed: {reason}")]
    Exchange {
        /// What happened.
        reason: String,
    },
}

/// The keys of one generation under which a chain's gossip travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GossipKey {
    /// The topic name and the sealing key derive from this.
    pub secret: Secret<32>,
}

/// May this peer sync, and under which key does gossip travel?
#[async_trait]
pub trait ChainAccess: Send + Sync + fmt::Debug {
    /// Returns the secret by which two peers recognise, without naming it to others, which chain a session is about.
    /// On an invited chain knowing it *is* the right to sync; on a governed chain the right is judged by `may_sync`.
    fn session_secret(&self) -> Secret<32>;

    /// Returns the gossip keys, newest first: published under the first, received under all (at most 3). Empty while
    /// none is known; then there is no gossip.
    fn gossip_keys(&self) -> Vec<GossipKey>;

    /// Runs whatever must precede a session that this node opens with `peer`, e.g. the exchange of authority ops.
    ///
    /// # Errors
    /// [`AccessError`]; the session is then not opened now.
    async fn prepare(&self, peer: &PeerId) -> Result<(), AccessError>;

    /// Judges the authenticated peer under what is known now. Called at the start of a session, on every change, and
    /// before blocks are served.
    async fn may_sync(&self, peer: &PeerId) -> Access;

    /// Returns a counter that moves when keys or rights may have changed.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// Whether a valid block may enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It enters.
    Admit,
    /// Not yet: it is held in memory, bounded, and never relayed; judged again when the policy changes. If an admissible
    /// block descends from it, it enters as a skeleton and is judged again all the same.
    Wait,
    /// Never, with the number of the overlay's rule: on no replica, at no time, and nothing that descends from it is
    /// admitted either. It must follow from the block and its ancestors alone, or replicas would differ by the order in
    /// which they learn.
    Refuse(&'static str),
}

/// Decides which valid blocks enter a chain. Must be monotone: what it once admitted it would always admit.
#[async_trait]
pub trait AdmissionPolicy: Send + Sync + fmt::Debug {
    /// Judges a block whose own rules all hold and whose ancestors are all known: admitted, or judged `Wait` before and
    /// still waiting. So an ancestor may not stand on the chain yet, and must be remembered by the policy if it matters.
    ///
    /// Called by the task that owns the chain: it must not call back into the chain (that would wait for itself), only
    /// look at what the policy keeps. The chain admits nothing meanwhile, so it should answer soon.
    async fn judge(&self, block: &Block) -> Admission;

    /// Returns a counter that moves when a waiting block may be judged otherwise.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// Admits everything: plain chains, where whoever is in may write.
#[derive(Debug)]
pub struct AdmitAll(watch::Sender<u64>);

impl Default for AdmitAll {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

#[async_trait]
impl AdmissionPolicy for AdmitAll {
    async fn judge(&self, _block: &Block) -> Admission {
        Admission::Admit
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

/// Access by one secret: whoever knows it may sync. The secret of an invited chain is random and handed over with an
/// invitation; that of a public chain follows from its id, so that everybody who has the id has it.
#[derive(Debug)]
pub struct SecretAccess {
    session: Secret<32>,
    gossip: Secret<32>,
    changes: watch::Sender<u64>,
}

/// No access: the chain's secret is not here, so nobody can be recognised, and nobody may sync.
#[derive(Debug)]
pub struct NoAccess(watch::Sender<u64>);

impl Default for NoAccess {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

#[async_trait]
impl ChainAccess for NoAccess {
    fn session_secret(&self) -> Secret<32> {
        // Never used: a chain without access is not handed to replication.
        Secret::new([0; 32])
    }

    fn gossip_keys(&self) -> Vec<GossipKey> {
        Vec::new()
    }

    async fn prepare(&self, _peer: &PeerId) -> Result<(), AccessError> {
        Err(AccessError::Exchange { reason: "this node has no access to the chain".to_owned() })
    }

    async fn may_sync(&self, _peer: &PeerId) -> Access {
        Access::Refused
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

/// Label of the secret by which sessions about a chain are recognised.
const SESSION_LABEL: &[u8] = b"walytis/core/session/v1";
/// Label of the secret under which a chain's gossip travels.
const GOSSIP_LABEL: &[u8] = b"walytis/core/gossip/v1";
/// Label of the secret of a public chain.
const PUBLIC_LABEL: &[u8] = b"walytis/core/public-chain/v1";

impl SecretAccess {
    /// Returns the access of an invited chain.
    pub fn invited(chain: &ChainId, secret: &Secret<32>) -> Self {
        Self {
            session: derive(secret, SESSION_LABEL, chain),
            gossip: derive(secret, GOSSIP_LABEL, chain),
            changes: watch::Sender::new(0),
        }
    }

    /// Returns the access of a public chain.
    pub fn public(chain: &ChainId) -> Self {
        Self::invited(chain, &derive(&Secret::new(*chain.digest()), PUBLIC_LABEL, chain))
    }
}

/// HKDF-SHA256 (RFC 5869) without salt; info = label ‖ chain id.
fn derive(secret: &Secret<32>, label: &[u8], chain: &ChainId) -> Secret<32> {
    let mut out = zeroize::Zeroizing::new([0u8; 32]);
    #[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8,160 bytes")]
    hkdf::Hkdf::<sha2::Sha256>::new(None, secret.expose())
        .expand_multi_info(&[label, chain.digest()], out.as_mut())
        .expect("32 bytes can be derived");
    Secret::new(*out)
}

#[async_trait]
impl ChainAccess for SecretAccess {
    fn session_secret(&self) -> Secret<32> {
        self.session.clone()
    }

    fn gossip_keys(&self) -> Vec<GossipKey> {
        vec![GossipKey { secret: self.gossip.clone() }]
    }

    async fn prepare(&self, _peer: &PeerId) -> Result<(), AccessError> {
        Ok(())
    }

    async fn may_sync(&self, _peer: &PeerId) -> Access {
        // The peer proved that it knows the secret, or the session would not have got so far.
        Access::Granted
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_chains_and_uses_all_differ() {
        let [one, two] = [1, 2].map(|n| ChainId(crate::id::BlockId::from_digest([n; 32])));
        let secret = Secret::new([9; 32]);
        let a = SecretAccess::invited(&one, &secret);
        let b = SecretAccess::invited(&two, &secret);
        let public = SecretAccess::public(&one);
        let keys = [&a.session, &a.gossip, &b.session, &b.gossip, &public.session, &public.gossip, &secret];
        for (at, key) in keys.iter().enumerate() {
            assert!(keys.iter().skip(at + 1).all(|other| other != key), "key {at} is used twice");
        }
        assert_eq!(public.session, SecretAccess::public(&one).session);
    }
}
