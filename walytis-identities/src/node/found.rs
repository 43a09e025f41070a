//! Creating identities: with a new device as the founder, or for another identity of this node.
//!
//! ```text
//!  device F            Create ── Admit(person, admin) ── Leave          F's keys are nowhere but in memory, and go then
//!  device of a person                                        └── Remove(F)
//! ```
//!
//! The genesis block certifies the DID, so a device signs it whose keys stand in it; a person's keys stand in its own ops,
//! which change. So a device founds for the person and is gone before anybody hears of the identity.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tracing::{info, warn};
use walytis_core::block::Block;
use walytis_core::chain::Append;
use walytis_core::ledger::Content;
use walytis_core::node::GovernedGenesis;
use walytis_core::store::Batch;
use walytis_core::topic::Topic;

use super::acting::check_nesting;
use super::error::{IdentitiesError, IdentitiesResult};
use super::open::{check_device_name, new_record};
use super::records::{self, IdentityRecord};
use super::ring;
use super::runtime::{Created, Identities, IdentityTerms};
use super::shared::Shared;
use crate::crypto::DeviceKeys;
use crate::epoch::EpochSecrets;
use crate::id::{ControllerId, Did, EpochId, OpId, Role};
use crate::op::SignedOp;
use crate::recovery::RecoveryCode;
use crate::state::{AuthorityGraph, BuildError, Builder, Built, CreateOptions};
use crate::token::JoinRequest;

/// An identity that is not stored yet.
struct Begun {
    graph: AuthorityGraph,
    genesis: Block,
    held: BTreeMap<EpochId, EpochSecrets>,
    recovery: RecoveryCode,
}

impl Identities {
    /// Creates an identity whose founder and only controller is a new device of this node.
    ///
    /// # Errors
    /// [`IdentitiesError`]; then nothing is left behind.
    pub async fn create(&self, name: &str, device_name: &str) -> IdentitiesResult<Created> {
        self.create_with(name, device_name, IdentityTerms::default()).await
    }

    /// As [`Self::create`], under terms of one's own.
    ///
    /// # Errors
    /// [`IdentitiesError`]; then nothing is left behind.
    pub async fn create_with(&self, name: &str, device_name: &str, terms: IdentityTerms) -> IdentitiesResult<Created> {
        check_device_name(device_name)?;
        let _turn = self.inner.turn().await?;
        self.check_name(name)?;
        let tools = &self.inner.tools;
        let keys = DeviceKeys::generate(&*tools.entropy);
        let begun = self.begin(&keys, terms)?;
        let did = begun.graph.did();
        tools.secrets.put(&ring::device_name(&did), keys.encode()).await?;
        self.keep_secrets(&did, &begun.held).await?;
        let record = new_record(keys.id(), name, device_name);
        let stored = self.store(record, begun.graph, begun.genesis, Batch::new()).await?;
        self.start(stored).await?;
        info!(?did, "identity created");
        Ok(Created { did, recovery: begun.recovery })
    }

    /// Creates an identity whose only controller is another identity of this node: every device of that one acts in it.
    ///
    /// # Errors
    /// [`IdentitiesError::Refused`] if this device may not write as `person`, or nothing can be sealed to that one now;
    /// [`JoinError::Nesting`](super::JoinError::Nesting). Then nothing is left behind.
    pub async fn create_as(&self, name: &str, person: &Did, terms: IdentityTerms) -> IdentitiesResult<Created> {
        let handle = self.entry(person)?.handle;
        let created = {
            let _turn = self.inner.turn().await?;
            self.check_name(name)?;
            self.found(name, &handle.shared, terms).await?
        };
        info!(did = ?created.did, ?person, "identity created for another");
        if let Err(error) = self.note_joined(&created.did, &handle).await {
            // It is noted as soon as it can be.
            warn!(did = ?created.did, %error, "a membership could not be noted yet");
        }
        Ok(created)
    }

    async fn found(&self, name: &str, person: &Arc<Shared>, terms: IdentityTerms) -> IdentitiesResult<Created> {
        let tools = &self.inner.tools;
        let (founder, acting) = (DeviceKeys::generate(&*tools.entropy), person.keys()?);
        let mut begun = self.begin(&founder, terms)?;
        let did = begun.graph.did();
        check_nesting(person, &did)?;
        let (by_founder, last) = hand_over(&mut begun, &founder, (person, &acting), &*tools.entropy)?;
        self.keep_secrets(&did, &begun.held).await?;
        let record = new_record(person.me, name, &person.device_name);
        let record = IdentityRecord { person: Some(person.did), ..record };
        let mut more = Batch::new();
        more.put(records::unpublished(&did.chain(), &last), Vec::new());
        let stored = self.store(record, begun.graph, begun.genesis, more).await?;
        let chain = self.start(stored).await?.handle.chain;
        let founder = Arc::new(founder);
        for op in by_founder {
            // Without blocks of their own they travel as all ops do.
            let append =
                Append { content: Content::Bytes(op.encode().into()), topics: vec![topic()?], signer: founder.clone() };
            chain.append_inline(append).await.map_err(|error| IdentitiesError::Node(error.into()))?;
        }
        Ok(Created { did, recovery: begun.recovery })
    }

    fn begin(&self, founder: &DeviceKeys, terms: IdentityTerms) -> IdentitiesResult<Begun> {
        let tools = &self.inner.tools;
        let recovery = RecoveryCode::generate(&*tools.entropy);
        let options = CreateOptions {
            history: terms.history,
            recovery: Some(recovery.key().digest()),
            renew_after_s: terms.renew_after_s()?,
        };
        let built = Builder::create(founder, &options, &*tools.entropy).map_err(refused)?;
        let genesis = self.inner.node.sign_genesis(GovernedGenesis {
            chain_name: None,
            overlay: Bytes::from(built.op.encode()),
            topics: vec![topic()?],
            signer: Arc::new(founder.clone()),
        })?;
        let graph = AuthorityGraph::from_genesis(&genesis)
            .map_err(|_| IdentitiesError::Internal { reason: "the own creation is refused" })?;
        let held = built.secrets.map(|secrets| (built.op.id(), secrets)).into_iter().collect();
        Ok(Begun { graph, genesis, held, recovery })
    }

    async fn keep_secrets(&self, did: &Did, held: &BTreeMap<EpochId, EpochSecrets>) -> IdentitiesResult<()> {
        for (epoch, secrets) in held {
            self.inner.tools.secrets.put(&ring::secret_name(did, epoch), secrets.encode()).await?;
        }
        Ok(())
    }
}

/// Lets the founder admit a person and leave, and the person remove it. Returns the founder's ops, and the person's.
fn hand_over(
    begun: &mut Begun,
    founder: &DeviceKeys,
    (person, acting): (&Shared, &DeviceKeys),
    entropy: &dyn walytis_core::clock::Entropy,
) -> IdentitiesResult<(Vec<SignedOp>, OpId)> {
    let controller = ControllerId::Device(founder.id());
    let as_of = {
        let known = person.known();
        begun.graph.learn_nested(&known.graph).map_err(|refusal| IdentitiesError::refused(refusal.to_string()))?;
        (person.did, known.graph.named_heads())
    };
    let request = JoinRequest::as_identity(as_of, acting, &begun.graph.chain(), &controller, None, entropy);
    let admit = begun.add(founder, None, entropy, |builder| builder.admit(request, Role::Admin))?;
    let leave = begun.add(founder, None, entropy, |builder| builder.leave())?;
    let person = ControllerId::Identity(person.did);
    let remove = |builder: Builder<'_>| builder.remove(vec![controller], Vec::new(), Vec::new());
    let remove = begun.add(acting, Some(person), entropy, remove)?;
    Ok((vec![admit, leave], remove.id()))
}

impl Begun {
    /// Makes an op, in the name of a device or of whom it acts for.
    fn add(
        &mut self,
        keys: &DeviceKeys,
        acting_for: Option<ControllerId>,
        entropy: &dyn walytis_core::clock::Entropy,
        make: impl FnOnce(Builder<'_>) -> Result<Built, BuildError>,
    ) -> IdentitiesResult<SignedOp> {
        let author = acting_for.unwrap_or_else(|| ControllerId::Device(keys.id()));
        let builder = Builder::new(&mut self.graph, keys, &self.held, entropy).acting_for(author);
        let built = make(builder).map_err(refused)?;
        let inserted = self.graph.insert(built.op.clone());
        inserted.map_err(|refusal| IdentitiesError::refused(refusal.to_string()))?;
        self.held.extend(built.secrets.map(|secrets| (built.op.id(), secrets)));
        Ok(built.op)
    }
}

fn topic() -> IdentitiesResult<Topic> {
    Topic::overlay("identity", "").map_err(|_| IdentitiesError::Internal { reason: "the topic of authority ops" })
}

fn refused(error: BuildError) -> IdentitiesError {
    IdentitiesError::refused(error.to_string())
}
