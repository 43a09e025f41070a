//! Shareable invitations: every member honours them from its copy of the chain.
//!
//! The chain is their only record. A use is published before the joiner gets anything, and a joiner counts once however
//! many members it asks. Then the member waits a moment for uses that others publish at the same time: of more uses than
//! there are, the first in canonical order count, and the others' joiners are told "used up". So only members that
//! cannot hear each other let in more peers than stated.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::TryStreamExt as _;

use super::error::{NodeError, NodeResult};
use super::invitation::{Honoured, InvitationError, InvitationRecord};
use super::invitation_v1::{NOTE_MAX, Note, any_topic, joiner, topic};
use super::lifecycle::Node;
use crate::chain::{Append, Chain};
use crate::id::{ChainId, PeerId};
use crate::key::PublicKey;
use crate::ledger::{LedgerError, LedgerRead as _, Query};
use crate::secret::Secret;
use crate::topic::Topic;

/// Notes read about one invitation. Chosen: four times the most uses; only a member can write more.
const NOTES_MAX: usize = 4_096;
/// How long a member waits for uses that others publish at the same time. Chosen: several round trips between members.
const SETTLE: Duration = Duration::from_millis(500);
/// Notes read to list all invitations.
const LIST_NOTES_MAX: usize = 16_384;

/// What a chain says of one invitation; the order of its notes does not matter, but for which issue is named first.
#[derive(Debug, Default)]
struct Shared {
    issued: Vec<Issue>,
    revoked_by: BTreeSet<PublicKey>,
    /// In canonical order of their first notes.
    joiners: Vec<[u8; 32]>,
}

#[derive(Clone, Copy, Debug)]
struct Issue {
    issuer: PublicKey,
    uses: u32,
    expires_at_ms: Option<i64>,
    created_at_ms: i64,
}

impl Shared {
    fn add(&mut self, note: Note, creator: PublicKey, created_at_ms: i64) {
        match note {
            Note::Issued { uses, expires_at_ms, .. } => {
                self.issued.push(Issue { issuer: creator, uses, expires_at_ms, created_at_ms });
            }
            Note::Used { joiner, .. } if self.joiners.contains(&joiner) => {}
            Note::Used { joiner, .. } => self.joiners.push(joiner),
            Note::Revoked { .. } => drop(self.revoked_by.insert(creator)),
        }
    }

    /// Says whether a joiner is among those that count, by an invitation that is neither revoked nor expired; if not,
    /// why.
    fn check_joiner(
        &self,
        key: &PublicKey,
        joiner: &[u8; 32],
        now_ms: i64,
    ) -> Result<InvitationRecord, InvitationError> {
        let record = self.record(key, now_ms).ok_or(InvitationError::Unknown)?;
        let rank = self.joiners.iter().position(|one| one == joiner);
        let before = rank.and_then(|rank| u32::try_from(rank).ok());
        let counts = |issue: &&Issue| before.is_some_and(|before| before < issue.uses);
        // The uses are judged by the rank, the rest as for anybody.
        let open = self.issued.iter().filter(counts).map(|issue| self.record_of(key, issue));
        let open = open.map(|record| InvitationRecord { uses_left: record.uses_left.max(1), ..record });
        if open.into_iter().any(|record| record.check(now_ms).is_ok()) {
            return Ok(record);
        }
        record.check(now_ms)?;
        Err(InvitationError::UsedUp)
    }

    /// Returns the invitation as it stands: the first issue that still admits somebody, else the first.
    fn record(&self, key: &PublicKey, now_ms: i64) -> Option<InvitationRecord> {
        let mut records = self.issued.iter().map(|issue| self.record_of(key, issue));
        let open = records.clone().find(|record| record.check(now_ms).is_ok());
        open.or_else(|| records.next())
    }

    fn record_of(&self, key: &PublicKey, issue: &Issue) -> InvitationRecord {
        let used = u32::try_from(self.joiners.len()).unwrap_or(u32::MAX);
        InvitationRecord {
            key: *key,
            uses_left: issue.uses.saturating_sub(used),
            expires_at_ms: issue.expires_at_ms,
            shareable: true,
            issuer: Some(issue.issuer),
            revoked: self.revoked_by.contains(&issue.issuer),
            created_at_ms: issue.created_at_ms,
            joined: Vec::new(),
        }
    }
}

impl Node {
    /// Publishes an invitation that every member may honour.
    pub(super) async fn issue_shared(&self, chain: &ChainId, record: &InvitationRecord) -> NodeResult<PublicKey> {
        let note = Note::Issued { key: record.key, uses: record.uses_left, expires_at_ms: record.expires_at_ms };
        self.publish(&self.chain_by_id(chain)?, note).await
    }

    /// Publishes the use of an invitation that stands on the chain, flushed; says whether it is a new one. The caller
    /// holds the node's turn.
    pub(super) async fn claim_shared(
        &self,
        chain: &ChainId,
        key: &PublicKey,
        peer: &PeerId,
    ) -> Result<bool, InvitationError> {
        let handle = self.chain_by_id(chain)?;
        let shared = read_one(&handle, key).await?;
        let now_ms = self.parts().clock.now_ms();
        let joiner = joiner(chain, key, peer);
        if shared.joiners.contains(&joiner) {
            return Ok(false);
        }
        shared.record(key, now_ms).ok_or(InvitationError::Unknown)?.check(now_ms)?;
        self.publish(&handle, Note::Used { key: *key, joiner }).await?;
        Ok(true)
    }

    /// Honours an invitation for a joiner whose use is published. The caller does not hold the node's turn.
    pub(super) async fn honour_shared(
        &self,
        chain: &ChainId,
        key: &PublicKey,
        peer: &PeerId,
        secret: Option<Secret<32>>,
        new: bool,
    ) -> Result<Honoured, InvitationError> {
        let others = self.parts().replication.as_ref().map_or(0, |replication| replication.in_session(chain));
        if new && others > 0 {
            tokio::time::sleep(SETTLE).await;
        }
        let shared = read_one(&self.chain_by_id(chain)?, key).await?;
        let record = shared.check_joiner(key, &joiner(chain, key, peer), self.parts().clock.now_ms())?;
        Ok(Honoured { secret, uses_left: record.uses_left })
    }

    /// Publishes that an invitation of this node's is revoked. The caller holds the node's turn.
    pub(super) async fn revoke_shared(&self, chain: &ChainId, key: &PublicKey) -> Result<(), InvitationError> {
        let handle = self.chain_by_id(chain)?;
        let shared = read_one(&handle, key).await?;
        let own = self.author()?.public_key();
        if shared.issued.is_empty() {
            return Err(InvitationError::Unknown);
        }
        if !shared.issued.iter().any(|issue| issue.issuer == own) {
            return Err(InvitationError::NotIssuer);
        }
        if !shared.revoked_by.contains(&own) {
            self.publish(&handle, Note::Revoked { key: *key }).await?;
        }
        Ok(())
    }

    /// Returns the invitations that stand on a chain, by key.
    pub(super) async fn shared_invitations(&self, chain: &ChainId) -> NodeResult<Vec<InvitationRecord>> {
        // While a chain is not open, nothing that stands on it can be honoured either.
        let Ok(handle) = self.chain_by_id(chain) else { return Ok(Vec::new()) };
        let now_ms = self.parts().clock.now_ms();
        let found = read(&handle, any_topic().map_err(LedgerError::Topic)?, LIST_NOTES_MAX).await?;
        Ok(found.iter().filter_map(|(key, shared)| shared.record(key, now_ms)).collect())
    }

    pub(super) async fn knows_shared(&self, chain: &ChainId, key: &PublicKey) -> NodeResult<bool> {
        Ok(!read_one(&self.chain_by_id(chain)?, key).await?.issued.is_empty())
    }

    /// Adds a note to the chain, flushed; returns who signed it.
    async fn publish(&self, chain: &Chain, note: Note) -> NodeResult<PublicKey> {
        let signer = self.author()?;
        let key = signer.public_key();
        let topics = note.topics().map_err(LedgerError::Topic)?;
        chain.append(Append { content: note.encode().into(), topics, signer }).await?;
        Ok(key)
    }
}

async fn read_one(chain: &Chain, key: &PublicKey) -> NodeResult<Shared> {
    let mut found = read(chain, topic(key).map_err(LedgerError::Topic)?, NOTES_MAX).await?;
    Ok(found.remove(key).unwrap_or_default())
}

async fn read(chain: &Chain, topic: Topic, max: usize) -> NodeResult<BTreeMap<PublicKey, Shared>> {
    let query = Query { topics_all: vec![topic], limit: Some(max), ..Query::default() };
    let mut infos = chain.query(query).await?;
    let mut found: BTreeMap<PublicKey, Shared> = BTreeMap::new();
    while let Some(info) = infos.try_next().await.map_err(NodeError::from)? {
        if info.size > NOTE_MAX {
            continue;
        }
        let block = chain.block(&info.id).await?;
        if let Some(note) = block.as_ref().and_then(|block| block.inline()).and_then(|content| Note::decode(content)) {
            found.entry(*note.key()).or_default().add(note, info.creator, info.created_at_ms);
        }
    }
    Ok(found)
}
