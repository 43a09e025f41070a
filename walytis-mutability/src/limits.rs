//! Every bound of this crate, with its unit and origin. Bounds marked *validity* are part of the op format: changing one
//! means a new format version.

use walytis_core::limits::TOPICS_MAX;

/// Most versions that one op supersedes. *Validity.* Chosen: as many as a block has parents.
pub const SUPERSEDES_MAX: usize = 64;
/// Largest encoded op without its content, in bytes. *Validity.* Chosen: 64 ids of 32 bytes and the rest.
pub const OP_BYTES_MAX: usize = 4 * 1024;
/// Content of an edit up to so many bytes stands behind the op, in the same block; longer content gets a block of its
/// own. A writer's setting, not a rule. Chosen: with the op it stays below what travels whole in an announcement.
pub const INLINE_MAX: usize = 32 * 1024;
/// Largest block with the topic of an op, in bytes of content, that is read at all. *Validity.* Chosen: an op and its
/// content stay below what core keeps outside the block.
pub const OP_BLOCK_MAX: u64 = 64 * 1024;
/// Most topics of an edit: one place is the overlay's.
pub const EDIT_TOPICS_MAX: usize = TOPICS_MAX - 1;
/// Largest block that says who may change blocks, in bytes of content. *Validity.* Chosen: its one encoding has two.
pub const POLICY_BYTES_MAX: u64 = 8;
/// Events of the ledger below that are taken in with one commit. Chosen: some tens of kilobytes of rows.
pub(crate) const BATCH_MAX: usize = 512;
/// Versions kept in memory between commits, of all blocks together. Chosen: about 20 MB.
pub(crate) const CACHED_VERSIONS_MAX: usize = 64 * 1024;
/// Blocks of which only the header is known that are shown at once. Chosen: a look at each costs some microseconds.
pub(crate) const EARLY_MAX: usize = 1_024;
/// Blocks that a stream reads at once.
pub(crate) const STREAM_PAGE: usize = 128;
/// Rows read at once.
pub(crate) const PAGE: usize = 256;
/// Ops whose content could not be read that are tried again at once. Chosen: bounds what a peer that withholds them
/// costs.
pub(crate) const UNREAD_PAGE: usize = 64;
