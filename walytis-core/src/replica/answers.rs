//! What a chain's task does with what peers say: looks up what the machine needs to know, offers blocks to the chain.

use std::collections::BTreeSet;

use bytes::Bytes;
use tokio::time::Instant;
use tracing::debug;

use super::catch_up::{Compared, Received};
use super::chain::{ChainTask, PUSH_BYTES_MAX};
use super::codec_v1::{Hello, Message, ShortId};
use crate::block::UnverifiedBlock;
use crate::chain::Offered;
use crate::graph::CanonicalKey;
use crate::id::{BlockId, PeerId};
use crate::ledger::LedgerError;
use crate::reconcile::{Conclusion, SetError, conclude, first};

/// What taking in one pushed block counts as, in look-ups. Chosen: verifying it costs about so much.
const PUSHED_COSTS: usize = 16;

impl ChainTask {
    pub(super) async fn handle_message(&mut self, peer: &PeerId, message: Message) -> Result<(), LedgerError> {
        let now = Instant::now();
        match message {
            Message::Hello(hello) => self.handle_hello(peer, hello).await?,
            Message::Diverged { round } => self.machine.handle_diverged(peer, round, now),
            Message::Level { digest, .. } => self.machine.handle_same(peer, digest, now),
            Message::Ids { round, passed, frontier } => self.handle_ids(peer, round, passed, frontier).await?,
            Message::Ranges { round, body } => self.handle_ranges(peer, round, &body).await?,
            Message::List { round, ids, generation } if self.machine.awaits(peer, round) => {
                let next = ids.last().map(|last| (generation, *last));
                let unknown = self.unknown(&ids).await?;
                self.machine.handle_list(peer, round, unknown, next, Instant::now());
            }
            Message::Blocks { round, last, files } => self.handle_blocks(peer, round, last, files).await?,
            Message::Push { files } => self.handle_push(peer, files).await?,
            // Requests and answers about blobs go elsewhere; what is left was not asked for.
            _ => {}
        }
        Ok(())
    }

    /// Charges look-ups to a peer; false if it used up its share, so that what it says is not looked at.
    fn affords(&self, peer: &PeerId, lookups: usize) -> bool {
        let Some(slot) = self.slots.get(peer) else { return false };
        let affords = slot.line.wait().is_zero();
        if affords {
            slot.line.charge(lookups as u64);
        }
        affords
    }

    async fn handle_hello(&mut self, peer: &PeerId, hello: Hello) -> Result<(), LedgerError> {
        // The next one comes when its heads change, or when it is asked.
        if self.affords(peer, hello.heads.len()) {
            let unknown = self.unknown(&hello.heads).await?;
            self.machine.handle_hello(peer, hello, unknown, Instant::now());
        }
        Ok(())
    }

    pub(super) async fn unknown(&self, ids: &[BlockId]) -> Result<Vec<BlockId>, LedgerError> {
        let nodes = self.core.nodes(ids).await?;
        Ok(ids.iter().zip(nodes).filter(|(_, node)| node.is_none()).map(|(id, _)| *id).collect())
    }

    /// Looks up which ids of a step of the walk are here. Of those only the nearest to the heads matter: what they descend
    /// from is here too.
    async fn handle_ids(
        &mut self,
        peer: &PeerId,
        round: u32,
        passed: Vec<ShortId>,
        frontier: Vec<ShortId>,
    ) -> Result<(), LedgerError> {
        if !self.machine.awaits(peer, round) {
            return Ok(());
        }
        let mut known = BTreeSet::new();
        let mut next = Vec::new();
        let steps = passed.iter().map(|id| (id, false)).chain(frontier.iter().map(|id| (id, true)));
        for (short, at_front) in steps {
            match self.core.by_prefix(&short.0).await? {
                Some(id) => _ = known.insert(id),
                None if at_front => next.push(*short),
                None => {}
            }
        }
        let ids: Vec<_> = known.iter().copied().collect();
        for node in self.core.nodes(&ids).await?.into_iter().flatten() {
            known.retain(|id| !node.parents.contains(id));
        }
        let have = known.iter().map(ShortId::of).collect();
        self.machine.handle_ids(peer, round, have, next, Instant::now());
        Ok(())
    }

    /// Sends the first message of a reconciliation.
    pub(super) async fn compare(&mut self, peer: &PeerId, round: u32) -> Result<(), LedgerError> {
        let compared = match first(&mut self.core.summed()).await {
            Ok(message) => Some(Compared { next: Some(message.into()), ..Compared::default() }),
            Err(SetError::TooCostly) => None,
            Err(SetError::Ledger(error)) => return Err(error),
        };
        self.machine.handle_compared(peer, round, compared, Instant::now());
        Ok(())
    }

    async fn handle_ranges(&mut self, peer: &PeerId, round: u32, body: &Bytes) -> Result<(), LedgerError> {
        if !self.machine.awaits(peer, round) {
            return Ok(());
        }
        let compared = match conclude(&mut self.core.summed(), body).await {
            Ok(Some(Conclusion { need, next })) => {
                Some(Compared { need, next: next.map(Bytes::from), bytes: body.len() as u64 })
            }
            // The peer cannot answer, or answers nonsense: then ids are listed.
            Ok(None) | Err(SetError::TooCostly) => None,
            Err(SetError::Ledger(error)) => return Err(error),
        };
        self.machine.handle_compared(peer, round, compared, Instant::now());
        Ok(())
    }

    async fn handle_blocks(
        &mut self,
        peer: &PeerId,
        round: u32,
        last: bool,
        files: Vec<Bytes>,
    ) -> Result<(), LedgerError> {
        // What nobody asked for (any more) is taken in, but not without end.
        if !self.machine.awaits(peer, round) && !self.affords(peer, files.len()) {
            return Ok(());
        }
        let bytes = u32::try_from(files.iter().map(Bytes::len).sum::<usize>()).unwrap_or(u32::MAX);
        let (offered, reached) = self.offer(peer, files).await?;
        let unknown = if last { self.unknown(&self.machine.unknown_of(peer)).await? } else { Vec::new() };
        let (admitted, held) = (offered.admitted.len(), offered.pending.len());
        let received = Received { round, last, bytes, admitted, held, reached, unknown };
        self.machine.handle_blocks(peer, &received, Instant::now(), &mut self.rng);
        Ok(())
    }

    async fn handle_push(&mut self, peer: &PeerId, files: Vec<Bytes>) -> Result<(), LedgerError> {
        if files.iter().map(Bytes::len).sum::<usize>() > PUSH_BYTES_MAX {
            self.blame(peer);
            return Ok(());
        }
        if !self.affords(peer, files.len().saturating_mul(PUSHED_COSTS)) {
            return Ok(());
        }
        let (offered, _) = self.offer(peer, files).await?;
        if !offered.pending.is_empty() && !offered.missing.is_empty() {
            self.machine.handle_hint(peer, &offered.missing, Instant::now());
        }
        Ok(())
    }

    /// Decodes and offers files that a peer sent; one that breaks a rule costs the sender, not the others. Returns the last
    /// one in canonical order too.
    async fn offer(
        &mut self,
        peer: &PeerId,
        files: Vec<Bytes>,
    ) -> Result<(Offered, Option<CanonicalKey>), LedgerError> {
        let bytes = files.iter().map(Bytes::len).sum::<usize>();
        self.traffic.received.fetch_add(bytes as u64, std::sync::atomic::Ordering::Relaxed);
        let count = files.len();
        let blocks: Vec<_> = files.into_iter().filter_map(|file| UnverifiedBlock::decode(file).ok()).collect();
        let malformed = blocks.len() < count;
        let key = |block: &UnverifiedBlock| CanonicalKey { generation: block.header().generation, id: block.id() };
        let reached = blocks.iter().map(key).max();
        let offered = self.core.offer(blocks, Some(peer.clone())).await?;
        if malformed || !offered.rejected.is_empty() {
            debug!(chain = ?self.core.id(), ?peer, rejected = ?offered.rejected, "blocks refused");
            self.blame(peer);
        }
        if !offered.admitted.is_empty() {
            self.admitted_here(&offered.admitted, Some(peer));
        }
        Ok((offered, reached))
    }
}
