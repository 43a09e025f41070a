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
