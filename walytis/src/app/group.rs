//! Who is one author, and who an admin, on the ledgers of this node.

use std::collections::BTreeSet;

use async_trait::async_trait;
use tokio::sync::watch;
use walytis_core::chain::Chain;
use walytis_core::ledger::{Author, BlockInfo, LedgerError, LedgerRead as _};
use walytis_identities::claim::Claim;
use walytis_identities::id::{ControllerId, Did, Role};
use walytis_identities::identity::Identity as _;
use walytis_identities::node::IdentityHandle;
use walytis_mutability::graph::Right;
use walytis_mutability::rights::{Group, PlainGroup};

/// The authors of a private ledger: controllers of the identity that it belongs to.
///
/// A device that controls it directly is the identity itself: a phone edits what a laptop wrote. Another identity that
/// controls it is one author, whichever of its devices wrote. Whether somebody was an admin is read from the authority
/// heads that the record names, which are part of its own past, so that every replica comes to the same.
#[derive(Clone, Debug)]
pub struct IdentityGroup {
    handle: IdentityHandle,
}

impl IdentityGroup {
    /// Returns the authors of the private ledgers of an identity.
    pub const fn new(handle: IdentityHandle) -> Self {
        Self { handle }
    }

    /// Returns what the record of a block says of its author; nothing if it cannot be read now.
    async fn claim(&self, block: &BlockInfo) -> Option<Claim> {
        let block = self.handle.chain().core().block(&block.id).await.ok()??;
        Some(Claim::split(block.inline()?)?.0)
    }
}

#[async_trait]
impl Group for IdentityGroup {
    fn identity(&self, author: &Author) -> Author {
        author_of(&self.handle.did(), author)
    }

    async fn is_admin(&self, author: &Author, block: Option<&BlockInfo>) -> Right {
        let Ok(controller) = author.0.parse::<ControllerId>() else { return Right::Refused };
        let role = match block {
            None => self.handle.role_of(&controller),
            Some(block) => {
                let Some(claim) = self.claim(block).await else { return Right::Unknown };
                match self.handle.role_at(&controller, &claim.auth_heads) {
                    Ok(role) => role,
                    Err(_) => return Right::Unknown,
                }
            }
        };
        if role == Some(Role::Admin) { Right::Allowed } else { Right::Refused }
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        Some(self.handle.changes())
    }
}

/// Returns the one author that a controller of an identity is: its own devices are the identity, another identity is itself.
fn author_of(did: &Did, author: &Author) -> Author {
    match author.0.parse() {
        Ok(ControllerId::Device(_)) => Author(did.to_string().into()),
        _ => author.clone(),
    }
}

/// Returns the authors of a plain chain: each key is one, and the one that signed the chain's first block is the admin.
/// Nothing while that block is not here.
pub(super) async fn of_chain(chain: &Chain) -> Result<Option<PlainGroup>, LedgerError> {
    let first = chain.get(&chain.id().0).await?;
    Ok(first.map(|first| PlainGroup { admins: BTreeSet::from([first.author]) }))
}

#[cfg(test)]
mod tests {
    use walytis_core::id::{BlockId, ChainId};
    use walytis_identities::id::DeviceId;

    use super::*;

    #[test]
    fn devices_are_their_identity_and_another_identity_is_one_author() {
        let [home, work] = [1, 2].map(|n| Did(ChainId(BlockId::from_digest([n; 32]))));
        let author = |controller: ControllerId| Author(controller.to_string().into());
        let [laptop, phone] = [3, 4].map(|n| author(ControllerId::Device(DeviceId([n; 32]))));
        let nested = author(ControllerId::Identity(work));
        assert_eq!(author_of(&home, &laptop), author_of(&home, &phone));
        assert_eq!(author_of(&home, &laptop), author(ControllerId::Identity(home)));
        // Whichever device of it wrote: its records name the identity, and it is not the one that it controls.
        assert_eq!(author_of(&home, &nested), nested);
        assert_ne!(author_of(&home, &nested), author_of(&home, &laptop));
        let nobody = Author("nobody".into());
        assert_eq!(author_of(&home, &nobody), nobody);
    }
}
