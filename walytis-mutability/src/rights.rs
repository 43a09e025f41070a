//! Who may change a block.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;
use walytis_core::ledger::{Author, BlockInfo};

use crate::graph::Right;
use crate::op::Act;

/// What is judged.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What is to be done.
    pub act: Act,
    /// Who does it.
    pub author: &'a Author,
    /// The op's block; nothing if it is about to be written: then the answer is as of now.
    pub block: Option<&'a BlockInfo>,
    /// The block that is changed.
    pub original: &'a BlockInfo,
}

/// Judges who may change a block. The answer must follow from the op's own past alone, so that every replica comes to
/// the same.
#[async_trait]
pub trait Rights: Send + Sync + fmt::Debug {
    /// Says whether the author may do it.
    async fn judge(&self, request: Request<'_>) -> Right;

    /// Returns a counter that moves whenever an answer to somebody else than a block's author may have changed; nothing:
    /// answers are final.
    fn changes(&self) -> Option<watch::Receiver<u64>> {
        None
    }
}

/// Who may change whose blocks. All replicas of a ledger must use the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The author.
    #[default]
    Author,
    /// Whoever may write.
    Anyone,
    /// The author; admins may delete, and restore.
    AdminsMayDelete,
}

/// What a policy needs to know of a ledger's authors.
#[async_trait]
pub trait Group: Send + Sync + fmt::Debug {
    /// Returns the identity that an author belongs to: all its devices are one author.
    fn identity(&self, author: &Author) -> Author {
        author.clone()
    }

    /// Says whether the author was an admin in the past of the op's block; without a block: whether it is one now.
    async fn is_admin(&self, author: &Author, block: Option<&BlockInfo>) -> Right;

    /// As [`Rights::changes`].
    fn changes(&self) -> Option<watch::Receiver<u64>> {
        None
    }
}

/// A policy over a group.
#[derive(Clone, Debug)]
pub struct PolicyRights {
    policy: Policy,
    group: Arc<dyn Group>,
}

impl PolicyRights {
    /// Returns the rights under a policy.
    pub fn new(policy: Policy, group: Arc<dyn Group>) -> Self {
        Self { policy, group }
    }

    /// Returns the default for ledgers without identities: the author alone.
    pub fn author() -> Self {
        Self::new(Policy::Author, Arc::new(PlainGroup::default()))
    }
}

#[async_trait]
impl Rights for PolicyRights {
    async fn judge(&self, request: Request<'_>) -> Right {
        let (author, original) = (request.author, &request.original.author);
        if self.policy == Policy::Anyone || self.group.identity(author) == self.group.identity(original) {
            return Right::Allowed;
        }
        match (self.policy, request.act) {
            (Policy::AdminsMayDelete, Act::Delete | Act::Restore { .. }) => {
                self.group.is_admin(author, request.block).await
            }
            _ => Right::Refused,
        }
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        if self.policy == Policy::AdminsMayDelete { self.group.changes() } else { None }
    }
}

/// The authors of a plain chain: every key is its own author; the admins, if any, are fixed.
#[derive(Clone, Debug, Default)]
pub struct PlainGroup {
    /// Who is an admin.
    pub admins: BTreeSet<Author>,
}

#[async_trait]
impl Group for PlainGroup {
    async fn is_admin(&self, author: &Author, _: Option<&BlockInfo>) -> Right {
        if self.admins.contains(author) { Right::Allowed } else { Right::Refused }
    }
}
