//! Noticing that a file of the database was cut off.
//!
//! RocksDB takes the end of its manifest, and of its log, for the end of the story: cut off between two records, either
//! looks like one that ended there. RocksDB then forgets the newest tables and removes them from the folder. So a small
//! file, the *mark*, says beside the database how far that had come: which manifest, how many bytes of it with which
//! digest, and the sequence number of the last flushed write. Before the database is opened it is compared with its mark
//! and opened for reading, both of which change nothing.
//!
//! The mark is a lower bound, renewed after opening, at most once a second while writing, and when closing. What a log
//! received since is covered by a second file, the *note*: after each flushed write, and before that is acknowledged, its
//! sequence number is written over the one before, without a flush of its own. After a kill the note names the last
//! acknowledged write. After a power cut it names that or an earlier one, or is no note at all and tells nothing: it was
//! written behind the flush, so it never says too much.
//!
//! ```text
//! lock ──► compare CURRENT and manifest with MARK ──► open for reading, compare sequence ──► open ──► renew MARK
//!              │                                          with MARK and FLUSHED │
//!              └────────── Damaged, nothing changed ◄──────────────────────────┘
//! ```

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufRead as _, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::flushed_v1;
use super::mark_v1::{Mark, NoMark, decode, encode};
use crate::store::StoreError;
use crate::store::folder::sync_folder;

/// The mark's file.
const MARK: &str = "MARK";
/// The note of the last flushed write.
const FLUSHED: &str = "FLUSHED";
/// The mark while it is being written.
const MARK_NEW: &str = "MARK.new";
/// Locked while the store is open. RocksDB's own lock comes too late: the files are compared before it.
const LOCK: &str = "OPEN";
/// Bytes of the mark's file that are read. Chosen: above any version so far.
const MARK_BYTES_MAX: u64 = 1024;
/// Bytes of the manifest read at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// Stands before the manifest's bytes in their digest.
const MANIFEST_LABEL: &[u8] = b"walytis/core/store-manifest/v1";

/// Holds the folder and keeps its mark.
pub(super) struct Guard {
    directory: PathBuf,
    /// The mark on disk.
    mark: Option<Mark>,
    /// What the note said when the folder was locked.
    noted: u64,
    /// The note's file, from the first write on.
    note: Option<File>,
    /// The note could not be written: the one on disk stays as it is, which is still true.
    note_failed: bool,
    /// The digest over the manifest as far as it was read.
    digested: Option<Digested>,
    _lock: File,
}

/// A digest that grows with the manifest.
struct Digested {
    manifest: u64,
    len: u64,
    digest: Sha256,
}

impl Guard {
    /// Locks the folder and reads its mark. Blocks.
    pub(super) fn lock(directory: &Path) -> Result<Self, StoreError> {
        let lock = lock_folder(directory)?;
        let mark = read_mark(directory)?;
        let directory = directory.to_path_buf();
        let noted = read_note(&directory)?;
        Ok(Self { directory, mark, noted, note: None, note_failed: false, digested: None, _lock: lock })
    }

    /// Says whether the folder has a mark: then it holds a database.
    pub(super) const fn is_marked(&self) -> bool {
        self.mark.is_some()
    }

    /// Compares `CURRENT` and the manifest with the mark. Reads only. Blocks.
    pub(super) fn check_manifest(&self) -> Result<(), StoreError> {
        let Some(mark) = &self.mark else { return Ok(()) };
        let damaged = |reason: String| damaged(&self.directory, reason);
        let found = current_manifest(&self.directory)
            .map_err(|error| self.io_or_damaged(&error))?
            .ok_or_else(|| damaged("its file CURRENT names no manifest".into()))?;
        if found > mark.manifest {
            // RocksDB began a new manifest and was stopped before the mark was renewed.
            return Ok(());
        }
        if found < mark.manifest {
            return Err(damaged(format!("its file CURRENT names manifest {found}, it was {} already", mark.manifest)));
        }
        let mut digested = Digested::new(found);
        digested.read(&self.directory, Some(mark.len)).map_err(|error| self.io_or_damaged(&error))?;
        if digested.len < mark.len {
            let (name, len, had) = (manifest_name(found), digested.len, mark.len);
            return Err(damaged(format!("its file {name} was cut off: it has {len} bytes and had {had}")));
        }
        if digested.finish() != mark.digest {
            return Err(damaged(format!("its file {} has other bytes than were written", manifest_name(found))));
        }
        Ok(())
    }

    /// Compares the last sequence number of the database with the mark and the note.
    pub(super) fn check_sequence(&self, found: u64) -> Result<(), StoreError> {
        let reached = self.mark.as_ref().map_or(0, |mark| mark.sequence).max(self.noted);
        if found < reached {
            let reason = format!("its last write is {found}, it was {reached} already: a log was cut off");
            return Err(damaged(&self.directory, reason));
        }
        Ok(())
    }

    /// Notes the sequence number of a write that is flushed, for whoever opens the folder after a crash. Blocks, but does
    /// not wait for the disk.
    pub(super) fn note_flushed(&mut self, sequence: u64) {
        if self.note_failed {
            return;
        }
        if let Err(error) = self.write_note(sequence) {
            tracing::warn!(%error, "the last flushed write cannot be noted, the note stays as it is");
            self.note_failed = true;
        }
    }

    /// Tries to note again what could not be noted.
    pub(super) fn note_again(&mut self) {
        self.note_failed = false;
    }

    fn write_note(&mut self, sequence: u64) -> io::Result<()> {
        let mut file = match self.note.take() {
            Some(file) => file,
            None => {
                let path = self.directory.join(FLUSHED);
                fs::OpenOptions::new().write(true).create(true).truncate(false).open(path)?
            }
        };
        file.rewind()?;
        file.write_all(&flushed_v1::encode(sequence))?;
        self.note = Some(file);
        Ok(())
    }

    /// Renews the mark if the database has come further. `flushed` is the sequence number of a write that is flushed, if
    /// there is a new one. Blocks.
    pub(super) fn renew(&mut self, flushed: Option<u64>) -> io::Result<()> {
        let manifest = current_manifest(&self.directory)?
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "CURRENT names no manifest"))?;
        let mut digested = match self.digested.take() {
            Some(digested) if digested.manifest == manifest => digested,
            _ => Digested::new(manifest),
        };
        digested.read(&self.directory, None)?;
        let sequence = self.mark.as_ref().map_or(0, |mark| mark.sequence).max(flushed.unwrap_or(0));
        let mark = Mark { manifest, len: digested.len, digest: digested.finish(), sequence };
        self.digested = Some(digested);
        if self.mark != Some(mark) {
            write_mark(&self.directory, &mark)?;
            self.mark = Some(mark);
        }
        Ok(())
    }

    fn io_or_damaged(&self, error: &io::Error) -> StoreError {
        match error.kind() {
            io::ErrorKind::NotFound => damaged(&self.directory, "its file CURRENT or the manifest is missing".into()),
            _ => io_error(&self.directory, error),
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("mark", &self.mark).finish_non_exhaustive()
    }
}

impl Digested {
    fn new(manifest: u64) -> Self {
        Self { manifest, len: 0, digest: Sha256::new_with_prefix(MANIFEST_LABEL) }
    }

    /// Reads on, up to `end` or the end of the file. Without `end` the file is flushed first, so that a mark never says
    /// more than a power cut leaves.
    fn read(&mut self, directory: &Path, end: Option<u64>) -> io::Result<()> {
        let path = directory.join(manifest_name(self.manifest));
        let mut file = fs::OpenOptions::new().read(true).write(end.is_none()).open(path)?;
        let end = match end {
            Some(end) => end,
            None => {
                let len = file.metadata()?.len();
                if len > self.len {
                    file.sync_all()?;
                }
                len
            }
        };
        file.seek(SeekFrom::Start(self.len))?;
        let mut rest = io::BufReader::with_capacity(PIECE_BYTES, file.take(end.saturating_sub(self.len)));
        loop {
            let piece = rest.fill_buf()?;
            let read = piece.len();
            if read == 0 {
                return Ok(());
            }
            self.digest.update(piece);
            self.len = self.len.saturating_add(read as u64);
            rest.consume(read);
        }
    }

    fn finish(&self) -> [u8; 32] {
        self.digest.clone().finalize().into()
    }
}

fn lock_folder(directory: &Path) -> Result<File, StoreError> {
    let io = |error: io::Error| io_error(directory, &error);
    let path = directory.join(LOCK);
    let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { directory: directory.display().to_string() }),
        // RocksDB's own lock still keeps a second store away.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(file),
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}

fn read_mark(directory: &Path) -> Result<Option<Mark>, StoreError> {
    let mut bytes = Vec::new();
    let read = File::open(directory.join(MARK)).and_then(|file| file.take(MARK_BYTES_MAX).read_to_end(&mut bytes));
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(directory, &error)),
    }
    match decode(&bytes) {
        Ok(mark) => Ok(Some(mark)),
        Err(NoMark::Newer(found)) => {
            Err(damaged(directory, format!("its file {MARK} has version {found}: use a newer version of walytis")))
        }
        Err(NoMark::Damaged) => Err(damaged(directory, format!("its file {MARK} is cut off or has other bytes"))),
    }
}

/// Returns what the note says, 0 if there is none.
fn read_note(directory: &Path) -> Result<u64, StoreError> {
    let mut bytes = Vec::with_capacity(flushed_v1::NOTE_BYTES);
    let read = File::open(directory.join(FLUSHED)).and_then(|file| file.take(MARK_BYTES_MAX).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(flushed_v1::decode(&bytes).unwrap_or(0)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(io_error(directory, &error)),
    }
}

/// Replaces the mark in one step: a crash leaves the old one or the new one.
fn write_mark(directory: &Path, mark: &Mark) -> io::Result<()> {
    let new = directory.join(MARK_NEW);
    let mut file = File::create(&new)?;
    file.write_all(&encode(mark))?;
    file.sync_all()?;
    drop(file);
    fs::rename(new, directory.join(MARK))?;
    sync_folder(directory)
}

/// Returns the number of the manifest that `CURRENT` names.
fn current_manifest(directory: &Path) -> io::Result<Option<u64>> {
    let mut bytes = Vec::new();
    File::open(directory.join("CURRENT"))?.take(MARK_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = std::str::from_utf8(&bytes).ok();
    Ok(text.and_then(|text| text.strip_suffix('\n')?.strip_prefix("MANIFEST-")?.parse().ok()))
}

/// From RocksDB's file/filename.cc, `DescriptorFileName`.
fn manifest_name(number: u64) -> String {
    format!("MANIFEST-{number:06}")
}

fn damaged(directory: &Path, reason: String) -> StoreError {
    StoreError::Damaged { directory: directory.display().to_string(), reason }
}

fn io_error(directory: &Path, error: &io::Error) -> StoreError {
    StoreError::Io { reason: format!("{}: {error}", directory.display()) }
}
