//! The two encodings of an inner node: dag-pb around UnixFS, both protobuf.
//!
//! Written by hand: it is forty lines, write-only, and its bytes must equal kubo's (links before data although their
//! field number is larger; empty names present; block sizes unpacked), which a protobuf generator does not promise.
//! Sources: <https://ipld.io/specs/codecs/dag-pb/spec/> "Serial format", <https://specs.ipfs.tech/unixfs/>.

use sha2::{Digest as _, Sha256};

use crate::id::BlobId;
use crate::limits::BLOB_LINKS;

/// A subtree, as its parent sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Child {
    /// Its CID.
    pub(crate) id: BlobId,
    /// Bytes of content below it.
    pub(crate) content_len: u64,
    /// Bytes of all its nodes, leaves included (`Tsize`).
    pub(crate) dag_len: u64,
}

/// Returns the root of the balanced tree over these leaves, in order; nothing when there is none.
pub(super) fn root(leaves: Vec<Child>) -> Option<Child> {
    let mut level = leaves;
    while level.len() > 1 {
        // Kubo fills from the left and keeps all leaves at one depth: even a single rest gets its own node.
        level = level.chunks(BLOB_LINKS).map(parent_of).collect();
    }
    level.pop()
}

/// Returns the inner node over these children, at most [`BLOB_LINKS`].
pub(crate) fn parent_of(children: &[Child]) -> Child {
    let node = encode_node(children);
    let sum = |part: fn(&Child) -> u64| children.iter().map(part).sum::<u64>();
    Child {
        id: BlobId::DagPb(Sha256::digest(&node).into()),
        content_len: sum(|child| child.content_len),
        dag_len: sum(|child| child.dag_len) + node.len() as u64,
    }
}

/// Encodes a dag-pb node whose data is a UnixFS file without own bytes.
pub(crate) fn encode_node(children: &[Child]) -> Vec<u8> {
    let mut node = Vec::new();
    for child in children {
        // PBNode.Links = 2 { Hash = 1, Name = 2, Tsize = 3 }
        let mut link = Vec::new();
        put_bytes(&mut link, 1, &child.id.to_cid().to_bytes());
        put_bytes(&mut link, 2, b"");
        put_varint(&mut link, 3, child.dag_len);
        put_bytes(&mut node, 2, &link);
    }
    // PBNode.Data = 1
    put_bytes(&mut node, 1, &encode_file(children));
    node
}

/// UnixFS `Data { Type = 1: File (2), filesize = 3, blocksizes = 4 }`.
fn encode_file(children: &[Child]) -> Vec<u8> {
    let mut data = Vec::new();
    put_varint(&mut data, 1, 2);
    put_varint(&mut data, 3, children.iter().map(|child| child.content_len).sum());
    children.iter().for_each(|child| put_varint(&mut data, 4, child.content_len));
    data
}

fn put_varint(out: &mut Vec<u8>, field: u8, value: u64) {
    out.push(field << 3);
    put_leb128(out, value);
}

fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push((field << 3) | 2);
    put_leb128(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_leb128(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            out.push(low & 0x7f);
            return;
        }
        out.push(low | 0x80);
    }
}
