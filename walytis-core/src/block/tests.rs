use bytes::Bytes;

use super::*;
use crate::key::{Signer as _, SigningKey};
use crate::secret::Secret;

fn key() -> SigningKey {
    SigningKey::from_seed(&Secret::new([7; 32]))
}

fn draft(chain: ChainId, parents: Vec<BlockId>) -> BlockDraft {
    BlockDraft {
        chain: Some(chain),
        parents,
        generation: 1,
        created_at_ms: 1,
        topics: vec![Topic::user("a").unwrap()],
        content: DraftContent::Inline(Bytes::from_static(b"hello")),
    }
}

#[test]
fn block_round_trips_and_verifies() {
    let chain = ChainId(BlockId::from_digest([1; 32]));
    let signed = draft(chain, vec![chain.0]).sign(&key()).unwrap();
    let decoded = UnverifiedBlock::decode(signed.file().clone()).unwrap();
    assert_eq!(decoded, signed);
    let block = decoded.verify(&chain).unwrap();
    assert_eq!(block.header().creator, key().public_key());
    assert_eq!(block.inline().map(|b| &b[..]), Some(&b"hello"[..]));
}

#[test]
fn trailing_bytes_are_not_canonical() {
    let chain = ChainId(BlockId::from_digest([1; 32]));
    let mut file = draft(chain, vec![chain.0]).sign(&key()).unwrap().file().to_vec();
    file.push(0);
    assert_eq!(UnverifiedBlock::decode(file.into()).unwrap_err().rule, Rule::Canonical);
}
