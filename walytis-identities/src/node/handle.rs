//! One identity of this node as other layers see it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;
use walytis_core::chain::{Chain, ChainCore};
use walytis_core::id::{BlockId, ChainId, PeerId};
use walytis_core::key::{PublicKey, SignError, Signature, Signer};
use walytis_core::ledger::LedgerError;
use walytis_core::secret::Secret;

use super::shared::Shared;
use crate::bound::RecordRules;
use crate::crypto::DeviceKeys;
use crate::epoch::EpochView;
use crate::id::{ControllerId, DeviceId, Did, EpochId, OpId, Role};
use crate::identity::{EpochUse, Identity, IdentityError, Judgement, RecordRef};
use crate::signed::IdentitySignature;
use crate::state::RecordVerdict;

/// Blocks whose parents are read at once while an ancestor is looked for.
const STEP: usize = 256;

/// One identity of this node. Cheap to clone.
#[derive(Clone)]
pub struct IdentityHandle {
    pub(super) shared: Arc<Shared>,
    pub(super) chain: Chain,
}

impl fmt::Debug for IdentityHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityHandle({:?})", self.shared.did)
    }
}

impl IdentityHandle {
    /// Returns the chain whose records it judges: the identity's own, unless it was asked for another one.
    pub const fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Returns the signer of the device's blocks, usable whenever the vault is open.
    pub(super) fn signer(shared: &Arc<Shared>) -> Arc<dyn Signer> {
        Arc::new(DeviceSigner(Arc::clone(shared)))
    }

    /// Returns the role in which this device acts, itself or for another identity; nothing once it has been removed or has
    /// left.
    pub fn role(&self) -> Option<Role> {
        self.shared.my_role()
    }

    /// Returns the role that a controller has now; nothing if it has none.
    pub fn role_of(&self, controller: &ControllerId) -> Option<Role> {
        self.shared.known().graph.state().role(controller)
    }

    /// Returns the role that a controller had as of some authority heads; nothing if it had none. It never changes.
    ///
    /// # Errors
    /// The heads that are not here yet.
    pub fn role_at(&self, controller: &ControllerId, heads: &[OpId]) -> Result<Option<Role>, Vec<OpId>> {
        Ok(self.shared.known().graph.state_at(heads)?.role(controller))
    }
}

/// Signs with whatever key of the device is in force; fails while the vault is locked.
#[derive(Debug)]
struct DeviceSigner(Arc<Shared>);

/// Signs with one key of the device, though another may be in force since: whoever asks for the public key and a signature
/// gets both of the same pair. Fails while the vault is locked.
#[derive(Debug)]
struct KeySigner {
    shared: Arc<Shared>,
    keys: Arc<DeviceKeys>,
}

impl Signer for KeySigner {
    fn public_key(&self) -> PublicKey {
        self.keys.public_key()
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        if self.shared.is_locked() {
            return Err(SignError::Locked);
        }
        self.keys.sign(message)
    }
}

impl Signer for DeviceSigner {
    fn public_key(&self) -> PublicKey {
        match self.0.keys() {
            Ok(keys) => keys.public_key(),
            // The ops here always show the own device. Under the zero key nothing verifies.
            Err(_) => self.0.block_key().unwrap_or(PublicKey::Ed25519([0; 32])),
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        self.0.keys().map_err(|_| SignError::Locked)?.sign(message)
    }
}

#[async_trait]
impl Identity for IdentityHandle {
    fn did(&self) -> Did {
        self.shared.did
    }

    fn device(&self) -> DeviceId {
        self.shared.me
    }

    fn controller(&self) -> ControllerId {
        self.shared.controller()
    }

    fn device_signer(&self) -> Arc<dyn Signer> {
        match self.shared.keys() {
            Ok(keys) => Arc::new(KeySigner { shared: Arc::clone(&self.shared), keys }),
            Err(_) => Self::signer(&self.shared),
        }
    }

    fn rules(&self, chain: &ChainId) -> Option<RecordRules> {
        if *chain != self.chain.core().id() {
            return None;
        }
        if *chain == self.shared.did.chain() { Some(RecordRules::default()) } else { self.shared.bound.rules(chain) }
    }

    async fn auth_heads(&self) -> Vec<OpId> {
        self.shared.known().graph.named_heads()
    }

    async fn sending_epoch(&self) -> Result<EpochId, IdentityError> {
        let mut known = self.shared.known();
        let state = known.graph.state();
        let refused = |reason: &str| IdentityError::Refused { reason: reason.to_owned() };
        if state.deactivated.is_some() {
            return Err(refused(super::author::DEACTIVATED));
        }
        if self.shared.is_archived() {
            return Err(refused(super::author::ARCHIVED));
        }
        match self.shared.role_in(&state) {
            None => return Err(refused("this device is no controller of the identity any more")),
            Some(role) if !role.writes() => {
                return Err(refused(&format!("this device is {role} of the identity, and that role does not write")));
            }
            Some(_) => {}
        }
        let epoch = state.sending_epoch.ok_or(IdentityError::NoSendingEpoch)?;
        self.shared.keys().map_err(|_| IdentityError::Locked)?;
        let held = known.ring.get(&epoch).is_some_and(|secrets| secrets.epoch.is_some());
        if held { Ok(epoch) } else { Err(IdentityError::NoEpochSecret { epoch }) }
    }

    async fn derive(&self, epoch: &EpochId, purpose: EpochUse) -> Result<Secret<32>, IdentityError> {
        self.shared.keys().map_err(|_| IdentityError::Locked)?;
        let known = self.shared.known();
        let missing = || IdentityError::NoEpochSecret { epoch: *epoch };
        let op = known.graph.op(epoch).ok_or_else(missing)?;
        let view = EpochView::of(op.core()).ok_or_else(missing)?;
        known.ring.get(epoch).and_then(|secrets| view.derive(secrets, purpose)).ok_or_else(missing)
    }

    async fn judge(&self, record: &RecordRef) -> Judgement {
        let verdict = self.shared.known().graph.judge(&self.chain.core().id(), record);
        match verdict {
            RecordVerdict::Valid => Judgement::Valid,
            RecordVerdict::Void(rule) => Judgement::Void(rule.number()),
            RecordVerdict::Wait(_) => Judgement::Wait,
            RecordVerdict::Within(cuts) => {
                for cut in cuts {
                    match is_within(self.chain.core(), &record.block, &cut).await {
                        Ok(Some(true)) => {}
                        Ok(Some(false)) => return Judgement::Void(crate::state::Rule::BeyondCut.number()),
                        // Not all of it is here, or it cannot be read now: asked again when something changes.
                        Ok(None) | Err(_) => return Judgement::Wait,
                    }
                }
                Judgement::Valid
            }
        }
    }

    async fn controllers_at(&self, heads: Option<&[OpId]>) -> Option<Vec<(ControllerId, Role)>> {
        let mut known = self.shared.known();
        let state = match heads {
            None => known.graph.state(),
            Some(heads) => known.graph.state_at(heads).ok()?,
        };
        Some(state.controllers.values().map(|controller| (controller.id, controller.role)).collect())
    }

    async fn may_read(&self, peer: &PeerId, epoch: &EpochId) -> bool {
        let Some(device) = self.shared.device_of(peer).filter(|_| !self.shared.is_archived()) else { return false };
        let mut known = self.shared.known();
        let controller = known.graph.state().controller_of(&device).map(|controller| (controller.id, controller.role));
        match controller {
            None => false,
            // It stores and serves what it cannot open, from whatever time.
            Some((_, Role::Keeper)) => known.graph.op(epoch).is_some_and(|op| op.core().op.epoch().is_some()),
            Some((controller, _)) => known.graph.share_of(&controller, epoch).epoch,
        }
    }

    async fn peers(&self) -> Vec<PeerId> {
        if self.shared.is_archived() {
            return Vec::new();
        }
        self.shared.peers()
    }

    async fn sign(&self, context: &str, message: &[u8]) -> Result<IdentitySignature, IdentityError> {
        let keys = self.shared.keys().map_err(|_| IdentityError::Locked)?;
        if !self.shared.my_role().is_some_and(Role::writes) {
            return Err(IdentityError::Refused { reason: "this device may not sign for the identity".to_owned() });
        }
        let known = self.shared.known();
        IdentitySignature::sign(&known.graph, &keys, context, message, &*self.shared.tools.entropy)
            .map_err(|error| IdentityError::Refused { reason: error.to_string() })
    }

    async fn verify(
        &self,
        signature: &IdentitySignature,
        context: &str,
        message: &[u8],
    ) -> Option<(ControllerId, PublicKey)> {
        let mut known = self.shared.known();
        let signer = signature.verify(&mut known.graph, context, message).ok()?.controller;
        let then = known.graph.state_at(&signature.auth_heads).ok()?;
        Some((signer, then.device(&signature.device)?.block_key()))
    }

    async fn first_key(&self, author: &ControllerId, key: PublicKey) -> PublicKey {
        let state = self.shared.state();
        let of = state.controllers.get(author);
        let device = of.and_then(|of| of.devices().find(|(_, device)| device.block_keys.contains(&key)));
        device.map_or(key, |(_, device)| device.first.block_key())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes()
    }
}

/// Says whether `block` is one of `heads` or an ancestor of one; nothing if that cannot be told yet, because a block of
/// them is not here. Walks down only to the block's generation.
async fn is_within(core: &ChainCore, block: &BlockId, heads: &[BlockId]) -> Result<Option<bool>, LedgerError> {
    if heads.contains(block) {
        return Ok(Some(true));
    }
    let Some(target) = core.node(block).await? else { return Ok(None) };
    let mut seen: BTreeSet<BlockId> = heads.iter().copied().collect();
    let mut open: Vec<BlockId> = heads.to_vec();
    let mut complete = true;
    while !open.is_empty() {
        let step: Vec<BlockId> = open.split_off(open.len().saturating_sub(STEP));
        for node in core.nodes(&step).await? {
            let Some(node) = node else {
                complete = false;
                continue;
            };
            if node.generation <= target.generation {
                continue;
            }
            for parent in node.parents.iter() {
                if parent == block {
                    return Ok(Some(true));
                }
                if seen.insert(*parent) {
                    open.push(*parent);
                }
            }
        }
    }
    Ok(complete.then_some(false))
}
