//! The ledger's task on forgetting: takes in what the chain says, decides, destroys, and says that it is done.

use std::sync::Arc;

use tracing::debug;
use walytis_core::id::BlockId;
use walytis_core::key::Signer;
use walytis_core::ledger::{LedgerError, NewBlock};
use walytis_core::store::{Batch, Durability};
use walytis_identities::claim::Claim;
use walytis_identities::id::{ControllerId, Role};
use walytis_identities::identity::{Judgement, RecordRef};

use super::rows::{Cause, ProposalRow};
use crate::context::Context;
use crate::forget::{Act, Claimed, Consent, ForgetRecord, Tally, Voters};
use crate::ledger::Inner;
use crate::ledger::table::{EventKind, Standing};
use crate::ledger::task::Task;
use crate::ledger::vouched::Voucher;

/// Contents that expire at once.
const EXPIRE_AT_ONCE: usize = 64;

/// A record about forgetting with its place.
pub(super) struct PlacedForget {
    pub(super) record: ForgetRecord,
    pub(super) judged: RecordRef,
    voucher: Voucher,
}

/// What stands with one proposal.
pub(super) struct Poll {
    pub(super) proposer: ControllerId,
    pub(super) blocks: Vec<BlockId>,
    pub(super) tally: Tally,
    pub(super) voters: Voters,
    /// Who held copies when it was proposed.
    pub(super) holders: Vec<(ControllerId, Role)>,
}

impl Inner {
    /// Reads a record about forgetting; nothing if the block is not one of this layer.
    pub(super) async fn placed_forget(&self, id: &BlockId) -> Result<Option<PlacedForget>, LedgerError> {
        let Some(block) = self.chain.block(id).await? else { return Ok(None) };
        let Some((content, voucher)) = self.read_in(&block, &self.forget_topic) else { return Ok(None) };
        let Some(record) = ForgetRecord::decode(content) else { return Ok(None) };
        let judged = RecordRef {
            block: *id,
            creator: block.header().creator,
            author: record.claim.author,
            auth_heads: record.claim.auth_heads.clone(),
        };
        Ok(Some(PlacedForget { record, judged, voucher }))
    }

    /// Says whether a record about forgetting counts.
    async fn is_said(&self, placed: &PlacedForget) -> bool {
        self.judge_record(&placed.judged, &placed.voucher, false).await == Judgement::Valid
    }

    /// Returns what stands with a proposal now; nothing if it does not count (yet).
    pub(super) async fn poll(&self, proposal: &BlockId) -> Result<Option<Poll>, LedgerError> {
        let Some(placed) = self.placed_forget(proposal).await? else { return Ok(None) };
        let Act::Propose { blocks, .. } = &placed.record.act else { return Ok(None) };
        if !self.is_said(&placed).await {
            return Ok(None);
        }
        let then = self.identity.controllers_at(Some(&placed.judged.auth_heads)).await;
        let now = self.identity.controllers_at(None).await;
        let Some((then, now)) = then.zip(now) else { return Ok(None) };
        let mut tally = Tally::default();
        for record in self.table.said(proposal).await? {
            let Some(said) = self.placed_forget(&record).await? else { continue };
            if self.is_said(&said).await {
                let author = said.judged.author;
                // One device, however often it renewed its keys.
                let device = self.identity.first_key(&author, said.judged.creator).await;
                tally.take(&Claimed { author, device, act: said.record.act });
            }
        }
        let (proposer, blocks) = (placed.judged.author, blocks.clone());
        Ok(Some(Poll { proposer, blocks, tally, voters: Voters::of(&then, &now), holders: then }))
    }

    /// Returns the blocks of a proposal whose rule is met and that are here, with those that are not decided yet.
    async fn met(&self, poll: &Poll) -> Result<(Vec<BlockId>, usize), LedgerError> {
        let (mut met, mut open) = (Vec::new(), 0);
        for id in &poll.blocks {
            let known = self.table.record(id).await?.filter(|local| local.standing != Standing::Waiting);
            let Some((local, placed)) = known.zip(self.placed(id).await?) else {
                open += 1;
                continue;
            };
            // What does not count makes no rule, not even for itself.
            let rule = if local.standing == Standing::Valid { placed.record.forget.consent } else { Consent::All };
            if poll.tally.meets(rule, &placed.record.claim.author, &poll.voters) {
                met.push(*id);
            } else {
                open += 1;
            }
        }
        Ok((met, open))
    }

    /// Returns the content of a record about forgetting by this device.
    pub(super) async fn forget_block(
        &self,
        signer: &dyn Signer,
        claim: Claim,
        act: Act,
    ) -> Result<NewBlock, LedgerError> {
        let record = ForgetRecord { claim, act }.encode();
        let content = self.vouch(&self.forget_topic, &signer.public_key(), record).await?;
        Ok(NewBlock { content: content.into(), topics: vec![self.forget_topic.clone()] })
    }

    /// Returns the context that the reason of a proposal is bound to.
    pub(super) fn reason_context(&self, placed: &PlacedForget) -> Option<Context> {
        let Act::Propose { epoch, nonce, .. } = &placed.record.act else { return None };
        let creator = &placed.judged.creator;
        Some(Context::new(&self.table.chain, &self.layer, &placed.record.claim, creator, epoch, nonce))
    }

    /// Says on the chain that this device is done with what was decided; what cannot be said now is said later.
    async fn say_done(&self) -> Result<(), LedgerError> {
        let table = &self.table;
        for proposal in table.ids(table.all(b'D')).await? {
            let said = self.has_said_done(&proposal).await?;
            let controllers = self.identity.controllers_at(None).await.unwrap_or_default();
            let me = self.identity.controller();
            let writes = controllers.iter().any(|(controller, role)| *controller == me && role.writes());
            if !said && writes {
                let (signer, claim) = self.voice().await;
                let said = async {
                    let block = self.forget_block(&*signer, claim, Act::Done(proposal)).await?;
                    self.chain.append_many(vec![block], Arc::clone(&signer)).await
                };
                match said.await {
                    Ok(_) => {}
                    Err(error @ (LedgerError::Store(_) | LedgerError::Blob(_))) => return Err(error),
                    Err(error) => {
                        debug!(ledger = ?self, %error, "done cannot be said now");
                        continue;
                    }
                }
            }
            let mut batch = Batch::new();
            batch.delete(table.key(b'D', &[proposal.digest()]));
            table.store.commit(batch, Durability::Buffered).await?;
        }
        Ok(())
    }

    async fn has_said_done(&self, proposal: &BlockId) -> Result<bool, LedgerError> {
        let (me, key) = (self.identity.controller(), self.identity.device_signer().public_key());
        let mine = self.identity.first_key(&me, key).await;
        for record in self.table.said(proposal).await? {
            let Some(said) = self.placed_forget(&record).await? else { continue };
            let is_done = said.judged.author == me && matches!(said.record.act, Act::Done(_));
            if is_done && self.identity.first_key(&me, said.judged.creator).await == mine {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Task {
    /// Takes in a record about forgetting that has arrived on the chain.
    pub(in crate::ledger) async fn handle_forget(&mut self, id: &BlockId) -> Result<(), LedgerError> {
        let table = &self.inner.table;
        let Some(placed) = self.inner.placed_forget(id).await? else { return Ok(()) };
        let act = &placed.record.act;
        let proposal = act.about().copied().unwrap_or(*id);
        let mut batch = Batch::new();
        table.put_said(&mut batch, &proposal, act, &placed.judged.author, id).await?;
        if let Act::Propose { blocks, .. } = act
            && table.proposal(id).await?.is_none()
        {
            table.put_proposal(&mut batch, id, blocks, ProposalRow::default());
        }
        table.put_meta(&mut batch, &self.meta);
        table.store.commit(batch, Durability::Buffered).await?;
        self.saved = self.meta.position;
        self.decide(&proposal).await?;
        self.finish_forgetting().await
    }

    /// Decides the proposals that name a record which has just arrived.
    pub(in crate::ledger) async fn decide_naming(&mut self, id: &BlockId) -> Result<(), LedgerError> {
        let naming = self.inner.table.proposals_naming(id).await?;
        for proposal in &naming {
            self.decide(proposal).await?;
        }
        if naming.is_empty() { Ok(()) } else { self.finish_forgetting().await }
    }

    /// Looks at the next undecided proposal again, from a key on, and returns where to go on: somebody may have been removed,
    /// or a record judged anew.
    pub(in crate::ledger) async fn decide_next(
        &mut self,
        from: Option<Vec<u8>>,
    ) -> Result<Option<Vec<u8>>, LedgerError> {
        let mut range = self.inner.table.all(b'U');
        if let Some(from) = from {
            range.start = from;
        }
        let (proposals, next) = self.inner.table.ids_page(range, 1).await?;
        for proposal in &proposals {
            self.decide(proposal).await?;
        }
        if next.is_none() {
            self.expire().await?;
            self.finish_forgetting().await?;
        }
        Ok(next)
    }

    async fn decide(&mut self, proposal: &BlockId) -> Result<(), LedgerError> {
        let Some(mut row) = self.inner.table.proposal(proposal).await?.filter(|row| !row.decided) else {
            return Ok(());
        };
        let Some(poll) = self.inner.poll(proposal).await? else { return Ok(()) };
        if !row.told {
            row.told = true;
            self.meta.sequence += 1;
            let mut batch = Batch::new();
            self.inner.table.put_event(&mut batch, self.meta.sequence, EventKind::Proposed, proposal);
            self.write_proposal(batch, proposal, &poll, row).await?;
        }
        let (met, open) = self.inner.met(&poll).await?;
        for id in &met {
            self.bury(id, Cause::Consent(*proposal.digest())).await?;
        }
        if open > 0 {
            return Ok(());
        }
        row.decided = true;
        let mut batch = Batch::new();
        let me = self.inner.identity.controller();
        if poll.holders.iter().any(|(holder, _)| *holder == me) {
            batch.put(self.inner.table.key(b'D', &[proposal.digest()]), bytes::Bytes::new());
        }
        self.write_proposal(batch, proposal, &poll, row).await
    }

    async fn write_proposal(
        &mut self,
        mut batch: Batch,
        proposal: &BlockId,
        poll: &Poll,
        row: ProposalRow,
    ) -> Result<(), LedgerError> {
        self.inner.table.put_proposal(&mut batch, proposal, &poll.blocks, row);
        self.inner.table.put_meta(&mut batch, &self.meta);
        self.inner.table.store.commit(batch, Durability::Flushed).await?;
        self.saved = self.meta.position;
        self.publish();
        Ok(())
    }

    /// Destroys a content here; false if there is no such block, or none that expires.
    async fn bury(&mut self, id: &BlockId, cause: Cause) -> Result<bool, LedgerError> {
        let Some(envelope) = self.inner.placed(id).await?.map(|placed| placed.envelope) else { return Ok(false) };
        // The same record twice has one content. The one that was asked for last: a crash on the way is then noticed.
        for twin in self.inner.table.naming(&envelope).await? {
            if twin != *id {
                self.bury_one(&twin, cause).await?;
            }
        }
        self.bury_one(id, cause).await
    }

    async fn bury_one(&mut self, id: &BlockId, cause: Cause) -> Result<bool, LedgerError> {
        let may = |standing| match cause {
            Cause::Expired => standing == Standing::Valid,
            Cause::Local | Cause::Consent(_) => standing != Standing::Waiting,
        };
        let local = self.inner.table.record(id).await?.filter(|local| may(local.standing));
        let Some((placed, local)) = self.inner.placed(id).await?.zip(local) else { return Ok(false) };
        if self.inner.bury(&placed, local, cause, &mut self.meta).await?.is_some() {
            self.saved = self.meta.position;
            self.drop_want(id, &placed.envelope);
            self.publish();
        }
        Ok(true)
    }

    /// Destroys a content on this device alone.
    pub(in crate::ledger) async fn forget_local(&mut self, id: &BlockId) -> Result<bool, LedgerError> {
        let known = self.bury(id, Cause::Local).await?;
        self.finish_forgetting().await?;
        Ok(known)
    }

    /// Removes bytes and says so; what was left half-done is finished with it.
    pub(in crate::ledger) async fn finish_forgetting(&mut self) -> Result<(), LedgerError> {
        self.inner.remove_remains().await?;
        self.inner.say_done().await
    }

    /// Destroys what has expired, and notes when the next content does.
    pub(in crate::ledger) async fn expire(&mut self) -> Result<(), LedgerError> {
        loop {
            let now = self.inner.clock.now_ms();
            let first = self.inner.table.expiries(EXPIRE_AT_ONCE).await?;
            self.next_expiry = first.iter().map(|(at, _)| *at).find(|at| *at > now);
            if first.iter().all(|(at, _)| *at > now) {
                return Ok(());
            }
            let mut batch = Batch::new();
            for (at, id) in first.iter().filter(|(at, _)| *at <= now) {
                self.bury(id, Cause::Expired).await?;
                // Whatever became of it: it is not looked at again.
                self.inner.table.delete_expiry(&mut batch, *at, id);
            }
            self.inner.table.store.commit(batch, Durability::Buffered).await?;
            self.inner.remove_remains().await?;
        }
    }
}
