//! Block files against their ids, and the rows that follow from them.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::schema::{self, NodeRecord, Tag, number, read_number};
use super::super::verify;
use super::{PAGE, Repair, id_of};
use crate::block::{Block, ContentRef, UnverifiedBlock};
use crate::id::{BlobId, BlockId};
use crate::ledger::LedgerError;

/// Files read at once. Chosen: at most 64 MiB, usually some tens of kilobytes.
const FILES: usize = 64;

impl Repair<'_> {
    /// Goes through all files: each must have the digest of its id and keep every rule that needs no other block.
    pub(super) async fn check_files(&mut self) -> Result<(), LedgerError> {
        let mut range = self.range(Tag::File);
        let mut done = 0;
        loop {
            let page = self.page(&mut range, FILES).await?;
            let mut candidates = Vec::with_capacity(page.len());
            for (key, file) in &page {
                let Some(id) = id_of(key, 32) else {
                    self.delete(key.to_vec());
                    continue;
                };
                let decoded = UnverifiedBlock::decode(file.clone()).ok().filter(|block| block.id() == id);
                match decoded {
                    Some(block) => candidates.push(block),
                    None => drop(self.lost.insert(id)),
                }
            }
            let (good, bad) = verify::verify(self.parts.chain, candidates, self.parts.entropy).await;
            self.lost.extend(bad.into_iter().map(|violation| violation.block));
            self.check_derived(&good).await?;
            done += page.len() as u64;
            self.step("checking blocks", done, 0)?;
            if page.len() < FILES {
                return Ok(());
            }
        }
    }

    /// Compares the rows that follow from verified blocks, and rewrites those that differ.
    pub(super) async fn check_derived(&mut self, blocks: &[Block]) -> Result<(), LedgerError> {
        for block in blocks {
            let (arrival, skeleton) = self.place_of(block).await?;
            let Some(arrival) = arrival else {
                self.unplaced.insert(block.id(), block.header().generation);
                continue;
            };
            self.unplaced.remove(&block.id());
            self.put_rows(block, arrival, skeleton).await?;
        }
        self.flush_some().await
    }

    /// Writes the rows of a block that differ from what they should be.
    pub(super) async fn put_rows(&mut self, block: &Block, arrival: u64, skeleton: bool) -> Result<(), LedgerError> {
        let rows = self.rows_of(block, arrival, skeleton);
        let keys: Vec<_> = rows.iter().map(|(key, _)| key.clone()).collect();
        let stored = self.parts.table.store().get_many(&keys).await?;
        for ((key, value), stored) in rows.into_iter().zip(stored) {
            if stored.as_ref() != Some(&value) {
                self.put(key, value);
            }
        }
        Ok(())
    }

    /// Returns what stands in the store of a block beside its file: as the commit of a block writes it.
    fn rows_of(&self, block: &Block, arrival: u64, skeleton: bool) -> Vec<(Vec<u8>, Bytes)> {
        let keys = &self.parts.table.keys;
        let (id, header) = (block.id(), block.header());
        let (number, place) = (number(arrival), Bytes::copy_from_slice(id.digest()));
        let mut rows = vec![
            (keys.of_block(Tag::Node, &id), NodeRecord::encode(arrival, skeleton, block.header_bytes())),
            (keys.canonical(header.generation, &id), number.clone()),
            (keys.arrival(arrival), place.clone()),
        ];
        for topic in &header.topics {
            rows.push((keys.topic(topic, header.generation, &id), number.clone()));
            rows.push((keys.topic_arrival(topic, arrival), place.clone()));
        }
        rows.push((keys.creator(&header.creator, header.generation, &id), number));
        rows.push((keys.creator_arrival(&header.creator, arrival), place));
        if let ContentRef::Blob { root, len } = &header.content {
            rows.push((keys.blob(root, &id), schema::blob(root, *len)));
        }
        if skeleton {
            rows.push((keys.of_block(Tag::Skeleton, &id), Bytes::new()));
        }
        rows
    }

    /// Tells from its rows where a block stood in arrival order: each row that names a number is a voice, and the
    /// arrival row that names the block two. One voice alone is not enough.
    async fn place_of(&self, block: &Block) -> Result<(Option<u64>, bool), LedgerError> {
        let keys = &self.parts.table.keys;
        let (id, header) = (block.id(), block.header());
        let mut places = vec![
            keys.of_block(Tag::Skeleton, &id),
            keys.of_block(Tag::Node, &id),
            keys.canonical(header.generation, &id),
            keys.creator(&header.creator, header.generation, &id),
        ];
        places.extend(header.topics.iter().map(|topic| keys.topic(topic, header.generation, &id)));
        let values = self.parts.table.store().get_many(&places).await?;
        let mut rows = places.iter().zip(&values).map(|(key, value)| value.as_ref().map(|value| (key, value)));
        let marked = rows.next().flatten().is_some();
        let node = rows.next().flatten().and_then(|(key, value)| NodeRecord::decode(key, value).ok());
        let skeleton = node.as_ref().map_or(marked, |node| node.skeleton);
        let mut voices: BTreeMap<u64, u32> = BTreeMap::new();
        let numbers = rows.flatten().filter_map(|(key, value)| read_number(key, value).ok());
        for number in node.map(|node| node.arrival).into_iter().chain(numbers).filter(|number| *number > 0) {
            *voices.entry(number).or_default() += 1;
        }
        let arrivals: Vec<_> = voices.keys().map(|number| keys.arrival(*number)).collect();
        let named = self.parts.table.store().get_many(&arrivals).await?;
        for (voice, named) in voices.values_mut().zip(named) {
            if named.as_deref() == Some(&id.digest()[..]) {
                *voice += 2;
            }
        }
        let most = voices.iter().max_by_key(|(_, voice)| **voice).map(|(number, voice)| (*number, *voice));
        let clear = most.filter(|(_, most)| *most >= 2 && voices.values().filter(|voice| *voice == most).count() == 1);
        Ok((clear.map(|(number, _)| number), skeleton))
    }

    /// Finds blocks that rows name and whose files are not here.
    pub(super) async fn find_lost(&mut self) -> Result<(), LedgerError> {
        for (tag, len) in [(Tag::Node, 32), (Tag::Canonical, 40), (Tag::Head, 32)] {
            let mut range = self.range(tag);
            loop {
                let page = self.page(&mut range, PAGE).await?;
                let ids: Vec<BlockId> = page.iter().filter_map(|(key, _)| id_of(key, len)).collect();
                self.note_absent(&ids).await?;
                self.step("looking for lost blocks", 0, 0)?;
                if page.len() < PAGE {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Notes those of `ids` as lost whose files are not here.
    pub(super) async fn note_absent(&mut self, ids: &[BlockId]) -> Result<(), LedgerError> {
        for ids in ids.chunks(FILES) {
            let keys: Vec<_> = ids.iter().map(|id| self.parts.table.keys.of_block(Tag::File, id)).collect();
            let files = self.parts.table.store().get_many(&keys).await?;
            let absent = ids.iter().zip(files).filter(|(_, file)| file.is_none()).map(|(id, _)| *id);
            self.lost.extend(absent);
        }
        Ok(())
    }

    /// Asks peers for the lost files; says whether any came.
    pub(super) async fn fetch_lost(&mut self) -> Result<bool, LedgerError> {
        let wanted: Vec<BlockId> = self.lost.iter().copied().collect();
        let mut fetched = 0;
        for (done, id) in (0..).zip(&wanted) {
            self.step("fetching lost blocks", done, wanted.len() as u64)?;
            let Some(file) = self.ask(BlobId::Raw(*id.digest()), 0, *id.digest()).await? else { continue };
            // It has the digest of the id; whether it is a block of this chain is asked like of any other.
            let Ok(block) = UnverifiedBlock::decode(Bytes::copy_from_slice(&file)) else { continue };
            let Ok(block) = block.verify(&self.parts.chain) else { continue };
            let key = self.parts.table.keys.of_block(Tag::File, id);
            self.put(key, block.file().clone());
            self.lost.remove(id);
            self.check_derived(&[block]).await?;
            fetched += 1;
        }
        self.report.fetched_blocks += fetched;
        self.flush().await?;
        Ok(fetched > 0)
    }
}
