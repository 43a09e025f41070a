//! What hostile members can make a node keep, counted by the allocator: each kind of flood, while it goes on and after it.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use peak_alloc::PeakAlloc;
use test_harness::adversary::{Frame, Gossip, Hello, HostilePeer, Message, Session};
use test_harness::sim::{LinkConditions, simulate};
use test_harness::world::{SimNode, World};
use walytis_core::access::ChainAccess;
use walytis_core::block::{BlockDraft, DraftContent, Visibility};
use walytis_core::id::{BlobId, BlockId, ChainId};
use walytis_core::key::SigningKey;
use walytis_core::limits::{FRAME_MAX, PENDING_BYTES_PER_PEER_MAX};
use walytis_core::secret::Secret;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;
/// One test at a time: the allocator counts for all.
static ALONE: Mutex<()> = Mutex::new(());

/// What else may be allocated: queues of the simulated network, the trace, caches of the store. Measured: about 1 MB.
const SLACK: usize = 4 * 1024 * 1024;
/// Bytes of one orphan. Chosen: the most that fits a message that nobody asked for.
const ORPHAN: usize = 40 * 1024;
/// Ids of the longest lists.
const LIST: u64 = 16_384;

/// A victim, and a member that attacks it.
struct Attack {
    world: World,
    victim: SimNode,
    chain: ChainId,
    secrets: Arc<dyn ChainAccess>,
    attackers: u64,
    attacker: HostilePeer,
    session: Session,
    /// Bytes that the victim was sent.
    sent: usize,
    before: usize,
}

impl Attack {
    async fn begin(seed: u64, blocks: usize) -> Self {
        let world = World::new(seed, LinkConditions::CALM);
        let victim = world.node("victim").await;
        let chain = victim.create("attacked", Visibility::Invited).await;
        if blocks > 0 {
            victim.add_many(&chain, (0..blocks).map(|n| format!("{n}{}", " ".repeat(ORPHAN)))).await;
        }
        let secrets = victim.chain(&chain).core().access();
        let mut attacker = HostilePeer::against(world.hub(), &victim, 1);
        attacker.meet(&victim).await;
        let session = attacker.session(&victim, &chain, &*secrets).await;
        world.pass(Duration::from_secs(5)).await;
        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        Self { world, victim, chain, secrets, attackers: 1, attacker, session, sent: 0, before }
    }

    /// Says something; comes again as somebody else where that was its end.
    async fn say(&mut self, message: Message) {
        let frame = Frame::Chain { channel: 0, message }.encode();
        self.write(&frame).await;
        self.world.pass(Duration::from_millis(20)).await;
    }

    async fn write(&mut self, bytes: &[u8]) {
        if !self.session.write(bytes).await {
            self.attacker.vanish();
            self.attackers += 1;
            self.attacker = HostilePeer::against(self.world.hub(), &self.victim, self.attackers);
            self.attacker.meet(&self.victim).await;
            self.session = self.attacker.session(&self.victim, &self.chain, &*self.secrets).await;
        }
        self.sent += bytes.len();
    }

    async fn gossip(&mut self, gossip: &Gossip) {
        self.attacker.gossip(&self.chain, &*self.secrets, gossip).await;
    }

    /// Checks what the victim has of a flood: never more than so many bytes, nothing once the attacker and then the node
    /// ended.
    async fn end(self, bound: usize) {
        let sent = self.sent;
        assert!(sent > 3 * bound / 2, "{sent} bytes are no flood against a bound of {bound}");
        self.end_within(bound).await;
    }

    /// The same for what is no flood.
    async fn end_within(self, bound: usize) {
        self.world.pass(Duration::from_secs(5)).await;
        let of = |bytes: usize| bytes.saturating_sub(self.before);
        let (kept, peak, sent) = (of(MEMORY.current_usage()), of(MEMORY.peak_usage()), self.sent);
        assert!(kept <= bound && peak <= bound + 2 * SLACK, "{kept} bytes kept, {peak} at the peak, of {sent} sent");
        // It works as before.
        self.victim.add(&self.chain, "afterwards").await;
        self.finish().await;
    }

    async fn finish(self) {
        let Self { world, victim, attacker, session, before, .. } = self;
        drop(session);
        attacker.vanish();
        world.stop(vec![victim]).await;
        let left = MEMORY.current_usage().saturating_sub(before);
        assert!(left < SLACK, "{left} bytes are left");
    }
}

fn alone(name: &str, attack: impl AsyncFn(u64)) {
    let _one = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    simulate(&format!("bounded_memory::{name}"), &[1], attack);
}

fn id(number: u64) -> BlockId {
    BlockId::of_file(&number.to_be_bytes())
}

/// The `number`th list of the longest, of ids that nobody has.
fn ids(number: u64) -> Vec<BlockId> {
    let mut ids: Vec<_> = (number * LIST..(number + 1) * LIST).map(id).collect();
    ids.sort_unstable();
    ids
}

/// A valid block whose parent nobody has.
fn orphan(chain: ChainId, number: u64) -> Vec<u8> {
    let mut content = vec![0x66; ORPHAN];
    content.iter_mut().zip(number.to_be_bytes()).for_each(|(to, byte)| *to = byte);
    let draft = BlockDraft {
        chain: Some(chain),
        parents: vec![id(number)],
        generation: 1_000,
        created_at_ms: 0,
        topics: vec![],
        content: DraftContent::Inline(content.into()),
    };
    draft.sign(&SigningKey::from_seed(&Secret::new([0x66; 32]))).unwrap().file().to_vec()
}

/// 33 MB of orphans by one member, pushed and gossiped.
#[test]
fn a_flood_of_orphans_takes_no_more_memory_than_its_bound() {
    alone("a_flood_of_orphans_takes_no_more_memory_than_its_bound", async |seed| {
        let mut attack = Attack::begin(seed, 0).await;
        for number in 0..800 {
            let file = orphan(attack.chain, number);
            if number % 10 == 0 {
                attack.gossip(&Gossip::Block(file)).await;
                attack.gossip(&Gossip::Ids(vec![id(0x66); 500])).await;
                attack.world.pass(Duration::from_millis(20)).await;
            } else {
                attack.say(Message::Push { files: vec![file] }).await;
            }
        }
        let (bound, sent) = (PENDING_BYTES_PER_PEER_MAX + SLACK, attack.sent);
        attack.world.pass(Duration::from_secs(5)).await;
        let kept = MEMORY.current_usage().saturating_sub(attack.before);
        let peak = MEMORY.peak_usage().saturating_sub(attack.before);
        assert!(sent > 4 * bound / 3 && kept > PENDING_BYTES_PER_PEER_MAX / 2, "{sent} bytes sent, {kept} kept");
        assert!(kept <= bound && peak <= bound + 2 * SLACK, "{kept} bytes kept, {peak} at the peak, of {sent} sent");
        attack.finish().await;
    });
}

/// 25 MB of heads that nobody has, each list another one, told and gossiped.
#[test]
fn claims_about_heads_take_little_memory() {
    alone("claims_about_heads_take_little_memory", async |seed| {
        let mut attack = Attack::begin(seed, 0).await;
        for number in 0..40 {
            let heads = ids(number);
            attack.gossip(&Gossip::Ids(heads.iter().copied().take(1_024).collect())).await;
            let some = heads.iter().copied().skip(1_024).take(1_024).collect();
            attack.gossip(&Gossip::Heads { count: u64::MAX, heads: some }).await;
            let hello = Hello { round: 0, count: u64::MAX, generation: u64::MAX, heads, credit: 0 };
            attack.say(Message::Hello(hello)).await;
        }
        attack.end(2 * SLACK).await;
    });
}

/// 25 MB of answers that nobody waits for, of every kind there is, as long as each may be.
#[test]
fn answers_that_nobody_asked_for_take_little_memory() {
    alone("answers_that_nobody_asked_for_take_little_memory", async |seed| {
        let mut attack = Attack::begin(seed, 0).await;
        let known = attack.victim.chain(&attack.chain).core().file(&attack.chain.0).await.unwrap().unwrap().to_vec();
        for number in 0..8 {
            let blob = BlobId::Raw(*id(number).digest());
            let digests = ids(number).iter().map(|id| *id.digest()).collect();
            for message in [
                Message::Blocks { round: 99, last: false, files: vec![known.clone(); 1_024] },
                Message::Leaf { blob, index: 0, bytes: vec![7; 1024 * 1024] },
                Message::Manifest { blob, len: 1 << 34, from: 0, digests },
                Message::List { round: 99, ids: ids(number), generation: 9 },
                Message::Ranges { round: 99, body: vec![7; 500_000] },
                Message::Ids { round: 99, passed: vec![[7; 6]; 1_024], frontier: vec![[8; 6]; 1_024] },
            ] {
                attack.say(message).await;
            }
        }
        attack.end(2 * SLACK).await;
    });
}

/// Thousands of requests by somebody who reads no answer.
#[test]
fn requests_whose_answers_are_not_read_take_little_memory() {
    alone("requests_whose_answers_are_not_read_take_little_memory", async |seed| {
        let mut attack = Attack::begin(seed, 500).await;
        let blocks = attack.victim.chain(&attack.chain).core().canonical_page(0, None, 500).await.unwrap();
        let blob = BlobId::Raw(*id(1).digest());
        for number in 0..800 {
            let round = number;
            let asked = [
                Message::Fetch { round, ids: blocks.clone(), credit: u32::MAX },
                Message::Want { round, have: vec![], target: vec![], span: None, credit: u32::MAX },
                Message::ListAsk { round, after: (0, attack.chain.0) },
                Message::RangeAsk { round, body: vec![0x61] },
                Message::Walk { round, from: vec![[7; 6]; 1_024], limit: u32::MAX },
                Message::ManifestAsk { blob, from: 0 },
                Message::LeafAsk { blob, index: 0 },
            ];
            let frames = asked.map(|message| Frame::Chain { channel: 0, message }.encode()).concat();
            attack.write(&frames).await;
            if number % 50 == 0 {
                attack.world.pass(Duration::from_millis(20)).await;
            }
        }
        attack.end(2 * SLACK).await;
    });
}

/// Channels of chains that are not there.
#[test]
fn false_channels_take_little_memory() {
    alone("false_channels_take_little_memory", async |seed| {
        let mut attack = Attack::begin(seed, 0).await;
        for number in 0..100 {
            let open = |n: u32| Frame::Open { channel: 2 + 2 * (1_000 * number + n), tag: [7; 32] }.encode();
            let frames: Vec<u8> = (0..1_000).flat_map(open).collect();
            attack.write(&frames).await;
            attack.world.pass(Duration::from_secs(1)).await;
        }
        attack.end(SLACK / 2).await;
    });
}

/// Frames of which only the beginning comes, by one peer after the other.
#[test]
fn half_frames_take_no_more_memory_than_whole_ones() {
    alone("half_frames_take_no_more_memory_than_whole_ones", async |seed| {
        let attack = Attack::begin(seed, 0).await;
        let mut halves = Vec::new();
        for number in 0..4 {
            let mut peer = HostilePeer::against(attack.world.hub(), &attack.victim, 1_000_000 + number);
            peer.meet(&attack.victim).await;
            let mut session = peer.session(&attack.victim, &attack.chain, &*attack.secrets).await;
            let length = u32::try_from(FRAME_MAX).unwrap().to_be_bytes();
            assert!(session.write(&length).await && session.write(&[1; 1_000]).await);
            halves.push((peer, session));
        }
        attack.end_within(SLACK / 2 + 4 * FRAME_MAX).await;
        drop(halves);
    });
}

/// 64 strangers with four streams each on which half a request comes, and 64 that announce a whole chunk: nothing is
/// allocated that has not come, and few of them have a place.
#[cfg(feature = "offchain")]
#[test]
fn half_requests_of_strangers_for_private_content_take_little_memory() {
    use futures::io::AsyncWriteExt as _;
    use walytis_core::net::{MemoryHub, Network as _};
    use walytis_offchain::{OFFCHAIN, OffchainExchange};

    alone("half_requests_of_strangers_for_private_content_take_little_memory", async |_| {
        let hub = MemoryHub::new();
        let victim = Arc::new(hub.join(&Secret::new([1; 32])));
        let exchange = OffchainExchange::start(victim.clone()).unwrap();
        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        let mut halves = Vec::new();
        for seed in 100..228 {
            let stranger = hub.join(&Secret::new([seed; 32]));
            stranger.connect(Some(&victim.local_peer()), &victim.addresses()).await.unwrap();
            let len: u32 = if seed % 2 == 0 { 60_000 } else { 2 * 1024 * 1024 };
            let mut streams = Vec::new();
            for _ in 0..4 {
                let mut stream = stranger.open(&victim.local_peer(), OFFCHAIN).await.unwrap();
                let said = [&len.to_be_bytes()[..], &[1; 59_000]].concat();
                if stream.write_all(&said).await.is_ok() && stream.flush().await.is_ok() {
                    streams.push(stream);
                }
            }
            // So that each is taken in before the next. One for which there is no place is ended at once; what it had written
            // must not be counted as the victim's.
            tokio::time::sleep(Duration::from_millis(1)).await;
            for mut stream in streams {
                if stream.write_all(&[1]).await.is_ok() && stream.flush().await.is_ok() {
                    halves.push(stream);
                }
            }
        }
        assert!((16..=32).contains(&halves.len()), "{} have a place", halves.len());
        tokio::time::sleep(Duration::from_secs(5)).await;
        let peak = MEMORY.peak_usage().saturating_sub(before);
        assert!(peak <= 4 * SLACK, "{peak} bytes at the peak");
        drop(halves);
        exchange.shutdown().await;
        victim.shutdown().await;
    });
}
