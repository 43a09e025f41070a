//! Asking one node: `/walytis/resolve/1`, the asker's side.

use std::time::Duration;

use bytes::Bytes;
use futures::io::AsyncWriteExt as _;
use tokio::time::timeout;
use walytis_core::id::PeerId;
use walytis_core::net::{Network, Protocol};

use super::super::error::ExchangeError;
use super::super::frame::{self, FRAME_MAX};
use super::super::nested::GENESIS_MAX;
use super::super::wire_v1::{
    self, CARDS_BYTES_MAX, CARDS_MAX, HEADS_MAX, Item, PART_BYTES_MAX, PART_OPS_MAX, ResolveAnswer, ResolveAsk,
};
use super::rules::{AnswerFault, NoAnswer};
use crate::id::OpId;
use crate::op::SignedOp;

/// The protocol.
pub(super) const RESOLVE: Protocol = "/walytis/resolve/1";

/// What one node said, in form only: nothing of it is checked.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) heads: Vec<OpId>,
    pub(super) genesis: Vec<Bytes>,
    /// Parents first if the node is honest.
    pub(super) ops: Vec<SignedOp>,
    /// Encoded public cards.
    pub(super) cards: Vec<Vec<u8>>,
    /// There is more than fits one answer.
    pub(super) more: bool,
}

/// Asks a node once. `bytes_max`: what the whole answer may have, less than an answer may have otherwise.
pub(super) async fn ask(
    network: &dyn Network,
    peer: &PeerId,
    question: &ResolveAsk,
    within: Duration,
    bytes_max: u64,
) -> Result<Answer, NoAnswer> {
    let asked = timeout(within, exchange(network, peer, question, bytes_max)).await;
    asked.map_err(|_| NoAnswer::Refused(AnswerFault::Unfinished))?
}

async fn exchange(
    network: &dyn Network,
    peer: &PeerId,
    question: &ResolveAsk,
    bytes_max: u64,
) -> Result<Answer, NoAnswer> {
    let stream = network.open(peer, RESOLVE).await?;
    let (mut reader, mut writer) = futures::io::AsyncReadExt::split(stream);
    frame::send(&mut writer, &wire_v1::encode(question)).await?;
    writer.close().await.map_err(ExchangeError::from)?;
    let first = frame::receive(&mut reader, FRAME_MAX).await?;
    let mut answer = match wire_v1::decode::<ResolveAnswer>(&first, "answer")? {
        ResolveAnswer::Unknown => return Err(NoAnswer::Unknown),
        ResolveAnswer::Known { heads } => Answer { heads, ..Answer::default() },
    };
    let heads = &answer.heads;
    if !(1..=HEADS_MAX).contains(&heads.len()) || !heads.is_sorted_by(|one, next| one < next) {
        return Err(AnswerFault::Malformed { what: "heads" }.into());
    }
    let (mut bytes, mut card_bytes, mut all_bytes) = (0, 0, 0_u64);
    loop {
        let item = frame::receive(&mut reader, FRAME_MAX).await?;
        all_bytes = all_bytes.saturating_add(item.len() as u64);
        if all_bytes > bytes_max {
            return Err(AnswerFault::Bounds.into());
        }
        match wire_v1::decode::<Item<'_>>(&item, "item")? {
            Item::Genesis(file)
                if answer.genesis.len() < GENESIS_MAX
                    && bytes + file.len() <= PART_BYTES_MAX
                    && !answer.genesis.iter().any(|one| one == file) =>
            {
                bytes += file.len();
                answer.genesis.push(Bytes::copy_from_slice(file));
            }
            Item::Genesis(_) => return Err(AnswerFault::Malformed { what: "a genesis block too many" }.into()),
            Item::Op(op) => {
                bytes += op.len();
                if answer.ops.len() >= PART_OPS_MAX || bytes > PART_BYTES_MAX {
                    return Err(AnswerFault::Bounds.into());
                }
                answer.ops.push(SignedOp::decode(op).map_err(|_| AnswerFault::Malformed { what: "op" })?);
            }
            Item::Card(card) => {
                card_bytes += card.len();
                if answer.cards.len() >= CARDS_MAX || card_bytes > CARDS_BYTES_MAX {
                    return Err(AnswerFault::Bounds.into());
                }
                answer.cards.push(card.to_vec());
            }
            Item::Done { more } => {
                answer.more = more;
                return Ok(answer);
            }
        }
    }
}
