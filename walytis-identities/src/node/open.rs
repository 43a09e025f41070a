//! Opening the runtime, joining identities.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};
use walytis_core::block::Block;
use walytis_core::chain::Chain;
use walytis_core::node::{Governance, NodeError};
use walytis_core::store::{Batch, Durability, KvStore, StoreError};

use super::access::Gate;
use super::age::Age;
use super::error::{IdentitiesError, IdentitiesResult};
use super::handle::IdentityHandle;
use super::records::{self, IdentityRecord, InForceRecord};
use super::rows::Rows;
use super::runtime::{Entry, Identities, IdentitiesParts, Inner};
use super::shared::{Me, Shared, Tools};
use super::task::{COMMANDS, Command, OPS_AT_ONCE, Task};
use super::{exchange, join, members, nested, resolve, ring, serve};
use crate::card::CARD_NAME_MAX;
use crate::id::{DeviceId, Did, OpId};
use crate::state::AuthorityGraph;
use crate::token::IdentityToken;

/// How long the exchange that ends a join is waited for. Chosen: a person waits.
pub(super) const CLOSING_WITHIN: Duration = Duration::from_secs(20);

/// An identity that is stored and does not run yet.
pub(super) struct Stored {
    record: IdentityRecord,
    graph: AuthorityGraph,
    genesis: Block,
    rows: Rows,
}

impl Identities {
    /// Opens every identity of the node and begins to serve others. An identity that cannot be opened is logged and left
    /// alone; it harms no other.
    ///
    /// # Errors
    /// [`IdentitiesError::Store`]; [`IdentitiesError::Network`] if the protocols are taken.
    pub async fn open(parts: IdentitiesParts) -> IdentitiesResult<Self> {
        let identities = Self { inner: Arc::new(Inner::new(parts)) };
        let inner = &identities.inner;
        identities.finish_forgetting().await?;
        let mut stored = Vec::new();
        for (key, value) in records::all(&*inner.tools.store, &records::identities()).await? {
            let Some(chain) = records::chain_of(&key) else { continue };
            stored.push((Did(chain), records::decode::<IdentityRecord>(&key, &value)?));
        }
        identities.reopen_all(stored).await;
        serve::start(inner)?;
        resolve::start(inner)?;
        Ok(identities)
    }

    /// Joins an identity with an invitation, as a new device of this node. `name` is the local name, the DID by default.
    /// Interrupted, it may be repeated: the same keys are shown, and no second use is counted.
    ///
    /// # Errors
    /// [`IdentitiesError::BadToken`], [`IdentitiesError::Join`] with the reason; then nothing is left behind, unless an
    /// answer was lost on the way.
    pub async fn join(&self, token: &str, name: Option<&str>, device_name: &str) -> IdentitiesResult<Did> {
        check_device_name(device_name)?;
        let token: IdentityToken = token
            .parse()
            .map_err(|error: crate::token::TokenError| IdentitiesError::BadToken { reason: error.to_string() })?;
        let turn = self.inner.turn().await?;
        let did = token.did;
        if self.inner.here().contains_key(&did) {
            return Err(IdentitiesError::AlreadyHere { did });
        }
        // What an interrupted deletion left must not be deleted from under the new device.
        self.finish(&did).await?;
        let name = name.map_or_else(|| did.to_string(), str::to_owned);
        self.check_name(&name)?;
        let joined = join::join(&self.inner.tools, &token, device_name).await?;
        let record = new_record(joined.keys.id(), &name, device_name);
        let stored = self.store(record, joined.graph, joined.genesis, Batch::new()).await?;
        let shared = self.start(stored).await?.handle.shared;
        info!(?did, "joined an identity");
        drop(turn);
        // The card lets the other side recognise this device; without it the next session brings it.
        exchange::with_all(&shared, &[joined.peer], CLOSING_WITHIN).await;
        Ok(did)
    }

    pub(super) fn check_name(&self, name: &str) -> IdentitiesResult<()> {
        let taken = self.inner.node.chains(walytis_core::node::Listing::All).iter().any(|entry| entry.name == name);
        if taken { Err(NodeError::NameTaken { name: name.to_owned() }.into()) } else { Ok(()) }
    }

    /// Stores record, genesis, ops and `more` in one commit; ends a join.
    pub(super) async fn store(
        &self,
        record: IdentityRecord,
        graph: AuthorityGraph,
        genesis: Block,
        more: Batch,
    ) -> IdentitiesResult<Stored> {
        let chain = graph.chain();
        let mut batch = Batch::new();
        batch.put(records::identity(&chain), records::encode(&record));
        batch.put(records::genesis(&chain), genesis.file().clone());
        // What was resolved of it stands elsewhere, and is not asked for any more.
        self.inner.foreign.end(&graph.did(), &mut batch);
        batch.delete_range(walytis_core::store::KeyRange::prefix(&records::ops(&chain)));
        let mut rows = Rows::default();
        nested::all_ops(&graph).iter().for_each(|op| rows.put(&chain, op, &mut batch));
        batch.delete_range(walytis_core::store::KeyRange::prefix(&records::nested(&chain)));
        for (below, genesis) in graph.nested_genesis() {
            batch.put(records::nested_genesis(&chain, &below.chain()), genesis.file().clone());
        }
        batch.delete(records::join(&chain));
        batch.append(more);
        self.inner.tools.store.commit(batch, Durability::Flushed).await?;
        Ok(Stored { record, graph, genesis, rows })
    }

    /// Opens whoever acts for another identity after that one; without it it cannot be opened.
    async fn reopen_all(&self, mut stored: Vec<(Did, IdentityRecord)>) {
        while !stored.is_empty() {
            let here: BTreeSet<Did> = self.inner.here().keys().copied().collect();
            let waits = |record: &IdentityRecord| record.person.is_some_and(|person| !here.contains(&person));
            let (later, now): (Vec<_>, Vec<_>) = stored.into_iter().partition(|(_, record)| waits(record));
            // Of those whose identity is not here, each fails with the reason.
            let (now, later) = if now.is_empty() { (later, now) } else { (now, later) };
            for (did, record) in now {
                if let Err(error) = self.reopen(did, record).await {
                    warn!(?did, %error, "identity cannot be opened");
                }
            }
            stored = later;
        }
    }

    async fn reopen(&self, did: Did, record: IdentityRecord) -> IdentitiesResult<()> {
        let (graph, genesis, rows) = load(&*self.inner.tools.store, &did, Rows::default()).await?;
        self.start(Stored { record, graph, genesis, rows }).await?;
        Ok(())
    }

    /// Opens the chain and starts the task of a stored identity.
    pub(super) async fn start(&self, stored: Stored) -> IdentitiesResult<Entry> {
        let Stored { record, graph, genesis, rows } = stored;
        let did = graph.did();
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let tools: Arc<Tools> = Arc::clone(&self.inner.tools);
        let person = match &record.person {
            Some(person) => Some(Arc::clone(&self.entry(person)?.handle.shared)),
            None => None,
        };
        let me = Me { device: record.device, name: record.device_name.clone(), person };
        let shared = Arc::new(Shared::new(graph, genesis.file().clone(), me, tools, commands));
        shared.known().rows = rows;
        load_cards(&shared).await?;
        load_marks(&shared).await?;
        match ring::load(&shared).await {
            Ok(()) | Err(IdentitiesError::Locked) => {}
            Err(error) => return Err(error),
        }
        let gate = Arc::new(Gate(Arc::clone(&shared)));
        let signer = IdentityHandle::signer(&shared);
        let governance = Governance { access: gate.clone(), policy: gate, signer: Some(signer) };
        let name = record.name.clone();
        let chain = self.open_chain(&genesis, &name, governance).await?;
        let stop = self.inner.stop.child_token();
        let handle = IdentityHandle { shared: Arc::clone(&shared), chain: chain.clone() };
        let entry = Entry { handle, name, stop: stop.clone() };
        self.inner.keep(tokio::spawn(Task::new(Arc::clone(&shared), chain, record).run(receiver, stop)));
        // Its first command is answered when card and epochs are in order.
        let (reply, settled) = tokio::sync::oneshot::channel();
        let nothing =
            Command::Learn { genesis: Vec::new(), ops: Vec::new(), cards: Vec::new(), from: None, reply: Some(reply) };
        shared.commands.send(nothing).await.map_err(|_| IdentitiesError::Closed)?;
        settled.await.map_err(|_| IdentitiesError::Closed)?;
        self.open_all_bound(&entry.handle).await;
        self.inner.keep(tokio::spawn(self.clone().follow_bound(entry.handle.clone(), entry.stop.clone())));
        self.inner.here().insert(did, entry.clone());
        self.inner.list_changed();
        let following = members::run(Arc::downgrade(&self.inner), entry.handle.clone(), entry.stop.clone());
        self.inner.keep(tokio::spawn(following));
        Ok(entry)
    }

    /// A crash may have come before the chain was stored.
    async fn open_chain(&self, genesis: &Block, name: &str, governance: Governance) -> IdentitiesResult<Chain> {
        let id = genesis.chain();
        let here = self.inner.node.chains(walytis_core::node::Listing::All).iter().any(|entry| entry.id == id);
        if here {
            return Ok(self.inner.node.open_governed(&id, governance).await?);
        }
        Ok(self.inner.node.add_governed(genesis, name, governance).await?)
    }
}

/// Loads what is stored of an identity, this node's or a foreign one, as the rows without ops say.
pub(super) async fn load(
    store: &dyn KvStore,
    did: &Did,
    mut rows: Rows,
) -> IdentitiesResult<(AuthorityGraph, Block, Rows)> {
    let chain = did.chain();
    let keys = rows.keys(&chain);
    let key = keys.genesis.clone();
    let corrupt = |key: &[u8], reason| IdentitiesError::Store(StoreError::corrupt(key, reason));
    let file = store.get(&key).await?.ok_or_else(|| corrupt(&key, "the genesis block is missing"))?;
    let genesis = join::verify_genesis(did, file).ok_or_else(|| corrupt(&key, "it is not the genesis block"))?;
    let mut graph = AuthorityGraph::from_genesis(&genesis).map_err(|_| corrupt(&key, "it creates no identity"))?;
    let below = records::all(store, &keys.nested).await?;
    let candidates = nested::candidates(below.into_iter().map(|(_, file)| file).collect());
    let (mut early, mut batch) = (Vec::new(), Batch::new());
    for (count, (key, value)) in records::all(store, &keys.ops).await?.into_iter().enumerate() {
        if count % OPS_AT_ONCE == 0 {
            tokio::task::yield_now().await;
        }
        let op = crate::op::SignedOp::decode(&value).map_err(|_| corrupt(&key, "it is no authority op"))?;
        let number = key.last_chunk::<8>().map_or(0, |number| u64::from_be_bytes(*number));
        let offered = nested::offer(&mut graph, op.clone(), &candidates);
        rows.delete_thrown_out(&mut graph, &mut batch);
        rows.note(&chain, &op, number);
        match offered {
            Ok(taken) if !taken.ops.is_empty() => {}
            // What an op names is stored before it.
            _ => early.push((op, key)),
        }
    }
    let of_others = early.iter().filter(|(op, _)| op.core().chain != *chain.digest());
    let of_others: Vec<(OpId, Bytes)> = of_others.map(|(op, key)| (op.id(), key.clone())).collect();
    let early = early.into_iter().map(|(op, _)| op).collect();
    for refusal in nested::offer_all(&mut graph, early, &candidates) {
        // Left by a crash between storing and refusing it, or by an op that waited for more of an identity below.
        debug!(?did, %refusal, "stored authority op passed over");
    }
    rows.delete_thrown_out(&mut graph, &mut batch);
    for (_, key) in of_others.into_iter().filter(|(id, _)| !graph.is_below(id)) {
        batch.delete(key.to_vec());
    }
    for below in candidates.keys().filter(|below| !graph.has_below(below)) {
        batch.delete(keys.nested_genesis(&below.chain()));
    }
    if !batch.is_empty() {
        store.commit(batch, Durability::Buffered).await?;
    }
    Ok((graph, genesis, rows))
}

async fn load_cards(shared: &Shared) -> IdentitiesResult<()> {
    let cards = records::all(&*shared.tools.store, &records::cards(&shared.did.chain())).await?;
    let mut known = shared.known();
    for (_, card) in cards {
        // A damaged card comes again from its device.
        let _device = known.take_in_card(&*shared.tools.network, &card);
    }
    Ok(())
}

/// Loads what is noted beside ops and cards.
async fn load_marks(shared: &Shared) -> IdentitiesResult<()> {
    let (store, chain) = (&shared.tools.store, shared.did.chain());
    let key = records::in_force(&chain);
    let in_force = store.get(&key).await?.map(|value| records::decode::<InForceRecord>(&key, &value)).transpose()?;
    let older_copy = store.get(&records::older_copy(&chain)).await?.is_some();
    shared.set_archived(store.get(&records::archived(&chain)).await?.is_some());
    let mut known = shared.known();
    known.in_force = in_force.map(|record| (record.epoch, Age::since(record.since_ms, &*shared.tools.clock)));
    known.older_copy = older_copy;
    Ok(())
}

pub(super) fn new_record(device: DeviceId, name: &str, device_name: &str) -> IdentityRecord {
    IdentityRecord { device, name: name.to_owned(), device_name: device_name.to_owned(), card_counter: 0, person: None }
}

pub(super) fn check_device_name(name: &str) -> IdentitiesResult<()> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > CARD_NAME_MAX {
        "it has more than 64 bytes"
    } else if name.chars().any(char::is_control) {
        "it has control characters"
    } else {
        return Ok(());
    };
    Err(IdentitiesError::BadName { reason })
}
