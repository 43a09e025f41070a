//! Every bound of this crate, with its unit and origin. Bounds marked *validity* are part of the block format: changing
//! one means a new format version.

/// Largest block file in bytes. *Validity.* Chosen: fits one frame and one bitswap block of other IPFS nodes (2 MiB).
pub const BLOCK_FILE_MAX: usize = 1024 * 1024;
/// Most content bytes that may stand inline. *Validity.* Chosen: half a block file, so headers always fit.
pub const INLINE_CONTENT_MAX: usize = 512 * 1024;
/// Content of this many bytes or more is written as a blob. A writer's setting, not a rule.
pub const BLOB_FROM: usize = 64 * 1024;
/// Most parents of a block. *Validity.*
pub const PARENTS_MAX: usize = 64;
/// Most topics of a block. *Validity.*
pub const TOPICS_MAX: usize = 16;
/// Longest topic in bytes of UTF-8. *Validity.*
pub const TOPIC_BYTES_MAX: usize = 128;
/// Nodes the antichain check may visit before a block is rejected. *Validity.*
/// Chosen: far above any merge of honest peers, a few milliseconds of work.
pub const ANTICHAIN_VISITS_MAX: usize = 65_536;
/// Default for the largest content in bytes.
pub const CONTENT_MAX: u64 = 64 * 1024 * 1024 * 1024;
/// Bytes of a blob's leaf. *Validity* of blob ids: the UnixFS chunk size.
pub const BLOB_LEAF: usize = 1024 * 1024;
/// Links of an inner UnixFS node. From kubo's default layout (`DefaultLinksPerBlock`).
pub const BLOB_LINKS: usize = 174;

/// Pending blocks of one chain, all peers together. Chosen: some seconds of a fast peer.
pub const PENDING_BLOCKS_MAX: usize = 8_192;
/// Bytes of the pending blocks of one chain. Chosen: bounds memory on small machines.
pub const PENDING_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Pending blocks that came from one peer.
pub const PENDING_BLOCKS_PER_PEER_MAX: usize = 4_096;
/// Bytes of the pending blocks that came from one peer, bookkeeping included. Chosen: half of all.
pub const PENDING_BYTES_PER_PEER_MAX: usize = 16 * 1024 * 1024;

/// Largest file that travels whole in an announcement, in bytes; larger ones are named by id.
/// Chosen: below gossipsub's default message limit of 64 KiB.
pub const ANNOUNCE_INLINE_MAX: usize = 48 * 1024;
/// Largest frame on a catch-up stream, in bytes: one block file and its envelope.
pub const FRAME_MAX: usize = BLOCK_FILE_MAX + 64 * 1024;
/// Largest name of a chain in bytes of UTF-8. *Validity* of genesis content.
pub const CHAIN_NAME_MAX: usize = 256;
/// Largest overlay part of a genesis block in bytes. *Validity.*
pub const GENESIS_OVERLAY_MAX: usize = 256 * 1024;

/// Largest chunk of a stored object and largest single read of one, in bytes. Chosen: bounds the memory of one call.
pub const BLOB_CHUNK_MAX: u32 = 4 * 1024 * 1024;
/// Most chunks of a stored object. Chosen: [`CONTENT_MAX`] in chunks of 64 KiB; bounds the flags kept per object to 1 MiB.
pub const BLOB_CHUNKS_MAX: u32 = 1024 * 1024;

/// Heads that the header of an export names. Chosen: half a megabyte; of a chain with more the lowest.
pub const EXPORT_HEADS_MAX: usize = 8_192;
/// Largest header of an export in bytes. Chosen: [`EXPORT_HEADS_MAX`] links of 41 bytes, and room.
pub const EXPORT_HEADER_MAX: usize = 512 * 1024;

/// Blocks of a page that names no limit. Chosen: a screen or two.
pub const PAGE_BLOCKS: usize = 100;
/// Most blocks of a page. Chosen: bounds the memory of one answer to a few megabytes of headers.
pub const PAGE_BLOCKS_MAX: usize = 1_000;
/// Index entries that one page reads at most before it ends early with a cursor. Chosen: some milliseconds of reading.
pub const PAGE_ROWS_MAX: usize = 4_096;
/// Events that a live subscriber may lag behind before it is told that it missed them. Chosen: some seconds of a busy
/// chain.
pub const LIVE_LAG_MAX: u64 = 1_024;
/// Events of one durable subscriber that may be handed out, or acknowledged out of order, before an earlier one is
/// acknowledged. Chosen: its record in the store stays below 16 KiB.
pub const UNACKNOWLEDGED_MAX: usize = 1_024;
/// Longest name of a durable subscriber in bytes.
pub const SUBSCRIBER_NAME_MAX: usize = 64;
/// Durable subscribers of one ledger. Chosen: far above what applications of one machine need.
pub const SUBSCRIBERS_MAX: usize = 1_024;
