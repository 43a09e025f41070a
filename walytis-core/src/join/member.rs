//! The member's side: honours invitations that this node has issued, and the shareable ones of all members.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ed25519_zebra::{Signature as ZebraSignature, VerificationKey};
use futures::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::wire_v1::{ASK_MAX, Denial, JoinMessage, proof, receive, send};
use crate::clock::Entropy;
use crate::id::{ChainId, PeerId};
use crate::key::{PublicKey, Signature};
use crate::net::{IncomingStream, Network, NetworkError, Protocol, Stream};
use crate::node::{InvitationError, Node};

/// Protocol of joins.
pub const JOIN: Protocol = "/walytis/join/1";
/// Joiners served at the same time; more wait.
const SERVED_MAX: usize = 16;
/// Streams of one peer that are served at the same time; more are reset. Chosen: one that broke may still be closing.
const SERVED_PER_PEER_MAX: usize = 2;
/// How long one joiner may take.
const SERVE_WITHIN: Duration = Duration::from_secs(20);

/// Honours the invitations of a node, and goes on with the joins that it began, until it is shut down; cheap to clone.
#[derive(Clone)]
pub struct JoinService {
    stop: CancellationToken,
    task: Arc<tokio::sync::Mutex<Option<JoinHandle<()>>>>,
}

impl fmt::Debug for JoinService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinService")
    }
}

impl JoinService {
    /// Starts to accept joiners. Must be called within a runtime.
    ///
    /// # Errors
    /// [`NetworkError`] if the protocol is taken already or the network is down.
    pub fn start(node: Node, network: Arc<dyn Network>, entropy: Arc<dyn Entropy>) -> Result<Self, NetworkError> {
        let incoming = network.accept(JOIN)?;
        let stop = CancellationToken::new();
        let member = Member { node, network, entropy };
        let task = tokio::spawn(serve_and_finish(member, incoming, stop.clone()));
        Ok(Self { stop, task: Arc::new(tokio::sync::Mutex::new(Some(task))) })
    }

    /// Ends it; returns when no task is left. Idempotent.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        if let Some(task) = self.task.lock().await.take() {
            // A panic in the task was reported by the runtime; there is nothing left to end.
            let _ended = task.await;
        }
    }
}

#[derive(Clone, Debug)]
struct Member {
    node: Node,
    network: Arc<dyn Network>,
    entropy: Arc<dyn Entropy>,
}

/// Honours the invitations of this node, and finishes its own joins.
async fn serve_and_finish(member: Member, incoming: mpsc::Receiver<IncomingStream>, stop: CancellationToken) {
    let finish = super::finish::run(member.node.clone(), Arc::clone(&member.network), stop.clone());
    futures::future::join(finish, accept(member, incoming, stop)).await;
}

async fn accept(member: Member, mut incoming: mpsc::Receiver<IncomingStream>, stop: CancellationToken) {
    let mut tasks = JoinSet::new();
    // Each task holds a copy of its peer's mark, so that their number is that of the copies.
    let mut serving: BTreeMap<PeerId, Arc<()>> = BTreeMap::new();
    loop {
        let room = tasks.len() < SERVED_MAX;
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_ended) = tasks.join_next(), if !tasks.is_empty() => {
                serving.retain(|_, mark| Arc::strong_count(mark) > 1);
            }
            stream = incoming.recv(), if room => match stream {
                Some(IncomingStream { peer, stream }) => {
                    let mark = serving.entry(peer.clone()).or_default();
                    if Arc::strong_count(mark) > SERVED_PER_PEER_MAX {
                        debug!(?peer, "too many joins of one peer at once");
                        continue;
                    }
                    let (member, mark) = (member.clone(), Arc::clone(mark));
                    tasks.spawn(async move {
                        let _mark = mark;
                        if timeout(SERVE_WITHIN, member.serve(&peer, stream)).await.is_err() {
                            debug!(?peer, "a joiner took too long");
                        }
                    });
                }
                None => break,
            },
        }
    }
    stop.cancelled().await;
    tasks.shutdown().await;
}

impl Member {
    async fn serve(&self, joiner: &PeerId, mut stream: Box<dyn Stream>) {
        let answer = self.judge(joiner, &mut stream).await;
        let sent = send(&mut stream, &answer.unwrap_or(JoinMessage::Refused)).await;
        if sent.is_ok() {
            // The joiner has the answer; how it ends the stream is its affair.
            let _closed = stream.close().await;
        }
    }

    /// Returns the answer to a joiner; nothing: the flat refusal.
    async fn judge(&self, joiner: &PeerId, stream: &mut Box<dyn Stream>) -> Option<JoinMessage> {
        let Some(JoinMessage::Hello { nonce: theirs }) = receive(stream, ASK_MAX).await else { return None };
        let mut nonce = [0; 32];
        self.entropy.fill(&mut nonce);
        send(stream, &JoinMessage::Challenge { nonce }).await.ok()?;
        let Some(JoinMessage::Prove { chain, key, signature }) = receive(stream, ASK_MAX).await else { return None };
        let message = proof(&chain, [&theirs, &nonce], joiner, &self.network.local_peer());
        if !verify(&key, &message, &signature) {
            return None;
        }
        // From here on the joiner holds the seed of `key`; whether that is an invitation the node's records say.
        let denied = |denial| Some(JoinMessage::Denied(denial));
        match self.node.honour(&chain, &key, joiner).await {
            Ok(honoured) => {
                let core = self.node.chain_by_id(&chain).ok()?.core().clone();
                let Ok(Some(genesis)) = core.file(&chain.0).await else { return denied(Denial::Unable) };
                info!(?chain, ?joiner, uses_left = honoured.uses_left, "invitation honoured");
                Some(JoinMessage::Granted { secret: honoured.secret, count: core.summary().count, genesis })
            }
            Err(InvitationError::Expired) => denied(Denial::Expired),
            Err(InvitationError::UsedUp) => denied(Denial::UsedUp),
            Err(InvitationError::Revoked) => denied(Denial::Revoked),
            // Nobody is asked to revoke here.
            Err(InvitationError::Unknown | InvitationError::NotIssuer) => None,
            Err(InvitationError::Node(error)) => self.judge_failure(&chain, &key, &error).await,
        }
    }

    /// A chain that is unknown or governed is refused flatly; what only fails now may be tried again by those who hold
    /// a known invitation.
    async fn judge_failure(
        &self,
        chain: &ChainId,
        key: &PublicKey,
        error: &crate::node::NodeError,
    ) -> Option<JoinMessage> {
        warn!(?chain, %error, "an invitation could not be honoured");
        self.node.knows_invitation(chain, key).await.then_some(JoinMessage::Denied(Denial::Unable))
    }
}

fn verify(key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
    let key = VerificationKey::try_from(*key.as_bytes());
    key.is_ok_and(|key| key.verify(&ZebraSignature::from(signature.0), message).is_ok())
}
