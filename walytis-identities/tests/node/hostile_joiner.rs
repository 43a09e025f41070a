//! Somebody who holds an invitation and lies about the identity as which it wants in.

use futures::future::LocalBoxFuture;
use test_harness::adversary::joiner::{Answer, Asking, Reason, ask};
use walytis_core::clock::SeededEntropy;
use walytis_core::net::{MemoryHub, Network as _};
use walytis_core::secret::Secret;
use walytis_identities::crypto::DeviceKeys;
use walytis_identities::id::{ControllerId, Did, OpId, Role};
use walytis_identities::node::InviteOptions;
use walytis_identities::op::SignedOp;
use walytis_identities::token::{IdentityToken, JoinRequest};

use crate::rig::Machine;

/// What is said of an identity.
struct Lie {
    keys: DeviceKeys,
    says: Did,
    as_of: Vec<OpId>,
    genesis: Vec<u8>,
    ops: Vec<SignedOp>,
    holds_back: bool,
}

async fn genesis(machine: &Machine, did: &Did) -> Vec<u8> {
    let chain = machine.identity(did).chain().clone();
    let first = chain.at(0).await.unwrap();
    chain.block(&first.id).await.unwrap().unwrap().file().to_vec()
}

async fn truth(machine: &Machine, did: &Did) -> Lie {
    let graph = machine.graph(did).await;
    let ops = graph.ops().skip(1).map(|op| (**op).clone()).collect();
    Lie {
        keys: machine.keys(did).await,
        says: *did,
        as_of: graph.heads(),
        genesis: genesis(machine, did).await,
        ops,
        holds_back: false,
    }
}

/// Says it to `to`, from an address of its own.
fn tell<'a>(hub: &'a MemoryHub, to: &'a Machine, token: &'a str, seed: u8, lie: &'a Lie) -> LocalBoxFuture<'a, Answer> {
    Box::pin(async move {
        let token: IdentityToken = token.parse().unwrap();
        let peer = hub.join(&Secret::new([seed; 32]));
        peer.connect(None, &to.network.addresses()).await.unwrap();
        let entropy = SeededEntropy::new(seed.into());
        let request = |honouring: &ControllerId, invitation: (&OpId, &_)| {
            let as_of = (lie.says, lie.as_of.clone());
            JoinRequest::as_identity(as_of, &lie.keys, &token.did.chain(), honouring, Some(invitation), &entropy)
        };
        let asking = Asking {
            token: &token,
            keys: &lie.keys,
            person: Some(lie.says),
            request: &request,
            genesis: std::slice::from_ref(&lie.genesis),
            ops: &lie.ops,
            holds_back: lie.holds_back,
        };
        let answer = ask(&peer, &to.peer(), &asking, seed.into()).await.unwrap();
        peer.shutdown().await;
        answer
    })
}

async fn knows_of(machine: &Machine, did: &Did) -> bool {
    machine.dump().await.windows(32).any(|part| part == did.chain().digest())
}

/// Refused with the reason, nothing stored, and the same invitation still lets the person in.
#[tokio::test(start_paused = true)]
async fn whoever_lies_about_its_identity_is_refused_and_leaves_nothing_behind() {
    let hub = MemoryHub::new();
    let (t, a, b) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await, Machine::start(&hub, 3).await);
    let (team, person) = (t.create().await, a.create().await);
    a.admit(&person, &b, Role::Member).await;
    let of_b = b.keys(&person).await;
    let other = Machine::start(&hub, 4).await;
    let foreign = other.create().await;
    a.identities.remove(&person, ControllerId::Device(of_b.id())).await.unwrap();
    let token = t.token(&team, InviteOptions { role: Role::Member, ..InviteOptions::default() }).await;
    let before = t.identities.show(&team).unwrap();
    let stranger = DeviceKeys::generate(&SeededEntropy::new(77));
    let lies = [
        ("a device that it has not", Lie { keys: stranger, ..truth(&a, &person).await }),
        ("a device that was removed", Lie { keys: of_b, ..truth(&a, &person).await }),
        ("heads that are nobody's", Lie { as_of: vec![OpId([9; 32])], ..truth(&a, &person).await }),
        ("ops left out", Lie { ops: Vec::new(), ..truth(&a, &person).await }),
        ("another one's genesis", Lie { genesis: genesis(&other, &foreign).await, ..truth(&a, &person).await }),
        ("another one's name", Lie { says: foreign, ..truth(&a, &person).await }),
    ];
    for (seed, (what, lie)) in (100..).zip(&lies) {
        assert_eq!(tell(&hub, &t, &token, seed, lie).await, Answer::Refused(Reason::CannotAdmit), "{what}");
        assert!(!knows_of(&t, &person).await && !knows_of(&t, &foreign).await, "{what}: something was stored");
    }
    let itself = Lie { says: team, genesis: genesis(&t, &team).await, ops: Vec::new(), ..truth(&a, &person).await };
    assert_eq!(tell(&hub, &t, &token, 120, &itself).await, Answer::Refused(Reason::Nesting));
    assert_eq!(t.identities.show(&team).unwrap(), before);
    assert_eq!(a.identities.join_as(&token, Some("team"), &person).await.unwrap(), team);
    assert!(knows_of(&t, &person).await, "the search finds what is stored");
}

/// An invitation that lets nobody in any more makes nobody listen: the refusal comes though nothing followed the proof.
#[tokio::test(start_paused = true)]
async fn nothing_is_read_of_whoever_holds_a_dead_invitation() {
    let hub = MemoryHub::new();
    let (t, a) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await);
    let (team, person, other) =
        (t.create().await, a.create().await, a.identities.create("other", "a").await.unwrap().did);
    let expiring = InviteOptions { expires_at_ms: Some(1_500_000), ..InviteOptions::default() };
    let (revoked, expired, used) = (
        t.identities.invite(&team, InviteOptions::default()).await.unwrap(),
        t.token(&team, expiring).await,
        t.token(&team, InviteOptions::default()).await,
    );
    t.identities.revoke(&team, revoked.id).await.unwrap();
    t.clock.set_ms(2_000_000);
    a.identities.join_as(&used, Some("team"), &other).await.unwrap();
    let silent = Lie { genesis: Vec::new(), ops: Vec::new(), holds_back: true, ..truth(&a, &person).await };
    let dead = [(revoked.token.to_text(), Reason::Revoked), (expired, Reason::Expired), (used, Reason::UsedUp)];
    for (seed, (token, reason)) in (100..).zip(&dead) {
        assert_eq!(tell(&hub, &t, token, seed, &silent).await, Answer::Refused(*reason));
    }
}
