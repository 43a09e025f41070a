//! Chains of a node coming and going: author key, opening, storing, removing.

use std::sync::Arc;

use tracing::warn;

use super::error::{NodeError, NodeResult};
use super::governed::Governance;
use super::join_record::JoinRecord;
use super::lifecycle::{Node, Seat, Slot};
use super::records::{self, ChainRecord};
use crate::access::{AdmissionPolicy, AdmitAll, ChainAccess, NoAccess, SecretAccess};
use crate::block::{Block, Visibility};
use crate::chain::{AuthorSlot, Chain, ChainCore, ChainParts, genesis_batch, remove_chain};
use crate::id::ChainId;
use crate::key::SigningKey;
use crate::secret::{Secret, SecretBytes};
use crate::store::keys::Space;
use crate::store::{Batch, Durability, KeyRange, SecretError, StoreError};

/// Name of the author key's seed in the secret store.
const AUTHOR: &str = "core/author";
/// Why nothing can be added to a chain without its secret.
const NO_ACCESS: &str = "this copy is for reading: its secret is not here; join the chain to take part";
/// What the names of chain secrets begin with.
const CHAIN_SECRETS: &str = "core/chain/";

impl Node {
    pub(super) async fn load_author(&self) -> NodeResult<()> {
        if self.author_slot().get().is_some() {
            return Ok(());
        }
        let secrets = &self.parts().secrets;
        let key = match secrets.get(AUTHOR).await {
            Err(SecretError::Locked) => return Ok(()),
            Err(error) => return Err(error.into()),
            Ok(Some(seed)) => {
                let seed = Secret::from_slice(seed.expose()).ok_or(NodeError::Secret(SecretError::Damaged))?;
                SigningKey::from_seed(&seed)
            }
            Ok(None) => {
                let mut seed = zeroize::Zeroizing::new([0; 32]);
                self.parts().entropy.fill(seed.as_mut());
                match secrets.put(AUTHOR, SecretBytes::new(seed.to_vec())).await {
                    Err(SecretError::Locked) => return Ok(()),
                    done => done?,
                }
                SigningKey::from_seed(&Secret::new(*seed))
            }
        };
        self.author_slot().set(Arc::new(key));
        Ok(())
    }

    /// Lists a stored chain and opens it if that needs nobody else.
    pub(super) async fn load(&self, id: ChainId, record: Result<ChainRecord, StoreError>) {
        let record = match record {
            Ok(record) if record.deleting => {
                if let Err(error) = self.finish_removal(&id).await {
                    // It is tried again at the next start; the other chains must not wait for it.
                    warn!(chain = ?id, %error, "a removal could not be finished");
                    let reason = format!("its removal could not be finished: {}", error_chain(&error));
                    let seat = Seat::Damaged(reason);
                    self.slots().insert(id, Slot { name: record.name, visibility: record.visibility, seat });
                }
                return;
            }
            Ok(record) => record,
            Err(error) => {
                warn!(chain = ?id, %error, "the record of a chain is damaged or newer");
                let seat = Seat::Damaged(error.to_string());
                self.slots().insert(id, Slot { name: id.short(), visibility: Visibility::Invited, seat });
                return;
            }
        };
        let visibility = record.visibility;
        self.slots().insert(id, Slot { name: record.name, visibility, seat: Seat::Waiting });
        if visibility != Visibility::Governed {
            self.try_open(id, visibility).await;
        }
    }

    /// Opens a plain chain; what prevents it is noted in its slot.
    pub(super) async fn try_open(&self, id: ChainId, visibility: Visibility) {
        let seat = match self.open_plain(&id, visibility).await {
            Ok(_) => return,
            Err(NodeError::Locked) => Seat::Locked,
            Err(error) => {
                warn!(chain = ?id, %error, "chain cannot be opened");
                Seat::Damaged(error_chain(&error))
            }
        };
        if let Some(slot) = self.slots().get_mut(&id) {
            slot.seat = seat;
        }
    }

    /// Opens a stored plain chain: without its secret for reading only.
    pub(super) async fn open_plain(&self, id: &ChainId, visibility: Visibility) -> NodeResult<Chain> {
        let access = match visibility {
            Visibility::Public => Some(SecretAccess::public(id)),
            _ => self.chain_secret(id).await?.map(|secret| SecretAccess::invited(id, &secret)),
        };
        let policy = Arc::new(AdmitAll::default());
        if let Some(access) = access {
            let governance = Governance { access: Arc::new(access), policy, signer: None };
            return self.open_chain(id, visibility, governance).await;
        }
        let core = ChainCore::open(self.chain_parts(id, visibility, Arc::new(NoAccess::default()), policy)).await?;
        let chain = Chain::new(core, self.author_slot().clone(), self.owner()).read_only(NO_ACCESS);
        if let Some(slot) = self.slots().get_mut(id) {
            slot.seat = Seat::Offline(chain.clone());
        }
        Ok(chain)
    }

    /// Returns what a chain is opened with.
    pub(super) fn chain_parts(
        &self,
        id: &ChainId,
        visibility: Visibility,
        access: Arc<dyn ChainAccess>,
        policy: Arc<dyn AdmissionPolicy>,
    ) -> ChainParts {
        let parts = self.parts();
        ChainParts {
            id: *id,
            visibility,
            store: Arc::clone(&parts.store),
            blobs: Arc::clone(&parts.blobs),
            access,
            policy,
            clock: Arc::clone(&parts.clock),
            entropy: Arc::clone(&parts.entropy),
            settings: parts.config.chain,
        }
    }

    /// Opens a stored chain, sets its slot and attaches it.
    pub(super) async fn open_chain(
        &self,
        id: &ChainId,
        visibility: Visibility,
        governance: Governance,
    ) -> NodeResult<Chain> {
        let Governance { access, policy, signer } = governance;
        let core = ChainCore::open(self.chain_parts(id, visibility, access, policy)).await?;
        let author = match (visibility, signer) {
            (_, Some(signer)) => signer.into(),
            (Visibility::Governed, None) => AuthorSlot::default(),
            _ => self.author_slot().clone(),
        };
        let chain = Chain::new(core.clone(), author, self.owner());
        if let Some(slot) = self.slots().get_mut(id) {
            slot.seat = Seat::Open(chain.clone());
        }
        if let Some(replication) = &self.parts().replication {
            replication.attach(core).await;
        }
        Ok(chain)
    }

    /// Gives a chain that is here for reading only its secret, and opens it anew.
    pub(super) async fn grant(&self, id: &ChainId, secret: &Secret<32>) -> NodeResult<Chain> {
        let _turn = self.turn().await?;
        let Seat::Offline(chain) = self.seat(id)? else { return Err(NodeError::AlreadyHere { id: *id }) };
        self.parts().secrets.put(&secret_name(id), SecretBytes::new(secret.expose().to_vec())).await?;
        chain.core().shutdown().await;
        self.open_plain(id, Visibility::Invited).await
    }

    pub(super) async fn take_in(
        &self,
        genesis: &Block,
        name: &str,
        visibility: Visibility,
        secret: Option<Secret<32>>,
        join: Option<&JoinRecord>,
    ) -> NodeResult<Chain> {
        let id = genesis.chain();
        if self.slots().contains_key(&id) {
            return match (self.seat(&id)?, &secret) {
                (Seat::Offline(_), Some(secret)) => self.grant(&id, secret).await,
                _ => Err(NodeError::AlreadyHere { id }),
            };
        }
        if let (Visibility::Invited, Some(secret)) = (visibility, &secret) {
            // Before the record: a chain without its secret would be useless, a secret without a chain is swept away.
            self.parts().secrets.put(&secret_name(&id), SecretBytes::new(secret.expose().to_vec())).await?;
        }
        if let Err(error) = self.store_chain(genesis, name, visibility, join).await {
            // A failed commit may have been applied after all: then the chain needs its secret. If it was not, the next
            // start sweeps the secret away.
            if !matches!(error, NodeError::Store(_)) && !self.slots().contains_key(&id) {
                self.parts().secrets.delete(&secret_name(&id)).await?;
            }
            return Err(error);
        }
        self.open_plain(&id, visibility).await
    }

    /// Stores genesis block, record, name and what is to come in one commit, and lists the chain.
    pub(super) async fn store_chain(
        &self,
        genesis: &Block,
        name: &str,
        visibility: Visibility,
        join: Option<&JoinRecord>,
    ) -> NodeResult<()> {
        let id = genesis.chain();
        let _turn = self.turn().await?;
        {
            let slots = self.slots();
            if slots.contains_key(&id) {
                return Err(NodeError::AlreadyHere { id });
            }
            if slots.values().any(|slot| slot.name == name) {
                return Err(NodeError::NameTaken { name: name.to_owned() });
            }
        }
        let record = ChainRecord { deleting: false, name: name.to_owned(), visibility };
        let mut batch = genesis_batch(genesis);
        batch.put(records::chain(&id), record.encode());
        if let Some(join) = join {
            batch.put(records::join(&id), join.encode());
        }
        self.parts().store.commit(batch, Durability::Flushed).await?;
        self.slots().insert(id, Slot { name: name.to_owned(), visibility, seat: Seat::Waiting });
        Ok(())
    }

    pub(super) async fn finish_removal(&self, id: &ChainId) -> NodeResult<()> {
        let parts = self.parts();
        let mut batch = remove_chain(&*parts.blobs, id).await?;
        match parts.secrets.delete(&secret_name(id)).await {
            // It is swept away at the first start with an open vault.
            Ok(()) | Err(SecretError::Locked) => {}
            Err(error) => return Err(error.into()),
        }
        batch.delete_range(records::invitations(id));
        batch.delete(records::join(id));
        parts.store.commit(batch, Durability::Flushed).await?;
        // The record goes last: a crash before that makes the next start do all of this again.
        let rows = KeyRange::prefix(&Space::Chain.key(&[id.digest()]));
        for range in [rows, records::invitations(id)] {
            if let Err(error) = parts.store.reclaim(range).await {
                warn!(chain = ?id, %error, "the space of a removed chain could not be given back");
            }
        }
        let mut batch = Batch::new();
        batch.delete(records::chain(id));
        Ok(parts.store.commit(batch, Durability::Flushed).await?)
    }

    /// Removes secrets of chains that are not here: a crash came before the chain or after it.
    pub(super) async fn remove_stray_secrets(&self) -> NodeResult<()> {
        let secrets = &self.parts().secrets;
        let names = match secrets.list(CHAIN_SECRETS).await {
            Err(SecretError::Locked) => return Ok(()),
            names => names?,
        };
        let kept: Vec<String> = self.slots().keys().map(secret_name).collect();
        for name in names.iter().filter(|name| !kept.contains(name)) {
            match secrets.delete(name).await {
                Ok(()) | Err(SecretError::Locked) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

pub(super) fn secret_name(id: &ChainId) -> String {
    format!("{CHAIN_SECRETS}{id}")
}

/// Returns an error with its causes in one line.
pub(super) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
