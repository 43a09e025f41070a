//! Shareable invitations: every member honours them from its copy of the chain.
//!
//! The chain is their only record. A use is published before the joiner gets anything, and a joiner counts once however
//! many members it asks; so only members that honour at the same moment, each not yet knowing of the other's use, let in
//! more peers than stated.

use std::collections::{BTreeMap, BTreeSet};

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
/// Notes read to list all invitations.
const LIST_NOTES_MAX: usize = 16_384;

/// What a chain says of one invitation; the order of its notes does not matter, but for which issue is named first.
#[derive(Debug, Default)]
struct Shared {
    issued: Vec<Issue>,
    revoked_by: BTreeSet<PublicKey>,
    joiners: BTreeSet<[u8; 32]>,
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
            Note::Used { joiner, .. } => drop(self.joiners.insert(joiner)),
            Note::Revoked { .. } => drop(self.revoked_by.insert(creator)),
        }
    }

    /// Returns the invitation as it stands: the first issue that still admits somebody, else the first.
    fn record(&self, key: &PublicKey, now_ms: i64) -> Option<InvitationRecord> {
        let used = u32::try_from(self.joiners.len()).unwrap_or(u32::MAX);
        let record = |issue: &Issue| InvitationRecord {
            key: *key,
            uses_left: issue.uses.saturating_sub(used),
            expires_at_ms: issue.expires_at_ms,
            shareable: true,
            issuer: Some(issue.issuer),
            revoked: self.revoked_by.contains(&issue.issuer),
            created_at_ms: issue.created_at_ms,
            joined: Vec::new(),
        };
        let mut records = self.issued.iter().map(record);
        let open = records.clone().find(|record| record.check(now_ms).is_ok());
        open.or_else(|| records.next())
    }
}

impl Node {
    /// Publishes an invitation that every member may honour.
    pub(super) async fn issue_shared(&self, chain: &ChainId, record: &InvitationRecord) -> NodeResult<PublicKey> {
        let note = Note::Issued { key: record.key, uses: record.uses_left, expires_at_ms: record.expires_at_ms };
        self.publish(&self.chain_by_id(chain)?, note).await
    }

    /// Honours an invitation that stands on the chain. The caller holds the node's turn.
    pub(super) async fn honour_shared(
        &self,
        chain: &ChainId,
        key: &PublicKey,
        peer: &PeerId,
        secret: Option<Secret<32>>,
    ) -> Result<Honoured, InvitationError> {
        let handle = self.chain_by_id(chain)?;
        let shared = read_one(&handle, key).await?;
        let now_ms = self.parts().clock.now_ms();
        let record = shared.record(key, now_ms).ok_or(InvitationError::Unknown)?;
        let joiner = joiner(chain, key, peer);
        let again = shared.joiners.contains(&joiner);
        match record.check(now_ms) {
            Ok(()) => {}
            Err(InvitationError::UsedUp) if again => {}
            Err(error) => return Err(error),
        }
        if again {
            return Ok(Honoured { secret, uses_left: record.uses_left });
        }
        self.publish(&handle, Note::Used { key: *key, joiner }).await?;
        Ok(Honoured { secret, uses_left: record.uses_left.saturating_sub(1) })
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
