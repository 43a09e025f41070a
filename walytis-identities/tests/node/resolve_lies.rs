//! Nodes that answer a resolution with something else than the truth: each lie is refused by its number.

use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use walytis_core::net::{MemoryHub, MemoryNetwork, Network};
use walytis_core::secret::Secret;
use walytis_identities::id::{Did, Role};
use walytis_identities::node::{AnswerFault, IdentitiesError};
use walytis_identities::op::SignedOp;
use walytis_identities::state::Builder;

use crate::rig::{Machine, framed, until, varint};

/// What an honest answer consists of, for lies to be made of.
pub(crate) struct Truth {
    pub(crate) heads: Vec<[u8; 32]>,
    pub(crate) genesis: Vec<u8>,
    pub(crate) ops: Vec<SignedOp>,
    pub(crate) cards: Vec<Vec<u8>>,
}

impl Truth {
    pub(crate) async fn of(machine: &Machine, did: &Did) -> Self {
        let graph = machine.graph(did).await;
        let genesis = machine.identity(did).chain().block(&did.chain().0).await.unwrap().unwrap();
        Self {
            heads: graph.heads().iter().map(|head| *head.as_bytes()).collect(),
            genesis: genesis.file().to_vec(),
            ops: graph.ops().skip(1).map(|op| (**op).clone()).collect(),
            cards: machine.cards(did).await.iter().map(|card| card.public().encode()).collect(),
        }
    }

    pub(crate) fn known(heads: &[[u8; 32]]) -> Vec<u8> {
        framed(&[&[0x01, 0x00][..], &varint(heads.len()), &heads.concat()].concat())
    }

    /// The frames of an answer, put together.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let ops: Vec<Vec<u8>> = self.ops.iter().map(|op| item(1, &op.encode())).collect();
        let cards: Vec<Vec<u8>> = self.cards.iter().map(|card| item(2, card)).collect();
        [Self::known(&self.heads), item(0, &self.genesis), ops.concat(), cards.concat(), done(false)].concat()
    }
}

pub(crate) fn item(kind: u8, bytes: &[u8]) -> Vec<u8> {
    framed(&[&[0x01, kind][..], &varint(bytes.len()), bytes].concat())
}

pub(crate) fn done(more: bool) -> Vec<u8> {
    framed(&[0x01, 0x03, u8::from(more)])
}

/// A node that answers every question with these bytes, and then closes or falls silent.
fn liar(hub: &MemoryHub, seed: u8, answer: Vec<u8>, closes: bool) -> (MemoryNetwork, tokio::task::JoinHandle<()>) {
    let network = hub.join(&Secret::new([seed; 32]));
    let mut questions = network.accept("/walytis/resolve/1").unwrap();
    let task = tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Some(mut incoming) = questions.recv().await {
            let _sent = incoming.stream.write_all(&answer).await;
            if closes {
                let _closed = incoming.stream.close().await;
                let _rest = incoming.stream.read_to_end(&mut Vec::new()).await;
            } else {
                silent.push(incoming.stream);
            }
        }
    });
    (network, task)
}

/// The number of the rule by which a stranger refuses an answer; nothing is kept of the identity but what is right.
async fn refused(hub: &MemoryHub, did: &Did, answer: Vec<u8>, closes: bool) -> String {
    let stranger = Machine::start(hub, 9).await;
    let (network, task) = liar(hub, 100, answer, closes);
    let outcome = stranger.identities.resolve(did, &network.addresses()).await;
    let number = match outcome {
        Ok(resolved) => {
            assert_eq!((resolved.answers, resolved.heard_from), (0, 0), "{resolved:?}");
            resolved.refused.iter().map(|(_, fault)| fault.number()).collect::<Vec<_>>().join(",")
        }
        Err(IdentitiesError::Unresolved { reason, .. }) => {
            let at = reason.find("V-RES-").unwrap_or_else(|| panic!("{reason}"));
            reason[at..at + 8].to_owned()
        }
        Err(other) => panic!("{other}"),
    };
    task.abort();
    network.shutdown().await;
    stranger.stop().await;
    number
}

#[tokio::test(start_paused = true)]
async fn every_lie_is_refused_by_its_number() {
    let hub = MemoryHub::new();
    let (a, b, other) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await, Machine::start(&hub, 3).await);
    let (did, other_did) = (a.create().await, other.create().await);
    a.admit(&did, &b, Role::Member).await;
    until("both know both", async || a.identities.contact_card(&did).unwrap().peers.len() == 2).await;
    let truth = || Truth::of(&a, &did);
    let foreign = Truth::of(&other, &other_did).await;
    other.identities.rekey(&other_did).await.unwrap();
    let foreign_op = Truth::of(&other, &other_did).await.ops.remove(0);

    let mut lies: Vec<(&str, &str, Vec<u8>)> = vec![
        ("nothing at all", "V-RES-10", vec![]),
        ("a frame that is none", "V-RES-01", framed(&[0xff; 40])),
        ("a frame of 4 GiB", "V-RES-01", vec![0xff; 8]),
        ("no heads", "V-RES-01", Truth::known(&[])),
        ("heads out of order", "V-RES-01", Truth::known(&[[2; 32], [1; 32]])),
        ("65 heads", "V-RES-01", Truth::known(&(0..65).map(|n| [n; 32]).collect::<Vec<_>>())),
    ];
    let one = truth().await;
    let first = item(0, &one.genesis);
    lies.push(("two genesis blocks", "V-RES-01", [Truth::known(&one.heads), first.clone(), first.clone()].concat()));
    lies.push((
        "an op that is none",
        "V-RES-01",
        [Truth::known(&one.heads), first.clone(), item(1, &[7; 90])].concat(),
    ));
    lies.push(("the identity of somebody else", "V-RES-02", foreign.bytes()));
    lies.push(("no genesis block", "V-RES-02", [Truth::known(&one.heads), done(false)].concat()));
    let mut lie = truth().await;
    *lie.genesis.last_mut().unwrap() ^= 1;
    lies.push(("a changed genesis block", "V-RES-02", lie.bytes()));
    let mut lie = truth().await;
    lie.ops.push(foreign_op);
    lies.push(("an op of another identity", "V-RES-03", lie.bytes()));
    let mut lie = truth().await;
    let encoded = lie.ops[0].encode();
    let mut forged = encoded.clone();
    *forged.last_mut().unwrap() ^= 1;
    lie.ops[0] = SignedOp::decode(&forged).unwrap();
    lies.push(("a forged signature", "V-RES-04", lie.bytes()));
    // The member makes an invitation, which only admins may.
    let keys = b.keys(&did).await;
    let mut graph = b.graph(&did).await;
    let entropy = walytis_core::clock::SeededEntropy::new(77);
    let held = std::collections::BTreeMap::new();
    let invite = Builder::new(&mut graph, &keys, &held, &entropy).invite(Role::Admin, None, None).unwrap();
    let mut lie = truth().await;
    lie.ops.push(invite.op);
    lies.push(("an op without right", "V-RES-05", lie.bytes()));
    let mut lie = truth().await;
    assert!(lie.ops.len() >= 2);
    lie.ops.swap(0, 1);
    lies.push(("a child before its parent", "V-RES-06", lie.bytes()));
    let held_back = [Truth::known(&one.heads), first.clone(), done(false)].concat();
    lies.push(("ops held back", "V-RES-08", held_back));
    let endless = [Truth::known(&one.heads), first.clone(), done(true)].concat();
    lies.push(("always more", "V-RES-07", endless));
    let many = item(2, b"card").repeat(1_025);
    lies.push(("too many cards", "V-RES-07", [Truth::known(&one.heads), first.clone(), many].concat()));
    let mut lie = truth().await;
    *lie.cards[0].last_mut().unwrap() ^= 1;
    lies.push(("a forged card", "V-RES-09", lie.bytes()));
    let mut lie = truth().await;
    lie.cards = Truth::of(&other, &other_did).await.cards;
    lies.push(("a card of another identity", "V-RES-09", lie.bytes()));
    let whole = truth().await.bytes();
    let cut = whole[..whole.len() - done(false).len()].to_vec();
    lies.push(("no end", "V-RES-10", cut.clone()));
    for (what, number, answer) in lies {
        assert_eq!(refused(&hub, &did, answer, true).await, number, "{what}");
    }
    assert_eq!(refused(&hub, &did, cut, false).await, "V-RES-10", "silence");
}

/// Beside an honest controller a liar changes nothing, and is named.
#[tokio::test(start_paused = true)]
async fn a_liar_beside_an_honest_controller_is_named_and_changes_nothing() {
    let hub = MemoryHub::new();
    let (a, stranger) = (Machine::start(&hub, 1).await, Machine::start(&hub, 9).await);
    let did = a.create().await;
    a.identities.rekey(&did).await.unwrap();
    let mut lie = Truth::of(&a, &did).await;
    *lie.cards[0].last_mut().unwrap() ^= 1;
    let (network, task) = liar(&hub, 100, lie.bytes(), true);
    stranger.network.connect(None, &network.addresses()).await.unwrap();
    let resolved = stranger.identities.resolve(&did, &a.network.addresses()).await.unwrap();
    assert_eq!((resolved.answers, resolved.heard_from), (1, 1));
    assert_eq!(resolved.refused, [(network.local_peer(), AnswerFault::Card)]);
    let document = stranger.identities.document(&did, None).await.unwrap();
    assert_eq!(document, a.identities.document(&did, None).await.unwrap());
    task.abort();
}

/// A node that repeats the truth is no controller for that.
#[tokio::test(start_paused = true)]
async fn who_repeats_the_truth_is_an_answer_and_no_controller() {
    let hub = MemoryHub::new();
    let (a, stranger) = (Machine::start(&hub, 1).await, Machine::start(&hub, 9).await);
    let did = a.create().await;
    let (network, task) = liar(&hub, 100, Truth::of(&a, &did).await.bytes(), true);
    let resolved = stranger.identities.resolve(&did, &network.addresses()).await.unwrap();
    assert_eq!((resolved.answers, resolved.heard_from), (1, 0));
    task.abort();
}
