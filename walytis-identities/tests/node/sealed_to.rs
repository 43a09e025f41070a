//! The invariant of epochs: nothing is ever sealed to an epoch that somebody can open who is removed by what the sender
//! knows. Seeded runs of everything that changes who may read; checked after every step, with the real keys.

use std::time::Duration;

use rand_core::Rng as _;
use walytis_core::clock::{Entropy as _, SeededEntropy};
use walytis_core::net::MemoryHub;
use walytis_identities::id::{ControllerId, Did, Role};
use walytis_identities::identity::{EpochUse, Identity as _};

use crate::rig::{Machine, pass, until};

const MACHINES: u8 = 5;
const STEPS: usize = 30;

fn role(machine: &Machine, did: &Did) -> Option<Role> {
    machine.identities.show(did).ok().and_then(|info| info.role)
}

/// Whoever can write now would seal to its sending epoch: nobody whom it knows as removed, and no keeper, opens that.
async fn check(machines: &[Machine], did: &Did, trail: &[String]) {
    for sender in machines {
        let Ok(identity) = sender.identities.identity(did) else { continue };
        let Ok(epoch) = identity.sending_epoch().await else { continue };
        let controllers = sender.identities.show(did).unwrap().controllers;
        for other in machines {
            let Ok(theirs) = other.identities.identity(did) else { continue };
            let id: ControllerId = theirs.controller();
            let reads = controllers.iter().any(|one| one.id == id && one.role.reads());
            let opens = theirs.derive(&epoch, EpochUse::ContentWrap).await.is_ok();
            assert!(reads || !opens, "{} opens what is sealed now after {trail:?}", other.peer());
        }
    }
}

async fn run(seed: u64) {
    let hub = MemoryHub::new();
    let mut rng = SeededEntropy::new(seed).rng();
    let mut machines = Vec::new();
    for number in 1..=MACHINES {
        machines.push(Machine::start(&hub, number).await);
    }
    let did = machines[0].create().await;
    machines[0].admit(&did, &machines[1], Role::Admin).await;
    machines[0].admit(&did, &machines[2], Role::Member).await;
    let mut trail = Vec::new();
    for _ in 0..STEPS {
        let one = usize::try_from(rng.next_u32()).unwrap() % machines.len();
        let other = usize::try_from(rng.next_u32()).unwrap() % machines.len();
        let (actor, target) = (&machines[one], &machines[other]);
        let acts = role(actor, &did).is_some_and(Role::writes);
        let step = match rng.next_u32() % 6 {
            0 if acts => {
                drop(actor.identities.rekey(&did).await);
                "rekeys"
            }
            1 if acts && role(target, &did).is_some() => {
                let id = target.identity(&did).controller();
                drop(actor.identities.remove(&did, id).await);
                "removes"
            }
            2 if role(actor, &did) == Some(Role::Admin) && target.identities.show(&did).is_err() => {
                let role = [Role::Member, Role::Admin, Role::Keeper, Role::Reader]
                    [usize::try_from(rng.next_u32()).unwrap() % 4];
                let options = walytis_identities::node::InviteOptions { role, ..Default::default() };
                if let Ok(invite) = actor.identities.invite(&did, options).await {
                    drop(target.join(&invite.token.to_text()).await);
                }
                "admits"
            }
            3 if one != other => {
                hub.cut(&actor.peer(), &target.peer());
                "is cut from"
            }
            4 => {
                hub.heal_all();
                "sees all healed, not"
            }
            _ => {
                pass(Duration::from_secs(u64::from(rng.next_u32() % 40))).await;
                "waits beside"
            }
        };
        trail.push(format!("{} {step} {}", one + 1, other + 1));
        check(&machines, &did, &trail).await;
    }
    hub.heal_all();
    // Those that were apart for long are dialled every five minutes.
    pass(Duration::from_secs(400)).await;
    // In the end whoever still controls the identity agrees, and can go on.
    until(&format!("all agree after {trail:?}"), async || {
        let mut epochs = Vec::new();
        for machine in machines.iter().filter(|machine| role(machine, &did).is_some_and(Role::writes)) {
            epochs.push(machine.identity(&did).sending_epoch().await.ok());
        }
        epochs.iter().all(|epoch| epoch.is_some() && *epoch == epochs[0])
    })
    .await;
    check(&machines, &did, &trail).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sealed_to_an_epoch_that_a_removed_controller_can_open() {
    for seed in 0..6 {
        run(seed).await;
    }
}
