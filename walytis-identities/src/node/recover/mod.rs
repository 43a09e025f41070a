//! Starting over with the recovery code: on a node that has a device of the identity, or had one, and on a new node that
//! knows a contact card.
//!
//! ```text
//!  new node                                     nodes of controllers
//!  resolve ───────────────────────────────────►  genesis block and ops, as for anybody
//!  recovery key's proof (/walytis/recovery/1) ─►
//!        ◄────────────────────────────────────  heads of the chain: what has been written up to now shall count
//!  Recover, then exchanges ───────────────────►  they see that it counts, and go on with the new device
//! ```
//!
//! Without the heads everything that was ever written would be void: a `Recover` says what of anybody's writing counts.

mod ask;
mod serve;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tracing::{debug, info};
use walytis_core::id::{BlockId, ChainId, PeerId};
use walytis_core::net::Protocol;
use walytis_core::store::Batch;

pub(super) use serve::answer;

use super::author::Draft;
use super::error::{IdentitiesError, IdentitiesResult};
use super::open::{check_device_name, load, new_record};
use super::runtime::Identities;
use super::{exchange, records, ring};
use crate::contact::ContactCard;
use crate::crypto::DeviceKeys;
use crate::id::{ControllerId, Did, EpochId, OpId, Role};
use crate::op::{CUT_CHAINS_MAX, CUT_HEADS_MAX, ChainCut};
use crate::recovery::{RecoveryCode, RecoveryKey};
use crate::state::{Builder, IdentityState, RecoveryPlan};

/// The protocol.
pub(super) const RECOVERY: Protocol = "/walytis/recovery/1";

/// What a recovery came to.
#[derive(Debug)]
pub struct Recovered {
    /// The identity.
    pub did: Did,
    /// The op that recovers it.
    pub op: OpId,
    /// The epoch that is written under now.
    pub epoch: Option<EpochId>,
    /// The next recovery code: shown once, stored nowhere. The one before is worth nothing any more.
    pub recovery: RecoveryCode,
}

/// How a new node recovers an identity.
#[derive(Clone, Debug, Default)]
pub struct RecoverHere {
    /// Who is to stay, with the role it has; everybody else goes.
    pub keep: Vec<ControllerId>,
    /// Local name; the DID by default.
    pub name: Option<String>,
    /// Name of the new device.
    pub device_name: String,
    /// Go on even if nobody can say what has been written: then all of it is void.
    pub discard_content: bool,
}

impl Identities {
    /// Starts over on a node that has, or had, a device of the identity: from now on that device controls it as an admin,
    /// and beside it those in `keep`, with the roles they have. Everybody else is removed, whatever they are. All
    /// invitations are revoked.
    ///
    /// # Errors
    /// [`IdentitiesError::Refused`] if it is not the recovery code in force, [`IdentitiesError::NoController`].
    pub async fn recover(
        &self,
        did: &Did,
        code: &RecoveryCode,
        keep: Vec<ControllerId>,
    ) -> IdentitiesResult<Recovered> {
        let shared = self.entry(did)?.handle.shared;
        // A device that was removed may not have heard how things stand; whoever knows nothing of it is no hindrance.
        for peer in self.connected() {
            drop(exchange::with_peer(&shared, &peer).await);
        }
        let recovery = RecoveryCode::generate(&*self.inner.tools.entropy);
        let draft = Draft::Recover { key: Arc::new(code.key()), keep, next: recovery.key().digest() };
        let done = self.publish(did, draft).await?;
        info!(?did, "identity recovered");
        Ok(Recovered { did: *did, op: done.op, epoch: done.epoch, recovery })
    }

    /// Starts over on a new node, as a new device: see [`Self::recover`]. The card's nodes, or others that are connected,
    /// must be there, or the identity must be known from an earlier resolution.
    ///
    /// # Errors
    /// [`IdentitiesError::Unresolved`] if nobody tells how the identity stands or, unless content is to be discarded, what
    /// has been written; [`IdentitiesError::Refused`], [`IdentitiesError::AlreadyHere`]. Then nothing is left behind.
    pub async fn recover_here(
        &self,
        card: &ContactCard,
        code: &RecoveryCode,
        options: RecoverHere,
    ) -> IdentitiesResult<Recovered> {
        check_device_name(&options.device_name)?;
        let did = card.did;
        let _turn = self.inner.turn().await?;
        if self.inner.here().contains_key(&did) {
            return Err(IdentitiesError::AlreadyHere { did });
        }
        // What an interrupted deletion left must not be deleted from under the new device.
        self.finish(&did).await?;
        let name = options.name.clone().unwrap_or_else(|| did.to_string());
        self.check_name(&name)?;
        self.resolve_card(card).await?;
        let recovery = RecoveryCode::generate(&*self.inner.tools.entropy);
        let (op, epoch) = self.recover_as_new(&did, &code.key(), &recovery, &name, &options).await?;
        info!(?did, "identity recovered as a new device");
        Ok(Recovered { did, op, epoch, recovery })
    }

    async fn recover_as_new(
        &self,
        did: &Did,
        key: &RecoveryKey,
        next: &RecoveryCode,
        name: &str,
        options: &RecoverHere,
    ) -> IdentitiesResult<(OpId, Option<EpochId>)> {
        let tools = &self.inner.tools;
        let (mut graph, genesis, _) = load(&*tools.store, did).await?;
        let staying = staying(&graph.state(), key, &options.keep)?;
        let cut = self.written(did, key).await;
        if cut.iter().all(|cut| cut.heads.is_empty()) && !options.discard_content {
            let reason = "no controller that was reached could say what has been written, all of which would be void";
            return Err(IdentitiesError::Unresolved { did: *did, reason: reason.to_owned() });
        }
        let keys = DeviceKeys::generate(&*tools.entropy);
        let plan = RecoveryPlan { staying, cut, kept: Vec::new(), next_recovery: Some(next.key().digest()) };
        let held = BTreeMap::new();
        let built = Builder::new(&mut graph, &keys, &held, &*tools.entropy).recover(key, plan);
        let built = built.map_err(|error| IdentitiesError::refused(error.to_string()))?;
        let op = built.op.id();
        graph.insert(built.op).map_err(|refusal| IdentitiesError::refused(refusal.to_string()))?;
        let epoch = graph.state().sending_epoch;
        if let Some(secrets) = &built.secrets {
            tools.secrets.put(&ring::secret_name(did, &op), secrets.encode()).await?;
        }
        tools.secrets.put(&ring::device_name(did), keys.encode()).await?;
        let mut more = Batch::new();
        more.put(records::unpublished(&did.chain(), &op), Vec::new());
        let record = new_record(keys.id(), name, &options.device_name);
        let stored = self.store(record, graph, genesis, more).await?;
        let shared = self.start(stored).await?.handle.shared;
        for peer in self.connected() {
            if let Err(error) = exchange::with_peer(&shared, &peer).await {
                debug!(?did, ?peer, %error, "a node could not be told of the recovery");
            }
        }
        Ok((op, epoch))
    }

    fn connected(&self) -> Vec<PeerId> {
        self.inner.tools.network.peers().into_iter().map(|status| status.peer).collect()
    }

    /// Returns the heads of the identity's chains as connected controllers hold them.
    async fn written(&self, did: &Did, key: &RecoveryKey) -> Vec<ChainCut> {
        let mut heads: BTreeMap<ChainId, BTreeSet<BlockId>> = BTreeMap::new();
        for peer in self.connected() {
            match ask::ask(&self.inner.tools, did, key, &peer).await {
                Ok(found) => {
                    for cut in found {
                        // The own chain has its place whatever else is named.
                        let has_room = heads.len() < CUT_CHAINS_MAX - 1 || cut.chain == did.chain();
                        if has_room || heads.contains_key(&cut.chain) {
                            heads.entry(cut.chain).or_default().extend(cut.heads);
                        }
                    }
                }
                Err(error) => debug!(?did, ?peer, %error, "a node did not say what has been written"),
            }
        }
        let cut = |(chain, heads): (ChainId, BTreeSet<BlockId>)| ChainCut {
            chain,
            heads: heads.into_iter().take(CUT_HEADS_MAX).collect(),
        };
        heads.into_iter().map(cut).collect()
    }
}

/// Returns who stays, with the role it has now; refuses a code that is not in force.
pub(super) fn staying(
    state: &IdentityState,
    key: &RecoveryKey,
    keep: &[ControllerId],
) -> IdentitiesResult<BTreeMap<ControllerId, Role>> {
    match state.recovery {
        None => return Err(IdentitiesError::refused("the identity was created without a recovery code")),
        Some(digest) if digest != key.digest() => {
            let reason = "this is not the recovery code of the identity, or a recovery has replaced it since";
            return Err(IdentitiesError::refused(reason));
        }
        Some(_) => {}
    }
    let role = |controller: &ControllerId| {
        let role = state.role(controller).ok_or(IdentitiesError::NoController { controller: *controller })?;
        Ok((*controller, role))
    };
    keep.iter().map(role).collect()
}
