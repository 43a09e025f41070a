//! Chains of a node coming and going: author key, opening, storing, removing.

use std::sync::Arc;

use tracing::warn;

use super::error::{NodeError, NodeResult};
use super::governed::Governance;
use super::join_record::JoinRecord;
use super::lifecycle::{Node, Seat, Slot};
use super::records::{self, ChainRecord};
use crate::access::{AdmitAll, SecretAccess};
use crate::block::{Block, Visibility};
use crate::chain::{AuthorSlot, Chain, ChainCore, ChainParts, genesis_batch, remove_chain};
use crate::id::ChainId;
use crate::key::SigningKey;
use crate::secret::{Secret, SecretBytes};
use crate::store::{Durability, SecretError, StoreError};

/// Name of the author key's seed in the secret store.
const AUTHOR: &str = "core/author";
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
        let opened = match self.plain_governance(&id, visibility).await {
            Ok(governance) => self.open_chain(&id, visibility, governance).await,
            Err(error) => Err(error),
        };
        let seat = match opened {
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

    pub(super) async fn plain_governance(&self, id: &ChainId, visibility: Visibility) -> NodeResult<Governance> {
        let access = match visibility {
            Visibility::Public => SecretAccess::public(id),
            _ => {
                let missing = || NodeError::Damaged { id: *id, reason: "its secret is missing".to_owned() };
                SecretAccess::invited(id, &self.chain_secret(id).await?.ok_or_else(missing)?)
            }
        };
        Ok(Governance { access: Arc::new(access), policy: Arc::new(AdmitAll::default()), signer: None })
    }

    /// Opens a stored chain, sets its slot and attaches it.
    pub(super) async fn open_chain(
        &self,
        id: &ChainId,
        visibility: Visibility,
        governance: Governance,
    ) -> NodeResult<Chain> {
        let parts = self.parts();
        let core = ChainCore::open(ChainParts {
            id: *id,
            visibility,
            store: Arc::clone(&parts.store),
            blobs: Arc::clone(&parts.blobs),
            access: governance.access,
            policy: governance.policy,
            clock: Arc::clone(&parts.clock),
            entropy: Arc::clone(&parts.entropy),
            settings: parts.config.chain,
        })
        .await?;
        let author = match (visibility, governance.signer) {
            (_, Some(signer)) => signer.into(),
            (Visibility::Governed, None) => AuthorSlot::default(),
            _ => self.author_slot().clone(),
        };
        let chain = Chain::new(core.clone(), author, self.owner());
        if let Some(slot) = self.slots().get_mut(id) {
            slot.seat = Seat::Open(chain.clone());
        }
        if let Some(replication) = &parts.replication {
            replication.attach(core).await;
        }
        Ok(chain)
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
            return Err(NodeError::AlreadyHere { id });
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
        let governance = self.plain_governance(&id, visibility).await?;
        self.open_chain(&id, visibility, governance).await
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
fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
