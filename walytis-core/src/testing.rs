//! What unit tests share.

use bytes::Bytes;

use crate::block::{Block, BlockDraft, DraftContent, GenesisV1, Visibility};
use crate::key::SigningKey;

/// Returns bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns one line of hexadecimal digits for each item, as golden files hold them.
pub(crate) fn hex_lines<T: AsRef<[u8]>>(items: &[T]) -> String {
    items.iter().map(|item| hex(item.as_ref()) + "\n").collect()
}

/// Returns a genesis block signed by `key`.
pub(crate) fn genesis(key: &SigningKey, nonce: u8, visibility: Visibility) -> Block {
    let content = GenesisV1 { nonce: [nonce; 32], visibility, name: None, overlay: Bytes::new() };
    let draft = BlockDraft {
        chain: None,
        parents: vec![],
        generation: 0,
        created_at_ms: 0,
        topics: vec![],
        content: DraftContent::Inline(content.encode().into()),
    };
    draft.sign_checked(key).unwrap().unwrap()
}
