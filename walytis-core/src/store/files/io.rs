//! Reading and writing at a place of a file, without moving a shared position; what the errors mean.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

use bytes::Bytes;

use crate::store::BlobStoreError;
use crate::store::chunks::read_window;

/// Why a file could not be read.
pub(super) enum ReadError {
    Io(io::Error),
    Blob(BlobStoreError),
}

impl ReadError {
    pub(super) fn at(self, path: &Path) -> BlobStoreError {
        match self {
            Self::Io(error) => io_error(path, &error),
            Self::Blob(error) => error,
        }
    }
}

/// Says what an error means, with the path.
pub(super) fn io_error(path: &Path, error: &io::Error) -> BlobStoreError {
    let reason = format!("{}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => BlobStoreError::Full { reason },
        _ => BlobStoreError::Io { reason },
    }
}

/// Reads a window of an object's file.
pub(super) fn read_file(file: &File, offset: u64, len: usize, object_len: u64) -> Result<Bytes, ReadError> {
    let window = read_window(object_len, offset, len).map_err(ReadError::Blob)?;
    // At most 4 MiB, by the window.
    let mut bytes = vec![0; usize::try_from(window.end - window.start).unwrap_or(0)];
    read_exact_at(file, &mut bytes, window.start).map_err(ReadError::Io)?;
    Ok(bytes.into())
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(unix)]
pub(super) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, bytes, offset)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes = bytes.get_mut(read..).unwrap_or_default();
        offset += u64::try_from(read).unwrap_or(0);
    }
    Ok(())
}

#[cfg(windows)]
pub(super) fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(written..).unwrap_or_default();
        offset += u64::try_from(written).unwrap_or(0);
    }
    Ok(())
}

/// Removes a file that need not be there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)
}

pub(super) fn open_existing(path: &Path) -> io::Result<Option<File>> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the bytes that a file takes on disk, at most its length: less while it has holes.
#[cfg(unix)]
pub(super) fn taken(metadata: &fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    metadata.blocks().saturating_mul(512).min(metadata.len())
}

#[cfg(not(unix))]
pub(super) fn taken(metadata: &fs::Metadata) -> u64 {
    metadata.len()
}

/// Returns the bytes that the file system of a folder has room for.
#[cfg(target_os = "linux")]
pub(super) fn room(folder: &Path) -> io::Result<Option<u64>> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(Some(disk.f_bavail.saturating_mul(disk.f_frsize)))
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "where it can be told, that can fail")]
pub(super) fn room(_folder: &Path) -> io::Result<Option<u64>> {
    Ok(None)
}

/// Reserves the space of a file of `len` bytes, as far as it is not taken yet.
#[cfg(target_os = "linux")]
pub(super) fn reserve(file: &File, len: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
    // Asked first, because some file systems fill up before they find that there is too little.
    let disk = fstatvfs(file)?;
    let missing = len.saturating_sub(taken(&file.metadata()?));
    if disk.f_bavail.saturating_mul(disk.f_frsize) < missing {
        return Err(io::ErrorKind::StorageFull.into());
    }
    match fallocate(file, FallocateFlags::empty(), 0, len) {
        // Not every file system can reserve.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => file.set_len(len),
        other => Ok(other?),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn reserve(file: &File, len: u64) -> io::Result<()> {
    file.set_len(len)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_disk_has_is_refused_and_takes_nothing() {
        use std::os::unix::fs::MetadataExt as _;
        let file = tempfile::tempfile().unwrap();
        let error = reserve(&file, u64::MAX / 4).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(matches!(io_error(Path::new("x"), &error), BlobStoreError::Full { .. }));
        assert_eq!(file.metadata().unwrap().blocks(), 0);
        reserve(&file, 100_000).unwrap();
        assert!(file.metadata().unwrap().blocks() * 512 >= 100_000);
    }
}
