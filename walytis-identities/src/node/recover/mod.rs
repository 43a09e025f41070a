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
mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info, warn};
use walytis_core::block::Block;
use walytis_core::id::PeerId;
use walytis_core::net::Protocol;
use walytis_core::store::Batch;

pub(super) use serve::answer;
use written::{Said, Written, unite};

use super::acting::check_nesting;
use super::author::Draft;
use super::error::{IdentitiesError, IdentitiesResult};
use super::open::{check_device_name, new_record};
use super::records::IdentityRecord;
use super::runtime::Identities;
use super::shared::Shared;
use super::{exchange, records, resolve, ring};
use crate::contact::ContactCard;
use crate::crypto::DeviceKeys;
use crate::id::{ControllerId, Did, EpochId, OpId, Role};
use crate::op::{Op, SignedOp};
use crate::recovery::{RecoveryCode, RecoveryKey};
use crate::state::{AuthorityGraph, Builder, IdentityState, RecoveryPlan, Refusal};

/// The protocol.
pub(super) const RECOVERY: Protocol = "/walytis/recovery/1";

/// Nodes asked at once. Chosen: each has an answer of 144 KiB at most, or an exchange.
const ASKED_MAX: usize = 64;
/// How long a recovery waits for what others know. Chosen: a person waits, and somebody else may be faster.
const HEARD_WITHIN: Duration = Duration::from_secs(20);
/// How long others are told of a recovery; whoever was not reached hears of it with the next session.
const TOLD_WITHIN: Duration = Duration::from_secs(300);

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
        self.recover_with(did, code, keep, self.next_code()).await
    }

    /// As [`Self::recover`], with the next recovery code, which whoever calls knows before it comes into force: else it is
    /// lost with the answer. Called again with both codes, after an answer that never came, it changes nothing.
    ///
    /// # Errors
    /// As [`Self::recover`]; [`IdentitiesError::Refused`] if both codes are the same.
    pub async fn recover_with(
        &self,
        did: &Did,
        code: &RecoveryCode,
        keep: Vec<ControllerId>,
        next: RecoveryCode,
    ) -> IdentitiesResult<Recovered> {
        let shared = self.entry(did)?.handle.shared;
        if let Some(op) = recovered_before(&shared, code, &next)? {
            return Ok(Recovered { did: *did, op, epoch: shared.state().sending_epoch, recovery: next });
        }
        // A device that was removed may not have heard how things stand; whoever knows nothing of it is no hindrance.
        let mut peers = self.connected();
        let theirs: BTreeSet<PeerId> = shared.known().cards.peers().map(|(_, peer)| peer.clone()).collect();
        peers.sort_by_key(|peer| !theirs.contains(peer));
        peers.truncate(ASKED_MAX);
        exchange::with_all(&shared, &peers, HEARD_WITHIN).await;
        let draft = Draft::Recover { key: Arc::new(code.key()), keep, next: next.key().digest() };
        let done = self.publish(did, draft).await?;
        info!(?did, "identity recovered");
        Ok(Recovered { did: *did, op: done.op, epoch: done.epoch, recovery: next })
    }

    /// Starts over on a new node, as a new device or as another identity of the node: see [`Self::recover`]. The card's
    /// nodes, or others that are connected, must be there, or the identity must be known from an earlier resolution.
    ///
    /// # Errors
    /// [`IdentitiesError::Unresolved`] if nobody tells how the identity stands or, unless content is to be discarded, what
    /// has been written, or if more is named than there is room for; [`IdentitiesError::Refused`],
    /// [`IdentitiesError::AlreadyHere`]. Then nothing is left behind.
    pub async fn recover_here(
        &self,
        card: &ContactCard,
        code: &RecoveryCode,
        options: RecoverHere,
    ) -> IdentitiesResult<Recovered> {
        self.recover_here_with(card, code, options, self.next_code()).await
    }

    /// As [`Self::recover_here`], with the next recovery code: see [`Self::recover_with`].
    ///
    /// # Errors
    /// As [`Self::recover_here`] and [`Self::recover_with`].
    pub async fn recover_here_with(
        &self,
        card: &ContactCard,
        code: &RecoveryCode,
        options: RecoverHere,
        next: RecoveryCode,
    ) -> IdentitiesResult<Recovered> {
        let did = card.did;
        if let Ok(entry) = self.entry(&did)
            && let Some(op) = recovered_before(&entry.handle.shared, code, &next)?
        {
            return Ok(Recovered { did, op, epoch: entry.handle.shared.state().sending_epoch, recovery: next });
        }
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
        let as_whom = person.as_ref().map(|handle| &handle.shared);
        let (op, epoch) = self.recover_as(card, code, &options, as_whom, &next).await?;
        info!(?did, person = ?options.person, "identity recovered on a node that is new to it");
        if let Some(handle) = person
            && let Err(error) = self.note_joined(&did, &handle).await
        {
            // It is noted as soon as it can be.
            warn!(?did, %error, "a membership could not be noted yet");
        }
        Ok(Recovered { did, op, epoch, recovery: next })
    }

    fn next_code(&self) -> RecoveryCode {
        RecoveryCode::generate(&*self.inner.tools.entropy)
    }

    async fn recover_as(
        &self,
        card: &ContactCard,
        code: &RecoveryCode,
        options: &RecoverHere,
        person: Option<&Arc<Shared>>,
        next: &RecoveryCode,
    ) -> IdentitiesResult<(OpId, Option<EpochId>)> {
        let did = card.did;
        check_next(code, next)?;
        let _turn = self.inner.turn().await?;
        if self.inner.here().contains_key(&did) {
            return Err(IdentitiesError::AlreadyHere { did });
        }
        // What an interrupted deletion left must not be deleted from under the new device.
        self.finish(&did).await?;
        let name = options.name.clone().unwrap_or_else(|| did.to_string());
        self.check_name(&name)?;
        self.resolve_card(card).await?;
        let (mut graph, genesis, _) = resolve::stored(&*self.inner.tools.store, &did).await?;
        let plan = self.plan(&did, &graph.state(), &code.key(), options).await?;
        let plan = RecoveryPlan { next_recovery: Some(next.key().digest()), ..plan };
        let found = Found { graph, genesis, name, device_name: options.device_name.clone() };
        self.begin_recovered(found, &code.key(), plan, person).await
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
        let Written { cut, left_out } = self.written(did, key, &staying).await?;
        if cut.iter().all(|cut| cut.heads.is_empty()) && !options.discard_content {
            let reason = "no controller that was reached could say what has been written, all of which would be void";
            return Err(IdentitiesError::Unresolved { did: *did, reason: reason.to_owned() });
        }
        if left_out > 0 && !options.discard_content {
            let reason = format!(
                "its controllers name more than there is room for, {left_out} chains or ends of chains: some of them may be \
                 invented; go on while only devices are connected that you trust, or discard what is left out"
            );
            return Err(IdentitiesError::Unresolved { did: *did, reason });
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
        let entry = self.start(stored).await?;
        // It is in force: nobody waits for others to hear of it.
        let (peers, stop) = (self.connected(), entry.stop.clone());
        self.inner.keep(tokio::spawn(async move {
            let told = exchange::with_all(&entry.handle.shared, &peers, TOLD_WITHIN);
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = told => {}
            }
        }));
        Ok((op, epoch))
    }

    fn connected(&self) -> Vec<PeerId> {
        self.inner.tools.network.peers().into_iter().map(|status| status.peer).collect()
    }

    /// Returns the heads of the identity's chains as the nodes of its controllers hold them that are connected, those first
    /// that are to stay. Nobody else is asked: whoever is connected could say anything.
    async fn written(
        &self,
        did: &Did,
        key: &RecoveryKey,
        staying: &BTreeMap<ControllerId, Role>,
    ) -> IdentitiesResult<Written> {
        let connected: BTreeSet<PeerId> = self.connected().into_iter().collect();
        let mut nodes = self.cached(did).await?.map(|foreign| foreign.nodes()).unwrap_or_default();
        nodes.retain(|(_, peer)| connected.contains(peer));
        nodes.sort_by_key(|(controller, _)| !staying.contains_key(controller));
        nodes.truncate(ASKED_MAX);
        let answers =
            nodes.iter().map(async |(controller, peer)| match ask::ask(&self.inner.tools, did, key, peer).await {
                Ok(found) => Some((*controller, found)),
                Err(error) => {
                    debug!(?did, ?peer, %error, "a node did not say what has been written");
                    None
                }
            });
        let mut said: BTreeMap<ControllerId, Said> = BTreeMap::new();
        for (controller, found) in futures::future::join_all(answers).await.into_iter().flatten() {
            let of = said.entry(controller).or_default();
            of.stays = staying.contains_key(&controller);
            of.answers.push(found);
        }
        Ok(unite(did.chain(), &said.into_values().collect::<Vec<_>>()))
    }
}

/// Returns the op of a recovery from `code` to `next` that is in force, so that asking once more is harmless.
fn recovered_before(shared: &Shared, code: &RecoveryCode, next: &RecoveryCode) -> IdentitiesResult<Option<OpId>> {
    check_next(code, next)?;
    let (key, digest) = (code.key().public(), next.key().digest());
    if shared.state().recovery != Some(digest) || shared.my_role() != Some(Role::Admin) {
        return Ok(None);
    }
    let known = shared.known();
    let is_it = |op: &SignedOp| match &op.core().op {
        Op::Recover(recover) => recover.next_recovery == Some(digest) && recover.recovery_key == key,
        _ => false,
    };
    Ok(known.graph.ops().find(|op| is_it(op)).map(|op| op.id()))
}

fn check_next(code: &RecoveryCode, next: &RecoveryCode) -> IdentitiesResult<()> {
    if code.key().digest() == next.key().digest() {
        return Err(IdentitiesError::refused("the next recovery code must be another one"));
    }
    Ok(())
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
