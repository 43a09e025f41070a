//! A real replicator against a peer that speaks the protocol by hand: as an outsider, as a member that misbehaves, and
//! as one whose right ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::io::AsyncWriteExt as _;
use tokio::sync::watch;

use super::codec_v1::{Channel, Frame, Hello, Message, ShortId, Want, read_body, write_body};
use super::keys::{Ends, Side, session_tag};
use super::{CATCH_UP, Replicator};
use crate::access::{Access, AccessError, AdmitAll, ChainAccess, GossipKey};
use crate::block::{Block, BlockDraft, DraftContent, UnverifiedBlock, Visibility};
use crate::chain::{ChainCore, ChainParts, ChainSettings};
use crate::clock::{ManualClock, SeededEntropy};
use crate::id::{BlobId, BlockId, PeerId};
use crate::key::SigningKey;
use crate::limits::FRAME_MAX;
use crate::net::{MemoryHub, MemoryNetwork, Network as _, Stream};
use crate::secret::Secret;
use crate::store::{MemoryBlobs, MemoryStore};
use crate::testing;

/// Access that a test gives and takes.
#[derive(Debug)]
struct Door {
    open: AtomicBool,
    changes: watch::Sender<u64>,
}

impl Door {
    fn set(&self, open: bool) {
        self.open.store(open, Ordering::SeqCst);
        self.changes.send_modify(|count| *count += 1);
    }
}

const SECRET: [u8; 32] = [42; 32];

#[async_trait]
impl ChainAccess for Door {
    fn session_secret(&self) -> Secret<32> {
        Secret::new(SECRET)
    }

    fn gossip_keys(&self) -> Vec<GossipKey> {
        Vec::new()
    }

    async fn prepare(&self, _peer: &PeerId) -> Result<(), AccessError> {
        Ok(())
    }

    async fn may_sync(&self, _peer: &PeerId) -> Access {
        if self.open.load(Ordering::SeqCst) { Access::Granted } else { Access::Refused }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

pub(super) struct Victim {
    pub(super) network: Arc<MemoryNetwork>,
    pub(super) replicator: Replicator,
    pub(super) core: ChainCore,
    door: Arc<Door>,
}

fn key() -> SigningKey {
    SigningKey::from_seed(&Secret::new([5; 32]))
}

fn genesis() -> Block {
    testing::genesis(&key(), 1, Visibility::Invited)
}

fn child(parent: BlockId, generation: u64, text: &str) -> UnverifiedBlock {
    let draft = BlockDraft {
        chain: Some(genesis().chain()),
        parents: vec![parent],
        generation,
        created_at_ms: 0,
        topics: vec![],
        content: DraftContent::Inline(text.to_owned().into()),
    };
    draft.sign(&key()).unwrap()
}

fn want(have: Vec<ShortId>, credit: u32) -> Want {
    Want { round: 1, have, target: vec![], span: None, credit }
}

/// A block whose signature is false.
fn forged(parent: BlockId) -> Bytes {
    let mut file = child(parent, 1, "forged").file().to_vec();
    let last = file.len() - 10;
    file[last] ^= 1;
    file.into()
}

pub(super) async fn replica(hub: &MemoryHub, seed: u8) -> Victim {
    let network = Arc::new(hub.join(&Secret::new([seed; 32])));
    let entropy = Arc::new(SeededEntropy::new(u64::from(seed)));
    let door = Arc::new(Door { open: AtomicBool::new(true), changes: watch::Sender::new(0) });
    let entropy_of_chain = entropy.clone();
    let core = open(Arc::new(MemoryStore::new()), door.clone(), entropy_of_chain).await;
    let replicator = Replicator::start(network.clone(), entropy).unwrap();
    replicator.attach(core.clone()).await;
    Victim { network, replicator, core, door }
}

async fn open(store: Arc<MemoryStore>, door: Arc<Door>, entropy: Arc<SeededEntropy>) -> ChainCore {
    let parts = ChainParts {
        id: genesis().chain(),
        visibility: Visibility::Invited,
        store,
        blobs: Arc::new(MemoryBlobs::new()),
        access: door,
        policy: Arc::new(AdmitAll::default()),
        clock: Arc::new(ManualClock::new(0)),
        entropy,
        settings: ChainSettings::default(),
    };
    ChainCore::create(parts, &genesis()).await.unwrap()
}

impl Victim {
    pub(super) async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let wait = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(300), wait).await.is_ok(), "never: {what}");
    }

    pub(super) fn sessions(&self) -> usize {
        self.replicator.status(&self.core.id()).unwrap().peers.len()
    }

    pub(super) async fn stop(self) {
        self.replicator.shutdown().await;
        self.core.shutdown().await;
        self.network.shutdown().await;
    }
}

/// A peer that speaks by hand.
struct Hand {
    network: MemoryNetwork,
    stream: Box<dyn Stream>,
    ends: Ends,
}

impl Hand {
    /// Connects with a peer id below the victim's, so that it opens the stream.
    async fn connect(hub: &MemoryHub, victim: &Victim, from_seed: u8) -> Self {
        let network = (from_seed..u8::MAX)
            .map(|seed| hub.join(&Secret::new([seed; 32])))
            .find(|network| network.local_peer() < victim.network.local_peer())
            .unwrap();
        network.connect(None, &victim.network.addresses()).await.unwrap();
        let mut stream = network.open(&victim.network.local_peer(), CATCH_UP).await.unwrap();
        write_body(&mut stream, &Frame::Preface { nonce: [3; 32] }.encode()).await.unwrap();
        let preface = read_body(&mut stream, 64).await.unwrap().unwrap();
        let Frame::Preface { nonce } = Frame::decode(&preface).unwrap() else { panic!("a preface comes first") };
        let ends = Ends { nonces: [[3; 32], nonce], peers: [network.local_peer(), victim.network.local_peer()] };
        Self { network, stream, ends }
    }

    async fn say(&mut self, frame: &Frame) {
        // The other side may have hung up: that is what is tested.
        let _gone = write_body(&mut self.stream, &frame.encode()).await;
        let _gone = self.stream.flush().await;
    }

    async fn hear(&mut self) -> Option<Frame> {
        let body = tokio::time::timeout(Duration::from_secs(60), read_body(&mut self.stream, FRAME_MAX)).await;
        Some(Frame::decode(&body.ok()?.ok()??).unwrap())
    }

    /// Hears until a message of the chain passes `wanted`, or the stream ends.
    async fn hear_until<T>(&mut self, mut wanted: impl FnMut(Message) -> Option<T>) -> Option<T> {
        while let Some(frame) = self.hear().await {
            if let Frame::Chain { message, .. } = frame
                && let Some(found) = wanted(message)
            {
                return Some(found);
            }
        }
        None
    }

    fn tag(&self, secret: [u8; 32], channel: Channel) -> [u8; 32] {
        session_tag(&Secret::new(secret), &genesis().chain(), &self.ends, channel, Side::Opener)
    }

    async fn open(&mut self) {
        let tag = self.tag(SECRET, 0);
        self.say(&Frame::Open { channel: 0, tag }).await;
        assert!(matches!(self.hear().await, Some(Frame::Accept { channel: 0, .. })));
    }

    async fn message(&mut self, message: Message) {
        self.say(&Frame::Chain { channel: 0, message }).await;
    }
}

#[tokio::test(start_paused = true)]
async fn malformed_frames_cost_the_sender_its_connection_and_nobody_else() {
    let hub = MemoryHub::new();
    let victim = replica(&hub, 1).await;
    let garbage: [&[u8]; 6] = [
        &[0xff, 0xff, 0xff, 0xff],
        &[0, 0, 0, 1, 9],
        &[0, 0, 0, 0],
        &[0, 0, 0, 4, 1, 0xff, 0xff, 0xff],
        // A hello whose list of heads claims four billion entries.
        &[0, 0, 0, 12, 1, 5, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f],
        // A second preface.
        &[
            0, 0, 0, 34, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
            1, 1, 1,
        ],
    ];
    let mut seed = 10;
    for bytes in garbage {
        let mut hand = Hand::connect(&hub, &victim, seed).await;
        hand.stream.write_all(bytes).await.unwrap();
        hand.stream.flush().await.unwrap();
        assert!(hand.hear_until(Some).await.is_none());
        victim.until("banned", |victim| victim.network.peers().is_empty()).await;
        assert!(hand.network.connect(None, &victim.network.addresses()).await.is_err(), "a banned peer came back");
        seed += 30;
    }
    // An honest peer is served as ever.
    let honest = replica(&hub, 2).await;
    let block = child(genesis().id(), 1, "honest");
    victim.core.offer(vec![block], None).await.unwrap();
    honest.network.connect(None, &victim.network.addresses()).await.unwrap();
    honest.until("in step", |honest| honest.core.summary().count == 2).await;
    victim.stop().await;
    honest.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_outsider_gets_one_flat_refusal_and_not_a_byte_of_the_chain() {
    let hub = MemoryHub::new();
    let victim = replica(&hub, 1).await;
    victim.core.offer(vec![child(genesis().id(), 1, "private")], None).await.unwrap();
    let mut hand = Hand::connect(&hub, &victim, 10).await;
    let mut tag = hand.tag([0; 32], 0);
    for round in 0..500 {
        tag[0] ^= 1;
        hand.say(&Frame::Open { channel: 2 * round, tag }).await;
        assert_eq!(hand.hear().await, Some(Frame::Refuse { channel: 2 * round }));
    }
    // Asking without an open channel, with every id known.
    let id = victim.core.summary().heads[0];
    let questions = [
        Message::Hello(Hello { round: 1, count: 1, generation: 0, heads: vec![genesis().id()], credit: 1 << 20 }),
        Message::Want(want(vec![], 1 << 20)),
        Message::Walk { round: 1, from: vec![ShortId::of(&id)], limit: 100 },
        Message::Fetch { round: 1, ids: vec![id], credit: 1 << 20 },
        Message::ListAsk { round: 1, after: (0, genesis().id()) },
        Message::RangeAsk { round: 1, body: Bytes::from_static(&[0x61, 0, 0, 2, 0]) },
        Message::ManifestAsk { blob: BlobId::Raw(*id.digest()), from: 0 },
        Message::LeafAsk { blob: BlobId::Raw(*id.digest()), index: 0 },
    ];
    for question in questions {
        hand.message(question).await;
    }
    assert!(hand.hear_until(Some).await.is_none(), "an outsider was answered");
    assert_eq!(victim.core.summary().count, 2);
    // A member whose right is refused hears exactly the same.
    victim.door.set(false);
    let tag = hand.tag(SECRET, 2_000);
    hand.say(&Frame::Open { channel: 2_000, tag }).await;
    assert_eq!(hand.hear().await, Some(Frame::Refuse { channel: 2_000 }));
    victim.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_block_that_breaks_a_rule_bans_its_sender_and_its_good_blocks_stay() {
    let hub = MemoryHub::new();
    let victim = replica(&hub, 1).await;
    let mut hand = Hand::connect(&hub, &victim, 10).await;
    hand.open().await;
    let good = child(genesis().id(), 1, "good");
    hand.message(Message::Push { files: vec![good.file().clone(), forged(genesis().id())] }).await;
    victim.until("banned", |victim| victim.network.peers().is_empty()).await;
    assert_eq!(victim.core.summary().heads, [good.id()]);
    victim.stop().await;
}

#[tokio::test(start_paused = true)]
async fn endless_pending_blocks_and_foreign_ids_change_nothing() {
    let hub = MemoryHub::new();
    let victim = replica(&hub, 1).await;
    let mut hand = Hand::connect(&hub, &victim, 10).await;
    hand.open().await;
    // Blocks whose parents nobody has, heads that nobody has, answers to nothing.
    for index in 0..200u8 {
        let orphan = child(BlockId::from_digest([index; 32]), 5, "orphan");
        hand.message(Message::Push { files: vec![orphan.file().clone()] }).await;
        let id = BlockId::from_digest([index; 32]);
        hand.message(Message::Hello(Hello { round: 9, count: 99, generation: 9, heads: vec![id], credit: 9 })).await;
        let short = ShortId::of(&id);
        hand.message(Message::Ids { round: 77, passed: vec![short], frontier: vec![short] }).await;
        hand.message(Message::Ranges { round: 77, body: Bytes::from_static(&[0x61]) }).await;
        hand.message(Message::List { round: 77, ids: vec![id], generation: 3 }).await;
        hand.message(Message::Blocks { round: 77, last: true, files: vec![] }).await;
        hand.message(Message::Diverged { round: 77 }).await;
        hand.message(Message::Credit { round: 77, bytes: u32::MAX }).await;
    }
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(victim.core.summary().count, 1);
    // Another member is served all the same.
    let honest = replica(&hub, 2).await;
    honest.core.offer(vec![child(genesis().id(), 1, "honest")], None).await.unwrap();
    honest.network.connect(None, &victim.network.addresses()).await.unwrap();
    victim.until("in step", |victim| victim.core.summary().count == 2).await;
    victim.stop().await;
    honest.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_member_is_served_parents_first_within_its_credit() {
    let hub = MemoryHub::new();
    let victim = replica(&hub, 1).await;
    let mut parent = genesis().id();
    for generation in 1..=50 {
        let block = child(parent, generation, &"x".repeat(20_000));
        parent = block.id();
        victim.core.offer(vec![block], None).await.unwrap();
    }
    let mut hand = Hand::connect(&hub, &victim, 10).await;
    hand.open().await;
    hand.message(Message::Want(want(vec![ShortId::of(&genesis().id())], 1))).await;
    let blocks = |message| match message {
        Message::Blocks { files, last, .. } => Some((files, last)),
        _ => None,
    };
    let mut heard = Vec::new();
    let (files, last) = hand.hear_until(blocks).await.unwrap();
    assert!(!last && !files.is_empty() && files.len() < 50, "{} files for one byte of credit", files.len());
    heard.extend(files);
    assert!(hand.hear_until(blocks).await.is_none(), "more than the credit came");
    loop {
        hand.message(Message::Credit { round: 1, bytes: 300_000 }).await;
        let (files, last) = hand.hear_until(blocks).await.unwrap();
        heard.extend(files);
        if last {
            break;
        }
    }
    let mut parent = genesis().id();
    for file in &heard {
        let block = UnverifiedBlock::decode(file.clone()).unwrap();
        assert_eq!(block.header().parents, [parent]);
        parent = block.id();
    }
    assert_eq!(heard.len(), 50);
    victim.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_with_the_right_and_returns_with_it() {
    let hub = MemoryHub::new();
    let (a, b) = (replica(&hub, 1).await, replica(&hub, 2).await);
    a.network.connect(None, &b.network.addresses()).await.unwrap();
    a.until("open", |a| a.sessions() == 1).await;
    a.door.set(false);
    a.until("closed", |a| a.sessions() == 0).await;
    b.until("closed", |b| b.sessions() == 0).await;
    a.core.offer(vec![child(genesis().id(), 1, "kept")], None).await.unwrap();
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(b.core.summary().count, 1, "a block went out without the right to it");
    a.door.set(true);
    b.until("in step", |b| b.core.summary().count == 2).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(start_paused = true)]
async fn detaching_ends_the_sessions_of_that_chain_only_here() {
    let hub = MemoryHub::new();
    let (a, b) = (replica(&hub, 1).await, replica(&hub, 2).await);
    a.network.connect(None, &b.network.addresses()).await.unwrap();
    a.until("open", |a| a.sessions() == 1).await;
    a.replicator.detach(&a.core.id()).await;
    assert!(a.replicator.status(&a.core.id()).is_none());
    b.until("closed", |b| b.sessions() == 0).await;
    a.replicator.attach(a.core.clone()).await;
    b.until("open again", |b| b.sessions() == 1).await;
    a.stop().await;
    b.stop().await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0, "tasks are left");
}

/// An overlay may shut its chain down and open it again without anybody telling the replicator.
#[tokio::test(start_paused = true)]
async fn a_chain_that_was_opened_again_takes_the_place_of_the_closed_one() {
    let hub = MemoryHub::new();
    let (mut a, b) = (replica(&hub, 1).await, replica(&hub, 2).await);
    a.network.connect(None, &b.network.addresses()).await.unwrap();
    a.until("open", |a| a.sessions() == 1).await;
    a.core.shutdown().await;
    a.core = open(Arc::new(MemoryStore::new()), a.door.clone(), Arc::new(SeededEntropy::new(9))).await;
    a.replicator.attach(a.core.clone()).await;
    b.core.offer(vec![child(genesis().id(), 1, "new")], None).await.unwrap();
    a.until("in step", |a| a.core.summary().count == 2).await;
    a.stop().await;
    b.stop().await;
}

/// Each hello costs as many look-ups as it names heads; who says more than its share is not listened to for a while.
#[tokio::test(start_paused = true)]
async fn long_lists_of_heads_are_looked_at_only_so_often() {
    let hub = MemoryHub::new();
    let victim = replica(&hub, 1).await;
    let mut hand = Hand::connect(&hub, &victim, 10).await;
    hand.open().await;
    let mut heads: Vec<_> = (0..16_384_u32).map(|n| BlockId::of_file(&n.to_be_bytes())).collect();
    heads.sort_unstable();
    let said = 140;
    for round in 0..said {
        let hello = Hello { round, count: 99, generation: 9, heads: heads.clone(), credit: 1 };
        hand.message(Message::Hello(hello)).await;
    }
    let mut answers = 0;
    let answered = |message| matches!(message, Message::Diverged { .. }).then_some(());
    while let Ok(Some(())) = tokio::time::timeout(Duration::from_secs(1), hand.hear_until(answered)).await {
        answers += 1;
    }
    assert!((100..=125).contains(&answers), "{answers} of {said} were looked at");
    // It recovers.
    tokio::time::sleep(Duration::from_secs(30)).await;
    let hello = Hello { round: 999, count: 99, generation: 9, heads, credit: 1 };
    hand.message(Message::Hello(hello)).await;
    assert!(hand.hear_until(answered).await.is_some());
    victim.stop().await;
}
