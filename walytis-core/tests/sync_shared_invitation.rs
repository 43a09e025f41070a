//! Shareable invitations: honoured by members other than the issuer, who may be off.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod support;

use support::{Peer, World};
use walytis_core::block::Visibility;
use walytis_core::chain::Append;
use walytis_core::id::ChainId;
use walytis_core::join::{Invitation, JoinError};
use walytis_core::key::{PublicKey, SigningKey};
use walytis_core::ledger::Content;
use walytis_core::node::{InvitationError, InviteOptions};
use walytis_core::secret::Secret;
use walytis_core::topic::Topic;

const SHARED: InviteOptions = InviteOptions { uses: 1, expires_at_ms: None, shareable: true };

/// Issuer and another member of one chain, in step.
async fn two_members(world: &World) -> (Peer, Peer, ChainId) {
    let (a, b) = (world.peer(1).await, world.peer(2).await);
    let chain = a.create("notes", Visibility::Invited).await;
    let invitation = a.invite(&chain, InviteOptions::default()).await;
    b.join(&invitation).await.unwrap();
    world.until_level(&[&a, &b], &chain).await;
    (a, b, chain)
}

/// Issues a shareable invitation that the other member knows too.
async fn share(world: &World, a: &Peer, b: &Peer, chain: &ChainId, options: InviteOptions) -> Invitation {
    let invitation = a.invite(chain, options).await;
    world.until_level(&[a, b], chain).await;
    invitation
}

/// A note as a member could write it by hand.
async fn forge(by: &Peer, chain: &ChainId, key: &PublicKey, content: Vec<u8>) {
    let topics =
        vec![Topic::overlay("invitation", "").unwrap(), Topic::overlay("invitation", &key.to_string()).unwrap()];
    let signer = by.node.author().unwrap();
    by.chain(chain).append(Append { content: Content::from(content), topics, signer }).await.unwrap();
}

fn note(variant: u8, key: &PublicKey, rest: &[u8]) -> Vec<u8> {
    [&[1, variant, 0], &key.as_bytes()[..], rest].concat()
}

#[tokio::test(start_paused = true)]
async fn another_member_honours_a_shareable_invitation_while_the_issuer_is_off() {
    let world = World::new();
    let (a, b, chain) = two_members(&world).await;
    a.add(&chain, "from a").await;
    let invitation = share(&world, &a, &b, &chain, SHARED).await;
    assert!(invitation.members.iter().any(|(peer, _)| *peer == b.id()), "the token names the other member too");
    let own = a.invite(&chain, InviteOptions::default()).await;
    assert!(own.members.iter().all(|(peer, _)| *peer == a.id()));
    let off = a.stop().await;
    let (c, d) = (world.peer(3).await, world.peer(4).await);
    c.join(&invitation).await.unwrap();
    world.until_level(&[&b, &c], &chain).await;
    assert!(matches!(d.join(&invitation).await.unwrap_err(), JoinError::UsedUp));
    // The same joiner again, having lost everything: costs no second use.
    c.node.delete_chain(&chain).await.unwrap();
    c.join(&invitation).await.unwrap();
    // An invitation that is not shareable is honoured by its issuer alone.
    let elsewhere = Invitation { members: invitation.members.clone(), ..own };
    assert!(matches!(d.join(&elsewhere).await.unwrap_err(), JoinError::Refused));
    assert!(d.knows_nothing_of(&chain).await);
    // The issuer comes back and has heard of the use.
    let a = world.start(off).await;
    a.meet(&b).await;
    world.until_level(&[&a, &b, &c], &chain).await;
    assert!(matches!(d.join(&invitation).await.unwrap_err(), JoinError::UsedUp));
    let listed = a.node.invitations(&chain).await.unwrap();
    let shared = listed.iter().find(|record| record.key == invitation.key()).unwrap();
    assert!(shared.shareable && shared.uses_left == 0 && !shared.revoked, "{shared:?}");
    world.stop(vec![a, b, c, d]).await;
}

#[tokio::test(start_paused = true)]
async fn a_joiner_that_asks_several_members_is_counted_once() {
    let world = World::new();
    let (a, b, chain) = two_members(&world).await;
    let invitation = share(&world, &a, &b, &chain, InviteOptions { uses: 2, ..SHARED }).await;
    let (c, d) = (world.peer(3).await, world.peer(4).await);
    // Both members, neither of whom has heard of the other's use.
    a.node.honour(&chain, &invitation.key(), &c.id()).await.unwrap();
    b.node.honour(&chain, &invitation.key(), &c.id()).await.unwrap();
    world.until_level(&[&a, &b], &chain).await;
    for member in [&a, &b] {
        let listed = member.node.invitations(&chain).await.unwrap();
        let left = listed.iter().find(|record| record.key == invitation.key()).map(|record| record.uses_left);
        assert_eq!(left, Some(1));
    }
    d.join(&invitation).await.unwrap();
    world.stop(vec![a, b, c, d]).await;
}

#[tokio::test(start_paused = true)]
async fn every_member_says_that_a_shareable_invitation_is_revoked_or_has_expired() {
    let world = World::new();
    let (a, b, chain) = two_members(&world).await;
    let revoked = share(&world, &a, &b, &chain, SHARED).await;
    let expiring = share(&world, &a, &b, &chain, InviteOptions { expires_at_ms: Some(2_000_000), ..SHARED }).await;
    let not_issuer = b.node.revoke(&chain, &revoked.key()).await.unwrap_err();
    assert!(matches!(not_issuer, InvitationError::NotIssuer), "{not_issuer:?}");
    a.node.revoke(&chain, &revoked.key()).await.unwrap();
    let count = a.summary(&chain).count;
    a.node.revoke(&chain, &revoked.key()).await.unwrap();
    assert_eq!(a.summary(&chain).count, count, "revoking again publishes nothing");
    world.until_level(&[&a, &b], &chain).await;
    a.stop().await;
    let c = world.peer(3).await;
    assert!(matches!(c.join(&revoked).await.unwrap_err(), JoinError::Revoked));
    world.clock.set_ms(2_000_000);
    assert!(matches!(c.join(&expiring).await.unwrap_err(), JoinError::Expired));
    assert!(c.knows_nothing_of(&chain).await);
    assert_eq!(b.summary(&chain).count, count, "no use was published");
    world.clock.set_ms(1_999_999);
    c.join(&expiring).await.unwrap();
    world.stop(vec![b, c]).await;
}

#[tokio::test(start_paused = true)]
async fn a_revocation_by_anybody_but_the_issuer_is_void() {
    let world = World::new();
    let (a, b, chain) = two_members(&world).await;
    let invitation = share(&world, &a, &b, &chain, SHARED).await;
    forge(&b, &chain, &invitation.key(), note(2, &invitation.key(), &[])).await;
    world.until_level(&[&a, &b], &chain).await;
    let c = world.peer(3).await;
    c.join(&invitation).await.unwrap();
    world.stop(vec![a, b, c]).await;
}

#[tokio::test(start_paused = true)]
async fn malformed_notes_and_notes_on_other_chains_have_no_effect() {
    let world = World::new();
    let (a, b) = (world.peer(1).await, world.peer(2).await);
    let (one, two) = (a.create("one", Visibility::Invited).await, a.create("two", Visibility::Invited).await);
    let invitation = a.invite(&two, SHARED).await;
    let crossed = Invitation { chain: one, ..invitation.clone() };
    assert!(matches!(b.join(&crossed).await.unwrap_err(), JoinError::Refused));
    let seed = Secret::new([9; 32]);
    let key = walytis_core::key::Signer::public_key(&SigningKey::from_seed(&seed));
    let (none, many) = (note(0, &key, &[0, 0]), note(0, &key, &[0xe9, 0x07, 0]));
    let prolonged = note(0, &key, &[1, 0, 0]);
    let newer = [&[2], &note(0, &key, &[1, 0])[1..]].concat();
    for void in [none, many, prolonged, newer, vec![], vec![0xff; 200_000]] {
        forge(&a, &one, &key, void).await;
    }
    let guessed = Invitation { chain: one, seed, ..invitation };
    assert!(matches!(b.join(&guessed).await.unwrap_err(), JoinError::Refused));
    assert_eq!(a.node.invitations(&one).await.unwrap(), vec![]);
    // The sound one of the same hand counts: it was only their form that was wrong.
    forge(&a, &one, &key, note(0, &key, &[1, 0])).await;
    b.join(&guessed).await.unwrap();
    world.stop(vec![a, b]).await;
}

#[tokio::test(start_paused = true)]
async fn shared_uses_survive_a_restart_and_concurrent_joins_do_not_exceed_them() {
    let world = World::new();
    let (a, b, chain) = two_members(&world).await;
    let invitation = share(&world, &a, &b, &chain, InviteOptions { uses: 3, ..SHARED }).await;
    let peers: Vec<_> = (0..10u8).map(|n| walytis_core::id::PeerId::from_bytes(&[n; 38]).unwrap()).collect();
    let key = invitation.key();
    let honoured = futures::future::join_all(peers.iter().map(|peer| b.node.honour(&chain, &key, peer))).await;
    assert_eq!(honoured.iter().filter(|one| one.is_ok()).count(), 3);
    let b = world.start(b.stop().await).await;
    let refused = b.node.honour(&chain, &key, &peers[9]).await.unwrap_err();
    assert!(matches!(refused, InvitationError::UsedUp), "{refused:?}");
    world.stop(vec![a, b]).await;
}

/// One use, three members that hear each other, three joiners at the same moment: one gets in.
#[tokio::test(start_paused = true)]
async fn members_that_honour_at_the_same_moment_let_in_as_many_as_stated() {
    let world = World::new();
    let (a, b, chain) = two_members(&world).await;
    let c = world.peer(3).await;
    c.join(&a.invite(&chain, InviteOptions::default()).await).await.unwrap();
    world.until_level(&[&a, &b, &c], &chain).await;
    for uses in [1, 2] {
        let invitation = a.invite(&chain, InviteOptions { uses, ..SHARED }).await;
        world.until_level(&[&a, &b, &c], &chain).await;
        let peers: Vec<_> = (0..3u8).map(|n| walytis_core::id::PeerId::from_bytes(&[n; 38]).unwrap()).collect();
        let key = invitation.key();
        let ask = [&a, &b, &c].into_iter().zip(&peers).map(|(member, peer)| member.node.honour(&chain, &key, peer));
        let honoured = futures::future::join_all(ask).await;
        assert_eq!(honoured.iter().filter(|one| one.is_ok()).count(), uses as usize, "{honoured:?}");
    }
    world.stop(vec![a, b, c]).await;
}
