//! The serving rule.

use std::sync::Weak;

use async_trait::async_trait;
use bytes::Bytes;
use tracing::debug;
use walytis_core::id::PeerId;
use walytis_core::ledger::LedgerError;
use walytis_core::store::Direction;
use walytis_identities::id::OpId;

use super::Inner;
use super::seal::INLINE_MAX;
use super::table::behind;
use crate::envelope::EnvelopeId;
use crate::exchange::Serve;
use crate::exchange::frame_v1::{Body, Packed};

/// Records looked at for one envelope. Chosen: an honest envelope has one; more are replays.
const NAMED_MAX: usize = 16;

/// Answers peers while the ledger lives.
#[derive(Debug)]
pub(super) struct Server(pub(super) Weak<Inner>);

#[async_trait]
impl Serve for Server {
    async fn serve(&self, peer: &PeerId, body: Body) -> Option<Body> {
        let Some(inner) = self.0.upgrade() else { return crate::exchange::flat_no(body) };
        match body {
            Body::Want(items) => {
                let mut answers = Vec::with_capacity(items.len());
                for id in items {
                    answers.push((id, inner.holds_for(peer, &id).await));
                }
                Some(Body::Have(answers))
            }
            Body::Get(id, part) => match inner.part_for(peer, &id, part).await {
                Some(bytes) => Some(Body::Part(id, part, bytes)),
                None => Some(Body::No(id, part)),
            },
            Body::Push(id, bytes) => {
                inner.take_push(peer, id, &bytes).await;
                None
            }
            _ => None,
        }
    }
}

impl Inner {
    async fn holds_for(&self, peer: &PeerId, id: &EnvelopeId) -> bool {
        self.may_serve(peer, id).await.unwrap_or(false) && matches!(self.table.stored(id).await, Ok(Some(_)))
    }

    async fn part_for(&self, peer: &PeerId, id: &EnvelopeId, part: u32) -> Option<Bytes> {
        if !self.may_serve(peer, id).await.unwrap_or(false) {
            debug!(%peer, "an envelope was refused");
            return None;
        }
        let packed = self.table.stored(id).await.ok()??;
        match part.checked_sub(1) {
            None => Some(packed.encode().into()),
            Some(index) if index < packed.manifest.chunks() => self.table.read_chunk(id, &packed, index).await.ok(),
            Some(_) => None,
        }
    }

    /// A peer may have an envelope that a counting record names whose epoch it may read now.
    async fn may_serve(&self, peer: &PeerId, id: &EnvelopeId) -> Result<bool, LedgerError> {
        let prefix = self.table.key(b'v', &[&id.0]);
        let mut range = walytis_core::store::KeyRange::prefix(&prefix);
        range.start = behind(&prefix);
        for (_, value) in self.table.store.scan(range, Direction::Forward, NAMED_MAX).await? {
            let Some(epoch) = value.first_chunk::<32>() else { continue };
            if self.identity.may_read(peer, &OpId(*epoch)).await {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes a pushed envelope from a member: verified here, kept only for a record that is known or comes soon.
    async fn take_push(&self, peer: &PeerId, id: EnvelopeId, bytes: &Bytes) {
        if !self.identity.peers().await.contains(peer) {
            debug!(%peer, "a push of a stranger was dropped");
            return;
        }
        match Packed::verify(&id, bytes) {
            // A full queue drops it: it is fetched when its record is here.
            Some(packed) if packed.chunk.as_ref().is_some_and(|chunk| chunk.len() <= INLINE_MAX) => {
                drop(self.pushes.try_send((id, packed)))
            }
            Some(_) => debug!(%peer, "a large envelope was pushed and dropped"),
            None => {
                if let Some(exchange) = &self.exchange {
                    exchange.punish(peer, "a pushed envelope is not what it is called");
                }
            }
        }
    }
}
