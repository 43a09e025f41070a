//! Forgetting between real nodes over the network in memory, in paused time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use support::{PATIENCE, Peer, World, add, pattern, read, topic, until};
use test_harness::store::CountingStore;
use tokio::time::Instant;
use walytis_core::id::{BlockId, ChainId};
use walytis_core::ledger::{
    BlockInfo, BlockState, Cursor, Ledger as _, LedgerControl as _, LedgerError, LedgerEvent, LedgerRead as _,
    NewBlock, Query, SubscribeFrom,
};
use walytis_core::store::{BlobSpace, BlobStore as _, Direction, KeyRange, KvStore as _};
use walytis_identities::id::{ControllerId, Role};
use walytis_identities::identity::{Identity as _, MemoryIdentity};
use walytis_offchain::{Consent, ForgetRule, PrivateLedger, Proposal, ProposalState};

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("{what} never comes"))
}

/// Waits until a ledger shows the proposal in a state that `wanted` accepts.
async fn until_proposal(ledger: &PrivateLedger, id: &BlockId, wanted: impl Fn(&Proposal) -> bool) -> Proposal {
    within("a proposal", async {
        loop {
            if let Some(found) = ledger.proposal(id).await.unwrap().filter(|found| wanted(found)) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

fn who(identities: &[&MemoryIdentity]) -> Vec<ControllerId> {
    let mut who: Vec<_> = identities.iter().map(|identity| identity.controller()).collect();
    who.sort_unstable();
    who
}

/// No envelope of the ledger is left: neither in the store nor in the blob store.
async fn assert_bare(peer: &Peer, chain: ChainId) {
    assert_eq!(peer.disk.blobs.list(BlobSpace::Envelope, chain).await.unwrap(), []);
    let all = KeyRange { start: vec![0x20], end: Some(vec![0x21]) };
    let rows = peer.disk.store.scan(all, Direction::Forward, usize::MAX).await.unwrap();
    let left: Vec<_> = rows.iter().filter(|(key, _)| [b'm', b'v', b't', b'R', b'D'].contains(&key[33])).collect();
    assert!(left.is_empty(), "{left:?}");
}

async fn settle_down() {
    tokio::time::sleep(Duration::from_secs(90)).await;
}

#[tokio::test(start_paused = true)]
async fn what_one_device_forgets_it_never_has_again_and_others_keep() {
    let world = World::new();
    let (mut peers, chain, group) = world.peers(2).await;
    let (a, b) = (peers[0].join(&group, Role::Admin), peers[1].join(&group, Role::Member));
    let ours = peers[0].open(&chain, &a, "x").await;
    let theirs = peers[1].open(&chain, &b, "x").await;
    let (small, large) = (add(&ours, "small", &["t"]).await, add(&ours, pattern(2_500_000), &["t"]).await);
    for id in [&small.id, &large.id] {
        until(&theirs, id, BlockState::Available).await;
        theirs.forget_local(id).await.unwrap();
        // Again: nothing more to do.
        theirs.forget_local(id).await.unwrap();
        assert!(matches!(theirs.content(id).await, Err(LedgerError::Unavailable { .. })));
    }
    assert_bare(&peers[1], chain).await;
    let query = Query { topics_any: vec![topic("t")], ..Query::default() };
    assert_eq!(theirs.query(query).await.unwrap().count().await, 0, "the index still knows it");
    // The record stays, with what its header says.
    let kept = theirs.get(&small.id).await.unwrap().unwrap();
    assert_eq!((kept.state, kept.size, kept.topics), (BlockState::Forgotten, 5, vec![topic("t")]));
    assert_eq!((theirs.count().await.unwrap(), ours.count().await.unwrap()), (2, 2));
    let unknown = BlockId::from_digest([9; 32]);
    assert!(matches!(theirs.forget_local(&unknown).await, Err(LedgerError::UnknownBlock { .. })));
    // Not when it starts anew beside somebody who has it, either.
    let disk = peers.remove(1).stop(&[&theirs]).await;
    let peer = world.start(disk).await;
    peer.meet(&peers[0]).await;
    let theirs = peer.open(&chain, &b, "x").await;
    group.rekey();
    settle_down().await;
    assert_eq!(theirs.get(&large.id).await.unwrap().unwrap().state, BlockState::Forgotten);
    assert_bare(&peer, chain).await;
    assert_eq!(read(&ours, &small.id).await, b"small");
    assert!(read(&ours, &large.id).await == pattern(2_500_000));
}

/// Three members; a durable subscriber is told of the proposal and of what is gone; each device says that it is done.
#[tokio::test(start_paused = true)]
async fn when_all_consent_the_content_is_gone_everywhere_and_the_record_stays() {
    let world = World::new();
    let (peers, chain, group) = world.peers(3).await;
    let [a, b, c] = [0, 1, 2].map(|n| peers[n].join(&group, Role::Member));
    let ids = [&a, &b, &c];
    let mut ledgers = Vec::new();
    for (peer, identity) in peers.iter().zip(ids) {
        ledgers.push(peer.open(&chain, identity, "x").await);
    }
    let mut events = ledgers[2].subscribe(SubscribeFrom::Name("s".into())).await.unwrap();
    let small = add(&ledgers[0], "small", &["t"]).await;
    let large = add(&ledgers[1], pattern(2_500_000), &[]).await;
    for ledger in &ledgers {
        until(ledger, &small.id, BlockState::Available).await;
        until(ledger, &large.id, BlockState::Available).await;
    }
    let proposal = ledgers[0].propose_forget(&[large.id, small.id], "no longer needed").await.unwrap();
    let seen = until_proposal(&ledgers[1], &proposal, |_| true).await;
    let mut blocks = vec![small.id, large.id];
    blocks.sort_unstable();
    assert_eq!((seen.blocks, seen.by), (blocks.clone(), a.controller()));
    assert_eq!((seen.reason.as_deref(), seen.state), (Some("no longer needed"), ProposalState::Open));
    ledgers[1].consent(&proposal).await.unwrap();
    ledgers[1].consent(&proposal).await.unwrap();
    assert!(matches!(ledgers[1].refuse(&proposal).await, Err(LedgerError::Refused { .. })), "a consent is final");
    settle_down().await;
    assert_eq!(read(&ledgers[0], &small.id).await, b"small", "gone before all consented");
    let open = ledgers[0].proposal(&proposal).await.unwrap().unwrap();
    assert_eq!((open.consents, open.silent), (who(&[&a, &b]), who(&[&c])));
    ledgers[2].consent(&proposal).await.unwrap();
    for (ledger, peer) in ledgers.iter().zip(&peers) {
        let done = until_proposal(ledger, &proposal, |found| found.done.len() == 3).await;
        assert_eq!((done.state, done.done), (ProposalState::Forgotten, who(&ids)));
        assert_bare(peer, chain).await;
        for id in &blocks {
            assert_eq!(ledger.get(id).await.unwrap().unwrap().state, BlockState::Forgotten);
            assert!(ledger.content(id).await.is_err());
            assert!(peer.chain(&chain).block(id).await.unwrap().is_some(), "the record is gone");
        }
        assert_eq!(ledger.count().await.unwrap(), 2);
    }
    let mut told = Vec::new();
    while told.len() < 5 {
        told.push(within("an event", events.next()).await.unwrap().unwrap());
    }
    assert!(
        told.iter().any(|event| matches!(event, LedgerEvent::ForgetProposed { proposal: of, .. } if *of == proposal))
    );
    for id in &blocks {
        let at = |wanted: &dyn Fn(&LedgerEvent) -> bool| told.iter().position(wanted).expect("told");
        let shown = at(&|event| matches!(event, LedgerEvent::Block(info) if info.id == *id));
        let gone = at(&|event| matches!(event, LedgerEvent::Forgotten { id: of, .. } if of == id));
        assert!(shown < gone);
    }
    // Cursors of all events differ and rise.
    let cursors: Vec<Cursor> = told.iter().map(LedgerEvent::cursor).collect();
    assert!(cursors.is_sorted_by(|a, b| a < b));
    let again = ledgers[0].propose_forget(&blocks, "").await;
    assert!(matches!(again, Err(LedgerError::Refused { .. })), "{again:?}");
    assert_eq!(ledgers[2].proposals().await.unwrap().try_collect::<Vec<_>>().await.unwrap().len(), 1);
    assert!(ledgers[2].find_proposal(&proposal.to_string()[7..20]).await.is_ok_and(|found| found == proposal));
    assert!(ledgers[2].find_proposal("zzz").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn one_refusal_blocks_until_its_author_consents() {
    let world = World::new();
    let (peers, chain, group) = world.peers(2).await;
    let (a, b) = (peers[0].join(&group, Role::Admin), peers[1].join(&group, Role::Member));
    let ours = peers[0].open(&chain, &a, "x").await;
    let theirs = peers[1].open(&chain, &b, "x").await;
    let block = add(&ours, "kept", &[]).await;
    until(&theirs, &block.id, BlockState::Available).await;
    let proposal = ours.propose_forget(&[block.id], "").await.unwrap();
    until_proposal(&theirs, &proposal, |_| true).await;
    theirs.refuse(&proposal).await.unwrap();
    theirs.refuse(&proposal).await.unwrap();
    let refused = until_proposal(&ours, &proposal, |found| found.state == ProposalState::Refused).await;
    assert_eq!((refused.refusals, refused.consents), (who(&[&b]), who(&[&a])));
    settle_down().await;
    assert_eq!(read(&theirs, &block.id).await, b"kept");
    theirs.consent(&proposal).await.unwrap();
    for ledger in [&ours, &theirs] {
        until(ledger, &block.id, BlockState::Forgotten).await;
        until_proposal(ledger, &proposal, |found| found.refusals.is_empty() && found.done.len() == 2).await;
    }
    assert!(theirs.refuse(&proposal).await.is_err(), "what is gone cannot be refused");
}

/// Everybody but the one who is offline votes; it comes back, sees the proposal, consents, and all is gone.
#[tokio::test(start_paused = true)]
async fn a_member_who_was_offline_during_the_vote_is_waited_for() {
    let world = World::new();
    let (mut peers, chain, group) = world.peers(3).await;
    let [a, b, c] = [0, 1, 2].map(|n| peers[n].join(&group, Role::Member));
    let ours = peers[0].open(&chain, &a, "x").await;
    let second = peers[1].open(&chain, &b, "x").await;
    let third = peers[2].open(&chain, &c, "x").await;
    let block = add(&ours, pattern(100_000), &[]).await;
    until(&second, &block.id, BlockState::Available).await;
    until(&third, &block.id, BlockState::Available).await;
    let disk = peers.remove(2).stop(&[&third]).await;
    let proposal = ours.propose_forget(&[block.id], "").await.unwrap();
    until_proposal(&second, &proposal, |_| true).await;
    second.consent(&proposal).await.unwrap();
    settle_down().await;
    assert!(read(&ours, &block.id).await == pattern(100_000));
    let back = world.start(disk).await;
    back.meet(&peers[0]).await;
    let third = back.open(&chain, &c, "x").await;
    until_proposal(&third, &proposal, |found| found.silent == who(&[&c])).await;
    third.consent(&proposal).await.unwrap();
    for ledger in [&ours, &second, &third] {
        until(ledger, &block.id, BlockState::Forgotten).await;
    }
    assert_bare(&back, chain).await;
}

/// Two who join later: one while the vote is open has no vote and delays nothing, one after it inherits the tombstone.
#[tokio::test(start_paused = true)]
async fn later_members_neither_vote_nor_block_and_inherit_what_is_gone() {
    let world = World::new();
    let (peers, chain, group) = world.peers(4).await;
    let (a, b) = (peers[0].join(&group, Role::Admin), peers[1].join(&group, Role::Member));
    let ours = peers[0].open(&chain, &a, "x").await;
    let theirs = peers[1].open(&chain, &b, "x").await;
    let block = add(&ours, "old", &["t"]).await;
    until(&theirs, &block.id, BlockState::Available).await;
    let proposal = ours.propose_forget(&[block.id], "").await.unwrap();
    let c = peers[2].join(&group, Role::Member);
    let third = peers[2].open(&chain, &c, "x").await;
    until(&third, &block.id, BlockState::Available).await;
    until_proposal(&third, &proposal, |_| true).await;
    assert!(matches!(third.consent(&proposal).await, Err(LedgerError::Refused { .. })));
    assert!(matches!(third.refuse(&proposal).await, Err(LedgerError::Refused { .. })));
    until_proposal(&theirs, &proposal, |_| true).await;
    theirs.consent(&proposal).await.unwrap();
    until(&third, &block.id, BlockState::Forgotten).await;
    assert_bare(&peers[2], chain).await;
    let d = peers[3].join(&group, Role::Member);
    let fourth = peers[3].open(&chain, &d, "x").await;
    until(&fourth, &block.id, BlockState::Forgotten).await;
    settle_down().await;
    assert_bare(&peers[3], chain).await;
    let seen = fourth.proposal(&proposal).await.unwrap().unwrap();
    // Who came later held nothing that it could say is gone.
    assert_eq!((seen.state, seen.done), (ProposalState::Forgotten, who(&[&a, &b])));
    let found: Vec<BlockInfo> = fourth.query(Query::default()).await.unwrap().try_collect().await.unwrap();
    assert_eq!(found.len(), 1);
}

/// The author of content and proposal is removed before the last consent; so is one who never said anything.
#[tokio::test(start_paused = true)]
async fn the_removed_are_not_asked_and_their_proposal_stands() {
    let world = World::new();
    let (peers, chain, group) = world.peers(3).await;
    let (a, b) = (peers[0].join(&group, Role::Admin), peers[1].join(&group, Role::Member));
    let c = peers[2].join(&group, Role::Member);
    let ours = peers[0].open(&chain, &a, "x").await;
    let theirs = peers[1].open(&chain, &b, "x").await;
    let block = add(&theirs, "by b", &[]).await;
    until(&ours, &block.id, BlockState::Available).await;
    let proposal = theirs.propose_forget(&[block.id], "").await.unwrap();
    until_proposal(&ours, &proposal, |_| true).await;
    group.remove(b.device(), [block.id, proposal]);
    ours.consent(&proposal).await.unwrap();
    settle_down().await;
    assert_eq!(read(&ours, &block.id).await, b"by b", "one who was asked has not consented");
    group.remove(c.device(), []);
    until(&ours, &block.id, BlockState::Forgotten).await;
    // A proposal of a removed member that its removal does not cover counts for nothing.
    let other = add(&ours, "by a", &[]).await;
    assert!(theirs.propose_forget(&[other.id], "").await.is_err());
    assert_eq!(read(&ours, &other.id).await, b"by a");
}

async fn add_under(ledger: &PrivateLedger, text: &str, rule: ForgetRule) -> BlockInfo {
    let block = NewBlock { content: text.to_owned().into(), topics: vec![] };
    ledger.add_under(vec![block], rule).await.unwrap().remove(0)
}

#[tokio::test(start_paused = true)]
async fn a_block_is_forgotten_under_the_rule_that_it_was_added_with() {
    let world = World::new();
    let (peers, chain, group) = world.peers(4).await;
    let roles = [Role::Admin, Role::Member, Role::Member, Role::Keeper];
    let identities: Vec<_> = peers.iter().zip(roles).map(|(peer, role)| peer.join(&group, role)).collect();
    let mut ledgers = Vec::new();
    for (peer, identity) in peers.iter().zip(&identities) {
        ledgers.push(peer.open(&chain, identity, "x").await);
    }
    let rule = |consent| ForgetRule { consent, expires_at_ms: None };
    let mut blocks = Vec::new();
    for (n, consent) in [Consent::All, Consent::Author, Consent::Admins, Consent::Some(2)].into_iter().enumerate() {
        let block = add_under(&ledgers[1], &format!("{n}"), rule(consent)).await;
        for ledger in &ledgers[..3] {
            until(ledger, &block.id, BlockState::Available).await;
        }
        until(&ledgers[3], &block.id, BlockState::Locked).await;
        blocks.push(block.id);
    }
    let [all, author, admins, some] = blocks[..] else { panic!("four blocks") };
    let forgotten = async |ids: &[BlockId]| {
        for ledger in &ledgers {
            for id in ids {
                until(ledger, id, BlockState::Forgotten).await;
            }
        }
    };
    // The author alone: at once, also at the keeper, who has no vote and reads nothing.
    let proposal = ledgers[1].propose_forget(&blocks, "").await.unwrap();
    forgotten(&[author]).await;
    settle_down().await;
    assert_eq!(ledgers[2].get(&some).await.unwrap().unwrap().state, BlockState::Available);
    assert!(ledgers[3].consent(&proposal).await.is_err());
    // One more consent: two of them, one an admin.
    ledgers[0].consent(&proposal).await.unwrap();
    forgotten(&[author, admins, some]).await;
    assert_eq!(ledgers[2].get(&all).await.unwrap().unwrap().state, BlockState::Available);
    until_proposal(&ledgers[2], &proposal, |found| found.state == ProposalState::Open).await;
    ledgers[2].consent(&proposal).await.unwrap();
    forgotten(&[all]).await;
    for peer in &peers {
        assert_bare(peer, chain).await;
    }
    let refused = ledgers[0].add_under(vec![], rule(Consent::Some(0))).await;
    assert!(matches!(refused, Err(LedgerError::Refused { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_content_expires_on_each_device_by_its_own_clock() {
    let world = World::new();
    let (peers, chain, group) = world.peers(3).await;
    let [a, b] = [0, 1].map(|n| peers[n].join(&group, Role::Member));
    let ours = peers[0].open(&chain, &a, "x").await;
    let theirs = peers[1].open(&chain, &b, "x").await;
    let rule = ForgetRule { consent: Consent::All, expires_at_ms: Some(1_060_000) };
    let block = add_under(&ours, "for a minute", rule).await;
    let other = add(&ours, "for ever", &[]).await;
    until(&theirs, &block.id, BlockState::Available).await;
    until(&theirs, &other.id, BlockState::Available).await;
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(read(&theirs, &block.id).await, b"for a minute", "the wall clock decides");
    world.clock.set_ms(1_060_000);
    for ledger in [&ours, &theirs] {
        within("expiry", async {
            while ledger.get(&block.id).await.unwrap().unwrap().state != BlockState::Forgotten {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        })
        .await;
        assert_eq!(read(ledger, &other.id).await, b"for ever");
    }
    // Whoever comes later does not fetch it.
    let c = peers[2].join(&group, Role::Member);
    let third = peers[2].open(&chain, &c, "x").await;
    until(&third, &block.id, BlockState::Forgotten).await;
    let over = NewBlock { content: "late".into(), topics: vec![] };
    assert!(matches!(ours.add_under(vec![over], rule).await, Err(LedgerError::Refused { .. })));
}

/// Rows of one table of everything in a peer's store.
async fn rows(peer: &Peer, table: u8) -> usize {
    let all = KeyRange { start: vec![0x20], end: Some(vec![0x21]) };
    let rows = peer.disk.store.scan(all, Direction::Forward, usize::MAX).await.unwrap();
    rows.iter().filter(|(key, _)| key[33] == table).count()
}

/// Blocks of a member whose removal does not cover them: they do not count, so neither do the rule of one that any one may
/// have it forgotten, and the time at which the other is over. Their bytes stay, as a removal may turn out void; all together
/// can have them gone.
#[tokio::test(start_paused = true)]
async fn a_record_that_does_not_count_makes_no_rule() {
    let world = World::new();
    let (peers, chain, group) = world.peers(3).await;
    let [a, b, c] = [0, 1, 2].map(|n| peers[n].join(&group, [Role::Admin, Role::Member, Role::Member][n]));
    let [ours, theirs, third] = [
        peers[0].open(&chain, &a, "x").await,
        peers[1].open(&chain, &b, "x").await,
        peers[2].open(&chain, &c, "x").await,
    ];
    let one = add_under(&theirs, "any one", ForgetRule { consent: Consent::Some(1), expires_at_ms: None }).await;
    let two =
        add_under(&theirs, "a minute", ForgetRule { consent: Consent::All, expires_at_ms: Some(1_060_000) }).await;
    let others = [(&ours, &peers[0]), (&third, &peers[2])];
    for (ledger, _) in others {
        until(ledger, &one.id, BlockState::Available).await;
        until(ledger, &two.id, BlockState::Available).await;
    }
    group.remove(b.device(), []);
    settle_down().await;
    world.clock.set_ms(1_100_000);
    let proposal = third.propose_forget(&[one.id, two.id], "").await.unwrap();
    until_proposal(&ours, &proposal, |_| true).await;
    tokio::time::sleep(Duration::from_secs(1_000)).await;
    for (ledger, peer) in others {
        assert_eq!(rows(peer, b'm').await, 2, "gone by a rule that does not count");
        assert_eq!(ledger.proposal(&proposal).await.unwrap().unwrap().state, ProposalState::Open);
        assert!(ledger.content(&one.id).await.is_err(), "what does not count is read");
    }
    ours.consent(&proposal).await.unwrap();
    for (ledger, peer) in others {
        until_proposal(ledger, &proposal, |found| found.state == ProposalState::Forgotten && found.done.len() == 2)
            .await;
        assert_bare(peer, chain).await;
    }
}

/// What mutable blocks call when all versions of a block are erased.
#[tokio::test(start_paused = true)]
async fn the_ledgers_own_forget_proposes() {
    let world = World::new();
    let (peers, chain, group) = world.peers(2).await;
    let (a, b) = (peers[0].join(&group, Role::Admin), peers[1].join(&group, Role::Member));
    let ours = peers[0].open(&chain, &a, "x").await;
    let theirs = peers[1].open(&chain, &b, "x").await;
    let (one, two) = (add(&ours, "one", &[]).await, add(&ours, "two", &[]).await);
    until(&theirs, &two.id, BlockState::Available).await;
    ours.forget(&[one.id, two.id]).await.unwrap();
    let proposals: Vec<_> = ours.proposals().await.unwrap().try_collect().await.unwrap();
    assert_eq!(proposals.len(), 1);
    until_proposal(&theirs, &proposals[0].id, |_| true).await;
    theirs.consent(&proposals[0].id).await.unwrap();
    until(&ours, &one.id, BlockState::Forgotten).await;
    until(&ours, &two.id, BlockState::Forgotten).await;
    ours.forget(&[one.id]).await.unwrap();
    assert_eq!(ours.proposals().await.unwrap().count().await, 1, "nothing is left to propose");
}

#[tokio::test(start_paused = true)]
async fn a_layers_votes_are_not_seen_by_another_and_end_with_it() {
    let world = World::new();
    let (peers, chain, group) = world.peers(1).await;
    let a = peers[0].join(&group, Role::Admin);
    let (one, two) = (peers[0].open(&chain, &a, "one").await, peers[0].open(&chain, &a, "two").await);
    let block = add(&one, "in one", &[]).await;
    let other = add(&two, "in two", &[]).await;
    assert!(matches!(two.propose_forget(&[block.id], "").await, Err(LedgerError::UnknownBlock { .. })));
    let proposal = one.propose_forget(&[block.id], "").await.unwrap();
    until(&one, &block.id, BlockState::Forgotten).await;
    assert_eq!(two.proposal(&proposal).await.unwrap(), None);
    assert_eq!(read(&two, &other.id).await, b"in two");
    one.delete().await.unwrap();
    assert_eq!(two.count().await.unwrap(), 1);
}

/// The longest that anything else waits while so many undecided proposals are looked at again, with a store that takes a
/// millisecond for each key.
async fn longest_wait(proposals: usize) -> Duration {
    let world = World::new();
    let (peers, chain, group) = world.peers(3).await;
    // The other one never opens its ledger, so it never consents.
    let (a, _away) = (peers[0].join(&group, Role::Admin), peers[1].join(&group, Role::Member));
    let mut parts = peers[0].parts(&chain, &a, "x");
    parts.store = Arc::new(CountingStore::slow(peers[0].disk.store.clone(), Duration::from_millis(1)));
    let ours = PrivateLedger::open(parts).await.unwrap();
    for number in 0..proposals {
        let block = add(&ours, number.to_string(), &[]).await;
        ours.propose_forget(&[block.id], "").await.unwrap();
    }
    settle_down().await;
    peers[2].join(&group, Role::Member);
    let mut longest = Duration::ZERO;
    for _ in 0..proposals {
        let asked = Instant::now();
        add(&ours, "meanwhile", &[]).await;
        longest = longest.max(asked.elapsed());
    }
    longest
}

#[tokio::test(start_paused = true)]
async fn undecided_proposals_hold_up_nothing_however_many_there_are() {
    // Both have more records than one step judges.
    let (few, many) = (longest_wait(40).await, longest_wait(160).await);
    assert!(many <= few + Duration::from_millis(20), "{few:?} beside 40 proposals, {many:?} beside 160");
}
