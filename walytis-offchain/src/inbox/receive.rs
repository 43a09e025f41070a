//! Receiving: `/walytis/inbox/1`, the receiving device's side, and what its controllers read.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::io::AsyncReadExt as _;
use futures::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};
use walytis_core::id::BlockId;
use walytis_core::ledger::{
    Author, BlockInfo, BlockState, Cursor, Ledger as _, LedgerError, LedgerEvent, LedgerRead as _, NewBlock, Order,
    Query, SubscribeFrom,
};
use walytis_core::net::{IncomingStream, Protocol, Stream};
use walytis_core::topic::Topic;
use walytis_identities::contact::ContactCard;
use walytis_identities::id::{Did, Role};
use walytis_identities::node::IdentitiesError;
use walytis_identities::sealed::SealedMessage;
use walytis_identities::signed::SignerStanding;

use super::gate::Buckets;
use super::message_v1::{Answer, CONTEXT, Control, FRAME_MAX, Kept, Letter, MessageId, Says, copy_name};
use super::outbox::OutgoingState;
use super::rules::{OVERLAY, decide, is_opened, read, rules_of};
use super::{Inbox, InboxError, Limits, Shared, frame, lock};
use crate::PrivateLedger;

/// The protocol.
pub const INBOX: Protocol = "/walytis/inbox/1";
/// Streams answered at the same time; more are reset.
const STREAMS_MAX: usize = 16;
/// How long one letter may take: its sender may have to be resolved.
const WITHIN: Duration = Duration::from_secs(25);
/// Letters of one node at once, and how long until one more.
const PER_PEER: (u32, Duration) = (64, Duration::from_secs(2));
/// Messages of one sender to one identity at once, and how long until one more. Chosen: a conversation, not a flood.
const PER_SENDER: (u32, Duration) = (32, Duration::from_secs(20));
/// Messages of all senders to one identity: some 8,600 a day.
const PER_RECEIVER: (u32, Duration) = (256, Duration::from_secs(10));

pub(super) fn limits() -> Limits {
    Limits {
        peers: Buckets::new(PER_PEER.0, PER_PEER.1),
        senders: Buckets::new(PER_SENDER.0, PER_SENDER.1),
        receivers: Buckets::new(PER_RECEIVER.0, PER_RECEIVER.1),
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
    loop {
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => break,
            Some(_ended) = streams.join_next(), if !streams.is_empty() => {}
            stream = incoming.recv() => {
                let Some(IncomingStream { peer, stream }) = stream else { break };
                if streams.len() >= STREAMS_MAX || !lock(&shared.limits).peers.take(&peer, Instant::now()) {
                    debug!(%peer, "too many letters");
                    continue;
                }
                let shared = Arc::clone(&shared);
                streams.spawn(async move {
                    if timeout(WITHIN, answer(&shared, stream)).await.is_err() {
                        debug!(%peer, "a letter took too long");
                    }
                });
            }
        }
    }
    streams.shutdown().await;
}

async fn answer(shared: &Shared, stream: Box<dyn Stream>) {
    let (mut reader, mut writer) = stream.split();
    let Some(sealed) = frame::read(&mut reader).await else { return };
    let answer = shared.receive(&sealed).await;
    if frame::write(&mut writer, &answer.encode()).await {
        // What was sent arrives before the stream goes.
        let _closed = reader.read(&mut [0; 1]).await;
    }
}

impl Shared {
    /// Judges a sealed letter and keeps it if it is wanted.
    pub(super) async fn receive(&self, sealed: &[u8]) -> Answer {
        let Ok(sealed) = SealedMessage::decode(sealed) else { return Answer::Refused };
        let Ok(identity) = self.parts.identities.identity(&sealed.did) else { return Answer::NotHere };
        if !identity.role().is_some_and(Role::writes) {
            return Answer::NotHere;
        }
        let opened = match self.parts.identities.open_sealed(&sealed, CONTEXT, &[]).await {
            Ok(opened) => opened,
            Err(IdentitiesError::BadSignature { .. }) => return Answer::Refused,
            // A key that is not here yet, a sender nobody could tell of, a locked vault.
            Err(error) => {
                debug!(%error, "a letter cannot be opened now");
                return Answer::Later;
            }
        };
        let Some((from, verified)) = opened.sender else { return Answer::Refused };
        let letter = Letter::decode(opened.message.expose());
        let wanted = verified.standing == SignerStanding::StillValid;
        let Some(letter) = letter.filter(|letter| wanted && letter.reply.did == from) else { return Answer::Refused };
        match self.take_in(&sealed.did, from, letter).await {
            Ok(answer) => answer,
            Err(error) => {
                warn!(%error, "a letter cannot be kept now");
                Answer::Later
            }
        }
    }

    async fn take_in(&self, to: &Did, from: Did, letter: Letter) -> Result<Answer, InboxError> {
        let ledger = self.parts.ledgers.inbox(to).await?;
        if !rules_of(&ledger).await?.takes(&from) {
            return Ok(Answer::Refused);
        }
        if let Says::Opened(id) = &letter.says {
            self.note_opened(to, &from, id).await?;
            return Ok(Answer::Accepted);
        }
        let _one = self.turn.acquire().await.map_err(|_| LedgerError::Closed)?;
        let copy = Topic::overlay(OVERLAY, &copy_name(&from, &letter.id)).map_err(LedgerError::Topic)?;
        let known = Query { topics_all: vec![copy.clone()], limit: Some(1), ..Query::default() };
        if ledger.query(known).await?.next().await.transpose()?.is_some() {
            return Ok(Answer::Accepted);
        }
        let room = {
            let (mut limits, now) = (lock(&self.limits), Instant::now());
            limits.senders.take(&(*to, from), now) && limits.receivers.take(to, now)
        };
        if !room {
            return Ok(Answer::Later);
        }
        let kept = Kept { from, received_at_ms: self.parts.clock.now_ms(), letter };
        let block = NewBlock { content: kept.encode().into(), topics: vec![message_topic()?, copy] };
        ledger.add_overlay(vec![block]).await?;
        Ok(Answer::Accepted)
    }

    /// Only who got a message can say that it was opened.
    async fn note_opened(&self, to: &Did, from: &Did, id: &MessageId) -> Result<(), InboxError> {
        if let Some(mut row) = self.row(id).await?.filter(|row| row.from == *to && row.to.did == *from) {
            row.state = OutgoingState::Opened;
            row.sealed = Vec::new();
            self.update(&row).await?;
        }
        Ok(())
    }
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
    /// resolved now. Doing it again changes nothing.
    ///
    /// # Errors
    /// [`InboxError`].
    pub async fn mark_opened(&self, did: &Did, message: &Received) -> Result<(), InboxError> {
        let ledger = self.0.parts.ledgers.inbox(did).await?;
        if is_opened(&ledger, &message.from, &message.id).await? {
            return Ok(());
        }
        decide(&ledger, Control::Opened(message.from, message.id)).await?;
        // Another device may have received it: this one may not know the sender yet.
        match self.0.parts.identities.resolve_card(&message.reply).await {
            Ok(_) => self.0.queue(did, &message.reply, Says::Opened(message.id)).await.map(drop),
            Err(IdentitiesError::Unresolved { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Says whether a block is the first of its message that arrived here.
async fn is_first_copy(ledger: &PrivateLedger, info: &BlockInfo, message: &Received) -> Result<bool, LedgerError> {
    let copy = Topic::overlay(OVERLAY, &copy_name(&message.from, &message.id))?;
    let query = Query { topics_all: vec![copy], order: Order::Canonical, ..Query::default() };
    let copies: Vec<BlockInfo> = ledger.query(query).await?.try_collect().await?;
    let first = copies.iter().filter(|copy| copy.cursor > Cursor(0)).min_by_key(|copy| copy.cursor);
    let first: Option<BlockId> = first.map(|copy| copy.id);
    Ok(first.is_none_or(|first| first == info.id))
}
