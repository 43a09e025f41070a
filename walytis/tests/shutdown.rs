//! After a node was shut down, no task, file handle or socket of it is left in the process.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test helpers")]

use std::path::{Path, PathBuf};

use std::time::Duration;

use futures::StreamExt as _;
use walytis::app::{App, AppConfig, NetworkConfig};
use walytis::core::ledger::Content;
use walytis::view::LogQuery;

/// How long what ends by itself may take.
const PATIENCE: Duration = Duration::from_secs(10);

fn handles() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    entries.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok()).collect()
}

fn sockets() -> usize {
    handles().iter().filter(|handle| handle.to_string_lossy().starts_with("socket:")).count()
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    handles().into_iter().filter(|handle| handle.starts_with(folder)).collect()
}

fn config(folder: &Path) -> AppConfig {
    let listen = ["/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"].map(str::to_owned).to_vec();
    let network = NetworkConfig { listen, ..NetworkConfig::default() };
    AppConfig {
        data_dir: folder.to_path_buf(),
        passphrase_file: None,
        passphrase: None,
        fresh: false,
        network: Some(network),
    }
}

/// Two nodes that talk: a chain, large content, an identity, a log that is followed, an import that stands still.
async fn live(folders: [&Path; 2]) {
    let (a, b) = (App::open(config(folders[0])).await.unwrap(), App::open(config(folders[1])).await.unwrap());
    let name = format!("chain-{}", a.chain_list().await.unwrap().len());
    a.chain_create(&name, true, None).await.unwrap();
    a.chain_add(&name, Vec::new(), Content::Bytes(vec![7; 200_000].into())).await.unwrap();
    let request = walytis::view::CreateIdentity { name: format!("me-{name}"), ..Default::default() };
    a.identity_create(&request).await.unwrap();
    let address = a.status().await.unwrap().listen[0].clone();
    b.connect(&address).await.unwrap();
    let mut log = a.chain_log(&name, LogQuery { follow: true, ..LogQuery::default() }).await.unwrap();
    assert!(log.next().await.unwrap().is_ok());
    assert!(sockets() > 2 && !files_in(folders[0]).is_empty());
    a.shutdown().await;
    b.shutdown().await;
    // What ends by itself when its owner has ended: the rest of the stream.
    assert!(log.next().await.is_none_or(|item| item.is_ok() || item.is_err()));
}

#[test]
fn after_shutdown_no_task_handle_or_socket_remains() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folders = [one.path(), two.path()];
        let sockets_before = sockets();
        // What the process opens once for all, e.g. for randomness, is open after the first round.
        let mut before = usize::MAX;
        for _ in 0..3 {
            live(folders).await;
            let metrics = tokio::runtime::Handle::current().metrics();
            // Closed QUIC connections answer late packets for a moment (RFC 9000 §10.2), then their tasks end.
            let end = std::time::Instant::now() + PATIENCE;
            while (metrics.num_alive_tasks() > 0 || sockets() > sockets_before) && std::time::Instant::now() < end {
                tokio::task::yield_now().await;
            }
            assert_eq!(metrics.num_alive_tasks(), 0, "tasks are left");
            assert_eq!(sockets(), sockets_before, "sockets are left: {:?}", handles());
            for folder in folders {
                assert_eq!(files_in(folder), Vec::<PathBuf>::new());
            }
            assert!(handles().len() <= before, "{before} before: {:?}", handles());
            before = handles().len();
        }
    });
}
