//! The key vault over a store: what it keeps, what it refuses, what stands on disk.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use walytis_core::clock::SeededEntropy;
use walytis_core::secret::{Secret, SecretBytes};
use walytis_core::store::keys::Space;
use walytis_core::store::{
    Batch, Direction, Durability, KeyRange, KvStore, MemoryStore, RocksStore, SecretError, SecretStore,
};
use walytis_identities::vault::{
    Argon2Settings, KeyFile, KeyFileError, KeyVault, Unlock, UnlockMethod, VaultCode, VaultError,
};

/// The cheapest settings that Argon2id takes: tests need the path, not the cost.
const CHEAP: Argon2Settings = Argon2Settings { memory_kib: 8, passes: 1, lanes: 1 };

fn passphrase(text: &str) -> Unlock {
    Unlock::Passphrase(SecretBytes::new(text.into()))
}

fn key_file(byte: u8) -> Unlock {
    Unlock::KeyFile(KeyFile::from_key(Secret::new([byte; 32])))
}

fn code(seed: u64) -> Unlock {
    Unlock::RecoveryCode(VaultCode::generate(&SeededEntropy::new(seed)))
}

fn secret(text: &str) -> SecretBytes {
    SecretBytes::new(text.into())
}

async fn vault(store: &Arc<MemoryStore>) -> KeyVault {
    let vault = KeyVault::new(Arc::clone(store) as Arc<dyn KvStore>, Arc::new(SeededEntropy::new(1)));
    vault.create(passphrase("correct horse"), CHEAP).await.unwrap();
    vault
}

async fn dump(store: &MemoryStore) -> Vec<(Vec<u8>, Vec<u8>)> {
    let everything = KeyRange { start: Vec::new(), end: None };
    let entries = store.scan(everything, Direction::Forward, usize::MAX).await.unwrap();
    entries.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

/// Each vault in a store of its own.
struct Vaults;

#[async_trait::async_trait]
impl test_harness::contract::secret::SecretFixture for Vaults {
    async fn store(&self) -> Arc<dyn SecretStore> {
        Arc::new(vault(&Arc::default()).await)
    }
}

#[tokio::test]
async fn the_vault_keeps_the_contract_of_secret_stores() {
    test_harness::contract::secret::secret_contract(&Vaults).await;
}

#[tokio::test(start_paused = true)]
async fn secrets_are_found_replaced_listed_and_removed() {
    let vault = vault(&Arc::default()).await;
    assert_eq!(vault.get("a/b").await.unwrap(), None);
    vault.put("a/b", secret("one")).await.unwrap();
    vault.put("a/c", secret("two")).await.unwrap();
    vault.put("b", secret("")).await.unwrap();
    vault.put("a/b", secret("three")).await.unwrap();
    assert_eq!(vault.get("a/b").await.unwrap(), Some(secret("three")));
    assert_eq!(vault.get("b").await.unwrap(), Some(secret("")));
    assert_eq!(vault.list("a/").await.unwrap(), ["a/b", "a/c"]);
    vault.delete("a/b").await.unwrap();
    vault.delete("a/b").await.unwrap();
    assert_eq!(vault.list("").await.unwrap(), ["a/c", "b"]);
}

#[tokio::test(start_paused = true)]
async fn more_names_than_a_page_are_all_listed_in_order() {
    let vault = vault(&Arc::default()).await;
    let names: Vec<String> = (0..600).map(|n| format!("n/{n:03}")).collect();
    for name in &names {
        vault.put(name, secret("x")).await.unwrap();
    }
    assert_eq!(vault.list("n/").await.unwrap(), names);
}

#[tokio::test(start_paused = true)]
async fn a_locked_vault_refuses_everything_and_opens_again() {
    let store = Arc::default();
    let vault = vault(&store).await;
    vault.put("a", secret("one")).await.unwrap();
    let mut locked = vault.watch_locked();
    vault.lock();
    assert!(vault.is_locked() && *locked.borrow_and_update());
    assert!(matches!(vault.get("a").await, Err(SecretError::Locked)));
    assert!(matches!(vault.put("a", secret("")).await, Err(SecretError::Locked)));
    assert!(matches!(vault.delete("a").await, Err(SecretError::Locked)));
    assert!(matches!(vault.list("").await, Err(SecretError::Locked)));
    assert!(matches!(vault.set_method(key_file(1), CHEAP).await, Err(VaultError::Locked)));
    vault.unlock(passphrase("correct horse")).await.unwrap();
    assert!(!*locked.borrow());
    assert_eq!(vault.get("a").await.unwrap(), Some(secret("one")));
}

#[tokio::test(start_paused = true)]
async fn a_restart_needs_the_passphrase() {
    let store: Arc<MemoryStore> = Arc::default();
    vault(&store).await.put("a", secret("one")).await.unwrap();
    let again = KeyVault::new(Arc::new(store.snapshot()), Arc::new(SeededEntropy::new(2)));
    assert!(again.exists().await.unwrap() && again.is_locked());
    assert!(matches!(again.unlock(passphrase("Correct horse")).await, Err(VaultError::WrongKey)));
    assert!(matches!(again.unlock(key_file(1)).await, Err(VaultError::WrongKey)));
    assert!(matches!(again.unlock(passphrase("")).await, Err(VaultError::WrongKey)));
    again.unlock(passphrase("correct horse")).await.unwrap();
    assert_eq!(again.get("a").await.unwrap(), Some(secret("one")));
}

#[tokio::test(start_paused = true)]
async fn guesses_are_slowed_down_even_the_right_one() {
    let vault = vault(&Arc::default()).await;
    vault.lock();
    for _ in 0..4 {
        assert!(matches!(vault.unlock(passphrase("guess")).await, Err(VaultError::WrongKey)));
    }
    let refused = vault.unlock(passphrase("correct horse")).await;
    assert!(matches!(refused, Err(VaultError::TooManyAttempts { .. })), "{refused:?}");
    tokio::time::advance(Duration::from_secs(2)).await;
    vault.unlock(passphrase("correct horse")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn methods_are_added_changed_and_removed_without_touching_records() {
    let store = Arc::default();
    let vault = vault(&store).await;
    vault.put("a", secret("one")).await.unwrap();
    vault.set_method(key_file(1), CHEAP).await.unwrap();
    vault.set_method(passphrase("battery staple"), CHEAP).await.unwrap();
    assert_eq!(vault.methods().await.unwrap(), [UnlockMethod::KeyFile, UnlockMethod::Passphrase]);
    vault.lock();
    assert!(matches!(vault.unlock(passphrase("correct horse")).await, Err(VaultError::WrongKey)));
    vault.unlock(passphrase("battery staple")).await.unwrap();
    vault.remove_method(UnlockMethod::Passphrase).await.unwrap();
    assert!(matches!(vault.remove_method(UnlockMethod::KeyFile).await, Err(VaultError::Unusable { .. })));
    vault.lock();
    assert!(matches!(vault.unlock(passphrase("battery staple")).await, Err(VaultError::WrongKey)));
    vault.unlock(key_file(1)).await.unwrap();
    assert_eq!(vault.get("a").await.unwrap(), Some(secret("one")));
}

#[tokio::test(start_paused = true)]
async fn unusable_methods_and_a_second_vault_are_refused() {
    let store: Arc<MemoryStore> = Arc::default();
    let fresh = KeyVault::new(Arc::clone(&store) as Arc<dyn KvStore>, Arc::new(SeededEntropy::new(1)));
    assert!(matches!(fresh.unlock(passphrase("x")).await, Err(VaultError::Missing)));
    let greedy = Argon2Settings { memory_kib: u32::MAX, ..CHEAP };
    assert!(matches!(fresh.create(passphrase("x"), greedy).await, Err(VaultError::Unusable { .. })));
    assert!(matches!(fresh.create(passphrase(""), CHEAP).await, Err(VaultError::Unusable { .. })));
    assert!(!fresh.exists().await.unwrap());
    fresh.create(passphrase("x"), CHEAP).await.unwrap();
    assert!(matches!(fresh.create(passphrase("x"), CHEAP).await, Err(VaultError::Exists)));
}

/// Swaps, bit flips and truncations of stored values must be noticed, each as damage, none as another secret.
#[tokio::test(start_paused = true)]
async fn records_that_were_tampered_with_are_damaged() {
    let store = Arc::default();
    let vault = vault(&store).await;
    vault.put("a", secret("one")).await.unwrap();
    vault.put("b", secret("two")).await.unwrap();
    let prefix = Space::Vault.key(&[&[0x02]]);
    let records: Vec<_> = dump(&store).await.into_iter().filter(|(key, _)| key.starts_with(&prefix)).collect();
    assert_eq!(records.len(), 2);
    let write = async |key: &[u8], value: Vec<u8>| {
        let mut batch = Batch::new();
        batch.put(key.to_vec(), value);
        store.commit(batch, Durability::Flushed).await.unwrap();
    };
    write(&records[0].0, records[1].1.clone()).await;
    write(&records[1].0, records[0].1.clone()).await;
    for name in ["a", "b"] {
        assert!(matches!(vault.get(name).await, Err(SecretError::Damaged)));
    }
    assert!(matches!(vault.list("").await, Err(SecretError::Damaged)));
    for (key, value) in &records {
        for at in 0..value.len() {
            let mut flipped = value.clone();
            flipped[at] ^= 1;
            write(key, flipped).await;
            let found = (vault.get("a").await, vault.get("b").await, vault.list("").await);
            assert!(found.2.is_err() || found.0.is_err() || found.1.is_err(), "byte {at}");
            write(key, value[..at].to_vec()).await;
            assert!(vault.list("").await.is_err(), "cut at {at}");
        }
        write(key, value.clone()).await;
    }
    assert_eq!(vault.list("").await.unwrap(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn names_and_secrets_stand_nowhere_in_the_store() {
    let store = Arc::default();
    let vault = vault(&store).await;
    vault.put("identities/device/xyz", secret("a secret of some length")).await.unwrap();
    for (key, value) in dump(&store).await {
        for needle in [&b"device"[..], b"secret of", b"correct horse"] {
            assert!(![key.as_slice(), &value].iter().any(|part| part.windows(needle.len()).any(|at| at == needle)));
        }
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_key_file_is_made_once_and_refused_when_others_may_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault.key");
    let store: Arc<MemoryStore> = Arc::default();
    let open = || {
        let entropy = Arc::new(SeededEntropy::new(3));
        KeyVault::open_with_key_file(Arc::clone(&store) as Arc<dyn KvStore>, entropy, &path)
    };
    open().await.unwrap().put("a", secret("one")).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(open().await.unwrap().get("a").await.unwrap(), Some(secret("one")));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let refused = open().await.unwrap_err();
    assert!(matches!(refused, VaultError::KeyFile(KeyFileError::Permissions { mode: 0o640, .. })), "{refused}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();

    let text = std::fs::read(&path).unwrap();
    std::fs::write(&path, &text[..text.len() / 2]).unwrap();
    assert!(matches!(open().await, Err(VaultError::KeyFile(KeyFileError::Malformed { .. }))));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(open().await, Err(VaultError::KeyFile(KeyFileError::Missing { .. }))));
    assert!(!path.exists(), "a lost key is never replaced");
}

/// A crash between key file and vault leaves the file; the next start uses it.
#[tokio::test]
async fn a_key_file_without_a_vault_is_used_for_the_new_vault() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault.key");
    let entropy = Arc::new(SeededEntropy::new(3));
    KeyFile::create_or_read(&path, &*entropy).await.unwrap();
    let before = std::fs::read(&path).unwrap();
    KeyVault::open_with_key_file(Arc::new(MemoryStore::new()), entropy, &path).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

/// One write: a new passphrase in, the key file out; a wrong proof changes nothing, and nothing unlocks by it.
#[tokio::test(start_paused = true)]
async fn methods_change_by_the_proof_of_one_of_them_and_leave_the_lock_as_it_is() {
    let store: Arc<MemoryStore> = Arc::default();
    let vault = vault(&store).await;
    vault.set_method(key_file(7), CHEAP).await.unwrap();
    vault.set_method(code(5), CHEAP).await.unwrap();
    vault.put("name", secret("kept")).await.unwrap();
    vault.lock();

    let before = dump(&store).await;
    let refused = vault.change_method(code(6), passphrase("new"), &[UnlockMethod::KeyFile], CHEAP).await;
    assert!(matches!(refused, Err(VaultError::WrongKey)), "{refused:?}");
    let empty = vault.change_method(code(5), passphrase(""), &[UnlockMethod::KeyFile], CHEAP).await;
    assert!(matches!(empty, Err(VaultError::Unusable { .. })), "{empty:?}");
    assert_eq!(dump(&store).await, before);

    vault.change_method(code(5), passphrase("new"), &[UnlockMethod::KeyFile], CHEAP).await.unwrap();
    assert!(vault.is_locked());
    assert_eq!(vault.methods().await.unwrap(), [UnlockMethod::Passphrase, UnlockMethod::RecoveryCode]);
    assert!(matches!(vault.unlock(passphrase("correct horse")).await, Err(VaultError::WrongKey)));
    assert!(matches!(vault.unlock(key_file(7)).await, Err(VaultError::WrongKey)));
    vault.check(passphrase("new")).await.unwrap();
    assert!(vault.is_locked());
    vault.unlock(passphrase("new")).await.unwrap();
    assert_eq!(vault.get("name").await.unwrap(), Some(secret("kept")));
    // The kind that is put is never among those that are removed.
    vault.change_method(passphrase("new"), passphrase("newer"), &[UnlockMethod::Passphrase], CHEAP).await.unwrap();
    vault.check(passphrase("newer")).await.unwrap();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// Every method and one record, from a fixed seed.
async fn golden_store() -> MemoryStore {
    let store: Arc<MemoryStore> = Arc::default();
    let vault = vault(&store).await;
    vault.set_method(key_file(7), CHEAP).await.unwrap();
    vault.set_method(code(5), CHEAP).await.unwrap();
    vault.put("golden/name", secret("golden secret")).await.unwrap();
    store.snapshot()
}

const GOLDEN: &str = include_str!("golden/vault_v1.hex");

#[tokio::test]
async fn the_format_of_version_1_stands_still() {
    let written: String =
        dump(&golden_store().await).await.iter().map(|(k, v)| format!("{} {}\n", hex(k), hex(v))).collect();
    assert_eq!(written, GOLDEN);

    let store: Arc<MemoryStore> = Arc::default();
    let mut batch = Batch::new();
    for line in GOLDEN.lines() {
        let (key, value) = line.split_once(' ').unwrap();
        batch.put(unhex(key), unhex(value));
    }
    store.commit(batch, Durability::Flushed).await.unwrap();
    for unlock in [passphrase("correct horse"), key_file(7), code(5)] {
        let vault = KeyVault::new(Arc::clone(&store) as Arc<dyn KvStore>, Arc::new(SeededEntropy::new(9)));
        vault.unlock(unlock).await.unwrap();
        assert_eq!(vault.get("golden/name").await.unwrap(), Some(secret("golden secret")));
    }
}

#[tokio::test]
#[ignore = "writes the golden file"]
async fn write_golden() {
    let lines: String =
        dump(&golden_store().await).await.iter().map(|(k, v)| format!("{} {}\n", hex(k), hex(v))).collect();
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/vault_v1.hex"), lines).unwrap();
}

/// Every byte of every file below a folder.
fn raw(folder: &std::path::Path) -> Vec<u8> {
    let (mut bytes, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                bytes.extend(std::fs::read(path).unwrap());
            }
        }
    }
    bytes
}

/// The data key as each method seals it: the last 48 bytes of what is stored for it.
async fn sealed_keys(store: &RocksStore) -> Vec<Vec<u8>> {
    let slots =
        store.scan(KeyRange::prefix(&Space::Vault.key(&[&[0x01]])), Direction::Forward, usize::MAX).await.unwrap();
    slots.iter().map(|(_, value)| value[value.len() - 48..].to_vec()).collect()
}

/// What the old secret opened is on the disk no more, however it was replaced or removed. Each step is a run of its own: what
/// came before stands in files, and not only in the log.
#[tokio::test]
async fn what_an_old_secret_opened_is_destroyed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (mut gone, mut left) = (Vec::new(), Vec::new());
    for step in 0..4 {
        gone.append(&mut left);
        let store = Arc::new(RocksStore::open(path.clone()).await.unwrap());
        let vault = KeyVault::new(Arc::clone(&store) as Arc<dyn KvStore>, Arc::new(SeededEntropy::new(step)));
        match step {
            0 => vault.create(passphrase("first"), CHEAP).await.unwrap(),
            1 => vault.change_method(passphrase("first"), passphrase("second"), &[], CHEAP).await.unwrap(),
            2 => {
                vault.unlock(passphrase("second")).await.unwrap();
                vault.set_method(passphrase("third"), CHEAP).await.unwrap();
            }
            _ => {
                vault.unlock(passphrase("third")).await.unwrap();
                vault.set_method(key_file(7), CHEAP).await.unwrap();
                vault.remove_method(UnlockMethod::Passphrase).await.unwrap();
            }
        }
        left = sealed_keys(&store).await;
        store.close().await.unwrap();
        let bytes = raw(&path);
        let stands = |sealed: &Vec<u8>| bytes.windows(48).any(|part| part == sealed);
        assert_eq!(left.len(), 1);
        assert!(left.iter().all(stands), "the search finds what is stored");
        assert!(!gone.iter().any(stands), "step {step}");
    }
}
