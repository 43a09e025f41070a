//! Judging records, on chains that ask for hybrid signatures by these as well.

use walytis_core::block::Block;
use walytis_core::id::ChainId;
use walytis_core::key::PublicKey;
use walytis_core::ledger::LedgerError;
use walytis_core::topic::Topic;
use walytis_identities::bound::RecordRules;
use walytis_identities::identity::{Identity, Judgement, RecordRef};
use walytis_identities::signed::IdentitySignature;

use super::{Inner, of_identity};
use crate::hybrid::{RECORD_CONTEXT, attach, detach, message};

/// A record lacks the signature that its chain asks for, or it does not hold.
const UNVOUCHED: &str = "O-RECORD-02";

/// What vouches for a record beside the signature of its block.
#[derive(Debug)]
pub(super) enum Voucher {
    /// The chain asks for nothing.
    NotAsked,
    /// Nothing does.
    Missing,
    /// A signature over this.
    Signed(Box<IdentitySignature>, [u8; 32]),
}

impl Inner {
    /// Returns the content of a block that this device signs with the key `creator`: the record, with a signature where the
    /// chain asks for it.
    pub(super) async fn vouch(
        &self,
        topic: &Topic,
        creator: &PublicKey,
        record: Vec<u8>,
    ) -> Result<Vec<u8>, LedgerError> {
        if !self.rules.hybrid {
            return Ok(record);
        }
        let message = message(&self.table.chain, topic, creator, &record);
        let signature = self.identity.sign(RECORD_CONTEXT, &message).await.map_err(of_identity)?;
        Ok(attach(record, &signature))
    }

    /// Returns the record in the content of a block of this ledger, and what vouches for it.
    pub(super) fn record_in<'a>(&self, topic: &Topic, creator: &PublicKey, content: &'a [u8]) -> (&'a [u8], Voucher) {
        record_in(self.rules, &self.table.chain, topic, creator, content)
    }

    /// Reads the content of a block whose one topic is this; nothing for any other block.
    pub(super) fn read_in<'a>(&self, block: &'a Block, topic: &Topic) -> Option<(&'a [u8], Voucher)> {
        let header = block.header();
        let content = block.inline().filter(|_| header.topics == std::slice::from_ref(topic))?;
        Some(self.record_in(topic, &header.creator, content))
    }

    /// Judges a record under what is known now. `held`: what vouches for it was found to hold before, which never changes.
    pub(super) async fn judge_record(&self, record: &RecordRef, voucher: &Voucher, held: bool) -> Judgement {
        judge(&*self.identity, record, voucher, held).await
    }
}

/// Returns the record in the content of a block with this topic, and what vouches for it.
pub(super) fn record_in<'a>(
    rules: RecordRules,
    chain: &ChainId,
    topic: &Topic,
    creator: &PublicKey,
    content: &'a [u8],
) -> (&'a [u8], Voucher) {
    if !rules.hybrid {
        return (content, Voucher::NotAsked);
    }
    match detach(content) {
        Some((record, signature)) => {
            let message = message(chain, topic, creator, record);
            (record, Voucher::Signed(Box::new(signature), message))
        }
        None => (content, Voucher::Missing),
    }
}

/// Judges a record under what is known now. `held`: what vouches for it was found to hold before, which never changes.
pub(super) async fn judge(identity: &dyn Identity, record: &RecordRef, voucher: &Voucher, held: bool) -> Judgement {
    let judged = identity.judge(record).await;
    if judged != Judgement::Valid || held {
        return judged;
    }
    match voucher {
        Voucher::NotAsked => Judgement::Valid,
        Voucher::Missing => Judgement::Void(UNVOUCHED),
        Voucher::Signed(signature, message) => {
            // The device may have renewed its keys between signing both: what is signed names the block's key, which is to
            // be one of the author's under the heads of the signature, too.
            let as_signed = RecordRef { auth_heads: signature.auth_heads.clone(), ..record.clone() };
            match identity.judge(&as_signed).await {
                Judgement::Valid => {}
                Judgement::Wait => return Judgement::Wait,
                Judgement::Void(_) => return Judgement::Void(UNVOUCHED),
            }
            match identity.verify(signature, RECORD_CONTEXT, message).await {
                Some((signer, _)) if signer == record.author => Judgement::Valid,
                _ => Judgement::Void(UNVOUCHED),
            }
        }
    }
}
