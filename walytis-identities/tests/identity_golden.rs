//! Frozen bytes of every persisted and wire type of the identity state: read by this version and written the same.
//! Make them anew with `cargo test -p walytis-identities --test identity_golden -- --ignored`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod nested;
mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use nested::{Device, Held, Seen, bare};
use support::{Actor, chain};
use walytis_core::clock::SeededEntropy;
use walytis_core::id::{Address, BlockId, PeerId};
use walytis_core::secret::{Secret, SecretBytes};
use walytis_identities::card::{CardBody, CardPrivate, DeviceCard};
use walytis_identities::crypto::{DecodedKeys, DeviceKeys, FixedBytes, Label};
use walytis_identities::epoch::{EpochSecrets, EpochView};
use walytis_identities::id::{ControllerId, Did, OpId, Role};
use walytis_identities::op::{ChainCut, CoSignature, HistoryPolicy, Introduce, Op, OpCore, SignedOp, Update};
use walytis_identities::recovery::RecoveryCode;
use walytis_identities::sealed::SealedMessage;
use walytis_identities::signed::IdentitySignature;
use walytis_identities::state::{AuthorityGraph, Builder, CreateOptions, Inserted, RecoveryPlan};
use walytis_identities::token::{IdentityToken, TokenPeer};

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/identity_v1.hex")
}

/// One of everything, the same at every run.
fn samples() -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let code = RecoveryCode::generate(&SeededEntropy::new(77));
    let options = CreateOptions { recovery: Some(code.key().digest()), ..CreateOptions::default() };
    let (mut a, mut b) = (Actor::founder_with(1, &options), Actor::new(2));
    let (invite, key) = a.invite(Role::Member, Some(2));
    let admit = a.honour(&mut b, &invite, &key);
    let rekey = b.act(|builder| builder.rekey().unwrap());
    a.sync(&b);
    let cut = vec![ChainCut { chain: chain(), heads: vec![BlockId::of_file(b"head")] }];
    let b_id = b.id();
    let set_role = a.act(|builder| builder.set_role(b_id, Role::Reader, cut.clone()).unwrap());
    let services = vec![("id".to_owned(), "kind".to_owned(), "endpoint".to_owned())];
    let document = a.act(|builder| builder.document(services).unwrap());
    b.sync(&a);
    let renewed = b.keys.renew(&b.entropy);
    let update = b.act(|builder| builder.update(&renewed).unwrap());
    let leave = b.act(|builder| builder.leave().unwrap());
    a.sync(&b);
    let remove = a.act(|builder| builder.remove(vec![b_id], cut.clone(), vec![invite]).unwrap());
    let revoke = a.act(|builder| builder.revoke_invite(invite).unwrap());
    let deactivate = a.act(|builder| builder.deactivate(cut.clone()).unwrap());
    let plan = RecoveryPlan { cut, next_recovery: Some([4; 32]), ..RecoveryPlan::default() };
    let recover = a.act(|builder| builder.recover(&code.key(), plan).unwrap());
    let create = a.graph().ops().next().unwrap().id();
    let named = [create, invite, admit, rekey, set_role, document, update, leave, remove, revoke, deactivate, recover];
    for id in named {
        let op = a.graph().op(&id).unwrap();
        all.insert(format!("op {}", op.core().op.name()), op.encode());
    }
    let core = a.graph().op(&recover).unwrap().core().clone();
    for op in nested_ops() {
        all.insert(
            format!("op {} of an identity", op.name()),
            OpCore { op, author: ControllerId::Identity(Did(chain())), auth_parents: vec![recover], ..core.clone() }
                .sign(&a.keys, &a.entropy)
                .unwrap()
                .encode(),
        );
    }
    let Team { listing, .. } = team();
    for op in listing {
        all.insert(format!("op {} that lists an identity", op.core().op.name()), op.encode());
    }
    parts(&mut a, &mut all);
    all.insert("device keys renewed".into(), renewed.encode().expose().to_vec());
    all
}

/// What an identity that is a controller says; it has no device here that could.
fn nested_ops() -> Vec<Op> {
    let as_of = vec![OpId([1; 32]), OpId([2; 32])];
    let cut = vec![ChainCut { chain: chain(), heads: vec![BlockId::from_digest([3; 32])] }];
    let update = Update { keys: None, as_of: as_of.clone(), cut };
    vec![Op::Introduce(Introduce { as_of }), Op::Update(Box::new(update))]
}

/// A team that a person is let into, and that a device of the person recovers for it.
struct Team {
    /// What it was before.
    before: AuthorityGraph,
    person: Seen,
    /// The admission and the recovery.
    listing: [SignedOp; 2],
}

/// The same at every run.
fn team() -> Team {
    let (t, p) = (Device::new(21), Device::new(22));
    let code = RecoveryCode::generate(&SeededEntropy::new(78));
    let options = CreateOptions { recovery: Some(code.key().digest()), ..CreateOptions::default() };
    let created = Builder::create(&t.keys, &options, &t.entropy).unwrap();
    let graph = AuthorityGraph::new(nested::chain("team"), created.op).unwrap();
    let (mut team, person) = (Seen { graph, held: Held::new(), me: t.id() }, p.create("person"));
    let before = bare(&team.graph);
    let admit = t.admit_identity(&mut team, &person, &p, Role::Member);
    let mut of_p = p.view(&team, person.controller());
    let plan = RecoveryPlan { staying: [(t.id(), Role::Reader)].into(), ..RecoveryPlan::default() };
    let recover = p.act(&mut of_p, |builder| builder.recover(&code.key(), plan).unwrap());
    let listing = [admit, recover].map(|id| (**of_p.graph.op(&id).unwrap()).clone());
    Team { before, person, listing }
}

fn parts(a: &mut Actor, all: &mut BTreeMap<String, Vec<u8>>) {
    let epoch = a.graph().state().sending_epoch.unwrap();
    let op = a.graph().op(&epoch).unwrap().clone();
    let secrets = a.held[&epoch].clone();
    let view = EpochView::of(op.core()).unwrap();
    let addresses = vec![Address::new("/ip4/127.0.0.1/tcp/1").unwrap()];
    let peer = PeerId::from_bytes(b"peer").unwrap();
    let private = CardPrivate { name: "phone".into(), addresses: addresses.clone() };
    let sealed = private.seal(&view.card_key(&secrets).unwrap(), &chain(), &a.keys.id(), &a.entropy);
    let body = CardBody {
        chain: chain(),
        device: a.keys.id(),
        counter: 3,
        receiving: a.keys.public().receiving.clone(),
        peer: peer.clone(),
        peer_proof: vec![5; 64],
        private: Some((epoch, sealed)),
    };
    all.insert("card".into(), DeviceCard::sign(body, &a.keys, &a.entropy).encode());
    let signature = IdentitySignature::sign(a.graph.as_ref().unwrap(), &a.keys, "golden", b"message", &a.entropy);
    all.insert("signature".into(), signature.unwrap().to_text().into_bytes());
    let did = a.graph().did();
    let sealed = SealedMessage::seal(did, epoch, op.core(), "golden", b"message", None, &a.entropy).unwrap();
    all.insert("sealed".into(), sealed.to_text().into_bytes());
    let token = IdentityToken {
        did,
        invite: OpId([7; 32]),
        seed: Secret::new([8; 32]),
        expires_at_ms: Some(1_000),
        peers: vec![TokenPeer { peer, addresses }],
    };
    all.insert("token".into(), token.to_text().into_bytes());
    all.insert("device keys".into(), a.keys.encode().expose().to_vec());
    all.insert("epoch secrets".into(), secrets.encode().expose().to_vec());
}

#[test]
#[ignore = "writes the golden file"]
fn write_golden_file() {
    let mut text = String::new();
    for (name, bytes) in samples() {
        let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        });
        writeln!(text, "{name}: {hex}").unwrap();
    }
    std::fs::write(file(), text).unwrap();
}

fn golden() -> BTreeMap<String, Vec<u8>> {
    let text = std::fs::read_to_string(file()).unwrap();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let entry = |line: &str| {
        let (name, hex) = line.split_once(": ").unwrap();
        (name.to_owned(), hex.as_bytes().chunks(2).map(byte).collect())
    };
    text.lines().map(entry).collect()
}

#[test]
fn frozen_bytes_are_what_this_version_writes() {
    let (golden, now) = (golden(), samples());
    assert_eq!(golden.keys().collect::<Vec<_>>(), now.keys().collect::<Vec<_>>());
    for (name, bytes) in golden {
        assert!(bytes == now[&name], "{name} is written differently");
    }
}

#[test]
fn frozen_bytes_are_read() {
    let golden = golden();
    let ops: Vec<SignedOp> = golden
        .iter()
        .filter(|(name, _)| name.starts_with("op "))
        .map(|(_, bytes)| SignedOp::decode(bytes).unwrap())
        .collect();
    assert_eq!(ops.len(), 16, "every op of the format, `Update` twice, and what lists an identity");
    assert!(ops.iter().all(|op| op.encoded_len() == op.encode().len()));
    lists_are_read(&golden);
    let create = ops.iter().find(|op| matches!(op.core().op, Op::Create(_))).unwrap();
    let Op::Create(founding) = &create.core().op else { unreachable!() };
    assert_eq!(founding.history, HistoryPolicy::All);
    let keys = DeviceKeys::decode(&SecretBytes::new(golden["device keys"].clone())).unwrap();
    let renewed = DeviceKeys::decode(&SecretBytes::new(golden["device keys renewed"].clone())).unwrap();
    assert_ne!(renewed.id(), renewed.public().device_id());
    let secrets = EpochSecrets::decode(&golden["epoch secrets"]).unwrap();
    let text = |name: &str| String::from_utf8(golden[name].clone()).unwrap();
    // The ops enter in any order; what an identity says has no place here.
    let by_device = |op: &&SignedOp| op.id() != create.id() && matches!(op.core().author, ControllerId::Device(_));
    let here = |op: &&SignedOp| op.core().chain == *chain().digest();
    let others: Vec<SignedOp> = ops.iter().filter(by_device).filter(here).cloned().collect();
    let mut graph = support::graph_of(create, &others);
    assert!(graph.state().void.is_empty());
    assert!(graph.missing().is_empty());
    let signature: IdentitySignature = text("signature").parse().unwrap();
    assert!(signature.verify(&mut graph, "golden", b"message").is_ok());
    let sealed: SealedMessage = text("sealed").parse().unwrap();
    let epoch = graph.op(&sealed.epoch).unwrap().clone();
    assert_eq!(sealed.open(epoch.core(), &secrets, "golden").unwrap().message(), b"message");
    let decoded = DecodedKeys::decode(keys.public()).unwrap();
    let card = DeviceCard::verify(&golden["card"], &chain(), &decoded).unwrap();
    let key = EpochView::of(epoch.core()).unwrap().card_key(&secrets).unwrap();
    assert_eq!(CardPrivate::open(&card, &key).unwrap().name, "phone");
    assert_eq!(text("token").parse::<IdentityToken>().unwrap().seed, Secret::new([8; 32]));
}

/// What lists an identity enters where that identity is known, with every signature.
fn lists_are_read(golden: &BTreeMap<String, Vec<u8>>) {
    let Team { before: mut graph, person, .. } = team();
    graph.learn_nested(&person.graph).unwrap();
    for (name, role) in [("admit", Role::Member), ("recover", Role::Admin)] {
        let op = SignedOp::decode(&golden[&format!("op {name} that lists an identity")]).unwrap();
        assert!(matches!(graph.insert(op), Ok(Inserted::New(_))), "{name}");
        assert_eq!(graph.state().role(&person.controller()), Some(role), "{name}");
    }
    assert_eq!(graph.state().controllers.len(), 2);
}

#[test]
fn reserved_fields_stand_in_the_format() {
    // A removal with a co-signature decodes and counts as one without: nobody evaluates it yet.
    let (mut a, mut b) = (Actor::founder(1), Actor::new(2));
    a.admit(&mut b, Role::Member);
    let mut core = a.build(|builder| builder.remove(vec![b.id()], vec![], vec![]).unwrap()).op.core().clone();
    let signature = b.keys.sign_hybrid(Label::Op, b"consent", &b.entropy);
    if let Op::Remove(remove) = &mut core.op {
        remove.co_signatures = vec![CoSignature { controller: a.id(), device: a.keys.id(), signature }];
    }
    let op = core.sign(&a.keys, &a.entropy).unwrap();
    assert_eq!(SignedOp::decode(&op.encode()), Ok(op.clone()));
    a.graph().insert(op).unwrap();
    assert!(a.graph().state().role(&b.id()).is_none());
    assert!(FixedBytes::<3>::from_slice(&[1, 2]).is_none());
}
