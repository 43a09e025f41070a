//! The runtime's handle: what applications call.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use walytis_core::clock::{Clock, Entropy};
use walytis_core::net::Network;
use walytis_core::node::Node;
use walytis_core::store::{KvStore, SecretStore};

use super::author::{Authored, Draft};
use super::error::{IdentitiesError, IdentitiesResult};
use super::handle::IdentityHandle;
use super::info::{ControllerInfo, IdentityInfo};
use super::resolve::Foreigners;
use super::shared::Tools;
use super::task::Command;
use super::wire_v1::PART_BYTES_MAX;
use crate::id::{ControllerId, Did, EpochId, OpId, Role};
use crate::op::{HistoryPolicy, RENEW_AFTER_S};
use crate::recovery::RecoveryCode;
use crate::state::{Controller, Invitation};
use crate::token::{IdentityToken, TOKEN_ADDRESSES_MAX, TOKEN_PEERS_MAX, TokenPeer};

/// Settings of the runtime.
#[derive(Clone, Copy, Debug)]
pub struct IdentitiesConfig {
    /// How long each rank waits for the one before it to take over a duty.
    pub turn: Duration,
    /// Age at which an epoch is renewed, where its identity's creation decided nothing.
    pub epoch_age: Duration,
    /// Age at which a device's receiving key is renewed.
    pub receiving_age: Duration,
    /// How long a receiving key is kept that is in force no more.
    pub retired_age: Duration,
    /// Bytes of authority ops that are sent to a peer at once, at most 8 MiB; the rest follows in further parts.
    pub part_bytes: usize,
}

/// One day.
const DAY: Duration = Duration::from_secs(24 * 3_600);

impl Default for IdentitiesConfig {
    fn default() -> Self {
        // Chosen: longer than any exchange between nodes that are connected, short for a person who waits.
        let turn = Duration::from_secs(10);
        // From the design: monthly, weekly; a retired key outlives an epoch.
        let (epoch_age, receiving_age, retired_age) = (30 * DAY, 7 * DAY, 30 * DAY);
        Self { turn, epoch_age, receiving_age, retired_age, part_bytes: PART_BYTES_MAX }
    }
}

/// What the runtime is opened with.
#[derive(Clone, Debug)]
pub struct IdentitiesParts {
    /// The node whose chains these are.
    pub node: Node,
    /// The same store as the node's.
    pub store: Arc<dyn KvStore>,
    /// Where keys stand: the key vault.
    pub secrets: Arc<dyn SecretStore>,
    /// The same network as the replicator's.
    pub network: Arc<dyn Network>,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Settings.
    pub config: IdentitiesConfig,
}

/// The identities of a node. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Identities {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) tools: Arc<Tools>,
    pub(super) node: Node,
    pub(super) here: Mutex<BTreeMap<Did, Entry>>,
    pub(super) foreign: Foreigners,
    pub(super) stop: CancellationToken,
    /// One creation or join at a time: they check, then write.
    turn: Semaphore,
    pub(super) tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Counts changes of the list.
    changes: watch::Sender<u64>,
}

/// One identity of this node.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) handle: IdentityHandle,
    pub(super) name: String,
    /// Ends the identity's task.
    pub(super) stop: CancellationToken,
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identities({})", self.inner.here().len())
    }
}

/// What is decided when an identity is created, for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdentityTerms {
    /// What newcomers may read of the time before them.
    pub history: HistoryPolicy,
    /// Age at which every device renews an epoch, in whole seconds: an hour to ten years. Nothing: 30 days.
    pub renew_after: Option<Duration>,
}

impl IdentityTerms {
    /// Checks the age.
    ///
    /// # Errors
    /// [`IdentitiesError::Refused`].
    pub(super) fn renew_after_s(&self) -> IdentitiesResult<Option<u32>> {
        let Some(age) = self.renew_after else { return Ok(None) };
        let seconds = u32::try_from(age.as_secs()).ok().filter(|age| RENEW_AFTER_S.contains(age));
        match seconds {
            Some(seconds) => Ok(Some(seconds)),
            None => Err(IdentitiesError::refused("keys are renewed after one hour to ten years")),
        }
    }
}

/// An identity that was created.
#[derive(Debug)]
pub struct Created {
    /// The identity.
    pub did: Did,
    /// The recovery code: shown once, stored nowhere.
    pub recovery: RecoveryCode,
}

/// Terms of an invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InviteOptions {
    /// The role it gives.
    pub role: Role,
    /// How many may use it; nothing: any number.
    pub uses: Option<u32>,
    /// Milliseconds since the Unix epoch; nothing: never.
    pub expires_at_ms: Option<i64>,
}

impl Default for InviteOptions {
    fn default() -> Self {
        Self { role: Role::Member, uses: Some(1), expires_at_ms: None }
    }
}

/// A new invitation.
#[derive(Debug)]
pub struct NewInvite {
    /// Names it.
    pub id: OpId,
    /// To be handed out; its text is secret.
    pub token: IdentityToken,
}

/// An authority op that was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpDone {
    /// The op.
    pub op: OpId,
    /// The epoch that is written under now.
    pub epoch: Option<EpochId>,
}

impl Inner {
    pub(super) fn new(parts: IdentitiesParts) -> Self {
        let node = parts.node.clone();
        Self {
            tools: Arc::new(Tools::new(parts)),
            node,
            here: Mutex::default(),
            foreign: Foreigners::default(),
            stop: CancellationToken::new(),
            turn: Semaphore::new(1),
            tasks: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }

    /// Tells that an identity has come or gone.
    pub(super) fn list_changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Short sections only.
    pub(super) fn here(&self) -> MutexGuard<'_, BTreeMap<Did, Entry>> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn turn(&self) -> IdentitiesResult<SemaphorePermit<'_>> {
        self.turn.acquire().await.map_err(|_| IdentitiesError::Closed)
    }

    pub(super) fn keep(&self, task: JoinHandle<()>) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }
}

impl Identities {
    /// Returns the identities of this node, by DID.
    pub fn list(&self) -> Vec<IdentityInfo> {
        let entries: Vec<Entry> = self.inner.here().values().cloned().collect();
        entries.iter().map(Entry::info).collect()
    }

    /// Returns a view that changes when an identity has come or gone: a node also joins by itself what another device of
    /// one of its identities has joined.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Returns the identity that `text` means: a name, a DID, a chain id, or the beginning of exactly one.
    ///
    /// # Errors
    /// [`IdentitiesError::Unknown`], [`IdentitiesError::Ambiguous`].
    pub fn find(&self, text: &str) -> IdentitiesResult<Did> {
        let here = self.inner.here();
        let texts = |did: &Did, entry: &Entry| {
            let id = did.chain().to_string();
            // The first seven characters of all ids are the same; people copy what follows.
            let differing = id.get(7..).unwrap_or_default().to_owned();
            [entry.name.clone(), did.to_string(), id, differing]
        };
        if let Some((did, _)) = here.iter().find(|(did, entry)| texts(did, entry).iter().take(3).any(|it| it == text)) {
            return Ok(*did);
        }
        let begins = here
            .iter()
            .filter(|(did, entry)| !text.is_empty() && texts(did, entry).iter().any(|it| it.starts_with(text)));
        let found: Vec<Did> = begins.map(|(did, _)| *did).collect();
        match found.as_slice() {
            [] => Err(IdentitiesError::Unknown { text: text.to_owned() }),
            [did] => Ok(*did),
            several => Err(IdentitiesError::Ambiguous { text: text.to_owned(), count: several.len() }),
        }
    }

    /// Returns everything that is shown of an identity.
    ///
    /// # Errors
    /// [`IdentitiesError::Unknown`].
    pub fn show(&self, did: &Did) -> IdentitiesResult<IdentityInfo> {
        Ok(self.entry(did)?.info())
    }

    /// Returns who controls an identity, this node's or a resolved one, as far as it is known; names of others' devices are
    /// not.
    ///
    /// # Errors
    /// [`IdentitiesError::Unresolved`].
    pub async fn controllers_of(&self, did: &Did) -> IdentitiesResult<Vec<ControllerInfo>> {
        if let Ok(entry) = self.entry(did) {
            return Ok(entry.info().controllers);
        }
        let state = self.with_graph(did, |graph| graph.state()).await?;
        let info = |controller: &Controller| ControllerInfo::without_cards(controller);
        Ok(state.controllers.values().map(info).collect())
    }

    /// Returns the handle of an identity.
    ///
    /// # Errors
    /// [`IdentitiesError::Unknown`].
    pub fn identity(&self, did: &Did) -> IdentitiesResult<IdentityHandle> {
        Ok(self.entry(did)?.handle)
    }

    /// Invites: anybody with the token may join under these terms, at any online controller that may write.
    ///
    /// # Errors
    /// [`IdentitiesError::Refused`] unless this device is an admin.
    pub async fn invite(&self, did: &Did, options: InviteOptions) -> IdentitiesResult<NewInvite> {
        let InviteOptions { role, uses, expires_at_ms } = options;
        if uses == Some(0) {
            return Err(IdentitiesError::refused("an invitation has at least one use"));
        }
        let shared = self.entry(did)?.handle.shared;
        if shared.state().history == HistoryPolicy::FromInvite {
            // What was written before shall stay closed to whoever comes with this invitation.
            self.author(did, Draft::Rekey).await?;
        }
        let authored = self.author(did, Draft::Invite { role, uses, expires_at_ms }).await?;
        let missing = IdentitiesError::Internal { reason: "an invitation without a seed" };
        let seed = authored.seed.ok_or(missing)?;
        let peers = self.token_peers(did)?;
        Ok(NewInvite {
            id: authored.id,
            token: IdentityToken { did: *did, invite: authored.id, seed, expires_at_ms, peers },
        })
    }

    /// Returns the invitations of an identity, revoked and used ones too, by id.
    ///
    /// # Errors
    /// [`IdentitiesError::Unknown`].
    pub fn invites(&self, did: &Did) -> IdentitiesResult<Vec<Invitation>> {
        Ok(self.entry(did)?.handle.shared.state().invitations.values().cloned().collect())
    }

    /// Takes an invitation back.
    ///
    /// # Errors
    /// [`IdentitiesError::Refused`].
    pub async fn revoke(&self, did: &Did, invite: OpId) -> IdentitiesResult<OpDone> {
        self.publish(did, Draft::RevokeInvite { invite }).await
    }

    /// Removes a controller: what it wrote up to what this node has admitted still counts, nothing after; new keys.
    ///
    /// # Errors
    /// [`IdentitiesError::NoController`], [`IdentitiesError::Refused`].
    pub async fn remove(&self, did: &Did, controller: ControllerId) -> IdentitiesResult<OpDone> {
        self.publish(did, Draft::Remove { targets: vec![controller] }).await
    }

    /// Starts a new epoch.
    ///
    /// # Errors
    /// [`IdentitiesError::Refused`].
    pub async fn rekey(&self, did: &Did) -> IdentitiesResult<OpDone> {
        self.publish(did, Draft::Rekey).await
    }

    /// This device leaves, or the identity that it acts for with all its devices; somebody who stays renews the keys. The
    /// data stays here.
    ///
    /// # Errors
    /// [`IdentitiesError::Refused`] for the last admin.
    pub async fn leave(&self, did: &Did) -> IdentitiesResult<OpDone> {
        let done = self.publish(did, Draft::Leave).await?;
        if let Some(person) = &self.entry(did)?.handle.shared.person {
            self.note_left(did, done.op, &person.did).await?;
        }
        Ok(done)
    }

    /// Tries again what the locked vault prevented: call it after unlocking.
    ///
    /// # Errors
    /// [`IdentitiesError`] of the first identity that fails; the others are tried.
    pub async fn unlocked(&self) -> IdentitiesResult<()> {
        let entries: Vec<Entry> = self.inner.here().values().cloned().collect();
        let mut outcome = Ok(());
        for entry in entries {
            let (reply, done) = oneshot::channel();
            let sent = entry.handle.shared.commands.send(Command::Unlocked { reply }).await;
            let one = match sent {
                Ok(()) => done.await.unwrap_or(Err(IdentitiesError::Closed)),
                Err(_) => Err(IdentitiesError::Closed),
            };
            outcome = outcome.and(one);
        }
        outcome
    }

    /// Ends everything in order; no task is left when it returns. The node, its store and network belong to whoever
    /// opened them; shut the node down afterwards. Idempotent.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.inner.turn.close();
        let tasks = std::mem::take(&mut *self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            // A panic of a task was reported by the runtime; the store is as the last commit left it.
            let _ended = task.await;
        }
        self.inner.here().clear();
    }

    pub(super) fn entry(&self, did: &Did) -> IdentitiesResult<Entry> {
        self.inner.here().get(did).cloned().ok_or_else(|| IdentitiesError::Unknown { text: did.to_string() })
    }

    pub(super) async fn publish(&self, did: &Did, draft: Draft) -> IdentitiesResult<OpDone> {
        let authored = self.author(did, draft).await?;
        let epoch = self.entry(did)?.handle.shared.state().sending_epoch;
        Ok(OpDone { op: authored.id, epoch })
    }

    async fn author(&self, did: &Did, draft: Draft) -> IdentitiesResult<Authored> {
        let shared = self.entry(did)?.handle.shared;
        let (reply, done) = oneshot::channel();
        let command = Command::Author { draft, reply };
        shared.commands.send(command).await.map_err(|_| IdentitiesError::Closed)?;
        done.await.map_err(|_| IdentitiesError::Closed)?
    }

    /// This node first, then other controllers whose addresses are known.
    pub(super) fn token_peers(&self, did: &Did) -> IdentitiesResult<Vec<TokenPeer>> {
        let shared = self.entry(did)?.handle.shared;
        let network = &shared.tools.network;
        let mut own = network.addresses();
        own.truncate(TOKEN_ADDRESSES_MAX);
        let mut peers = vec![TokenPeer { peer: network.local_peer(), addresses: own }];
        for (peer, mut addresses) in shared.others() {
            addresses.truncate(TOKEN_ADDRESSES_MAX);
            if !addresses.is_empty() && peers.len() < TOKEN_PEERS_MAX {
                peers.push(TokenPeer { peer, addresses });
            }
        }
        Ok(peers)
    }
}
