//! Repairing chains, those that cannot be opened too.

use tokio::sync::watch;
use tracing::info;

use super::error::{NodeError, NodeResult};
use super::lifecycle::{Node, Seat};
use super::opening::error_chain;
use super::records::{self, ChainRecord};
use crate::access::{AdmitAll, NoAccess};
use crate::block::{GenesisV1, UnverifiedBlock, Visibility};
use crate::chain::{RepairProgress, RepairReport, repair_closed};
use crate::id::ChainId;
use crate::store::{Batch, Durability, keys::Space};

/// Tag of the block files in the rows of a chain, see `docs/formats/core.md`.
const FILE: u8 = 0x02;

impl Node {
    /// Checks everything that is stored of a chain, and makes it whole again as far as its own blocks and connected peers
    /// allow. The chain is read-only meanwhile, and stays so if it is not whole: then peers that have it must be connected
    /// and the repair repeated. A crash leaves a chain that can be repaired.
    ///
    /// # Errors
    /// [`NodeError`]; what is still missing is no error but stands in the report.
    pub async fn repair(&self, id: &ChainId, progress: watch::Sender<RepairProgress>) -> NodeResult<RepairReport> {
        match self.seat(id)? {
            Seat::Open(chain) | Seat::Offline(chain) => Ok(chain.core().repair(progress).await?),
            Seat::Damaged(_) | Seat::Waiting => self.repair_unopened(id, progress).await,
            Seat::Locked => Err(NodeError::Locked),
            Seat::Importing => Err(NodeError::Busy { id: *id, what: "imported" }),
        }
    }

    /// Repairs the rows without peers, opens the chain, and repairs the rest.
    async fn repair_unopened(&self, id: &ChainId, progress: watch::Sender<RepairProgress>) -> NodeResult<RepairReport> {
        let visibility = {
            let _turn = self.turn().await?;
            // Somebody may have opened it meanwhile.
            if let Seat::Open(_) | Seat::Offline(_) = self.seat(id)? {
                return Err(NodeError::Busy { id: *id, what: "opened" });
            }
            let visibility = self.repair_record(id).await?;
            let (access, policy) = (std::sync::Arc::new(NoAccess::default()), std::sync::Arc::new(AdmitAll::default()));
            let parts = self.chain_parts(id, visibility, access, policy);
            let (_, stop) = self.work();
            let report = repair_closed(&parts, &progress, stop).await?;
            info!(chain = ?id, ?report, "rows of a chain that could not be opened repaired");
            if visibility == Visibility::Governed {
                let problem =
                    "its rows are repaired: start the node anew, so that its identity opens it, and repair again";
                return Ok(RepairReport { whole: false, problem: Some(problem.to_owned()), ..report });
            }
            visibility
        };
        match self.open_plain(id, visibility).await {
            Ok(chain) => Ok(chain.core().repair(progress).await?),
            Err(error) => {
                let reason = error_chain(&error);
                if let Some(slot) = self.slots().get_mut(id) {
                    slot.seat = Seat::Damaged(reason);
                }
                Err(error)
            }
        }
    }

    /// Returns the visibility that the record of the chain says; makes a record that cannot be read anew from the genesis
    /// block.
    async fn repair_record(&self, id: &ChainId) -> NodeResult<Visibility> {
        let store = &self.parts().store;
        let place = records::chain(id);
        let stored = store.get(&place).await?;
        match stored.map(|bytes| ChainRecord::decode(&place, &bytes)) {
            Some(Ok(record)) if record.deleting => {
                self.finish_removal(id).await?;
                self.slots().remove(id);
                return Err(NodeError::UnknownChain { text: id.to_string() });
            }
            Some(Ok(record)) => return Ok(record.visibility),
            Some(Err(error @ crate::store::StoreError::NewerSchema { .. })) => return Err(error.into()),
            _ => {}
        }
        let file = store.get(&Space::Chain.key(&[id.digest(), &[FILE], id.digest()])).await?;
        let genesis = file.and_then(|file| UnverifiedBlock::decode(file).ok()).filter(|block| block.id() == id.0);
        let genesis = genesis.and_then(|block| block.verify(id).ok());
        let stated = genesis.as_ref().and_then(|block| GenesisV1::decode(block.inline()?));
        let lost = || NodeError::Damaged { id: *id, reason: "its record and its genesis block are lost".to_owned() };
        let GenesisV1 { visibility, name, .. } = stated.ok_or_else(lost)?;
        let taken = |name: &String| self.slots().iter().any(|(other, slot)| other != id && slot.name == *name);
        let name = name.filter(|name| !taken(name)).unwrap_or_else(|| format!("chain-{}", id.short()));
        let mut batch = Batch::new();
        batch.put(place, ChainRecord { deleting: false, name: name.clone(), visibility }.encode());
        store.commit(batch, Durability::Flushed).await?;
        if let Some(slot) = self.slots().get_mut(id) {
            (slot.name, slot.visibility) = (name, visibility);
        }
        Ok(visibility)
    }
}
