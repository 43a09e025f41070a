//! Whether everything in a data folder is as it should be. Nothing is changed.

use std::path::Path;
use std::sync::Arc;

use walytis_core::node::{ChainCheck, inspect_chains};
use walytis_core::store::{KvStore, RocksStore};

use super::App;
use crate::failure::Failure;
use crate::view;

/// Free space under which the doctor warns, in bytes. Chosen: what a store needs to compact.
const FREE_MIN: u64 = 256 * 1024 * 1024;

impl App {
    /// Looks at the chains of the open store.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn doctor(&self) -> Result<Vec<view::Check>, Failure> {
        let mut checks = vec![good("store", "it is open")];
        checks.extend(chains(&self.store).await);
        Ok(checks)
    }
}

/// Looks at a store that nobody has open; the caller holds the folder's lock.
pub(crate) async fn closed_store(data_dir: &Path) -> Vec<view::Check> {
    let folder = data_dir.join("store");
    if !folder.join("CURRENT").exists() && !folder.join("MARK").exists() {
        return vec![good("store", "there is none yet")];
    }
    let store: Arc<dyn KvStore> = match RocksStore::open(&folder).await {
        Ok(store) => Arc::new(store),
        Err(error) => return vec![failed("store", Failure::from(error))],
    };
    let mut checks = vec![good("store", "it opens")];
    checks.extend(chains(&store).await);
    if let Err(error) = store.close().await {
        checks.push(failed("store", Failure::from(error)));
    }
    checks
}

async fn chains(store: &Arc<dyn KvStore>) -> Vec<view::Check> {
    let found = match inspect_chains(store).await {
        Ok(found) => found,
        Err(error) => return vec![failed("chains", Failure::from(error))],
    };
    let check = |chain: ChainCheck| {
        let name = chain.name.unwrap_or_else(|| chain.id.to_string());
        let what = format!("chain {name}");
        match (chain.problem, chain.blocks) {
            (Some(problem), _) => view::Check {
                ok: false,
                what,
                message: problem,
                hint: format!("walytis chain repair {name}, with members connected"),
            },
            (None, Some(blocks)) => good(&what, &format!("{blocks} blocks")),
            (None, None) => good(&what, "it is being removed or imported"),
        }
    };
    found.into_iter().map(check).collect()
}

/// Looks at the folder itself: who may read what, and how much room is left.
pub(crate) fn folder(data_dir: &Path) -> Vec<view::Check> {
    let mut checks = Vec::new();
    for (name, mode) in [("", 0o700), ("node.key", 0o600), ("vault.key", 0o600), ("api.json", 0o600)] {
        let path = if name.is_empty() { data_dir.to_path_buf() } else { data_dir.join(name) };
        if let Some(check) = mode_check(&path, mode) {
            checks.push(check);
        }
    }
    if let Some(free) = free_bytes(data_dir) {
        let message = format!("{} MiB are free", free / (1024 * 1024));
        let ok = free >= FREE_MIN;
        let hint = if ok { "" } else { "make room on this disk, or move the data folder" };
        checks.push(view::Check { what: "disk".into(), ok, message, hint: hint.into() });
    }
    checks
}

#[cfg(unix)]
fn mode_check(path: &Path, most: u32) -> Option<view::Check> {
    use std::os::unix::fs::PermissionsExt as _;
    let what = path.display().to_string();
    let mode = match std::fs::metadata(path) {
        Ok(metadata) => metadata.permissions().mode() & 0o777,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => return Some(failed(&what, Failure::local(&error, "check who owns it"))),
    };
    if mode & !most == 0 {
        return Some(good(&what, &format!("mode {mode:03o}")));
    }
    let (message, hint) = (format!("others can use it: mode {mode:03o}"), format!("chmod {most:03o} {what}"));
    Some(view::Check { what, ok: false, message, hint })
}

#[cfg(not(unix))]
fn mode_check(_path: &Path, _most: u32) -> Option<view::Check> {
    None
}

#[cfg(target_os = "linux")]
fn free_bytes(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(target_os = "linux"))]
fn free_bytes(_path: &Path) -> Option<u64> {
    None
}

pub(crate) fn good(what: &str, message: &str) -> view::Check {
    view::Check { what: what.to_owned(), ok: true, message: message.to_owned(), hint: String::new() }
}

pub(crate) fn failed(what: &str, failure: Failure) -> view::Check {
    view::Check { what: what.to_owned(), ok: false, message: failure.message, hint: failure.hint }
}
