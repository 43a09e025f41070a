//! One object that is not complete yet: its data file and its chunk map.
//!
//! Chunks are written side by side; whoever finds the flush free flushes for all that wait behind it, so that several
//! chunks share one.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::io::{io_error, new_file, open_existing, read_file, remove, reserve, write_all_at};
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

/// An object with a chunk map. Used on blocking threads only. Locks are taken in the order `flush`, `state`.
#[derive(Debug)]
pub(super) struct Partial {
    key: BlobKey,
    places: Places,
    chunks: Chunks,
    part: File,
    map: File,
    /// Held by who flushes.
    flush: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Chunks that are flushed and noted.
    have: Vec<bool>,
    /// Chunks that are written and wait for a flush.
    written: Vec<u32>,
    map_end: u64,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Partial,
    Complete,
    Deleted,
}

impl State {
    fn has(&self, index: u32) -> bool {
        usize::try_from(index).ok().and_then(|index| self.have.get(index)).copied().unwrap_or(false)
    }
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
        Ok(Some(Self::new(key, places, decoded.chunks, (part, map), (decoded.have, decoded.end))))
    }

    /// Begins an object anew, over whatever a crash left behind, and reserves its space unless it is to be sparse. Of one
    /// that cannot begin, nothing is left.
    pub(super) fn create(key: BlobKey, places: &Places, chunks: Chunks, sparse: bool) -> io::Result<Self> {
        create_folder(&places.folder)?;
        // An old map must be gone for good before there is a new data file that it would describe falsely.
        remove(&places.map)?;
        sync_folder(&places.folder)?;
        let created = Self::create_files(key, places, chunks, sparse);
        if created.is_err() {
            // A full disk: what could be reserved is given back. The first error is the one to tell.
            let _unneeded = remove(&places.map).and_then(|()| remove(&places.part));
        }
        created
    }

    fn create_files(key: BlobKey, places: &Places, chunks: Chunks, sparse: bool) -> io::Result<Self> {
        let part = new_file(&places.part)?;
        if sparse { part.set_len(chunks.len()) } else { reserve(&part, chunks.len()) }?;
        part.sync_all()?;
        let map = new_file(&places.map)?;
        let header = map_v1::header(&key, &chunks);
        write_all_at(&map, &header, 0)?;
        map.sync_all()?;
        sync_folder(&places.folder)?;
        let have = (0..chunks.count()).map(|_| false).collect();
        let map_end = u64::try_from(header.len()).unwrap_or(u64::MAX);
        Ok(Self::new(key, places, chunks, (part, map), (have, map_end)))
    }

    fn new(key: BlobKey, places: &Places, chunks: Chunks, files: (File, File), map: (Vec<bool>, u64)) -> Self {
        let (part, map_file) = files;
        let (have, map_end) = map;
        let state = State { have, written: Vec::new(), map_end, phase: Phase::Partial };
        let state = Mutex::new(state);
        Self { key, places: places.clone(), chunks, part, map: map_file, flush: Mutex::new(()), state }
    }

    /// Reserves what an object that began sparse has not taken yet.
    pub(super) fn reserve(&self) -> io::Result<()> {
        reserve(&self.part, self.chunks.len())
    }

    pub(super) fn status(&self) -> BlobStatus {
        self.status_of(&self.state())
    }

    fn status_of(&self, state: &State) -> BlobStatus {
        let len = self.chunks.len();
        match state.phase {
            Phase::Partial => BlobStatus::Partial { len, chunk: self.chunks.chunk(), have: state.have.clone() },
            Phase::Complete => BlobStatus::Complete { len },
            Phase::Deleted => BlobStatus::Absent,
        }
    }

    /// Stores a chunk. Its data is flushed before the map names it, and the map before this returns; the last chunk is
    /// followed by the renaming instead.
    pub(super) fn write(&self, index: u32, bytes: &[u8]) -> Result<BlobStatus, BlobStoreError> {
        {
            let state = self.state();
            match state.phase {
                Phase::Deleted => return Err(BlobStoreError::Missing),
                Phase::Complete => return Ok(self.status_of(&state)),
                Phase::Partial => {}
            }
            self.chunks.place(index, bytes.len())?;
            if state.has(index) {
                return Ok(self.status_of(&state));
            }
        }
        let start = self.chunks.place(index, bytes.len())?;
        let failed = |error: io::Error| io_error(&self.places.part, &error);
        write_all_at(&self.part, bytes, start).map_err(failed)?;
        self.state().written.push(index);
        let turn = self.flush.lock().unwrap_or_else(PoisonError::into_inner);
        let written = {
            let mut state = self.state();
            if state.phase == Phase::Deleted {
                return Err(BlobStoreError::Missing);
            }
            if state.phase == Phase::Complete || state.has(index) {
                // Whoever flushed before flushed this chunk, too.
                return Ok(self.status_of(&state));
            }
            // A flush that failed has left it out.
            let mut written = std::mem::take(&mut state.written);
            written.push(index);
            written.sort_unstable();
            written.dedup();
            written.retain(|index| !state.has(*index));
            written
        };
        self.flush(&written).map_err(failed)?;
        drop(turn);
        Ok(self.status())
    }

    /// Flushes chunks and notes them; called with the turn.
    fn flush(&self, written: &[u32]) -> io::Result<()> {
        self.part.sync_data()?;
        let (missing, map_end) = {
            let state = self.state();
            (state.have.iter().filter(|have| !**have).count(), state.map_end)
        };
        if missing == written.len() {
            return self.complete();
        }
        // Where it stands in the file is known, so that a write that failed half-way is written over.
        let records: Vec<u8> = written.iter().flat_map(|index| map_v1::record(&self.key, *index)).collect();
        write_all_at(&self.map, &records, map_end)?;
        self.map.sync_data()?;
        let mut state = self.state();
        state.map_end += u64::try_from(records.len()).unwrap_or(0);
        for index in written {
            if let Some(flag) = usize::try_from(*index).ok().and_then(|index| state.have.get_mut(index)) {
                *flag = true;
            }
        }
        Ok(())
    }

    fn complete(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.phase != Phase::Partial {
            return Ok(());
        }
        fs::rename(&self.places.part, &self.places.whole)?;
        state.phase = Phase::Complete;
        sync_folder(&self.places.folder)?;
        // A map that stays behind is harmless: the whole object is looked for first.
        remove(&self.places.map)
    }

    pub(super) fn read(&self, offset: u64, len: usize) -> Result<Bytes, BlobStoreError> {
        {
            let state = self.state();
            match state.phase {
                Phase::Deleted => return Err(BlobStoreError::Missing),
                Phase::Complete => {}
                Phase::Partial => {
                    let window = read_window(self.chunks.len(), offset, len)?;
                    if !self.chunks.covering(window.start, window.end).all(|index| state.has(index)) {
                        return Err(BlobStoreError::Missing);
                    }
                }
            }
        }
        read_file(&self.part, offset, len, self.chunks.len()).map_err(|error| error.at(&self.places.part))
    }

    /// Ends the object and its files by `work`; later calls find it missing.
    pub(super) fn end<T>(&self, work: impl FnOnce() -> T) -> T {
        let mut state = self.state();
        state.phase = Phase::Deleted;
        work()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A poisoned state is still whole: it changes only after the files did.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
