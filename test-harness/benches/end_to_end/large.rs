//! One large content from process to process, streamed in and out, beside what its parts take by themselves.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::io::AsyncReadExt as _;
use walytis_core::block::Visibility;
use walytis_core::clock::SeededEntropy;
use walytis_core::id::{Address, BlockId, ChainId};
use walytis_core::key::PublicKey;
use walytis_core::ledger::{Content, Ledger, NewBlock};
use walytis_core::secret::Secret;
use walytis_identities::claim::Claim;
use walytis_identities::id::{ControllerId, DeviceId, OpId};
use walytis_offchain::context::Context;
use walytis_offchain::envelope::{CHUNK, Opener, Sealer, TAG};

use crate::chains;
use crate::private::Device;
use crate::receiver::{BARE, Receiver};
use crate::stack::Stack;

/// MiB of the content; `WALYTIS_BENCH_MIB` says otherwise.
const MIB: u64 = 1_024;
/// MiB that each bound is measured over.
const BOUND_MIB: u32 = 256;
pub(crate) const PIECE: usize = 1024 * 1024;

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
    sender_mb: u64,
    receiver_mb: u64,
}

/// Adds a content here, waits until the receiver says that it is there, and has it read there to the end.
async fn travel(from: &dyn Ledger, receiver: &mut Receiver) -> Taken {
    let mib = content_mib();
    // The first one waits until the session is open.
    let first = from.add(NewBlock { content: vec![0; 200].into(), topics: vec![] }).await.unwrap();
    receiver.ask(&format!("await {}", first.id));
    forget_peak();
    receiver.ask("forget");
    let start = Instant::now();
    let added = from.add(content(mib)).await.unwrap();
    let add = start.elapsed();
    receiver.ask(&format!("await {}", added.id));
    let fetch = start.elapsed() - add;
    let read = receiver.ask(&format!("read {}", added.id)).parse().unwrap();
    let all = start.elapsed();
    assert_eq!(read, mib * PIECE as u64);
    let receiver_mb = receiver.ask("peak").parse().unwrap();
    Taken { bytes: read, add, fetch, read: all - add - fetch, sender_mb: peak_mb(), receiver_mb }
}

/// Private content between two devices of one identity.
pub(crate) async fn private() {
    let device = Device::create(9).await;
    let mut receiver = Receiver::start("private", &device.invite().await);
    let taken = travel(&device.ledger, &mut receiver).await;
    receiver.stop();
    device.stop().await;
    let (seal, open) = tokio::task::spawn_blocking(|| (seal_bound(), open_bound())).await.unwrap();
    let transfer = transfer_bound().await;
    let [tcp, quic] = streams_bound().await;
    let rate = |time| mb_per_s(taken.bytes, time);
    println!(
        "{{\"bench\":\"private_large\",\"mib\":{},\"add_mb_per_s\":{:.0},\"fetch_mb_per_s\":{:.0},\"read_mb_per_s\":{:.0},\
         \"all_mb_per_s\":{:.0},\"sender_peak_mb\":{},\"receiver_peak_mb\":{}}}",
        taken.bytes / PIECE as u64,
        rate(taken.add),
        rate(taken.fetch),
        rate(taken.read),
        rate(taken.add + taken.fetch + taken.read),
        taken.sender_mb,
        taken.receiver_mb,
    );
    println!(
        "{{\"bench\":\"private_large_bounds\",\"seal_hash_write_mb_per_s\":{seal:.0},\"loopback_hash_write_mb_per_s\":{transfer:.0},\
         \"bare_tcp_stream_mb_per_s\":{tcp:.0},\"bare_quic_stream_mb_per_s\":{quic:.0},\"read_open_mb_per_s\":{open:.0},\
         \"ratio_add\":{:.2},\"ratio_fetch\":{:.2},\"ratio_fetch_to_bare_stream\":{:.2},\"ratio_read\":{:.2}}}",
        rate(taken.add) / seal,
        rate(taken.fetch) / transfer,
        rate(taken.fetch) / tcp,
        rate(taken.read) / open,
    );
}

/// The same for a blob of a plain chain, which is read while it arrives.
pub(crate) async fn public() {
    let stack = Stack::start(11).await;
    let chain = stack.node.create_chain("bench", Visibility::Invited).await.unwrap();
    let mut receiver = Receiver::start("public", &chains::invitation(&stack, &chain).await.to_text());
    let taken = travel(&chain, &mut receiver).await;
    receiver.stop();
    drop(chain);
    stack.stop().await;
    let [tcp, quic] = streams_bound().await;
    let rate = |time| mb_per_s(taken.bytes, time);
    let arrived = rate(taken.fetch + taken.read);
    println!(
        "{{\"bench\":\"public_large\",\"mib\":{},\"add_mb_per_s\":{:.0},\"fetch_and_read_mb_per_s\":{arrived:.0},\"all_mb_per_s\":{:.0},\
         \"sender_peak_mb\":{},\"receiver_peak_mb\":{},\"bare_tcp_stream_mb_per_s\":{tcp:.0},\
         \"bare_quic_stream_mb_per_s\":{quic:.0},\"ratio_to_bare_stream\":{:.2}}}",
        taken.bytes / PIECE as u64,
        rate(taken.add),
        rate(taken.add + taken.fetch + taken.read),
        taken.sender_mb,
        taken.receiver_mb,
        arrived / tcp,
    );
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

/// Bytes over one stream of the network that nodes use, from process to process, and nothing else: encryption and packets.
/// Over TCP and over QUIC.
async fn streams_bound() -> [f64; 2] {
    let mut receiver = Receiver::start("bare", "");
    let (is_quic, is_tcp): (Vec<Address>, Vec<Address>) = receiver
        .ready
        .split(' ')
        .map(|text| Address::new(text).unwrap())
        .partition(|one| one.as_str().contains("quic"));
    let mut rates = [0.0; 2];
    for (rate, addresses) in rates.iter_mut().zip([is_tcp, is_quic]) {
        let stack = Stack::start(13).await;
        let to = stack.network.connect(None, &addresses).await.unwrap();
        let network = Arc::clone(&stack.network);
        let sending = tokio::spawn(async move {
            let mut stream = network.open(&to, BARE).await.unwrap();
            let piece = vec![7; PIECE];
            stream.write_all(&[7]).await.unwrap();
            for _ in 0..BOUND_MIB {
                stream.write_all(&piece).await.unwrap();
            }
            stream.close().await.unwrap();
            drop(stream.read(&mut [0]).await);
        });
        let seconds: f64 = receiver.ask(&format!("take {BOUND_MIB}")).parse().unwrap();
        *rate = mb_per_s(u64::from(BOUND_MIB) * PIECE as u64, Duration::from_secs_f64(seconds));
        sending.await.unwrap();
        stack.stop().await;
    }
    receiver.stop();
    rates
}

/// Lets the system note the most memory of this process anew, where it can.
pub(crate) fn forget_peak() {
    drop(std::fs::write("/proc/self/clear_refs", "5"));
}

/// The most memory that this process had since then, where the system says so, in MB.
pub(crate) fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or_default() * 1_024 / 1_000_000
}
