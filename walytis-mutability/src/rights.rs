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
    /// The policy in force.
    pub policy: Policy,
    /// What is to be done.
    pub act: Act,
    /// Who does it.
    pub author: &'a Author,
    /// The op's block; nothing if it is about to be written: then the answer is as of now.
    pub block: Option<&'a BlockInfo>,
    /// The block that is changed.
    pub original: &'a BlockInfo,
}

/// Judges who may change a block. The answer must follow from the request and the op's own past alone, so that every
/// replica comes to the same; [`Right::Allowed`] and [`Right::Refused`] are final.
#[async_trait]
pub trait Rights: Send + Sync + fmt::Debug {
    /// Says whether the author may do it.
    async fn judge(&self, request: Request<'_>) -> Right;

    /// Says whether the author may say who changes blocks, in the past of the block that does; without a block: now.
    async fn judge_policy(&self, author: &Author, block: Option<&BlockInfo>) -> Right;

    /// Returns a counter that moves whenever something that was [`Right::Unknown`] may be known now; nothing: all is
    /// known at once.
    fn changes(&self) -> Option<watch::Receiver<u64>> {
        None
    }
}

/// Who may change whose blocks. The ledger itself says which is in force: the last block with the topic
/// `walytis.mutable/rights` before an op in canonical order, by an admin. So it is the same on every replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
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

/// The policies over a group.
#[derive(Clone, Debug)]
pub struct PolicyRights {
    group: Arc<dyn Group>,
}

impl PolicyRights {
    /// Returns the rights of a group.
    pub fn new(group: Arc<dyn Group>) -> Self {
        Self { group }
    }

    /// Returns rights under which only the author changes a block, as there is no admin who could say otherwise.
    pub fn author() -> Self {
        Self::new(Arc::new(PlainGroup::default()))
    }
}

#[async_trait]
impl Rights for PolicyRights {
    async fn judge(&self, request: Request<'_>) -> Right {
        let (author, original) = (request.author, &request.original.author);
        if request.policy == Policy::Anyone || self.group.identity(author) == self.group.identity(original) {
            return Right::Allowed;
        }
        match (request.policy, request.act) {
            (Policy::AdminsMayDelete, Act::Delete | Act::Restore { .. }) => {
                self.group.is_admin(author, request.block).await
            }
            _ => Right::Refused,
        }
    }

    async fn judge_policy(&self, author: &Author, block: Option<&BlockInfo>) -> Right {
        self.group.is_admin(author, block).await
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        self.group.changes()
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
