//! Resolving identities: what their controllers say, checked from the genesis block up.
//!
//! ```text
//!  Ask { did, heads known } ──►
//!        ◄── Known { heads } (or Unknown), genesis block to whoever knows nothing, ops, public cards, Done
//! ```
//!
//! The DID is the id of the genesis block, so that block alone proves the founder; the ops carry the rest. No other block,
//! no content, and nothing that is sealed is shown. Every node that answers is checked by the [rules](AnswerFault); the
//! answers are merged, and what is known only grows.

mod ask;
mod foreign;
mod rules;
mod serve;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use walytis_core::id::{Address, PeerId};
use walytis_core::store::Durability;

pub(super) use foreign::Foreign;
pub use rules::AnswerFault;
pub(super) use serve::start;

use super::error::{IdentitiesError, IdentitiesResult};
use super::runtime::Identities;
use super::wire_v1::ResolveAsk;
use super::{open, records};
use crate::contact::ContactCard;
use crate::did::{DidParts, DidResolution, VersionId};
use crate::id::{Did, OpId};
use crate::state::AuthorityGraph;
use crate::token::TokenPeer;
use rules::NoAnswer;

/// Foreign identities kept in memory; the lowest DID goes first and is read from the store again.
const FOREIGN_MAX: usize = 256;
/// Nodes asked in one resolution. Chosen: several answers, bounded work.
const ASKED_MAX: usize = 8;
/// Answers in a row of one node. Chosen: 256 MiB; what was learnt is kept, and the next resolution goes on.
const ROUNDS_MAX: usize = 32;
/// Questions in a row without a pause, and the pause. Chosen: less than a node grants before it slows down whoever asks.
const PACE: (usize, Duration) = (8, Duration::from_secs(2));
/// How long the addresses of one node may take to answer.
const DIAL_WITHIN: Duration = Duration::from_secs(10);
/// Reasons kept for an error.
const REASONS_MAX: usize = 8;

/// What a resolution found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The identity.
    pub did: Did,
    /// As of these authority heads, ascending, at most 64.
    pub heads: Vec<OpId>,
    /// How many nodes answered now, and were right.
    pub answers: usize,
    /// How many of its controllers were among them: those whose device cards name these nodes.
    pub heard_from: usize,
    /// Nodes whose answers were refused, with the rule.
    pub refused: Vec<(PeerId, AnswerFault)>,
    /// It is an identity of this node, which asked nobody.
    pub own: bool,
}

impl Identities {
    /// Learns what can be learnt of an identity now: from nodes at `addresses` and from connected ones. What was learnt
    /// before stays; a cache never goes back.
    ///
    /// # Errors
    /// [`IdentitiesError::Unresolved`] if nothing is known and nobody gave an answer that holds.
    pub async fn resolve(&self, did: &Did, addresses: &[Address]) -> IdentitiesResult<Resolved> {
        let peers = [TokenPeer { peer: self.inner.tools.network.local_peer(), addresses: addresses.to_vec() }];
        self.resolve_at(did, if addresses.is_empty() { &[] } else { &peers }).await
    }

    /// As [`Self::resolve`], with the addresses of a contact card.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub async fn resolve_card(&self, card: &ContactCard) -> IdentitiesResult<Resolved> {
        self.resolve_at(&card.did, &card.peers).await
    }

    /// Connects to nodes of an identity's controllers, where a contact card says, and returns those that are connected now:
    /// first the ones whose device cards have been checked, then those that only the contact card names. Never this node.
    ///
    /// # Errors
    /// [`IdentitiesError::Store`](super::error::IdentitiesError::Store).
    pub async fn reach(&self, card: &ContactCard) -> IdentitiesResult<Vec<PeerId>> {
        let foreign = match self.entry(&card.did) {
            Ok(_) => None,
            Err(_) => self.cached(&card.did).await?,
        };
        let connected = self.peers_to_ask(&card.peers, foreign.as_ref(), &mut Vec::new()).await;
        let theirs = match (&foreign, self.entry(&card.did)) {
            (_, Ok(entry)) => entry.handle.shared.peers(),
            (Some(foreign), Err(_)) => foreign.peers(),
            (None, Err(_)) => Vec::new(),
        };
        let named = card.peers.iter().map(|one| one.peer.clone());
        let mut seen = BTreeSet::new();
        let wanted = theirs.into_iter().chain(named);
        Ok(wanted.filter(|peer| connected.contains(peer) && seen.insert(peer.clone())).collect())
    }

    /// Returns the resolution in the form of DID Core, as of what is known now; `version`: as of these heads.
    ///
    /// # Errors
    /// [`IdentitiesError::Unresolved`] if the identity or the version is not known here: resolve it first.
    pub async fn document(&self, did: &Did, version: Option<&VersionId>) -> IdentitiesResult<DidResolution> {
        let unresolved = |reason: &str| IdentitiesError::Unresolved { did: *did, reason: reason.to_owned() };
        let work = |graph: &mut AuthorityGraph| {
            let version = version.cloned().or_else(|| VersionId::new(graph.named_heads()));
            let version = version.ok_or_else(|| unresolved("it has no heads"))?;
            let state = graph.state_at(version.heads()).map_err(|_| unresolved("this version is not known here"))?;
            let epoch = crate::sealed::epoch_to_seal(&state);
            let epoch = epoch.and_then(|id| Some((id, &graph.op(&id)?.core().op.epoch()?.receiving)));
            let parts = DidParts {
                did: *did,
                state: &state,
                epoch,
                services: &state.services,
                deactivated: state.deactivated.is_some(),
            };
            Ok(DidResolution::of(&parts, &version))
        };
        self.with_graph(did, work).await?
    }

    /// Returns what to hand out so that others can resolve an identity of this node.
    ///
    /// # Errors
    /// [`IdentitiesError::Unknown`].
    pub fn contact_card(&self, did: &Did) -> IdentitiesResult<ContactCard> {
        Ok(ContactCard { did: *did, peers: self.token_peers(did)? })
    }

    /// Works with what is known of an identity, this node's or a resolved one.
    pub(super) async fn with_graph<T>(
        &self,
        did: &Did,
        work: impl FnOnce(&mut AuthorityGraph) -> T,
    ) -> IdentitiesResult<T> {
        if let Ok(entry) = self.entry(did) {
            return Ok(work(&mut entry.handle.shared.known().graph));
        }
        let unresolved = || IdentitiesError::Unresolved { did: *did, reason: "it is not known here".to_owned() };
        let foreign = self.cached(did).await?.ok_or_else(unresolved)?;
        let mut known = foreign.known();
        Ok(work(&mut known.graph))
    }

    async fn resolve_at(&self, did: &Did, at: &[TokenPeer]) -> IdentitiesResult<Resolved> {
        if let Ok(entry) = self.entry(did) {
            let heads = entry.handle.shared.known().graph.named_heads();
            return Ok(Resolved { did: *did, heads, answers: 0, heard_from: 0, refused: Vec::new(), own: true });
        }
        let mut foreign = self.cached(did).await?;
        let mut reasons = Vec::new();
        let peers = self.peers_to_ask(at, foreign.as_ref(), &mut reasons).await;
        let mut asking: FuturesUnordered<_> = peers.into_iter().map(|peer| self.ask_all(did, peer)).collect();
        let (mut answered, mut refused) = (BTreeSet::new(), Vec::new());
        while let Some((peer, outcome)) = asking.next().await {
            match outcome {
                Ok(known) => {
                    foreign = Some(known);
                    answered.insert(peer);
                }
                Err(NoAnswer::Store(error)) => return Err(error.into()),
                Err(reason) => {
                    if reasons.len() < REASONS_MAX {
                        reasons.push(format!("{peer}: {reason}"));
                    }
                    if let NoAnswer::Refused(fault) = reason {
                        refused.push((peer, fault));
                    }
                }
            }
        }
        let Some(foreign) = foreign else {
            if reasons.is_empty() {
                reasons.push("nobody is connected".to_owned());
            }
            return Err(IdentitiesError::Unresolved { did: *did, reason: reasons.join("; ") });
        };
        let heard_from = foreign.controllers_on(&answered).len();
        let heads = foreign.known().heads();
        Ok(Resolved { did: *did, heads, answers: answered.len(), heard_from, refused, own: false })
    }

    /// Asks one node until it has no more; what it sends is checked before anything of it is kept.
    async fn ask_all(&self, did: &Did, peer: PeerId) -> (PeerId, Result<Foreign, NoAnswer>) {
        let outcome = self.ask_rounds(did, &peer).await;
        (peer, outcome)
    }

    async fn ask_rounds(&self, did: &Did, peer: &PeerId) -> Result<Foreign, NoAnswer> {
        let tools = &self.inner.tools;
        for number in 0..ROUNDS_MAX {
            if number >= PACE.0 {
                tokio::time::sleep(PACE.1).await;
            }
            // Also what other nodes have told meanwhile.
            let known = self.foreign().get(did).cloned();
            let held = known.as_ref().map(|known| known.known().graph.held()).unwrap_or_default();
            let turn = tools.turns.take(peer, ask::RESOLVE).await?;
            let answer = ask::ask(&*tools.network, peer, &ResolveAsk::new(*did, held)).await?;
            drop(turn);
            let foreign = match known {
                Some(known) => known,
                None => {
                    let (fresh, genesis) = Foreign::begin(did, &answer)?;
                    tools.store.commit(genesis, Durability::Buffered).await?;
                    self.keep(did, fresh)
                }
            };
            let more = answer.more;
            let fresh = foreign.take_in(answer, &*tools.network, &*tools.store).await?;
            match (more, fresh) {
                (false, _) => return Ok(foreign),
                (true, true) => {}
                (true, false) => return Err(AnswerFault::Bounds.into()),
            }
        }
        Err(AnswerFault::Bounds.into())
    }

    fn foreign(&self) -> MutexGuard<'_, BTreeMap<Did, Foreign>> {
        self.inner.foreign.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a resolved identity, unless somebody was quicker: all work with the same one.
    fn keep(&self, did: &Did, fresh: Foreign) -> Foreign {
        let mut cache = self.foreign();
        let kept = cache.entry(*did).or_insert(fresh).clone();
        while cache.len() > FOREIGN_MAX {
            let Some(other) = cache.keys().find(|other| *other != did).copied() else { break };
            cache.remove(&other);
        }
        kept
    }

    /// Returns what is known of a foreign identity, read from the store where it must be.
    pub(in crate::node) async fn cached(&self, did: &Did) -> IdentitiesResult<Option<Foreign>> {
        if let Some(known) = self.foreign().get(did).cloned() {
            return Ok(Some(known));
        }
        let store = &*self.inner.tools.store;
        if store.get(&records::genesis(&did.chain())).await?.is_none() {
            return Ok(None);
        }
        let (graph, _, rows) = open::load(store, did).await?;
        Ok(Some(self.keep(did, Foreign::new(graph, rows))))
    }

    /// Nodes at the addresses first, then connected ones of its controllers, then any.
    async fn peers_to_ask(
        &self,
        at: &[TokenPeer],
        foreign: Option<&Foreign>,
        reasons: &mut Vec<String>,
    ) -> Vec<PeerId> {
        let network = &self.inner.tools.network;
        let local = network.local_peer();
        let dials = at.iter().filter(|one| !one.addresses.is_empty()).map(|one| {
            // The own id stands for "whoever is there".
            let expected = (one.peer != local).then_some(&one.peer);
            tokio::time::timeout(DIAL_WITHIN, network.connect(expected, &one.addresses))
        });
        let mut peers = Vec::new();
        for outcome in futures::future::join_all(dials).await {
            match outcome {
                Ok(Ok(peer)) => peers.push(peer),
                Ok(Err(error)) => reasons.push(error.to_string()),
                Err(_) => reasons.push("an address did not answer in time".to_owned()),
            }
        }
        reasons.truncate(REASONS_MAX);
        let connected: BTreeSet<PeerId> = network.peers().into_iter().map(|status| status.peer).collect();
        let theirs = foreign.map(Foreign::peers).unwrap_or_default();
        peers.extend(theirs.into_iter().filter(|peer| connected.contains(peer)));
        peers.extend(connected);
        let mut seen = BTreeSet::new();
        peers.retain(|peer| *peer != local && seen.insert(peer.clone()));
        peers.truncate(ASKED_MAX);
        peers
    }
}
