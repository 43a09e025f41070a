//! One large content from node to node, streamed in and out, beside what its parts take by themselves.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::io::AsyncReadExt as _;
use walytis_core::block::Visibility;
use walytis_core::clock::SeededEntropy;
use walytis_core::id::{BlockId, ChainId};
use walytis_core::key::PublicKey;
use walytis_core::ledger::{Content, Ledger, LedgerEvent, LedgerRead as _, NewBlock, SubscribeFrom, Subscription};
use walytis_core::secret::Secret;
use walytis_identities::claim::Claim;
use walytis_identities::id::{ControllerId, DeviceId, OpId};
use walytis_offchain::context::Context;
use walytis_offchain::envelope::{CHUNK, Opener, Sealer, TAG};

use crate::chains;
use crate::stack::Stack;

/// MiB of the content; `WALYTIS_BENCH_MIB` says otherwise.
const MIB: u64 = 1_024;
/// MiB that each bound is measured over.
const BOUND_MIB: u32 = 256;
const PIECE: usize = 1024 * 1024;

fn content_mib() -> u64 {
    std::env::var("WALYTIS_BENCH_MIB").ok().and_then(|mib| mib.parse().ok()).unwrap_or(MIB)
}

fn mb_per_s(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64() / 1e6
}

/// A new content whose bytes are not all the same, which costs next to nothing to make.
fn content(mib: u64) -> NewBlock {
    NewBlock { content: Content::Reader(Box::new(tokio::io::repeat(7).take(mib * PIECE as u64))), topics: vec![] }
}

/// What one content took at each step.
struct Taken {
    bytes: u64,
    add: Duration,
    fetch: Duration,
    read: Duration,
    peak_mb: u64,
}

/// Waits until a follower hears of a block.
pub(crate) async fn until(events: &mut Box<dyn Subscription>, id: &BlockId) {
    loop {
        let event = events.next().await.unwrap().unwrap();
        if matches!(&event, LedgerEvent::Block(info) if info.id == *id) {
            return;
        }
    }
}

/// Adds a content at one node, waits until the other says that it is there, and reads it there to the end.
async fn travel(from: &dyn Ledger, to: &dyn Ledger, events: &mut Box<dyn Subscription>) -> Taken {
    let mib = content_mib();
    forget_peak();
    let start = Instant::now();
    let added = from.add(content(mib)).await.unwrap();
    let add = start.elapsed();
    until(events, &added.id).await;
    let fetch = start.elapsed() - add;
    let mut reader = to.content(&added.id).await.unwrap();
    let read = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await.unwrap();
    assert_eq!(read, mib * PIECE as u64);
    Taken { bytes: read, add, fetch, read: start.elapsed() - add - fetch, peak_mb: peak_mb() }
}

/// Private content between two ledgers of one identity.
pub(crate) async fn private(from: &dyn Ledger, to: &dyn Ledger, events: &mut Box<dyn Subscription>) {
    let taken = travel(from, to, events).await;
    let (seal, open) = tokio::task::spawn_blocking(|| (seal_bound(), open_bound())).await.unwrap();
    let transfer = transfer_bound().await;
    let streams = streams_bound().await;
    let rate = |time| mb_per_s(taken.bytes, time);
    println!(
        "{{\"bench\":\"private_large\",\"mib\":{},\"add_mb_per_s\":{:.0},\"fetch_mb_per_s\":{:.0},\"read_mb_per_s\":{:.0},\
         \"all_mb_per_s\":{:.0},\"peak_memory_mb\":{}}}",
        taken.bytes / PIECE as u64,
        rate(taken.add),
        rate(taken.fetch),
        rate(taken.read),
        rate(taken.add + taken.fetch + taken.read),
        taken.peak_mb,
    );
    println!(
        "{{\"bench\":\"private_large_bounds\",\"seal_hash_write_mb_per_s\":{seal:.0},\"loopback_hash_write_mb_per_s\":{transfer:.0},\
         \"bare_libp2p_stream_mb_per_s\":{streams:.0},\"read_open_mb_per_s\":{open:.0},\"ratio_add\":{:.2},\"ratio_fetch\":{:.2},\
         \"ratio_fetch_to_libp2p\":{:.2},\"ratio_read\":{:.2}}}",
        rate(taken.add) / seal,
        rate(taken.fetch) / transfer,
        rate(taken.fetch) / streams,
        rate(taken.read) / open,
    );
}

/// The same for a blob of a plain chain, which is read while it arrives.
pub(crate) async fn public() {
    let (a, b) = (Stack::start(11).await, Stack::start(12).await);
    let chain = a.node.create_chain("bench", Visibility::Invited).await.unwrap();
    let mut joined = chains::joined(&a, &b, &chain).await;
    while joined.next().await.unwrap().is_some() {}
    let mut events = joined.chain.subscribe(SubscribeFrom::Now).await.unwrap();
    let taken = travel(&chain, &joined.chain, &mut events).await;
    let streams = streams_bound().await;
    let rate = |time| mb_per_s(taken.bytes, time);
    let arrived = rate(taken.fetch + taken.read);
    println!(
        "{{\"bench\":\"public_large\",\"mib\":{},\"add_mb_per_s\":{:.0},\"fetch_and_read_mb_per_s\":{arrived:.0},\"all_mb_per_s\":{:.0},\
         \"peak_memory_mb\":{},\"bare_libp2p_stream_mb_per_s\":{streams:.0},\"ratio_to_that\":{:.2}}}",
        taken.bytes / PIECE as u64,
        rate(taken.add),
        rate(taken.add + taken.fetch + taken.read),
        taken.peak_mb,
        arrived / streams,
    );
    drop((joined, chain, events));
    b.stop().await;
    a.stop().await;
}

fn context() -> Context {
    let claim = Claim { author: ControllerId::Device(DeviceId([2; 32])), auth_heads: vec![OpId([3; 32])] };
    let (place, key) = (ChainId(BlockId::from_digest([1; 32])), PublicKey::Ed25519([4; 32]));
    Context::new(&place, "bench", &claim, &key, &OpId([5; 32]), &[6; 32])
}

fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1))
}

/// Runs `work` on every core at once and returns how many MB of chunks all of them did per second.
fn on_all_cores(work: impl Fn(u32) + Sync) -> f64 {
    let chunks = BOUND_MIB / cores();
    let start = Instant::now();
    std::thread::scope(|scope| (0..cores()).for_each(|_| drop(scope.spawn(|| work(chunks)))));
    mb_per_s(u64::from(chunks * cores()) * u64::from(CHUNK), start.elapsed())
}

/// Sealing and hashing chunks on all cores, writing them to files and flushing those.
fn seal_bound() -> f64 {
    on_all_cores(|chunks| {
        let sealer = Sealer::new(context(), &SeededEntropy::new(7));
        let seal = sealer.chunks();
        let mut file = tempfile::tempfile().unwrap();
        for index in 0..chunks {
            let mut plain = Vec::with_capacity(PIECE + TAG);
            plain.resize(PIECE, 7);
            file.write_all(&seal.seal(index, plain, index + 1 == chunks).bytes).unwrap();
        }
        file.sync_all().unwrap();
    })
}

/// Reading sealed chunks from a file and opening them on all cores.
fn open_bound() -> f64 {
    let mut sealer = Sealer::new(context(), &SeededEntropy::new(7));
    let sealed = sealer.seal(&vec![7; PIECE], true);
    let wrap = Secret::new([8; 32]);
    let manifest = sealer.finish(&wrap, &SeededEntropy::new(8));
    let opener = Opener::new(&manifest, &wrap, context()).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &sealed).unwrap();
    on_all_cores(|chunks| {
        for _ in 0..chunks {
            let mut bytes = Vec::with_capacity(sealed.len());
            std::fs::File::open(file.path()).unwrap().read_to_end(&mut bytes).unwrap();
            assert!(opener.open(0, bytes.into()).is_some());
        }
    })
}

/// Chunks from a file over TCP on loopback, hashed there, written to a file, flushed at the end.
async fn transfer_bound() -> f64 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let sender = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; PIECE]).unwrap();
        let mut piece = vec![0; PIECE];
        for _ in 0..BOUND_MIB {
            std::io::Seek::rewind(&mut file).unwrap();
            file.read_exact(&mut piece).unwrap();
            stream.write_all(&piece).unwrap();
        }
    });
    let receiver = tokio::task::spawn_blocking(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        let (mut piece, mut digests) = (vec![0; PIECE], Vec::new());
        let start = Instant::now();
        for _ in 0..BOUND_MIB {
            stream.read_exact(&mut piece).unwrap();
            digests.push(walytis_core::id::Digest::of(&piece));
            file.write_all(&piece).unwrap();
        }
        file.sync_all().unwrap();
        start.elapsed()
    });
    sender.await.unwrap();
    mb_per_s(u64::from(BOUND_MIB) * PIECE as u64, receiver.await.unwrap())
}

/// Bytes over one stream of the network that nodes use, and nothing else: QUIC's encryption and packets.
async fn streams_bound() -> f64 {
    const BARE: &str = "/walytis/bench/1";
    let (a, b) = (Stack::start(13).await, Stack::start(14).await);
    let mut incoming = b.network.accept(BARE).unwrap();
    a.network.connect(None, &b.network.addresses()).await.unwrap();
    let (sender, to) = (Arc::clone(&a.network), b.network.local_peer());
    let sending = tokio::spawn(async move {
        let mut stream = sender.open(&to, BARE).await.unwrap();
        let piece = vec![7; PIECE];
        for _ in 0..BOUND_MIB {
            stream.write_all(&piece).await.unwrap();
        }
        stream.close().await.unwrap();
        drop(stream.read(&mut [0]).await);
    });
    let mut stream = incoming.recv().await.unwrap().stream;
    let mut piece = vec![0; PIECE];
    let start = Instant::now();
    for _ in 0..BOUND_MIB {
        stream.read_exact(&mut piece).await.unwrap();
    }
    let rate = mb_per_s(u64::from(BOUND_MIB) * PIECE as u64, start.elapsed());
    drop(stream);
    sending.await.unwrap();
    b.stop().await;
    a.stop().await;
    rate
}

/// Lets the system note the most memory of this process anew, where it can.
fn forget_peak() {
    drop(std::fs::write("/proc/self/clear_refs", "5"));
}

/// The most memory that this process had since then, where the system says so, in MB.
fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or_default() * 1_024 / 1_000_000
}
