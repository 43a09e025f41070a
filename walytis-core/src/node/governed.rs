//! Chains that an overlay governs.

use std::sync::Arc;

use bytes::Bytes;

use super::error::{NodeError, NodeResult};
use super::lifecycle::{Node, Seat};
use super::names::check_name;
use crate::access::{AdmissionPolicy, ChainAccess};
use crate::block::{Block, BlockDraft, DraftContent, GenesisV1, Visibility};
use crate::chain::{Chain, sign};
use crate::id::ChainId;
use crate::key::Signer;
use crate::topic::Topic;

/// What an overlay brings to a chain that it governs.
#[derive(Clone, Debug)]
pub struct Governance {
    /// Who may sync.
    pub access: Arc<dyn ChainAccess>,
    /// Which blocks may enter.
    pub policy: Arc<dyn AdmissionPolicy>,
    /// Signs what is added without another signer; nothing while the overlay cannot sign.
    pub signer: Option<Arc<dyn Signer>>,
}

/// The genesis block that an overlay wants.
#[derive(Debug)]
pub struct GovernedGenesis {
    /// Stands in the genesis block for all members to see, at most 256 bytes.
    pub chain_name: Option<String>,
    /// What the overlay keeps in the genesis block, at most 256 KiB.
    pub overlay: Bytes,
    /// At most 16; reserved ones are allowed.
    pub topics: Vec<Topic>,
    /// Who signs.
    pub signer: Arc<dyn Signer>,
}

impl Node {
    /// Signs a genesis block and stores nothing: its id is the id of the chain, which the overlay may need before
    /// [`Node::add_governed`].
    ///
    /// # Errors
    /// [`NodeError::Locked`], [`NodeError::Ledger`] if the parts are over their limits.
    pub fn sign_genesis(&self, genesis: GovernedGenesis) -> NodeResult<Block> {
        let GovernedGenesis { chain_name, overlay, topics, signer } = genesis;
        self.genesis(Visibility::Governed, chain_name, overlay, topics, &*signer)
    }

    pub(super) fn genesis(
        &self,
        visibility: Visibility,
        name: Option<String>,
        overlay: Bytes,
        topics: Vec<Topic>,
        signer: &dyn Signer,
    ) -> NodeResult<Block> {
        let mut nonce = [0; 32];
        self.parts().entropy.fill(&mut nonce);
        let content = GenesisV1 { nonce, visibility, name, overlay };
        let draft = BlockDraft {
            chain: None,
            parents: Vec::new(),
            generation: 0,
            created_at_ms: self.parts().clock.now_ms(),
            topics,
            content: DraftContent::Inline(content.encode().into()),
        };
        Ok(sign(draft, signer)?)
    }

    /// Stores a governed chain that has only its genesis block, one's own or a received one, and opens it.
    ///
    /// # Errors
    /// [`NodeError`]; then nothing is left behind.
    pub async fn add_governed(&self, genesis: &Block, name: &str, governance: Governance) -> NodeResult<Chain> {
        check_name(name)?;
        let id = genesis.chain();
        match genesis.inline().and_then(|content| GenesisV1::decode(content)) {
            Some(GenesisV1 { visibility: Visibility::Governed, .. }) if genesis.header().chain.is_none() => {}
            _ => return Err(NodeError::NotGoverned { id }),
        }
        self.store_chain(genesis, name, Visibility::Governed, None).await?;
        self.open_governed(&id, governance).await
    }

    /// Opens a stored governed chain; returns the open one if it is open already.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn open_governed(&self, id: &ChainId, governance: Governance) -> NodeResult<Chain> {
        let _turn = self.turn().await?;
        let entry = self.entry(id)?;
        if entry.visibility != Visibility::Governed {
            return Err(NodeError::NotGoverned { id: *id });
        }
        if let Seat::Open(chain) = self.seat(id)? {
            return Ok(chain);
        }
        self.open_chain(id, Visibility::Governed, governance).await
    }
}
