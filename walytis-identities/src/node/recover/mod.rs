//! Starting over with the recovery code: on a node that has a device of the identity, or had one, or acts in it as another
//! identity, and on a new node that knows a contact card.
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

use tracing::{debug, info, warn};
use walytis_core::block::Block;
use walytis_core::id::{BlockId, ChainId, PeerId};
use walytis_core::net::Protocol;
use walytis_core::store::Batch;

pub(super) use serve::answer;

use super::acting::check_nesting;
use super::author::Draft;
use super::error::{IdentitiesError, IdentitiesResult};
use super::open::{check_device_name, load, new_record};
use super::records::IdentityRecord;
use super::runtime::Identities;
use super::shared::Shared;
use super::{exchange, records, ring};
use crate::contact::ContactCard;
use crate::crypto::DeviceKeys;
use crate::id::{ControllerId, Did, EpochId, OpId, Role};
use crate::op::{CUT_CHAINS_MAX, CUT_HEADS_MAX, ChainCut};
use crate::recovery::{RecoveryCode, RecoveryKey};
use crate::state::{AuthorityGraph, Builder, IdentityState, RecoveryPlan, Refusal};

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

/// An identity that is known here, and how it is to be called.
struct Found {
    graph: AuthorityGraph,
    genesis: Block,
    name: String,
    device_name: String,
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
    /// Recover it as this identity of the node, which controls it from now on with all its devices, instead of as a new device.
    pub person: Option<Did>,
    /// Go on even if nobody can say what has been written: then all of it is void.
    pub discard_content: bool,
}

impl Identities {
    /// Starts over on a node that has, or had, a device of the identity, or acts in it as another one: from now on that
    /// controls it as an admin, and beside it those in `keep`, devices or identities, with the roles they have. Everybody
    /// else is removed, whatever they are. All invitations are revoked.
    ///
    /// # Errors
    /// [`IdentitiesError::Refused`] if it is not the recovery code in force, or if nothing can be sealed now to an identity
    /// that is to stay; [`IdentitiesError::NoController`].
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

    /// Starts over on a new node, as a new device or as another identity of the node: see [`Self::recover`]. The card's
    /// nodes, or others that are connected, must be there, or the identity must be known from an earlier resolution.
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
        let did = card.did;
        let person = match &options.person {
            None => {
                check_device_name(&options.device_name)?;
                None
            }
            Some(person) => {
                let handle = self.entry(person)?.handle;
                check_nesting(&handle.shared, &did)?;
                Some(handle)
            }
        };
        let recovered = self.recover_as(card, code, &options, person.as_ref().map(|handle| &handle.shared)).await?;
        info!(?did, person = ?options.person, "identity recovered on a node that is new to it");
        if let Some(handle) = person
            && let Err(error) = self.note_joined(&did, &handle).await
        {
            // It is noted as soon as it can be.
            warn!(?did, %error, "a membership could not be noted yet");
        }
        Ok(recovered)
    }

    async fn recover_as(
        &self,
        card: &ContactCard,
        code: &RecoveryCode,
        options: &RecoverHere,
        person: Option<&Arc<Shared>>,
    ) -> IdentitiesResult<Recovered> {
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
        let (mut graph, genesis, _) = load(&*self.inner.tools.store, &did).await?;
        let plan = self.plan(&did, &graph.state(), &code.key(), options).await?;
        let recovery = RecoveryCode::generate(&*self.inner.tools.entropy);
        let plan = RecoveryPlan { next_recovery: Some(recovery.key().digest()), ..plan };
        let found = Found { graph, genesis, name, device_name: options.device_name.clone() };
        let (op, epoch) = self.begin_recovered(found, &code.key(), plan, person).await?;
        Ok(Recovered { did, op, epoch, recovery })
    }

    /// Decides who stays, and what of what has been written counts.
    async fn plan(
        &self,
        did: &Did,
        state: &IdentityState,
        key: &RecoveryKey,
        options: &RecoverHere,
    ) -> IdentitiesResult<RecoveryPlan> {
        let staying = staying(state, key, &options.keep)?;
        let cut = self.written(did, key).await;
        if cut.iter().all(|cut| cut.heads.is_empty()) && !options.discard_content {
            let reason = "no controller that was reached could say what has been written, all of which would be void";
            return Err(IdentitiesError::Unresolved { did: *did, reason: reason.to_owned() });
        }
        Ok(RecoveryPlan { staying, cut, ..RecoveryPlan::default() })
    }

    /// Publishes the recovery and takes part from then on, as a new device or as `person`.
    async fn begin_recovered(
        &self,
        found: Found,
        key: &RecoveryKey,
        plan: RecoveryPlan,
        person: Option<&Arc<Shared>>,
    ) -> IdentitiesResult<(OpId, Option<EpochId>)> {
        let tools = &self.inner.tools;
        let Found { mut graph, genesis, name, device_name } = found;
        let did = graph.did();
        let keys = match person {
            Some(person) => person.keys()?,
            None => Arc::new(DeviceKeys::generate(&*tools.entropy)),
        };
        let refusal = |refusal: Refusal| IdentitiesError::refused(refusal.to_string());
        let author = match person {
            Some(person) => {
                graph.learn_nested(&person.known().graph).map_err(refusal)?;
                ControllerId::Identity(person.did)
            }
            None => ControllerId::Device(keys.id()),
        };
        let held = BTreeMap::new();
        let builder = Builder::new(&mut graph, &keys, &held, &*tools.entropy).acting_for(author);
        let built = builder.recover(key, plan).map_err(|error| IdentitiesError::refused(error.to_string()))?;
        let op = built.op.id();
        graph.insert(built.op).map_err(refusal)?;
        let epoch = graph.state().sending_epoch;
        if let Some(secrets) = &built.secrets {
            tools.secrets.put(&ring::secret_name(&did, &op), secrets.encode()).await?;
        }
        let mut more = Batch::new();
        more.put(records::unpublished(&did.chain(), &op), Vec::new());
        let record = match person {
            Some(person) => {
                IdentityRecord { person: Some(person.did), ..new_record(person.me, &name, &person.device_name) }
            }
            None => {
                tools.secrets.put(&ring::device_name(&did), keys.encode()).await?;
                new_record(keys.id(), &name, &device_name)
            }
        };
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
