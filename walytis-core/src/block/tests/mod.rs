mod format;
mod golden;
mod rules;
mod signature_edges;
mod signatures;

use bytes::Bytes;

use super::*;
use crate::key::{Signer as _, SigningKey};
use crate::secret::Secret;

fn key() -> SigningKey {
    SigningKey::from_seed(&Secret::new([7; 32]))
}

fn chain() -> ChainId {
    ChainId(BlockId::from_digest([1; 32]))
}

/// A header that breaks nothing, for content `hello`.
fn header() -> Header {
    Header {
        chain: Some(chain()),
        parents: vec![chain().0],
        generation: 1,
        creator: key().public_key(),
        created_at_ms: 1_700_000_000_000,
        topics: vec![Topic::user("a").unwrap()],
        content: ContentRef::Inline { len: 5, digest: Digest::of(b"hello") },
    }
}

fn genesis_content(visibility: Visibility) -> GenesisV1 {
    GenesisV1 { nonce: [9; 32], visibility, name: Some("notes".into()), overlay: Bytes::new() }
}

/// Signs any header, however broken.
fn signed(header: Header, inline: Option<&[u8]>) -> UnverifiedBlock {
    let bytes = codec_v1::encode_header(&header);
    let signature = key().sign(&signature::message(&bytes)).unwrap();
    assemble(header, signature, inline)
}

fn assemble(header: Header, signature: Signature, inline: Option<&[u8]>) -> UnverifiedBlock {
    let bytes = codec_v1::encode_header(&header);
    let file = Bytes::from(codec_v1::encode(&bytes, &signature, inline));
    let inline = inline.map(Bytes::copy_from_slice);
    UnverifiedBlock { id: BlockId::of_file(&file), file, header, header_bytes: bytes.into(), signature, inline }
}

fn genesis_block(content: &[u8]) -> UnverifiedBlock {
    let content_ref = ContentRef::Inline { len: content.len() as u64, digest: Digest::of(content) };
    let header = Header { chain: None, parents: vec![], generation: 0, content: content_ref, ..header() };
    signed(header, Some(content))
}

/// What becomes of a file that arrives on [`chain`].
fn receive(file: Bytes) -> Result<Block, Rule> {
    let chain = chain();
    UnverifiedBlock::decode(file).and_then(|block| block.verify(&chain)).map_err(|violation| violation.rule)
}
