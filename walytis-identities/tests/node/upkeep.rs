//! Keys that grow old: epochs renewed by turns, receiving keys renewed and destroyed.

use std::time::Duration;

use walytis_core::net::MemoryHub;
use walytis_core::store::SecretStore as _;
use walytis_identities::crypto::DeviceKeys;
use walytis_identities::epoch::EpochView;
use walytis_identities::id::{Did, Role};
use walytis_identities::identity::{EpochUse, Identity as _};
use walytis_identities::node::IdentitiesConfig;
use walytis_identities::op::Op;

use crate::rig::{Machine, pass, until};

pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

/// Epochs live an hour, nothing else grows old.
pub(crate) fn hourly() -> IdentitiesConfig {
    IdentitiesConfig { epoch_age: HOUR, receiving_age: HOUR * 1_000, ..IdentitiesConfig::default() }
}

/// Three machines in one identity that know the same.
pub(crate) async fn three(hub: &MemoryHub, config: IdentitiesConfig) -> (Did, [Machine; 3]) {
    let machines = [
        Machine::start_with(hub, 1, config).await,
        Machine::start_with(hub, 2, config).await,
        Machine::start_with(hub, 3, config).await,
    ];
    let [a, b, c] = &machines;
    let did = a.create().await;
    a.admit(&did, b, Role::Member).await;
    a.admit(&did, c, Role::Member).await;
    let heads = a.identity(&did).auth_heads().await;
    for machine in &machines {
        until("all know all", async || machine.identity(&did).auth_heads().await == heads).await;
    }
    (did, machines)
}

pub(crate) async fn rekeys(machine: &Machine, did: &Did) -> usize {
    machine.graph(did).await.ops().filter(|op| matches!(op.core().op, Op::Rekey(_))).count()
}

#[tokio::test(start_paused = true)]
async fn an_old_epoch_is_renewed_by_one_and_taken_up_by_all() {
    let hub = MemoryHub::new();
    let (did, machines) = three(&hub, hourly()).await;
    let [a, b, c] = &machines;
    let old = a.identity(&did).sending_epoch().await.unwrap();
    pass(HOUR - Duration::from_secs(60)).await;
    assert_eq!(a.identity(&did).sending_epoch().await.unwrap(), old, "it is not due yet");
    pass(Duration::from_secs(180)).await;
    let new = a.identity(&did).sending_epoch().await.unwrap();
    assert_ne!(new, old);
    for machine in [b, c] {
        assert_eq!(machine.identity(&did).sending_epoch().await.unwrap(), new);
    }
    assert_eq!(rekeys(a, &did).await, 1, "one did it, the others saw that it was done");
    pass(HOUR / 2).await;
    assert_eq!(c.identity(&did).sending_epoch().await.unwrap(), new);
}

/// Whichever of three is away, the two others do it: once it is the first in line.
#[tokio::test(start_paused = true)]
async fn with_the_first_in_line_away_the_next_one_renews() {
    for away in 0..3 {
        let hub = MemoryHub::new();
        let (did, machines) = three(&hub, hourly()).await;
        let old = machines[0].identity(&did).sending_epoch().await.unwrap();
        let [mut here, mut also, gone] = machines;
        let gone = match away {
            0 => std::mem::replace(&mut here, gone),
            1 => std::mem::replace(&mut also, gone),
            _ => gone,
        };
        let gone = gone.stop().await;
        pass(HOUR + Duration::from_secs(120)).await;
        let new = here.identity(&did).sending_epoch().await.unwrap();
        assert_ne!(new, old);
        assert_eq!(also.identity(&did).sending_epoch().await.unwrap(), new);
        assert_eq!(rekeys(&here, &did).await, 1);
        // Back after a while it hears of the renewal before it would do it again.
        let back = gone.start().await;
        until("it takes the new one up", async || back.identity(&did).sending_epoch().await.ok() == Some(new)).await;
        pass(Duration::from_secs(120)).await;
        assert_eq!(rekeys(&here, &did).await, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_epoch_goes_on_ageing_while_the_program_is_off() {
    let hub = MemoryHub::new();
    let a = Machine::start_with(&hub, 1, hourly()).await;
    let did = a.create().await;
    let old = a.identity(&did).sending_epoch().await.unwrap();
    pass(HOUR / 2).await;
    a.clock.advance_ms(1_800_000);
    let stopped = a.stop().await;
    let a = stopped.start().await;
    assert!(a.identities.epochs(&did).unwrap()[0].age.unwrap() >= HOUR / 2);
    a.clock.advance_ms(1_800_000);
    let a = a.restart().await;
    pass(Duration::from_secs(60)).await;
    let new = a.identity(&did).sending_epoch().await.unwrap();
    assert_ne!(new, old);
    // A clock that was set back makes nothing younger than it is known to be, and nothing due.
    a.clock.set_ms(0);
    pass(HOUR / 2).await;
    assert_eq!(a.identity(&did).sending_epoch().await.unwrap(), new);
}

/// Whoever takes the vault later finds nothing that opens slots sealed to older keys; everything stays readable here.
#[tokio::test(start_paused = true)]
async fn receiving_keys_are_renewed_and_the_old_halves_destroyed() {
    let config = IdentitiesConfig { epoch_age: HOUR * 3, receiving_age: HOUR, retired_age: HOUR * 6, ..hourly() };
    let hub = MemoryHub::new();
    let (did, machines) = three(&hub, config).await;
    let [a, b, _] = &machines;
    let first: DeviceKeys = b.keys(&did).await;
    let first_seed = first.receiving().seed().expose().to_vec();
    let beside = format!("identities/receiving/{}", did.chain());
    let holds_first = async || {
        let kept = b.vault.get(&beside).await.unwrap().unwrap();
        let device = b.keys(&did).await;
        kept.expose().windows(32).any(|at| at == first_seed) || device.receiving().id() == first.receiving().id()
    };
    assert!(holds_first().await);
    pass(HOUR * 2).await;
    assert_ne!(b.keys(&did).await.receiving().id(), first.receiving().id(), "another one is in force");
    assert!(holds_first().await, "but the first one is kept for slots that may still come");
    let card = a.cards(&did).await.into_iter().find(|card| card.body().device == first.id()).unwrap();
    assert_ne!(card.body().receiving, *first.receiving().public(), "others seal to the new one");
    pass(HOUR * 10).await;
    assert!(!holds_first().await);
    // The newest epoch is no business of whoever has the first key.
    let newest = b.identity(&did).sending_epoch().await.unwrap();
    let graph = b.graph(&did).await;
    let (op, me) = (graph.op(&newest).unwrap(), b.identity(&did).controller());
    assert!(EpochView::open_slot(op.core(), &me, true, &[first.receiving()]).is_err());
    let epochs = b.identities.epochs(&did).unwrap();
    assert!(epochs.len() > 3 && epochs.iter().all(|epoch| epoch.readable));
    // The keys are there after a restart.
    let [_, b, _] = machines;
    let b = b.restart().await;
    let all = async || b.identities.epochs(&did).unwrap().iter().all(|epoch| epoch.readable);
    until("all is readable, what was begun meanwhile too", all).await;
    assert!(!b.identities.show(&did).unwrap().older_copy);
    b.identity(&did).derive(&newest, EpochUse::ContentWrap).await.unwrap();
}
