//! Peers that do not keep to the protocols.

use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use walytis_core::clock::SeededEntropy;
use walytis_core::net::{MemoryHub, Network};
use walytis_core::secret::Secret;
use walytis_identities::card::{CardBody, DeviceCard};
use walytis_identities::id::Role;
use walytis_identities::node::InviteOptions;

use crate::rig::{Machine, until};

async fn send(network: &dyn Network, to: &Machine, protocol: &'static str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = network.open(&to.peer(), protocol).await.unwrap();
    // The other side may hang up at any byte.
    let _sent = stream.write_all(bytes).await;
    let _closed = stream.close().await;
    let mut answer = Vec::new();
    let _ended = stream.read_to_end(&mut answer).await;
    answer
}

/// Whatever bytes come: no panic, no state, and honest peers are served afterwards.
#[tokio::test(start_paused = true)]
async fn garbage_on_either_protocol_harms_nobody() {
    let hub = MemoryHub::new();
    let (a, b) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await);
    let did = a.create().await;
    let before = a.identities.show(&did).unwrap();
    let hello = [&[0x01, 0x01, 0x00][..], did.chain().digest()].concat();
    let framed = |body: &[u8]| [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat();
    for protocol in ["/walytis/authority/1", "/walytis/identity/join/1"] {
        for (number, bytes) in [
            vec![],
            vec![0xff; 4],
            u32::MAX.to_be_bytes().to_vec(),
            framed(&[]),
            framed(&[0x02, 0x00]),
            framed(&[0xff; 300]),
            framed(&hello),
            [framed(&hello), framed(&[0x01, 0x01, 0xff, 0xff, 0xff, 0xff, 0x0f])].concat(),
        ]
        .into_iter()
        .enumerate()
        {
            let hostile = hub.join(&Secret::new([100 + u8::try_from(number).unwrap(); 32]));
            hostile.connect(None, &a.network.addresses()).await.unwrap();
            send(&hostile, &a, protocol, &bytes).await;
            hostile.shutdown().await;
        }
    }
    assert_eq!(a.identities.show(&did).unwrap(), before);
    a.admit(&did, &b, Role::Member).await;
}

/// A peer that asks without end is cut off, others are served.
#[tokio::test(start_paused = true)]
async fn a_flood_of_exchanges_is_cut_off() {
    let hub = MemoryHub::new();
    let (a, b) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await);
    let did = a.create().await;
    let hostile = hub.join(&Secret::new([100; 32]));
    hostile.connect(None, &a.network.addresses()).await.unwrap();
    // Version, DID, no heads, nothing below, no cards.
    let hello = [&[0x01][..], did.chain().digest(), &[0, 0, 0]].concat();
    let framed = [&u32::try_from(hello.len()).unwrap().to_be_bytes()[..], &hello].concat();
    let mut answered = 0;
    for _ in 0..200 {
        answered += usize::from(!send(&hostile, &a, "/walytis/authority/1", &framed).await.is_empty());
    }
    assert!((1..100).contains(&answered), "{answered} of 200 answered");
    a.admit(&did, &b, Role::Member).await;
}

/// Everybody may name a DID, but only ops that its own history entitles are taken in: those of another identity are not.
#[tokio::test(start_paused = true)]
async fn ops_of_another_identity_are_not_taken_in() {
    let hub = MemoryHub::new();
    let (a, b) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await);
    let (did, other) = (a.create().await, b.create().await);
    let before = a.identities.show(&did).unwrap();
    let foreign = {
        let keys = walytis_identities::crypto::DeviceKeys::generate(&SeededEntropy::new(7));
        let options = walytis_identities::state::CreateOptions::default();
        walytis_identities::state::Builder::create(&keys, &options, &SeededEntropy::new(8)).unwrap().op
    };
    let frame = |body: Vec<u8>| [u32::try_from(body.len()).unwrap().to_be_bytes().to_vec(), body].concat();
    let encoded = foreign.encode();
    let mut length = Vec::new();
    let mut rest = encoded.len();
    while rest >= 0x80 {
        length.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    length.push(u8::try_from(rest).unwrap());
    let hello = frame([&[0x01][..], did.chain().digest(), &[0, 0, 0]].concat());
    let op = frame([&[0x01, 0x01][..], &length, &encoded].concat());
    let done = frame(vec![0x01, 0x03, 0x00]);
    let hostile = hub.join(&Secret::new([100; 32]));
    hostile.connect(None, &a.network.addresses()).await.unwrap();
    let answer = send(&hostile, &a, "/walytis/authority/1", &[hello, op, done.clone()].concat()).await;
    assert!(answer.ends_with(&done), "the exchange ran to its end");
    assert_eq!(a.identities.show(&did).unwrap(), before);
    assert_ne!(did, other);
    a.token(&did, InviteOptions::default()).await;
}

/// Whoever had a device's keys for a moment leaves a card behind that none could follow: nobody takes it in, and the device
/// goes on making cards.
#[tokio::test(start_paused = true)]
async fn a_card_that_none_could_follow_is_not_taken_in() {
    let hub = MemoryHub::new();
    let (a, b) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await);
    let did = a.create().await;
    a.admit(&did, &b, Role::Member).await;
    let keys = b.keys(&did).await;
    let of_b =
        async |machine: &Machine| machine.cards(&did).await.into_iter().find(|card| card.body().device == keys.id());
    until("a has the card of b", async || of_b(&a).await.is_some()).await;
    let honest = of_b(&a).await.unwrap();
    for counter in [u64::MAX, u64::MAX / 2 + 1] {
        let body = CardBody { counter, ..honest.body().clone() };
        let last = DeviceCard::sign(body, &keys, &SeededEntropy::new(7)).encode();
        for machine in [&a, &b] {
            machine.receive_all(&did, &[], std::slice::from_ref(&last)).await;
            assert!(of_b(machine).await.unwrap().body().counter < 1_000, "{counter} was taken in");
        }
    }
    let before = of_b(&b).await.unwrap().body().counter;
    b.identities.renew_keys(&did).await.unwrap();
    until("a has the next card", async || of_b(&a).await.unwrap().body().counter > before).await;
}
