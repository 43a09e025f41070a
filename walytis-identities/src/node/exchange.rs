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
//! Each side sends what the other, by the heads it named, may lack, parents first. Whoever knows the DID may ask: the
//! ops are public to them. What comes back is taken in only if it was authorised in its own past.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use walytis_core::id::PeerId;
use walytis_core::net::{Protocol, Stream};

use super::error::ExchangeError;
use super::frame::{self, FRAME_MAX};
use super::nested::GENESIS_MAX;
use super::shared::{Shared, Tools};
use super::wire_v1::{self, CARDS_MAX, Hello, Item, OPS_BYTES_MAX, OPS_MAX};
use crate::id::{Did, OpId};
use crate::op::SignedOp;

/// The protocol.
pub(super) const AUTHORITY: Protocol = "/walytis/authority/1";
/// How long one exchange may take. Chosen: 8 MiB over a slow link.
const WITHIN: Duration = Duration::from_secs(60);
/// Exchanges in a row with a peer that has more than fits one. Chosen: 32 times the bytes of one exchange.
pub(super) const ROUNDS_MAX: usize = 32;
/// Largest `Hello` in bytes: heads, and a device id with a counter for each card.
const HELLO_MAX: usize = 64 * 1024;

/// Second frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Greeting {
    Known(Hello),
    Unknown,
}

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

/// Exchanges with a peer until both know what the other knew.
pub(super) async fn with_peer(shared: &Shared, peer: &PeerId) -> Result<(), ExchangeError> {
    for _ in 0..ROUNDS_MAX {
        let round = async {
            let stream = shared.tools.network.open(peer, AUTHORITY).await?;
            let (mut reader, mut writer) = stream.split();
            let theirs = open(&mut reader, &mut writer, &shared.hello()).await?;
            let items = shared.items_for(&theirs);
            let (sent, received) = futures::join!(send_items(&mut writer, &items), receive_items(&mut reader));
            sent?;
            let received = received?;
            let more = received.more;
            shared.learn(received, Some(peer)).await?;
            let last = frame::receive(&mut reader, FRAME_MAX).await?;
            match wire_v1::decode(&last, "end")? {
                Item::Done { .. } => Ok(more || items.more),
                _ => Err(ExchangeError::Malformed { what: "end" }),
            }
        };
        if !timeout(WITHIN, round).await?? {
            return Ok(());
        }
    }
    Ok(())
}

/// Asks a peer for what it has of an identity that is not here, beyond `heads`: as much as fits one exchange.
pub(super) async fn fetch(
    tools: &Tools,
    did: &Did,
    heads: Vec<OpId>,
    peer: &PeerId,
) -> Result<Received, ExchangeError> {
    let round = async {
        let stream = tools.network.open(peer, AUTHORITY).await?;
        let (mut reader, mut writer) = stream.split();
        open(&mut reader, &mut writer, &Hello { did: *did, heads, cards: Vec::new() }).await?;
        let nothing = Items { frames: Vec::new(), more: false };
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
        let first = frame::receive(&mut reader, HELLO_MAX).await?;
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

/// Encoded items to be sent.
#[derive(Debug)]
pub(super) struct Items {
    frames: Vec<Vec<u8>>,
    more: bool,
}

impl Items {
    /// Takes as much as fits one exchange: genesis, ops (parents first), cards.
    pub(super) fn new<'a>(
        genesis: &[Bytes],
        ops: impl Iterator<Item = &'a SignedOp>,
        cards: impl Iterator<Item = Vec<u8>>,
    ) -> Self {
        Self::within(OPS_BYTES_MAX, genesis, ops, cards)
    }

    /// As [`Self::new`], with ops of at most so many bytes.
    pub(super) fn within<'a>(
        bytes_max: usize,
        genesis: &[Bytes],
        ops: impl Iterator<Item = &'a SignedOp>,
        cards: impl Iterator<Item = Vec<u8>>,
    ) -> Self {
        let mut items = Self { frames: Vec::new(), more: false };
        items.frames.extend(genesis.iter().map(|file| wire_v1::encode(&Item::Genesis(file))));
        let mut bytes = 0;
        for (count, op) in ops.enumerate() {
            let op = op.encode();
            bytes += op.len();
            if count >= OPS_MAX || bytes > bytes_max {
                items.more = true;
                break;
            }
            items.frames.push(wire_v1::encode(&Item::Op(&op)));
        }
        items.frames.extend(cards.take(CARDS_MAX).map(|card| wire_v1::encode(&Item::Card(&card))));
        items
    }
}

/// Sends items and the end.
pub(super) async fn send_items<W>(writer: &mut W, items: &Items) -> Result<(), ExchangeError>
where
    W: AsyncWrite + Unpin + Send,
{
    for item in &items.frames {
        frame::send(writer, item).await?;
    }
    frame::send(writer, &wire_v1::encode(&Item::Done { more: items.more })).await
}

/// Receives items until the end.
pub(super) async fn receive_items<R: AsyncRead + Unpin + Send>(reader: &mut R) -> Result<Received, ExchangeError> {
    let mut received = Received::default();
    let mut bytes = 0;
    let malformed = |what| ExchangeError::Malformed { what };
    loop {
        let item = frame::receive(reader, FRAME_MAX).await?;
        match wire_v1::decode::<Item<'_>>(&item, "item")? {
            Item::Genesis(file)
                if received.genesis.len() < GENESIS_MAX && !received.genesis.iter().any(|one| one == file) =>
            {
                received.genesis.push(Bytes::copy_from_slice(file));
            }
            Item::Genesis(_) => return Err(malformed("a genesis block too many")),
            Item::Op(op) => {
                bytes += op.len();
                if received.ops.len() >= OPS_MAX || bytes > OPS_BYTES_MAX {
                    return Err(malformed("too many ops"));
                }
                received.ops.push(SignedOp::decode(op).map_err(|_| malformed("op"))?);
            }
            Item::Card(card) if received.cards.len() < CARDS_MAX => received.cards.push(card.to_vec()),
            Item::Card(_) => return Err(malformed("too many cards")),
            Item::Done { more } => {
                received.more = more;
                return Ok(received);
            }
        }
    }
}
