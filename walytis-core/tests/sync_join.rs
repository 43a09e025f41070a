//! Joining by invitation: uses, end, revocation, wrong chain, restarts, and what somebody without the seed gets.

mod support;

use std::sync::Arc;

use support::{World, contents};
use walytis_core::block::Visibility;
use walytis_core::fault::Fault;
use walytis_core::id::{BlockId, ChainId};
use walytis_core::join::{Invitation, JoinError};
use walytis_core::net::Network as _;
use walytis_core::node::{InviteOptions, NodeError};
use walytis_core::secret::Secret;

#[tokio::test(start_paused = true)]
async fn an_invited_node_joins_and_gets_everything() {
    let world = World::new();
    let (a, b) = (world.peer(1).await, world.peer(2).await);
    let chain = a.create("notes", Visibility::Invited).await;
    let texts: Vec<_> = (0..500).map(|index| index.to_string()).collect();
    a.add_many(&chain, &texts).await;
    // The token travels as text.
    let text = a.invite(&chain, InviteOptions::default()).await.to_text();
    let invitation: Invitation = text.parse().unwrap();
    let mut joined = b.join(&invitation).await.unwrap();
    assert_eq!(joined.chain.core().id(), chain);
    assert_eq!(joined.progress().blocks_total, 501);
    let mut last = 0;
    while let Some(progress) = joined.next().await.unwrap() {
        assert!(progress.blocks >= last, "progress goes forward");
        last = progress.blocks;
    }
    assert_eq!(contents(&b, &chain).await, texts);
    assert_eq!(b.node.find("joined").unwrap().id, chain);
    b.add(&chain, "thanks").await;
    world.until_level(&[&a, &b], &chain).await;
    drop(joined);
    world.stop(vec![a, b]).await;
}

#[tokio::test(start_paused = true)]
async fn a_join_is_over_at_once_whichever_side_opened_the_stream() {
    let world = World::new();
    let (a, b) = (world.peer(1).await, world.peer(2).await);
    for (member, joiner) in [(&a, &b), (&b, &a), (&a, &b)] {
        let chain = member.create("notes", Visibility::Invited).await;
        member.add(&chain, "first").await;
        let invitation = member.invite(&chain, InviteOptions::default()).await;
        let start = tokio::time::Instant::now();
        let mut joined = joiner.join(&invitation).await.unwrap();
        while joined.next().await.unwrap().is_some() {}
        let took = start.elapsed();
        assert!(took < std::time::Duration::from_millis(200), "a join of two blocks took {took:?}");
        member.node.delete_chain(&chain).await.unwrap();
        joiner.node.delete_chain(&chain).await.unwrap();
    }
    world.stop(vec![a, b]).await;
}

#[tokio::test(start_paused = true)]
async fn an_invitation_is_used_up_after_its_uses() {
    let world = World::new();
    let a = world.peer(1).await;
    let chain = a.create("notes", Visibility::Invited).await;
    let invitation = a.invite(&chain, InviteOptions { uses: 2, expires_at_ms: None, ..InviteOptions::default() }).await;
    let (b, c, d) = (world.peer(2).await, world.peer(3).await, world.peer(4).await);
    b.join(&invitation).await.unwrap();
    // The same node again, having lost everything: costs no second use.
    b.node.delete_chain(&chain).await.unwrap();
    b.join(&invitation).await.unwrap();
    c.join(&invitation).await.unwrap();
    let refused = d.join(&invitation).await.unwrap_err();
    assert!(matches!(refused, JoinError::UsedUp) && refused.fault() == Fault::Caller, "{refused:?}");
    assert!(d.knows_nothing_of(&chain).await);
    world.stop(vec![a, b, c, d]).await;
}

#[tokio::test(start_paused = true)]
async fn expired_and_revoked_invitations_say_so_and_leave_nothing() {
    let world = World::new();
    let (a, b) = (world.peer(1).await, world.peer(2).await);
    let chain = a.create("notes", Visibility::Invited).await;
    let expiring =
        a.invite(&chain, InviteOptions { uses: 1, expires_at_ms: Some(2_000_000), ..InviteOptions::default() }).await;
    let revoked = a.invite(&chain, InviteOptions::default()).await;
    a.node.revoke(&chain, &revoked.key()).await.unwrap();
    assert!(matches!(b.join(&revoked).await.unwrap_err(), JoinError::Revoked));
    world.clock.set_ms(2_000_000);
    assert!(matches!(b.join(&expiring).await.unwrap_err(), JoinError::Expired));
    assert!(b.knows_nothing_of(&chain).await);
    world.clock.set_ms(1_999_999);
    b.join(&expiring).await.unwrap();
    world.stop(vec![a, b]).await;
}

#[tokio::test(start_paused = true)]
async fn an_invitation_works_after_its_issuer_was_restarted() {
    let world = World::new();
    let (a, b) = (world.peer(1).await, world.peer(2).await);
    let chain = a.create("notes", Visibility::Invited).await;
    a.add(&chain, "before").await;
    let invitation = a.invite(&chain, InviteOptions::default()).await;
    let a = a.stop().await;
    let away = b.join(&invitation).await.unwrap_err();
    assert!(matches!(away, JoinError::Unreachable { .. }) && away.fault() == Fault::Local, "{away:?}");
    assert!(b.knows_nothing_of(&chain).await);
    let a = world.start(a).await;
    b.join(&invitation).await.unwrap();
    world.until_level(&[&a, &b], &chain).await;
    world.stop(vec![a, b]).await;
}

#[tokio::test(start_paused = true)]
async fn a_joiner_that_is_restarted_goes_on() {
    let world = World::new();
    let (a, b) = (world.peer(1).await, world.peer(2).await);
    let chain = a.create("notes", Visibility::Invited).await;
    let texts: Vec<_> = (0..3_000).map(|index| format!("{index} {}", "x".repeat(1_000))).collect();
    a.add_many(&chain, &texts).await;
    let invitation = a.invite(&chain, InviteOptions::default()).await;
    let joined = b.join(&invitation).await.unwrap();
    b.until_count(&chain, 2).await;
    assert!(b.summary(&chain).count < 3_001, "the restart must come in the middle");
    drop(joined);
    let b = b.stop().await;
    let b = world.start(b).await;
    world.until_level(&[&a, &b], &chain).await;
    assert_eq!(b.summary(&chain).count, 3_001);
    world.stop(vec![a, b]).await;
}

#[tokio::test(start_paused = true)]
async fn another_seed_or_chain_is_refused_flatly() {
    let world = World::new();
    let (a, b) = (world.peer(1).await, world.peer(2).await);
    let chain = a.create("notes", Visibility::Invited).await;
    a.add(&chain, "private").await;
    let good = a.invite(&chain, InviteOptions::default()).await;
    let other_seed = Invitation { seed: Secret::new([9; 32]), ..good.clone() };
    let other_chain = Invitation { chain: ChainId(BlockId::from_digest([7; 32])), ..good.clone() };
    // An unknown chain and an unknown seed look the same.
    assert!(matches!(b.join(&other_seed).await.unwrap_err(), JoinError::Refused));
    assert!(matches!(b.join(&other_chain).await.unwrap_err(), JoinError::Refused));
    assert!(b.knows_nothing_of(&chain).await && b.knows_nothing_of(&other_chain.chain).await);
    assert_eq!(a.node.invitations(&chain).await.unwrap()[0].uses_left, 1, "nothing was spent");
    b.join(&good).await.unwrap();
    world.stop(vec![a, b]).await;
}

#[tokio::test(start_paused = true)]
async fn an_invitation_to_one_chain_opens_no_other_of_the_same_member() {
    let world = World::new();
    let (a, b) = (world.peer(1).await, world.peer(2).await);
    let (one, two) = (a.create("one", Visibility::Invited).await, a.create("two", Visibility::Invited).await);
    let invitation = a.invite(&one, InviteOptions::default()).await;
    let crossed = Invitation { chain: two, ..invitation };
    assert!(matches!(b.join(&crossed).await.unwrap_err(), JoinError::Refused));
    assert!(b.knows_nothing_of(&two).await);
    world.stop(vec![a, b]).await;
}

#[tokio::test(start_paused = true)]
async fn a_name_in_use_or_a_chain_that_is_here_spends_nothing() {
    let world = World::new();
    let (a, b) = (world.peer(1).await, world.peer(2).await);
    let chain = a.create("notes", Visibility::Invited).await;
    let invitation = a.invite(&chain, InviteOptions::default()).await;
    let own = b.create("joined", Visibility::Public).await;
    let taken = b.join(&invitation).await.unwrap_err();
    assert!(matches!(taken, JoinError::Node(NodeError::NameTaken { .. })), "{taken:?}");
    let here = a.join(&invitation).await.unwrap_err();
    assert!(matches!(here, JoinError::Node(NodeError::AlreadyHere { .. })), "{here:?}");
    assert_eq!(a.node.invitations(&chain).await.unwrap()[0].uses_left, 1);
    b.node.delete_chain(&own).await.unwrap();
    b.join(&invitation).await.unwrap();
    world.stop(vec![a, b]).await;
}

#[tokio::test(start_paused = true)]
async fn one_reachable_member_among_many_is_enough() {
    let world = World::new();
    let (a, b, gone) = (world.peer(1).await, world.peer(2).await, world.peer(3).await);
    let chain = a.create("notes", Visibility::Invited).await;
    let mut invitation = a.invite(&chain, InviteOptions::default()).await;
    let addresses = gone.network.addresses();
    invitation.members.insert(0, (gone.id(), addresses[0].clone()));
    gone.stop().await;
    b.join(&invitation).await.unwrap();
    world.stop(vec![a, b]).await;
}

/// A member that hands over the genesis block of another chain: the joiner notices and keeps nothing.
#[tokio::test(start_paused = true)]
async fn a_member_that_hands_over_another_chain_is_found_out() {
    let world = World::new();
    let (a, b) = (world.peer(1).await, world.peer(2).await);
    let chain = a.create("notes", Visibility::Public).await;
    let genesis = a.chain(&chain).core().file(&chain.0).await.unwrap().unwrap();
    let liar = Arc::new(world.hub.join(&Secret::new([50; 32])));
    let mut incoming = liar.accept("/walytis/join/1").unwrap();
    let lie = async {
        use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = incoming.recv().await.unwrap().stream;
        let mut ask = [0; 4 + 34];
        stream.read_exact(&mut ask).await.unwrap();
        // challenge { nonce }, then granted { no secret, count 1, genesis }
        let mut answer = vec![0, 0, 0, 34, 1, 1];
        answer.extend([8; 32]);
        let mut granted = vec![1, 3, 0, 1];
        // A length of two groups of seven bits.
        let len = u16::try_from(genesis.len()).unwrap();
        assert!((128..16_384).contains(&len));
        granted.extend([len.to_le_bytes()[0] | 0x80, u8::try_from(len >> 7).unwrap()]);
        granted.extend(&genesis[..]);
        answer.extend(u32::try_from(granted.len()).unwrap().to_be_bytes());
        answer.extend(granted);
        stream.write_all(&answer).await.unwrap();
        stream.flush().await.unwrap();
        stream
    };
    let expected = ChainId(BlockId::from_digest([7; 32]));
    let members = vec![(liar.local_peer(), liar.addresses()[0].clone())];
    let invitation = Invitation { chain: expected, seed: Secret::new([1; 32]), expires_at_ms: None, members };
    let (joined, _stream) = futures::future::join(b.join(&invitation), lie).await;
    assert!(matches!(joined.unwrap_err(), JoinError::WrongChain { .. }));
    assert!(b.knows_nothing_of(&chain).await && b.knows_nothing_of(&expected).await);
    world.stop(vec![a, b]).await;
}

/// One peer that opens streams and says nothing takes two places, not all: others still join at once.
#[tokio::test(start_paused = true)]
async fn a_peer_that_opens_many_silent_streams_keeps_nobody_out() {
    let world = World::new();
    let (a, b) = (world.peer(1).await, world.peer(2).await);
    let chain = a.create("notes", Visibility::Invited).await;
    let invitation = a.invite(&chain, InviteOptions::default()).await;
    let silent = world.hub.join(&Secret::new([50; 32]));
    silent.connect(None, &a.network.addresses()).await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..40 {
        streams.push(silent.open(&a.id(), "/walytis/join/1").await.unwrap());
    }
    let start = tokio::time::Instant::now();
    b.join(&invitation).await.unwrap();
    assert!(start.elapsed() < std::time::Duration::from_secs(5), "{:?}", start.elapsed());
    drop(streams);
    world.stop(vec![a, b]).await;
}

/// Killed in the middle, on either side: joining once more goes on, asks nobody and spends nothing; by itself too.
#[tokio::test(start_paused = true)]
async fn a_join_goes_on_where_it_was_interrupted_and_spends_no_second_use() {
    let world = World::new();
    let (a, b) = (world.peer(1).await, world.peer(2).await);
    let chain = a.create("notes", Visibility::Invited).await;
    let texts: Vec<_> = (0..3_000).map(|index| format!("{index} {}", "x".repeat(1_000))).collect();
    a.add_many(&chain, &texts).await;
    let invitation = a.invite(&chain, InviteOptions { uses: 2, ..InviteOptions::default() }).await;
    let joined = b.join(&invitation).await.unwrap();
    assert!(!joined.resumed);
    // At once: the blocks need no time here.
    drop(joined);
    let (a, b) = (a.stop().await, world.start(b.stop().await).await);
    // The member is away: the join waits, and says how far it is.
    let mut again = b.join(&invitation).await.unwrap();
    assert!(again.resumed && again.progress().blocks < 3_001, "{:?}", again.progress());
    assert_eq!((again.progress().blocks_total, again.chain.core().id()), (3_001, chain));
    let a = world.start(a).await;
    let mut last = again.progress();
    while let Some(now) = again.next().await.unwrap() {
        assert!(now.blocks >= last.blocks && now.bytes >= last.bytes, "{now:?} after {last:?}");
        last = now;
    }
    assert!(last.blocks >= 3_001 && last.bytes > 0, "{last:?}");
    assert_eq!(a.node.invitations(&chain).await.unwrap()[0].uses_left, 1, "a second use was spent");
    // Once it is finished it is an ordinary chain.
    let here = b.join(&invitation).await.unwrap_err();
    assert!(matches!(here, JoinError::Node(NodeError::AlreadyHere { .. })), "{here:?}");
    drop(again);
    world.stop(vec![a, b]).await;
}

/// The terms stand with the member: whatever a joiner writes into its copy of the token changes nothing.
#[tokio::test(start_paused = true)]
async fn a_joiner_cannot_choose_its_own_terms() {
    let world = World::new();
    let (a, b) = (world.peer(1).await, world.peer(2).await);
    let chain = a.create("notes", Visibility::Invited).await;
    for shareable in [false, true] {
        let options = InviteOptions { expires_at_ms: Some(2_000_000), shareable, ..InviteOptions::default() };
        let invitation = a.invite(&chain, options).await;
        world.clock.set_ms(2_000_000);
        for end in [None, Some(i64::MAX)] {
            let changed = Invitation { expires_at_ms: end, ..invitation.clone() };
            let text = changed.to_text();
            assert!(matches!(b.join(&text.parse().unwrap()).await.unwrap_err(), JoinError::Expired));
        }
        world.clock.set_ms(1_000_000);
    }
    assert!(b.knows_nothing_of(&chain).await);
    world.stop(vec![a, b]).await;
}

/// What is removed in the middle of a join is not gone on with.
#[tokio::test(start_paused = true)]
async fn a_chain_deleted_in_the_middle_of_its_join_leaves_nothing() {
    let world = World::new();
    let (a, b) = (world.peer(1).await, world.peer(2).await);
    let chain = a.create("notes", Visibility::Invited).await;
    a.add_many(&chain, &(0..500).map(|n| n.to_string()).collect::<Vec<_>>()).await;
    let invitation = a.invite(&chain, InviteOptions::default()).await;
    drop(b.join(&invitation).await.unwrap());
    b.node.delete_chain(&chain).await.unwrap();
    assert!(b.knows_nothing_of(&chain).await);
    world.stop(vec![a, b]).await;
}
