//! Delivering: one letter after the other, each to whichever device of the receiver takes it.

use std::sync::Arc;
use std::time::Duration;

use futures::io::AsyncReadExt as _;
use tokio::time::timeout;
use tracing::{debug, warn};
use walytis_core::id::PeerId;
use walytis_core::net::NetworkEvent;
use walytis_core::store::StoreError;

use super::message_v1::Answer;
use super::outbox::Row;
use super::receive::INBOX;
use super::{Shared, frame};

/// How long one device may take to answer: it may have to resolve the sender.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest time without looking into the outbox.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// Delivers what is due, when something is queued, when somebody comes, and now and then.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut events = shared.parts.network.events();
    loop {
        let work = deliver_due(&shared);
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => return,
            done = work => if let Err(error) = done {
                warn!(%error, "the outbox cannot be read or written now");
            }
        }
        // What happens meanwhile is looked at in the next round.
        let event = async {
            match events.recv().await {
                Some(event) => Some(event),
                // Lagged, or the network is down: the timer goes on.
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => return,
            () = shared.wake.notified() => {}
            event = event => if let Some(NetworkEvent::PeerUp(peer)) = event
                && let Err(error) = hurry(&shared, &peer).await
            {
                warn!(%error, "the outbox cannot be read or written now");
            },
            () = tokio::time::sleep(LOOK_EVERY) => {
                if events.is_closed() {
                    events = shared.parts.network.events();
                }
            }
        }
    }
}

async fn deliver_due(shared: &Shared) -> Result<(), StoreError> {
    let now_ms = shared.parts.clock.now_ms();
    for mut row in shared.outgoing().await?.into_iter().filter(|row| row.is_due(now_ms)) {
        let answer = deliver(shared, &row).await;
        row.tried(answer, shared.parts.clock.now_ms());
        debug!(to = ?row.to.did, ?answer, attempts = row.attempts, "a letter was tried");
        shared.update(&row).await?;
    }
    Ok(())
}

/// A peer is here: what may be for it is due at once.
async fn hurry(shared: &Shared, peer: &PeerId) -> Result<(), StoreError> {
    for mut row in shared.outgoing().await? {
        let named = row.to.peers.iter().any(|one| one.peer == *peer);
        if named && row.attempts > 0 && row.next_at_ms != 0 {
            row.next_at_ms = 0;
            shared.update(&row).await?;
        }
    }
    Ok(())
}

/// Asks one device after the other until one answers for good.
async fn deliver(shared: &Shared, row: &Row) -> Option<Answer> {
    // It may have been taken back while the ones before it were tried.
    if !matches!(shared.row(&row.id).await, Ok(Some(_))) {
        return None;
    }
    if shared.parts.identities.identity(&row.to.did).is_ok() {
        // Between identities of one node.
        let answer = shared.receive(&row.sealed).await;
        if matches!(answer, Answer::Accepted | Answer::Refused) {
            return Some(answer);
        }
    }
    let peers = match shared.parts.identities.reach(&row.to).await {
        Ok(peers) => peers,
        Err(error) => {
            debug!(to = ?row.to.did, %error, "nobody can be reached");
            return None;
        }
    };
    let mut last = None;
    for peer in peers.into_iter().map(|one| one.peer) {
        // It may have been taken back while others were asked or dialled.
        if !matches!(shared.row(&row.id).await, Ok(Some(_))) {
            return None;
        }
        let asked = timeout(PATIENCE, ask(shared, &peer, &row.sealed)).await;
        match asked.ok().flatten() {
            Some(answer @ (Answer::Accepted | Answer::Refused)) => return Some(answer),
            Some(answer) => last = Some(answer),
            None => {}
        }
    }
    last
}

async fn ask(shared: &Shared, peer: &PeerId, sealed: &[u8]) -> Option<Answer> {
    let stream = shared.parts.network.open(peer, INBOX).await.ok()?;
    let (mut reader, mut writer) = stream.split();
    if !frame::write(&mut writer, sealed).await {
        return None;
    }
    let answer = frame::read(&mut reader).await?;
    Answer::decode(&answer)
}
