//! Records of private ledgers that need not be open here: enough to decide whether to open one.

use walytis_core::chain::Chain;
use walytis_core::id::BlockId;
use walytis_core::ledger::LedgerError;
use walytis_identities::id::ControllerId;
use walytis_identities::identity::{Identity, Judgement, RecordRef};

use super::OVERLAY;
use super::vouched::{self, Voucher};
use crate::record::Record;

/// A record of some private ledger on a chain.
#[derive(Debug)]
pub struct UnopenedRecord {
    layer: String,
    record: RecordRef,
    voucher: Voucher,
}

impl UnopenedRecord {
    /// Reads a block of a chain as a record; nothing if it is none, or none of this identity. Whether it counts is not
    /// checked.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn read(identity: &dyn Identity, chain: &Chain, id: &BlockId) -> Result<Option<Self>, LedgerError> {
        let Some(rules) = identity.rules(&chain.core().id()) else { return Ok(None) };
        let Some(block) = chain.block(id).await? else { return Ok(None) };
        let header = block.header();
        let ([topic], Some(content)) = (header.topics.as_slice(), block.inline()) else { return Ok(None) };
        let Some(layer) = topic.overlay_text(OVERLAY) else { return Ok(None) };
        let (content, voucher) = vouched::record_in(rules, &chain.core().id(), topic, &header.creator, content);
        let Some(Record { claim, .. }) = Record::decode(content) else { return Ok(None) };
        let creator = header.creator;
        let record = RecordRef { block: *id, creator, author: claim.author, auth_heads: claim.auth_heads };
        Ok(Some(Self { layer: layer.to_owned(), record, voucher }))
    }

    /// Returns the layer that it belongs to.
    pub fn layer(&self) -> &str {
        &self.layer
    }

    /// Returns the controller that claims to have written it.
    pub const fn author(&self) -> ControllerId {
        self.record.author
    }

    /// Says whether it counts under what is known now.
    pub async fn judge(&self, identity: &dyn Identity) -> Judgement {
        vouched::judge(identity, &self.record, &self.voucher, false).await
    }
}
