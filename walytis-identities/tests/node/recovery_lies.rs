//! Strangers that are connected while somebody recovers: nothing they say of what has been written counts, and nobody waits
//! long for them.

use std::time::Duration;

use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use walytis_core::clock::SeededEntropy;
use walytis_core::id::{BlockId, ChainId};
use walytis_core::net::{IncomingStream, MemoryHub, MemoryNetwork, Network as _};
use walytis_core::secret::Secret;
use walytis_core::store::KvStore as _;
use walytis_identities::id::Role;
use walytis_identities::identity::{Identity as _, Judgement};
use walytis_identities::node::{IdentitiesError, RecoverHere, RecoveryCode};
use walytis_identities::op::ChainCut;

use crate::recovery::{here, record, two_admins};
use crate::rig::{Machine, framed, until};

const AUTHORITY: &str = "/walytis/authority/1";
const RESOLVE: &str = "/walytis/resolve/1";
const RECOVERY: &str = "/walytis/recovery/1";

/// A peer that accepts a protocol and answers each stream with these bytes, or holds it in silence.
fn stranger(
    hub: &MemoryHub,
    seed: u8,
    protocol: &'static str,
    answer: Option<Vec<u8>>,
) -> (MemoryNetwork, JoinHandle<()>) {
    let network = hub.join(&Secret::new([seed; 32]));
    let mut incoming = network.accept(protocol).unwrap();
    let task = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Some(IncomingStream { mut stream, .. }) = incoming.recv().await {
            match &answer {
                None => held.push(stream),
                Some(answer) => {
                    let _sent = stream.write_all(answer).await;
                    let _closed = stream.close().await;
                    let _rest = stream.read_to_end(&mut Vec::new()).await;
                }
            }
        }
    });
    (network, task)
}

fn invented(chain: ChainId) -> ChainCut {
    let head = |number: u8| BlockId::from_digest([[0; 31].as_slice(), &[number]].concat().try_into().unwrap());
    let mut heads: Vec<BlockId> = (1..=64).map(head).collect();
    heads.sort_unstable();
    ChainCut { chain, heads }
}

/// All that is left is the code and a card. A stranger names as many chains and heads as there is room for, all lower than
/// the real ones: what was written counts all the same.
#[tokio::test(start_paused = true)]
async fn what_a_stranger_says_was_written_takes_nothing_away() {
    let hub = MemoryHub::new();
    let (a, b, did, code) = two_admins(&hub).await;
    let from_a = a.write(&did, "by a, before").await;
    b.until_has(&did, &from_a).await;
    let b_id = b.identity(&did).controller();
    drop(a.stop().await);
    let c = Machine::start(&hub, 3).await;
    let mut cuts = vec![invented(did.chain())];
    cuts.extend((1..64).map(|number| invented(ChainId(BlockId::from_digest([number; 32])))));
    let answer = framed(&[vec![0x01, 0x00], postcard::to_stdvec(&cuts).unwrap()].concat());
    let (network, _task) = stranger(&hub, 200, RECOVERY, Some(answer));
    network.connect(None, &c.network.addresses()).await.unwrap();
    let card = b.identities.contact_card(&did).unwrap();
    let options = RecoverHere { keep: vec![b_id], ..here("new") };
    c.identities.recover_here(&card, &code, options).await.unwrap();
    c.until_has(&did, &from_a).await;
    until("b has heard of it", async || b.identities.show(&did).unwrap().controllers.len() == 2).await;
    for machine in [&b, &c] {
        assert_eq!(machine.identity(&did).judge(&record(machine, &did, from_a).await).await, Judgement::Valid);
    }
}

/// Strangers that are asked and say nothing delay a recovery little, on a node that knows the identity and on a new one.
#[tokio::test(start_paused = true)]
async fn silent_strangers_delay_a_recovery_little() {
    let hub = MemoryHub::new();
    let (a, b, did, code) = two_admins(&hub).await;
    let c = Machine::start(&hub, 3).await;
    let mut held = Vec::new();
    for (seed, protocol) in [(200, AUTHORITY), (201, RESOLVE), (202, RECOVERY), (203, AUTHORITY), (204, AUTHORITY)] {
        let (network, task) = stranger(&hub, seed, protocol, None);
        for machine in [&b, &c] {
            network.connect(None, &machine.network.addresses()).await.unwrap();
        }
        held.push((network, task));
    }
    let begun = Instant::now();
    let recovered =
        timeout(Duration::from_secs(60), b.identities.recover(&did, &code, Vec::new())).await.unwrap().unwrap();
    assert!(begun.elapsed() <= Duration::from_secs(30), "{:?}", begun.elapsed());
    until("a is out", async || a.identities.show(&did).unwrap().role.is_none()).await;
    let card = b.identities.contact_card(&did).unwrap();
    let begun = Instant::now();
    c.identities.recover_here(&card, &recovered.recovery, here("new")).await.unwrap();
    assert!(begun.elapsed() <= Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!(c.identities.show(&did).unwrap().role, Some(Role::Admin));
}

/// Whoever asked is gone as soon as the recovery is stored: the next code, which it brought, is in force, and asking again
/// with both codes is answered.
#[tokio::test(start_paused = true)]
async fn the_next_code_is_known_before_it_comes_into_force() {
    let hub = MemoryHub::new();
    let (a, b, did, code) = two_admins(&hub).await;
    let c = Machine::start(&hub, 3).await;
    let card = b.identities.contact_card(&did).unwrap();
    let next = |seed| RecoveryCode::generate(&SeededEntropy::new(seed));
    let same =
        c.identities.recover_here_with(&card, &code, here("new"), RecoveryCode::parse(code.text()).unwrap()).await;
    assert!(matches!(same, Err(IdentitiesError::Refused { .. })), "{same:?}");
    let is_stored = async || {
        let key = [&[0x10, 0x00][..], did.chain().digest()].concat();
        c.store.get(&key).await.unwrap().is_some()
    };
    {
        let mut asking = std::pin::pin!(c.identities.recover_here_with(&card, &code, here("new"), next(71)));
        while !is_stored().await {
            assert!(futures::poll!(&mut asking).is_pending(), "it is over and nothing is stored");
            tokio::time::advance(Duration::from_millis(20)).await;
            tokio::task::yield_now().await;
        }
    }
    let c = c.restart().await;
    assert_eq!(c.identities.show(&did).unwrap().role, Some(Role::Admin));
    let again = c.identities.recover_here_with(&card, &code, here("new"), next(71)).await.unwrap();
    assert_eq!(c.identities.recover_with(&did, &code, Vec::new(), next(71)).await.unwrap().op, again.op);
    let refused = c.identities.recover_with(&did, &code, Vec::new(), next(72)).await;
    assert!(matches!(refused, Err(IdentitiesError::Refused { .. })), "{refused:?}");
    c.identities.recover_with(&did, &next(71), Vec::new(), next(73)).await.unwrap();
    c.identities.recover_with(&did, &next(73), Vec::new(), next(74)).await.unwrap();
    drop((a, b));
}
