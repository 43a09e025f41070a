//! Invitations to chains: issued, listed, revoked, honoured.
//!
//! The token that travels carries the seed of a key pair. What its public key is good for stands with the issuer alone,
//! or, of a shareable invitation, on the chain for every member. Uses are counted per joining peer: one that comes again,
//! because it crashed half-way, costs nothing.

use bytes::Bytes;
use thiserror::Error;

use super::error::{NodeError, NodeResult};
use super::lifecycle::{INVITATION_USES_MAX, Node, Seat};
use super::records;
use crate::fault::Fault;
use crate::id::{ChainId, PeerId};
use crate::key::{PublicKey, Signer as _, SigningKey};
use crate::secret::Secret;
use crate::store::{Batch, Direction, Durability};

/// Invitations kept per chain; over it, ones that are of no use any more go first. Chosen: far more than people issue.
const INVITATIONS_MAX: usize = 1_024;

/// What an invitation is to be good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InviteOptions {
    /// How many peers may join, 1..=1,000.
    pub uses: u32,
    /// When it ends, milliseconds since the Unix epoch; nothing: never.
    pub expires_at_ms: Option<i64>,
    /// Whether every member may honour it, also while this node is off. It is then published on the chain: public key,
    /// uses and end, nothing that lets anybody in.
    pub shareable: bool,
}

impl Default for InviteOptions {
    fn default() -> Self {
        Self { uses: 1, expires_at_ms: None, shareable: false }
    }
}

/// An invitation as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvitationRecord {
    /// Its public key; also its name.
    pub key: PublicKey,
    /// Peers that may still join.
    pub uses_left: u32,
    /// When it ends, milliseconds since the Unix epoch; nothing: never.
    pub expires_at_ms: Option<i64>,
    /// Whether every member may honour it.
    pub shareable: bool,
    /// Who published it, if it is shareable; only that key revokes it.
    pub issuer: Option<PublicKey>,
    /// Whether it was revoked.
    pub revoked: bool,
    /// When it was issued, milliseconds since the Unix epoch.
    pub created_at_ms: i64,
    /// Peers that joined with it; not named for shareable ones.
    pub joined: Vec<PeerId>,
}

/// An invitation just made. The seed is the token's secret and stands nowhere else.
#[derive(Debug)]
pub struct NewInvitation {
    /// What is stored.
    pub record: InvitationRecord,
    /// Seed of the key pair, for the token.
    pub seed: Secret<32>,
}

/// What a peer gets that proved an invitation.
#[derive(Debug)]
pub struct Honoured {
    /// The chain secret; nothing on a public chain.
    pub secret: Option<Secret<32>>,
    /// Peers that may still join with it.
    pub uses_left: u32,
}

/// Why an invitation is not honoured.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InvitationError {
    /// No such invitation was issued here.
    #[error("this invitation is not known here")]
    Unknown,
    /// It was revoked.
    #[error("this invitation was revoked")]
    Revoked,
    /// Its time is over.
    #[error("this invitation has expired")]
    Expired,
    /// All its uses are taken.
    #[error("this invitation is used up")]
    UsedUp,
    /// A shareable invitation of another member.
    #[error("only the member that issued this invitation can revoke it")]
    NotIssuer,
    /// The node could not.
    #[error(transparent)]
    Node(#[from] NodeError),
}

impl InvitationError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Node(error) => error.fault(),
            Self::NotIssuer => Fault::Caller,
            _ => Fault::Peer,
        }
    }
}

impl InvitationRecord {
    /// Says why the invitation can admit nobody new at `now_ms`, if it cannot.
    ///
    /// # Errors
    /// [`InvitationError::Revoked`], [`InvitationError::Expired`], [`InvitationError::UsedUp`].
    pub fn check(&self, now_ms: i64) -> Result<(), InvitationError> {
        if self.revoked {
            return Err(InvitationError::Revoked);
        }
        if self.expires_at_ms.is_some_and(|end| now_ms >= end) {
            return Err(InvitationError::Expired);
        }
        if self.uses_left == 0 { Err(InvitationError::UsedUp) } else { Ok(()) }
    }
}

impl Node {
    /// Issues an invitation to a chain; flushed when it returns.
    ///
    /// # Errors
    /// [`NodeError`]; [`NodeError::Governed`] if an overlay decides who may join.
    pub async fn invite(&self, chain: &ChainId, options: InviteOptions) -> NodeResult<NewInvitation> {
        self.plain_chain(chain)?;
        if matches!(self.seat(chain)?, Seat::Offline(_)) {
            return Err(NodeError::NoAccess { id: *chain });
        }
        let uses_left = options.uses.clamp(1, INVITATION_USES_MAX);
        let mut seed = zeroize::Zeroizing::new([0u8; 32]);
        self.parts().entropy.fill(seed.as_mut());
        let seed = Secret::new(*seed);
        let now_ms = self.parts().clock.now_ms();
        let mut record = InvitationRecord {
            key: SigningKey::from_seed(&seed).public_key(),
            uses_left,
            expires_at_ms: options.expires_at_ms,
            shareable: options.shareable,
            issuer: None,
            revoked: false,
            created_at_ms: now_ms,
            joined: Vec::new(),
        };
        let _turn = self.turn().await?;
        if options.shareable {
            record.issuer = Some(self.issue_shared(chain, &record).await?);
            return Ok(NewInvitation { record, seed });
        }
        let mut batch = Batch::new();
        let kept = self.own_invitations(chain).await?;
        if kept.len() >= INVITATIONS_MAX {
            for old in kept.iter().filter(|old| old.check(now_ms).is_err()) {
                batch.delete(records::invitation(chain, &old.key));
            }
            if batch.is_empty() {
                let reason = format!("{INVITATIONS_MAX} invitations are open; revoke some first");
                return Err(NodeError::Ledger(crate::ledger::LedgerError::Refused { reason }));
            }
        }
        batch.put(records::invitation(chain, &record.key), record.encode());
        self.parts().store.commit(batch, Durability::Flushed).await?;
        Ok(NewInvitation { record, seed })
    }

    /// Returns the invitations to a chain, by key: those of this node and the shareable ones of all members; those of no
    /// use any more too.
    ///
    /// # Errors
    /// [`NodeError::Store`].
    pub async fn invitations(&self, chain: &ChainId) -> NodeResult<Vec<InvitationRecord>> {
        let mut all = self.own_invitations(chain).await?;
        all.extend(self.shared_invitations(chain).await?);
        all.sort_by_key(|record| record.key);
        Ok(all)
    }

    /// Says whether an invitation of this key was ever issued, as far as this node can tell.
    pub(crate) async fn knows_invitation(&self, chain: &ChainId, key: &PublicKey) -> bool {
        let own = self.invitation(chain, key).await;
        own.is_ok_and(|found| found.is_some()) || self.knows_shared(chain, key).await.unwrap_or(false)
    }

    async fn own_invitations(&self, chain: &ChainId) -> NodeResult<Vec<InvitationRecord>> {
        let range = records::invitations(chain);
        let found = self.parts().store.scan(range, Direction::Forward, 2 * INVITATIONS_MAX).await?;
        let decode = |(key, value): &(Bytes, Bytes)| InvitationRecord::decode(key, value);
        Ok(found.iter().map(decode).collect::<Result<_, _>>()?)
    }

    /// Revokes an invitation; flushed when it returns, and published if it is shareable: other members honour it until
    /// they have heard. Idempotent. Who joined stays.
    ///
    /// # Errors
    /// [`InvitationError::Unknown`], [`InvitationError::NotIssuer`], [`InvitationError::Node`].
    pub async fn revoke(&self, chain: &ChainId, key: &PublicKey) -> Result<(), InvitationError> {
        let _turn = self.turn().await?;
        let Some(mut record) = self.invitation(chain, key).await? else { return self.revoke_shared(chain, key).await };
        record.revoked = true;
        self.store_invitation(chain, &record).await
    }

    /// Counts a use for a peer that proved to hold the invitation, flushed, and returns what it gets. A peer that used it
    /// before costs nothing, as long as the invitation is neither revoked nor expired.
    ///
    /// # Errors
    /// [`InvitationError`].
    pub async fn honour(&self, chain: &ChainId, key: &PublicKey, peer: &PeerId) -> Result<Honoured, InvitationError> {
        self.plain_chain(chain)?;
        // The secret first: a locked vault must not cost a use.
        let secret = self.chain_secret(chain).await?;
        if matches!(self.seat(chain)?, Seat::Offline(_)) {
            return Err(NodeError::NoAccess { id: *chain }.into());
        }
        let turn = self.turn().await?;
        let Some(mut record) = self.invitation(chain, key).await? else {
            let new = self.claim_shared(chain, key, peer).await?;
            // Others of this node's go on while it waits for other members.
            drop(turn);
            return self.honour_shared(chain, key, peer, secret, new).await;
        };
        match record.check(self.parts().clock.now_ms()) {
            Ok(()) => {}
            Err(InvitationError::UsedUp) if record.joined.contains(peer) => {}
            Err(error) => return Err(error),
        }
        if !record.joined.contains(peer) {
            record.uses_left = record.uses_left.saturating_sub(1);
            record.joined.push(peer.clone());
            self.store_invitation(chain, &record).await?;
        }
        Ok(Honoured { secret, uses_left: record.uses_left })
    }

    async fn invitation(&self, chain: &ChainId, key: &PublicKey) -> NodeResult<Option<InvitationRecord>> {
        let place = records::invitation(chain, key);
        let Some(bytes) = self.parts().store.get(&place).await? else { return Ok(None) };
        Ok(Some(InvitationRecord::decode(&place, &bytes)?))
    }

    async fn store_invitation(&self, chain: &ChainId, record: &InvitationRecord) -> Result<(), InvitationError> {
        let mut batch = Batch::new();
        batch.put(records::invitation(chain, &record.key), record.encode());
        self.parts().store.commit(batch, Durability::Flushed).await.map_err(NodeError::from)?;
        Ok(())
    }
}
