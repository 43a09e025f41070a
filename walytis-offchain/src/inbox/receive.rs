//! Receiving: `/walytis/inbox/1`, the receiving device's side, and what its controllers read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::io::AsyncReadExt as _;
use futures::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};
use walytis_core::id::{BlockId, PeerId};
use walytis_core::ledger::{
    Author, BlockInfo, BlockState, Cursor, Ledger as _, LedgerError, LedgerEvent, LedgerRead as _, NewBlock, Order,
    Query, SubscribeFrom,
};
use walytis_core::net::{IncomingStream, Protocol, Stream};
use walytis_core::topic::Topic;
use walytis_identities::contact::ContactCard;
use walytis_identities::id::{Did, Role};
use walytis_identities::node::IdentitiesError;
use walytis_identities::sealed::{OpenedMessage, SealedMessage};
use walytis_identities::signed::{SignerStanding, VerifyError};

use super::gate::Buckets;
use super::message_v1::{Answer, CONTEXT, Control, FRAME_MAX, Kept, Letter, MessageId, Says, copy_name};
use super::outbox::{OutgoingState, Row};
use super::places::Entered;
use super::receipts::Receipt;
use super::rules::{OVERLAY, decide, is_opened, read, rules_of};
use super::{Inbox, InboxError, Limits, Shared, frame, lock};
use crate::PrivateLedger;

/// The protocol.
pub const INBOX: Protocol = "/walytis/inbox/1";
/// How long a letter may take to arrive. Chosen: 288 KiB on a line of half a megabit a second.
const FRAME_WITHIN: Duration = Duration::from_secs(5);
/// How long judging it may take: its sender may have to be resolved.
const JUDGED_WITHIN: Duration = Duration::from_secs(25);
/// How long the other side may take to read the answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Letters of one node at once, and how long until one more.
const PER_PEER: (u32, Duration) = (64, Duration::from_secs(2));
/// Messages of one sender to one identity at once, and how long until one more. Chosen: a conversation, not a flood.
const PER_SENDER: (u32, Duration) = (32, Duration::from_secs(20));
/// Messages of all senders to one identity: some 8,600 a day.
const PER_RECEIVER: (u32, Duration) = (256, Duration::from_secs(10));
/// Letters to one identity by one node whose senders have to be resolved first, and by all nodes. Chosen: new correspondents,
/// not people in a conversation; each makes this node ask others.
const UNPROVEN: (u32, Duration) = (8, Duration::from_secs(20));
const ALL_UNPROVEN: (u32, Duration) = (64, Duration::from_secs(10));

pub(super) fn limits() -> Limits {
    Limits {
        peers: Buckets::new(PER_PEER.0, PER_PEER.1),
        senders: Buckets::new(PER_SENDER.0, PER_SENDER.1),
        receivers: Buckets::new(PER_RECEIVER.0, PER_RECEIVER.1),
        unproven: Buckets::new(UNPROVEN.0, UNPROVEN.1),
        all_unproven: Buckets::new(ALL_UNPROVEN.0, ALL_UNPROVEN.1),
    }
}

/// A message that an identity of this node has received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its id, as its sender named it.
    pub id: MessageId,
    /// Who sent it; the receiving device has verified that.
    pub from: Did,
    /// Where the sender may be reached; unproven.
    pub reply: ContactCard,
    /// When, by the sender's clock.
    pub sent_at_ms: i64,
    /// When, by the receiving device's clock.
    pub received_at_ms: i64,
    /// Which controller received it and vouches for it.
    pub by: Author,
    /// Whether a controller has opened it.
    pub opened: bool,
    /// The message.
    pub message: Vec<u8>,
}

pub(super) async fn accept(shared: Arc<Shared>, mut incoming: mpsc::Receiver<IncomingStream>) {
    let mut streams = JoinSet::new();
    let mut running: BTreeMap<u64, AbortHandle> = BTreeMap::new();
    loop {
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => break,
            Some(_ended) = streams.join_next(), if !streams.is_empty() => {}
            stream = incoming.recv() => {
                let Some(IncomingStream { peer, stream }) = stream else { break };
                // Refused attempts cost a turn, too.
                let has_turn = lock(&shared.limits).peers.take(&peer, Instant::now());
                let entered = if has_turn { lock(&shared.places).enter(&peer) } else { None };
                let Some(Entered { place, instead_of }) = entered else {
                    debug!(%peer, "too many letters");
                    continue;
                };
                running.retain(|_, task| !task.is_finished());
                if let Some(task) = instead_of.and_then(|place| running.remove(&place)) {
                    task.abort();
                }
                let place = Place { shared: Arc::clone(&shared), place };
                running.insert(place.place, streams.spawn(answer(place, peer, stream)));
            }
        }
    }
    streams.shutdown().await;
}

/// A stream's place, given back however it ends.
struct Place {
    shared: Arc<Shared>,
    place: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.shared.places).leave(self.place);
    }
}

async fn answer(place: Place, peer: PeerId, stream: Box<dyn Stream>) {
    let shared = &place.shared;
    let (mut reader, mut writer) = stream.split();
    let Ok(Some(sealed)) = timeout(FRAME_WITHIN, frame::read(&mut reader)).await else {
        return debug!(%peer, "no letter came");
    };
    lock(&shared.places).judged(place.place, true);
    let judged = timeout(JUDGED_WITHIN, shared.receive(&sealed, Some(&peer))).await;
    lock(&shared.places).judged(place.place, false);
    let answer = judged.unwrap_or(Answer::Later).encode();
    let sent = async {
        if frame::write(&mut writer, &answer).await {
            // What was sent arrives before the stream goes.
            let _closed = reader.read(&mut [0; 1]).await;
        }
    };
    if timeout(ANSWER_WITHIN, sent).await.is_err() {
        debug!(%peer, "an answer was not read");
    }
}

/// An opened letter. Its sender is what it claims.
struct Claim<'a> {
    to: &'a Did,
    from: Did,
    letter: Letter,
    opened: &'a OpenedMessage,
    /// Which node brought it; nothing: an identity of this node sent it.
    by: Option<&'a PeerId>,
}

/// What is known of a letter's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signature {
    Holds,
    /// By a device that was removed since, as far as is known.
    Lapsed,
    /// By somebody who may not speak for the sender, or for something else.
    Void,
    /// The sender's identity, or as much of it as the signature names, is not known.
    Unknown,
}

impl Shared {
    /// Judges a sealed letter and keeps it if it is wanted. `by`: the node that brought it.
    pub(super) async fn receive(&self, sealed: &[u8], by: Option<&PeerId>) -> Answer {
        let Ok(sealed) = SealedMessage::decode(sealed) else { return Answer::Refused };
        let Ok(identity) = self.parts.identities.identity(&sealed.did) else { return Answer::NotHere };
        if !identity.role().is_some_and(Role::writes) {
            return Answer::NotHere;
        }
        let opened = match self.parts.identities.open_unverified(&sealed, CONTEXT) {
            Ok(opened) => opened,
            // A key that is not here yet, a locked vault.
            Err(error) => {
                debug!(%error, "a letter cannot be opened now");
                return Answer::Later;
            }
        };
        let Some(from) = opened.claimed_sender() else { return Answer::Refused };
        let letter = Letter::decode(opened.message()).filter(|letter| letter.reply.did == from);
        let Some(letter) = letter else { return Answer::Refused };
        match self.judge(Claim { to: &sealed.did, from, letter, opened: &opened, by }).await {
            Ok(answer) => answer,
            Err(error) => {
                warn!(%error, "a letter cannot be kept now");
                Answer::Later
            }
        }
    }

    /// What costs nobody anything comes first: the rules, what is here already. Then a turn, and only then are others asked who
    /// the sender is.
    async fn judge(&self, claim: Claim<'_>) -> Result<Answer, InboxError> {
        let ledger = self.parts.ledgers.inbox(claim.to).await?;
        let rules = rules_of(&ledger).await?;
        if !rules.takes(&claim.from) {
            return Ok(Answer::Refused);
        }
        let mut signature = self.signature(claim.opened).await?;
        let is_proven = signature == Signature::Holds;
        if !is_proven && let Some(refused) = self.prove(&claim, signature).await? {
            return Ok(refused);
        }
        if let Says::Opened(id) = &claim.letter.says {
            self.note_opened(claim.to, &claim.from, id).await?;
            return Ok(Answer::Accepted);
        }
        if is_here(&ledger, &claim).await? {
            return Ok(Answer::Accepted);
        }
        if !lock(&self.limits).senders.take(&(*claim.to, claim.from), Instant::now()) {
            return Ok(Answer::Later);
        }
        if is_proven {
            // The device that signed may have been removed since; if nobody can say, what is known counts.
            self.ask(&claim).await?;
            signature = self.signature(claim.opened).await?;
            if signature != Signature::Holds {
                return Ok(Answer::Refused);
            }
        }
        let answer = self.keep(&ledger, &claim).await?;
        if answer == Answer::Accepted {
            self.parts.identities.remember(&claim.from, rules.allowed.contains(&claim.from)).await?;
        }
        Ok(answer)
    }

    /// Finds out who sent a letter by asking others; returns the answer if it was not who it says, or that cannot be said now.
    async fn prove(&self, claim: &Claim<'_>, signature: Signature) -> Result<Option<Answer>, InboxError> {
        if signature == Signature::Void {
            return Ok(Some(Answer::Refused));
        }
        let has_turn = {
            let (mut limits, now) = (lock(&self.limits), Instant::now());
            limits.unproven.take(&(*claim.to, claim.by.cloned()), now) && limits.all_unproven.take(claim.to, now)
        };
        if !has_turn || !self.ask(claim).await? {
            return Ok(Some(Answer::Later));
        }
        Ok(match self.signature(claim.opened).await? {
            Signature::Holds => None,
            Signature::Void | Signature::Lapsed => Some(Answer::Refused),
            Signature::Unknown => Some(Answer::Later),
        })
    }

    /// Asks others about the sender; false if nobody could tell.
    async fn ask(&self, claim: &Claim<'_>) -> Result<bool, InboxError> {
        match self.parts.identities.resolve_unasked(&claim.from, claim.by).await {
            Ok(_) => Ok(true),
            Err(error @ IdentitiesError::Unresolved { .. }) => {
                debug!(%error, "a sender cannot be resolved now");
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Verifies a letter against what is known of its sender now.
    async fn signature(&self, opened: &OpenedMessage) -> Result<Signature, InboxError> {
        Ok(match self.parts.identities.verify_sender(opened).await {
            Ok(Ok(Some(verified))) if verified.standing == SignerStanding::StillValid => Signature::Holds,
            Ok(Ok(Some(_))) => Signature::Lapsed,
            Ok(Err(VerifyError::UnknownHeads(_))) | Err(IdentitiesError::Unresolved { .. }) => Signature::Unknown,
            Ok(_) => Signature::Void,
            Err(error) => return Err(error.into()),
        })
    }

    /// Writes a letter to the ledger, once, if the receiver has room for one more.
    async fn keep(&self, ledger: &PrivateLedger, claim: &Claim<'_>) -> Result<Answer, InboxError> {
        let _one = self.turn.acquire().await.map_err(|_| LedgerError::Closed)?;
        if is_here(ledger, claim).await? {
            return Ok(Answer::Accepted);
        }
        if !lock(&self.limits).receivers.take(claim.to, Instant::now()) {
            return Ok(Answer::Later);
        }
        let (from, letter) = (claim.from, claim.letter.clone());
        let topics = vec![message_topic()?, copy_topic(&from, &letter.id)?];
        let kept = Kept { from, received_at_ms: self.parts.clock.now_ms(), letter };
        ledger.add_overlay(vec![NewBlock { content: kept.encode().into(), topics }]).await?;
        Ok(Answer::Accepted)
    }

    /// Only who got a message can say that it was opened.
    async fn note_opened(&self, to: &Did, from: &Did, id: &MessageId) -> Result<(), InboxError> {
        let note = |row: &mut Row| {
            if row.from == *to && row.to.did == *from {
                row.state = OutgoingState::Opened;
            }
        };
        Ok(self.amend(id, note).await?)
    }
}

fn copy_topic(from: &Did, id: &MessageId) -> Result<Topic, LedgerError> {
    Ok(Topic::overlay(OVERLAY, &copy_name(from, id))?)
}

/// Says whether a letter is here already.
async fn is_here(ledger: &PrivateLedger, claim: &Claim<'_>) -> Result<bool, LedgerError> {
    let topics_all = vec![copy_topic(&claim.from, &claim.letter.id)?];
    let known = Query { topics_all, limit: Some(1), ..Query::default() };
    Ok(ledger.query(known).await?.next().await.transpose()?.is_some())
}

fn message_topic() -> Result<Topic, LedgerError> {
    Ok(Topic::overlay(OVERLAY, "message")?)
}

/// Reads a block of the layer; nothing if it is no message, or not here yet.
async fn received(ledger: &PrivateLedger, info: &BlockInfo) -> Result<Option<Received>, LedgerError> {
    let bound = FRAME_MAX as u64;
    if info.state != BlockState::Available || info.size > bound || !info.topics.contains(&message_topic()?) {
        return Ok(None);
    }
    let Some(kept) = Kept::decode(&read(ledger, &info.id, bound).await?) else { return Ok(None) };
    let Says::Message(message) = kept.letter.says else { return Ok(None) };
    Ok(Some(Received {
        id: kept.letter.id,
        from: kept.from,
        reply: kept.letter.reply,
        sent_at_ms: kept.letter.sent_at_ms,
        received_at_ms: kept.received_at_ms,
        by: info.author.clone(),
        opened: false,
        message,
    }))
}

impl Inbox {
    /// Returns the messages of an identity of this node in canonical order, each once, however many devices accepted it.
    ///
    /// # Errors
    /// [`InboxError`].
    pub async fn messages(&self, did: &Did) -> Result<BoxStream<'static, Result<Received, InboxError>>, InboxError> {
        let ledger = self.0.parts.ledgers.inbox(did).await?;
        let query = Query { topics_all: vec![message_topic()?], ..Query::default() };
        let blocks = ledger.query(query).await?.map_err(InboxError::from);
        let found = blocks.try_filter_map(move |info| {
            let ledger = ledger.clone();
            async move {
                let Some(mut message) = received(&ledger, &info).await? else { return Ok(None) };
                message.opened = is_opened(&ledger, &message.from, &message.id).await?;
                Ok(Some(message))
            }
        });
        let mut seen = BTreeSet::new();
        let once = found.try_filter_map(move |message| {
            let name = (message.from, message.id);
            std::future::ready(Ok(seen.insert(name).then_some(message)))
        });
        Ok(once.boxed())
    }

    /// Returns the messages of an identity of this node as they arrive, from the first one on; does not end by itself.
    ///
    /// # Errors
    /// [`InboxError`].
    pub async fn follow(&self, did: &Did) -> Result<BoxStream<'static, Result<Received, InboxError>>, InboxError> {
        let ledger = self.0.parts.ledgers.inbox(did).await?;
        let events = ledger.subscribe(SubscribeFrom::Cursor(Cursor(0))).await?;
        let state = (ledger, events);
        let stream = futures::stream::try_unfold(state, |(ledger, mut events)| async move {
            while let Some(event) = events.next().await? {
                let LedgerEvent::Block(info) = &event else { continue };
                let Some(mut message) = received(&ledger, info).await? else { continue };
                if is_first_copy(&ledger, info, &message).await? {
                    message.opened = is_opened(&ledger, &message.from, &message.id).await?;
                    return Ok(Some((message, (ledger, events))));
                }
            }
            Ok(None)
        });
        Ok(stream.boxed())
    }

    /// Notes for all controllers that a message was opened, and tells its sender, if the sender's keys are known or can be
    /// resolved soon: nobody is waited for. Doing it again changes nothing.
    ///
    /// # Errors
    /// [`InboxError`].
    pub async fn mark_opened(&self, did: &Did, message: &Received) -> Result<(), InboxError> {
        let ledger = self.0.parts.ledgers.inbox(did).await?;
        if is_opened(&ledger, &message.from, &message.id).await? {
            return Ok(());
        }
        decide(&ledger, Control::Opened(message.from, message.id)).await?;
        self.0.confirm(Receipt { from: *did, to: message.reply.clone(), opened: message.id }).await
    }
}

/// Says whether a block is the first of its message that arrived here.
async fn is_first_copy(ledger: &PrivateLedger, info: &BlockInfo, message: &Received) -> Result<bool, LedgerError> {
    let copy = copy_topic(&message.from, &message.id)?;
    let query = Query { topics_all: vec![copy], order: Order::Canonical, ..Query::default() };
    let copies: Vec<BlockInfo> = ledger.query(query).await?.try_collect().await?;
    let first = copies.iter().filter(|copy| copy.cursor > Cursor(0)).min_by_key(|copy| copy.cursor);
    let first: Option<BlockId> = first.map(|copy| copy.id);
    Ok(first.is_none_or(|first| first == info.id))
}
