//! Nodes without a network, and a second reader of CAR files.
#![allow(unreachable_pub, reason = "a part of a test program")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

pub mod car;

use std::io::Cursor;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};
use tokio::sync::watch;
use walytis_core::carrier::{ExportOptions, ImportError};
use walytis_core::clock::{ManualClock, SeededEntropy};
use walytis_core::id::ChainId;
use walytis_core::ledger::NewBlock;
use walytis_core::node::{ImportRequest, Imported, Node, NodeConfig, NodeParts};
use walytis_core::store::{
    BlobSpace, BlobStore as _, Direction, KeyRange, KvStore as _, MemoryBlobs, MemorySecrets, MemoryStore,
    SecretStore as _,
};

/// One node's disk.
pub struct Bench {
    pub store: Arc<MemoryStore>,
    pub blobs: Arc<MemoryBlobs>,
    pub secrets: Arc<MemorySecrets>,
}

impl Bench {
    pub fn new() -> Self {
        Self {
            store: Arc::new(MemoryStore::new()),
            blobs: Arc::new(MemoryBlobs::new()),
            secrets: Arc::new(MemorySecrets::new()),
        }
    }

    pub async fn open(&self, seed: u64) -> Node {
        Node::open(NodeParts {
            store: self.store.clone(),
            blobs: self.blobs.clone(),
            secrets: self.secrets.clone(),
            replication: None,
            clock: Arc::new(ManualClock::new(1_000)),
            entropy: Arc::new(SeededEntropy::new(seed)),
            config: NodeConfig::default(),
        })
        .await
        .unwrap()
    }

    pub async fn keys(&self) -> usize {
        self.store.scan(KeyRange { start: vec![], end: None }, Direction::Forward, 100_000).await.unwrap().len()
    }

    /// Keys of a node that was only opened.
    pub async fn opened_keys(&self) -> usize {
        self.open(1).await.shutdown().await;
        self.keys().await
    }

    pub async fn secret(&self, id: &ChainId) -> Vec<u8> {
        self.secrets.get(&format!("core/chain/{id}")).await.unwrap().unwrap().expose().to_vec()
    }

    pub async fn no_blobs(&self, id: &ChainId) -> bool {
        self.blobs.list(BlobSpace::Blob, *id).await.unwrap().is_empty()
    }
}

pub fn text(text: &str) -> NewBlock {
    NewBlock { content: text.to_owned().into(), topics: Vec::new() }
}

pub async fn export(node: &Node, id: &ChainId, options: ExportOptions) -> Vec<u8> {
    let mut export = node.export(id, options).await.unwrap();
    let mut bytes = Vec::new();
    export.reader.read_to_end(&mut bytes).await.unwrap();
    bytes
}

pub async fn import(node: &Node, file: &[u8], name: Option<&str>) -> Result<Imported, ImportError> {
    import_from(node, Box::new(Cursor::new(file.to_vec())), name).await
}

pub async fn import_from(
    node: &Node,
    reader: Box<dyn AsyncRead + Send + Unpin>,
    name: Option<&str>,
) -> Result<Imported, ImportError> {
    let name = name.map(str::to_owned);
    node.import(ImportRequest { reader, name, progress: watch::Sender::default() }).await
}

/// A reader that has nothing more and never ends.
pub struct Never;

impl AsyncRead for Never {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Poll::Pending
    }
}
