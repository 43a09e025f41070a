//! Fetching the blobs of one chain: the list of leaf digests first, verified against the root, then leaves, several in
//! flight from several peers, each verified before it is stored. What was stored stays: a fetch goes on where it was.

mod serve;

pub(crate) use serve::{BlobRequest, BlobServeTask};

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha20Rng;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::catch_up::backoff;
use super::codec_v1::{Channel, Message};
use super::driver::sleep_until;
use super::line::Line;
use crate::chain::{ChainCore, WantedBlob};
use crate::id::{BlobId, Digest, PeerId};
use crate::ledger::LedgerError;
use crate::limits::{BLOB_LEAF, CONTENT_MAX};
use crate::store::BlobStatus;
use crate::unixfs::BlobManifest;

/// Blobs fetched at the same time in the background. What readers wait for comes on top.
const ACTIVE_MAX: usize = 4;
/// Blobs that readers may wait for at once.
const WAITED_MAX: usize = 256;
/// Leaves in flight from one peer, all blobs together. Chosen: 8 MiB, the window of a fast link.
const LEAVES_PER_PEER: usize = 8;
/// How long a leaf or a list of digests may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How often the stored list of wanted blobs is read, at the least.
const SCAN_EVERY: Duration = Duration::from_secs(30);

/// How long a reader waits while nobody connected has the blob. Chosen: a block may arrive by gossip before the session
/// with its author is open, and links come back after a moment.
const READER_PATIENCE: Duration = Duration::from_secs(5);

/// Tells a reader that the blob is here, or why not.
type Reply = oneshot::Sender<Result<(), &'static str>>;

/// Whoever waited may have gone meanwhile.
fn answer(reply: Reply, result: Result<(), &'static str>) {
    let _gone = reply.send(result);
}

/// What the fetches of a chain are told.
#[derive(Debug)]
pub(crate) enum BlobInput {
    /// A session is open.
    Up(Line),
    /// It is gone.
    Down { peer: PeerId, channel: Channel },
    /// An answer.
    Message { peer: PeerId, channel: Channel, message: Message },
    /// Somebody waits for this blob.
    Fetch { wanted: WantedBlob, reply: Reply },
    /// Blocks with blobs may have come.
    Scan,
}

#[derive(Debug, Default)]
struct Fetch {
    wanted: Vec<WantedBlob>,
    replies: Vec<Reply>,
    len: u64,
    digests: Vec<[u8; 32]>,
    /// The digests are complete and match the root.
    verified: bool,
    missing: BTreeSet<u32>,
    asked: BTreeMap<u32, (PeerId, Instant)>,
    manifest_asked: Option<(PeerId, Instant)>,
    /// Peers that did not have it, and when to ask them again.
    without: BTreeMap<PeerId, (u32, Instant)>,
    /// When readers who wait hear that nobody has it.
    give_up_at: Option<Instant>,
}

impl Fetch {
    fn leaves(&self) -> usize {
        usize::try_from(self.len.div_ceil(BLOB_LEAF as u64)).unwrap_or(usize::MAX)
    }

    fn may_ask(&self, peer: &PeerId, now: Instant) -> bool {
        self.without.get(peer).is_none_or(|(_, until)| *until <= now)
    }

    fn put_off(&mut self, peer: &PeerId, now: Instant, rng: &mut ChaCha20Rng) {
        let failures = self.without.get(peer).map_or(0, |(failures, _)| failures + 1);
        self.without.insert(peer.clone(), (failures, now + backoff(failures, rng)));
    }

    /// Takes back what this peer was asked for.
    fn forget(&mut self, peer: &PeerId) {
        self.manifest_asked.take_if(|(asked, _)| asked == peer);
        let back: Vec<_> = self.asked.iter().filter(|(_, (p, _))| p == peer).map(|(index, _)| *index).collect();
        for index in back {
            self.asked.remove(&index);
            self.missing.insert(index);
        }
    }
}

/// The task of one chain.
#[derive(Debug)]
pub(crate) struct BlobTask {
    core: ChainCore,
    lines: BTreeMap<PeerId, Line>,
    fetches: BTreeMap<BlobId, Fetch>,
    rng: ChaCha20Rng,
    active: tokio::sync::watch::Sender<usize>,
}

impl BlobTask {
    pub(crate) const fn new(core: ChainCore, rng: ChaCha20Rng, active: tokio::sync::watch::Sender<usize>) -> Self {
        Self { core, lines: BTreeMap::new(), fetches: BTreeMap::new(), rng, active }
    }

    pub(crate) async fn run(mut self, mut inputs: mpsc::Receiver<BlobInput>, stop: CancellationToken) {
        let mut scan_at = Instant::now();
        loop {
            let wake = self.next_timeout().map_or(scan_at, |at| at.min(scan_at));
            let input = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                input = inputs.recv() => match input {
                    Some(input) => Some(input),
                    None => return,
                },
                () = sleep_until(Some(wake)) => None,
            };
            let now = Instant::now();
            let scan = matches!(input, Some(BlobInput::Scan)) || scan_at <= now;
            let handled = match input {
                Some(input) => self.handle(input, now).await,
                None => Ok(()),
            };
            let room = self.fetches.len() < ACTIVE_MAX;
            let scanned = if scan && room { self.scan().await } else { Ok(()) };
            if scan {
                scan_at = now + SCAN_EVERY;
            }
            if let Err(error) = handled.and(scanned) {
                warn!(chain = ?self.core.id(), %error, "fetching blobs failed");
            }
            self.expire(now);
            self.give_up_waiting(now);
            self.pump(now);
            self.active.send_if_modified(|count| std::mem::replace(count, self.fetches.len()) != self.fetches.len());
        }
    }

    /// Returns when an answer is overdue or a peer may be asked again.
    fn next_timeout(&self) -> Option<Instant> {
        let now = Instant::now();
        let of = |fetch: &Fetch| {
            let manifest = fetch.manifest_asked.iter().map(|(_, at)| *at);
            let leaves = fetch.asked.values().map(|(_, at)| *at);
            let again = fetch.without.iter().filter(|(peer, _)| self.lines.contains_key(*peer));
            let again = again.map(|(_, (_, at))| *at).filter(|at| *at > now);
            manifest.chain(leaves).chain(again).chain(fetch.give_up_at).min()
        };
        self.fetches.values().filter_map(of).min()
    }

    async fn handle(&mut self, input: BlobInput, now: Instant) -> Result<(), LedgerError> {
        match input {
            BlobInput::Up(line) => {
                self.fetches.values_mut().for_each(|fetch| {
                    fetch.forget(&line.peer);
                    fetch.without.remove(&line.peer);
                });
                self.lines.insert(line.peer.clone(), line);
            }
            BlobInput::Down { peer, channel } => {
                if self.lines.get(&peer).is_some_and(|line| line.channel == channel) {
                    self.lines.remove(&peer);
                    self.fetches.values_mut().for_each(|fetch| fetch.forget(&peer));
                }
            }
            BlobInput::Fetch { wanted, reply } => {
                if self.fetches.len() >= WAITED_MAX {
                    let _gone = reply.send(Err("too many blobs are being fetched"));
                    return Ok(());
                }
                self.want(wanted, Some(reply)).await?;
            }
            BlobInput::Message { peer, channel, message } => {
                if self.lines.get(&peer).is_some_and(|line| line.channel == channel) {
                    self.handle_message(&peer, message, now).await?;
                }
            }
            BlobInput::Scan => {}
        }
        Ok(())
    }

    async fn scan(&mut self) -> Result<(), LedgerError> {
        for wanted in self.core.wanted_blobs().await? {
            if self.fetches.len() >= ACTIVE_MAX {
                break;
            }
            // A length that no content can have is not worth a single request.
            if wanted.len <= CONTENT_MAX {
                self.want(wanted, None).await?;
            }
        }
        Ok(())
    }

    async fn want(&mut self, wanted: WantedBlob, reply: Option<Reply>) -> Result<(), LedgerError> {
        let status = self.core.blobs().status(self.core.blob_key(&wanted.blob)).await?;
        if matches!(status, BlobStatus::Complete { .. }) {
            self.core.blob_arrived(&wanted.block).await?;
            reply.into_iter().for_each(|reply| answer(reply, Ok(())));
            return Ok(());
        }
        let fetch = self.fetches.entry(wanted.blob).or_default();
        if fetch.wanted.iter().all(|other| other.block != wanted.block) {
            fetch.wanted.push(wanted);
        }
        fetch.len = wanted.len;
        fetch.replies.extend(reply);
        // A single leaf is its own root.
        if let BlobId::Raw(digest) = wanted.blob
            && !fetch.verified
        {
            fetch.digests = vec![digest];
            self.begin(wanted.blob).await?;
        }
        Ok(())
    }

    /// The digests are complete: they must give the root, then leaves are asked for.
    async fn begin(&mut self, blob: BlobId) -> Result<bool, LedgerError> {
        let Some(fetch) = self.fetches.get_mut(&blob) else { return Ok(true) };
        let digests = fetch.digests.iter().map(|digest| Digest(*digest)).collect();
        let valid = BlobManifest::new(fetch.len, digests).is_ok_and(|manifest| manifest.root() == blob);
        if !valid {
            fetch.digests.clear();
            return Ok(false);
        }
        let chunk = u32::try_from(BLOB_LEAF).unwrap_or(u32::MAX);
        let status = self.core.blobs().begin(self.core.blob_key(&blob), fetch.len, chunk).await?;
        fetch.verified = true;
        fetch.missing = match status {
            BlobStatus::Partial { have, .. } => {
                (0u32..).zip(have).filter(|(_, have)| !have).map(|(index, _)| index).collect()
            }
            BlobStatus::Absent => (0u32..).take(fetch.leaves()).collect(),
            BlobStatus::Complete { .. } => BTreeSet::new(),
        };
        if fetch.missing.is_empty() {
            self.complete(blob).await?;
        }
        Ok(true)
    }

    async fn handle_message(&mut self, peer: &PeerId, message: Message, now: Instant) -> Result<(), LedgerError> {
        match message {
            Message::Manifest { blob, len, from, digests } => {
                self.handle_manifest(peer, blob, len, from, digests).await
            }
            Message::Leaf { blob, index, bytes } => self.handle_leaf(peer, blob, index, bytes, now).await,
            Message::NoBlob { blob, .. } => {
                if let Some(fetch) = self.fetches.get_mut(&blob) {
                    fetch.forget(peer);
                    fetch.put_off(peer, now, &mut self.rng);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn handle_manifest(
        &mut self,
        peer: &PeerId,
        blob: BlobId,
        len: u64,
        from: u32,
        digests: Vec<[u8; 32]>,
    ) -> Result<(), LedgerError> {
        let Some(fetch) = self.fetches.get_mut(&blob) else { return Ok(()) };
        if fetch.verified || fetch.manifest_asked.as_ref().is_none_or(|(asked, _)| asked != peer) {
            return Ok(());
        }
        fetch.manifest_asked = None;
        let leaves = fetch.leaves();
        let fits = len == fetch.len && from as usize == fetch.digests.len() && !digests.is_empty();
        if !fits || fetch.digests.len() + digests.len() > leaves {
            fetch.digests.clear();
            return self.blame(peer, "a false list of leaves");
        }
        fetch.digests.extend(digests);
        if fetch.digests.len() == leaves && !self.begin(blob).await? {
            return self.blame(peer, "a false list of leaves");
        }
        Ok(())
    }

    async fn handle_leaf(
        &mut self,
        peer: &PeerId,
        blob: BlobId,
        index: u32,
        bytes: Bytes,
        now: Instant,
    ) -> Result<(), LedgerError> {
        let Some(fetch) = self.fetches.get_mut(&blob) else { return Ok(()) };
        if fetch.asked.get(&index).is_none_or(|(asked, _)| asked != peer) {
            return Ok(());
        }
        fetch.asked.remove(&index);
        let digest = fetch.digests.get(index as usize);
        if digest != Some(&Digest::of(&bytes).0) {
            fetch.missing.insert(index);
            fetch.put_off(peer, now, &mut self.rng);
            return self.blame(peer, "a false leaf");
        }
        // From here on the leaf is neither missing nor asked for; a failing disk makes it missing again.
        match self.core.blobs().write(self.core.blob_key(&blob), index, bytes).await {
            Ok(BlobStatus::Complete { .. }) => self.complete(blob).await,
            Ok(_) => {
                self.core.blob_progressed();
                Ok(())
            }
            Err(error) => {
                fetch.missing.insert(index);
                fetch.put_off(peer, now, &mut self.rng);
                Err(error.into())
            }
        }
    }

    async fn complete(&mut self, blob: BlobId) -> Result<(), LedgerError> {
        let Some(fetch) = self.fetches.remove(&blob) else { return Ok(()) };
        debug!(chain = ?self.core.id(), ?blob, len = fetch.len, "blob complete");
        self.core.blob_progressed();
        for wanted in &fetch.wanted {
            self.core.blob_arrived(&wanted.block).await?;
        }
        fetch.replies.into_iter().for_each(|reply| answer(reply, Ok(())));
        Box::pin(self.scan()).await
    }

    fn blame(&self, peer: &PeerId, reason: &'static str) -> Result<(), LedgerError> {
        debug!(chain = ?self.core.id(), ?peer, reason, "peer blamed");
        if let Some(line) = self.lines.get(peer) {
            line.fault();
        }
        Ok(())
    }

    /// Answers those who have waited long enough for blobs that no connected peer has; the blobs stay wanted.
    fn give_up_waiting(&mut self, now: Instant) {
        for fetch in self.fetches.values_mut() {
            let idle = fetch.asked.is_empty() && fetch.manifest_asked.is_none();
            let nobody = idle && !self.lines.keys().any(|peer| fetch.may_ask(peer, now));
            if !nobody || fetch.replies.is_empty() {
                fetch.give_up_at = None;
            } else if *fetch.give_up_at.get_or_insert(now + READER_PATIENCE) <= now {
                fetch.give_up_at = None;
                fetch.replies.drain(..).for_each(|reply| answer(reply, Err("nobody connected has it")));
            }
        }
    }

    fn expire(&mut self, now: Instant) {
        for fetch in self.fetches.values_mut() {
            let late = fetch.asked.values().chain(&fetch.manifest_asked).filter(|(_, at)| *at <= now);
            let peers: BTreeSet<_> = late.map(|(peer, _)| peer.clone()).collect();
            for peer in peers {
                fetch.forget(&peer);
                fetch.put_off(&peer, now, &mut self.rng);
            }
        }
        self.give_up_waiting(now);
    }

    /// Asks for whatever may be asked for.
    fn pump(&mut self, now: Instant) {
        let mut busy: BTreeMap<PeerId, usize> = self.lines.keys().map(|peer| (peer.clone(), 0)).collect();
        for (peer, _) in self.fetches.values().flat_map(|fetch| fetch.asked.values()) {
            *busy.entry(peer.clone()).or_default() += 1;
        }
        let until = now + ANSWER_WITHIN;
        for (blob, fetch) in &mut self.fetches {
            if !fetch.verified {
                let from = u32::try_from(fetch.digests.len()).unwrap_or(u32::MAX);
                let peer = self.lines.values().find(|line| fetch.may_ask(&line.peer, now));
                if let Some(line) = peer.filter(|_| fetch.manifest_asked.is_none()) {
                    fetch.manifest_asked = Some((line.peer.clone(), until));
                    line.say(Message::ManifestAsk { blob: *blob, from });
                }
                continue;
            }
            while let Some(index) = fetch.missing.first().copied() {
                // The least busy peer first, so that several share the work.
                let free = busy.iter().filter(|(peer, count)| **count < LEAVES_PER_PEER && fetch.may_ask(peer, now));
                let best = free.min_by_key(|(_, count)| **count).map(|(peer, _)| peer.clone());
                let Some((peer, line)) = best.and_then(|peer| self.lines.get(&peer).map(|line| (peer, line))) else {
                    break;
                };
                fetch.missing.remove(&index);
                fetch.asked.insert(index, (peer.clone(), until));
                *busy.entry(peer).or_default() += 1;
                line.say(Message::LeafAsk { blob: *blob, index });
            }
        }
    }
}
