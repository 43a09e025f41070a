//! The asker's side.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::io::AsyncWriteExt as _;
use tokio::time::timeout;
use tracing::debug;
use walytis_core::id::PeerId;

use super::super::error::ExchangeError;
use super::super::frame;
use super::super::shared::Shared;
use super::super::wire_v1::{self, RESEALED_MAX, ResealAnswer, ResealAsk};
use super::super::{exchange, ring};
use super::RESEAL;
use crate::epoch::{EpochSecrets, open_resealed};
use crate::id::EpochId;

/// How long one answer may take. Chosen: 64 slots over a slow link.
const WITHIN: Duration = Duration::from_secs(20);
/// Largest answer in bytes: 64 sealed shares of under 1.4 KB.
const ANSWER_MAX: usize = 128 * 1024;

/// Asks `peer` for what is missing; returns what opened and is what the epochs commit to.
pub(in crate::node) async fn ask(
    shared: &Shared,
    peer: &PeerId,
) -> Result<BTreeMap<EpochId, EpochSecrets>, ExchangeError> {
    exchange::with_peer(shared, peer).await?;
    let epochs = ring::missing(shared);
    if epochs.is_empty() {
        return Ok(BTreeMap::new());
    }
    let _turn = shared.tools.turns.take(peer, RESEAL).await?;
    timeout(WITHIN, async {
        let mut stream = shared.tools.network.open(peer, RESEAL).await?;
        let question = ResealAsk { did: shared.did, epochs: epochs.clone() };
        frame::send(&mut stream, &wire_v1::encode(&question)).await?;
        let answer = frame::receive(&mut stream, ANSWER_MAX).await?;
        stream.close().await?;
        match wire_v1::decode::<ResealAnswer<'_>>(&answer, "shares")? {
            ResealAnswer::Unknown => Err(ExchangeError::UnknownIdentity),
            ResealAnswer::Shares(shares) if shares.len() > RESEALED_MAX => {
                Err(ExchangeError::Malformed { what: "shares" })
            }
            ResealAnswer::Shares(shares) => {
                let opened = shares.iter().filter(|share| epochs.contains(&share.epoch));
                Ok(opened.filter_map(|share| Some((share.epoch, open(shared, share)?))).collect())
            }
        }
    })
    .await?
}

fn open(shared: &Shared, share: &wire_v1::Resealed<'_>) -> Option<EpochSecrets> {
    let keyring = shared.keyring().ok()?;
    let known = shared.known();
    let op = known.graph.op(&share.epoch)?;
    let chain = shared.did.chain();
    let sealed = (&share.key, share.sealed);
    match open_resealed(&chain, (&share.epoch, op.core()), sealed, &keyring.receiving()) {
        Ok(secrets) => Some(secrets),
        Err(error) => {
            debug!(did = ?shared.did, epoch = ?share.epoch, %error, "a resealed share is of no use");
            None
        }
    }
}
