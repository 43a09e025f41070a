//! The serving rule. What is here only in part is served as far as it is here: members that fetch the same help each other.

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
use crate::exchange::frame_v1::{Body, Has, Packed};
use crate::exchange::{Runs, Serve};

/// Records looked at for one envelope: all that name it are the same, only the blocks differ.
const NAMED_MAX: usize = 1;

/// Whether an envelope that may be served is known to be here whole.
enum Whole {
    Yes,
    No,
}

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
    /// How much of an envelope a peer can have; nothing where anything fails, as if there were nothing.
    async fn holds_for(&self, peer: &PeerId, id: &EnvelopeId) -> Has {
        match self.may_serve(peer, id).await {
            Ok(Some(Whole::Yes)) if matches!(self.table.stored(id).await, Ok(Some(_))) => Has::All,
            Ok(Some(Whole::No)) => self.holds(id).await.unwrap_or(Has::No),
            _ => Has::No,
        }
    }

    async fn holds(&self, id: &EnvelopeId) -> Result<Has, LedgerError> {
        let Some(packed) = self.table.stored(id).await? else { return Ok(Has::No) };
        let here = self.table.chunks_here(id, &packed).await?;
        Ok(if here.iter().all(|here| *here) { Has::All } else { Has::Some(Runs::of(&here)) })
    }

    async fn part_for(&self, peer: &PeerId, id: &EnvelopeId, part: u32) -> Option<Bytes> {
        if self.may_serve(peer, id).await.ok().flatten().is_none() {
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

    /// A peer may have an envelope that a counting record names whose epoch it may read now; nothing if it may not.
    async fn may_serve(&self, peer: &PeerId, id: &EnvelopeId) -> Result<Option<Whole>, LedgerError> {
        for (table, whole) in [(b'v', Whole::Yes), (b'f', Whole::No)] {
            let prefix = self.table.key(table, &[&id.0]);
            let mut range = walytis_core::store::KeyRange::prefix(&prefix);
            range.start = behind(&prefix);
            for (_, value) in self.table.store.scan(range, Direction::Forward, NAMED_MAX).await? {
                let Some(epoch) = value.first_chunk::<32>() else { continue };
                if self.identity.may_read(peer, &OpId(*epoch)).await {
                    return Ok(Some(whole));
                }
            }
        }
        Ok(None)
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
