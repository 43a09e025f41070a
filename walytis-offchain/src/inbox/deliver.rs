//! Delivering: to several receivers at once, to each one letter after the other, messages first, each to whichever device of
//! the receiver takes it.
//!
//! That a letter was taken or is not wanted is believed of the receiver's writing devices only: no other node can open it, and
//! a keeper, a reader or a node that only the contact card names could make it disappear.

use std::sync::Arc;
use std::time::Duration;

use futures::io::AsyncReadExt as _;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};
use walytis_core::id::PeerId;
use walytis_core::net::NetworkEvent;
use walytis_core::store::StoreError;
use walytis_identities::id::Did;
use walytis_identities::node::Reached;

use super::message_v1::Answer;
use super::outbox::Row;
use super::places::Turns;
use super::receive::INBOX;
use super::{Shared, frame};

/// How long one letter may take in all: the receiver may have to resolve the sender.
const ROW_WITHIN: Duration = Duration::from_secs(40);
/// How long one device is waited for before the next one is asked as well.
const NEXT_AFTER: Duration = Duration::from_secs(4);
/// Longest time without looking into the outbox.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// Delivers what is due, when something is queued, when somebody comes, and now and then.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut events = shared.parts.network.events();
    let mut turns = Turns::default();
    let mut working = JoinSet::new();
    loop {
        if let Err(error) = start_due(&shared, &mut turns, &mut working).await {
            warn!(%error, "the outbox cannot be read now");
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
            () = shared.stop.cancelled() => break,
            Some(ended) = working.join_next(), if !working.is_empty() => note_ended(ended, &mut turns),
            () = shared.wake.notified() => {}
            event = event => if let Some(NetworkEvent::PeerUp(peer)) = event
                && let Err(error) = hurry(&shared, &peer, &mut turns).await
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
    working.shutdown().await;
}

type Ended = Result<(Did, Result<bool, StoreError>), JoinError>;

fn note_ended(ended: Ended, turns: &mut Turns) {
    match ended {
        Ok((to, Ok(taken))) => turns.ended(&to, taken, Instant::now()),
        Ok((to, Err(error))) => {
            warn!(%error, "the outbox cannot be read or written now");
            turns.ended(&to, false, Instant::now());
        }
        Err(error) => {
            warn!(%error, "a delivery died");
            turns.reset();
        }
    }
}

async fn start_due(
    shared: &Arc<Shared>,
    turns: &mut Turns,
    working: &mut JoinSet<(Did, Result<bool, StoreError>)>,
) -> Result<(), StoreError> {
    let due = due(shared).await?;
    let receivers: Vec<_> = due.iter().map(|row| (row.to.did, row.receipt)).collect();
    for to in turns.start(&receivers, Instant::now()) {
        let rows: Vec<Row> = due.iter().filter(|row| row.to.did == to).cloned().collect();
        let shared = Arc::clone(shared);
        working.spawn(async move { (to, deliver_all(&shared, rows).await) });
    }
    Ok(())
}

/// Returns what is due, messages before receipts, the oldest first.
async fn due(shared: &Shared) -> Result<Vec<Row>, StoreError> {
    let now_ms = shared.parts.clock.now_ms();
    let mut due: Vec<Row> = shared.outgoing().await?.into_iter().filter(|row| row.is_due(now_ms)).collect();
    due.sort_by_key(|row| (row.receipt, row.created_at_ms, row.id));
    Ok(due)
}

/// Delivers to one receiver. What nobody took now nobody takes a moment later: the rest waits. Says whether all was taken.
async fn deliver_all(shared: &Shared, rows: Vec<Row>) -> Result<bool, StoreError> {
    for row in rows {
        let answer = deliver(shared, &row).await;
        let now_ms = shared.parts.clock.now_ms();
        debug!(to = ?row.to.did, ?answer, attempts = row.attempts, "a letter was tried");
        shared.amend(&row.id, |row| row.tried(answer, now_ms)).await?;
        if !matches!(answer, Some(Answer::Accepted | Answer::Refused)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A peer is here: what may be for it is due at once.
async fn hurry(shared: &Shared, peer: &PeerId, turns: &mut Turns) -> Result<(), StoreError> {
    for row in shared.outgoing().await? {
        let named = row.to.peers.iter().any(|one| one.peer == *peer);
        if named && row.is_waiting() {
            turns.wake(&row.to.did);
        }
        if named && row.is_waiting() && row.attempts > 0 && row.next_at_ms != 0 {
            shared.amend(&row.id, |row| row.next_at_ms = 0).await?;
        }
    }
    Ok(())
}

/// Returns the receiver's answer; nothing if nobody gave one, or it was taken back.
async fn deliver(shared: &Shared, row: &Row) -> Option<Answer> {
    let sealed = shared.sealed(&row.id).await.ok()??;
    let mut last = None;
    if timeout(ROW_WITHIN, ask_all(shared, row, &sealed, &mut last)).await.is_err() {
        debug!(to = ?row.to.did, "a letter took too long");
    }
    last
}

/// Asks this node, then one device after the other, until one answers for good.
async fn ask_all(shared: &Shared, row: &Row, sealed: &[u8], last: &mut Option<Answer>) {
    if shared.parts.identities.identity(&row.to.did).is_ok() {
        // Between identities of one node.
        let answer = shared.receive(sealed, None).await;
        if matches!(answer, Answer::Accepted | Answer::Refused) {
            *last = Some(answer);
            return;
        }
    }
    let reached = match shared.parts.identities.reach(&row.to).await {
        Ok(reached) => reached,
        Err(error) => return debug!(to = ?row.to.did, %error, "nobody can be reached"),
    };
    let mut rest = reached.into_iter().peekable();
    let (mut asking, mut next_at) = (FuturesUnordered::new(), Instant::now());
    while rest.peek().is_some() || !asking.is_empty() {
        tokio::select! {
            biased;
            Some((of, answer)) = asking.next(), if !asking.is_empty() => {
                *last = believed(&of, answer).or(*last);
                if matches!(last, Some(Answer::Accepted | Answer::Refused)) {
                    return;
                }
                next_at = Instant::now();
            }
            () = sleep_until(next_at), if rest.peek().is_some() => {
                // It may have been taken back while others were asked or dialled.
                if !matches!(shared.row(&row.id).await, Ok(Some(_))) {
                    return *last = None;
                }
                asking.extend(rest.next().map(async |of| (of.clone(), ask(shared, &of.peer, sealed).await)));
                next_at = Instant::now() + NEXT_AFTER;
            }
        }
    }
}

/// Only a writing device can have opened a letter; from anybody else its answer means "not now".
fn believed(of: &Reached, answer: Option<Answer>) -> Option<Answer> {
    match answer {
        Some(Answer::Accepted | Answer::Refused) if !of.writes => Some(Answer::Later),
        answer => answer,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_can_open_a_letter_is_believed_to_have_taken_it() {
        let of = |writes| Reached { peer: PeerId::from_bytes(&[1, 2]).unwrap(), writes };
        for answer in [Answer::Accepted, Answer::Refused] {
            assert_eq!(believed(&of(true), Some(answer)), Some(answer));
            assert_eq!(believed(&of(false), Some(answer)), Some(Answer::Later));
        }
        for answer in [Some(Answer::Later), Some(Answer::NotHere), None] {
            assert_eq!([true, false].map(|writes| believed(&of(writes), answer)), [answer; 2]);
        }
    }
}
