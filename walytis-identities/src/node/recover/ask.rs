//! Asking what has been written: `/walytis/recovery/1`, the side of whoever has the recovery code.

use std::time::Duration;

use futures::io::AsyncWriteExt as _;
use tokio::time::timeout;
use walytis_core::id::PeerId;

use super::super::error::ExchangeError;
use super::super::frame;
use super::super::shared::Tools;
use super::super::wire_v1::{self, RecoveryAnswer, RecoveryAsk};
use super::RECOVERY;
use crate::id::Did;
use crate::op::{CUT_CHAINS_MAX, CUT_HEADS_MAX, ChainCut};
use crate::recovery::RecoveryKey;

/// How long one answer may take.
const WITHIN: Duration = Duration::from_secs(20);
/// Largest answer in bytes: 64 chains with 64 heads each, of 32 bytes.
const ANSWER_MAX: usize = 144 * 1024;

/// Asks one node for the heads of the identity's chain and of those bound to it.
pub(super) async fn ask(
    tools: &Tools,
    did: &Did,
    key: &RecoveryKey,
    peer: &PeerId,
) -> Result<Vec<ChainCut>, ExchangeError> {
    timeout(WITHIN, async {
        let mut stream = tools.network.open(peer, RECOVERY).await?;
        let proof = key.prove(&did.chain(), &tools.network.local_peer(), peer, &*tools.entropy);
        let question = RecoveryAsk { did: *did, key: key.public(), proof };
        frame::send(&mut stream, &wire_v1::encode(&question)).await?;
        let answer = frame::receive(&mut stream, ANSWER_MAX).await?;
        stream.close().await?;
        match wire_v1::decode::<RecoveryAnswer>(&answer, "heads")? {
            RecoveryAnswer::Heads(cuts) if fits(&cuts) => Ok(cuts),
            RecoveryAnswer::Heads(_) => Err(ExchangeError::Malformed { what: "heads" }),
            RecoveryAnswer::Unknown => Err(ExchangeError::UnknownIdentity),
        }
    })
    .await?
}

fn fits(cuts: &[ChainCut]) -> bool {
    cuts.len() <= CUT_CHAINS_MAX && cuts.iter().all(|cut| cut.heads.len() <= CUT_HEADS_MAX)
}
