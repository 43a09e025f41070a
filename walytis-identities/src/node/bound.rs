//! Chains bound to an identity: created, found by their announcements on the identity's chain, opened with its rights.
//!
//! ```text
//!  create ─► genesis signed ─► announced on the identity's chain (flushed) ─► opened
//!  another device: identity's chain ─► announcement that counts ─► opened ─► synced like the identity's chain
//! ```
//!
//! Nothing but the blocks of both chains is stored: what was announced is read again at every start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use walytis_core::access::{Access, AccessError, Admission, AdmissionPolicy, ChainAccess, GossipKey};
use walytis_core::block::{Block, GenesisV1};
use walytis_core::chain::{Append, Chain};
use walytis_core::id::{BlockId, ChainId, PeerId};
use walytis_core::ledger::{Content, LedgerError, LedgerEvent, LedgerRead as _, Query, SubscribeFrom, Subscription};
use walytis_core::node::{Governance, GovernedGenesis, Listing, NodeError, check_name};
use walytis_core::secret::Secret;
use walytis_core::topic::Topic;

use super::access::Gate;
use super::error::{IdentitiesError, IdentitiesResult};
use super::handle::IdentityHandle;
use super::runtime::Identities;
use super::shared::Shared;
use crate::bound::{BOUND_MAX, Binding, RecordRules, announced, announcement, bound_topic};
use crate::claim::Claim;
use crate::crypto::{Label, derive};
use crate::id::{Did, Role};
use crate::identity::{Identity as _, IdentityError, Judgement, RecordRef};
use crate::op::{CUT_HEADS_MAX, ChainCut, OP_TOPIC};

/// Announcements looked at for one identity. Chosen: some are made twice, some by who may not; far more than are opened.
const ANNOUNCEMENTS_MAX: usize = 1_024;
/// How long until announcements are looked for again after the store failed.
const AGAIN: Duration = Duration::from_secs(5);

/// The chains bound to an identity that are open on this node.
#[derive(Debug)]
pub(super) struct BoundChains {
    open: Mutex<BTreeMap<ChainId, OpenBound>>,
    /// One is opened at a time.
    turn: Semaphore,
}

#[derive(Clone, Debug)]
struct OpenBound {
    name: String,
    rules: RecordRules,
    chain: Chain,
}

impl Default for BoundChains {
    fn default() -> Self {
        Self { open: Mutex::default(), turn: Semaphore::new(1) }
    }
}

impl BoundChains {
    /// For short sections.
    fn open(&self) -> MutexGuard<'_, BTreeMap<ChainId, OpenBound>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns their ids.
    pub(super) fn ids(&self) -> Vec<ChainId> {
        self.open().keys().copied().collect()
    }

    /// Returns what is asked of records on one of them.
    pub(super) fn rules(&self, chain: &ChainId) -> Option<RecordRules> {
        self.open().get(chain).map(|open| open.rules)
    }
}

/// Returns what counts of what this node has admitted: the heads of the identity's chain (`own`), and of each chain bound to
/// it that is open here.
pub(super) fn cuts(shared: &Shared, own: &[BlockId]) -> Vec<ChainCut> {
    let cut = |chain: ChainId, heads: &[BlockId]| ChainCut {
        chain,
        heads: heads.iter().copied().take(CUT_HEADS_MAX).collect(),
    };
    let bound = shared.bound.open();
    let others = bound.iter().map(|(id, open)| cut(*id, &open.chain.core().summary().heads));
    std::iter::once(cut(shared.did.chain(), own)).chain(others).collect()
}

/// A chain bound to an identity, as the list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundChain {
    /// The chain.
    pub id: ChainId,
    /// Its local name.
    pub name: String,
    /// What is asked of records on it.
    pub rules: RecordRules,
}

impl Identities {
    /// Creates a chain on which nothing but records of the identity can stand, with access for its controllers alone; flushed
    /// when it returns. Their other devices find it by themselves. `name` stands in its genesis block, for all of them
    /// and for keepers to see. `rules` hold for ever.
    ///
    /// # Errors
    /// [`IdentitiesError::Refused`] unless this device may write, and if [`BOUND_MAX`] chains are bound already;
    /// [`IdentitiesError`]. Then nothing is left behind.
    pub async fn create_chain(&self, did: &Did, name: &str, rules: RecordRules) -> IdentitiesResult<IdentityHandle> {
        let _turn = self.inner.turn().await?;
        let handle = self.entry(did)?.handle;
        // Before anything is announced: it stands in the genesis block for ever.
        check_name(name)?;
        self.check_name(name)?;
        if handle.shared.bound.open().len() >= BOUND_MAX {
            return Err(IdentitiesError::refused(format!("{BOUND_MAX} chains are bound to this identity already")));
        }
        if handle.role() != Some(Role::Admin) {
            return Err(IdentitiesError::refused("binding a chain to the identity needs the role admin"));
        }
        // Also refuses for an identity that is ended, and while the vault is locked.
        handle.sending_epoch().await.map_err(|error| match error {
            IdentityError::Locked => IdentitiesError::Locked,
            error => IdentitiesError::refused(error.to_string()),
        })?;
        let signer = handle.device_signer();
        let genesis = self.inner.node.sign_genesis(GovernedGenesis {
            chain_name: Some(name.to_owned()),
            overlay: Bytes::from(Binding { did: *did, rules }.encode()),
            topics: vec![topic()?],
            signer: Arc::clone(&signer),
        })?;
        let claim = Claim { author: handle.controller(), auth_heads: handle.auth_heads().await };
        let content = Content::Bytes(announcement(&claim, &genesis).into());
        let append = Append { content, topics: vec![topic()?], signer };
        handle.chain.append_inline(append).await.map_err(|error| IdentitiesError::Node(error.into()))?;
        self.open_bound(&handle, &genesis, rules).await?;
        info!(?did, chain = ?genesis.chain(), "a chain was bound to the identity");
        self.identity_on(did, &genesis.chain())
    }

    /// Returns the chains that are bound to an identity and open on this node, by id.
    ///
    /// # Errors
    /// [`IdentitiesError::Unknown`].
    pub fn bound_chains(&self, did: &Did) -> IdentitiesResult<Vec<BoundChain>> {
        let shared = self.entry(did)?.handle.shared;
        let bound = shared.bound.open();
        let info =
            |(id, open): (&ChainId, &OpenBound)| BoundChain { id: *id, name: open.name.clone(), rules: open.rules };
        Ok(bound.iter().map(info).collect())
    }

    /// Returns an identity as it writes and judges records on one of its chains: its own, or one that is bound to it.
    ///
    /// # Errors
    /// [`IdentitiesError::Unknown`]; [`IdentitiesError::Refused`] for a chain that is not bound to it, or not open here.
    pub fn identity_on(&self, did: &Did, chain: &ChainId) -> IdentitiesResult<IdentityHandle> {
        let IdentityHandle { shared, chain: own } = self.entry(did)?.handle;
        if *chain == did.chain() {
            return Ok(IdentityHandle { shared, chain: own });
        }
        let bound = shared.bound.open().get(chain).map(|open| open.chain.clone());
        let not_bound =
            || IdentitiesError::refused("the chain was not bound to the identity at its genesis, or is not here");
        Ok(IdentityHandle { chain: bound.ok_or_else(not_bound)?, shared })
    }

    /// Opens a chain bound to an identity, stored anew if it is not here.
    async fn open_bound(&self, handle: &IdentityHandle, genesis: &Block, rules: RecordRules) -> IdentitiesResult<()> {
        let (id, node, shared) = (genesis.chain(), &self.inner.node, &handle.shared);
        let _turn = shared.bound.turn.acquire().await.map_err(|_| IdentitiesError::Closed)?;
        if shared.bound.open().contains_key(&id) {
            return Ok(());
        }
        let gate = Arc::new(BoundGate { gate: Gate(Arc::clone(shared)), chain: id });
        let signer = Some(IdentityHandle::signer(shared));
        let governance = Governance { access: Arc::clone(&gate) as _, policy: gate, signer };
        let stored = node.chains(Listing::All).into_iter().find(|entry| entry.id == id);
        let (chain, name) = match stored {
            Some(entry) => (node.open_governed(&id, governance).await?, entry.name),
            None => self.add_bound(genesis, governance).await?,
        };
        shared.bound.open().insert(id, OpenBound { name, rules, chain });
        shared.bump();
        Ok(())
    }

    /// Stores a bound chain under the name that stands in its genesis block, or one made from its id if that is taken here.
    async fn add_bound(&self, genesis: &Block, governance: Governance) -> IdentitiesResult<(Chain, String)> {
        let wanted = genesis.inline().and_then(|content| GenesisV1::decode(content)).and_then(|content| content.name);
        if let Some(name) = wanted {
            match self.inner.node.add_governed(genesis, &name, governance.clone()).await {
                Ok(chain) => return Ok((chain, name)),
                Err(NodeError::BadName { .. } | NodeError::NameTaken { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let name = format!("bound-{}", genesis.chain().short());
        Ok((self.inner.node.add_governed(genesis, &name, governance).await?, name))
    }

    /// Opens what was announced on the identity's chain; what cannot be opened now is tried again by
    /// [`Self::follow_bound`].
    pub(super) async fn open_all_bound(&self, handle: &IdentityHandle) {
        if let Err(error) = self.open_announced(handle).await {
            warn!(did = ?handle.shared.did, %error, "announcements of bound chains cannot be read");
        }
    }

    /// Opens what is announced on the identity's chain from now on. An opening that has begun is finished, never left halfway.
    pub(super) async fn follow_bound(self, handle: IdentityHandle, stop: CancellationToken) {
        while !stop.is_cancelled() && !handle.chain.core().is_closed() {
            if let Err(error) = self.watch_bound(&handle, &stop).await {
                debug!(did = ?handle.shared.did, %error, "announcements of bound chains are looked for again");
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(AGAIN) => {}
                }
            }
        }
    }

    /// Returns when the chain was closed, or nothing more is to be opened.
    async fn watch_bound(&self, handle: &IdentityHandle, stop: &CancellationToken) -> IdentitiesResult<()> {
        let topic = topic()?;
        let mut changes = handle.shared.changes();
        let mut events = handle.chain.subscribe(SubscribeFrom::Now).await.map_err(of_ledger)?;
        loop {
            changes.mark_unchanged();
            let waiting = self.open_announced(handle).await?;
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                more = next_announced(&mut *events, &topic) => if !more.map_err(of_ledger)? {
                    return Ok(());
                },
                moved = changes.changed(), if waiting => moved.map_err(|_| IdentitiesError::Closed)?,
            }
        }
    }

    /// Returns the chains bound to an identity that are on this node, also those that are not open; none is opened any more
    /// when this returns. Called once, when the identity is deleted.
    pub(super) async fn end_bound(&self, handle: &IdentityHandle) -> IdentitiesResult<Vec<ChainId>> {
        // One that is being opened is stored by then, and nothing else would ever remove it.
        let turn = handle.shared.bound.turn.acquire().await.map_err(|_| IdentitiesError::Closed)?;
        let query = Query { topics_all: vec![topic()?], limit: Some(ANNOUNCEMENTS_MAX), ..Query::default() };
        let mut announcements = handle.chain.query(query).await.map_err(of_ledger)?;
        let mut found: BTreeSet<ChainId> = handle.shared.bound.ids().into_iter().collect();
        let here: BTreeSet<ChainId> = self.inner.node.chains(Listing::All).into_iter().map(|entry| entry.id).collect();
        while let Some(info) = announcements.next().await {
            let id = info.map_err(of_ledger)?.id;
            let Some(block) = handle.chain.block(&id).await.map_err(of_ledger)? else { continue };
            let read = block.inline().and_then(|content| announced(&handle.shared.did, content));
            found.extend(read.map(|(genesis, _)| genesis.chain()).filter(|chain| here.contains(chain)));
        }
        handle.shared.bound.turn.close();
        drop(turn);
        Ok(found.into_iter().collect())
    }

    /// Opens every announced chain that counts; says whether some cannot be judged or opened yet.
    async fn open_announced(&self, handle: &IdentityHandle) -> IdentitiesResult<bool> {
        let query = Query { topics_all: vec![topic()?], limit: Some(ANNOUNCEMENTS_MAX), ..Query::default() };
        let mut found = handle.chain.query(query).await.map_err(of_ledger)?;
        let mut waiting = false;
        while let Some(info) = found.next().await {
            let id = info.map_err(of_ledger)?.id;
            match self.look_at(handle, &id).await? {
                Found::Open(genesis, rules) => match self.open_bound(handle, &genesis, rules).await {
                    Ok(()) => {}
                    // The identity is being deleted.
                    Err(IdentitiesError::Closed) => return Ok(false),
                    Err(error) => {
                        warn!(did = ?handle.shared.did, chain = ?genesis.chain(), %error, "a bound chain stays closed");
                        waiting = true;
                    }
                },
                Found::Wait => waiting = true,
                Found::Nothing => {}
            }
        }
        Ok(waiting)
    }

    async fn look_at(&self, handle: &IdentityHandle, id: &BlockId) -> IdentitiesResult<Found> {
        let shared = &handle.shared;
        let Some(block) = handle.chain.block(id).await.map_err(of_ledger)? else { return Ok(Found::Nothing) };
        let read =
            block.inline().and_then(|content| Some((announced(&shared.did, content)?, Claim::split(content)?.0)));
        let Some(((genesis, binding), claim)) = read else { return Ok(Found::Nothing) };
        let chain = genesis.chain();
        if shared.bound.open().contains_key(&chain) {
            return Ok(Found::Nothing);
        }
        // What is here stays open, whatever became of who announced it: others' records stand on it.
        if self.inner.node.chains(Listing::All).iter().any(|entry| entry.id == chain) {
            return Ok(Found::Open(Box::new(genesis), binding.rules));
        }
        if shared.bound.open().len() >= BOUND_MAX || shared.my_role().is_none() {
            debug!(did = ?shared.did, ?chain, "a bound chain is not opened here");
            return Ok(Found::Nothing);
        }
        match handle.role_at(&claim.author, &claim.auth_heads) {
            Ok(Some(Role::Admin)) => {}
            Ok(_) => return Ok(Found::Nothing),
            Err(_) => return Ok(Found::Wait),
        }
        let (author, auth_heads) = (claim.author, claim.auth_heads);
        let record = RecordRef { block: *id, creator: block.header().creator, author, auth_heads };
        Ok(match handle.judge(&record).await {
            Judgement::Valid => Found::Open(Box::new(genesis), binding.rules),
            Judgement::Void(_) => Found::Nothing,
            Judgement::Wait => Found::Wait,
        })
    }
}

/// What an announcement comes to.
enum Found {
    /// To be opened.
    Open(Box<Block>, RecordRules),
    /// It cannot be judged yet.
    Wait,
    /// It is open, or none.
    Nothing,
}

/// Returns with the next block of that topic, or when events were missed; false at the end.
async fn next_announced(events: &mut dyn Subscription, topic: &Topic) -> Result<bool, LedgerError> {
    loop {
        match events.next().await? {
            Some(LedgerEvent::Block(info)) if info.topics.contains(topic) => return Ok(true),
            Some(LedgerEvent::Lagged { .. }) => return Ok(true),
            Some(_) => {}
            None => return Ok(false),
        }
    }
}

fn topic() -> IdentitiesResult<Topic> {
    bound_topic().map_err(|_| IdentitiesError::Internal { reason: "the topic of bound chains" })
}

fn of_ledger(error: LedgerError) -> IdentitiesError {
    IdentitiesError::Node(error.into())
}

/// Access and admission of a chain bound to an identity: those of the identity's chain, but that no authority ops stand on
/// it.
#[derive(Debug)]
struct BoundGate {
    gate: Gate,
    chain: ChainId,
}

#[async_trait]
impl ChainAccess for BoundGate {
    fn session_secret(&self) -> Secret<32> {
        // As on the identity's chain: it names the chain to who knows it; the right is judged by peer id.
        derive(Label::TransportSession, &Secret::new(*self.chain.digest()), &[0; 32], &[])
    }

    fn gossip_keys(&self) -> Vec<GossipKey> {
        // Topic and sealing are derived from the key and the chain.
        self.gate.gossip_keys()
    }

    async fn prepare(&self, peer: &PeerId) -> Result<(), AccessError> {
        self.gate.prepare(peer).await
    }

    async fn may_sync(&self, peer: &PeerId) -> Access {
        self.gate.may_sync(peer).await
    }

    fn changes(&self) -> watch::Receiver<u64> {
        ChainAccess::changes(&self.gate)
    }
}

#[async_trait]
impl AdmissionPolicy for BoundGate {
    async fn judge(&self, block: &Block) -> Admission {
        let is_op = block.header().topics.iter().any(|topic| topic.as_str() == OP_TOPIC);
        match block.inline() {
            Some(content) if !is_op && self.gate.judge_record(block, content) => Admission::Admit,
            _ => Admission::Wait,
        }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        AdmissionPolicy::changes(&self.gate)
    }
}
