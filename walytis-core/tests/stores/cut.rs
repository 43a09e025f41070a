//! Files of the store that were cut off, removed or exchanged: either everything is there, or opening reports the damage
//! and leaves the folder as it was, so that putting the file back brings everything back.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tempfile::TempDir;
use walytis_core::store::{Durability, KvStore, RocksStore, StoreError};

use crate::rocks::{assert_damaged, closed_store, copy_of_running, files, fill, put};

/// Commits after which the mark must have been renewed, which happens once a second.
const COMMITS_MAX: u32 = 2_000_000;

type Contents = BTreeMap<String, Vec<u8>>;

/// Every file but RocksDB's diary and the two locks.
fn contents(directory: &Path) -> Contents {
    let kept = |name: &str| !name.starts_with("LOG") && name != "LOCK" && name != "OPEN";
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    files(directory, kept).iter().map(|path| (name(path), fs::read(path).unwrap())).collect()
}

/// Puts a folder with these contents in place of whatever is there.
fn restore(directory: &Path, contents: &Contents) {
    for path in files(directory, |_| true) {
        fs::remove_file(path).unwrap();
    }
    for (name, bytes) in contents {
        fs::write(directory.join(name), bytes).unwrap();
    }
}

fn name_of(contents: &Contents, part: &str) -> String {
    let mut names = contents.keys().filter(|name| name.contains(part));
    names.next_back().unwrap().clone()
}

/// The twenty values of [`fill`], unless one is missing.
async fn assert_filled(directory: &Path, what: &str) {
    let store = RocksStore::open(directory).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    for number in 0..20 {
        let value = store.get(format!("k{number}").as_bytes()).await.unwrap();
        assert_eq!(value.map(|value| value.len()), Some(5000), "{what}: k{number}");
    }
    store.close().await.unwrap();
}

/// Opening reports damage and changes nothing.
async fn assert_damaged_and_unchanged(directory: &Path, what: &str) {
    let before = contents(directory);
    assert_damaged(directory, what).await;
    let after = contents(directory);
    let changed: Vec<_> =
        before.keys().chain(after.keys()).filter(|name| before.get(*name) != after.get(*name)).collect();
    assert!(changed.is_empty(), "{what}: opening changed {changed:?}");
}

/// Cuts the manifest to every length that is not its own.
async fn assert_every_cut_manifest_is_found(directory: &Path) {
    let whole = contents(directory);
    let manifest = name_of(&whole, "MANIFEST");
    for len in 0..whole[&manifest].len() {
        fs::write(directory.join(&manifest), &whole[&manifest][..len]).unwrap();
        assert_damaged_and_unchanged(directory, &format!("{manifest} cut to {len} bytes")).await;
    }
    fs::write(directory.join(&manifest), &whole[&manifest]).unwrap();
    assert_filled(directory, "with the whole manifest").await;
}

/// A store that was opened three times, each time with more in its manifest and a table of its own.
async fn reopened_store() -> TempDir {
    let directory = closed_store().await;
    for round in 0..2u8 {
        let store = RocksStore::open(directory.path()).await.unwrap();
        put(&store, &[b'r', round], b"x", Durability::Flushed).await;
        store.close().await.unwrap();
    }
    directory
}

#[tokio::test]
async fn a_manifest_cut_anywhere_after_closing_is_found() {
    assert_every_cut_manifest_is_found(reopened_store().await.path()).await;
}

#[tokio::test]
async fn a_manifest_cut_anywhere_after_a_kill_is_found() {
    let directory = reopened_store().await;
    let store = RocksStore::open(directory.path()).await.unwrap();
    put(&store, b"last", b"x", Durability::Flushed).await;
    let killed = copy_of_running(directory.path());
    assert_every_cut_manifest_is_found(killed.path()).await;
    let reopened = RocksStore::open(killed.path()).await.unwrap();
    assert!(reopened.get(b"last").await.unwrap().is_some());
}

/// The manifest grows while the store is open, each time a write buffer is full.
#[tokio::test]
async fn a_manifest_that_grew_while_writing_is_covered_within_a_second() {
    let directory = TempDir::new().unwrap();
    let store = RocksStore::open(directory.path()).await.unwrap();
    fill(&store).await;
    let covered = || {
        let mark = fs::read(directory.path().join("MARK")).unwrap();
        mark[9..17].try_into().map(u64::from_be_bytes).unwrap()
    };
    let before = covered();
    for number in 0..12u8 {
        put(&store, &[b'b', number], &vec![7; 1 << 20], Durability::Buffered).await;
    }
    for number in 0..COMMITS_MAX {
        put(&store, b"tick", &number.to_be_bytes(), Durability::Flushed).await;
        if covered() > before {
            break;
        }
    }
    // Not closed: as after a kill, but with nothing under way in the folder any more.
    drop(store);
    let manifest = files(directory.path(), |name| name.starts_with("MANIFEST")).pop().unwrap();
    let names = || files(directory.path(), |name| !name.starts_with("LOG"));
    let (whole, files_before) = (fs::read(&manifest).unwrap(), names());
    assert!(covered() > before);
    for len in 0..usize::try_from(covered()).unwrap() {
        fs::write(&manifest, &whole[..len]).unwrap();
        assert_damaged(directory.path(), &format!("cut to {len} bytes")).await;
        assert_eq!(names(), files_before);
    }
    fs::write(&manifest, &whole).unwrap();
    assert_filled(directory.path(), "with the whole manifest").await;
}

/// Flushed commits are covered once the mark was renewed: the log may be cut anywhere.
#[tokio::test]
async fn a_log_cut_before_the_mark_is_found() {
    let directory = TempDir::new().unwrap();
    let store = RocksStore::open(directory.path()).await.unwrap();
    fill(&store).await;
    let filled = contents(directory.path());
    let log = name_of(&filled, ".log");
    for number in 0..COMMITS_MAX {
        put(&store, b"tick", &number.to_be_bytes(), Durability::Flushed).await;
        if fs::read(directory.path().join("MARK")).unwrap() != filled["MARK"] {
            break;
        }
    }
    drop(store);
    let whole = contents(directory.path());
    assert_ne!(whole["MARK"], filled["MARK"], "the mark was renewed");
    for len in (0..filled[&log].len()).step_by(5003) {
        fs::write(directory.path().join(&log), &whole[&log][..len]).unwrap();
        assert_damaged_and_unchanged(directory.path(), &format!("{log} cut to {len} bytes")).await;
    }
    fs::remove_file(directory.path().join(&log)).unwrap();
    assert_damaged_and_unchanged(directory.path(), "no log").await;
    for cut in [1, 30] {
        restore(directory.path(), &whole);
        fs::write(directory.path().join(&log), &whole[&log][..whole[&log].len() - cut]).unwrap();
        match RocksStore::open(directory.path()).await {
            Ok(store) => store.close().await.unwrap(),
            Err(StoreError::Damaged { .. }) => restore(directory.path(), &whole),
            Err(other) => panic!("{other}"),
        }
        assert_filled(directory.path(), "everything before the cut").await;
    }
}

/// What was flushed is covered from the moment it is acknowledged; the mark is as old as the opening here, or a second.
#[tokio::test]
async fn a_log_cut_right_after_the_last_flush_is_found() {
    let directory = TempDir::new().unwrap();
    let store = RocksStore::open(directory.path()).await.unwrap();
    fill(&store).await;
    put(&store, b"last", b"flushed", Durability::Flushed).await;
    let killed = copy_of_running(directory.path());
    let whole = contents(killed.path());
    let log = name_of(&whole, ".log");
    let last = whole[&log].iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for len in (0..last).rev().take(120).chain((0..last).step_by(4001)) {
        restore(killed.path(), &whole);
        fs::write(killed.path().join(&log), &whole[&log][..len]).unwrap();
        assert_damaged_and_unchanged(killed.path(), &format!("{log} cut to {len} bytes")).await;
    }
    restore(killed.path(), &whole);
    assert_filled(killed.path(), "whole").await;
}

/// A length that was changed makes RocksDB take the rest of the log for a write that a crash broke off.
#[tokio::test]
async fn no_changed_byte_of_a_log_takes_away_what_was_flushed() {
    let directory = TempDir::new().unwrap();
    let store = RocksStore::open(directory.path()).await.unwrap();
    for number in 0..20u8 {
        put(&store, &[b'k', number], &[number; 40], Durability::Flushed).await;
    }
    let whole = contents(copy_of_running(directory.path()).path());
    let log = name_of(&whole, ".log");
    let last = whole[&log].iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let changed_folder = TempDir::new().unwrap();
    for at in (0..last).step_by(3) {
        let mut changed = whole.clone();
        changed.get_mut(&log).unwrap()[at] ^= 0x55;
        fs::write(changed_folder.path().join("x"), b"").unwrap();
        restore(changed_folder.path(), &changed);
        match RocksStore::open(changed_folder.path()).await {
            Err(StoreError::Damaged { .. }) => {}
            Err(other) => panic!("byte {at}: {other}"),
            Ok(store) => {
                for number in 0..20u8 {
                    assert!(store.get(&[b'k', number]).await.unwrap().is_some(), "byte {at} took k{number}");
                }
                store.close().await.unwrap();
            }
        }
    }
}

/// The note is overwritten in place: whatever a power cut leaves of it, the store opens.
#[tokio::test]
async fn a_note_that_is_cut_or_changed_tells_nothing() {
    let directory = closed_store().await;
    let note = fs::read(directory.path().join("FLUSHED")).unwrap();
    let mut changed = note.clone();
    changed[5] ^= 1;
    for bytes in [&note[..0], &note[..9], &changed, &[0; 17]] {
        fs::write(directory.path().join("FLUSHED"), bytes).unwrap();
        assert_filled(directory.path(), "damaged note").await;
    }
    fs::remove_file(directory.path().join("FLUSHED")).unwrap();
    assert_filled(directory.path(), "no note").await;
}

#[tokio::test]
async fn removed_and_cut_tables_are_found_and_nothing_is_changed() {
    let directory = reopened_store().await;
    let whole = contents(directory.path());
    let tables: Vec<_> = whole.keys().filter(|name| name.ends_with(".sst")).collect();
    assert!(tables.len() >= 3);
    for table in tables {
        for left in [0, 1, whole[table].len() / 2, whole[table].len() - 1] {
            fs::write(directory.path().join(table), &whole[table][..left]).unwrap();
            assert_damaged_and_unchanged(directory.path(), &format!("{table} cut to {left}")).await;
        }
        fs::remove_file(directory.path().join(table)).unwrap();
        assert_damaged_and_unchanged(directory.path(), &format!("no {table}")).await;
        fs::write(directory.path().join(table), &whole[table]).unwrap();
    }
    assert_filled(directory.path(), "with all tables").await;
}

#[tokio::test]
async fn files_of_another_time_are_found() {
    let directory = closed_store().await;
    let before = contents(directory.path());
    let store = RocksStore::open(directory.path()).await.unwrap();
    put(&store, b"later", b"x", Durability::Flushed).await;
    store.close().await.unwrap();
    let whole = contents(directory.path());

    // The manifest of an earlier time, complete and with its `CURRENT`.
    let old = name_of(&before, "MANIFEST");
    fs::write(directory.path().join("CURRENT"), &before["CURRENT"]).unwrap();
    fs::write(directory.path().join(&old), &before[&old]).unwrap();
    assert_damaged_and_unchanged(directory.path(), "older manifest").await;

    for current in [&b""[..], b"MANIFEST-", b"MANIFEST-x\n", b"\xff\n", b"MANIFEST-000001"] {
        restore(directory.path(), &whole);
        fs::write(directory.path().join("CURRENT"), current).unwrap();
        assert_damaged_and_unchanged(directory.path(), &format!("CURRENT {current:?}")).await;
    }
    // Everything gone but the mark: no new store is begun in its place.
    restore(directory.path(), &Contents::from([("MARK".to_owned(), whole["MARK"].clone())]));
    assert_damaged_and_unchanged(directory.path(), "only the mark").await;

    // The whole folder of an earlier time is a backup, and a mark of an earlier time is still true.
    restore(directory.path(), &before);
    assert_filled(directory.path(), "backup").await;
    restore(directory.path(), &whole);
    fs::write(directory.path().join("MARK"), &before["MARK"]).unwrap();
    assert_filled(directory.path(), "older mark").await;
}

#[tokio::test]
async fn a_store_without_a_mark_gets_one_and_a_damaged_mark_is_refused() {
    let directory = closed_store().await;
    let mark = fs::read(directory.path().join("MARK")).unwrap();
    fs::write(directory.path().join("MARK.new"), b"of a crash").unwrap();
    for damaged in [&b""[..], &mark[1..], &mark[..40], &[&[2], &mark[1..]].concat()] {
        fs::write(directory.path().join("MARK"), damaged).unwrap();
        assert_damaged_and_unchanged(directory.path(), "mark").await;
    }
    fs::remove_file(directory.path().join("MARK")).unwrap();
    assert_filled(directory.path(), "no mark").await;
    assert_every_cut_manifest_is_found(directory.path()).await;
}
