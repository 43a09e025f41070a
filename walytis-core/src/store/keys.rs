//! The typed prefixes under which all layers share one [`KvStore`](super::KvStore).
//!
//! The first byte of every key is a [`Space`]; what follows belongs to the layer that owns the space. Integers in keys
//! are big-endian, so that byte order is numeric order.

/// The first byte of a key; says which layer owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[non_exhaustive]
pub enum Space {
    /// The schema version of the whole store.
    Schema = 0x00,
    /// Per-chain data of core: blocks, indices, heads, cursors.
    Chain = 0x01,
    /// Per-node data of core: chain list, names, invitations.
    Node = 0x02,
    /// Known addresses of peers.
    Peers = 0x03,
    /// Identities: ops, cards, local settings.
    Identity = 0x10,
    /// The key vault's sealed records.
    Vault = 0x11,
    /// Private content: exchange state, local index.
    Offchain = 0x20,
    /// Versions of mutable blocks: index by original, events.
    Mutable = 0x21,
    /// The program's own settings.
    Program = 0x30,
}

impl Space {
    /// Returns a key of this space: its byte and `parts`, one after the other. Parts of variable length must be last
    /// or carry their own length.
    pub fn key(self, parts: &[&[u8]]) -> Vec<u8> {
        let mut key = Vec::with_capacity(1 + parts.iter().map(|part| part.len()).sum::<usize>());
        key.push(self as u8);
        parts.iter().for_each(|part| key.extend_from_slice(part));
        key
    }
}
