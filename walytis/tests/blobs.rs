//! Large contents through the program: real daemons on loopback that are killed, parts, progress, fetching on demand.
//!
//! `WALYTIS_BLOB_MIB` is the size of the contents that survive the killing (by default 96 MiB public, 32 MiB private, whose
//! sealing takes a debug build long); `scripts/large-blob.sh` sets 5,120.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking; figures are printed"
)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Instant;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use support::{Node, text};

const MIB: usize = 1024 * 1024;
/// Most memory that a node may take (VmHWM), whatever the size of the content, in kB. Measured: 78 MiB for 5 GiB.
const MEMORY_KB_MAX: u64 = 150 * 1024;

/// MiB number `number` of the content: like no other, and quickly made.
fn part(number: u32) -> Vec<u8> {
    let mut state = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..MIB / 8).flat_map(|_| word()).collect()
}

fn invite(node: &Node, chain: &str) -> String {
    text(&node.value(&["chain", "invite", chain]), "invitation")
}

/// Two daemons with a chain in common; the second one fetches as `fetch` says.
fn pair(fetch: &str) -> (Node, Node) {
    let (a, b) = (Node::started(), Node::started());
    a.value(&["chain", "create", "files"]);
    b.value(&["chain", "join", &invite(&a, "files"), "--name", "files", "--fetch", fetch]);
    (a, b)
}

/// MiB of the content that survives the killing.
fn large_mib(default: u32) -> u32 {
    std::env::var("WALYTIS_BLOB_MIB").ok().map_or(default, |text| text.parse().unwrap())
}

/// Streams so many MiB into a new block; returns its id and the digest of the content.
fn add(node: &Node, mib: u32) -> (String, String) {
    add_to(node, &["chain", "add", "files"], mib)
}

fn add_to(node: &Node, command: &[&str], mib: u32) -> (String, String) {
    let mut child =
        node.command(&[&["--json"], command].concat()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut hash = Sha256::new();
    for number in 0..mib {
        let part = part(number);
        hash.update(&part);
        input.write_all(&part).unwrap();
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let block: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(block["size"], u64::from(mib) * MIB as u64);
    (text(&block, "id"), hex(&hash.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Digest of what `chain cat` prints.
fn digest(node: &Node, block: &str) -> String {
    digest_of(node, &["chain", "cat", "files", block])
}

fn digest_of(node: &Node, command: &[&str]) -> String {
    let mut child = node.command(command).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; MIB]);
    loop {
        let read = output.read(&mut buffer).unwrap();
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
    }
    assert!(child.wait().unwrap().success());
    hex(&hash.finalize())
}

/// What is here of a block's content.
fn blob(node: &Node, block: &str) -> Option<Value> {
    node.lines(&["chain", "blobs", "files"]).into_iter().find(|one| one["id"] == *block)
}

fn done(node: &Node, block: &str) -> u64 {
    blob(node, block).map_or(0, |blob| blob["bytes_done"].as_u64().unwrap())
}

fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_else(|| panic!("no {field} in {value}"))
}

fn connect(from: &Node, to: &Node) {
    let address = to.ready["listen"][0].as_str().unwrap().to_owned();
    from.value(&["peers", "connect", &address]);
}

/// Both nodes are killed while the content travels. What was stored is not fetched again, and memory stays small.
#[test]
fn large_content_survives_the_death_of_both_sides_in_constant_memory() {
    let mib = large_mib(96);
    let size = u64::from(mib) * MIB as u64;
    let (mut a, mut b) = pair("on_demand");
    let start = Instant::now();
    let (block, wanted) = add(&a, mib);
    let added = start.elapsed();
    b.until("the block arrives", |b| blob(b, &block));
    // Nothing was fetched until it was asked for.
    assert_eq!(done(&b, &block), 0);
    let start = Instant::now();
    b.value(&["chain", "fetch", "files", "all"]);
    b.until("a third has arrived", |b| (done(b, &block) >= size / 3).then_some(()));
    let memory = (a.memory_kb(), b.memory_kb());
    b.kill();
    a.kill();
    let first = start.elapsed();
    b.start(&[]);
    let kept = done(&b, &block);
    assert!(kept >= size / 3, "{kept} bytes were kept");
    assert_eq!(blob(&b, &block).unwrap()["state"], "partial", "it was all there before the kill");
    let start = Instant::now();
    a.start(&[]);
    connect(&b, &a);
    let complete = b.lines(&["chain", "blobs", "files", &block]);
    let second = start.elapsed();
    assert_eq!(complete.last().unwrap()["state"], "available");
    assert!(complete.first().unwrap()["progress"]["bytes_total"] == size, "{:?}", complete.first());
    let received = number(&b.value(&["chain", "show", "files"]), "bytes_received");
    assert_eq!(digest(&b, &block), wanted);
    let memory = (memory.0.max(a.memory_kb()), memory.1.max(b.memory_kb()));
    println!(
        "{{\"blob_mib\":{mib},\"add_s\":{:.1},\"first_s\":{:.1},\"kept_bytes\":{kept},\"second_s\":{:.1},\
         \"received_after_kill_bytes\":{received},\"sender_kb\":{},\"receiver_kb\":{}}}",
        added.as_secs_f64(),
        first.as_secs_f64(),
        second.as_secs_f64(),
        memory.0,
        memory.1
    );
    assert!(received <= size - kept + 64 * 1024, "{received} bytes for the missing {}", size - kept);
    assert!(memory.0.max(memory.1) <= MEMORY_KB_MAX, "{memory:?} kB");
}

/// Two devices of one identity; the first sends private contents no faster than so many bytes per second.
fn devices(upload_limit: u64) -> (Node, Node) {
    let (mut a, b) = (Node::new(), Node::started());
    a.start(&["--upload-limit", &upload_limit.to_string()]);
    a.value(&["identity", "create", "family", "--device", "laptop"]);
    let invitation = text(&a.value(&["identity", "invite", "family"]), "invitation");
    b.value(&["identity", "join", &invitation, "--name", "family"]);
    for node in [&a, &b] {
        let both = |node: &Node| (node.lines(&["identity", "controllers", "family"]).len() == 2).then_some(());
        node.until("both are listed", both);
    }
    (a, b)
}

/// What is here of a private content.
fn private(node: &Node, block: &str) -> Option<Value> {
    node.lines(&["offchain", "status", "family"]).into_iter().find(|one| one["id"] == *block)
}

/// The same with private content, which comes as soon as it is heard of: slowly at first, so that it is still on its way
/// when both are killed.
#[test]
fn large_content_that_is_private_survives_the_death_of_both_sides_in_constant_memory() {
    let mib = large_mib(32);
    let size = u64::from(mib) * MIB as u64;
    let (mut a, mut b) = devices(size / 12);
    let start = Instant::now();
    let (block, wanted) = add_to(&a, &["offchain", "add", "family"], mib);
    let added = start.elapsed();
    let start = Instant::now();
    b.until("a third has arrived", |b| (number(&private(b, &block)?, "bytes_done") >= size / 3).then_some(()));
    let memory = (a.memory_kb(), b.memory_kb());
    b.kill();
    a.kill();
    let first = start.elapsed();
    b.start(&[]);
    let here = private(&b, &block).unwrap();
    let kept = number(&here, "bytes_done");
    assert!(kept >= size / 3, "{kept} bytes were kept");
    assert_eq!(here["state"], "partial", "it was all there before the kill");
    a.start(&[]);
    let start = Instant::now();
    connect(&b, &a);
    let steps = b.lines(&["offchain", "status", "family", &block, "--follow"]);
    let second = start.elapsed();
    let (last, progress) = steps.split_last().unwrap();
    assert_eq!((&last["state"], number(last, "bytes_done")), (&"available".into(), size));
    // It goes on where it was.
    for step in progress.iter().map(|step| &step["progress"]) {
        assert!(number(step, "bytes_done") >= kept && number(step, "bytes_total") == size, "{step} after {kept}");
    }
    let start = Instant::now();
    assert_eq!(digest_of(&b, &["offchain", "cat", "family", &block]), wanted);
    let read = start.elapsed();
    let memory = (memory.0.max(a.memory_kb()), memory.1.max(b.memory_kb()));
    let rate = |bytes: u64, time: std::time::Duration| bytes as f64 / time.as_secs_f64() / 1e6;
    println!(
        "{{\"private_mib\":{mib},\"add_mb_per_s\":{:.0},\"first_s\":{:.1},\"kept_bytes\":{kept},\"second_mb_per_s\":{:.0},\
         \"read_mb_per_s\":{:.0},\"sender_kb\":{},\"receiver_kb\":{}}}",
        rate(size, added),
        first.as_secs_f64(),
        rate(size - kept, second),
        rate(size, read),
        memory.0,
        memory.1
    );
    assert!(memory.0.max(memory.1) <= MEMORY_KB_MAX, "{memory:?} kB");
}

#[test]
fn on_demand_only_what_is_read_is_fetched() {
    let (a, b) = pair("on_demand");
    assert_eq!(b.value(&["chain", "show", "files"])["fetch"], "on_demand");
    let (block, wanted) = add(&a, 12);
    b.until("the block arrives", |b| blob(b, &block));
    // 100 bytes across the border between two leaves.
    let range = format!("{}-{}", 5 * MIB - 50, 5 * MIB + 49);
    let read = b.run(&["chain", "cat", "files", &block, "--range", &range]);
    let (left, right) = (part(4), part(5));
    assert!(read.stdout == [&left[MIB - 50..], &right[..50]].concat(), "{}", String::from_utf8_lossy(&read.stderr));
    let here = blob(&b, &block).unwrap();
    assert_eq!((text(&here, "state"), number(&here, "bytes_done")), ("partial".into(), 2 * MIB as u64));
    let show = b.value(&["chain", "show", "files"]);
    assert_eq!(number(&show, "missing_contents"), 1);
    assert!(number(&show, "bytes_received") < 3 * MIB as u64, "{show}");
    assert_eq!(b.lines(&["chain", "blobs", "files", "--missing"]).len(), 1);
    // From then on everything.
    assert_eq!(b.value(&["chain", "fetch", "files", "all"])["fetch"], "all");
    let complete = b.value(&["chain", "blobs", "files", &block]);
    assert_eq!(complete["state"], "available");
    assert_eq!(digest(&b, &block), wanted);
    assert!(number(&b.value(&["chain", "show", "files"]), "bytes_received") < 13 * MIB as u64);
    assert!(b.lines(&["chain", "blobs", "files", "--missing"]).is_empty());
    let (kind, _, _) = b.error(2, &["chain", "fetch", "files", "some"]);
    assert_eq!(kind, "usage");
    // With progress into a file.
    let file = b.dir().join("copy");
    let lines = b.lines(&["chain", "cat", "files", &block, "-o", file.to_str().unwrap()]);
    assert!(lines[0]["progress"]["bytes_done"].as_u64().unwrap() >= 4 * MIB as u64, "{lines:?}");
    assert_eq!(lines.last().unwrap()["size"], 12 * MIB as u64);
}

/// Asks the API directly; returns the head of the answer and its body.
fn get(node: &Node, path: &str, headers: &str) -> (String, Vec<u8>) {
    let file = std::fs::read_to_string(node.dir().join("api.json")).unwrap();
    let api: Value = serde_json::from_str(&file).unwrap();
    let authority = text(&api, "url").trim_start_matches("http://").trim_end_matches('/').to_owned();
    let mut socket = TcpStream::connect(&authority).unwrap();
    let token = text(&api, "token");
    write!(socket, "GET /v1{path} HTTP/1.1\r\nHost: {authority}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n{headers}\r\n")
        .unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    (String::from_utf8_lossy(&answer[..end]).to_lowercase(), answer[end + 4..].to_vec())
}

#[test]
fn parts_of_content_come_by_http_ranges() {
    let node = Node::started();
    node.value(&["chain", "create", "files"]);
    let large: Vec<u8> = part(0).into_iter().chain(part(1)).collect();
    for content in [b"0123456789".to_vec(), large] {
        let size = content.len();
        let block = text(&node.value_with(&content, &["chain", "add", "files"]), "id");
        let path = format!("/chains/files/blocks/{block}/content");
        let (head, body) = get(&node, &path, "");
        assert!(head.contains(" 200 ") && head.contains("accept-ranges: bytes"), "{head}");
        assert!(body == content);
        for (range, from, to) in [("2-5", 2, 6), ("7-", 7, size), ("-3", size - 3, size), ("3-99999999", 3, size)] {
            let (head, body) = get(&node, &path, &format!("Range: bytes={range}\r\n"));
            let wanted = format!("content-range: bytes {from}-{}/{size}", to - 1);
            assert!(head.contains(" 206 ") && head.contains(&wanted), "{range}: {head}");
            assert!(head.contains(&format!("content-length: {}", to - from)), "{head}");
            assert!(body == content[from..to], "{range}");
        }
        let (head, body) = get(&node, &path, &format!("Range: bytes={size}-\r\n"));
        assert!(head.contains(" 416 ") && head.contains(&format!("content-range: bytes */{size}")), "{head}");
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["kind"], "usage");
        // Several ranges, nonsense, and ranges of something else: the whole.
        let other = "Range: bytes=0-1\r\nIf-Range: \"other\"\r\n";
        for headers in ["Range: bytes=0-1,3-4\r\n", "Range: lines=1-2\r\n", "Range: bytes=5-2\r\n", other] {
            let (head, _) = get(&node, &path, headers);
            assert!(head.contains(" 200 "), "{headers}: {head}");
        }
        let (head, _) = get(&node, &path, &format!("Range: bytes=0-1\r\nIf-Range: \"{block}\"\r\n"));
        assert!(head.contains(" 206 "), "{head}");
        assert_eq!(node.run(&["chain", "cat", "files", &block, "--range", "-4"]).stdout, content[size - 4..]);
        let (kind, message, _) = node.error(2, &["chain", "cat", "files", &block, "-o", "x", "--range", "99999999-"]);
        assert_eq!(kind, "usage");
        assert!(message.contains(&size.to_string()), "{message}");
    }
    let (kind, _, _) = node.error(2, &["chain", "cat", "files", "x", "-o", "x", "--range", "b-a"]);
    assert_eq!(kind, "usage");
}

/// An upload that breaks off leaves no block and no bytes; one that is killed leaves none after the next start.
#[test]
fn uploads_that_end_early_leave_nothing() {
    let mut node = Node::started();
    node.value(&["chain", "create", "files"]);
    let drafts = node.dir().join("blobs/draft");
    let count = |drafts: &std::path::Path| std::fs::read_dir(drafts).map_or(0, Iterator::count);
    let upload = |node: &Node| {
        let mut child = node
            .command(&["chain", "add", "files"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        (0..3).for_each(|number| input.write_all(&part(number)).unwrap());
        node.until("the upload has begun", |_| (count(&drafts) == 1).then_some(()));
        (child, input)
    };
    let (mut child, input) = upload(&node);
    child.kill().unwrap();
    child.wait().unwrap();
    drop(input);
    node.until("the draft is gone", |_| (count(&drafts) == 0).then_some(()));
    let (mut child, input) = upload(&node);
    node.kill();
    drop(input);
    child.wait().unwrap();
    assert_eq!(count(&drafts), 1);
    node.start(&[]);
    assert_eq!(count(&drafts), 0);
    assert_eq!(node.value(&["chain", "show", "files"])["blocks"], 1);
    assert!(node.lines(&["chain", "blobs", "files"]).is_empty());
}

/// 300 blocks of 100 KB each.
#[test]
fn many_blocks_with_contents_of_their_own_all_arrive() {
    let (a, b) = pair("all");
    let file = a.dir().join("api.json");
    let api: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let authority = text(&api, "url").trim_start_matches("http://").trim_end_matches('/').to_owned();
    let token = text(&api, "token");
    let start = Instant::now();
    let post = &|number: u32| {
        let content = &part(number)[..100_000];
        let mut socket = TcpStream::connect(&authority).unwrap();
        write!(
            socket,
            "POST /v1/chains/files/blocks HTTP/1.1\r\nHost: {authority}\r\nAuthorization: Bearer {token}\r\n\
             Connection: close\r\nContent-Length: {}\r\n\r\n",
            content.len()
        )
        .unwrap();
        socket.write_all(content).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(" 200 "), "{answer}");
    };
    std::thread::scope(|scope| {
        for worker in 0..10 {
            scope.spawn(move || (0..30).for_each(|number| post(30 * worker + number)));
        }
    });
    let added = start.elapsed();
    let here = |b: &Node| {
        let all = b.lines(&["chain", "blobs", "files"]);
        (all.len() == 300 && all.iter().all(|one| one["state"] == "available")).then_some(all)
    };
    let all = b.until("all contents arrive", here);
    println!("{{\"blocks\":300,\"add_s\":{:.2},\"all_s\":{:.2}}}", added.as_secs_f64(), start.elapsed().as_secs_f64());
    let block = text(&all[7], "id");
    assert_eq!(digest(&a, &block), digest(&b, &block));
}
