//! The orders of a chain: parents first, no gap, heads and counters.

use super::super::heads::Heads;
use super::super::schema::{self, Meta, NodeRecord, Tag};
use super::super::stage::Tip;
use super::{PAGE, Repair, id_of};
use crate::block::UnverifiedBlock;
use crate::id::BlockId;
use crate::ledger::LedgerError;
use crate::store::Direction;

/// Blocks walked at once: their nodes and the nodes of their parents are read.
const WALKED: usize = 256;

impl Repair<'_> {
    /// Walks canonical order: parents stand before their children in it, so that heads come out in memory of the width of
    /// the graph. Notes unknown parents as lost. Arrival numbers may have gaps, and a block may have arrived behind its
    /// children: a skeleton that became an ordinary block arrived anew.
    pub(super) async fn walk(&mut self) -> Result<Option<Tip>, LedgerError> {
        self.flush().await?;
        let (mut meta, mut heads) = (Meta::default(), Heads::default());
        let mut unknown = Vec::new();
        let mut range = self.range(Tag::Canonical);
        loop {
            let page = self.page(&mut range, WALKED).await?;
            let ids: Vec<BlockId> = page.iter().filter_map(|(key, _)| id_of(key, 40)).collect();
            for (id, node) in ids.iter().zip(self.nodes(&ids).await?) {
                // Lost, or without a place: counted below.
                let Some(node) = node else { continue };
                meta.count += 1;
                meta.generation = meta.generation.max(node.header.generation);
                self.youngest = self.youngest.max(node.arrival);
                for (parent, found) in node.header.parents.iter().zip(self.nodes(&node.header.parents).await?) {
                    heads.remove(parent);
                    if found.is_none() {
                        unknown.push(*parent);
                    }
                }
                heads.insert(*id, node.header.generation, node.arrival);
            }
            self.step("walking through the graph", meta.count, 0)?;
            if page.len() < WALKED {
                break;
            }
        }
        self.note_absent(&unknown).await?;
        self.put_arrivals_of_lost().await?;
        let all = meta.count + self.unplaced.len() as u64;
        self.report.blocks = all.saturating_sub(self.lost.len() as u64);
        Ok((!heads.is_empty()).then_some(Tip {
            meta,
            heads,
            arrival: self.youngest,
            sums: crate::chain::sums::Sums::default(),
        }))
    }

    /// Writes the arrival rows of lost blocks whose nodes are here: their files will come back to their places.
    async fn put_arrivals_of_lost(&mut self) -> Result<(), LedgerError> {
        let lost: Vec<BlockId> = self.lost.iter().copied().collect();
        for ids in lost.chunks(PAGE) {
            for (id, node) in ids.iter().zip(self.nodes(ids).await?) {
                let Some(node) = node else { continue };
                let key = self.parts.table.keys.arrival(node.arrival);
                let stored = self.parts.table.store().get(&key).await?;
                if stored.as_deref() != Some(&id.digest()[..]) {
                    self.put(key, bytes::Bytes::copy_from_slice(id.digest()));
                }
            }
        }
        self.flush().await
    }

    async fn nodes(&self, ids: &[BlockId]) -> Result<Vec<Option<NodeRecord>>, LedgerError> {
        let keys: Vec<_> = ids.iter().map(|id| self.parts.table.keys.of_block(Tag::Node, id)).collect();
        let values = self.parts.table.store().get_many(&keys).await?;
        let decode = |(key, value): (&Vec<u8>, Option<bytes::Bytes>)| NodeRecord::decode(key, &value?).ok();
        Ok(keys.iter().zip(values).map(decode).collect())
    }

    /// Lets blocks whose place cannot be told arrive anew, in canonical order: they are told again, and none is skipped.
    pub(super) async fn place_rest(&mut self) -> Result<(), LedgerError> {
        let last = self.parts.table.store().scan(self.range(Tag::Arrival), Direction::Reverse, 1).await?;
        let last = last.first().and_then(|(key, _)| key.last_chunk::<8>()).map(|number| u64::from_be_bytes(*number));
        let mut next = last.unwrap_or(0).max(self.youngest);
        let mut order: Vec<_> = self.unplaced.iter().map(|(id, generation)| (*generation, *id)).collect();
        order.sort_unstable();
        for (_, id) in order {
            next = next.saturating_add(1);
            let key = self.parts.table.keys.of_block(Tag::File, &id);
            let file = self.parts.table.store().get(&key).await?;
            let Some(block) = file.and_then(|file| UnverifiedBlock::decode(file).ok()) else { continue };
            let skeleton = self.parts.table.store().get(&self.parts.table.keys.of_block(Tag::Skeleton, &id)).await?;
            self.put_rows(&block.trust_stored(), next, skeleton.is_some()).await?;
            self.unplaced.remove(&id);
        }
        Ok(())
    }

    /// Writes counters and heads where they differ.
    pub(super) async fn put_tip(&mut self, tip: &Tip) -> Result<(), LedgerError> {
        let Tip { meta, heads, .. } = tip;
        let keys = self.parts.table.keys;
        let stored = self.parts.table.store().get(&keys.meta()).await?;
        if stored.as_ref() != Some(&meta.encode()) {
            self.put(keys.meta(), meta.encode());
        }
        let mut expected: std::collections::BTreeMap<Vec<u8>, bytes::Bytes> = heads
            .places()
            .map(|(id, generation, arrival)| (keys.of_block(Tag::Head, &id), schema::head(generation, arrival)))
            .collect();
        let mut range = self.range(Tag::Head);
        loop {
            let page = self.page(&mut range, PAGE).await?;
            for (key, value) in &page {
                match expected.remove(&key[..]) {
                    Some(wanted) if wanted == *value => {}
                    Some(wanted) => self.put(key.to_vec(), wanted),
                    None => self.delete(key.to_vec()),
                }
            }
            if page.len() < PAGE {
                break;
            }
        }
        for (key, value) in expected {
            self.put(key, value);
        }
        self.flush().await
    }
}
