//! A keeper between members who are never up at the same time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod support;

use support::{World, add, pattern, read, until};
use walytis_core::ledger::{BlockState, Ledger as _, LedgerRead as _, NewBlock};
use walytis_core::store::{BlobSpace, BlobStore as _};
use walytis_identities::id::Role;

/// The author writes and goes, the reader comes, reads, answers and goes, the author comes back: all by way of the keeper, which
/// opens nothing.
#[tokio::test(start_paused = true)]
async fn members_who_are_never_up_together_exchange_through_a_keeper() {
    let world = World::new();
    let (mut peers, chain, group) = world.peers(2).await;
    let (at_keeper, at_author) = (peers.pop().unwrap(), peers.pop().unwrap());
    let (a, k) = (at_author.join(&group, Role::Admin), at_keeper.join(&group, Role::Keeper));
    let kept = at_keeper.open(&chain, &k, "x").await;
    let ours = at_author.open(&chain, &a, "x").await;
    let (small, large) = (add(&ours, "small", &["topic"]).await, add(&ours, pattern(2_500_000), &[]).await);
    for id in [&small.id, &large.id] {
        assert_eq!(until(&kept, id, BlockState::Locked).await.topics, []);
        assert!(kept.content(id).await.is_err(), "a keeper reads");
    }
    let author_disk = at_author.stop(&[&ours]).await;
    drop(ours);

    let at_reader = world.peer(9).await;
    at_reader.take_in(&at_keeper, &chain).await;
    let r = at_reader.join(&group, Role::Member);
    at_reader.meet(&at_keeper).await;
    let theirs = at_reader.open(&chain, &r, "x").await;
    until(&theirs, &large.id, BlockState::Available).await;
    until(&theirs, &small.id, BlockState::Available).await;
    assert_eq!(read(&theirs, &small.id).await, b"small");
    assert!(read(&theirs, &large.id).await == pattern(2_500_000));
    let answer = add(&theirs, "answer", &[]).await;
    until(&kept, &answer.id, BlockState::Locked).await;
    let reader_disk = at_reader.stop(&[&theirs]).await;
    drop(theirs);

    let at_author = world.start(author_disk).await;
    at_author.meet(&at_keeper).await;
    let ours = at_author.open(&chain, &a, "x").await;
    until(&ours, &answer.id, BlockState::Available).await;
    assert_eq!(read(&ours, &answer.id).await, b"answer");
    assert_eq!(ours.get(&answer.id).await.unwrap().unwrap().author.0, author_of(&r));

    // The vote as well: the keeper destroys what it never could open, without a vote of its own.
    let proposal = ours.propose_forget(&[large.id], "").await.unwrap();
    let writes = kept.add(NewBlock { content: "by a keeper".into(), topics: vec![] }).await;
    assert!(writes.is_err() && kept.consent(&proposal).await.is_err(), "a keeper writes");
    // The reader is asked, too, and is not there; the keeper has no vote to give.
    until(&kept, &large.id, BlockState::Locked).await;
    at_author.stop(&[&ours]).await;
    let at_reader = world.start(reader_disk).await;
    at_reader.meet(&at_keeper).await;
    let theirs = at_reader.open(&chain, &r, "x").await;
    while theirs.proposal(&proposal).await.unwrap().is_none() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    theirs.consent(&proposal).await.unwrap();
    until(&kept, &large.id, BlockState::Forgotten).await;
    let left = at_keeper.disk.blobs.list(BlobSpace::Envelope, chain).await.unwrap();
    assert_eq!(left, [], "the keeper kept it");
}

fn author_of(identity: &walytis_identities::identity::MemoryIdentity) -> Box<str> {
    use walytis_identities::identity::Identity as _;
    identity.controller().to_string().into()
}
