//! One object that is not complete yet: its preallocated data file and its chunk map.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::map_v1;
use crate::store::chunks::{Chunks, read_window};
use crate::store::folder::{create_folder, sync_folder};
use crate::store::{BlobKey, BlobStatus, BlobStoreError};

/// Where the files of one object are.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) folder: PathBuf,
    /// The complete object.
    pub(super) whole: PathBuf,
    /// Its data while it is partial.
    pub(super) part: PathBuf,
    /// Its chunk map while it is partial.
    pub(super) map: PathBuf,
}

/// An object with a chunk map. Used under a lock, on blocking threads only.
#[derive(Debug)]
pub(super) struct Partial {
    key: BlobKey,
    places: Places,
    chunks: Chunks,
    have: Vec<bool>,
    part: File,
    map: File,
    map_end: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Partial,
    Complete,
    Deleted,
}

impl Partial {
    /// Loads a partial object; nothing if there is none or its map cannot be trusted.
    pub(super) fn load(key: BlobKey, places: &Places) -> io::Result<Option<Self>> {
        let Some(map) = open_existing(&places.map)? else { return Ok(None) };
        let Some(part) = open_existing(&places.part)? else { return Ok(None) };
        let mut bytes = Vec::new();
        (&map).take(map_v1::MAP_MAX).read_to_end(&mut bytes)?;
        let Some(decoded) = map_v1::decode(&key, &bytes) else { return Ok(None) };
        if part.metadata()?.len() != decoded.chunks.len() {
            return Ok(None);
        }
        let (chunks, have, map_end) = (decoded.chunks, decoded.have, decoded.end);
        Ok(Some(Self { key, places: places.clone(), chunks, have, part, map, map_end, state: State::Partial }))
    }

    /// Begins an object anew, over whatever a crash left behind, and reserves its space.
    pub(super) fn create(key: BlobKey, places: &Places, chunks: Chunks) -> io::Result<Self> {
        create_folder(&places.folder)?;
        // An old map must be gone for good before there is a new data file that it would describe falsely.
        remove(&places.map)?;
        sync_folder(&places.folder)?;
        let part = new_file(&places.part)?;
        if let Err(error) = reserve(&part, chunks.len()).and_then(|()| part.sync_all()) {
            // A full disk: what could be reserved is given back. The first error is the one to tell.
            let _unneeded = remove(&places.part);
            return Err(error);
        }
        let mut map = new_file(&places.map)?;
        let header = map_v1::header(&key, &chunks);
        map.write_all(&header)?;
        map.sync_all()?;
        sync_folder(&places.folder)?;
        let have = (0..chunks.count()).map(|_| false).collect();
        let map_end = u64::try_from(header.len()).unwrap_or(u64::MAX);
        Ok(Self { key, places: places.clone(), chunks, have, part, map, map_end, state: State::Partial })
    }

    pub(super) fn status(&self) -> BlobStatus {
        let len = self.chunks.len();
        match self.state {
            State::Partial => BlobStatus::Partial { len, chunk: self.chunks.chunk(), have: self.have.clone() },
            State::Complete => BlobStatus::Complete { len },
            State::Deleted => BlobStatus::Absent,
        }
    }

    /// Stores a chunk. Its data is flushed before the map names it, and the map before this returns; the last chunk is
    /// followed by the renaming instead.
    pub(super) fn write(&mut self, index: u32, bytes: &[u8]) -> Result<BlobStatus, BlobStoreError> {
        match self.state {
            State::Deleted => return Err(BlobStoreError::Missing),
            State::Complete => return Ok(self.status()),
            State::Partial => {}
        }
        let start = self.chunks.place(index, bytes.len())?;
        if !self.has(index) {
            self.store(index, start, bytes).map_err(|error| super::io_error(&self.places.part, &error))?;
        }
        Ok(self.status())
    }

    fn has(&self, index: u32) -> bool {
        usize::try_from(index).ok().and_then(|index| self.have.get(index)).copied().unwrap_or(false)
    }

    fn store(&mut self, index: u32, start: u64, bytes: &[u8]) -> io::Result<()> {
        self.part.seek(SeekFrom::Start(start))?;
        self.part.write_all(bytes)?;
        self.part.sync_data()?;
        if self.have.iter().filter(|have| !**have).count() == 1 {
            return self.complete();
        }
        // Where it stands in the file is known, so that a write that failed half-way is written over.
        self.map.seek(SeekFrom::Start(self.map_end))?;
        let record = map_v1::record(&self.key, index);
        self.map.write_all(&record)?;
        self.map.sync_data()?;
        self.map_end += u64::try_from(record.len()).unwrap_or(0);
        if let Some(flag) = usize::try_from(index).ok().and_then(|index| self.have.get_mut(index)) {
            *flag = true;
        }
        Ok(())
    }

    fn complete(&mut self) -> io::Result<()> {
        fs::rename(&self.places.part, &self.places.whole)?;
        self.state = State::Complete;
        sync_folder(&self.places.folder)?;
        // A map that stays behind is harmless: the whole object is looked for first.
        remove(&self.places.map)
    }

    pub(super) fn read(&self, offset: u64, len: usize) -> Result<Bytes, BlobStoreError> {
        match self.state {
            State::Deleted => return Err(BlobStoreError::Missing),
            State::Complete => {}
            State::Partial => {
                let window = read_window(self.chunks.len(), offset, len)?;
                if !self.chunks.covering(window.start, window.end).all(|index| self.has(index)) {
                    return Err(BlobStoreError::Missing);
                }
            }
        }
        read_file(&self.part, offset, len, self.chunks.len()).map_err(|error| error.at(&self.places.part))
    }

    /// Ends the object; later calls find it missing.
    pub(super) fn delete(&mut self) {
        self.state = State::Deleted;
    }
}

/// Why a file could not be read.
pub(super) enum ReadError {
    Io(io::Error),
    Blob(BlobStoreError),
}

impl ReadError {
    pub(super) fn at(self, path: &Path) -> BlobStoreError {
        match self {
            Self::Io(error) => super::io_error(path, &error),
            Self::Blob(error) => error,
        }
    }
}

/// Reads a window of an object's file.
pub(super) fn read_file(mut file: &File, offset: u64, len: usize, object_len: u64) -> Result<Bytes, ReadError> {
    let window = read_window(object_len, offset, len).map_err(ReadError::Blob)?;
    file.seek(SeekFrom::Start(window.start)).map_err(ReadError::Io)?;
    // At most 4 MiB, by the window.
    let mut bytes = vec![0; usize::try_from(window.end - window.start).unwrap_or(0)];
    file.read_exact(&mut bytes).map_err(ReadError::Io)?;
    Ok(bytes.into())
}

/// Removes a file that need not be there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)
}

fn open_existing(path: &Path) -> io::Result<Option<File>> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(target_os = "linux")]
fn reserve(file: &File, len: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
    // Asked first, because some file systems fill up before they find that there is too little.
    let disk = fstatvfs(file)?;
    if disk.f_bavail.saturating_mul(disk.f_frsize) < len {
        return Err(io::ErrorKind::StorageFull.into());
    }
    match fallocate(file, FallocateFlags::empty(), 0, len) {
        // Not every file system can reserve.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => file.set_len(len),
        other => Ok(other?),
    }
}

#[cfg(not(target_os = "linux"))]
fn reserve(file: &File, len: u64) -> io::Result<()> {
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
        assert_eq!(file.metadata().unwrap().blocks(), 0);
        reserve(&file, 100_000).unwrap();
        assert!(file.metadata().unwrap().blocks() * 512 >= 100_000);
    }
}
