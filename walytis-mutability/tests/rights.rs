//! Who may change a block, under each policy.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::sync::Arc;

use async_trait::async_trait;
use walytis_core::id::BlockId;
use walytis_core::key::PublicKey;
use walytis_core::ledger::{Author, BlockInfo, BlockState, Cursor};
use walytis_mutability::graph::Right;
use walytis_mutability::op::Act;
use walytis_mutability::rights::{Group, PlainGroup, Policy, PolicyRights, Request, Rights as _};

fn author(text: &str) -> Author {
    Author(text.into())
}

fn original(by: &str) -> BlockInfo {
    BlockInfo {
        id: BlockId::from_digest([1; 32]),
        generation: 1,
        parents: vec![],
        creator: PublicKey::Ed25519([2; 32]),
        author: author(by),
        created_at_ms: 0,
        topics: vec![],
        size: 0,
        cursor: Cursor(1),
        state: BlockState::Available,
    }
}

/// Authors `x1`, `x2`, … are the devices of `x`.
#[derive(Debug)]
struct Devices;

#[async_trait]
impl Group for Devices {
    fn identity(&self, author: &Author) -> Author {
        Author(author.0.trim_end_matches(char::is_numeric).into())
    }

    async fn is_admin(&self, _: &Author, block: Option<&BlockInfo>) -> Right {
        if block.is_some() { Right::Allowed } else { Right::Unknown }
    }
}

async fn judge(policy: Policy, group: Arc<dyn Group>, by: &str, act: Act) -> Right {
    let (author, original) = (author(by), original("ann1"));
    let request = Request { policy, act, author: &author, block: Some(&original), original: &original };
    PolicyRights::new(group).judge(request).await
}

#[tokio::test]
async fn each_policy_lets_those_change_a_block_whom_it_names() {
    let restore = Act::Restore { version: BlockId::from_digest([1; 32]) };
    let plain = || Arc::new(PlainGroup { admins: [author("boss")].into() });
    for (policy, by, edits, deletes) in [
        (Policy::Author, "ann1", true, true),
        (Policy::Author, "bob", false, false),
        (Policy::Author, "boss", false, false),
        (Policy::Anyone, "bob", true, true),
        (Policy::AdminsMayDelete, "ann1", true, true),
        (Policy::AdminsMayDelete, "bob", false, false),
        (Policy::AdminsMayDelete, "boss", false, true),
    ] {
        for (act, allowed) in [(Act::Edit, edits), (Act::Delete, deletes), (restore, deletes)] {
            let right = judge(policy, plain(), by, act).await;
            assert_eq!(right, if allowed { Right::Allowed } else { Right::Refused }, "{policy:?} {by} {act:?}");
        }
    }
}

#[tokio::test]
async fn all_devices_of_an_identity_are_one_author() {
    assert_eq!(judge(Policy::Author, Arc::new(Devices), "ann2", Act::Edit).await, Right::Allowed);
    assert_eq!(judge(Policy::Author, Arc::new(Devices), "bob2", Act::Edit).await, Right::Refused);
    // On a plain chain every key is its own author.
    assert_eq!(judge(Policy::Author, Arc::new(PlainGroup::default()), "ann2", Act::Edit).await, Right::Refused);
}
