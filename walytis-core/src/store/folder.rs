//! Folders that survive a power cut.

use std::fs;
use std::io;
use std::path::Path;

/// Creates a folder with all its parents, each flushed into the one above it. Blocks.
pub(super) fn create_folder(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|folder| named(folder) && !folder.is_dir()).collect();
    fs::create_dir_all(path)?;
    let parents = missing.into_iter().filter_map(Path::parent);
    parents.map(|parent| if named(parent) { parent } else { Path::new(".") }).try_for_each(sync_folder)
}

/// A relative path has an empty last ancestor.
fn named(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

/// Flushes the names in a folder: what was created, renamed or removed in it stays so. Blocks.
#[cfg(unix)]
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

/// Elsewhere the file system keeps names in its journal and folders cannot be flushed.
#[cfg(not(unix))]
pub(super) fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// Returns the bytes that the disk of a folder has free, where the system tells.
#[cfg(all(feature = "rocksdb", target_os = "linux"))]
pub(super) fn free_bytes(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(all(feature = "rocksdb", not(target_os = "linux")))]
pub(super) fn free_bytes(_path: &Path) -> Option<u64> {
    None
}
