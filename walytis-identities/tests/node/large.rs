//! Identities of many controllers.

use std::collections::BTreeMap;

use walytis_core::clock::SeededEntropy;
use walytis_core::limits::BLOB_FROM;
use walytis_core::net::MemoryHub;
use walytis_identities::crypto::DeviceKeys;
use walytis_identities::id::{ControllerId, Role};
use walytis_identities::identity::Identity as _;
use walytis_identities::state::Builder;
use walytis_identities::token::JoinRequest;

use crate::rig::{Machine, until};

/// An op with more slots than fit a small block stands in its block all the same, so that it can be judged, and enters
/// everywhere.
#[tokio::test(start_paused = true)]
async fn ops_of_a_large_identity_stand_in_their_blocks() {
    let hub = MemoryHub::new();
    let (a, b) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await);
    let did = a.create().await;
    a.admit(&did, &b, Role::Member).await;
    let (mut graph, keys, entropy) = (a.graph(&did).await, a.keys(&did).await, SeededEntropy::new(77));
    let known = graph.len();
    let none = BTreeMap::new();
    for _ in 0..58 {
        let newcomer = DeviceKeys::generate(&entropy);
        let request = JoinRequest::new(&newcomer, &did.chain(), &ControllerId::Device(keys.id()), None, &entropy);
        let built = Builder::new(&mut graph, &keys, &none, &entropy).admit(request, Role::Member).unwrap();
        graph.insert(built.op).unwrap();
    }
    let ops: Vec<_> = graph.ops().skip(known).map(|op| (**op).clone()).collect();
    a.receive(&did, &ops).await;
    assert_eq!(a.identities.show(&did).unwrap().controllers.len(), 60);

    let done = a.identities.rekey(&did).await.unwrap();
    let head = a.identity(&did).chain().core().summary().heads[0];
    let block = a.identity(&did).chain().block(&head).await.unwrap().unwrap();
    assert!(block.inline().expect("the op stands in the block").len() > BLOB_FROM);
    b.until_has(&did, &head).await;
    until("b uses the new epoch", async || b.identity(&did).sending_epoch().await.ok() == Some(done.op)).await;
    a.until_has(&did, &b.write(&did, "from b").await).await;
}
