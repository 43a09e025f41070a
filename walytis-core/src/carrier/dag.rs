//! The parts of a blob, depth first: as every tool writes them, and so that each is named before it comes.

use crate::id::BlobId;
use crate::limits::BLOB_LINKS;
use crate::unixfs::{BlobManifest, Child, encode_node, parent_of};

/// A part of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// An inner node and its bytes.
    Node { id: BlobId, bytes: Vec<u8> },
    /// A leaf; its bytes stand in the blob store.
    Leaf { id: BlobId, index: u32 },
}

/// Walks the parts of a blob, root first. Holds some 60 bytes per leaf.
#[derive(Debug)]
pub(super) struct DepthFirst {
    /// Leaves, then the nodes above them, up to the root.
    levels: Vec<Vec<Child>>,
    /// Level and place of what comes next, the last first.
    stack: Vec<(usize, usize)>,
}

impl DepthFirst {
    pub(super) fn new(manifest: &BlobManifest) -> Self {
        let leaves = manifest.leaves().iter().zip(0..).map(|(digest, index)| {
            let len = manifest.leaf_len(index).unwrap_or(0) as u64;
            Child { id: BlobId::Raw(digest.0), content_len: len, dag_len: len }
        });
        let mut levels: Vec<Vec<Child>> = vec![leaves.collect()];
        while let Some(level) = levels.last().filter(|level| level.len() > 1) {
            let above = level.chunks(BLOB_LINKS).map(parent_of).collect();
            levels.push(above);
        }
        let stack = vec![(levels.len() - 1, 0)];
        Self { levels, stack }
    }
}

impl Iterator for DepthFirst {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        let (level, place) = self.stack.pop()?;
        let id = self.levels.get(level)?.get(place)?.id;
        let Some(below) = level.checked_sub(1) else {
            return Some(Part::Leaf { id, index: u32::try_from(place).ok()? });
        };
        let children = self.levels.get(below)?;
        let (first, end) = (place * BLOB_LINKS, ((place + 1) * BLOB_LINKS).min(children.len()));
        self.stack.extend((first..end).rev().map(|child| (below, child)));
        Some(Part::Node { id, bytes: encode_node(children.get(first..end)?) })
    }
}

/// Returns the children that an inner node names, in order; nothing if it is none. The caller checks what they make up.
pub(super) fn links(node: &[u8]) -> Option<Vec<BlobId>> {
    /// `PBNode.Links`, a message.
    const LINK: u8 = 0x12;
    /// `PBLink.Hash` of 36 bytes: every CID with a SHA-256 digest.
    const HASH: [u8; 2] = [0x0a, 36];
    let mut rest = node;
    let mut found = Vec::new();
    while let Some((&LINK, after)) = rest.split_first() {
        // A link has under 128 bytes.
        let (&len, after) = after.split_first()?;
        let (link, after) = after.split_at_checked(usize::from(len))?;
        (len < 0x80 && found.len() < BLOB_LINKS).then_some(())?;
        let cid = link.strip_prefix(&HASH)?.get(..36)?;
        let digest: [u8; 32] = cid.get(4..)?.try_into().ok()?;
        found.push(match cid.get(..4)? {
            [0x01, 0x55, 0x12, 0x20] => BlobId::Raw(digest),
            [0x01, 0x70, 0x12, 0x20] => BlobId::DagPb(digest),
            _ => return None,
        });
        rest = after;
    }
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Digest;
    use crate::limits::BLOB_LEAF;

    fn manifest(leaves: usize) -> BlobManifest {
        let digests = (0..leaves).map(|n| Digest::of(&n.to_be_bytes())).collect();
        BlobManifest::new((leaves * BLOB_LEAF) as u64, digests).unwrap()
    }

    #[test]
    fn the_walk_begins_with_the_root_and_names_every_part_before_it_comes() {
        for leaves in [1, 2, BLOB_LINKS, BLOB_LINKS + 1, BLOB_LINKS * BLOB_LINKS + 1] {
            let manifest = manifest(leaves);
            let mut expected = vec![manifest.root()];
            let mut next = 0;
            for part in DepthFirst::new(&manifest) {
                let named = expected.pop().unwrap();
                match part {
                    Part::Node { id, bytes } => {
                        assert_eq!((id, Digest::of(&bytes).0), (named, *id.digest()));
                        expected.extend(links(&bytes).unwrap().into_iter().rev());
                    }
                    Part::Leaf { id, index } => {
                        assert_eq!((id, index), (named, next));
                        next += 1;
                    }
                }
            }
            assert!(expected.is_empty());
            assert_eq!(next as usize, leaves);
        }
    }

    #[test]
    fn cut_and_foreign_nodes_have_no_links() {
        let Some(Part::Node { bytes, .. }) = DepthFirst::new(&manifest(3)).next() else { panic!() };
        assert_eq!(links(&bytes).unwrap().len(), 3);
        for end in 0..bytes.len() {
            assert!(links(&bytes[..end]).is_none_or(|found| found.len() <= 3));
        }
        assert_eq!(links(b""), None);
        assert_eq!(links(&[0x12, 0x02, 0x0a, 36]), None);
    }
}
