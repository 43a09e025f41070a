//! Forgetting: on this device alone, by consent, or when the time is up.
//!
//! The rules stand in [`crate::forget`]. Proposals and votes are appended to the chain; the ledger's task takes them in like
//! everybody's, decides and destroys.

mod decide;
mod destroy;
mod rows;

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::oneshot;
use walytis_core::chain::LookupError;
use walytis_core::id::BlockId;
use walytis_core::key::{PublicKey, Signer};
use walytis_core::ledger::{BlockInfo, LedgerError, NewBlock};
use walytis_core::store::StoreError;
use walytis_identities::claim::Claim;
use walytis_identities::id::ControllerId;
use walytis_identities::identity::EpochUse;

use super::table::Standing;
use super::{Inner, PrivateLedger, of_identity, seal};
use crate::context::Context;
use crate::forget::{Act, FORGET_BLOCKS_MAX, ForgetRule, REASON_MAX, open_reason, seal_reason};
use decide::Poll;
pub(super) use rows::Dropped;
use rows::{Cause, ProposalRow};

/// What the task is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    /// Destroy a content here; answers whether there is such a block.
    ForgetLocal { id: BlockId, reply: oneshot::Sender<Result<bool, LedgerError>> },
}

/// How far a proposal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProposalState {
    /// Somebody has not said anything yet.
    Open,
    /// Somebody refuses and has not withdrawn that; what needs everybody waits.
    Refused,
    /// Everything it names is destroyed here.
    Forgotten,
    /// It does not count: its author had no right.
    Void,
}

impl ProposalState {
    /// Returns the name as the command line and JSON show it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Refused => "refused",
            Self::Forgotten => "forgotten",
            Self::Void => "void",
        }
    }
}

/// A proposal to forget, as far as it is known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The block that proposes.
    pub id: BlockId,
    /// What is to be forgotten, ascending.
    pub blocks: Vec<BlockId>,
    /// Who proposes; this is a consent.
    pub by: ControllerId,
    /// Why; nothing while the keys to read it are not here.
    pub reason: Option<String>,
    /// Who consented.
    pub consents: Vec<ControllerId>,
    /// Who refuses.
    pub refusals: Vec<ControllerId>,
    /// Who has not said anything.
    pub silent: Vec<ControllerId>,
    /// Controllers of the devices that have said that they destroyed everything, once for each device.
    pub done: Vec<ControllerId>,
    /// How far it is.
    pub state: ProposalState,
}

impl PrivateLedger {
    /// As [`add_many`](walytis_core::ledger::Ledger::add_many), under a rule about forgetting that everybody sees.
    ///
    /// # Errors
    /// [`LedgerError`]; [`LedgerError::Refused`] for a rule that nobody can meet or that is over already.
    pub async fn add_under(&self, blocks: Vec<NewBlock>, rule: ForgetRule) -> Result<Vec<BlockInfo>, LedgerError> {
        let refused = |reason: &str| Err(LedgerError::Refused { reason: reason.to_owned() });
        if !rule.is_sound() {
            return refused("a rule of 0 consents means nothing: name at least 1");
        }
        if rule.expires_at_ms.is_some_and(|at| at <= self.0.clock.now_ms()) {
            return refused("the content would expire before it is there");
        }
        seal::add(&self.0, blocks, rule).await
    }

    /// Destroys a block's content on this device: envelope, wrapped key, index entries, and their bytes in the files of the
    /// stores. It is never fetched again; other devices keep theirs; the block stays. Doing it again changes nothing.
    ///
    /// # Errors
    /// [`LedgerError::UnknownBlock`]; [`LedgerError`]: then it is unreadable or as it was, and done again it is finished.
    pub async fn forget_local(&self, id: &BlockId) -> Result<(), LedgerError> {
        self.0.check_open()?;
        let (reply, answer) = oneshot::channel();
        let command = Command::ForgetLocal { id: *id, reply };
        self.0.commands.send(command).await.map_err(|_| LedgerError::Closed)?;
        match answer.await.map_err(|_| LedgerError::Closed)?? {
            true => Ok(()),
            false => Err(LedgerError::UnknownBlock { id: *id }),
        }
    }

    /// Proposes that everybody forgets the contents of these blocks (1..=[`FORGET_BLOCKS_MAX`]); returns the proposal. Each
    /// block is destroyed as soon as its own rule is met, on every device. `reason`: at most [`REASON_MAX`] bytes, sealed.
    ///
    /// # Errors
    /// [`LedgerError::UnknownBlock`]; [`LedgerError::Refused`] for blocks that all have given up already; [`LedgerError`].
    pub async fn propose_forget(&self, blocks: &[BlockId], reason: &str) -> Result<BlockId, LedgerError> {
        self.0.check_open()?;
        let refused = |reason: String| Err(LedgerError::Refused { reason });
        let blocks: std::collections::BTreeSet<BlockId> = blocks.iter().copied().collect();
        if !(1..=FORGET_BLOCKS_MAX).contains(&blocks.len()) {
            return refused(format!("a proposal names 1 to {FORGET_BLOCKS_MAX} blocks"));
        }
        if reason.len() > REASON_MAX || reason.contains('\0') {
            return refused(format!("a reason has at most {REASON_MAX} bytes and no zero bytes"));
        }
        let mut open = Vec::new();
        for id in blocks {
            let known = self.0.table.record(&id).await?.filter(|local| local.standing != Standing::Waiting);
            known.ok_or(LedgerError::UnknownBlock { id })?;
            let tombstone = self.0.table.tombstone(&id).await?;
            if !tombstone.is_some_and(|tombstone| matches!(tombstone.cause, Cause::Consent(_))) {
                open.push(id);
            }
        }
        if open.is_empty() {
            return refused("everybody has forgotten this already".to_owned());
        }
        let (signer, claim) = self.0.voice().await;
        let act = self.0.proposal_of(open, reason, &claim, &signer.public_key()).await?;
        self.say_as(signer, claim, act).await
    }

    /// Consents to a proposal, for good. Withdraws an earlier refusal. Saying it again changes nothing.
    ///
    /// # Errors
    /// [`LedgerError::UnknownBlock`] if there is no such proposal; [`LedgerError::Refused`] for who has no vote.
    pub async fn consent(&self, proposal: &BlockId) -> Result<(), LedgerError> {
        match self.ballot(proposal).await? {
            None => Ok(()),
            Some(poll) if poll.tally.consents().contains(&self.0.identity.controller()) => Ok(()),
            Some(_) => self.say(Act::Consent(*proposal)).await.map(drop),
        }
    }

    /// Refuses a proposal; [`Self::consent`] withdraws that. Saying it again changes nothing.
    ///
    /// # Errors
    /// As [`Self::consent`]; [`LedgerError::Refused`] also after a consent, and when it is forgotten already.
    pub async fn refuse(&self, proposal: &BlockId) -> Result<(), LedgerError> {
        let late = |reason: &str| Err(LedgerError::Refused { reason: reason.to_owned() });
        let me = self.0.identity.controller();
        match self.ballot(proposal).await? {
            None => late("it is forgotten already"),
            Some(poll) if poll.tally.consents().contains(&me) => late("you have consented, and a consent is final"),
            Some(poll) if poll.tally.refusals(&poll.voters).contains(&me) => Ok(()),
            Some(_) => self.say(Act::Refuse(*proposal)).await.map(drop),
        }
    }

    /// Returns a proposal as it stands, or nothing.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn proposal(&self, id: &BlockId) -> Result<Option<Proposal>, LedgerError> {
        match self.0.table.proposal(id).await? {
            Some(row) => self.0.describe(id, row).await,
            None => Ok(None),
        }
    }

    /// Returns all proposals as they stand, by id.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn proposals(&self) -> Result<BoxStream<'static, Result<Proposal, LedgerError>>, LedgerError> {
        let ids = self.0.table.ids(self.0.table.all(b'Q')).await?;
        let ledger = self.clone();
        let found = stream::iter(ids).then(move |id| {
            let ledger = ledger.clone();
            async move { ledger.proposal(&id).await }
        });
        Ok(found.filter_map(|found| std::future::ready(found.transpose())).boxed())
    }

    /// Returns the proposal whose id begins with `text`.
    ///
    /// # Errors
    /// [`LookupError`].
    pub async fn find_proposal(&self, text: &str) -> Result<BlockId, LookupError> {
        let unknown = || LookupError::Unknown { kind: "proposal", text: text.to_owned() };
        let mut found = None;
        for id in self.0.table.ids(self.0.table.all(b'Q')).await.map_err(LedgerError::Store)? {
            let whole = id.to_string();
            let short = whole.strip_prefix("bafkrei").unwrap_or(&whole);
            if text.is_empty() || !(whole.starts_with(text) || short.starts_with(text)) {
                continue;
            }
            if found.replace(id).is_some() {
                return Err(LookupError::Ambiguous { kind: "proposal", text: text.to_owned() });
            }
        }
        found.ok_or_else(unknown)
    }

    /// Returns what this device votes on; nothing if it is decided.
    async fn ballot(&self, proposal: &BlockId) -> Result<Option<Poll>, LedgerError> {
        self.0.check_open()?;
        let row = self.0.table.proposal(proposal).await?.ok_or(LedgerError::UnknownBlock { id: *proposal })?;
        if row.decided {
            return Ok(None);
        }
        let refused = |reason: &str| LedgerError::Refused { reason: reason.to_owned() };
        let poll = self.0.poll(proposal).await?.ok_or_else(|| refused("the proposal does not count"))?;
        if poll.voters.contains(&self.0.identity.controller()) {
            return Ok(Some(poll));
        }
        Err(refused("only who could write when it was proposed, and still can, has a vote"))
    }

    async fn say(&self, act: Act) -> Result<BlockId, LedgerError> {
        let (signer, claim) = self.0.voice().await;
        self.say_as(signer, claim, act).await
    }

    async fn say_as(&self, signer: Arc<dyn Signer>, claim: Claim, act: Act) -> Result<BlockId, LedgerError> {
        let inner = &self.0;
        // Also refuses who may not write.
        inner.identity.sending_epoch().await.map_err(of_identity)?;
        let block = inner.forget_block(&*signer, claim, act).await?;
        let added = inner.chain.append_many(vec![block], signer).await?;
        let added = added.into_iter().next().ok_or(LedgerError::Closed)?;
        seal::wait_for(inner, added.cursor.0).await?;
        Ok(added.id)
    }
}

impl Inner {
    /// Returns who speaks: the signer of one record, and the claim that stands in it. The heads are taken after the keys, so
    /// that they know them.
    async fn voice(&self) -> (Arc<dyn Signer>, Claim) {
        let signer = self.identity.device_signer();
        (signer, Claim { author: self.identity.controller(), auth_heads: self.identity.auth_heads().await })
    }

    async fn proposal_of(
        &self,
        blocks: Vec<BlockId>,
        reason: &str,
        claim: &Claim,
        creator: &PublicKey,
    ) -> Result<Act, LedgerError> {
        let identity = &self.identity;
        let epoch = identity.sending_epoch().await.map_err(of_identity)?;
        let key = identity.derive(&epoch, EpochUse::RecordHeader).await.map_err(of_identity)?;
        let mut nonce = [0; 32];
        self.entropy.fill(&mut nonce);
        let context = Context::new(&self.table.chain, &self.layer, claim, creator, &epoch, &nonce);
        let sealed_reason = seal_reason(reason, &key, &context, &*self.entropy);
        Ok(Act::Propose { blocks, epoch, nonce, sealed_reason })
    }

    async fn describe(&self, id: &BlockId, row: ProposalRow) -> Result<Option<Proposal>, LedgerError> {
        let Some(placed) = self.placed_forget(id).await? else { return Ok(None) };
        let Act::Propose { blocks, epoch, sealed_reason, .. } = &placed.record.act else { return Ok(None) };
        let key = self.epoch_key(epoch, EpochUse::RecordHeader).await?;
        let reason =
            key.zip(self.reason_context(&placed)).and_then(|(key, context)| open_reason(sealed_reason, &key, &context));
        let poll = self.poll(id).await?;
        let refusals = poll.as_ref().map(|poll| poll.tally.refusals(&poll.voters)).unwrap_or_default();
        let state = match &poll {
            _ if row.decided => ProposalState::Forgotten,
            None => ProposalState::Void,
            Some(_) if !refusals.is_empty() => ProposalState::Refused,
            Some(_) => ProposalState::Open,
        };
        let silent = poll.as_ref().filter(|_| !row.decided).map(|poll| poll.tally.silent(&poll.voters));
        Ok(Some(Proposal {
            id: *id,
            blocks: blocks.clone(),
            by: poll.as_ref().map_or(placed.judged.author, |poll| poll.proposer),
            reason,
            consents: poll.as_ref().map(|poll| poll.tally.consents()).unwrap_or_default(),
            refusals,
            silent: silent.unwrap_or_default(),
            done: poll.as_ref().map(|poll| poll.tally.done()).unwrap_or_default(),
            state,
        }))
    }
}

/// Proposes to forget blocks, as many proposals as it takes; what all have forgotten is passed over.
pub(super) async fn propose_all(ledger: &PrivateLedger, ids: &[BlockId]) -> Result<(), LedgerError> {
    let mut open = Vec::new();
    for id in ids {
        let tombstone = ledger.0.table.tombstone(id).await?;
        if !tombstone.is_some_and(|tombstone| matches!(tombstone.cause, Cause::Consent(_))) {
            open.push(*id);
        }
    }
    for blocks in open.chunks(FORGET_BLOCKS_MAX) {
        ledger.propose_forget(blocks, "").await?;
    }
    Ok(())
}

/// The error for the caller when the task meets one that it goes on with itself.
pub(super) fn reported(error: &LedgerError) -> LedgerError {
    match error {
        LedgerError::Store(error) => LedgerError::Store(error.clone()),
        other => LedgerError::Store(StoreError::Io { reason: other.to_string() }),
    }
}
