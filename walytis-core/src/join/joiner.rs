//! The joiner's side.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use super::finish::{by_member, connect_all};
use super::member::JOIN;
use super::token::Invitation;
use super::wire_v1::{ANSWER_MAX, Denial, JoinMessage, proof, receive, send};
use crate::chain::Chain;
use crate::clock::Entropy;
use crate::fault::Fault;
use crate::id::{Address, BlockId, ChainId, PeerId};
use crate::key::{Signer as _, SigningKey};
use crate::ledger::LedgerError;
use crate::net::Network;
use crate::node::{ChainState, GenesisImport, JoinRecord, Listing, Node, NodeError, check_name};
use crate::secret::Secret;

/// How long reaching one member and its answer may take. Chosen: a relayed connection on a bad day.
const ASK_WITHIN: Duration = Duration::from_secs(30);

/// A join failed; nothing is left behind.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The invitation has expired.
    #[error("the invitation has expired")]
    Expired,
    /// All its uses are taken.
    #[error("the invitation is used up")]
    UsedUp,
    /// It was revoked.
    #[error("the invitation was revoked")]
    Revoked,
    /// The member does not know the invitation or the chain.
    #[error("the invitation was refused: no member that was reached knows it")]
    Refused,
    /// The member cannot hand the chain over now.
    #[error("the member that was reached cannot honour the invitation now; try again later")]
    Unable,
    /// None of the members could be reached.
    #[error("nobody could be reached: {reason}")]
    Unreachable {
        /// What each attempt said.
        reason: String,
    },
    /// A member handed over another chain than the invitation names.
    #[error("wrong chain: a member handed over something else than {expected}")]
    WrongChain {
        /// The chain of the invitation.
        expected: ChainId,
    },
    /// This node could not take the chain in.
    #[error("the chain could not be taken in")]
    Node(#[from] NodeError),
}

impl JoinError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Expired | Self::UsedUp | Self::Revoked | Self::Refused => Fault::Caller,
            Self::Unable | Self::WrongChain { .. } => Fault::Peer,
            Self::Unreachable { .. } => Fault::Local,
            Self::Node(error) => error.fault(),
        }
    }

    /// The more a failure says, the later it is overruled by another.
    const fn rank(&self) -> u8 {
        match self {
            Self::Unreachable { .. } => 0,
            Self::Refused => 1,
            Self::Unable => 2,
            Self::WrongChain { .. } => 3,
            _ => 4,
        }
    }
}

/// How far a join is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinProgress {
    /// Blocks here.
    pub blocks: u64,
    /// Blocks that the member had when it let us in; there may be more by now.
    pub blocks_total: u64,
    /// Bytes that came for the chain since it was opened here.
    pub bytes: u64,
}

/// A chain that was joined; replication brings its blocks from now on, also after a restart.
#[derive(Debug)]
pub struct Joined {
    /// The chain.
    pub chain: Chain,
    /// Whether this join had begun before, and nobody was asked again.
    pub resumed: bool,
    node: Node,
    total: u64,
    summary: watch::Receiver<crate::chain::Summary>,
}

impl Joined {
    fn new(node: &Node, chain: Chain, total: u64, resumed: bool) -> Self {
        let summary = chain.core().watch();
        Self { chain, resumed, node: node.clone(), total, summary }
    }

    /// Returns how far it is.
    pub fn progress(&self) -> JoinProgress {
        let bytes = self.node.bytes_received(&self.chain.core().id());
        JoinProgress { blocks: self.summary.borrow().count, blocks_total: self.total, bytes }
    }

    /// Waits for more blocks and returns how far it is; nothing when everything that the member had is here: the join is
    /// finished then. Cancel-safe.
    ///
    /// # Errors
    /// [`LedgerError::Closed`] when the chain was shut down meanwhile.
    pub async fn next(&mut self) -> Result<Option<JoinProgress>, LedgerError> {
        if self.summary.borrow_and_update().count >= self.total {
            // If it cannot be noted now, it is when somebody looks again.
            let _noted = self.node.finish_join(&self.chain.core().id()).await;
            return Ok(None);
        }
        self.summary.changed().await.map_err(|_| LedgerError::Closed)?;
        Ok(Some(self.progress()))
    }
}

/// Joins the chain of an invitation under a local name: asks all its members in parallel, takes in what the first one
/// hands over. A join that was interrupted behind that point goes on: nobody is asked again, no use is spent, and the
/// chain keeps the name that it has. Not cancel-safe in one respect: cancelled late, the chain may have been taken in.
///
/// # Errors
/// [`JoinError`]; then nothing is left behind.
pub async fn join(
    node: &Node,
    network: &Arc<dyn Network>,
    entropy: &dyn Entropy,
    invitation: &Invitation,
    name: &str,
) -> Result<Joined, JoinError> {
    if let Some(joined) = resume(node, network, invitation).await? {
        return Ok(joined);
    }
    check_local(node, invitation, name)?;
    let mut members = by_member(invitation.members.clone());
    members.remove(&network.local_peer());
    let mut tasks = JoinSet::new();
    for (peer, addresses) in members {
        let mut nonce = [0; 32];
        entropy.fill(&mut nonce);
        let ask = Ask {
            network: Arc::clone(network),
            chain: invitation.chain,
            seed: invitation.seed.clone(),
            nonce,
            peer,
            addresses,
        };
        tasks.spawn(async move {
            let peer = ask.peer.clone();
            let late = JoinError::Unreachable { reason: format!("{peer}: no answer") };
            timeout(ASK_WITHIN, ask.run()).await.unwrap_or(Err(late))
        });
    }
    let granted = first(&mut tasks).await?;
    tasks.shutdown().await;
    let total = granted.count;
    let Grant { file, secret, .. } = granted;
    let import = GenesisImport { expected: invitation.chain, file, secret, name: name.to_owned() };
    let record = JoinRecord { blocks_total: total, members: invitation.members.clone() };
    let chain = node.import_join(import, &record).await.map_err(|error| match error {
        NodeError::WrongChain { expected, .. } => JoinError::WrongChain { expected },
        NodeError::Genesis(_) => JoinError::WrongChain { expected: invitation.chain },
        error => JoinError::Node(error),
    })?;
    Ok(Joined::new(node, chain, total, false))
}

/// Goes on with a join that had begun: connects to the members that this invitation names, perhaps at newer addresses.
async fn resume(node: &Node, network: &Arc<dyn Network>, invitation: &Invitation) -> Result<Option<Joined>, JoinError> {
    let Some(record) = node.unfinished_join(&invitation.chain).await? else { return Ok(None) };
    let chain = node.chain_by_id(&invitation.chain)?;
    if chain.core().summary().count < record.blocks_total {
        let connected = timeout(ASK_WITHIN, connect_all(network, invitation.members.clone())).await;
        debug!(chain = ?invitation.chain, in_time = connected.is_ok(), "a join goes on");
    }
    Ok(Some(Joined::new(node, chain, record.blocks_total, true)))
}

/// Finds out what would fail here before a use is spent.
fn check_local(node: &Node, invitation: &Invitation, name: &str) -> Result<(), JoinError> {
    check_name(name)?;
    for entry in node.chains(Listing::All) {
        if entry.id == invitation.chain && entry.state == ChainState::Offline {
            // A copy without access gets it, and keeps its name.
            return Ok(());
        }
        if entry.id == invitation.chain {
            return Err(NodeError::AlreadyHere { id: entry.id }.into());
        }
        if entry.name == name {
            return Err(NodeError::NameTaken { name: name.to_owned() }.into());
        }
    }
    Ok(())
}

/// Returns the first grant, or the failure that says most.
async fn first(tasks: &mut JoinSet<Result<Grant, JoinError>>) -> Result<Grant, JoinError> {
    let mut worst: Option<JoinError> = None;
    let mut reasons = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        let error = match ended {
            Ok(Ok(grant)) => return Ok(grant),
            Ok(Err(error)) => error,
            Err(_) => continue,
        };
        if let JoinError::Unreachable { reason } = &error {
            reasons.push(reason.clone());
        }
        if worst.as_ref().is_none_or(|worst| worst.rank() < error.rank()) {
            worst = Some(error);
        }
    }
    match worst {
        None => Err(JoinError::Unreachable { reason: "the invitation names nobody but this node".to_owned() }),
        Some(JoinError::Unreachable { .. }) => Err(JoinError::Unreachable { reason: reasons.join("; ") }),
        Some(error) => Err(error),
    }
}

struct Grant {
    secret: Option<Secret<32>>,
    count: u64,
    file: Bytes,
}

/// One member that is asked.
struct Ask {
    network: Arc<dyn Network>,
    chain: ChainId,
    seed: Secret<32>,
    nonce: [u8; 32],
    peer: PeerId,
    addresses: Vec<Address>,
}

impl Ask {
    async fn run(self) -> Result<Grant, JoinError> {
        let unreachable = |reason: String| JoinError::Unreachable { reason: format!("{}: {reason}", self.peer) };
        let connected = self.network.connect(Some(&self.peer), &self.addresses).await;
        connected.map_err(|error| unreachable(error.to_string()))?;
        let opened = self.network.open(&self.peer, JOIN).await;
        let mut stream = opened.map_err(|error| unreachable(error.to_string()))?;
        let broken = || unreachable("the connection broke".to_owned());
        send(&mut stream, &JoinMessage::Hello { nonce: self.nonce }).await.map_err(|_| broken())?;
        let Some(JoinMessage::Challenge { nonce }) = receive(&mut stream, ANSWER_MAX).await else {
            return Err(broken());
        };
        let message = proof(&self.chain, [&self.nonce, &nonce], &self.network.local_peer(), &self.peer);
        let key = SigningKey::from_seed(&self.seed);
        // A key in memory always signs.
        let signature = key.sign(&message).map_err(|_| broken())?;
        let prove = JoinMessage::Prove { chain: self.chain, key: key.public_key(), signature };
        send(&mut stream, &prove).await.map_err(|_| broken())?;
        match receive(&mut stream, ANSWER_MAX).await {
            Some(JoinMessage::Granted { genesis, .. }) if BlockId::of_file(&genesis) != self.chain.0 => {
                Err(JoinError::WrongChain { expected: self.chain })
            }
            Some(JoinMessage::Granted { secret, count, genesis }) => Ok(Grant { secret, count, file: genesis }),
            Some(JoinMessage::Denied(Denial::Expired)) => Err(JoinError::Expired),
            Some(JoinMessage::Denied(Denial::UsedUp)) => Err(JoinError::UsedUp),
            Some(JoinMessage::Denied(Denial::Revoked)) => Err(JoinError::Revoked),
            Some(JoinMessage::Denied(Denial::Unable)) => Err(JoinError::Unable),
            Some(JoinMessage::Refused) => Err(JoinError::Refused),
            Some(_) | None => Err(broken()),
        }
    }
}
