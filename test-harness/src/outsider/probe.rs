//! All attempts, each over its own connection, each bounded in time.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;
use walytis_core::clock::Entropy;
use walytis_core::id::{Address, ChainId};
use walytis_core::net::Network as _;
use walytis_core::secret::Secret;
use walytis_identities::id::{Did, OpId};
use walytis_ipfs::NodeKey;

use super::catch_up::{self, Question};
use super::haul::{Findings, Haul};
use super::peer::{BarePeer, NoConnection};
use super::{authority, content, gossip, join};

/// How long one attempt may take behind its connection. Two rounds of them and of connections stay below six seconds.
const ATTEMPT_WITHIN: Duration = Duration::from_millis(900);

/// Whom to try, and what is known of it.
#[derive(Clone, Debug)]
pub struct Target {
    /// A multiaddr of one of its controllers.
    pub address: Address,
    /// The identity.
    pub did: Did,
    /// Digests of blocks, blobs and envelopes.
    pub ids: Vec<[u8; 32]>,
    /// Names of its private ledgers.
    pub layers: Vec<String>,
}

/// As whom to try.
#[derive(Clone, Debug)]
pub enum Keys {
    /// A fresh stranger for every attempt.
    Fresh,
    /// The node key of this seed. With that of a controller the attempts succeed: so they can.
    Of(Secret<32>),
}

/// One thing that is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attempt {
    /// Asks for the authority ops.
    Authority,
    /// Asks for the heads and everything above nothing.
    Heads,
    /// Walks down from every id and wants what is there.
    BlocksById,
    /// Asks for every id as a blob.
    Blobs,
    /// Opens the chain with the secret that it would have if it were public.
    PublicChain,
    /// Pushes a block of its own.
    PushBlock,
    /// Joins as into a plain chain, by the key of a made-up invitation.
    ChainJoin,
    /// Says garbage where a joiner speaks.
    GarbageJoin,
    /// Joins with a known invitation and the wrong key.
    ForgedJoin,
    /// Asks for every id as an envelope.
    Contents,
    /// Pushes envelopes that are none.
    PushContents,
    /// Listens to and asks by gossip.
    Gossip,
}

impl Attempt {
    /// Every attempt, in the order in which they are reported.
    pub const ALL: [Self; 12] = [
        Self::Authority,
        Self::Heads,
        Self::BlocksById,
        Self::Blobs,
        Self::PublicChain,
        Self::PushBlock,
        Self::ChainJoin,
        Self::GarbageJoin,
        Self::ForgedJoin,
        Self::Contents,
        Self::PushContents,
        Self::Gossip,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Authority => "authority ops of the DID",
            Self::Heads => "catch-up, heads and all blocks",
            Self::BlocksById => "catch-up, blocks by id",
            Self::Blobs => "catch-up, blobs by id",
            Self::PublicChain => "catch-up, as if the chain were public",
            Self::PushBlock => "catch-up, pushing a block",
            Self::ChainJoin => "chain join with a made-up invitation",
            Self::GarbageJoin => "identity join with garbage",
            Self::ForgedJoin => "identity join with a forged proof",
            Self::Contents => "off-chain contents by id",
            Self::PushContents => "off-chain push of junk",
            Self::Gossip => "gossip on topics that follow from the DID",
        }
    }
}

/// Tries everything, and learns from one attempt for the next.
#[derive(Debug)]
pub struct Probe {
    /// Whom to try.
    pub target: Target,
    /// As whom.
    pub keys: Keys,
    entropy: Arc<dyn Entropy>,
    invites: Vec<OpId>,
}

impl Probe {
    /// Prepares a probe.
    pub fn new(target: Target, keys: Keys, entropy: Arc<dyn Entropy>) -> Self {
        Self { target, keys, entropy, invites: Vec::new() }
    }

    /// Makes all attempts within six seconds. Only with [`Keys::Fresh`]: they are made side by side.
    ///
    /// # Errors
    /// [`NoConnection`] if one of them had no connection and so says nothing.
    pub async fn all(&mut self) -> Result<Findings, NoConnection> {
        let mut findings = Findings::default();
        let first = self.attempt(Attempt::Authority).await?;
        findings.add(Attempt::Authority.name(), &first);
        let others: Vec<_> = Attempt::ALL.into_iter().filter(|attempt| *attempt != Attempt::Authority).collect();
        let probe = &*self;
        let hauls = join_all(others.iter().map(|attempt| probe.make(*attempt))).await;
        for (attempt, haul) in others.iter().zip(hauls) {
            findings.add(attempt.name(), &haul?);
        }
        Ok(findings)
    }

    /// Makes one attempt and learns from it.
    ///
    /// # Errors
    /// [`NoConnection`].
    pub async fn attempt(&mut self, attempt: Attempt) -> Result<Haul, NoConnection> {
        let haul = self.make(attempt).await?;
        self.invites.extend(haul.invites.iter().copied());
        self.target.ids.extend(haul.envelopes.iter().copied());
        Ok(haul)
    }

    async fn make(&self, attempt: Attempt) -> Result<Haul, NoConnection> {
        let seed = match &self.keys {
            Keys::Fresh => self.secret(),
            Keys::Of(seed) => seed.clone(),
        };
        let mut peer = BarePeer::connect(NodeKey::from_seed(&seed), &self.target.address, &*self.entropy).await?;
        let mut haul = Haul::default();
        // What came before the time was over counts.
        let acted = timeout(ATTEMPT_WITHIN, Box::pin(self.act(attempt, &mut peer, &mut haul))).await;
        if acted.is_err() {
            haul.say("nothing more came");
        }
        peer.network.shutdown().await;
        Ok(haul)
    }

    async fn act(&self, attempt: Attempt, peer: &mut BarePeer, haul: &mut Haul) {
        match attempt {
            Attempt::Authority => authority::ask(peer, &self.target.did, haul).await,
            Attempt::Heads => catch_up::ask(self, peer, Question::Heads, haul).await,
            Attempt::BlocksById => catch_up::ask(self, peer, Question::BlocksById, haul).await,
            Attempt::Blobs => catch_up::ask(self, peer, Question::Blobs, haul).await,
            Attempt::PublicChain => catch_up::ask(self, peer, Question::AsIfPublic, haul).await,
            Attempt::PushBlock => catch_up::ask(self, peer, Question::Push, haul).await,
            Attempt::ChainJoin => join::chain(self, peer, haul).await,
            Attempt::GarbageJoin => join::garbage(self, peer, haul).await,
            Attempt::ForgedJoin => join::forged(self, peer, self.invites.last(), haul).await,
            Attempt::Contents => content::ask(self, peer, haul).await,
            Attempt::PushContents => content::push(self, peer, haul).await,
            Attempt::Gossip => gossip::listen(self, peer, haul).await,
        }
    }

    pub(super) fn chain(&self) -> ChainId {
        self.target.did.chain()
    }

    pub(super) fn entropy(&self) -> &dyn Entropy {
        &*self.entropy
    }

    pub(super) fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.entropy.fill(&mut bytes);
        bytes
    }

    pub(super) fn secret(&self) -> Secret<32> {
        Secret::new(self.bytes())
    }
}
