//! Rows that follow from no block.

use bytes::Bytes;

use super::super::schema::{NodeRecord, Tag, creator_label, read_blob, read_fetch_mode, topic_label};
use super::super::sums;
use super::{PAGE, Repair, id_of};
use crate::block::ContentRef;
use crate::id::BlockId;
use crate::ledger::LedgerError;
use crate::ledger::subscriber::Progress;
use crate::store::Durability;
use crate::unixfs::BlobManifest;

/// Where the id of a row's block stands.
#[derive(Clone, Copy)]
enum Named {
    Key,
    Value,
}

impl Repair<'_> {
    /// Removes rows that follow from no block of the chain, and sets cursors right. Every block has its rows by now.
    pub(super) async fn remove_strays(&mut self) -> Result<(), LedgerError> {
        for (tag, named) in [
            (Tag::Node, Named::Key),
            (Tag::Canonical, Named::Key),
            (Tag::Arrival, Named::Value),
            (Tag::Topic, Named::Key),
            (Tag::TopicArrival, Named::Value),
            (Tag::Creator, Named::Key),
            (Tag::CreatorArrival, Named::Value),
            (Tag::Blob, Named::Key),
            (Tag::Skeleton, Named::Key),
            (Tag::Wanted, Named::Key),
        ] {
            self.check_rows(tag, named).await?;
        }
        let sums = sums::made_anew(self.parts.table).await?;
        self.parts.table.store().commit(sums, Durability::Buffered).await?;
        self.check_cursors().await?;
        self.check_contents_rows().await
    }

    async fn check_rows(&mut self, tag: Tag, named: Named) -> Result<(), LedgerError> {
        let mut range = self.range(tag);
        let mut done = 0;
        loop {
            let page = self.page(&mut range, PAGE).await?;
            let id = |(key, value): &(Bytes, Bytes)| match named {
                Named::Key => {
                    key.get(34..).and_then(|rest| rest.last_chunk::<32>()).map(|id| BlockId::from_digest(*id))
                }
                Named::Value => value.as_ref().try_into().map(BlockId::from_digest).ok(),
            };
            let ids: Vec<Option<BlockId>> = page.iter().map(id).collect();
            let places =
                ids.iter().map(|id| self.parts.table.keys.of_block(Tag::Node, &id.unwrap_or(self.parts.chain.0)));
            let places: Vec<_> = places.collect();
            let nodes = self.parts.table.store().get_many(&places).await?;
            for ((((key, value), id), place), node) in page.iter().zip(ids).zip(&places).zip(nodes) {
                let node = node.and_then(|node| NodeRecord::decode(place, &node).ok());
                let follows = id.zip(node).is_some_and(|(id, node)| self.follows(tag, key, value, &id, &node));
                if !follows {
                    self.delete(key.to_vec());
                }
            }
            self.flush_some().await?;
            done += page.len() as u64;
            self.step("checking indices", done, 0)?;
            if page.len() < PAGE {
                return self.flush().await;
            }
        }
    }

    /// Says whether this row follows from this block.
    fn follows(&self, tag: Tag, key: &[u8], value: &[u8], id: &BlockId, node: &NodeRecord) -> bool {
        let keys = &self.parts.table.keys;
        let (generation, arrival) = (node.header.generation.to_be_bytes(), node.arrival.to_be_bytes());
        let labelled = |label: Vec<u8>, tag: Tag| match tag {
            Tag::Topic | Tag::Creator => keys.key(tag, &[&label, &generation, id.digest()]),
            _ => keys.key(tag, &[&label, &arrival]),
        };
        match tag {
            Tag::Canonical => keys.canonical(node.header.generation, id) == key,
            Tag::Arrival => keys.arrival(node.arrival) == key,
            Tag::Topic | Tag::TopicArrival => {
                node.header.topics.iter().any(|topic| labelled(topic_label(topic), tag) == key)
            }
            Tag::Creator | Tag::CreatorArrival => labelled(creator_label(&node.header.creator), tag) == key,
            Tag::Blob | Tag::Wanted => match &node.header.content {
                ContentRef::Blob { root, len } => {
                    let whole = read_blob(key, value).is_ok_and(|stored| stored == (*root, *len));
                    let placed = if tag == Tag::Blob { keys.blob(root, id) } else { keys.of_block(Tag::Wanted, id) };
                    whole && placed == key
                }
                ContentRef::Inline { .. } => false,
            },
            Tag::Skeleton => node.skeleton && id_of(key, 32).is_some(),
            _ => id_of(key, 32).is_some(),
        }
    }

    /// A cursor that cannot be read, or lies beyond the chain, begins anew: blocks are told again, and none is skipped.
    async fn check_cursors(&mut self) -> Result<(), LedgerError> {
        let last = self.youngest;
        let mut range = self.range(Tag::Cursor);
        loop {
            let page = self.page(&mut range, PAGE).await?;
            for (key, value) in &page {
                if !Progress::decode(key, value).is_ok_and(|progress| progress.furthest() <= last) {
                    self.put(key.to_vec(), Progress::default().encode());
                }
            }
            if page.len() < PAGE {
                return Ok(());
            }
        }
    }

    /// Marks of contents on their way in, lists of leaves, settings: what does not decode goes, and is made again.
    async fn check_contents_rows(&mut self) -> Result<(), LedgerError> {
        for tag in [Tag::Staged, Tag::Manifest, Tag::Fetch] {
            let mut range = self.range(tag);
            loop {
                let page = self.page(&mut range, PAGE / 16).await?;
                for (key, value) in &page {
                    let good = match tag {
                        Tag::Staged => value.is_empty() || read_blob(key, value).is_ok(),
                        Tag::Fetch => read_fetch_mode(key, value).is_ok(),
                        _ => BlobManifest::decode(value).is_ok_and(|found| key.ends_with(found.root().digest())),
                    };
                    if !good {
                        self.delete(key.to_vec());
                    }
                }
                if page.len() < PAGE / 16 {
                    break;
                }
            }
        }
        self.flush().await
    }
}
