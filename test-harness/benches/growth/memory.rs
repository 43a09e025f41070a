//! How long opening takes and how much memory an open chain needs, in a process of its own.

use std::path::Path;
use std::process::Command;

use futures::StreamExt as _;
use walytis_core::ledger::{LedgerRead as _, Query};

use super::{CHILD, chain};

/// Pages read before memory is looked at again.
const PAGES: u64 = 200;
/// Bytes of a page of memory.
const MEMORY_PAGE: u64 = 4_096;

/// Runs this program again, to open the chain in `folder`.
pub(crate) fn measure(folder: &Path, blocks: u32) {
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program).env(CHILD, folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    println!("{{\"bench\":\"growth\",\"work\":\"open\",\"blocks\":{blocks},{}}}", text.trim());
}

/// What the child does.
pub(crate) async fn child(folder: &Path) {
    let empty = tempfile::tempdir().unwrap();
    let small = chain::open(empty.path()).await;
    let before = resident();
    let open = chain::open(folder).await;
    let opened = resident();
    let count = open.core.summary().count;
    for n in 0..PAGES {
        let from = count / PAGES * n;
        let query = Query { generation_from: Some(from), limit: Some(100), ..Query::default() };
        let page: Vec<_> = open.chain.query(query).await.unwrap().collect().await;
        page.into_iter().for_each(|info| assert!(info.unwrap().generation >= from));
    }
    let (store, chain) = open.took;
    println!(
        "\"store_ms\":{:.2},\"chain_ms\":{:.2},\"empty_mb\":{:.1},\"open_mb\":{:.1},\"after_20000_headers_mb\":{:.1}",
        store.as_secs_f64() * 1e3,
        chain.as_secs_f64() * 1e3,
        megabytes(before),
        megabytes(opened.saturating_sub(before)),
        megabytes(resident().saturating_sub(before)),
    );
    open.close().await;
    small.close().await;
}

pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Bytes of this process in memory; 0 where the system does not say.
pub(crate) fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).map_or(0, |pages| pages * MEMORY_PAGE)
}
