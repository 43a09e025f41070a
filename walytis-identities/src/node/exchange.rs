//! Exchange of authority ops and device cards between two nodes: `/walytis/authority/1`.
//!
//! ```text
//!  opener                      other
//!  Hello ───────────────────►
//!        ◄─────────────────── Greeting (or Unknown)
//!  items, Done ──────────────►          both at once
//!        ◄────────── items, Done
//!        ◄─────────────────── Done      it has taken in what it got
//! ```
//!
//! Each side sends what the other, by the heads it named, may lack, parents first: of the identity and of those below, in
//! parts of bounded size. After a part both say anew what they hold, so that whatever ended early goes on where it was.
//! Whoever knows the DID may ask: the ops are public to them. What comes back is taken in only if it was authorised in its
//! own past.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tracing::debug;
use walytis_core::id::PeerId;
use walytis_core::net::{Protocol, Stream};

use super::error::ExchangeError;
use super::frame::{self, FRAME_MAX};
use super::nested::GENESIS_MAX;
use super::shared::{Shared, Tools};
use super::wire_v1::{self, CARDS_BYTES_MAX, CARDS_MAX, Greeting, Hello, Item, PART_BYTES_MAX, PART_OPS_MAX};
use crate::id::{Did, OpId};
use crate::op::SignedOp;
use crate::state::{Held, Part, PartBounds, Travelling};

/// The protocol.
pub(super) const AUTHORITY: Protocol = "/walytis/authority/1";
/// How long one exchange may take. Chosen: 8 MiB over a slow link.
const WITHIN: Duration = Duration::from_secs(60);
/// How long all exchanges in a row with one peer may take; what is left comes with the next change or session. Chosen: some
/// parts over a slow link.
const ALL_WITHIN: Duration = Duration::from_secs(300);
/// Exchanges in a row with a peer that has more than fits one part. Chosen: 2 GiB; what is left comes with the next change.
pub(super) const ROUNDS_MAX: usize = 256;
/// Exchanges in a row without a pause, and the pause. Chosen: less than a peer grants before it slows down whoever asks.
const PACE: (usize, Duration) = (32, Duration::from_millis(500));
/// Largest `Hello` in bytes: heads, those of identities below, and a device id with a counter for each card.
const HELLO_MAX: usize = 384 * 1024;

/// What one side sent.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// Genesis block files, of the identity and of those below, unchecked.
    pub(super) genesis: Vec<Bytes>,
    /// Ops, parents first if the peer is honest; each followed by those of identities below that it names.
    pub(super) ops: Vec<SignedOp>,
    /// Encoded cards.
    pub(super) cards: Vec<Vec<u8>>,
    /// There was more than fits one exchange.
    pub(super) more: bool,
}

/// Exchanges with a peer until both know what the other knew, or nothing that is sent is of use.
pub(super) async fn with_peer(shared: &Shared, peer: &PeerId) -> Result<(), ExchangeError> {
    timeout(ALL_WITHIN, rounds(shared, peer)).await?
}

/// Exchanges with several at once, and waits for them this long and no longer.
pub(super) async fn with_all(shared: &Shared, peers: &[PeerId], within: Duration) {
    let all = peers.iter().map(async |peer| {
        if let Err(error) = with_peer(shared, peer).await {
            debug!(did = ?shared.did, ?peer, %error, "a node was not heard");
        }
    });
    // Who is late is heard another time.
    let _late = timeout(within, futures::future::join_all(all)).await;
}

async fn rounds(shared: &Shared, peer: &PeerId) -> Result<(), ExchangeError> {
    let mut told = BTreeSet::new();
    for number in 0..ROUNDS_MAX {
        pause(number).await;
        let before = shared.extent();
        let (sent, more) = {
            let _turn = shared.tools.turns.take(peer, AUTHORITY).await?;
            timeout(WITHIN, round(shared, peer)).await??
        };
        // What the other says that it holds is no measure: whoever neither brings nor takes anything would be asked for ever.
        let told_before = told.len();
        told.extend(sent);
        if !more || (shared.extent() == before && told.len() == told_before) {
            return Ok(());
        }
    }
    Ok(())
}

/// Exchanges one part in each direction. Returns which ops went, and whether either has more.
async fn round(shared: &Shared, peer: &PeerId) -> Result<(Vec<OpId>, bool), ExchangeError> {
    let stream = shared.tools.network.open(peer, AUTHORITY).await?;
    let (mut reader, mut writer) = stream.split();
    let theirs = open(&mut reader, &mut writer, &shared.hello()).await?;
    let items = shared.items_for(&theirs);
    let (sent, received) = futures::join!(send_items(&mut writer, &items), receive_items(&mut reader));
    sent?;
    let received = received?;
    let more = received.more || items.more;
    shared.learn(received, Some(peer)).await?;
    let last = frame::receive(&mut reader, FRAME_MAX).await?;
    match wire_v1::decode(&last, "end")? {
        Item::Done { .. } => Ok((items.ops.iter().map(|op| op.id()).collect(), more)),
        _ => Err(ExchangeError::Malformed { what: "end" }),
    }
}

/// Leaves the other side time before the next of many exchanges in a row.
pub(super) async fn pause(number: usize) {
    if number >= PACE.0 {
        tokio::time::sleep(PACE.1).await;
    }
}

/// Asks a peer for what it has of an identity that is not here, beyond what is held: as much as fits one part.
pub(super) async fn fetch(tools: &Tools, did: &Did, held: Held, peer: &PeerId) -> Result<Received, ExchangeError> {
    let _turn = tools.turns.take(peer, AUTHORITY).await?;
    let round = async {
        let stream = tools.network.open(peer, AUTHORITY).await?;
        let (mut reader, mut writer) = stream.split();
        open(&mut reader, &mut writer, &Hello::new(*did, held, Vec::new())).await?;
        let nothing = Items::default();
        let (sent, received) = futures::join!(send_items(&mut writer, &nothing), receive_items(&mut reader));
        sent?;
        received
    };
    timeout(WITHIN, round).await?
}

/// Answers a peer that opened a stream. `find` returns the identity if this node has it.
pub(super) async fn answer(
    stream: Box<dyn Stream>,
    peer: &PeerId,
    find: impl FnOnce(&Did) -> Option<Arc<Shared>>,
) -> Result<(), ExchangeError> {
    let round = async {
        let (mut reader, mut writer) = stream.split();
        let first = frame::first(&mut reader, HELLO_MAX).await?;
        let theirs = wire_v1::decode::<Hello>(&first, "hello")?.check()?;
        let Some(shared) = find(&theirs.did) else {
            frame::send(&mut writer, &wire_v1::encode(&Greeting::Unknown)).await?;
            return Ok(writer.close().await?);
        };
        frame::send(&mut writer, &wire_v1::encode(&Greeting::Known(shared.hello()))).await?;
        let items = shared.items_for(&theirs);
        let (sent, received) = futures::join!(send_items(&mut writer, &items), receive_items(&mut reader));
        sent?;
        shared.learn(received?, Some(peer)).await?;
        frame::send(&mut writer, &wire_v1::encode(&Item::Done { more: false })).await?;
        Ok(writer.close().await?)
    };
    timeout(WITHIN, round).await?
}

async fn open<R, W>(reader: &mut R, writer: &mut W, hello: &Hello) -> Result<Hello, ExchangeError>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    frame::send(writer, &wire_v1::encode(hello)).await?;
    match wire_v1::decode(&frame::receive(reader, HELLO_MAX).await?, "greeting")? {
        Greeting::Known(theirs) if theirs.did == hello.did => theirs.check(),
        Greeting::Known(_) => Err(ExchangeError::Malformed { what: "greeting" }),
        Greeting::Unknown => Err(ExchangeError::UnknownIdentity),
    }
}

/// What is sent at once. Ops are encoded one by one as they go.
#[derive(Debug, Default)]
pub(super) struct Items {
    genesis: Vec<Bytes>,
    ops: Vec<Arc<SignedOp>>,
    cards: Vec<Vec<u8>>,
    pub(super) more: bool,
}

/// Returns how much goes at once. What takes a part is a genesis block at most beyond it, and the identity's own comes on
/// top.
pub(super) fn bounds(tools: &Tools) -> PartBounds {
    PartBounds { ops: PART_OPS_MAX, bytes: tools.config.part_bytes.min(PART_BYTES_MAX - 2 * FRAME_MAX) }
}

impl Items {
    /// Genesis blocks first: `own`, to whoever has not got it, and those of identities below; then ops, then cards.
    pub(super) fn new(own: Option<Bytes>, part: Part, cards: impl Iterator<Item = Vec<u8>>) -> Self {
        let mut items = Self { genesis: own.into_iter().collect(), more: part.more, ..Self::default() };
        for travelling in part.items {
            match travelling {
                Travelling::Genesis(block) => items.genesis.push(block.file().clone()),
                Travelling::Op(op) => items.ops.push(op),
            }
        }
        // With the last part: others are of devices that are not known yet. What does not fit comes when these are in.
        let (cards_max, mut bytes) = (if part.more { 0 } else { CARDS_MAX }, 0);
        items.cards.extend(cards.take(cards_max).take_while(|card| {
            bytes += card.len();
            bytes <= CARDS_BYTES_MAX
        }));
        items
    }
}

/// Sends items and the end.
pub(super) async fn send_items<W>(writer: &mut W, items: &Items) -> Result<(), ExchangeError>
where
    W: AsyncWrite + Unpin + Send,
{
    for file in &items.genesis {
        frame::send(writer, &wire_v1::encode(&Item::Genesis(file))).await?;
    }
    for op in &items.ops {
        frame::send(writer, &wire_v1::encode(&Item::Op(&op.encode()))).await?;
    }
    for card in &items.cards {
        frame::send(writer, &wire_v1::encode(&Item::Card(card))).await?;
    }
    frame::send(writer, &wire_v1::encode(&Item::Done { more: items.more })).await
}

/// Receives items until the end.
pub(super) async fn receive_items<R: AsyncRead + Unpin + Send>(reader: &mut R) -> Result<Received, ExchangeError> {
    let mut received = Received::default();
    let (mut bytes, mut card_bytes) = (0, 0);
    let malformed = |what| ExchangeError::Malformed { what };
    loop {
        let item = frame::receive(reader, FRAME_MAX).await?;
        match wire_v1::decode::<Item<'_>>(&item, "item")? {
            Item::Genesis(file)
                if received.genesis.len() < GENESIS_MAX
                    && bytes + file.len() <= PART_BYTES_MAX
                    && !received.genesis.iter().any(|one| one == file) =>
            {
                bytes += file.len();
                received.genesis.push(Bytes::copy_from_slice(file));
            }
            Item::Genesis(_) => return Err(malformed("a genesis block too many")),
            Item::Op(op) => {
                bytes += op.len();
                if received.ops.len() >= PART_OPS_MAX || bytes > PART_BYTES_MAX {
                    return Err(malformed("too many ops"));
                }
                received.ops.push(SignedOp::decode(op).map_err(|_| malformed("op"))?);
            }
            Item::Card(card) => {
                card_bytes += card.len();
                if received.cards.len() >= CARDS_MAX || card_bytes > CARDS_BYTES_MAX {
                    return Err(malformed("too many cards"));
                }
                received.cards.push(card.to_vec());
            }
            Item::Done { more } => {
                received.more = more;
                return Ok(received);
            }
        }
    }
}
