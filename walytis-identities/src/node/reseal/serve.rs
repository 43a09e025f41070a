//! The side of whoever holds the secrets.

use std::sync::Arc;
use std::time::Duration;

use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use walytis_core::id::PeerId;
use walytis_core::net::Stream;

use super::super::error::ExchangeError;
use super::super::frame;
use super::super::shared::Shared;
use super::super::wire_v1::{self, ResealAnswer, ResealAsk, Resealed};
use crate::crypto::KeyId;
use crate::epoch::{EpochSecrets, reseal};
use crate::id::{Did, EpochId};

/// How long one answer may take.
const WITHIN: Duration = Duration::from_secs(20);
/// Largest question in bytes: DID and 64 ids.
const ASK_MAX: usize = 4 * 1024;

/// Answers a peer that opened a stream. `find` returns the identity if this node controls it.
pub(in crate::node) async fn answer(
    mut stream: Box<dyn Stream>,
    peer: &PeerId,
    find: impl FnOnce(&Did) -> Option<Arc<Shared>>,
) -> Result<(), ExchangeError> {
    timeout(WITHIN, async {
        let question = frame::first(&mut stream, ASK_MAX).await?;
        let question = wire_v1::decode::<ResealAsk>(&question, "question")?.check()?;
        let shares = find(&question.did).and_then(|shared| shares(&shared, peer, &question.epochs));
        let answer = match &shares {
            None => ResealAnswer::Unknown,
            Some(shares) => ResealAnswer::Shares(
                shares.iter().map(|(epoch, key, sealed)| Resealed { epoch: *epoch, key: *key, sealed }).collect(),
            ),
        };
        frame::send(&mut stream, &wire_v1::encode(&answer)).await?;
        stream.close().await?;
        // What was sent arrives before the stream goes; an error only says that the other side was quicker.
        let _closed = stream.read(&mut [0; 1]).await;
        Ok(())
    })
    .await?
}

/// Returns what the device at `peer` may hold of each epoch and is held here; nothing for whoever is no controller, as if
/// the identity were unknown.
fn shares(shared: &Shared, peer: &PeerId, epochs: &[EpochId]) -> Option<Vec<(EpochId, KeyId, Vec<u8>)>> {
    shared.keys().ok()?;
    let device = shared.device_of(peer)?;
    let mut known = shared.known();
    let controller = known.graph.state().controller_of(&device)?.id;
    let to = known.cards.card(&device)?.body().receiving.clone();
    let mut shares = Vec::new();
    for epoch in epochs {
        let may = known.graph.share_of(&controller, epoch);
        let Some(held) = known.ring.get(epoch).filter(|_| !may.is_empty()) else { continue };
        let share = EpochSecrets {
            transport: held.transport.clone().filter(|_| may.transport),
            epoch: held.epoch.clone().filter(|_| may.epoch),
            history: held.history.clone().filter(|_| may.history),
        };
        if share == EpochSecrets::default() {
            continue;
        }
        if let Ok((key, sealed)) = reseal(&shared.did.chain(), epoch, &share, &to, &*shared.tools.entropy) {
            shares.push((*epoch, key, sealed));
        }
    }
    Some(shares)
}
