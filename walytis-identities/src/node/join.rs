//! Joining an identity: `/walytis/identity/join/1`, the joiner's side.
//!
//! The new device's keys are stored before they are shown to anybody, and kept until the answer is final: whoever was
//! interrupted repeats with the same keys, gets the same `Admit`, and costs no second use.

use std::sync::Arc;

use bytes::Bytes;
use futures::io::AsyncReadExt as _;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::{Duration, timeout};
use tracing::debug;
use walytis_core::block::{Block, UnverifiedBlock};
use walytis_core::clock::Entropy;
use walytis_core::id::{ChainId, PeerId};
use walytis_core::store::{Batch, Durability};

use super::error::{ExchangeError, IdentitiesError, IdentitiesResult, JoinError};
use super::exchange::{Items, ROUNDS_MAX, Received, receive_items, send_items};
use super::frame::{self, FRAME_MAX};
use super::host::JOIN;
use super::records::{self, JoinRecord};
use super::shared::{Shared, Tools};
use super::task::OPS_AT_ONCE;
use super::wire_v1::{self, JoinAnswer, JoinChallenge, JoinHello, JoinProof};
use super::{exchange, nested, ring};
use crate::crypto::DeviceKeys;
use crate::id::{ControllerId, Did, OpId};
use crate::op::SignedOp;
use crate::state::{AuthorityGraph, Held};
use crate::token::{Challenge, IdentityToken, InvitationKey, JoinRequest, SessionTranscript, TokenPeer};

/// How long one address may take to answer.
const DIAL_WITHIN: Duration = Duration::from_secs(20);
/// How long one join may take, the first part of the authority ops included; as an identity, whose own ops go the other way
/// in parts.
const WITHIN: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(300));

/// What a controller handed over, checked.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) keys: DeviceKeys,
    pub(super) genesis: Block,
    pub(super) graph: AuthorityGraph,
    /// Who admitted.
    pub(super) peer: PeerId,
}

/// Who wants in.
struct Joiner {
    keys: DeviceKeys,
    /// The identity that wants in, if it is one; then the keys are those of its device on this node.
    person: Option<Arc<Shared>>,
}

impl Joiner {
    fn id(&self) -> ControllerId {
        self.person.as_ref().map_or(ControllerId::Device(self.keys.id()), |person| ControllerId::Identity(person.did))
    }

    /// Makes the request, and what has to be known to judge it.
    fn request(
        &self,
        chain: &ChainId,
        honouring: &ControllerId,
        invitation: (&OpId, &InvitationKey),
        entropy: &dyn Entropy,
    ) -> (JoinRequest, Option<Items>) {
        let Some(person) = &self.person else {
            return (JoinRequest::new(&self.keys, chain, honouring, Some(invitation), entropy), None);
        };
        let known = person.known();
        let as_of = (person.did, known.graph.named_heads());
        let request = JoinRequest::as_identity(as_of, &self.keys, chain, honouring, Some(invitation), entropy);
        let part = known.graph.part(&Held::default(), exchange::bounds(&person.tools));
        (request, Some(Items::new(Some(person.genesis.clone()), part, std::iter::empty())))
    }
}

/// Joins as another identity of this node, by whichever of the token's controllers answers first.
pub(super) async fn join_as(tools: &Tools, token: &IdentityToken, person: Arc<Shared>) -> IdentitiesResult<Joined> {
    let joiner = Joiner { keys: (*person.keys()?).clone(), person: Some(person) };
    let outcome = attempt_all(tools, token, &joiner, &mut false).await;
    let (graph, genesis, peer) = outcome.map_err(IdentitiesError::Join)?;
    Ok(Joined { keys: joiner.keys, genesis, graph, peer })
}

/// Joins by whichever of the token's controllers answers first.
pub(super) async fn join(tools: &Tools, token: &IdentityToken, device_name: &str) -> IdentitiesResult<Joined> {
    let joiner = Joiner { keys: prepare_keys(tools, token, device_name).await?, person: None };
    let mut shown = false;
    match attempt_all(tools, token, &joiner, &mut shown).await {
        Ok((graph, genesis, peer)) => Ok(Joined { keys: joiner.keys, genesis, graph, peer }),
        Err(error) => {
            // Kept only if somebody may have admitted them.
            if !shown || error.is_final() {
                forget(tools, token).await?;
            }
            Err(IdentitiesError::Join(error))
        }
    }
}

/// Returns the keys of an earlier attempt, or fresh ones, stored.
async fn prepare_keys(tools: &Tools, token: &IdentityToken, device_name: &str) -> IdentitiesResult<DeviceKeys> {
    let chain = token.did.chain();
    let name = ring::device_name(&token.did);
    let earlier = tools.store.get(&records::join(&chain)).await?.is_some();
    if let Some(keys) = tools.secrets.get(&name).await?.filter(|_| earlier)
        && let Ok(keys) = DeviceKeys::decode(&keys)
    {
        return Ok(keys);
    }
    let keys = DeviceKeys::generate(&*tools.entropy);
    tools.secrets.put(&name, keys.encode()).await?;
    let record = JoinRecord { device_name: device_name.to_owned() };
    let mut batch = Batch::new();
    batch.put(records::join(&chain), records::encode(&record));
    tools.store.commit(batch, Durability::Flushed).await?;
    Ok(keys)
}

/// Leaves nothing behind.
async fn forget(tools: &Tools, token: &IdentityToken) -> IdentitiesResult<()> {
    let mut batch = Batch::new();
    batch.delete(records::join(&token.did.chain()));
    tools.store.commit(batch, Durability::Flushed).await?;
    Ok(tools.secrets.delete(&ring::device_name(&token.did)).await?)
}

/// Dials all at once; asks those that answer one after the other, so that no two admit at the same time.
async fn attempt_all(
    tools: &Tools,
    token: &IdentityToken,
    joiner: &Joiner,
    shown: &mut bool,
) -> Result<(AuthorityGraph, Block, PeerId), JoinError> {
    let mut dials: FuturesUnordered<_> = token.peers.iter().map(|peer| dial(tools, peer)).collect();
    let mut failures = Vec::new();
    let mut refused: Option<JoinError> = None;
    while let Some(dialled) = dials.next().await {
        let peer = match dialled {
            Ok(peer) => peer,
            Err(reason) => {
                failures.push(reason);
                continue;
            }
        };
        match join_at(tools, token, joiner, &peer, shown).await {
            Ok((graph, genesis)) => return Ok((graph, genesis, peer)),
            Err(Failure::Join(error)) if error.is_final() => return Err(error),
            Err(Failure::Join(error)) => refused = Some(error),
            Err(Failure::Exchange(error)) => {
                debug!(did = ?token.did, ?peer, %error, "joining by one controller failed");
                failures.push(error.to_string());
            }
        }
    }
    if failures.is_empty() {
        failures.push("the invitation names no address".to_owned());
    }
    Err(refused.unwrap_or(JoinError::Unreachable { reason: failures.join("; ") }))
}

async fn dial(tools: &Tools, to: &TokenPeer) -> Result<PeerId, String> {
    let connect = tools.network.connect(Some(&to.peer), &to.addresses);
    match timeout(DIAL_WITHIN, connect).await {
        Ok(Ok(peer)) => Ok(peer),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("{} did not answer in time", to.peer)),
    }
}

enum Failure {
    Join(JoinError),
    Exchange(ExchangeError),
}

impl<E: Into<ExchangeError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Exchange(error.into())
    }
}

/// Joins by one controller, and gets from it all that there is of the identity, in as many parts as it takes.
async fn join_at(
    tools: &Tools,
    token: &IdentityToken,
    joiner: &Joiner,
    peer: &PeerId,
    shown: &mut bool,
) -> Result<(AuthorityGraph, Block), Failure> {
    let within = if joiner.person.is_some() { WITHIN.1 } else { WITHIN.0 };
    let attempt = timeout(within, attempt(tools, token, joiner, peer, shown));
    let (admit, first) = attempt.await.unwrap_or(Err(Failure::Exchange(ExchangeError::TimedOut)))?;
    let whole = assemble(tools, &token.did, first, (peer, ROUNDS_MAX)).await;
    let (genesis, graph) = whole.map_err(|error| match error {
        ExchangeError::Malformed { what } => Failure::Join(JoinError::Mismatch { reason: what }),
        error => Failure::Exchange(error),
    })?;
    let checked = check(graph, &joiner.id(), &admit).map_err(|reason| Failure::Join(JoinError::Mismatch { reason }))?;
    Ok((checked, genesis))
}

async fn attempt(
    tools: &Tools,
    token: &IdentityToken,
    who: &Joiner,
    peer: &PeerId,
    shown: &mut bool,
) -> Result<(OpId, Received), Failure> {
    let malformed = |what| Failure::Exchange(ExchangeError::Malformed { what });
    let chain = token.did.chain();
    let mut stream = tools.network.open(peer, JOIN).await?;
    let mut nonce = [0; 32];
    tools.entropy.fill(&mut nonce);
    let person = who.person.as_ref().map(|person| person.did);
    let device = who.keys.public().clone();
    let hello = JoinHello { did: token.did, invite: token.invite, nonce, device, person };
    frame::send(&mut stream, &wire_v1::encode(&hello)).await?;

    let question = frame::receive(&mut stream, FRAME_MAX).await?;
    if let Ok(JoinAnswer::Refused(code)) = wire_v1::decode::<JoinAnswer>(&question, "answer") {
        return Err(Failure::Join(JoinError::of(code)));
    }
    let question: JoinChallenge = wire_v1::decode(&question, "challenge")?;
    let joiner = tools.network.local_peer();
    let transcript = SessionTranscript {
        chain: &chain,
        invite: &token.invite,
        joiner_nonce: &nonce,
        server_nonce: &question.nonce,
        joiner: &joiner,
        server: peer,
    };
    let context = transcript.message();
    let answer = Challenge::answer(who.keys.receiving(), &context, question.sealed.as_bytes())
        .map_err(|_| malformed("challenge"))?;
    let key = InvitationKey::from_seed(&token.seed, &chain);
    let (request, items) = who.request(&chain, &question.controller, (&token.invite, &key), &*tools.entropy);
    let proof = JoinProof { answer: *answer.expose(), session: key.prove_session(&transcript), request };
    let shown_before = std::mem::replace(shown, true);
    let (mut reader, mut writer) = stream.split();
    let telling = async {
        frame::send(&mut writer, &wire_v1::encode(&proof)).await?;
        if let Some(items) = items {
            send_items(&mut writer, &items).await?;
        }
        Ok::<(), ExchangeError>(())
    };
    let hearing = frame::receive(&mut reader, FRAME_MAX);
    // It may refuse before all is told, and then hears no more. If it hears no more for another reason, no answer comes.
    let answer = tokio::select! {
        biased;
        answer = hearing => answer?,
        never = async { let _told = telling.await; std::future::pending().await } => never,
    };
    match wire_v1::decode::<JoinAnswer>(&answer, "answer")? {
        JoinAnswer::Refused(code) => {
            // This one admitted nobody.
            *shown = shown_before;
            Err(Failure::Join(JoinError::of(code)))
        }
        JoinAnswer::Admitted(admit) => Ok((admit, receive_items(&mut reader).await?)),
    }
}

/// Checks that the admission counts. The DID certifies the founder, the founder's state certifies the rest.
fn check(mut graph: AuthorityGraph, newcomer: &ControllerId, admit: &OpId) -> Result<AuthorityGraph, &'static str> {
    let state = graph.state();
    let standing = state.controllers.get(newcomer);
    if standing.is_none_or(|standing| standing.since != *admit) {
        return Err("an admission that does not count");
    }
    Ok(graph)
}

/// Builds the graph of an identity from a first part that a peer sent, checked from the genesis block up, and from those
/// that follow it: each must bring something, and there may be so many in all.
pub(super) async fn assemble(
    tools: &Tools,
    did: &Did,
    first: Received,
    (peer, parts): (&PeerId, usize),
) -> Result<(Block, AuthorityGraph), ExchangeError> {
    let malformed = |what| ExchangeError::Malformed { what };
    let mut more = first.more;
    let (genesis, mut graph) = begin(did, first).await.map_err(malformed)?;
    for number in 1..parts {
        if !more {
            return Ok((genesis, graph));
        }
        exchange::pause(number).await;
        let held = graph.held();
        let next = exchange::fetch(tools, did, held.clone(), peer).await?;
        more = next.more;
        extend(&mut graph, next).await.map_err(malformed)?;
        if more && graph.held() == held {
            return Err(malformed("parts without end that bring nothing"));
        }
    }
    Err(malformed("parts without end"))
}

/// Gets all that a peer has of an identity that is not here, checked from the genesis block up.
pub(super) async fn fetch(tools: &Tools, did: &Did, peer: &PeerId) -> Result<(Block, AuthorityGraph), ExchangeError> {
    let first = exchange::fetch(tools, did, Held::default(), peer).await?;
    assemble(tools, did, first, (peer, ROUNDS_MAX)).await
}

async fn begin(did: &Did, received: Received) -> Result<(Block, AuthorityGraph), &'static str> {
    let candidates = nested::candidates(received.genesis);
    let genesis = candidates.get(did).cloned().ok_or("no genesis block of this identity")?;
    let mut graph = AuthorityGraph::from_genesis(&genesis).map_err(|_| "a genesis block of no identity")?;
    take_in(&mut graph, received.ops, &candidates).await?;
    Ok((genesis, graph))
}

/// Takes in more of an identity that somebody sent.
async fn extend(graph: &mut AuthorityGraph, received: Received) -> Result<(), &'static str> {
    let candidates = nested::candidates(received.genesis);
    take_in(graph, received.ops, &candidates).await
}

async fn take_in(
    graph: &mut AuthorityGraph,
    ops: Vec<SignedOp>,
    candidates: &nested::Candidates,
) -> Result<(), &'static str> {
    for (count, op) in ops.into_iter().enumerate() {
        if count % OPS_AT_ONCE == 0 {
            tokio::task::yield_now().await;
        }
        nested::offer(graph, op, candidates).map_err(|_| "an authority op that is not authorised")?;
    }
    Ok(())
}

/// Verifies a genesis block file against a DID.
pub(super) fn verify_genesis(did: &Did, file: Bytes) -> Option<Block> {
    let genesis = UnverifiedBlock::decode(file).ok()?;
    let is_genesis = genesis.header().chain.is_none() && genesis.id() == did.chain().0;
    genesis.verify(&did.chain()).ok().filter(|_| is_genesis)
}
