//! The driver of the exchange's machine: feeds it from the store, carries out what it says.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tracing::{debug, warn};
use walytis_core::id::{BlockId, PeerId};
use walytis_core::ledger::LedgerError;
use walytis_core::store::{BlobStoreError, Direction, KeyRange, StoreError};

use super::Inner;
use super::table::{Table, behind};
use super::task::Task;
use crate::envelope::EnvelopeId;
use crate::exchange::frame_v1::{Body, Message, Packed};
use crate::exchange::{Event, Machine, Output};

/// Parts that are checked and stored at the same time. Chosen: several share a flush; 16 MiB of memory.
const STORING_MAX: usize = 16;
/// Envelopes read from the store at once.
const PAGE: usize = 128;
/// How long until envelopes for which there was no room are looked at again, all of them, one after the other.
const AGAIN: Duration = Duration::from_secs(5);

/// What is being fetched.
#[derive(Debug)]
pub(super) struct Fetching {
    pub(super) machine: Machine,
    pub(super) storing: JoinSet<StoredPart>,
    walk: Walk,
    /// When those are looked at again for which there was no room.
    again_at: Option<Instant>,
    stale_peers: bool,
}

/// What became of a part.
#[derive(Debug)]
pub(super) struct StoredPart {
    peer: PeerId,
    id: EnvelopeId,
    part: u32,
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    /// The manifest, not stored yet.
    Manifest(Arc<Packed>),
    /// The manifest is stored, with these chunks here.
    Begun(Vec<bool>),
    Chunk,
    /// There is no place for a chunk of this envelope.
    Homeless(Arc<Packed>),
    /// Its envelope has been removed here meanwhile.
    Late,
    /// Not the bytes that its name stands for: the peer lies.
    Wrong,
    /// There is no room for it on this disk.
    NoRoom(String),
    Failed(LedgerError),
}

impl Fetching {
    /// `chance` is drawn at random, see [`Machine::new`].
    pub(super) fn new(chance: u64) -> Self {
        let (machine, storing) = (Machine::new(chance), JoinSet::new());
        Self { machine, storing, walk: Walk::from(chance), again_at: None, stale_peers: true }
    }

    pub(super) fn has_room_to_store(&self) -> bool {
        self.storing.len() < STORING_MAX
    }

    /// Who can be asked may have changed.
    pub(super) const fn look_for_peers(&mut self) {
        self.stale_peers = true;
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.machine.poll_timeout(Instant::now()).into_iter().chain(self.again_at).min()
    }

    pub(super) async fn end(&mut self) {
        self.storing.shutdown().await;
    }
}

impl Task {
    /// Wants an envelope if there is room; if not, it is found in the store later. True: all of it is here.
    pub(super) async fn want(&mut self, envelope: EnvelopeId) -> Result<bool, LedgerError> {
        let (machine, now) = (&mut self.fetching.machine, Instant::now());
        if machine.wants(&envelope) {
            return Ok(false);
        }
        if machine.room() == 0 && machine.make_room(1, now) == 0 {
            self.fetching.again_at.get_or_insert(Instant::now() + AGAIN);
            return Ok(false);
        }
        let table = &self.inner.table;
        let have = match table.stored(&envelope).await? {
            Some(packed) => Some(table.chunks_here(&envelope, &packed).await?),
            None => None,
        };
        if have.as_ref().is_some_and(|have| have.iter().all(|here| *here)) {
            return Ok(true);
        }
        self.fetching.machine.want(envelope, have.as_deref(), Instant::now());
        Ok(false)
    }

    /// Wants envelopes that stand in the store, as many as there is room for.
    pub(super) async fn refill(&mut self) -> Result<(), LedgerError> {
        let now = Instant::now();
        let mut make_room = true;
        if self.fetching.again_at.take_if(|at| *at <= now).is_some() {
            self.fetching.walk.begin();
        } else {
            // It stands still for want of room: it goes on as soon as there is some, or in a while.
            make_room = !self.fetching.walk.waits;
        }
        let all = self.inner.table.all(b'f');
        while let Some(range) = self.fetching.walk.range(&all) {
            if self.fetching.machine.room() < PAGE {
                // Those that make room for others have their turn again.
                self.fetching.again_at.get_or_insert(now + AGAIN);
                if !make_room || self.fetching.machine.make_room(PAGE, now) == 0 {
                    self.fetching.walk.waits = true;
                    return Ok(());
                }
            }
            self.fetching.walk.waits = false;
            let limit = self.fetching.machine.room().min(PAGE);
            let (page, next) = self.inner.table.wanted_page(range, limit).await?;
            self.fetching.walk.step(next.and_then(|next| next.get(all.start.len()..).map(<[u8]>::to_vec)));
            for envelope in page {
                if self.want(envelope).await? {
                    // The store failed between its last part and the note that it is here.
                    self.arrived(&envelope).await?;
                }
            }
        }
        Ok(())
    }

    /// Says whom to ask, and sends what the machine wants sent.
    pub(super) async fn send_requests(&mut self) {
        let Some(exchange) = self.inner.exchange.clone() else { return };
        if std::mem::take(&mut self.fetching.stale_peers) {
            let connected = exchange.connected();
            let mut peers = self.inner.identity.peers().await;
            exchange.set_members(self.inner.table.tag, peers.clone());
            peers.retain(|peer| connected.contains(peer));
            self.fetching.machine.set_peers(&peers.into_iter().collect());
        }
        let (machine, now) = (&mut self.fetching.machine, Instant::now());
        machine.handle_time(now, &mut exchange.noes(), &mut self.rng);
        while let Some(output) = machine.poll_output(now) {
            match output {
                Output::Send { peer, body } => {
                    let bytes = if matches!(body, Body::Get(..)) { Table::CHUNK_BYTES } else { 0 };
                    exchange.send(&peer, &Message { ledger: self.inner.table.tag, body });
                    if let Some(until) = exchange.charge_download(bytes).filter(|_| bytes > 0) {
                        machine.hold(until);
                    }
                }
                Output::Unavailable { id, is } => self.inner.note_unavailable(id, is),
            }
        }
    }

    pub(super) fn handle_event(&mut self, event: Event) {
        let Some(exchange) = &self.inner.exchange else { return };
        let (machine, now) = (&mut self.fetching.machine, Instant::now());
        let chance = (&mut *exchange.noes(), &mut self.rng);
        match event {
            Event::Broken(peer) => machine.handle_break(&peer, now, chance.1),
            Event::Answer(peer, Body::Have(items)) => machine.handle_have(&peer, items, now, chance),
            Event::Answer(peer, Body::No(id, part)) => machine.handle_no(&peer, &id, part, now, chance),
            Event::Answer(peer, Body::Part(id, part, bytes)) if machine.handle_part(&peer, &id, part, now) => {
                let inner = Arc::clone(&self.inner);
                self.fetching.storing.spawn(async move {
                    let outcome = inner.store_part(&id, part, bytes).await.unwrap_or_else(Outcome::Failed);
                    StoredPart { peer, id, part, outcome }
                });
            }
            Event::Answer(..) => {}
        }
    }

    /// A part is stored, or could not be.
    pub(super) async fn handle_stored(&mut self, stored: Result<StoredPart, JoinError>) -> Result<(), LedgerError> {
        let Ok(StoredPart { peer, id, part, outcome }) = stored else {
            // A task that panicked has said so; the part is asked for again with everything else.
            return Err(LedgerError::Store(StoreError::Io { reason: "storing a part ended early".to_owned() }));
        };
        let outcome = match outcome {
            Outcome::Manifest(packed) => self.inner.take_manifest(&packed).await?,
            Outcome::Homeless(packed) => match self.inner.begin(&packed).await? {
                // It is asked for again.
                Outcome::Begun(_) => Outcome::Late,
                other => other,
            },
            other => other,
        };
        let (machine, now) = (&mut self.fetching.machine, Instant::now());
        let manifest = matches!(outcome, Outcome::Begun(_));
        let complete = match outcome {
            Outcome::Begun(have) => machine.handle_manifest(&peer, &id, &have, now),
            Outcome::Chunk => machine.handle_stored(&peer, &id, part, now),
            Outcome::Late | Outcome::Manifest(_) | Outcome::Homeless(_) => {
                machine.handle_failed(&peer, &id, part, now, &mut self.rng);
                return Ok(());
            }
            Outcome::Wrong => {
                machine.handle_failed(&peer, &id, part, now, &mut self.rng);
                if let Some(exchange) = &self.inner.exchange {
                    exchange.punish(&peer, "a part is not what it is called");
                }
                return Ok(());
            }
            Outcome::NoRoom(reason) => {
                warn!(ledger = ?self.inner, %reason, "a content does not fit on the disk");
                machine.handle_trouble(&id, part, now, &mut self.rng);
                return Ok(());
            }
            Outcome::Failed(error) => return Err(error),
        };
        if complete {
            return self.arrived(&id).await;
        }
        for block in self.inner.table.wanting(&id, PAGE).await? {
            if manifest {
                // It may turn out not to be this record's own.
                self.settle(&block, false).await?;
            }
            self.inner.moved(block);
        }
        self.publish();
        Ok(())
    }

    /// Everything of an envelope is here: settles what waits for it.
    pub(super) async fn arrived(&mut self, id: &EnvelopeId) -> Result<(), LedgerError> {
        self.fetching.machine.drop_want(id);
        let waiting = KeyRange::prefix(&self.inner.table.key(b'f', &[&id.0]));
        for block in self.inner.table.ids(waiting).await? {
            self.settle(&block, false).await?;
        }
        self.publish();
        Ok(())
    }
}

impl Inner {
    /// Stores a manifest that is still wanted. Called by the task alone, which also destroys contents: so nothing is written
    /// behind its forgetting, whenever the process dies.
    async fn take_manifest(&self, packed: &Packed) -> Result<Outcome, LedgerError> {
        if self.table.wanting(&packed.id(), 1).await?.is_empty() {
            return Ok(Outcome::Late);
        }
        self.store_packed(packed).await?;
        self.begin(packed).await
    }

    /// Makes a place for the chunks of an envelope if it is still wanted, and as long as its record says: of another length it
    /// is refused when its record is looked at next, and nothing is begun for it.
    async fn begin(&self, packed: &Packed) -> Result<Outcome, LedgerError> {
        let table = &self.table;
        let Some(block) = table.wanting(&packed.id(), 1).await?.pop() else { return Ok(Outcome::Late) };
        if !self.placed(&block).await?.is_some_and(|placed| placed.fits(packed)) {
            return Ok(Outcome::Begun((0..packed.manifest.chunks()).map(|_| false).collect()));
        }
        match table.begin(packed).await {
            Ok(have) => Ok(Outcome::Begun(have)),
            Err(BlobStoreError::Full { reason }) => Ok(Outcome::NoRoom(reason)),
            Err(error) => Err(error.into()),
        }
    }

    /// Checks a part that was asked for, and stores a chunk; many at the same time.
    async fn store_part(&self, id: &EnvelopeId, part: u32, bytes: Bytes) -> Result<Outcome, LedgerError> {
        let table = &self.table;
        let Some(index) = part.checked_sub(1) else {
            let packed = Packed::verify(id, &bytes).map(Arc::new);
            return Ok(packed.map_or(Outcome::Wrong, Outcome::Manifest));
        };
        let Some(packed) = table.stored(id).await? else { return Ok(Outcome::Late) };
        if !packed.manifest.holds(index, &bytes) {
            return Ok(Outcome::Wrong);
        }
        match table.write_chunk(id, index, bytes).await {
            Ok(()) => Ok(Outcome::Chunk),
            Err(BlobStoreError::Missing) => {
                debug!(ledger = ?self, "a chunk came for an envelope that is not begun");
                Ok(Outcome::Homeless(packed))
            }
            Err(BlobStoreError::Full { reason }) => Ok(Outcome::NoRoom(reason)),
            Err(error) => Err(error.into()),
        }
    }

    fn note_unavailable(&self, id: EnvelopeId, is: bool) {
        let mut unavailable = self.unavailable();
        let changed = match is {
            // More than are remembered show as wanted.
            true => unavailable.len() < UNAVAILABLE_MAX && unavailable.insert(id),
            false => unavailable.remove(&id),
        };
        drop(unavailable);
        if changed {
            self.state.send_modify(|state| state.version = state.version.wrapping_add(1));
        }
    }
}

/// Envelopes that are known to be with nobody. Chosen: 3 MB.
const UNAVAILABLE_MAX: usize = 65_536;

impl Table {
    /// Bytes that asking for a part may bring.
    const CHUNK_BYTES: u64 = crate::envelope::CHUNK as u64;

    /// Blocks that wait for an envelope: one, unless its author put the same record on the chain again.
    pub(super) async fn wanting(&self, id: &EnvelopeId, limit: usize) -> Result<Vec<BlockId>, StoreError> {
        Ok(self.ids_page(KeyRange::prefix(&self.key(b'f', &[&id.0])), limit).await?.0)
    }

    /// Envelopes that are to be fetched, of a range of keys, and where to go on.
    async fn wanted_page(
        &self,
        range: KeyRange,
        limit: usize,
    ) -> Result<(Vec<EnvelopeId>, Option<Vec<u8>>), StoreError> {
        let prefix = self.key(b'f', &[]).len();
        let page = self.store.scan(range, Direction::Forward, limit).await?;
        let next = page.last().filter(|_| page.len() == limit).map(|(key, _)| behind(key));
        let id = |key: &[u8]| key.get(prefix..).and_then(|rest| rest.first_chunk()).map(|id| EnvelopeId(*id));
        let mut ids: Vec<EnvelopeId> = page.iter().filter_map(|(key, _)| id(key)).collect();
        ids.dedup();
        Ok((ids, next))
    }
}

/// A walk round all envelopes that are to be fetched, in the order of their ids. Whoever makes an envelope can choose how
/// its id begins; so a walk begins anywhere and goes on where it stopped: none is always first.
#[derive(Debug)]
struct Walk {
    /// Where it goes on: a key behind the table's prefix.
    at: Vec<u8>,
    /// Where its round ends; nothing: it is over.
    end: Option<End>,
    /// Whether it stands still because there is no room.
    waits: bool,
}

#[derive(Debug)]
enum End {
    /// Behind the last key; then it goes on with the first, up to this one.
    Last(Vec<u8>),
    Here(Vec<u8>),
}

impl Walk {
    /// Returns the first round, from a place drawn at random.
    fn from(chance: u64) -> Self {
        let at = chance.to_be_bytes().to_vec();
        Self { end: Some(End::Last(at.clone())), at, waits: false }
    }

    /// Begins the next round, if the last one is over.
    fn begin(&mut self) {
        self.end.get_or_insert_with(|| End::Last(self.at.clone()));
    }

    /// The keys that come next, of all of the table.
    fn range(&self, all: &KeyRange) -> Option<KeyRange> {
        let key = |rest: &[u8]| [&all.start, rest].concat();
        let end = match self.end.as_ref()? {
            End::Last(_) => all.end.clone(),
            End::Here(end) => Some(key(end)),
        };
        Some(KeyRange { start: key(&self.at), end })
    }

    /// A page was read: where to go on in the range, or nothing if that was all of it.
    fn step(&mut self, next: Option<Vec<u8>>) {
        match (next, self.end.take()) {
            (Some(next), end) => (self.at, self.end) = (next, end),
            (None, Some(End::Last(end))) => (self.at, self.end) = (Vec::new(), Some(End::Here(end))),
            (None, Some(End::Here(end))) => self.at = end,
            (None, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Reads pages of two keys, as a store does.
    fn page(keys: &BTreeMap<Vec<u8>, ()>, range: KeyRange) -> Vec<Vec<u8>> {
        let within = keys.keys().filter(|key| **key >= range.start && range.end.as_ref().is_none_or(|end| *key < end));
        within.take(2).cloned().collect()
    }

    #[test]
    fn each_round_meets_every_envelope_once_and_begins_where_the_last_one_did() {
        let all = KeyRange::prefix(b"f");
        for chance in [0, 3 << 56, 4 << 56, u64::MAX] {
            for count in 0..8_u8 {
                let keys = (0..count).map(|n| (vec![b'f', n, 7], ())).collect();
                let mut walk = Walk::from(chance);
                for _ in 0..3 {
                    let mut seen = Vec::new();
                    walk.begin();
                    while let Some(range) = walk.range(&all) {
                        let met = page(&keys, range);
                        walk.step(met.last().filter(|_| met.len() == 2).map(|key| behind(&key[1..])));
                        seen.extend(met);
                    }
                    let first =
                        keys.keys().find(|key| key[1..] >= chance.to_be_bytes()[..]).or_else(|| keys.keys().next());
                    assert_eq!(seen.first(), first);
                    seen.sort();
                    assert!(seen.iter().eq(keys.keys()), "{seen:?}");
                }
            }
        }
    }
}
