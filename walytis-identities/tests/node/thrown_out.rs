//! Void ops that were thrown out to make room (rule 9): on disk they are gone, too, and what is left amounts to the same.

use std::collections::BTreeMap;

use walytis_core::clock::SeededEntropy;
use walytis_core::net::MemoryHub;
use walytis_core::store::{Batch, Direction, Durability, KeyRange, KvStore as _, MemoryStore};
use walytis_identities::crypto::DeviceKeys;
use walytis_identities::id::{ControllerId, Did, Role};
use walytis_identities::op::{Document, Op, OpCore, SignedOp};
use walytis_identities::state::Builder;

use crate::rig::Machine;

/// Void ops that a graph keeps at most.
const LOOSE: usize = 1_024;
/// What one of the removed says: less than its share, and with the other one more than is kept.
const SAID: u64 = 520;

fn key(did: &Did) -> Vec<u8> {
    [&[0x10, 0x01][..], did.chain().digest()].concat()
}

/// Returns the ops of an identity that are stored, with their numbers.
async fn rows(store: &MemoryStore, did: &Did) -> BTreeMap<u64, SignedOp> {
    let rows = store.scan(KeyRange::prefix(&key(did)), Direction::Forward, usize::MAX).await.unwrap();
    let number = |key: &[u8]| u64::from_be_bytes(*key.last_chunk().unwrap());
    rows.iter().map(|(key, op)| (number(key), SignedOp::decode(op).unwrap())).collect()
}

/// An identity of `a` of which two other admins were removed, and what these say beside that with their keys: more than
/// anybody keeps, each op a fork.
async fn besieged(hub: &MemoryHub) -> (Machine, Did, Vec<SignedOp>) {
    let (a, b, c) = (Machine::start(hub, 1).await, Machine::start(hub, 2).await, Machine::start(hub, 3).await);
    let did = a.create().await;
    a.admit(&did, &b, Role::Admin).await;
    a.admit(&did, &c, Role::Admin).await;
    let gone: [DeviceKeys; 2] = [b.keys(&did).await, c.keys(&did).await];
    let mut graph = a.graph(&did).await;
    let (nothing, entropy) = (BTreeMap::new(), SeededEntropy::new(40));
    let mut said = Vec::new();
    for keys in &gone {
        let op = Builder::new(&mut graph, keys, &nothing, &entropy).document(Vec::new()).unwrap().op;
        for n in 0..SAID {
            let services = vec![(format!("n{n}"), "X".to_owned(), "https://x.example".to_owned())];
            let core = OpCore { op: Op::Document(Document { services }), ..op.core().clone() };
            said.push(core.sign(keys, &entropy).unwrap());
        }
    }
    for (machine, keys) in [b, c].into_iter().zip(&gone) {
        drop(machine.stop().await);
        a.identities.remove(&did, ControllerId::Device(keys.id())).await.unwrap();
    }
    (a, did, said)
}

/// More is stored than a graph keeps, as a crash or an earlier version may leave it: it is deleted when the node starts, but
/// for what is kept, and the identity is as it was.
#[tokio::test(start_paused = true)]
async fn what_a_graph_throws_out_is_deleted_at_the_start() {
    let (a, did, said) = besieged(&MemoryHub::new()).await;
    let (before, shown) = (rows(&a.store, &did).await, a.identities.show(&did).unwrap());
    let stopped = a.stop().await;
    let mut batch = Batch::new();
    let next = before.last_key_value().unwrap().0 + 1;
    for (number, op) in (next..).zip(&said) {
        batch.put([key(&did), number.to_be_bytes().to_vec()].concat(), op.encode());
    }
    stopped.store().commit(batch, Durability::Flushed).await.unwrap();
    assert_eq!(rows(stopped.store(), &did).await.len(), before.len() + said.len());

    let a = stopped.start().await;
    let left = rows(&a.store, &did).await;
    assert!(left.len() <= before.len() + LOOSE / 16, "{} of {} rows are left", left.len(), before.len() + said.len());
    assert!(before.iter().all(|(number, op)| left.get(number) == Some(op)), "what counts stays where it stood");
    assert_eq!(a.identities.show(&did).unwrap(), shown);

    // What is left is what is there: the next start finds nothing to do, and what is said then gets a number of its own.
    let a = a.restart().await;
    assert_eq!(rows(&a.store, &did).await, left);
    assert_eq!(a.identities.show(&did).unwrap(), shown);
    let rekey = a.identities.rekey(&did).await.unwrap().op;
    let a = a.restart().await;
    assert_eq!(rows(&a.store, &did).await.len(), left.len() + 1);
    assert_eq!(a.identities.show(&did).unwrap().epoch, Some(rekey));
}

/// The same while the node runs: who was removed cannot fill the disk of one that is never started again.
#[tokio::test(start_paused = true)]
async fn what_a_graph_throws_out_is_deleted_while_the_node_runs() {
    let (a, did, said) = besieged(&MemoryHub::new()).await;
    let (before, shown) = (rows(&a.store, &did).await, a.identities.show(&did).unwrap());
    a.receive(&did, &said).await;
    let left = rows(&a.store, &did).await;
    assert!(left.len() > before.len(), "the last ones are kept");
    assert!(left.len() <= before.len() + LOOSE / 16, "{} rows are left", left.len());
    assert!(before.iter().all(|(number, op)| left.get(number) == Some(op)), "what counts stays where it stood");
    assert_eq!(a.identities.show(&did).unwrap(), shown);

    // What was thrown out may come again, and is stored again.
    let again = &said[..8];
    a.receive(&did, again).await;
    let more = rows(&a.store, &did).await;
    assert_eq!(more.len(), left.len() + again.len());
    assert!(again.iter().all(|op| more.values().any(|stored| stored == op)));
    let a = a.restart().await;
    assert_eq!(rows(&a.store, &did).await, more);
    assert_eq!(a.identities.show(&did).unwrap(), shown);
}
