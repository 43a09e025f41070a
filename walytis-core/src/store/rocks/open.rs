//! Opening the folder: RocksDB's options, and what its errors mean.

use std::fs;
use std::io;
use std::path::Path;

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DB, DBCompressionType, DBRecoveryMode, ErrorKind, LogLevel, Options,
};

use super::guard::Guard;
use crate::store::StoreError;
use crate::store::folder::create_folder;

/// What is kept of tables in memory, in bytes, uncompressed: blocks, and of indices and filters the parts in use. Chosen:
/// modest for a phone. With the write buffers it bounds the memory of the store, whatever it holds.
const CACHE_BYTES: usize = 20 * 1024 * 1024;
/// A part of an index or a filter, in bytes. From RocksDB's guide to partitioned filters.
const PARTITION_BYTES: usize = 4 * 1024;
/// A table, in bytes. Chosen: a merge of a few of them is short, and a store of 4 GB has as many as may be open.
const TABLE_BYTES: u64 = 16 * 1024 * 1024;
/// The first sorted level, in bytes. Chosen: about what is merged into it at once, which costs least.
const LEVEL_BYTES: u64 = 64 * 1024 * 1024;
/// One write buffer, in bytes; there are at most [`WRITE_BUFFERS_MAX`]. Chosen: a second of the fastest ingest.
const WRITE_BUFFER_BYTES: usize = 8 * 1024 * 1024;
/// Write buffers, the one being filled and those being written out.
const WRITE_BUFFERS_MAX: i32 = 3;
/// Log bytes after which RocksDB writes its buffers out. Chosen: bounds the time to open after a crash.
const LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Open table files. Chosen: a quarter of the usual limit of 1,024 descriptors; the rest belongs to connections.
const OPEN_FILES_MAX: i32 = 256;
/// Room that must be left beside the logs before a store is opened again. Chosen: a manifest, a log's first bytes, and some.
const ROOM_BYTES: u64 = 4 * 1024 * 1024;
/// Bits per key of the filters that answer for absent keys. From RocksDB's tuning guide: 1 % false positives.
const FILTER_BITS: f64 = 10.0;

/// Opens the database, creating it if the folder has none. Damage that can be seen is found before anything is changed.
/// Blocks.
pub(super) fn open(directory: &Path) -> Result<(DB, Guard), StoreError> {
    let io = |error: io::Error| StoreError::Io { reason: format!("{}: {error}", directory.display()) };
    create_folder(directory).map_err(io)?;
    let mut guard = Guard::lock(directory)?;
    let fresh = is_fresh(directory, &guard)?;
    let db = open_marked(directory, &mut guard, fresh)?;
    Ok((db, guard))
}

/// Opens the database of a locked folder. Blocks.
pub(super) fn open_marked(directory: &Path, guard: &mut Guard, fresh: bool) -> Result<DB, StoreError> {
    if !fresh {
        guard.check_manifest()?;
        // After a clean close the log is empty; otherwise it is read twice, of which LOG_BYTES_MAX bounds the cost.
        guard.check_sequence(last_sequence(directory)?)?;
    }
    let db = DB::open(&options(fresh), directory).map_err(|error| store_error(directory, &error))?;
    // What opening found in the log stands in tables now.
    let renewed = guard.renew(Some(db.latest_sequence_number()));
    renewed.map_err(|error| StoreError::Io { reason: format!("{}: {error}", directory.display()) })?;
    Ok(db)
}

/// Opens the database for reading, beside the one that writes if there is one: goes through manifest, tables and log and
/// changes nothing. Blocks.
pub(super) fn open_for_reading(directory: &Path) -> Result<DB, StoreError> {
    DB::open_for_read_only(&options(false), directory, false).map_err(|error| store_error(directory, &error))
}

/// Returns the sequence number of the last write in tables and log. Blocks.
pub(super) fn last_sequence(directory: &Path) -> Result<u64, StoreError> {
    Ok(open_for_reading(directory)?.latest_sequence_number())
}

/// Says whether the disk has room for opening: what stands in the logs is written into tables.
pub(super) fn has_room(directory: &Path) -> bool {
    let logs = folder_bytes_of(directory, |name| name.extension().is_some_and(|ending| ending == "log"));
    match (logs, crate::store::folder::free_bytes(directory)) {
        (Ok(logs), Some(free)) => free >= logs.saturating_add(ROOM_BYTES),
        // Trying tells.
        _ => true,
    }
}

/// Says whether the store is to be created. RocksDB itself would create a new one over the tables of a store whose file
/// `CURRENT` is missing, and then remove them.
fn is_fresh(directory: &Path, guard: &Guard) -> Result<bool, StoreError> {
    let io = |error: io::Error| StoreError::Io { reason: format!("{}: {error}", directory.display()) };
    if directory.join("CURRENT").exists() {
        return Ok(false);
    }
    if guard.is_marked() {
        return Err(damaged(directory, "its file CURRENT is missing".into()));
    }
    for entry in fs::read_dir(directory).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        // A crash while creating leaves neither table nor log behind.
        if Path::new(&name).extension().is_some_and(|extension| extension == "sst" || extension == "log") {
            return Err(damaged(directory, "its file CURRENT is missing".into()));
        }
    }
    Ok(true)
}

fn options(create: bool) -> Options {
    let mut tables = BlockBasedOptions::default();
    tables.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES));
    tables.set_bloom_filter(FILTER_BITS, false);
    // Otherwise index and filter of every open table would stay in memory, beside the cache: 25 MB for a million blocks.
    tables.set_cache_index_and_filter_blocks(true);
    tables.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    tables.set_partition_filters(true);
    tables.set_metadata_block_size(PARTITION_BYTES);
    tables.set_pin_top_level_index_and_filter(true);

    let mut options = Options::default();
    options.create_if_missing(create);
    options.set_block_based_table_factory(&tables);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_max_write_buffer_number(WRITE_BUFFERS_MAX);
    options.set_max_total_wal_size(LOG_BYTES_MAX);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_target_file_size_base(TABLE_BYTES);
    options.set_max_bytes_for_level_base(LEVEL_BYTES);
    // Every checksum is verified, and damage is an error at once instead of a gap later.
    options.set_paranoid_checks(true);
    options.set_track_and_verify_wals_in_manifest(true);
    // A kill leaves at most a record that breaks off at the end of the log; it was never acknowledged and is dropped.
    // Damage anywhere before that is an error: RocksDB's default would silently drop all that follows it.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    // RocksDB's own diary; ours says what matters.
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1024 * 1024);
    options.set_stats_dump_period_sec(0);
    options
}

/// Sorts an error of RocksDB.
pub(super) fn store_error(directory: &Path, error: &rocksdb::Error) -> StoreError {
    let text: &str = error.as_ref();
    let io = error.kind() == ErrorKind::IOError;
    // From RocksDB's env/fs_posix.cc, `LockFile`: the first within one process, the second between processes.
    if io && (text.contains("lock hold by current process") || is_lock_conflict(text)) {
        return StoreError::InUse { directory: directory.display().to_string() };
    }
    let file_missing = io && text.contains("No such file or directory");
    if is_full(text) {
        return StoreError::Full { reason: text.into() };
    }
    match error.kind() {
        ErrorKind::Corruption | ErrorKind::NotFound | ErrorKind::InvalidArgument => damaged(directory, text.into()),
        _ if file_missing => damaged(directory, text.into()),
        _ => StoreError::Io { reason: text.into() },
    }
}

fn is_lock_conflict(text: &str) -> bool {
    text.starts_with("IO error: While lock file") && text.ends_with("Resource temporarily unavailable")
}

/// The operating system's words for a full disk or a used-up quota: RocksDB keeps no error numbers.
fn is_full(text: &str) -> bool {
    text.contains("No space left on device") || text.contains("Disk quota exceeded")
}

pub(super) fn damaged(directory: &Path, reason: String) -> StoreError {
    StoreError::Damaged { directory: directory.display().to_string(), reason }
}

/// Returns the bytes of the folder's files. Blocks.
pub(super) fn folder_bytes(directory: &Path) -> Result<u64, StoreError> {
    folder_bytes_of(directory, |_| true)
}

fn folder_bytes_of(directory: &Path, counts: impl Fn(&Path) -> bool) -> Result<u64, StoreError> {
    let io = |error: io::Error| StoreError::Io { reason: error.to_string() };
    let mut bytes = 0u64;
    for entry in fs::read_dir(directory).map_err(io)? {
        let entry = entry.map_err(io)?;
        match entry.metadata() {
            Ok(_) if !counts(Path::new(&entry.file_name())) => {}
            Ok(metadata) => bytes = bytes.saturating_add(metadata.len()),
            // Compaction removes files while we look.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io(error)),
        }
    }
    Ok(bytes)
}
