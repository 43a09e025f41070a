//! kill -9 on the real program at drawn moments: what it acknowledged is there after, the chain is in one piece, and peers
//! come level. And a disk that is full: a clear error, nothing lost, and it goes on when there is room again.
//!
//! `WALYTIS_SEED` says with which seed. A few rounds are run always, hundreds by the tests that `make chaos` runs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Seek as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Node, PATIENCE, text};

/// Rounds of each loop in a usual run.
const ROUNDS: u64 = 3;
/// Rounds of the loop with one daemon, and with a pair, in a long run.
const ROUNDS_CHAOS: [u64; 2] = [300, 100];
/// Writers that add at the same time.
const WRITERS: usize = 3;
/// What one writer adds in a round at most: a loop that ends, whatever happens.
const ADDS_MAX: usize = 2_000;
/// A daemon lives at most so long, in milliseconds, before it is killed.
const LIFE_MS_MAX: u64 = 400;
/// How long a pair may take to come level after a kill; half of it is left to a busy machine and its commands.
const LEVEL_WITHIN: Duration = Duration::from_secs(8);
/// Room on the small disk when adding begins, in bytes.
const ROOM: u64 = 3 << 20;

/// A generator without state beyond this number: SplitMix64.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let seed = std::env::var("WALYTIS_SEED").map_or(1, |text| text.parse().expect("a number"));
        eprintln!("run again with WALYTIS_SEED={seed} cargo test -p walytis --test kills");
        Self(seed)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }

    fn life(&mut self) -> Duration {
        Duration::from_millis(self.below(LIFE_MS_MAX))
    }
}

/// Content by id: everything that the program said it has added.
type Acknowledged = BTreeMap<String, Vec<u8>>;

/// Where the API of a daemon is, and what lets one in.
#[derive(Clone)]
struct Api {
    authority: String,
    token: String,
}

impl Api {
    fn of(node: &Node) -> Self {
        let file = std::fs::read(node.dir().join("api.json")).unwrap();
        let file: Value = serde_json::from_slice(&file).unwrap();
        Self { authority: text(&file, "url").trim_start_matches("http://").to_owned(), token: text(&file, "token") }
    }

    /// Adds a block and returns its id if the daemon lived long enough to say it. Not through the command, which
    /// would open the data folder itself when the daemon is dead.
    fn add(&self, content: &[u8]) -> Option<String> {
        let Self { authority, token } = self;
        let mut stream = TcpStream::connect(authority).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "POST /v1/chains/notes/blocks HTTP/1.1\r\nHost: {authority}\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            content.len()
        );
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(content).ok()?;
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        // An answer cut short by the kill is no JSON, and no acknowledgement.
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let value: Value = serde_json::from_str(body.trim()).ok()?;
        assert!(head.starts_with("HTTP/1.1 2"), "a living daemon refused: {answer} ({ended:?})");
        Some(text(&value, "id"))
    }
}

/// Several writers add to the chain for as long as the daemon lives; it is killed after `life`.
fn add_until_killed(node: &mut Node, round: u64, life: Duration) -> Acknowledged {
    let killed_at = Instant::now() + life;
    let api = Api::of(node);
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let api = api.clone();
            std::thread::spawn(move || add_while_it_lives(&api, round, writer))
        })
        .collect();
    // The writers run by themselves; this thread only has to wait.
    std::thread::sleep(killed_at.saturating_duration_since(Instant::now()));
    node.kill();
    writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
}

fn add_while_it_lives(api: &Api, round: u64, writer: usize) -> Acknowledged {
    let mut acknowledged = Acknowledged::new();
    for number in 0..ADDS_MAX {
        // Every seventh is large enough to stand beside its block.
        let size = if number % 7 == 6 { 100_000 } else { 20 };
        let mut content = format!("round {round} writer {writer} number {number} ").into_bytes();
        content.resize(content.len() + size, b'x');
        let Some(id) = api.add(&content) else { break };
        acknowledged.insert(id, content);
    }
    acknowledged
}

fn ids(node: &Node) -> BTreeSet<String> {
    node.lines(&["chain", "log", "notes"]).iter().map(|one| text(one, "id")).collect()
}

fn assert_all_there(node: &Node, acknowledged: &Acknowledged, what: &str) {
    let log = ids(node);
    let lost: Vec<_> = acknowledged.keys().filter(|id| !log.contains(*id)).collect();
    assert!(lost.is_empty(), "{what}: of {} acknowledged {} are lost: {lost:?}", acknowledged.len(), lost.len());
}

/// Every block, row and content is checked, and nothing has to be set right.
fn assert_whole(node: &Node, what: &str) {
    let report = node.value(&["chain", "repair", "notes"]);
    assert_eq!((&report["whole"], &report["rows"]), (&true.into(), &0.into()), "{what}: {report}");
    assert_eq!(node.value(&["status"])["damaged"], serde_json::json!([]), "{what}");
}

/// Reads `count` of the contents, evenly spread.
fn assert_contents(node: &Node, acknowledged: &Acknowledged, count: usize) {
    for (id, content) in acknowledged.iter().step_by(acknowledged.len().div_ceil(count).max(1)) {
        let output = node.run(&["chain", "cat", "notes", id]);
        assert!(output.stdout == *content, "the content of {id} differs: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Starts a daemon and kills it before, while or after it gets ready.
fn die_while_starting(node: &Node, life: Duration) {
    let args = ["daemon", "--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns"];
    let mut child = node.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(life);
    child.kill().unwrap();
    child.wait().unwrap();
}

fn one_daemon(rounds: u64) {
    let mut dice = Dice::new();
    let mut node = Node::started();
    node.value(&["chain", "create", "notes"]);
    let mut acknowledged = Acknowledged::new();
    for round in 0..rounds {
        acknowledged.extend(add_until_killed(&mut node, round, dice.life()));
        if dice.below(2) == 0 {
            die_while_starting(&node, dice.life());
        }
        node.start(&[]);
        assert_all_there(&node, &acknowledged, &format!("round {round}"));
        // A thorough look costs more with each block.
        if round % 10 == 2 {
            assert_whole(&node, &format!("round {round}"));
        }
    }
    eprintln!("{} acknowledged, {} in the log", acknowledged.len(), ids(&node).len());
    assert!(!acknowledged.is_empty(), "every daemon died before it acknowledged anything");
    assert_whole(&node, "in the end");
    assert_contents(&node, &acknowledged, 20);
}

fn a_pair(rounds: u64) {
    let mut dice = Dice::new();
    let mut pair = [Node::started(), Node::started()];
    pair[0].value(&["chain", "create", "notes"]);
    let invitation = text(&pair[0].value(&["chain", "invite", "notes"]), "invitation");
    pair[1].value(&["chain", "join", &invitation, "--name", "notes"]);
    let mut acknowledged = Acknowledged::new();
    for round in 0..rounds {
        let victim = usize::try_from(dice.below(2)).unwrap();
        let other = 1 - victim;
        acknowledged.extend(add_until_killed(&mut pair[victim], round, dice.life()));
        let both = dice.below(3) == 0;
        if both {
            pair[other].kill();
            pair[other].start(&[]);
        }
        pair[victim].start(&[]);
        assert_all_there(&pair[victim], &acknowledged, &format!("round {round}"));
        let address = pair[other].ready["listen"][0].as_str().unwrap().to_owned();
        let begun = Instant::now();
        pair[victim].value(&["peers", "connect", &address]);
        pair[victim].until(&format!("the pair comes level in round {round}"), |node| {
            (ids(node) == ids(&pair[other])).then_some(())
        });
        let who = if both { "both" } else { "one" };
        let took = begun.elapsed();
        eprintln!("round {round}: {who} killed, level after {took:?}");
        // Under a second on an idle machine. QUIC alone would notice the end of a killed peer after ten.
        assert!(took < LEVEL_WITHIN, "round {round}: level after {took:?} only");
        assert_all_there(&pair[other], &acknowledged, &format!("round {round}, level"));
    }
    assert!(!acknowledged.is_empty(), "every daemon died before it acknowledged anything");
    for node in &pair {
        node.until("every content is here", |node| {
            let show = node.value(&["chain", "show", "notes"]);
            (show["missing_contents"] == 0).then_some(())
        });
        assert_whole(node, "in the end");
        assert_contents(node, &acknowledged, 10);
    }
}

#[test]
fn a_daemon_that_is_killed_loses_nothing_acknowledged() {
    one_daemon(ROUNDS);
}

#[test]
fn a_pair_of_which_either_is_killed_comes_level() {
    a_pair(ROUNDS);
}

#[test]
#[ignore = "chaos: hundreds of kills take minutes"]
fn chaos_a_daemon_that_is_killed_again_and_again_loses_nothing() {
    one_daemon(ROUNDS_CHAOS[0]);
}

#[test]
#[ignore = "chaos: hundreds of kills take minutes"]
fn chaos_a_pair_that_is_killed_again_and_again_comes_level() {
    a_pair(ROUNDS_CHAOS[1]);
}

/// A small file system of its own, if this machine lets a test have one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(megabytes: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={megabytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "walytis-test"])
            .arg(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Fills the disk of this file but for some room.
fn fill_but(room: u64, ballast: &Path) {
    let mut file = std::fs::File::create(ballast).unwrap();
    // Bounded by the size of the disk.
    while file.write_all(&[7; 4096]).is_ok() {}
    let end = file.stream_position().unwrap();
    file.set_len(end.checked_sub(room).expect("the disk is too small")).unwrap();
}

/// Adds contents of this many 8-byte words, of which none could be stored smaller, and returns the first error.
fn add_until_refused(node: &Node, dice: &mut Dice, words: u32, acknowledged: &mut Acknowledged) -> String {
    // Not at once: the store writes ahead into room that it has taken before.
    for _ in 0..ADDS_MAX {
        let content: Vec<u8> = (0..words).flat_map(|_| dice.below(u64::MAX).to_be_bytes()).collect();
        let output = node.run_with(&content, &["--json", "chain", "add", "notes"]);
        if !output.status.success() {
            return String::from_utf8(output.stderr).unwrap();
        }
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        acknowledged.insert(text(&value, "id"), content);
    }
    panic!("the disk is never full");
}

/// Bytes of all contents in the folder, of those on their way in too.
fn blob_bytes(node: &Node) -> u64 {
    let mut bytes = 0;
    let mut folders = vec![node.dir().join("blobs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => bytes += metadata.len(),
                // Removed just now.
                Err(_) => {}
            }
        }
    }
    bytes
}

/// The disk fills up while a daemon is written to: a clear error, nothing acknowledged is lost, reading works; it goes on
/// by itself when there is room again. An upload that meets the end of the disk leaves nothing half-written.
#[test]
fn a_full_disk_is_told_loses_nothing_and_is_no_end() {
    let Some(disk) = SmallDisk::new(64) else {
        eprintln!("skipped: a small file system cannot be mounted here (needs the right to mount tmpfs)");
        return;
    };
    let mut node = Node::at(&disk.0.path().join("node"));
    node.start(&[]);
    node.value(&["chain", "create", "notes"]);
    let mut acknowledged = Acknowledged::new();
    let first = text(&node.value_with(b"first", &["chain", "add", "notes"]), "id");
    acknowledged.insert(first.clone(), b"first".to_vec());
    let ballast = disk.0.path().join("ballast");
    fill_but(ROOM, &ballast);
    let mut dice = Dice::new();
    // Contents that stand beside their blocks, then contents in them: the last room goes in small steps.
    for words in [12_500, 7_900] {
        let refused = add_until_refused(&node, &mut dice, words, &mut acknowledged);
        eprintln!("{} acknowledged, then {refused}", acknowledged.len());
        assert!(refused.contains("free space") || refused.contains("free some space"), "{refused}");
    }
    // Larger than the disk: refused on the way, and its bytes are given back.
    let kept = blob_bytes(&node);
    let upload: Vec<u8> = (0..1 << 20).flat_map(|_| dice.below(u64::MAX).to_be_bytes()).collect();
    let output = node.run_with(&upload, &["--json", "chain", "add", "notes"]);
    let told: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!((output.status.code(), text(&told["error"], "kind")), (Some(1), "failed".into()), "{told}");
    assert!(text(&told["error"], "hint").starts_with("free some space"), "{told}");
    node.until("nothing half-written is left", |node| (blob_bytes(node) == kept).then_some(()));
    // What is there can be read meanwhile.
    assert_eq!(node.run(&["chain", "cat", "notes", &first]).stdout, b"first");
    std::fs::remove_file(&ballast).unwrap();
    let after = text(&node.value_with(b"after", &["chain", "add", "notes"]), "id");
    acknowledged.insert(after, b"after".to_vec());
    let after = text(&node.value_with(&upload, &["chain", "add", "notes"]), "id");
    acknowledged.insert(after, upload);
    assert_all_there(&node, &acknowledged, "when there is room again");
    node.kill();
    node.start(&[]);
    assert_all_there(&node, &acknowledged, "after a full disk");
    assert_whole(&node, "after a full disk");
    assert_contents(&node, &acknowledged, 10);
}
