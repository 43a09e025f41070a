//! A whole node in one sealed file, and back: `walytis backup` and `walytis restore`.
//!
//! ```text
//! running node ──store as of one moment, complete contents, key files──► frames ──sealed──► FILE (read back before it counts)
//! FILE ──every frame opened, the end seen──► folder beside the data folder ──renamed──► data folder
//! ```
//!
//! `docs/formats/backup.md` has the bytes. What is not in it: parts of contents that have not arrived whole (others still
//! have them) and what is written after the backup began.

mod entry_v1;
mod read;
mod restore;
mod write;

pub(crate) use read::{Reading, check};
pub(crate) use restore::restore;
pub(crate) use write::{Source, Writing, begin};

/// What a backup holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Entries of the store.
    pub(crate) entries: u64,
    /// Large contents.
    pub(crate) contents: u64,
}
