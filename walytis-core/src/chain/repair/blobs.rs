//! Contents that stand beside their blocks.

use bytes::Bytes;

use super::super::content;
use super::super::schema::{self, Tag, id_at_end, read_blob};
use super::{PAGE, REPORT_NAMES_MAX, Repair};
use crate::id::{BlobId, BlockId, Digest};
use crate::ledger::LedgerError;
use crate::limits::BLOB_LEAF;
use crate::store::{Batch, BlobKey, BlobStatus, Durability};
use crate::unixfs::{BlobManifest, ManifestBuilder};

impl Repair<'_> {
    /// Checks every content against its root; one that is not here goes on the list of what to fetch.
    pub(super) async fn check_blobs(&mut self) -> Result<(), LedgerError> {
        let mut range = self.range(Tag::Blob);
        let mut checked: Option<(BlobId, bool)> = None;
        loop {
            let page = self.page(&mut range, PAGE).await?;
            for (key, value) in &page {
                let (Ok((blob, len)), Ok(block)) = (read_blob(key, value), id_at_end(key)) else { continue };
                let here = match checked {
                    Some((last, here)) if last == blob => here,
                    _ => self.check_blob(&blob, len).await?,
                };
                checked = Some((blob, here));
                self.set_wanted(&block, &blob, len, here).await?;
                self.step("checking contents", self.report.contents, 0)?;
            }
            self.flush().await?;
            if page.len() < PAGE {
                return Ok(());
            }
        }
    }

    /// Keeps the list of what to fetch in step with what is here.
    async fn set_wanted(&mut self, block: &BlockId, blob: &BlobId, len: u64, here: bool) -> Result<(), LedgerError> {
        let keys = self.parts.table.keys;
        let (wanted, skeleton) = (keys.of_block(Tag::Wanted, block), keys.of_block(Tag::Skeleton, block));
        let found = self.parts.table.store().get_many(&[wanted.clone(), skeleton]).await?;
        let [stored, skeleton] = &found[..] else { return Ok(()) };
        match (here, stored, skeleton) {
            (true, Some(_), _) => self.delete(wanted),
            (false, None, None) => {
                self.report.wanted_contents += 1;
                self.put(wanted, schema::blob(blob, len));
            }
            (false, Some(_), None) => self.report.wanted_contents += 1,
            _ => {}
        }
        Ok(())
    }

    /// Says whether a content is here whole; mends it if it is here and is not what its id names.
    async fn check_blob(&mut self, blob: &BlobId, len: u64) -> Result<bool, LedgerError> {
        let key = content::key(self.parts.chain, blob);
        let status = match self.parts.blobs.status(key).await {
            Ok(status) => status,
            Err(error) => return Ok(self.give_up(blob, &error.to_string())),
        };
        match status {
            BlobStatus::Complete { len: stored } if stored == len => {}
            BlobStatus::Complete { .. } => {
                // It has another length than any content of this name: nothing of it can be kept in its place.
                self.parts.blobs.delete(key).await?;
                return Ok(false);
            }
            _ => return Ok(false),
        }
        self.report.contents += 1;
        let mut builder = ManifestBuilder::new();
        while builder.len() < len {
            let leaf = self.parts.blobs.read(key, builder.len(), BLOB_LEAF).await.unwrap_or_default();
            if leaf.is_empty() || builder.push(&leaf).is_err() {
                break;
            }
            if self.parts.stop.is_cancelled() {
                return Err(LedgerError::Closed);
            }
            tokio::task::yield_now().await;
        }
        if builder.finish().is_ok_and(|manifest| manifest.verify(blob, len).is_ok()) {
            return Ok(true);
        }
        self.mend(blob, len, key).await
    }

    /// Builds a damaged content anew from its good leaves and from those that peers send.
    async fn mend(&mut self, blob: &BlobId, len: u64, key: BlobKey) -> Result<bool, LedgerError> {
        let manifest = match blob {
            BlobId::Raw(digest) => BlobManifest::new(len, vec![Digest(*digest)]).ok(),
            BlobId::DagPb(_) => {
                let stored = self.parts.table.store().get(&self.parts.table.keys.manifest(blob)).await?;
                let stored = stored.and_then(|bytes| BlobManifest::decode(&bytes).ok());
                stored.filter(|manifest| manifest.verify(blob, len).is_ok())
            }
        };
        let Some(manifest) = manifest else { return Ok(self.give_up(blob, "the list of its leaves is lost")) };
        let mut draft = self.parts.blobs.draft().await?;
        let mut fetched = 0;
        for (index, digest) in (0u32..).zip(manifest.leaves()) {
            let offset = u64::from(index) * BLOB_LEAF as u64;
            let leaf = match self.parts.blobs.read(key, offset, BLOB_LEAF).await {
                Ok(leaf) if Digest::of(&leaf) == *digest => leaf,
                _ => match self.ask(*blob, index, digest.0).await? {
                    Some(leaf) => {
                        fetched += 1;
                        Bytes::copy_from_slice(&leaf)
                    }
                    None => return Ok(self.give_up(blob, "nobody connected has it")),
                },
            };
            draft.append(leaf).await?;
        }
        self.replace(blob, len, key, draft).await?;
        self.report.fetched_leaves += fetched;
        Ok(true)
    }

    /// Puts the whole content in the place of the damaged one. A crash in between leaves it on the list of what to fetch.
    async fn replace(
        &self,
        blob: &BlobId,
        len: u64,
        key: BlobKey,
        draft: Box<dyn crate::store::BlobDraft>,
    ) -> Result<(), LedgerError> {
        let keys = &self.parts.table.keys;
        let mut rows = crate::store::KeyRange::prefix(&keys.key(Tag::Blob, &[blob.digest()]));
        let first = self.page(&mut rows, 1).await?;
        let mut batch = Batch::new();
        for (row, _) in &first {
            if let Ok(block) = id_at_end(row) {
                batch.put(keys.of_block(Tag::Wanted, &block), schema::blob(blob, len));
            }
        }
        self.parts.table.store().commit(batch, Durability::Flushed).await?;
        self.parts.blobs.delete(key).await?;
        Ok(draft.finish(key).await?)
    }

    /// Notes a content that stays damaged: what is here of it is kept.
    fn give_up(&mut self, blob: &BlobId, reason: &str) -> bool {
        self.report.missing_contents += 1;
        if self.report.missing.len() < REPORT_NAMES_MAX {
            self.report.missing.push(format!("content {blob}: {reason}"));
        }
        true
    }
}
