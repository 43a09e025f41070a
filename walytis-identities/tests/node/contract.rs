//! The identity of a running node keeps the contract of every identity.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use test_harness::contract::identity::{self, IdentityFixture};
use walytis_core::id::{BlockId, PeerId};
use walytis_core::ledger::LedgerRead as _;
use walytis_core::net::MemoryHub;
use walytis_identities::id::{Did, Role};
use walytis_identities::identity::Identity;

use crate::rig::{Machine, until};

struct Nodes {
    did: Did,
    founder: Machine,
    member: Machine,
}

impl Nodes {
    async fn settled(&self) {
        let (ours, theirs) = (self.founder.identity(&self.did), self.member.identity(&self.did));
        for _ in 0..10_000 {
            let same = ours.auth_heads().await == theirs.auth_heads().await;
            let open = theirs.role().is_none() || theirs.sending_epoch().await.ok() == ours.sending_epoch().await.ok();
            if same && open {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the two never came to know the same");
    }
}

#[async_trait]
impl IdentityFixture for Nodes {
    fn founder(&self) -> Arc<dyn Identity> {
        Arc::new(self.founder.identity(&self.did))
    }

    fn member(&self) -> Arc<dyn Identity> {
        Arc::new(self.member.identity(&self.did))
    }

    fn member_peer(&self) -> PeerId {
        self.member.peer()
    }

    async fn member_block(&self) -> BlockId {
        let block = self.member.write(&self.did, "by the member").await;
        while self.founder.identity(&self.did).chain().get(&block).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        block
    }

    async fn rekey(&self) {
        self.founder.identities.rekey(&self.did).await.unwrap();
        self.settled().await;
    }

    async fn remove_member(&self, _accepted: BlockId) {
        let member = self.member.identity(&self.did).controller();
        self.founder.identities.remove(&self.did, member).await.unwrap();
        self.settled().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_identity_of_a_node_keeps_the_contract() {
    let hub = MemoryHub::new();
    let (founder, member) = (Machine::start(&hub, 1).await, Machine::start(&hub, 2).await);
    let did = founder.create().await;
    founder.admit(&did, &member, Role::Member).await;
    let nodes = Nodes { did, founder, member };
    until("the card is known", async || !nodes.founder.identity(&did).peers().await.is_empty()).await;
    nodes.settled().await;
    identity::run(&nodes).await;
}
