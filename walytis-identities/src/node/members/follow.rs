//! Following an identity's memberships: one task for each identity of the node.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::TryStreamExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};
use walytis_core::id::PeerId;
use walytis_core::ledger::{LedgerError, LedgerEvent, LedgerRead as _, Query, SubscribeFrom, Subscription};

use super::super::error::{IdentitiesError, IdentitiesResult};
use super::super::handle::IdentityHandle;
use super::super::join;
use super::super::runtime::{Entry as Here, Identities, Inner};
use super::super::shared::Shared;
use super::list::{Memberships, Noted, apply};
use super::record_v1::{self, Entry, TOPIC};
use super::{chain_failed, note_down, topic};
use crate::claim::Claim;
use crate::id::{ControllerId, Did};
use crate::identity::{Identity as _, Judgement, RecordRef};
use crate::token::TOKEN_PEERS_MAX;

/// How long until what could not be done is tried again: at first, and at most.
const AGAIN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// How long reaching one node may take.
const DIAL_WITHIN: Duration = Duration::from_secs(20);

/// Follows the memberships of one identity until stopped. Boxed, for what it takes up is followed the same way.
pub(in crate::node) fn run(
    inner: Weak<Inner>,
    handle: IdentityHandle,
    stop: CancellationToken,
) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = follow(inner, &handle) => {}
        }
    })
}

async fn follow(inner: Weak<Inner>, handle: &IdentityHandle) {
    let Some(mut listed) = inner.upgrade().map(|inner| Identities { inner }.changes()) else { return };
    let mut changes = handle.shared.changes();
    let (mut again, mut wait) = (None, AGAIN.0);
    loop {
        let Ok(mut events) = handle.chain().subscribe(SubscribeFrom::Now).await else { return };
        loop {
            let Some(inner) = inner.upgrade() else { return };
            match (Identities { inner }).follow(handle).await {
                Ok(false) => (again, wait) = (None, AGAIN.0),
                outcome => {
                    if let Err(error) = outcome {
                        debug!(did = ?handle.shared.did, %error, "memberships could not be followed");
                    }
                    again = again.filter(|at| *at > Instant::now()).or_else(|| Some(Instant::now() + wait));
                    wait = (wait * 2).min(AGAIN.1);
                }
            }
            match news(&mut events, [&mut changes, &mut listed], again).await {
                News::Came => {}
                News::SubscribeAgain => break,
                News::Over => return,
            }
        }
        // A store that failed is not asked again at once.
        tokio::time::sleep(AGAIN.0).await;
    }
}

enum News {
    Came,
    SubscribeAgain,
    Over,
}

/// Waits until something may be otherwise.
async fn news(
    events: &mut Box<dyn Subscription>,
    [state, list]: [&mut watch::Receiver<u64>; 2],
    again: Option<Instant>,
) -> News {
    loop {
        tokio::select! {
            biased;
            event = events.next() => match event {
                Ok(Some(LedgerEvent::Block(info)))
                    if !info.topics.iter().any(|topic| topic.overlay_text(TOPIC).is_some()) => {}
                Ok(Some(_)) => return News::Came,
                Ok(None) => return News::Over,
                Err(_) => return News::SubscribeAgain,
            },
            changed = state.changed() => return if changed.is_ok() { News::Came } else { News::Over },
            changed = list.changed() => return if changed.is_ok() { News::Came } else { News::Over },
            () = super::super::task::sleep_until(again) => return News::Came,
        }
    }
}

impl Identities {
    /// Brings what this node takes part in in line with an identity's memberships. Says whether something is left to do.
    async fn follow(&self, handle: &IdentityHandle) -> IdentitiesResult<bool> {
        let person = &handle.shared;
        let Some(role) = person.my_role().filter(|role| role.reads() && person.keys().is_ok()) else {
            person.memberships().clear();
            return Ok(false);
        };
        let noted = read_all(handle).await?;
        person.memberships().clone_from(&noted);
        if !role.writes() {
            // Whoever may not write as the identity does not act for it elsewhere.
            return Ok(false);
        }
        let here: Vec<Here> = self.inner.here().values().cloned().collect();
        for entry in &here {
            let shared = &entry.handle.shared;
            if shared.person.as_ref().is_some_and(|of| of.did == person.did) {
                self.settle_with(handle, shared, noted.get(&shared.did)).await?;
            }
        }
        let mut left_over = false;
        for (did, noted) in noted.iter().filter(|(_, noted)| noted.left.is_none()) {
            if here.iter().any(|entry| entry.handle.shared.did == *did) {
                continue;
            }
            match self.adopt(handle, did, noted).await {
                Ok(()) => info!(?did, person = ?person.did, "joined by itself"),
                Err(error) => {
                    debug!(?did, %error, "a membership could not be joined yet");
                    left_over = true;
                }
            }
        }
        Ok(left_over)
    }

    /// Brings one identity in which this node acts for `handle`'s and what is noted of it in line.
    async fn settle_with(
        &self,
        handle: &IdentityHandle,
        shared: &Shared,
        noted: Option<&Noted>,
    ) -> IdentitiesResult<()> {
        let stands = handle.shared.stands_in(shared);
        let Some(noted) = noted else {
            // A crash came between joining and noting it.
            return if stands { self.note_joined(&shared.did, handle).await } else { Ok(()) };
        };
        self.set_archived(shared, noted.archived && noted.left.is_none()).await?;
        let leaving = shared.state().leaving.get(&shared.controller()).copied();
        match (noted.left, leaving) {
            (None, Some(leave)) => note_down(handle, &Entry::Left { did: shared.did, leave }).await,
            // The leave is known here, and did not count, or it was admitted again.
            (Some(leave), None) if stands && shared.known().graph.op(&leave).is_some() => {
                self.note_joined(&shared.did, handle).await
            }
            _ => Ok(()),
        }
    }

    /// Takes up an identity that another device of the same person has joined.
    async fn adopt(&self, handle: &IdentityHandle, did: &Did, noted: &Noted) -> IdentitiesResult<()> {
        let person = &handle.shared;
        let mut reasons = Vec::new();
        for peer in reachable(person, noted).await {
            let (genesis, mut graph) = match join::fetch(&self.inner.tools, did, &peer).await {
                Ok(fetched) => fetched,
                Err(error) => {
                    reasons.push(error.to_string());
                    continue;
                }
            };
            if graph.state().role(&ControllerId::Identity(person.did)).is_none() {
                reasons.push("it is no controller there (any more)".to_owned());
                continue;
            }
            return self.take_up(person, &noted.name, (graph, genesis), noted.archived, &peer).await;
        }
        if reasons.is_empty() {
            reasons.push("nobody is reached who has it".to_owned());
        }
        Err(IdentitiesError::Unresolved { did: *did, reason: reasons.join("; ") })
    }
}

/// Returns connected nodes that may have an identity: other devices of the person, those that are noted.
async fn reachable(person: &Arc<Shared>, noted: &Noted) -> Vec<PeerId> {
    let network = &person.tools.network;
    let local = network.local_peer();
    let connected: BTreeSet<PeerId> = network.peers().into_iter().map(|status| status.peer).collect();
    let mut peers: Vec<PeerId> = person.peers().into_iter().filter(|peer| connected.contains(peer)).collect();
    let others = noted.peers.iter().filter(|one| one.peer != local && !one.addresses.is_empty());
    let dials = others.map(|one| timeout(DIAL_WITHIN, network.connect(Some(&one.peer), &one.addresses)));
    peers.extend(futures::future::join_all(dials).await.into_iter().filter_map(|dialled| dialled.ok()?.ok()));
    let mut seen = BTreeSet::new();
    peers.retain(|peer| *peer != local && seen.insert(peer.clone()));
    peers.truncate(2 * TOKEN_PEERS_MAX);
    peers
}

/// Reads every record that counts, in canonical order.
async fn read_all(handle: &IdentityHandle) -> IdentitiesResult<Memberships> {
    let query = Query { topics_any: vec![topic()?], ..Query::default() };
    let mut blocks = handle.chain().query(query).await.map_err(chain_failed)?;
    let mut all = Memberships::new();
    while let Some(info) = blocks.try_next().await.map_err(chain_failed)? {
        if let Some(entry) = read(handle, &info.id).await.map_err(chain_failed)? {
            apply(&mut all, entry);
        }
    }
    Ok(all)
}

/// Reads one record; nothing if it is none, does not count or cannot be opened here.
async fn read(handle: &IdentityHandle, id: &walytis_core::id::BlockId) -> Result<Option<Entry>, LedgerError> {
    let Some(block) = handle.chain().block(id).await? else { return Ok(None) };
    let Some((claim, body)) = block.inline().and_then(|content| Claim::split(content)) else { return Ok(None) };
    let entry = {
        let known = handle.shared.known();
        record_v1::open(body, &handle.shared.did, |epoch| known.membership_key(epoch))
    };
    let Some(entry) = entry else { return Ok(None) };
    let creator = block.header().creator;
    let record = RecordRef { block: *id, creator, author: claim.author, auth_heads: claim.auth_heads };
    Ok((handle.judge(&record).await == Judgement::Valid).then_some(entry))
}
