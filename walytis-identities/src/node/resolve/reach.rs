//! Reaching the nodes of an identity's controllers.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;
use walytis_core::id::PeerId;

use super::super::error::IdentitiesResult;
use super::super::runtime::Identities;
use super::super::shared::Shared;
use super::foreign::Foreign;
use crate::contact::ContactCard;

/// How long what an identity's controllers said of their devices is taken for true. Chosen: a removed device is told from a
/// current one soon, and a queue of messages asks once.
const HEARD_WITHIN: Duration = Duration::from_secs(60);

/// A connected node that may have to do with an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The node.
    pub peer: PeerId,
    /// A device of a controller that writes has proved to be on it: it can open what is sealed to the identity, and keep it.
    /// Of others nothing is known but that a contact card names them, or that they read or keep.
    pub writes: bool,
}

impl Identities {
    /// Connects to nodes of an identity's controllers, where a contact card says, and returns those that are connected now:
    /// first those of controllers that write, then others of controllers, then those that only the contact card names. Never
    /// this node. Who the controllers are is asked again if that is a while ago.
    ///
    /// # Errors
    /// [`IdentitiesError::Store`](super::super::error::IdentitiesError::Store).
    pub async fn reach(&self, card: &ContactCard) -> IdentitiesResult<Vec<Reached>> {
        let mut foreign = self.cached_unless_own(card).await?;
        let connected = self.peers_to_ask(&card.peers, &[], foreign.as_ref(), &mut Vec::new()).await;
        let connected: BTreeSet<PeerId> = connected.into_iter().collect();
        if self.entry(&card.did).is_err() && !foreign.as_ref().is_some_and(|one| is_known_enough(one, &connected)) {
            let named: Vec<PeerId> = card.peers.iter().map(|one| one.peer.clone()).collect();
            // Nobody may be there that can tell: then it is as it was known.
            let _told = self.resolve_unasked_at(&card.did, &[], &named).await;
            foreign = self.cached_unless_own(card).await?;
        }
        let (writers, theirs) = match (&foreign, self.entry(&card.did)) {
            (_, Ok(entry)) => (entry.handle.shared.writers(), entry.handle.shared.peers()),
            (Some(foreign), Err(_)) => (foreign.writers(), foreign.peers()),
            (None, Err(_)) => Default::default(),
        };
        let named = card.peers.iter().map(|one| one.peer.clone());
        let mut seen = BTreeSet::new();
        let wanted = writers.iter().cloned().chain(theirs).chain(named);
        let wanted = wanted.filter(|peer| connected.contains(peer) && seen.insert(peer.clone()));
        Ok(wanted.map(|peer| Reached { writes: writers.contains(&peer), peer }).collect())
    }

    async fn cached_unless_own(&self, card: &ContactCard) -> IdentitiesResult<Option<Foreign>> {
        if self.entry(&card.did).is_ok() { Ok(None) } else { self.cached(&card.did).await }
    }
}

/// Says whether a node is connected that is known to be a writing controller's, by what was heard a moment ago.
fn is_known_enough(foreign: &Foreign, connected: &BTreeSet<PeerId>) -> bool {
    let heard = foreign.heard_at().is_some_and(|at| Instant::now().duration_since(at) < HEARD_WITHIN);
    heard && !foreign.writers().is_disjoint(connected)
}

impl Shared {
    /// Returns the nodes of other devices of controllers that write now.
    fn writers(&self) -> BTreeSet<PeerId> {
        let mut known = self.known();
        let state = known.graph.state();
        let writes = |device| state.controller_of(device).is_some_and(|controller| controller.role.writes());
        let writing = known.cards.peers().filter(|(device, _)| **device != self.me && writes(device));
        writing.map(|(_, peer)| peer.clone()).collect()
    }
}
