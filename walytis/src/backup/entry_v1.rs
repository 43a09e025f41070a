//! What stands in the frames of a backup, version 1: postcard entries, one after the other, never across frames.

use serde::{Deserialize, Serialize};
use walytis_core::id::{BlockId, ChainId};
use walytis_core::store::{BlobKey, BlobSpace};

/// One entry. The order is: files, the store by key, contents, the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Entry<'a> {
    /// A small file of the data folder: `node.key` or `vault.key`.
    File {
        name: &'a str,
        #[serde(borrow)]
        bytes: &'a [u8],
    },
    /// An entry of the store.
    Stored {
        #[serde(borrow)]
        key: &'a [u8],
        #[serde(borrow)]
        value: &'a [u8],
    },
    /// A content begins.
    Content(ContentName),
    /// More of it.
    Bytes(#[serde(borrow)] &'a [u8]),
    /// It ends; if it was removed while it was read it is to be left out.
    ContentEnd { whole: bool },
    /// Nothing follows.
    End { entries: u64, contents: u64 },
}

/// Names a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ContentName {
    /// 0: blob of a chain, 1: envelope.
    space: u8,
    chain: [u8; 32],
    digest: [u8; 32],
}

impl ContentName {
    pub(super) const fn of(key: &BlobKey) -> Self {
        let space = match key.space {
            BlobSpace::Blob => 0,
            BlobSpace::Envelope => 1,
        };
        Self { space, chain: *key.chain.digest(), digest: key.digest }
    }

    pub(super) const fn key(&self) -> Option<BlobKey> {
        let space = match self.space {
            0 => BlobSpace::Blob,
            1 => BlobSpace::Envelope,
            _ => return None,
        };
        Some(BlobKey { space, chain: ChainId(BlockId::from_digest(self.chain)), digest: self.digest })
    }
}

/// Appends an entry to a frame.
pub(super) fn encode(entry: &Entry<'_>, frame: Vec<u8>) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "postcard fails only on types without a stated length, and these have none")]
    postcard::to_extend(entry, frame).expect("these types always encode")
}

/// Takes the next entry of a frame.
pub(super) fn decode(frame: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    postcard::take_from_bytes(frame).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Short enough to stand here.
    #[test]
    fn the_entries_of_version_1_stand_still() {
        let chain = ChainId(BlockId::from_digest([0xcc; 32]));
        let name = ContentName::of(&BlobKey { space: BlobSpace::Envelope, chain, digest: [0xdd; 32] });
        let entries = [
            Entry::File { name: "node.key", bytes: b"k" },
            Entry::Stored { key: b"a", value: b"bc" },
            Entry::Content(name),
            Entry::Bytes(b"xy"),
            Entry::ContentEnd { whole: true },
            Entry::End { entries: 300, contents: 1 },
        ];
        let frame = entries.iter().fold(Vec::new(), |frame, entry| encode(entry, frame));
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        let (cc, dd) = ("cc".repeat(32), "dd".repeat(32));
        assert_eq!(
            hex,
            format!("00086e6f64652e6b6579016b01016102626302 01{cc}{dd}0302787904 0105ac0201").replace(' ', "")
        );
        let mut rest = &frame[..];
        for entry in entries {
            let (decoded, after) = decode(rest).unwrap();
            assert_eq!(decoded, entry);
            rest = after;
        }
        assert!(rest.is_empty() && decode(rest).is_none() && decode(&[9]).is_none());
        assert_eq!(name.key().unwrap().chain, chain);
        assert!(ContentName { space: 2, ..name }.key().is_none());
    }
}
