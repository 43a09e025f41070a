//! What the fetches of a chain do beside the task: looking up, checking, storing.

use bytes::Bytes;

use super::fetch::{Digests, single};
use super::plan::{Prepared, Stored};
use crate::chain::{ChainCore, leaf_digest};
use crate::id::{BlobId, Digest, PeerId};
use crate::ledger::LedgerError;
use crate::limits::{BLOB_LEAF, CONTENT_MAX};
use crate::store::{BlobStatus, BlobStoreError};
use crate::unixfs::BlobManifest;

/// Result of a job.
#[derive(Debug)]
pub(super) enum Done {
    Prepared {
        blob: BlobId,
        prepared: Result<Prepared, LedgerError>,
    },
    /// Nothing if the list was false.
    Checked {
        blob: BlobId,
        peer: PeerId,
        prepared: Result<Option<Prepared>, LedgerError>,
    },
    Stored {
        blob: BlobId,
        peer: PeerId,
        index: u32,
        stored: Result<Stored, LedgerError>,
    },
}

/// Looks up what is here of a blob, and begins it if its leaves are known.
pub(super) async fn prepare(core: ChainCore, blob: BlobId, len: u64, whole: bool) -> Done {
    Done::Prepared { blob, prepared: look_up(&core, blob, len, whole).await }
}

async fn look_up(core: &ChainCore, blob: BlobId, len: u64, whole: bool) -> Result<Prepared, LedgerError> {
    if matches!(core.blobs().status(core.blob_key(&blob)).await?, BlobStatus::Complete { .. }) {
        core.blob_complete(&blob).await?;
        return Ok(Prepared::Complete);
    }
    let fits = len > 0 && len <= CONTENT_MAX;
    if let Some(digests) = single(&blob) {
        let fits = fits && len <= BLOB_LEAF as u64;
        return Ok(if fits { Prepared::Leaves { digests, missing: vec![0] } } else { Prepared::Impossible });
    }
    if !fits {
        return Ok(Prepared::Impossible);
    }
    match core.manifest(&blob).await? {
        Some(manifest) if manifest.verify(&blob, len).is_ok() => begin(core, blob, &manifest, whole).await,
        _ => Ok(Prepared::Unknown),
    }
}

async fn begin(core: &ChainCore, blob: BlobId, manifest: &BlobManifest, whole: bool) -> Result<Prepared, LedgerError> {
    let chunk = u32::try_from(BLOB_LEAF).unwrap_or(u32::MAX);
    let (blobs, key) = (core.blobs(), core.blob_key(&blob));
    let status = if whole {
        blobs.begin(key, manifest.len(), chunk).await?
    } else {
        blobs.begin_sparse(key, manifest.len(), chunk).await?
    };
    let digests: Digests = manifest.leaves().iter().map(|digest| digest.0).collect();
    let missing = match status {
        BlobStatus::Partial { have, .. } => (0u32..).zip(have).filter(|(_, have)| !have).map(|(at, _)| at).collect(),
        BlobStatus::Absent => (0u32..).take(digests.len()).collect(),
        BlobStatus::Complete { .. } => {
            core.blob_complete(&blob).await?;
            return Ok(Prepared::Complete);
        }
    };
    Ok(Prepared::Leaves { digests, missing })
}

/// Checks a list of digests against the root, stores it and begins the blob.
pub(super) async fn check(
    core: ChainCore,
    blob: BlobId,
    len: u64,
    digests: Vec<[u8; 32]>,
    peer: PeerId,
    whole: bool,
) -> Done {
    let manifest = BlobManifest::new(len, digests.into_iter().map(Digest).collect());
    let prepared = match manifest {
        Ok(manifest) if manifest.root() == blob => match core.put_manifest(&blob, &manifest).await {
            Ok(()) => begin(&core, blob, &manifest, whole).await.map(Some),
            Err(error) => Err(error),
        },
        _ => Ok(None),
    };
    Done::Checked { blob, peer, prepared }
}

/// Verifies a leaf and stores it.
pub(super) async fn store(
    core: ChainCore,
    blob: BlobId,
    index: u32,
    bytes: Bytes,
    digest: [u8; 32],
    peer: PeerId,
) -> Done {
    let stored = verify_and_store(&core, blob, index, bytes, digest).await;
    Done::Stored { blob, peer, index, stored }
}

async fn verify_and_store(
    core: &ChainCore,
    blob: BlobId,
    index: u32,
    bytes: Bytes,
    digest: [u8; 32],
) -> Result<Stored, LedgerError> {
    if leaf_digest(bytes.clone()).await?.0 != digest {
        return Ok(Stored::False);
    }
    let (blobs, key) = (core.blobs(), core.blob_key(&blob));
    let status = if single(&blob).is_some() {
        // The whole at once: nothing has to be reserved and noted for it.
        let len = bytes.len() as u64;
        let mut draft = blobs.draft().await?;
        draft.append(bytes).await?;
        draft.finish(key).await?;
        BlobStatus::Complete { len }
    } else {
        match blobs.write(key, index, bytes).await {
            Err(BlobStoreError::Missing) => return Ok(Stored::Gone),
            // The digest was right, so this is not the peer's doing.
            other => other?,
        }
    };
    let complete = matches!(status, BlobStatus::Complete { .. });
    if complete {
        core.blob_complete(&blob).await?;
    }
    core.blob_progressed();
    Ok(if complete { Stored::Complete } else { Stored::Partial })
}
