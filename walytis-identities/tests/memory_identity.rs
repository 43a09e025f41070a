//! The identity in memory keeps the contract of every identity.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::sync::Arc;

use async_trait::async_trait;
use test_harness::contract::identity::{self, IdentityFixture};
use walytis_core::id::{BlockId, ChainId, PeerId};
use walytis_identities::id::{Did, Role};
use walytis_identities::identity::{Identity, MemoryGroup, MemoryIdentity};

struct InMemory {
    group: MemoryGroup,
    founder: MemoryIdentity,
    member: MemoryIdentity,
}

fn peer(number: u8) -> PeerId {
    PeerId::from_bytes(&[number; 38]).unwrap()
}

#[async_trait]
impl IdentityFixture for InMemory {
    fn founder(&self) -> Arc<dyn Identity> {
        Arc::new(self.founder.clone())
    }

    fn member(&self) -> Arc<dyn Identity> {
        Arc::new(self.member.clone())
    }

    fn member_peer(&self) -> PeerId {
        peer(2)
    }

    async fn member_block(&self) -> BlockId {
        BlockId::from_digest([1; 32])
    }

    async fn rekey(&self) {
        self.group.rekey();
    }

    async fn remove_member(&self, accepted: BlockId) {
        self.group.remove(self.member.device(), [accepted]);
    }
}

#[tokio::test]
async fn an_identity_in_memory_keeps_the_contract() {
    let group = MemoryGroup::new(Did(ChainId(BlockId::from_digest([1; 32]))));
    let founder = group.admit([1; 32], peer(1), Role::Admin);
    let member = group.admit([2; 32], peer(2), Role::Member);
    identity::run(&InMemory { group, founder, member }).await;
}
