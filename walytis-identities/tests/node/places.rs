//! Places for streams: peers that hold on to what they open take them from nobody but themselves.

use std::time::Duration;

use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use serde::Serialize;
use tokio::time::Instant;
use walytis_core::clock::SeededEntropy;
use walytis_core::net::{MemoryHub, MemoryNetwork, Network as _, Stream};
use walytis_core::secret::Secret;
use walytis_identities::crypto::{DeviceKeys, DevicePublic};
use walytis_identities::id::{Did, OpId, Role};
use walytis_identities::identity::Identity as _;

use crate::rig::{Machine, framed, pass, until};

const AUTHORITY: &str = "/walytis/authority/1";
const JOIN: &str = "/walytis/identity/join/1";

async fn hostile(hub: &MemoryHub, seed: u8, to: &Machine) -> MemoryNetwork {
    let network = hub.join(&Secret::new([seed; 32]));
    network.connect(None, &to.network.addresses()).await.unwrap();
    network
}

#[derive(Serialize)]
struct JoinHello {
    did: Did,
    invite: OpId,
    nonce: [u8; 32],
    device: DevicePublic,
    person: Option<Did>,
}

/// Asks with an invitation that nobody made, and says whether the refusal came.
async fn is_refused(stream: &mut Box<dyn Stream>, did: &Did) -> bool {
    let device = DeviceKeys::generate(&SeededEntropy::new(3)).public().clone();
    let hello = JoinHello { did: *did, invite: OpId([9; 32]), nonce: [1; 32], device, person: None };
    let sent = stream.write_all(&framed(&postcard::to_extend(&hello, vec![0x01]).unwrap())).await.is_ok();
    // Version, refused, not recognised.
    let mut answer = [0; 7];
    sent && stream.read_exact(&mut answer).await.is_ok() && answer[4..] == [0x01, 0x01, 0x00]
}

/// Whoever is refused and never hangs up is let go.
#[tokio::test(start_paused = true)]
async fn a_refused_joiner_that_hangs_on_holds_no_place() {
    let hub = MemoryHub::new();
    let (a, b, c) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await, Machine::start(&hub, 3).await);
    let did = a.create().await;
    let mut held = Vec::new();
    let mut refused = 0;
    // As many as it takes to fill the places, each with more than its own.
    for seed in 100..106 {
        let network = hostile(&hub, seed, &a).await;
        for _ in 0..8 {
            let mut stream = network.open(&a.peer(), JOIN).await.unwrap();
            refused += usize::from(is_refused(&mut stream, &did).await);
            held.push(stream);
        }
        held.push(network.open(&a.peer(), JOIN).await.unwrap());
    }
    assert!(refused >= 8, "{refused} refusals");
    pass(Duration::from_secs(3_600)).await;
    a.admit(&did, &b, Role::Member).await;
    a.admit(&did, &c, Role::Member).await;
    // Exchanges have places, too.
    let rekeyed = a.identities.rekey(&did).await.unwrap().op;
    until("b has the new keys", async || b.identity(&did).sending_epoch().await.ok() == Some(rekeyed)).await;
    drop(held);
}

/// Opens silent streams again and again, more than there are places, before those before are given up.
async fn besiege(network: &MemoryNetwork, to: &Machine, protocol: &'static str, held: &mut Vec<Box<dyn Stream>>) {
    for _ in 0..16 {
        if let Ok(stream) = network.open(&to.peer(), protocol).await {
            held.push(stream);
        }
    }
}

/// One peer opens more silent streams than there are places, of every protocol, again and again: others join and exchange
/// meanwhile, at any moment.
#[tokio::test(start_paused = true)]
async fn silent_streams_take_no_place_from_others() {
    let hub = MemoryHub::new();
    let a = Machine::start(&hub, 1).await;
    let did = a.create().await;
    let network = hostile(&hub, 100, &a).await;
    let mut held = Vec::new();
    let begun = Instant::now();
    for seed in 2..8 {
        for protocol in [AUTHORITY, JOIN, "/walytis/resolve/1", "/walytis/reseal/1", "/walytis/recovery/1"] {
            besiege(&network, &a, protocol, &mut held).await;
        }
        let machine = Machine::start(&hub, seed).await;
        a.admit(&did, &machine, Role::Member).await;
        let heads = a.identity(&did).auth_heads().await;
        until("it knows all", async || machine.identity(&did).auth_heads().await == heads).await;
        let stranger = Machine::start(&hub, 50 + seed).await;
        stranger.identities.resolve(&did, &a.network.addresses()).await.unwrap();
        pass(Duration::from_secs(50)).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(400), "nobody waited: {:?}", begun.elapsed());
}
