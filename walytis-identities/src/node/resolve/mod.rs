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
mod cache;
mod foreign;
mod keep;
mod reach;
mod rules;
mod serve;
mod shelf_v1;

use std::collections::BTreeSet;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use walytis_core::id::{Address, PeerId};

pub(super) use keep::{Foreigners, stored};
pub use reach::Reached;
pub use rules::AnswerFault;
pub(super) use serve::start;
pub(super) use shelf_v1::keys;

use super::error::{IdentitiesError, IdentitiesResult};
use super::runtime::Identities;
use super::wire_v1::ResolveAsk;
use crate::contact::ContactCard;
use crate::did::{DidParts, DidResolution, VersionId};
use crate::id::{Did, OpId};
use crate::state::AuthorityGraph;
use crate::token::TokenPeer;
use foreign::Foreign;
use keep::Shelf;
use rules::NoAnswer;

/// Most bytes that are learnt of an identity that nobody asked for: one that claims to have sent something. Chosen: years of
/// ten devices; larger ones, groups of many, are resolved by whoever wants to hear of them, with their contact card.
pub const UNASKED_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// How long all of that may take. Chosen: whoever waits for an answer to a message waits some 25 seconds.
const UNASKED_WITHIN: Duration = Duration::from_secs(10);
/// Questions in a row without a pause, and the pause. Chosen: less than a node grants before it slows down whoever asks.
const PACE: (usize, Duration) = (8, Duration::from_secs(2));
/// How long the addresses of one node may take to answer.
const DIAL_WITHIN: Duration = Duration::from_secs(10);
/// Reasons kept for an error.
const REASONS_MAX: usize = 8;

/// On what terms an identity is resolved.
#[derive(Clone, Copy, Debug)]
struct Terms {
    /// Most bytes in all.
    bytes_max: u64,
    /// Nodes asked. Chosen: several answers, bounded work.
    nodes_max: usize,
    /// Answers in a row of one node; what was learnt is kept, and the next resolution goes on.
    rounds_max: usize,
    /// How long one answer may take.
    within: Duration,
    /// Whether the user wants it: then it is stored as it comes.
    asked: bool,
}

/// A person waits.
const ASKED: Terms =
    Terms { bytes_max: 256 * 1024 * 1024, nodes_max: 8, rounds_max: 32, within: Duration::from_secs(20), asked: true };
/// A stranger makes this node do it: in memory, if the store does not know the identity already.
const UNASKED: Terms =
    Terms { bytes_max: UNASKED_BYTES_MAX, nodes_max: 4, rounds_max: 8, within: Duration::from_secs(5), asked: false };

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
        self.resolve_on(ASKED, did, &self.at(addresses), &[]).await
    }

    /// The own id stands for whoever is at the addresses.
    fn at(&self, addresses: &[Address]) -> Vec<TokenPeer> {
        let whoever = TokenPeer { peer: self.inner.tools.network.local_peer(), addresses: addresses.to_vec() };
        if addresses.is_empty() { Vec::new() } else { vec![whoever] }
    }

    /// As [`Self::resolve`], with the addresses of a contact card.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub async fn resolve_card(&self, card: &ContactCard) -> IdentitiesResult<Resolved> {
        self.resolve_on(ASKED, &card.did, &card.peers, &[]).await
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

    /// Learns what `first`, then others that are connected, say of an identity that nobody asked for: it claims to have sent
    /// something. That stays in memory, at most [`UNASKED_BYTES_MAX`] bytes, unless the identity is stored already; see
    /// [`Self::remember`].
    ///
    /// # Errors
    /// [`IdentitiesError::Unresolved`] also if too many are being resolved, or it takes too long.
    pub async fn resolve_unasked(&self, did: &Did, first: Option<&PeerId>) -> IdentitiesResult<Resolved> {
        self.resolve_unasked_at(did, &[], first.map(std::slice::from_ref).unwrap_or_default()).await
    }

    pub(super) async fn resolve_unasked_at(
        &self,
        did: &Did,
        addresses: &[Address],
        first: &[PeerId],
    ) -> IdentitiesResult<Resolved> {
        let at = self.at(addresses);
        let work = self.resolve_on(UNASKED, did, &at, first);
        let late = || IdentitiesError::Unresolved { did: *did, reason: "it takes too long".to_owned() };
        tokio::time::timeout(UNASKED_WITHIN, work).await.map_err(|_| late())?
    }

    /// `first`: whom to ask before other connected nodes.
    async fn resolve_on(
        &self,
        terms: Terms,
        did: &Did,
        at: &[TokenPeer],
        first: &[PeerId],
    ) -> IdentitiesResult<Resolved> {
        if let Ok(entry) = self.entry(did) {
            let heads = entry.handle.shared.known().graph.named_heads();
            return Ok(Resolved { did: *did, heads, answers: 0, heard_from: 0, refused: Vec::new(), own: true });
        }
        let unresolved = |reason: String| IdentitiesError::Unresolved { did: *did, reason };
        let mut foreign = self.cached(did).await?;
        // What the user asked for once has the room of such ones, whoever brings it up now.
        let asked = terms.asked || foreign.as_ref().is_some_and(Foreign::is_asked);
        let terms = if asked { Terms { bytes_max: ASKED.bytes_max, asked, ..terms } } else { terms };
        let _place = match self.inner.foreign.unasked() {
            _ if asked => None,
            Some(place) => Some(place),
            None => return Err(unresolved("too many strangers are being resolved".to_owned())),
        };
        let mut reasons = Vec::new();
        let mut peers = self.peers_to_ask(at, first, foreign.as_ref(), &mut reasons).await;
        peers.truncate(terms.nodes_max);
        let mut asking: FuturesUnordered<_> = peers.into_iter().map(|peer| self.ask_all(terms, did, peer)).collect();
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
        self.inner.foreign.shrink();
        let Some(foreign) = foreign else {
            if reasons.is_empty() {
                reasons.push("nobody is connected".to_owned());
            }
            return Err(unresolved(reasons.join("; ")));
        };
        if foreign.is_stored() || terms.asked {
            self.shelve(did, &foreign, terms.asked).await?;
        }
        let heard_from = foreign.controllers_on(&answered).len();
        let heads = foreign.known().heads();
        Ok(Resolved { did: *did, heads, answers: answered.len(), heard_from, refused, own: false })
    }

    /// Asks one node until it has no more; what it sends is checked before anything of it is kept.
    async fn ask_all(&self, terms: Terms, did: &Did, peer: PeerId) -> (PeerId, Result<Foreign, NoAnswer>) {
        let outcome = self.ask_rounds(terms, did, &peer).await;
        if !terms.asked && matches!(outcome, Err(NoAnswer::Refused(AnswerFault::Bounds))) {
            // What waits in it for other ops may be somebody else's lie: the next time begins anew.
            self.inner.foreign.drop_unstored(did);
        }
        (peer, outcome)
    }

    async fn ask_rounds(&self, terms: Terms, did: &Did, peer: &PeerId) -> Result<Foreign, NoAnswer> {
        let (tools, foreigners) = (&self.inner.tools, &self.inner.foreign);
        let shelf = Shelf { foreigners, store: &*tools.store };
        for number in 0..terms.rounds_max {
            if number >= PACE.0 {
                tokio::time::sleep(PACE.1).await;
            }
            // Also what other nodes have told meanwhile.
            let known = foreigners.get(did);
            let held = known.as_ref().map(|known| known.known().graph.held()).unwrap_or_default();
            let question = ResolveAsk::new(*did, held);
            let turn = tools.turns.take(peer, ask::RESOLVE).await?;
            let answer = ask::ask(&*tools.network, peer, &question, terms.within, terms.bytes_max).await?;
            drop(turn);
            let foreign = match known {
                Some(known) => known,
                None => foreigners.keep(did, Foreign::begin(did, &answer)?),
            };
            if terms.asked {
                self.shelve(did, &foreign, true).await?;
            }
            let more = answer.more;
            let fresh = foreign.take_in(answer, &*tools.network, &shelf, terms.bytes_max).await?;
            match (more, fresh) {
                (false, _) => return Ok(foreign),
                (true, true) => {}
                (true, false) => return Err(AnswerFault::Bounds.into()),
            }
        }
        Err(AnswerFault::Bounds.into())
    }

    /// Nodes at the addresses first, then `first`, then connected ones of its controllers, then any.
    async fn peers_to_ask(
        &self,
        at: &[TokenPeer],
        first: &[PeerId],
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
        peers.extend(first.iter().cloned().chain(theirs).filter(|peer| connected.contains(peer)));
        peers.extend(connected);
        let mut seen = BTreeSet::new();
        peers.retain(|peer| *peer != local && seen.insert(peer.clone()));
        peers.truncate(ASKED.nodes_max);
        peers
    }
}
