//! Writing a backup of a node that runs.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use walytis_core::clock::Entropy;
use walytis_core::id::ChainId;
use walytis_core::secret::SecretBytes;
use walytis_core::store::{BlobKey, BlobSpace, BlobStatus, BlobStore, BlobStoreError, KvStore};
use walytis_identities::vault::{Argon2Settings, BackupError, BackupSealer};
use zeroize::{Zeroize as _, Zeroizing};

use super::Counts;
use super::entry_v1::{ContentName, Entry, encode};

/// Bytes after which a frame is closed; an entry of the store and a piece of a content both fit behind it.
const FRAME: usize = 1024 * 1024;
/// Bytes of a content read at once.
const PIECE: usize = 1024 * 1024;
/// Sealed frames, and pieces of the store, that wait for whoever takes them; then the writer waits.
const WAITING: usize = 4;
/// Files of the data folder that belong to the node. The vault's key file is missing where it has a passphrase.
pub(super) const FILES: [&str; 2] = ["node.key", "vault.key"];
/// Largest such file in bytes.
pub(super) const FILE_MAX: u64 = 4096;

/// What a backup is made of.
#[derive(Debug)]
pub(crate) struct Source {
    /// The data folder.
    pub(crate) data_dir: PathBuf,
    /// All rows.
    pub(crate) store: Arc<dyn KvStore>,
    /// All contents.
    pub(crate) blobs: Arc<dyn BlobStore>,
    /// Chains whose contents are looked for.
    pub(crate) chains: Vec<ChainId>,
}

/// Sealed bytes on their way; dropped, the work ends.
#[derive(Debug)]
pub(crate) struct Writing {
    frames: mpsc::Receiver<io::Result<Bytes>>,
    _work: AbortOnDropHandle<()>,
}

impl Writing {
    /// Returns the next bytes; nothing behind the last. An error ends the backup, which is of no use then.
    pub(crate) async fn next(&mut self) -> Option<io::Result<Bytes>> {
        self.frames.recv().await
    }
}

/// Begins a backup under `passphrase`.
pub(crate) async fn begin(
    source: Source,
    passphrase: SecretBytes,
    settings: Argon2Settings,
    entropy: &dyn Entropy,
) -> Result<Writing, BackupError> {
    let (sealer, header) = BackupSealer::begin(passphrase, settings, entropy).await?;
    let (out, frames) = mpsc::channel(WAITING);
    let work = tokio::spawn(async move {
        let failed = out.clone();
        let mut writer =
            Writer { sealer, out, frame: Zeroizing::new(Vec::with_capacity(2 * FRAME)), counts: Counts::default() };
        if let Err(error) = writer.run(&source, header).await {
            // Whoever reads may be gone.
            let _gone = failed.send(Err(error)).await;
        }
    });
    Ok(Writing { frames, _work: AbortOnDropHandle::new(work) })
}

struct Writer {
    sealer: BackupSealer,
    out: mpsc::Sender<io::Result<Bytes>>,
    /// What is not sealed yet.
    frame: Zeroizing<Vec<u8>>,
    counts: Counts,
}

impl Writer {
    async fn run(&mut self, source: &Source, header: Vec<u8>) -> io::Result<()> {
        self.send(header).await?;
        for name in FILES {
            let path = source.data_dir.join(name);
            match read_small(&path).await {
                Ok(bytes) => self.put(&Entry::File { name, bytes: &bytes }).await?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        self.store(&*source.store).await?;
        for chain in &source.chains {
            for space in [BlobSpace::Blob, BlobSpace::Envelope] {
                for key in source.blobs.list(space, *chain).await.map_err(io::Error::other)? {
                    self.content(&*source.blobs, key).await?;
                }
            }
        }
        let Counts { entries, contents } = self.counts;
        self.put(&Entry::End { entries, contents }).await?;
        self.close(true).await
    }

    async fn store(&mut self, store: &dyn KvStore) -> io::Result<()> {
        let (to, mut pieces) = mpsc::channel(WAITING);
        let export = store.export(to);
        let take = async {
            while let Some(piece) = pieces.recv().await {
                for (key, value) in piece {
                    self.counts.entries += 1;
                    self.put(&Entry::Stored { key: &key, value: &value }).await?;
                }
            }
            Ok(())
        };
        let (exported, taken) = futures::join!(export, take);
        taken.and(exported.map_err(io::Error::other))
    }

    async fn content(&mut self, blobs: &dyn BlobStore, key: BlobKey) -> io::Result<()> {
        let Ok(BlobStatus::Complete { len }) = blobs.status(key).await else { return Ok(()) };
        self.put(&Entry::Content(ContentName::of(&key))).await?;
        let mut offset = 0;
        while offset < len {
            match blobs.read(key, offset, PIECE).await {
                Ok(bytes) if !bytes.is_empty() => {
                    self.put(&Entry::Bytes(&bytes)).await?;
                    offset += bytes.len() as u64;
                }
                // Deleted meanwhile.
                Ok(_) | Err(BlobStoreError::Missing) => return self.put(&Entry::ContentEnd { whole: false }).await,
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        self.counts.contents += 1;
        self.put(&Entry::ContentEnd { whole: true }).await
    }

    async fn put(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        *self.frame = encode(entry, std::mem::take(&mut *self.frame));
        if self.frame.len() >= FRAME { self.close(false).await } else { Ok(()) }
    }

    async fn close(&mut self, last: bool) -> io::Result<()> {
        let sealed = self.sealer.seal(&self.frame, last).map_err(io::Error::other)?;
        self.frame.zeroize();
        self.send(sealed).await
    }

    async fn send(&self, bytes: Vec<u8>) -> io::Result<()> {
        let sent = self.out.send(Ok(bytes.into())).await;
        sent.map_err(|_| io::Error::other("whoever asked for the backup is gone"))
    }
}

async fn read_small(path: &std::path::Path) -> io::Result<Zeroizing<Vec<u8>>> {
    if tokio::fs::metadata(path).await?.len() > FILE_MAX {
        return Err(io::Error::other(format!("{} is larger than a key file", path.display())));
    }
    tokio::fs::read(path).await.map(Zeroizing::new)
}
