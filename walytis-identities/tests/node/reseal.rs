//! Secrets of epochs on request: lost receiving keys, admissions beside rekeys, histories; and who gets nothing.

use std::time::Duration;

use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use walytis_core::net::{MemoryHub, Network as _};
use walytis_identities::id::{Did, EpochId, Role};
use walytis_identities::identity::{EpochUse, Identity as _};
use walytis_identities::node::{IdentitiesConfig, IdentityTerms, InviteOptions};
use walytis_identities::op::HistoryPolicy;

use crate::rig::{Machine, framed, pass, until};

const HOUR: Duration = Duration::from_secs(3_600);

async fn reads(machine: &Machine, did: &Did, epoch: &EpochId) -> bool {
    machine.identity(did).derive(epoch, EpochUse::ContentWrap).await.is_ok()
}

/// Asks as the machine's node may ask; returns the answer's frame.
async fn ask(asker: &Machine, holder: &Machine, did: &Did, epochs: &[EpochId]) -> Vec<u8> {
    let mut stream = asker.network.open(&holder.peer(), "/walytis/reseal/1").await.unwrap();
    let count = u8::try_from(epochs.len()).unwrap();
    let ids: Vec<u8> = epochs.iter().flat_map(|epoch| epoch.0).collect();
    let question = framed(&[&[0x01][..], did.chain().digest(), &[count], &ids].concat());
    stream.write_all(&question).await.unwrap();
    let mut answer = Vec::new();
    stream.close().await.unwrap();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

const UNKNOWN: [u8; 6] = [0, 0, 0, 2, 0x01, 0x01];
const NO_SHARES: [u8; 7] = [0, 0, 0, 3, 0x01, 0x00, 0x00];

/// A data folder that is an older copy lacks the receiving key to which the others have sealed since.
#[tokio::test(start_paused = true)]
async fn whoever_lost_its_receiving_key_is_given_its_share_again_and_says_that_it_is_older() {
    let config = IdentitiesConfig { receiving_age: HOUR, ..IdentitiesConfig::default() };
    let hub = MemoryHub::new();
    let (a, b) = (Machine::start_with(&hub, 1, config).await, Machine::start_with(&hub, 2, config).await);
    let did = a.create().await;
    a.admit(&did, &b, Role::Member).await;
    let older = b.store.snapshot();
    let first = b.keys(&did).await.receiving().id();
    assert!(!b.identities.show(&did).unwrap().older_copy);
    pass(HOUR * 2).await;
    let renewed = b.keys(&did).await;
    assert_ne!(renewed.receiving().id(), first);
    let card = async || a.cards(&did).await.iter().any(|card| card.body().receiving == *renewed.receiving().public());
    until("a knows the new key", card).await;
    let b = b.stop().await;
    let epoch = a.identities.rekey(&did).await.unwrap().op;
    let written = a.write(&did, "under the epoch that b has no key for").await;

    let b = b.with_store(older).start().await;
    until("b holds the epoch", async || reads(&b, &did, &epoch).await).await;
    b.until_has(&did, &written).await;
    assert_eq!(b.identity(&did).sending_epoch().await.unwrap(), epoch, "nobody had to renew anything");
    assert!(b.identities.show(&did).unwrap().older_copy, "b's folder is older than what it had published");
    assert!(!a.identities.show(&did).unwrap().older_copy);
    let b = b.restart().await;
    assert!(b.identities.show(&did).unwrap().older_copy, "that is not forgotten");
    assert!(reads(&b, &did, &epoch).await);
}

/// Nobody is there to help: the one who cannot open the epoch in force renews it.
#[tokio::test(start_paused = true)]
async fn whoever_can_open_the_epoch_in_force_with_nobodys_help_renews_it() {
    let config = IdentitiesConfig { receiving_age: HOUR, ..IdentitiesConfig::default() };
    let hub = MemoryHub::new();
    let (a, b) = (Machine::start_with(&hub, 1, config).await, Machine::start_with(&hub, 2, config).await);
    let did = a.create().await;
    a.admit(&did, &b, Role::Member).await;
    let older = b.store.snapshot();
    pass(HOUR * 2).await;
    let renewed = b.keys(&did).await;
    let card = async || a.cards(&did).await.iter().any(|card| card.body().receiving == *renewed.receiving().public());
    until("a knows the new key", card).await;
    let b = b.stop().await;
    let epoch = a.identities.rekey(&did).await.unwrap().op;
    let ops: Vec<_> = a.graph(&did).await.ops().skip(1).map(|op| (**op).clone()).collect();
    drop(a.stop().await);
    let b = b.with_store(older).start().await;
    b.receive(&did, &ops).await;
    assert!(!reads(&b, &did, &epoch).await);
    until("b goes on", async || b.identity(&did).sending_epoch().await.is_ok_and(|now| now != epoch)).await;
}

#[tokio::test(start_paused = true)]
async fn newcomers_read_what_the_history_policy_says() {
    for policy in [HistoryPolicy::None, HistoryPolicy::FromInvite, HistoryPolicy::All] {
        let hub = MemoryHub::new();
        let (a, b) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await);
        let did = a
            .identities
            .create_with("home", "laptop", IdentityTerms { history: policy, ..IdentityTerms::default() })
            .await
            .unwrap()
            .did;
        let mut before = vec![a.identity(&did).sending_epoch().await.unwrap()];
        before.push(a.identities.rekey(&did).await.unwrap().op);
        let token = a.token(&did, InviteOptions::default()).await;
        let mut since = vec![a.identity(&did).sending_epoch().await.unwrap()];
        if policy != HistoryPolicy::FromInvite {
            assert_eq!(since, before[1..], "only then an invitation begins an epoch");
            since.clear();
        }
        since.push(a.identities.rekey(&did).await.unwrap().op);
        b.join(&token).await.unwrap();
        let admitted = a.identity(&did).sending_epoch().await.unwrap();
        until("b holds the epoch of its admission", async || reads(&b, &did, &admitted).await).await;
        pass(Duration::from_secs(120)).await;
        for (epochs, open) in
            [(&before, policy == HistoryPolicy::All), (&since, policy != HistoryPolicy::None), (&vec![admitted], true)]
        {
            for epoch in epochs {
                assert_eq!(reads(&b, &did, epoch).await, open, "{policy:?}: {epoch}");
                assert_eq!(a.identity(&did).may_read(&b.peer(), epoch).await, open, "{policy:?}: {epoch}");
            }
        }
        // What is closed stays closed, whoever is asked and however often keys are renewed.
        if policy == HistoryPolicy::None {
            assert_eq!(ask(&b, &a, &did, &before[..1]).await, NO_SHARES);
        }
        a.identities.rekey(&did).await.unwrap();
        pass(Duration::from_secs(30)).await;
        assert_eq!(reads(&b, &did, &before[0]).await, policy == HistoryPolicy::All);
    }
}

/// What was written under an epoch that was begun beside an admission is for the newcomer, too, whatever the policy.
#[tokio::test(start_paused = true)]
async fn an_epoch_begun_beside_an_admission_opens_to_the_newcomer() {
    let hub = MemoryHub::new();
    let (a, b, c) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await, Machine::start(&hub, 3).await);
    let did = a
        .identities
        .create_with("home", "laptop", IdentityTerms { history: HistoryPolicy::None, ..IdentityTerms::default() })
        .await
        .unwrap()
        .did;
    a.admit(&did, &b, Role::Member).await;
    let heads = a.identity(&did).auth_heads().await;
    until("b knows all", async || b.identity(&did).auth_heads().await == heads).await;
    hub.cut(&a.peer(), &b.peer());
    hub.cut(&c.peer(), &b.peer());
    a.admit(&did, &c, Role::Member).await;
    let beside = b.identities.rekey(&did).await.unwrap().op;
    let written = b.write(&did, "beside the admission").await;
    hub.heal_all();
    until("c reads it", async || c.has(&did, &written).await && reads(&c, &did, &beside).await).await;
    until("all go on under one epoch", async || {
        let epoch = a.identity(&did).sending_epoch().await.ok();
        epoch.is_some()
            && b.identity(&did).sending_epoch().await.ok() == epoch
            && c.identity(&did).sending_epoch().await.ok() == epoch
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn strangers_and_the_removed_get_nothing_and_a_keeper_no_epoch_secret() {
    let hub = MemoryHub::new();
    let (a, b, keeper) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await, Machine::start(&hub, 3).await);
    let stranger = Machine::start(&hub, 9).await;
    let did = a.create().await;
    a.admit(&did, &b, Role::Member).await;
    a.admit(&did, &keeper, Role::Keeper).await;
    let epoch = a.identities.rekey(&did).await.unwrap().op;
    let status = |machine: &Machine| machine.identities.epochs(&did).unwrap().into_iter().find(|one| one.id == epoch);
    until("the keeper knows the epoch", async || status(&keeper).is_some_and(|one| one.in_force)).await;
    assert!(!status(&keeper).unwrap().readable && status(&a).unwrap().readable);
    assert!(!reads(&keeper, &did, &epoch).await);
    // The answer has the transport secret alone: 1 + 33 + 1 + 1 bytes, sealed.
    let answer = ask(&keeper, &a, &did, &[epoch]).await;
    assert_eq!(answer.len(), 4 + 1 + 1 + 1 + 32 + 32 + 2 + 1120 + 16 + 36);
    let full = ask(&b, &a, &did, &[epoch]).await;
    assert_eq!(full.len(), answer.len() + 64, "a member gets epoch secret and history key");

    stranger.network.connect(None, &a.network.addresses()).await.unwrap();
    assert_eq!(ask(&stranger, &a, &did, &[epoch]).await, UNKNOWN);
    let b_id = b.identity(&did).controller();
    let new = a.identities.remove(&did, b_id).await.unwrap().op;
    assert_eq!(ask(&b, &a, &did, &[new]).await, UNKNOWN);
    assert_eq!(ask(&b, &a, &did, &[epoch]).await, UNKNOWN, "not even what it had");
    b.network.connect(None, &stranger.network.addresses()).await.unwrap();
    assert_eq!(ask(&b, &stranger, &did, &[new]).await, UNKNOWN);
    // No epoch at all, too many, unsorted: no answer.
    for epochs in [&[][..], &[epoch, epoch], &[epoch; 65]] {
        assert_eq!(ask(&keeper, &a, &did, epochs).await, Vec::<u8>::new());
    }
}
