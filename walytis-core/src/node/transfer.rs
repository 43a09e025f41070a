//! Chains leaving as files, and coming back.
//!
//! A new chain is imported as a whole or not at all: its record says "being removed" until everything is here and
//! verified, so that a crash, a bad file or a full disk leaves nothing behind. A chain that is here already gets what
//! the file has beside, block by block, as from a peer.

use std::fmt;
use std::sync::Arc;

use tokio::io::AsyncRead;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::error::{NodeError, NodeResult};
use super::lifecycle::{Node, Seat, Slot};
use super::names::check_name;
use super::opening::secret_name;
use super::records::{self, ChainRecord};
use crate::access::{AdmitAll, NoAccess};
use crate::block::{Block, Visibility};
use crate::carrier::{
    self, CarrierProgress, Export, ExportOptions, ImportError, Manifest, Opening, Sections, Taken, Target,
};
use crate::chain::{ChainCore, genesis_batch};
use crate::id::ChainId;
use crate::secret::SecretBytes;
use crate::store::{Batch, Durability, KeyRange, keys::Space};

/// What to import.
pub struct ImportRequest {
    /// The file.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// Local name of a new chain; without one that of its genesis block.
    pub name: Option<String>,
    /// Told how far it is.
    pub progress: watch::Sender<CarrierProgress>,
}

impl fmt::Debug for ImportRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImportRequest").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What came of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The chain.
    pub id: ChainId,
    /// Blocks in the file.
    pub blocks: u64,
    /// Blocks that were not here before.
    pub new_blocks: u64,
    /// Blocks that the identity of the chain does not admit yet; they are not kept.
    pub waiting: u64,
    /// Contents that were not here before.
    pub new_contents: u64,
    /// Contents that the file does not have.
    pub missing_contents: u64,
    /// The chain was here before.
    pub merged: bool,
    /// This node can take part in the chain.
    pub access: bool,
}

impl Node {
    /// Writes an open chain as a CAR file, streamed: the blocks that are here now in canonical order, then contents.
    ///
    /// # Errors
    /// [`NodeError`]; [`NodeError::NoAccess`] and [`NodeError::Locked`] if access is asked for and cannot be given.
    pub async fn export(&self, id: &ChainId, options: ExportOptions) -> NodeResult<Export> {
        let chain = self.chain_by_id(id)?;
        let mut access = None;
        if options.with_access && self.entry(id)?.visibility == Visibility::Invited {
            access = Some(self.chain_secret(id).await?.ok_or(NodeError::NoAccess { id: *id })?);
        } else if options.with_access && self.entry(id)?.visibility == Visibility::Governed {
            return Err(NodeError::Governed { id: *id });
        }
        Ok(carrier::export(chain.core(), options.blobs, access).await?)
    }

    /// Reads a chain from a CAR file that [`Node::export`] wrote, and verifies every block and content like a peer's.
    /// Dropped, it stops and cleans up behind itself; call it within a runtime.
    ///
    /// # Errors
    /// [`ImportError`]. Of a chain that was not here before nothing is kept; of another one what was verified before.
    pub async fn import(&self, request: ImportRequest) -> Result<Imported, ImportError> {
        let (work, stop) = self.work();
        let stop = stop.child_token();
        let _stop = stop.clone().drop_guard();
        let node = self.clone();
        let task = work.spawn(async move { node.run_import(request, &stop).await });
        task.await.unwrap_or(Err(ImportError::Stopped))
    }

    async fn run_import(&self, request: ImportRequest, stop: &CancellationToken) -> Result<Imported, ImportError> {
        let ImportRequest { reader, name, progress } = request;
        let opening = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(ImportError::Stopped),
            opening = Opening::read(Sections::new(reader)) => opening?,
        };
        let id = opening.manifest.chain;
        let here = self.slots().get(&id).map(|slot| slot.seat.clone());
        match here {
            None => self.import_new(opening, name, &progress, stop).await,
            Some(_) => self.merge(opening, &progress, stop).await,
        }
    }

    /// Adds what a file has to a chain that is here.
    async fn merge(
        &self,
        opening: Opening,
        progress: &watch::Sender<CarrierProgress>,
        stop: &CancellationToken,
    ) -> Result<Imported, ImportError> {
        let manifest = opening.manifest.clone();
        let id = manifest.chain;
        let mut taken = Taken::default();
        let chain = self.chain_by_id(&id)?;
        if let Some(reason) = chain.core().damage() {
            return Err(NodeError::Damaged { id, reason }.into());
        }
        let target = Target { core: chain.core(), fresh: false, progress, stop };
        read(opening, &target, &mut taken, stop).await?;
        if let (Seat::Offline(_), Some(secret)) = (self.seat(&id)?, &manifest.access) {
            self.grant(&id, secret).await?;
        }
        let access = !matches!(self.seat(&id)?, Seat::Offline(_));
        info!(chain = ?id, new = taken.blocks, "chain merged with a file");
        Ok(imported(&manifest, taken, true, access))
    }

    /// Takes in a chain that is not here.
    async fn import_new(
        &self,
        opening: Opening,
        name: Option<String>,
        progress: &watch::Sender<CarrierProgress>,
        stop: &CancellationToken,
    ) -> Result<Imported, ImportError> {
        let manifest = opening.manifest.clone();
        let id = manifest.chain;
        if manifest.visibility == Visibility::Governed {
            return Err(ImportError::Identity { id });
        }
        let name = name.or_else(|| manifest.name.clone()).unwrap_or_else(|| format!("chain-{}", id.short()));
        check_name(&name)?;
        self.begin_import(&manifest, &opening.genesis.clone(), &name).await?;
        match self.fill(opening, &name, progress, stop).await {
            Ok(taken) => {
                self.try_open(id, manifest.visibility).await;
                let access = matches!(self.seat(&id)?, Seat::Open(_));
                info!(chain = ?id, blocks = taken.blocks, "chain imported");
                Ok(imported(&manifest, Taken { blocks: taken.blocks + 1, ..taken }, false, access))
            }
            Err(error) => {
                self.end_import(&id).await;
                Err(error)
            }
        }
    }

    /// Reserves id and name, and stores the genesis block of a chain that counts as being removed.
    async fn begin_import(&self, manifest: &Manifest, genesis: &Block, name: &str) -> NodeResult<()> {
        let (id, visibility) = (manifest.chain, manifest.visibility);
        let _turn = self.turn().await?;
        {
            let mut slots = self.slots();
            if slots.contains_key(&id) {
                return Err(NodeError::AlreadyHere { id });
            }
            if slots.values().any(|slot| slot.name == name) {
                return Err(NodeError::NameTaken { name: name.to_owned() });
            }
            slots.insert(id, Slot { name: name.to_owned(), visibility, seat: Seat::Importing });
        }
        let record = ChainRecord { deleting: true, name: name.to_owned(), visibility };
        let mut batch = Batch::new();
        // Whatever an older failure left under this id.
        batch.delete_range(KeyRange::prefix(&Space::Chain.key(&[id.digest()])));
        batch.append(genesis_batch(genesis));
        batch.put(records::chain(&id), record.encode());
        if let Err(error) = self.parts().store.commit(batch, Durability::Flushed).await {
            self.slots().remove(&id);
            return Err(error.into());
        }
        Ok(())
    }

    /// Reads everything, and makes the chain count once it is whole.
    async fn fill(
        &self,
        opening: Opening,
        name: &str,
        progress: &watch::Sender<CarrierProgress>,
        stop: &CancellationToken,
    ) -> Result<Taken, ImportError> {
        let manifest = opening.manifest.clone();
        let (id, visibility) = (manifest.chain, manifest.visibility);
        let (access, policy) = (Arc::new(NoAccess::default()), Arc::new(AdmitAll::default()));
        let core = ChainCore::open(self.chain_parts(&id, visibility, access, policy)).await?;
        let mut taken = Taken::default();
        let target = Target { core: &core, fresh: true, progress, stop };
        let done = read(opening, &target, &mut taken, stop).await;
        // Also flushes; whatever happened, its task must be gone before the rows are.
        core.shutdown().await;
        done?;
        if let Some(secret) = &manifest.access {
            let secret = SecretBytes::new(secret.expose().to_vec());
            self.parts().secrets.put(&secret_name(&id), secret).await.map_err(NodeError::from)?;
        }
        let record = ChainRecord { deleting: false, name: name.to_owned(), visibility };
        let mut batch = Batch::new();
        batch.put(records::chain(&id), record.encode());
        self.parts().store.commit(batch, Durability::Flushed).await.map_err(NodeError::from)?;
        Ok(taken)
    }

    /// Leaves nothing of an import that failed; what cannot be removed now goes at the next start.
    async fn end_import(&self, id: &ChainId) {
        if let Err(error) = self.finish_removal(id).await {
            warn!(chain = ?id, %error, "the rest of a failed import is removed at the next start");
        }
        self.slots().remove(id);
    }
}

/// Reads the file until it ends or is not wanted any more.
async fn read(
    opening: Opening,
    target: &Target<'_>,
    taken: &mut Taken,
    stop: &CancellationToken,
) -> Result<(), ImportError> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(ImportError::Stopped),
        done = carrier::take_in(opening, target, taken) => done,
    }
}

const fn imported(manifest: &Manifest, taken: Taken, merged: bool, access: bool) -> Imported {
    Imported {
        id: manifest.chain,
        blocks: manifest.blocks,
        new_blocks: taken.blocks,
        waiting: taken.waiting,
        new_contents: taken.blobs,
        missing_contents: manifest.blobs_missing,
        merged,
        access,
    }
}
