//! Making ops of one's own. What is built is not yet in the graph: insert it, and publish it if it entered.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;
use walytis_core::clock::Entropy;
use walytis_core::fault::Fault;
use walytis_core::secret::Secret;

use super::{AuthorityGraph, Controller, IdentityState, Subject};
use crate::crypto::{DeviceKeys, HybridSignature, Label, ReceivingPublic, random};
use crate::epoch::{DealError, EpochSecrets, Predecessor, Recipient, deal_slots, prepare};
use crate::id::{ControllerId, Did, EpochId, OpId, Role};
use crate::op::{
    AUTH_PARENTS_MAX, Admit, ChainCut, ControllerRecord, Create, Deactivate, Document, HistoryPolicy, Introduce,
    Invite, Op, OpCore, OpError, Recover, Remove, RevokeInvite, SetRole, SignedOp, Update,
};
use crate::recovery::RecoveryKey;
use crate::token::{InvitationKey, JoinRequest, renewal_message};

/// An op could not be built.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// An epoch could not be dealt.
    #[error(transparent)]
    Deal(#[from] DealError),
    /// The op would break a bound.
    #[error(transparent)]
    Op(#[from] OpError),
    /// An identity that is a controller has no receiving key that only its current devices can open.
    #[error("nothing can be sealed to {did:?} before it has renewed its keys")]
    NestedKey {
        /// Which.
        did: Did,
    },
    /// There is no such invitation.
    #[error("there is no invitation {invite:?} that counts")]
    NoInvitation {
        /// Which.
        invite: OpId,
    },
    /// Who is to stay was never a device of the identity.
    #[error("{controller:?} is no device that the identity knows")]
    NoDevice {
        /// Who.
        controller: ControllerId,
    },
}

impl BuildError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Deal(error) => error.fault(),
            Self::NestedKey { .. } => Fault::Peer,
            Self::Op(_) | Self::NoInvitation { .. } | Self::NoDevice { .. } => Fault::Caller,
        }
    }
}

/// A new op, and the secrets of the epoch that it starts, for the vault. Keep them under the op's id *before* the op is
/// published; the own slot opens to the same.
#[derive(Clone, Debug)]
pub struct Built {
    /// The op.
    pub op: SignedOp,
    /// Secrets of its epoch.
    pub secrets: Option<EpochSecrets>,
}

/// A new invitation: the op, and the seed for the token.
#[derive(Clone, Debug)]
pub struct NewInvitation {
    /// The `Invite`; its id names the invitation.
    pub op: SignedOp,
    /// Goes into the token and nowhere else.
    pub seed: Secret<32>,
}

/// How an identity is created.
#[derive(Clone, Debug, Default)]
pub struct CreateOptions {
    /// What newcomers may read; everything by default.
    pub history: HistoryPolicy,
    /// Digest of the recovery key.
    pub recovery: Option<[u8; 32]>,
}

/// What a recovered identity looks like.
#[derive(Clone, Debug, Default)]
pub struct RecoveryPlan {
    /// Who controls it from now on, beside the device that recovers it.
    pub staying: BTreeMap<ControllerId, Role>,
    /// The heads this node has admitted, by chain: what of anybody's writing still counts.
    pub cut: Vec<ChainCut>,
    /// Invitations that stay good.
    pub kept: Vec<OpId>,
    /// Digest of the next recovery key; none: it cannot be recovered again.
    pub next_recovery: Option<[u8; 32]>,
}

/// Builds ops in the name of one device.
#[derive(Debug)]
pub struct Builder<'a> {
    graph: &'a mut AuthorityGraph,
    keys: &'a DeviceKeys,
    author: ControllerId,
    entropy: &'a dyn Entropy,
    held: &'a BTreeMap<EpochId, EpochSecrets>,
    receiving: BTreeMap<ControllerId, ReceivingPublic>,
}

impl<'a> Builder<'a> {
    /// Builds on what `graph` holds. `held`: all epoch secrets of the vault; what of them is not carried on by a new
    /// epoch is lost to newcomers.
    pub fn new(
        graph: &'a mut AuthorityGraph,
        keys: &'a DeviceKeys,
        held: &'a BTreeMap<EpochId, EpochSecrets>,
        entropy: &'a dyn Entropy,
    ) -> Self {
        let author = ControllerId::Device(keys.id());
        Self { graph, keys, author, entropy, held, receiving: BTreeMap::new() }
    }

    /// Acts for a controller that is an identity.
    #[must_use]
    pub const fn acting_for(mut self, controller: ControllerId) -> Self {
        self.author = controller;
        self
    }

    /// Seals to newer receiving keys than the first ones, as device cards carry them.
    #[must_use]
    pub fn with_receiving_keys(mut self, receiving: BTreeMap<ControllerId, ReceivingPublic>) -> Self {
        self.receiving = receiving;
        self
    }

    /// Creates an identity: the op for the genesis block's overlay.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn create(keys: &DeviceKeys, options: &CreateOptions, entropy: &dyn Entropy) -> Result<Built, BuildError> {
        let mut chain = [0u8; 32];
        entropy.fill(&mut chain);
        let (epoch, secrets) = prepare(&chain, &[], entropy);
        let device = keys.public().clone();
        let founder = ControllerId::Device(keys.id());
        let recipient = Recipient { controller: founder, key: device.receiving.clone(), reads: true, history: true };
        let op = Op::Create(Box::new(Create { device, history: options.history, recovery: options.recovery, epoch }));
        let mut core = OpCore { chain, author: founder, device: keys.id(), auth_parents: Vec::new(), op };
        deal_slots(&mut core, &secrets, &[recipient], entropy)?;
        Ok(Built { op: core.sign(keys, entropy)?, secrets: Some(secrets) })
    }

    /// Admits a newcomer by this author's own right: `role` as given.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn admit(mut self, request: JoinRequest, role: Role) -> Result<Built, BuildError> {
        let (parents, state) = self.base();
        let newcomer = request.newcomer.id();
        let key = match &request.newcomer {
            ControllerRecord::Device(public) => public.receiving.clone(),
            ControllerRecord::Identity { did, as_of, .. } => {
                self.graph.key_to_seal(did, as_of, &parents).ok_or(BuildError::NestedKey { did: *did })?
            }
        };
        let mut recipients = self.recipients(&state, &BTreeSet::new());
        recipients.retain(|recipient| recipient.controller != newcomer);
        recipients.push(Recipient {
            controller: newcomer,
            key,
            reads: role.reads(),
            history: role.reads() && state.history == HistoryPolicy::All,
        });
        self.with_epoch(parents, &recipients, |epoch| {
            Op::Admit(Box::new(Admit {
                controller: request.newcomer,
                role,
                possession: request.possession,
                invitation: request.invitation,
                epoch,
            }))
        })
    }

    /// Admits a newcomer by the invitation that its request proves, in the invitation's role.
    ///
    /// # Errors
    /// [`BuildError::NoInvitation`].
    pub fn honour(mut self, request: JoinRequest) -> Result<Built, BuildError> {
        let (_, state) = self.base();
        let invite = request.invitation.as_ref().map_or(OpId([0; 32]), |proof| proof.invite);
        let role = state.invitations.get(&invite).map(|found| found.role).ok_or(BuildError::NoInvitation { invite })?;
        self.admit(request, role)
    }

    /// Removes controllers: `cut` = the heads this node has admitted, by chain; `kept` = invitations that stay good.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn remove(
        mut self,
        mut targets: Vec<ControllerId>,
        mut cut: Vec<ChainCut>,
        mut kept: Vec<OpId>,
    ) -> Result<Built, BuildError> {
        targets.sort_unstable();
        targets.dedup();
        sort_cut(&mut cut);
        kept.sort_unstable();
        kept.dedup();
        let (parents, state) = self.base();
        let recipients = self.recipients(&state, &targets.iter().copied().collect());
        self.with_epoch(parents, &recipients, |epoch| {
            Op::Remove(Box::new(Remove { targets, cut, kept, co_signatures: Vec::new(), epoch }))
        })
    }

    /// Changes a role. `cut` = the heads this node has admitted, by chain: needed below the role member, where it says
    /// what of the controller's writing still counts; left out otherwise. A role that reads no more, or reads again, makes
    /// new keys due (see [`IdentityState::duty`]).
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn set_role(
        mut self,
        controller: ControllerId,
        role: Role,
        mut cut: Vec<ChainCut>,
    ) -> Result<Built, BuildError> {
        sort_cut(&mut cut);
        cut.retain(|_| !role.writes());
        let (parents, _) = self.base();
        self.without_epoch(parents, Op::SetRole(SetRole { controller, role, cut }))
    }

    /// Renews the signing keys: `next` is from [`DeviceKeys::renew`]. Keep both until the op is stored; from then on
    /// `next` signs, and everything that the old keys signed stays valid.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn update(mut self, next: &DeviceKeys) -> Result<Built, BuildError> {
        let (parents, _) = self.base();
        let message = renewal_message(self.graph.chain().digest(), &self.keys.id(), next.public());
        let signature = next.sign_hybrid(Label::KeyRenewal, &message, self.entropy);
        let keys = Some((next.public().clone(), signature));
        self.without_epoch(parents, Op::Update(Box::new(Update { keys, as_of: Vec::new(), cut: Vec::new() })))
    }

    /// Replaces the services of the DID document: (id, type, endpoint), at most 32 of at most 512 bytes each.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn document(mut self, services: Vec<(String, String, String)>) -> Result<Built, BuildError> {
        let (parents, _) = self.base();
        self.without_epoch(parents, Op::Document(Document { services }))
    }

    /// Ends the identity. `cut` = the heads this node has admitted, by chain.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn deactivate(mut self, mut cut: Vec<ChainCut>) -> Result<Built, BuildError> {
        sort_cut(&mut cut);
        let (parents, _) = self.base();
        self.without_epoch(parents, Op::Deactivate(Deactivate { cut }))
    }

    /// Starts over with the recovery code: this builder's device, which the identity need not know, is an admin from now
    /// on, and beside it control those of `plan`.
    ///
    /// # Errors
    /// [`BuildError::NoDevice`] if a controller that is to stay is no device that the identity knows.
    pub fn recover(mut self, key: &RecoveryKey, plan: RecoveryPlan) -> Result<Built, BuildError> {
        let RecoveryPlan { staying, mut cut, mut kept, next_recovery } = plan;
        sort_cut(&mut cut);
        kept.sort_unstable();
        kept.dedup();
        let (parents, state) = self.base();
        let controllers = self.recovered(staying)?;
        let recipients: Vec<Recipient> = controllers
            .iter()
            .filter_map(|(id, (record, role))| self.recovered_recipient(&state, *id, record, *role))
            .collect();
        let predecessors = self.predecessors(&parents);
        let (epoch, secrets) = prepare(self.graph.chain().digest(), &predecessors, self.entropy);
        let op = Op::Recover(Box::new(Recover {
            controllers: controllers.into_values().collect(),
            cut,
            kept,
            recovery_key: key.public(),
            recovery_signature: HybridSignature::zero(),
            next_recovery,
            epoch,
        }));
        let mut core = self.core(parents, op);
        key.sign(&mut core, self.entropy);
        deal_slots(&mut core, &secrets, &recipients, self.entropy)?;
        Ok(Built { op: core.sign(self.keys, self.entropy)?, secrets: Some(secrets) })
    }

    /// Starts a new epoch.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn rekey(mut self) -> Result<Built, BuildError> {
        let (parents, state) = self.base();
        let unsealable = |controller: &&Controller| self.receiving_key(controller).is_none();
        if let Some(ControllerId::Identity(did)) = state.controllers.values().find(unsealable).map(|found| found.id) {
            return Err(BuildError::NestedKey { did });
        }
        let recipients = self.recipients(&state, &BTreeSet::new());
        self.with_epoch(parents, &recipients, |epoch| Op::Rekey(Box::new(epoch)))
    }

    /// Shows this device as one that acts for the identity that is the author, as of all that is known of it here.
    ///
    /// # Errors
    /// [`BuildError::Op`] if nothing is known of it.
    pub fn introduce(mut self) -> Result<Built, BuildError> {
        let (parents, as_of) = (self.base().0, self.own_heads());
        self.without_epoch(parents, Op::Introduce(Introduce { as_of }))
    }

    /// Names all that is known here of the identity that is the author. `cut`: the heads that this node has admitted, by
    /// chain: of what devices wrote whose removal is shown first by this, the rest does not count.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn name_heads(mut self, mut cut: Vec<ChainCut>) -> Result<Built, BuildError> {
        sort_cut(&mut cut);
        let (parents, as_of) = (self.base().0, self.own_heads());
        self.without_epoch(parents, Op::Update(Box::new(Update { keys: None, as_of, cut })))
    }

    fn own_heads(&self) -> Vec<OpId> {
        match &self.author {
            ControllerId::Identity(did) => self.graph.nested_heads(did),
            ControllerId::Device(_) => Vec::new(),
        }
    }

    /// Leaves.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn leave(mut self) -> Result<Built, BuildError> {
        let (parents, _) = self.base();
        self.without_epoch(parents, Op::Leave)
    }

    /// Makes an invitation.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn invite(
        mut self,
        role: Role,
        uses: Option<u32>,
        expires_at_ms: Option<i64>,
    ) -> Result<NewInvitation, BuildError> {
        let (parents, _) = self.base();
        let seed = random(self.entropy);
        let key = InvitationKey::from_seed(&seed, &self.graph.chain()).public();
        let op = self.core(parents, Op::Invite(Invite { key, role, uses, expires_at_ms }));
        Ok(NewInvitation { op: op.sign(self.keys, self.entropy)?, seed })
    }

    /// Takes an invitation back.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn revoke_invite(mut self, invite: OpId) -> Result<Built, BuildError> {
        let (parents, _) = self.base();
        self.without_epoch(parents, Op::RevokeInvite(RevokeInvite { invite }))
    }

    /// Returns the parents to name and the state they amount to. Of more than 64 heads those that hold the author's own
    /// ops come first; the rest is named by later ops.
    fn base(&mut self) -> (Vec<OpId>, std::sync::Arc<IdentityState>) {
        let mut heads = self.graph.heads();
        if heads.len() > AUTH_PARENTS_MAX {
            let void = self.graph.state().void.clone();
            let own = self.graph.nodes().by_author.get(&self.author).cloned().unwrap_or_default();
            let nodes = self.graph.nodes();
            let covers = |id: &OpId| {
                nodes
                    .find(id)
                    .map_or(0, |at| own.iter().filter(|own| **own == at || nodes.at(at).past.has(**own)).count())
            };
            // Forks of the removed come last, or they would crowd out what counts.
            heads.sort_by_cached_key(|id| (void.contains_key(id), std::cmp::Reverse(covers(id))));
            heads.truncate(AUTH_PARENTS_MAX);
            heads.sort_unstable();
        }
        let state = match self.graph.state_at(&heads) {
            Ok(state) => state,
            // Heads are always known.
            Err(_) => self.graph.state(),
        };
        (heads, state)
    }

    fn core(&self, auth_parents: Vec<OpId>, op: Op) -> OpCore {
        OpCore { chain: *self.graph.chain().digest(), author: self.author, device: self.keys.id(), auth_parents, op }
    }

    fn recipients(&self, state: &IdentityState, without: &BTreeSet<ControllerId>) -> Vec<Recipient> {
        let staying = state.controllers.values().filter(|controller| !without.contains(&controller.id));
        staying
            .filter_map(|controller| {
                Some(Recipient {
                    controller: controller.id,
                    key: self.receiving_key(controller)?,
                    reads: controller.role.reads(),
                    history: controller.history,
                })
            })
            .collect()
    }

    /// Returns the key that a controller's slots are sealed to; none if nothing can be sealed to it.
    fn receiving_key(&self, controller: &Controller) -> Option<ReceivingPublic> {
        match &controller.subject {
            Subject::Device(device) => {
                Some(self.receiving.get(&controller.id).unwrap_or(&device.current.receiving).clone())
            }
            Subject::Identity(nested) => nested.seal_to.as_ref().map(|(_, key)| key.clone()),
        }
    }

    /// Returns everybody who controls a recovered identity, with record and role.
    fn recovered(
        &self,
        staying: BTreeMap<ControllerId, Role>,
    ) -> Result<BTreeMap<ControllerId, (ControllerRecord, Role)>, BuildError> {
        let mut all = BTreeMap::new();
        for (controller, role) in staying {
            let ControllerId::Device(device) = controller else { return Err(BuildError::NoDevice { controller }) };
            let record = self.graph.device_record(&device).ok_or(BuildError::NoDevice { controller })?;
            all.insert(controller, (ControllerRecord::Device(record.clone()), role));
        }
        let first = self.graph.device_record(&self.keys.id()).unwrap_or_else(|| self.keys.public()).clone();
        all.insert(ControllerId::Device(self.keys.id()), (ControllerRecord::Device(first), Role::Admin));
        Ok(all)
    }

    fn recovered_recipient(
        &self,
        state: &IdentityState,
        controller: ControllerId,
        record: &ControllerRecord,
        role: Role,
    ) -> Option<Recipient> {
        let ControllerRecord::Device(public) = record else { return None };
        let own = controller == ControllerId::Device(self.keys.id());
        let key = match state.controllers.get(&controller) {
            _ if own => self.keys.public().receiving.clone(),
            Some(known) => self.receiving_key(known)?,
            None => self.receiving.get(&controller).unwrap_or(&public.receiving).clone(),
        };
        let history = role.reads() && (own || state.history == HistoryPolicy::All);
        Some(Recipient { controller, key, reads: role.reads(), history })
    }

    fn without_epoch(&self, parents: Vec<OpId>, op: Op) -> Result<Built, BuildError> {
        Ok(Built { op: self.core(parents, op).sign(self.keys, self.entropy)?, secrets: None })
    }

    fn with_epoch(
        &self,
        parents: Vec<OpId>,
        recipients: &[Recipient],
        op: impl FnOnce(crate::op::EpochPart) -> Op,
    ) -> Result<Built, BuildError> {
        let predecessors = self.predecessors(&parents);
        let (epoch, secrets) = prepare(self.graph.chain().digest(), &predecessors, self.entropy);
        let mut core = self.core(parents, op(epoch));
        deal_slots(&mut core, &secrets, recipients, self.entropy)?;
        Ok(Built { op: core.sign(self.keys, self.entropy)?, secrets: Some(secrets) })
    }

    /// Returns every epoch of the past whose secret is held and which no other such epoch carries on already: void and
    /// losing epochs too, so that nothing sealed under them is lost.
    fn predecessors(&self, parents: &[OpId]) -> Vec<Predecessor> {
        let nodes = self.graph.nodes();
        let past = nodes.past_of(parents).unwrap_or_default();
        let mut held: BTreeMap<EpochId, (&EpochSecrets, &[EpochId])> = BTreeMap::new();
        for at in past.iter() {
            let node = nodes.at(at);
            if let (Some(part), Some(secrets)) = (node.kind().epoch(), self.held.get(&node.id())) {
                held.insert(node.id(), (secrets, &part.predecessors));
            }
        }
        let carrying = held.values().filter(|(secrets, _)| secrets.history.is_some());
        let carried: BTreeSet<EpochId> = carrying.flat_map(|(_, predecessors)| predecessors.iter().copied()).collect();
        let open = held.into_iter().filter(|(id, _)| !carried.contains(id));
        open.filter_map(|(id, (secrets, _))| {
            Some(Predecessor { id, epoch: secrets.epoch.clone()?, history: secrets.history.clone() })
        })
        .collect()
    }
}

fn sort_cut(cut: &mut [ChainCut]) {
    cut.sort_unstable_by_key(|cut| cut.chain);
    cut.iter_mut().for_each(|cut| cut.heads.sort_unstable());
}
