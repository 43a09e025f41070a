//! What every [`Identity`] must do.

#![expect(clippy::expect_used, reason = "a contract suite fails by panicking")]

use std::sync::Arc;

use async_trait::async_trait;
use walytis_core::id::{BlockId, PeerId};
use walytis_identities::id::{ControllerId, DeviceId, OpId, Role};
use walytis_identities::identity::{EpochUse, Identity, IdentityError, Judgement, RecordRef};

/// A group under test: its founder and one member, both up to date whenever a call returns.
#[async_trait]
pub trait IdentityFixture: Send + Sync {
    /// The founder, an admin.
    fn founder(&self) -> Arc<dyn Identity>;

    /// Another member's view.
    fn member(&self) -> Arc<dyn Identity>;

    /// Peer id of the member's node.
    fn member_peer(&self) -> PeerId;

    /// Returns a block by the member on the identity's chain that both hold.
    async fn member_block(&self) -> BlockId;

    /// Renews the keys.
    async fn rekey(&self);

    /// Removes the member; of its records those up to `accepted` count, no others.
    async fn remove_member(&self, accepted: BlockId);
}

/// Runs the whole suite.
///
/// # Panics
/// If the identity breaks the contract.
pub async fn run(fixture: &dyn IdentityFixture) {
    both_see_one_identity(fixture).await;
    keys_differ_by_epoch_and_use(fixture).await;
    records_are_judged_by_right_and_key(fixture).await;
    a_removal_ends_every_right(fixture).await;
}

async fn record(identity: &dyn Identity, block: BlockId) -> RecordRef {
    RecordRef {
        block,
        creator: identity.device_signer().public_key(),
        author: identity.controller(),
        auth_heads: identity.auth_heads().await,
    }
}

async fn both_see_one_identity(fixture: &dyn IdentityFixture) {
    let (founder, member) = (fixture.founder(), fixture.member());
    assert_eq!(founder.did(), member.did());
    assert_ne!(founder.device(), member.device());
    let heads = founder.auth_heads().await;
    assert!(!heads.is_empty() && heads.is_sorted_by(|a, b| a < b));
    assert_eq!(heads, member.auth_heads().await);
    let peers = founder.peers().await;
    assert!(peers.contains(&fixture.member_peer()) && peers.is_sorted());
    assert!(!member.peers().await.contains(&fixture.member_peer()), "one's own node is no peer");
}

/// Who controlled it at some heads does not change with what follows.
async fn controllers_are_those_of_the_heads(fixture: &dyn IdentityFixture, heads: &[OpId]) {
    let (founder, member) = (fixture.founder(), fixture.member());
    let then = founder.controllers_at(Some(heads)).await.expect("known heads");
    let now = founder.controllers_at(None).await.expect("now");
    assert!(then.is_sorted_by(|a, b| a.0 < b.0));
    let role = |of: &[(ControllerId, Role)], who: &dyn Identity| {
        let found = of.iter().find(|(controller, _)| *controller == who.controller());
        found.map(|(_, role)| *role)
    };
    assert_eq!((role(&then, &*founder), role(&now, &*founder)), (Some(Role::Admin), Some(Role::Admin)));
    assert!(role(&then, &*member).is_some(), "it was a controller then");
    assert_eq!(role(&now, &*member), None, "the removed are none now");
    assert_eq!(founder.controllers_at(Some(&[OpId([0xee; 32])])).await, None);
}

async fn keys_differ_by_epoch_and_use(fixture: &dyn IdentityFixture) {
    let (founder, member) = (fixture.founder(), fixture.member());
    let mut changes = founder.changes();
    changes.mark_unchanged();
    let old = founder.sending_epoch().await.expect("an epoch");
    fixture.rekey().await;
    assert!(changes.has_changed().expect("it lives"), "nobody was told");
    let new = founder.sending_epoch().await.expect("an epoch");
    assert_ne!(old, new);
    assert_eq!(member.sending_epoch().await.expect("an epoch"), new);
    let mut keys = Vec::new();
    for epoch in [old, new] {
        for purpose in [EpochUse::ContentWrap, EpochUse::RecordHeader] {
            let key = founder.derive(&epoch, purpose).await.expect("a key");
            assert_eq!(member.derive(&epoch, purpose).await.expect("a key"), key);
            assert!(!keys.contains(&key), "two uses share a key");
            keys.push(key);
        }
    }
    let unknown = founder.derive(&OpId([0xee; 32]), EpochUse::ContentWrap).await;
    assert!(matches!(unknown, Err(IdentityError::NoEpochSecret { .. })));
    assert!(founder.may_read(&fixture.member_peer(), &new).await);
    assert!(!founder.may_read(&fixture.member_peer(), &OpId([0xee; 32])).await, "of an unknown epoch nobody reads");
    let stranger = PeerId::from_bytes(&[0xee; 38]).expect("a peer id");
    assert!(!founder.may_read(&stranger, &new).await);
}

async fn records_are_judged_by_right_and_key(fixture: &dyn IdentityFixture) {
    let (founder, member) = (fixture.founder(), fixture.member());
    let good = record(&*member, fixture.member_block().await).await;
    assert_eq!(founder.judge(&good).await, Judgement::Valid);
    let forged = RecordRef { creator: founder.device_signer().public_key(), ..good.clone() };
    assert!(matches!(founder.judge(&forged).await, Judgement::Void(_)), "another's key");
    let stranger = RecordRef { author: ControllerId::Device(DeviceId([0xee; 32])), ..good.clone() };
    assert!(matches!(founder.judge(&stranger).await, Judgement::Void(_)), "a stranger");
    let ahead = RecordRef { auth_heads: vec![OpId([0xee; 32])], ..good };
    assert_eq!(founder.judge(&ahead).await, Judgement::Wait);
}

async fn a_removal_ends_every_right(fixture: &dyn IdentityFixture) {
    let (founder, member) = (fixture.founder(), fixture.member());
    let kept = record(&*member, fixture.member_block().await).await;
    // Nobody but the member has ever seen the block that this one names.
    let late = record(&*member, BlockId::from_digest([0xed; 32])).await;
    let before = founder.sending_epoch().await.expect("an epoch");
    fixture.remove_member(kept.block).await;
    assert_eq!(founder.judge(&kept).await, Judgement::Valid);
    assert_ne!(founder.judge(&late).await, Judgement::Valid, "backdated");
    controllers_are_those_of_the_heads(fixture, &kept.auth_heads).await;
    let epoch = founder.sending_epoch().await.expect("an epoch");
    assert_ne!(epoch, before, "the removed would read on");
    assert!(member.sending_epoch().await.is_err());
    assert!(member.derive(&epoch, EpochUse::ContentWrap).await.is_err());
    assert!(!founder.may_read(&fixture.member_peer(), &before).await);
    assert!(!founder.peers().await.contains(&fixture.member_peer()));
}
