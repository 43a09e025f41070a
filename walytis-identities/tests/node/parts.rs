//! Ops of an identity and of those below it travel in parts of bounded size, and go on where they ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use walytis_core::block::{Block, UnverifiedBlock};
use walytis_core::id::ChainId;
use walytis_core::net::{IncomingStream, MemoryHub, MemoryNetwork, Network as _};
use walytis_core::secret::Secret;
use walytis_identities::id::{DeviceId, Did, OpId, Role};
use walytis_identities::identity::Identity as _;
use walytis_identities::node::{IdentitiesConfig, IdentitiesError, InviteOptions, JoinError};
use walytis_identities::op::SignedOp;
use walytis_identities::state::{AuthorityGraph, Held};

use crate::acting::{Cast, acts, cast, devices};
use crate::rig::{Machine, framed, pass, until, varint};

const AUTHORITY: &str = "/walytis/authority/1";
/// Bytes of a part: a handful of ops.
const PART: usize = 40_000;

#[derive(Serialize, Deserialize)]
struct Hello {
    did: Did,
    heads: Vec<OpId>,
    below: Vec<(u8, Did, Vec<OpId>)>,
    cards: Vec<(DeviceId, u64)>,
}

impl Hello {
    fn new(did: &Did, held: &Held) -> Self {
        let (mut below, mut open) = (Vec::new(), vec![(0, *did, held)]);
        while let Some((level, did, held)) = open.pop() {
            below.push((level, did, held.heads.clone()));
            open.extend(held.below.iter().rev().map(|(did, held)| (level + 1, *did, held)));
        }
        below.remove(0);
        Self { did: *did, heads: held.heads.clone(), below, cards: Vec::new() }
    }
}

#[derive(Deserialize)]
enum Greeting {
    Known(Hello),
    Unknown,
}

#[derive(Deserialize)]
enum Item {
    Genesis(Vec<u8>),
    Op(Vec<u8>),
    #[expect(dead_code, reason = "cards are not looked at")]
    Card(Vec<u8>),
    Done {
        more: bool,
    },
}

/// One part of what a machine has, as it comes.
#[derive(Default)]
struct Part {
    genesis: Vec<Block>,
    ops: Vec<SignedOp>,
    bytes: usize,
    more: bool,
}

async fn frame(stream: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.ok()?;
    let mut body = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
    stream.read_exact(&mut body).await.ok()?;
    Some(body.split_off(1))
}

fn encoded(value: &impl Serialize) -> Vec<u8> {
    framed(&postcard::to_extend(value, vec![0x01]).unwrap())
}

fn genesis(file: Vec<u8>) -> Block {
    let block = UnverifiedBlock::decode(Bytes::from(file)).unwrap();
    let chain = ChainId(block.id());
    block.verify(&chain).unwrap()
}

/// Asks as whoever knows the DID may.
async fn ask(network: &MemoryNetwork, machine: &Machine, did: &Did, held: &Held) -> Part {
    let mut stream = network.open(&machine.peer(), AUTHORITY).await.unwrap();
    stream.write_all(&[encoded(&Hello::new(did, held)), framed(&[0x01, 0x03, 0x00])].concat()).await.unwrap();
    let greeting = frame(&mut stream).await.unwrap();
    match postcard::from_bytes(&greeting).unwrap() {
        Greeting::Known(theirs) => assert_eq!(theirs.did, *did),
        Greeting::Unknown => panic!("unknown"),
    }
    let mut part = Part::default();
    while let Some(body) = frame(&mut stream).await {
        match postcard::from_bytes(&body).unwrap() {
            Item::Genesis(file) => part.genesis.push(genesis(file)),
            Item::Op(op) => {
                part.bytes += op.len();
                part.ops.push(SignedOp::decode(&op).unwrap());
            }
            Item::Card(_) => {}
            Item::Done { more } => {
                part.more = more;
                break;
            }
        }
    }
    part
}

/// Takes a part in, as a node does; returns the ids of what entered, in whatever graph.
fn take_in(graph: &mut AuthorityGraph, part: Part, known: &mut BTreeMap<Did, Block>) -> BTreeSet<OpId> {
    let ids: Vec<OpId> = part.ops.iter().map(SignedOp::id).collect();
    let is_in = |graph: &AuthorityGraph, id: &OpId| graph.op(id).is_some() || graph.is_below(id);
    let before: BTreeSet<OpId> = ids.iter().filter(|id| is_in(graph, id)).copied().collect();
    known.extend(part.genesis.into_iter().map(|block| (Did(block.chain()), block)));
    for op in part.ops {
        if op.core().chain == *graph.chain().digest() {
            graph.insert(op).unwrap();
        } else {
            graph.insert_nested(op).unwrap();
        }
        for did in graph.wanted() {
            assert!(graph.add_nested(&known[&did]), "its genesis block came before");
        }
    }
    ids.into_iter().filter(|id| is_in(graph, id) && !before.contains(id)).collect()
}

fn small_parts() -> IdentitiesConfig {
    IdentitiesConfig { part_bytes: PART, ..IdentitiesConfig::default() }
}

/// A person of `a` with so many generations of keys acts in a team of `t`, all of whom send small parts.
async fn long_lived(hub: &MemoryHub, rekeys: usize) -> (Machine, Machine, Did, Did) {
    let t = Machine::start_with(hub, 1, small_parts()).await;
    let a = Machine::start_with(hub, 2, small_parts()).await;
    let (team, person) = (t.create().await, a.create().await);
    for _ in 0..rekeys {
        a.identities.rekey(&person).await.unwrap();
    }
    let token = t.token(&team, InviteOptions::default()).await;
    a.identities.join_as(&token, Some("team"), &person).await.unwrap();
    (t, a, team, person)
}

/// One op of the team names far more of the person than one part holds: each part brings what the others did not, and none
/// is larger than it may be.
#[tokio::test(start_paused = true)]
async fn what_one_op_names_comes_in_as_many_parts_as_it_takes() {
    let hub = MemoryHub::new();
    let (t, a, team, person) = long_lived(&hub, 24).await;
    let asker = hub.join(&Secret::new([200; 32]));
    asker.connect(None, &t.network.addresses()).await.unwrap();
    let first = ask(&asker, &t, &team, &Held::default()).await;
    assert!(first.more, "one part does not hold it");
    let own = first.genesis.iter().find(|block| Did(block.chain()) == team).unwrap();
    let (mut graph, mut known) = (AuthorityGraph::from_genesis(own).unwrap(), BTreeMap::new());
    let mut seen = BTreeSet::new();
    let (mut part, mut parts) = (first, 0);
    loop {
        let more = part.more;
        assert!(part.bytes <= PART, "{} bytes", part.bytes);
        let came = part.ops.len();
        let entered = take_in(&mut graph, part, &mut known);
        parts += 1;
        // What waits for the rest comes again: one op.
        assert!(entered.len() + 2 >= came, "part {parts}: {} of {came} ops were new", entered.len());
        assert!(entered.is_disjoint(&seen));
        seen.extend(entered);
        if !more {
            break;
        }
        part = ask(&asker, &t, &team, &graph.held()).await;
    }
    assert!(parts >= 4, "{parts} parts");
    let theirs = t.identities.show(&team).unwrap();
    let controllers: Vec<_> = graph.state().controllers.keys().copied().collect();
    assert_eq!(controllers, theirs.controllers.iter().map(|one| one.id).collect::<Vec<_>>());
    assert!(graph.nested(&person).unwrap().len() > 24);
    assert!(ask(&asker, &t, &team, &graph.held()).await.ops.is_empty(), "nothing is left");
    assert!(acts(&a, &team));
}

/// Joining as a person, joining as a device, a new device of the person, resolving: each needs many parts and gets them.
#[tokio::test(start_paused = true)]
async fn whoever_joins_or_resolves_gets_all_parts() {
    let hub = MemoryHub::new();
    let (t, a, team, person) = long_lived(&hub, 24).await;
    let member = Machine::start_with(&hub, 3, small_parts()).await;
    t.admit(&team, &member, Role::Member).await;
    assert_eq!(devices(&member, &team, &person), 1);
    let second = Machine::start_with(&hub, 4, small_parts()).await;
    a.admit(&person, &second, Role::Member).await;
    until("the new device joins by itself", async || acts(&second, &team)).await;
    until("everybody sees it", async || devices(&member, &team, &person) == 2).await;
    let written = second.write(&team, "from the new device").await;
    member.until_has(&team, &written).await;
    let stranger = Machine::start_with(&hub, 5, small_parts()).await;
    let resolved = stranger.identities.resolve(&team, &t.network.addresses()).await.unwrap();
    assert_eq!((resolved.answers, resolved.refused.len()), (1, 0));
    assert_eq!(stranger.identities.controllers_of(&team).await.unwrap().len(), 3);
    // Whoever was cut off in between goes on: nothing of a part is lost with the connection.
    let member = member.restart().await;
    for _ in 0..20 {
        t.identities.rekey(&team).await.unwrap();
    }
    let heads = t.identity(&team).auth_heads().await;
    until("the member has caught up", async || member.identity(&team).auth_heads().await == heads).await;
}

/// A removal inside the person reaches its other devices by whoever has heard of it, also before an op of the team names it:
/// whoever removed is gone, and one who is away from the person's own devices shows the removal.
#[tokio::test(start_paused = true)]
async fn news_of_a_person_reach_its_devices_by_members_of_the_team() {
    let Cast { hub, t, a, b, team, person } = cast(Role::Member).await;
    let c = Machine::start(&hub, 4).await;
    a.admit(&person, &c, Role::Member).await;
    until("the team sees three devices", async || devices(&t, &team, &person) == 3).await;
    let c_knows = a.graph(&person).await.len();
    until("c knows the person", async || c.graph(&person).await.len() == c_knows).await;
    for peer in [t.peer(), b.peer(), c.peer()] {
        hub.cut(&a.peer(), &peer);
    }
    hub.cut(&b.peer(), &c.peer());
    hub.cut(&b.peer(), &t.peer());
    a.identities.remove(&person, b.identity(&person).controller()).await.unwrap();
    let removal: Vec<SignedOp> = a.graph(&person).await.ops().skip(c_knows).map(|op| (**op).clone()).collect();
    a.stop().await;
    pass(Duration::from_secs(60)).await;
    assert_eq!(devices(&t, &team, &person), 3, "nobody has heard of it");
    t.receive(&team, &removal).await;
    until("c has shown the removal in the team", async || devices(&t, &team, &person) == 2).await;
}

/// What a liar says to whoever asks so many times.
type Lie = Box<dyn Fn(usize) -> Vec<u8> + Send>;

/// A node under the key of a machine that is gone, which answers each exchange with such bytes, and counts them.
fn liar(hub: &MemoryHub, seed: u8, answer: Lie) -> (MemoryNetwork, JoinHandle<()>, Arc<AtomicUsize>) {
    let network = hub.join(&Secret::new([seed; 32]));
    let mut incoming = network.accept(AUTHORITY).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let task = tokio::spawn(async move {
        while let Some(IncomingStream { mut stream, .. }) = incoming.recv().await {
            let number = counter.fetch_add(1, Ordering::Relaxed);
            let _sent = stream.write_all(&answer(number)).await;
            let _closed = stream.close().await;
            let _rest = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    (network, task, asked)
}

fn item(kind: u8, bytes: &[u8]) -> Vec<u8> {
    framed(&[&[0x01, kind][..], &varint(bytes.len()), bytes].concat())
}

/// A controller's node that says again and again that there is more and brings nothing, lies about what it holds, or sends
/// more than a part: it is asked about as often as one that has no news, and nothing of it stays.
#[tokio::test(start_paused = true)]
async fn parts_that_lie_or_do_not_end_are_not_asked_for_again_and_again() {
    let Cast { hub, t, a, team, person, .. } = cast(Role::Member).await;
    a.stop().await;
    pass(Duration::from_secs(60)).await;
    let before = t.identities.show(&team).unwrap();
    let op = t.graph(&team).await.ops().last().unwrap().encode();
    let greeting = |hello: &Hello| framed(&[vec![0x01, 0x00], postcard::to_stdvec(hello).unwrap()].concat());
    let hello = |below: Vec<(u8, Did, Vec<OpId>)>| Hello { below, ..Hello::new(&team, &Held::default()) };
    let plain = greeting(&hello(Vec::new()));
    let lying = greeting(&hello(vec![(1, person, vec![OpId([7; 32])])]));
    let no_tree = greeting(&hello(vec![(2, person, vec![OpId([7; 32])])]));
    let end = |more: bool| framed(&[0x01, 0x03, u8::from(more)]);
    let greeting_anew = move |number: usize| {
        let head = OpId(std::array::from_fn(|at| number.to_le_bytes().get(at).copied().unwrap_or(7)));
        let hello =
            Hello { heads: vec![head], below: vec![(1, person, vec![head])], ..Hello::new(&team, &Held::default()) };
        [greeting(&hello), end(true), end(true)].concat()
    };
    let always = |answer: Vec<u8>| -> Lie { Box::new(move |_| answer.clone()) };
    let mut asked_usually = 0;
    for (what, answer) in [
        ("no news", always([plain.clone(), end(false), end(false)].concat())),
        ("always more", always([plain.clone(), end(true), end(true)].concat())),
        ("always more, and false heads", always([lying.clone(), end(true), end(true)].concat())),
        ("always more, and other false heads each time", Box::new(greeting_anew)),
        ("the same op, and more", always([lying, item(1, &op), end(true), end(true)].concat())),
        ("a part too large", always([plain, item(1, &op).repeat(8 * 1024 * 1024 / op.len() + 2)].concat())),
        ("a tree that is none", always([no_tree, end(true), end(true)].concat())),
    ] {
        let (network, task, asked) = liar(&hub, 2, answer);
        pass(Duration::from_secs(200)).await;
        let asked = asked.load(Ordering::Relaxed);
        if asked_usually == 0 {
            asked_usually = asked;
        }
        assert!((1..=3 * asked_usually).contains(&asked), "{what}: asked {asked} times, usually {asked_usually}");
        task.abort();
        network.shutdown().await;
        pass(Duration::from_secs(60)).await;
    }
    assert_eq!(t.identities.show(&team).unwrap(), before);
}

/// What a joiner says of itself is in memory before anything is decided: more than so many parts are not taken.
#[tokio::test(start_paused = true)]
async fn a_joiner_hands_over_so_many_parts_and_no_more() {
    let hub = MemoryHub::new();
    // One op in each.
    let config = IdentitiesConfig { part_bytes: 1, ..IdentitiesConfig::default() };
    let (t, a) = (Machine::start(&hub, 1).await, Machine::start_with(&hub, 2, config).await);
    let (team, person) = (t.create().await, a.create().await);
    let other = a.identities.create("short", "a").await.unwrap().did;
    for _ in 0..20 {
        a.identities.rekey(&person).await.unwrap();
    }
    let token = t.token(&team, InviteOptions::default()).await;
    let before = t.identities.show(&team).unwrap();
    let refused = a.identities.join_as(&token, Some("team"), &person).await.unwrap_err();
    assert!(matches!(refused, IdentitiesError::Join(JoinError::CannotAdmit)), "{refused}");
    assert_eq!(t.identities.show(&team).unwrap(), before);
    a.identities.join_as(&token, Some("team"), &other).await.unwrap();
}
